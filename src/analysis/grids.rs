//! ggml's blocks whose codes are places in grids: IQ1, IQ2 and IQ3.
//!
//! A place holds four numbers or eight at once, all that a format of so few bits has room for. The grids are
//! those of `ggml-common.h` in [llama.cpp](https://github.com/ggml-org/llama.cpp), taken from its Python
//! package by `fixtures/make_grids.py`, the rules those of its `ggml-quants.c`, computed in `f64`.

use super::blocks::d;

/// Two bytes for each place of all grids, one grid after another.
const GRIDS: &[u8] = include_bytes!("grids.bin");

const IQ1: Grid<8> = Grid { first: 0, bits: 2, numbers: &[-1.0, 0.0, 1.0] };
const IQ2_XXS: Grid<8> = Grid { first: 2048, ..TWOS };
const IQ2_XS: Grid<8> = Grid { first: 2304, ..TWOS };
const IQ2_S: Grid<8> = Grid { first: 2816, ..TWOS };
const IQ3_XXS: Grid<4> =
    Grid { first: 3840, bits: 3, numbers: &[4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0] };
const IQ3_S: Grid<4> =
    Grid { first: 4096, bits: 3, numbers: &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0] };

const TWOS: Grid<8> = Grid { first: 0, bits: 2, numbers: &[8.0, 25.0, 43.0] };

/// A grid whose places hold so many numbers.
struct Grid<const N: usize> {
    /// Its first place among those of all grids.
    first: usize,
    /// Of each number's code.
    bits: usize,
    /// What codes stand for.
    numbers: &'static [f64],
}

impl<const N: usize> Grid<N> {
    fn numbers(&self, place: usize) -> [f64; N] {
        let at = (self.first + place) * 2;
        let codes = usize::from(u16::from_le_bytes([GRIDS[at], GRIDS[at + 1]]));
        let code = |number: usize| codes >> (number * self.bits) & ((1 << self.bits) - 1);
        std::array::from_fn(|number| self.numbers[code(number)])
    }

    /// The numbers of a place times a scale, those negative whose bit is set in `signs`.
    fn put(&self, place: usize, scale: f64, signs: u8, to: &mut [f64]) {
        for (at, (number, to)) in self.numbers(place).into_iter().zip(to).enumerate() {
            *to = if signs >> at & 1 == 0 { scale * number } else { -scale * number };
        }
    }

    /// The numbers of a place, each and a shift, times a scale.
    fn put_shifted(&self, place: usize, scale: f64, shift: f64, to: &mut [f64]) {
        for (number, to) in self.numbers(place).into_iter().zip(to) {
            *to = scale * (number + shift);
        }
    }
}

/// Seven signs in seven bits, and an eighth that makes the number of negative ones even.
fn signs(seven: u32) -> u8 {
    let seven = (seven & 0x7f) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// The four bits in that place.
fn four(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 2] >> (at % 2 * 4) & 15
}

fn two_bytes(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]])
}

fn four_bytes(bytes: &[u8], at: usize) -> u32 {
    u32::from(two_bytes(bytes, at * 2)) | u32::from(two_bytes(bytes, at * 2 + 1)) << 16
}

/// Four places of a byte each, then their signs and a scale in four bytes.
pub(super) fn iq2_xxs(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(8).enumerate() {
        let own = &block[2 + at / 4 * 8..][..8];
        let rest = four_bytes(own, 1);
        let scale = d(block) * (0.5 + f64::from(rest >> 28)) * 0.25;
        IQ2_XXS.put(own[at % 4].into(), scale, signs(rest >> (at % 4 * 7)), to);
    }
}

/// Places of nine bits with seven of signs; scales of four bits.
pub(super) fn iq2_xs(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(8).enumerate() {
        let code = two_bytes(&block[2..], at);
        let scale = d(block) * (0.5 + f64::from(four(&block[66..], at / 2))) * 0.25;
        IQ2_XS.put(usize::from(code & 511), scale, signs(u32::from(code >> 9)), to);
    }
}

/// Places of eight bits, then signs, then two more bits of each place; scales of four bits.
pub(super) fn iq2_s(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(8).enumerate() {
        let high = usize::from(block[66 + at / 4] >> (at % 4 * 2) & 3);
        let scale = d(block) * (0.5 + f64::from(four(&block[74..], at / 2))) * 0.25;
        IQ2_S.put(usize::from(block[2 + at]) | high << 8, scale, block[34 + at], to);
    }
}

/// Places of eight bits, then the signs of eight of them and a scale in four bytes.
pub(super) fn iq3_xxs(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(4).enumerate() {
        let rest = four_bytes(&block[66..], at / 8);
        let scale = d(block) * (0.5 + f64::from(rest >> 28)) * 0.5;
        let signs = signs(rest >> (at % 8 / 2 * 7)) >> (at % 2 * 4);
        IQ3_XXS.put(block[2 + at].into(), scale, signs, to);
    }
}

/// Places of eight bits, then a ninth of each, then signs; scales of four bits.
pub(super) fn iq3_s(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(4).enumerate() {
        let high = usize::from(block[66 + at / 8] >> (at % 8) & 1);
        let scale = d(block) * (1.0 + 2.0 * f64::from(four(&block[106..], at / 8)));
        let signs = four(&block[74..], at);
        IQ3_S.put(usize::from(block[2 + at]) | high << 8, scale, signs, to);
    }
}

/// How far IQ1's numbers are from −1, 0 and 1, all on one side or all on the other.
const SHIFT: f64 = 0.125;

/// Places of eight bits, then three more bits of four of them with a scale and a side.
pub(super) fn iq1_s(block: &[u8], to: &mut [f64]) {
    for (at, to) in to.chunks_exact_mut(8).enumerate() {
        let rest = two_bytes(&block[34..], at / 4);
        let scale = d(block) * f64::from(2 * (rest >> 12 & 7) + 1);
        let shift = if rest >> 15 == 0 { SHIFT } else { -SHIFT };
        let high = usize::from(rest >> (at % 4 * 3) & 7);
        IQ1.put_shifted(usize::from(block[2 + at]) | high << 8, scale, shift, to);
    }
}

/// Places of eight bits, then three more of each with a side; scales of three bits, and the scale of
/// all in the bits that four of them leave.
pub(super) fn iq1_m(block: &[u8], to: &mut [f64]) {
    let scales: [u16; 4] = std::array::from_fn(|at| two_bytes(&block[48..], at));
    let parts = scales.iter().zip([12, 8, 4, 0]);
    let all = parts.fold(0, |all, (scale, shift)| all | (scale & 0xf000) >> shift);
    for (at, to) in to.chunks_exact_mut(8).enumerate() {
        let own = scales[at / 8] >> (at / 2 % 4 * 3) & 7;
        let scale = d(&all.to_le_bytes()) * f64::from(2 * own + 1);
        let rest = four(&block[32..], at);
        let shift = if rest & 8 == 0 { SHIFT } else { -SHIFT };
        IQ1.put_shifted(usize::from(block[at]) | usize::from(rest & 7) << 8, scale, shift, to);
    }
}
