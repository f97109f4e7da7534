//! The numbers of ggml's blocks: codes of a few bits with the scales that stand beside them.
//!
//! As `ggml-quants.c` of [llama.cpp](https://github.com/ggml-org/llama.cpp) has it, computed in `f64`. Of
//! the types that no file keeps a matrix in, the numbers are not known here.

use super::element::{half, power_of_two};
use super::grids;
use crate::checkpoint::Block;

/// Reads rows of one type's blocks.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    bytes: usize,
    elements: usize,
    decode: fn(&[u8], &mut [f64]),
}

impl Blocks {
    /// A reader of that type; `None` where its numbers are not known.
    pub(super) fn of(block: Block) -> Option<Self> {
        let decode = match block.name {
            "Q4_0" => |b: &[u8], to: &mut [f64]| nibbles(&b[2..], to, d(b), 0.0, |q| q - 8.0),
            "Q4_1" => |b: &[u8], to: &mut [f64]| nibbles(&b[4..], to, d(b), d(&b[2..]), |q| q),
            "Q5_0" => |b: &[u8], to: &mut [f64]| fives(b, 2, to, d(b), -16.0 * d(b)),
            "Q5_1" => |b: &[u8], to: &mut [f64]| fives(b, 4, to, d(b), d(&b[2..])),
            "Q8_0" => q8_0,
            "Q1_0" => |b: &[u8], to: &mut [f64]| packed::<1>(&b[2..], to, d(b), |q| 2.0 * q - 1.0),
            "Q2_0" => |b: &[u8], to: &mut [f64]| packed::<2>(&b[2..], to, d(b), |q| q - 1.0),
            "Q2_K" => q2_k,
            "Q3_K" => q3_k,
            "Q4_K" => |b: &[u8], to: &mut [f64]| fours_and_fives(b, None, &b[16..], to),
            "Q5_K" => |b: &[u8], to: &mut [f64]| fours_and_fives(b, Some(&b[16..48]), &b[48..], to),
            "Q6_K" => q6_k,
            "IQ1_S" => grids::iq1_s,
            "IQ1_M" => grids::iq1_m,
            "IQ2_XXS" => grids::iq2_xxs,
            "IQ2_XS" => grids::iq2_xs,
            "IQ2_S" => grids::iq2_s,
            "IQ3_XXS" => grids::iq3_xxs,
            "IQ3_S" => grids::iq3_s,
            "IQ4_NL" => |b: &[u8], to: &mut [f64]| nibbles(&b[2..], to, d(b), 0.0, uneven),
            "IQ4_XS" => iq4_xs,
            "TQ1_0" => tq1_0,
            "TQ2_0" => tq2_0,
            "MXFP4" => |b: &[u8], to: &mut [f64]| {
                nibbles(&b[1..], to, power_of_two(i32::from(b[0]) - 127), 0.0, e2m1)
            },
            "NVFP4" => nvfp4,
            _ => return None,
        };
        Some(Self { bytes: block.bytes as usize, elements: block.elements as usize, decode })
    }

    pub(super) fn columns(&self, row_bytes: usize) -> usize {
        row_bytes / self.bytes * self.elements
    }

    pub(super) fn values(&self, row: &[u8]) -> Vec<f64> {
        let mut values = vec![0.0; self.columns(row.len())];
        let blocks = row.chunks_exact(self.bytes).zip(values.chunks_exact_mut(self.elements));
        for (block, values) in blocks {
            (self.decode)(block, values);
        }
        values
    }
}

/// The f16 that the bytes begin with.
pub(super) fn d(bytes: &[u8]) -> f64 {
    half(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Two codes a byte: all low ones, then all high ones.
fn nibbles(codes: &[u8], to: &mut [f64], scale: f64, bias: f64, value: fn(f64) -> f64) {
    let (low, high) = to.split_at_mut(to.len() / 2);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(codes) {
        *low = value(f64::from(byte & 15)) * scale + bias;
        *high = value(f64::from(byte >> 4)) * scale + bias;
    }
}

/// Codes of so many bits, the first in the lowest.
fn packed<const BITS: usize>(codes: &[u8], to: &mut [f64], scale: f64, value: fn(f64) -> f64) {
    for (at, to) in to.iter_mut().enumerate() {
        let bit = at * BITS;
        *to = value(f64::from(codes[bit / 8] >> (bit % 8) & ((1 << BITS) - 1))) * scale;
    }
}

/// Codes of four bits with a fifth bit each, in 32 bits from `at` on.
fn fives(block: &[u8], at: usize, to: &mut [f64], scale: f64, bias: f64) {
    let fifth = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    for (place, value) in to.iter_mut().enumerate() {
        let byte = block[at + 4 + place % 16];
        let four = if place < 16 { byte & 15 } else { byte >> 4 };
        *value = f64::from(u32::from(four) | (fifth >> place & 1) << 4) * scale + bias;
    }
}

fn q8_0(block: &[u8], to: &mut [f64]) {
    let scale = d(block);
    for (value, &code) in to.iter_mut().zip(&block[2..]) {
        *value = scale * f64::from(code as i8);
    }
}

/// Sixteen scales and minima of four bits each, then codes of two bits.
fn q2_k(block: &[u8], to: &mut [f64]) {
    let (scale, min) = (d(&block[80..]), d(&block[82..]));
    for (place, value) in to.iter_mut().enumerate() {
        let own = block[place / 16];
        let code = block[16 + twos(place)] >> shift(place) & 3;
        *value = scale * f64::from(own & 15) * f64::from(code) - min * f64::from(own >> 4);
    }
}

/// Codes of three bits, the highest apart; scales of six bits, the upper two apart.
fn q3_k(block: &[u8], to: &mut [f64]) {
    let scale = d(&block[108..]);
    for (place, value) in to.iter_mut().enumerate() {
        let own = place / 16;
        let low = if own < 8 { block[96 + own] & 15 } else { block[88 + own] >> 4 };
        let high = block[104 + own % 4] >> (own / 4 * 2) & 3;
        let own = f64::from(i32::from(low | high << 4) - 32);
        let third = block[place % 32] >> (place / 32) & 1;
        let code = block[32 + twos(place)] >> shift(place) & 3;
        *value = scale * own * f64::from(i32::from(code | third << 2) - 4);
    }
}

/// Of codes of two bits: the byte that a place of a block of 256 is in.
fn twos(place: usize) -> usize {
    place / 128 * 32 + place % 32
}

/// And its place in it.
fn shift(place: usize) -> usize {
    place % 128 / 32 * 2
}

/// Codes of four bits, or of five with the fifth apart; scales and minima of six bits each.
fn fours_and_fives(block: &[u8], fifths: Option<&[u8]>, codes: &[u8], to: &mut [f64]) {
    let (scale, min) = (d(block), d(&block[2..]));
    let six = &block[4..16];
    for (place, value) in to.iter_mut().enumerate() {
        let own = place / 32;
        let (own_scale, own_min) = match own {
            0..4 => (six[own] & 63, six[own + 4] & 63),
            _ => {
                (six[own + 4] & 15 | six[own - 4] >> 6 << 4, six[own + 4] >> 4 | six[own] >> 6 << 4)
            }
        };
        let byte = codes[place / 64 * 32 + place % 32];
        let four = if own.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
        let fifth = fifths.map_or(0, |fifths| fifths[place % 32] >> own & 1);
        let code = f64::from(four | fifth << 4);
        *value = scale * f64::from(own_scale) * code - min * f64::from(own_min);
    }
}

/// Codes of six bits, the upper two apart; a scale of eight bits for sixteen of them.
fn q6_k(block: &[u8], to: &mut [f64]) {
    let scale = d(&block[208..]);
    for (place, value) in to.iter_mut().enumerate() {
        let byte = block[place / 128 * 64 + place % 64];
        let four = if place % 128 < 64 { byte & 15 } else { byte >> 4 };
        let two = block[128 + twos(place)] >> shift(place) & 3;
        let own = f64::from(block[192 + place / 16] as i8);
        *value = scale * own * f64::from(i32::from(four | two << 4) - 32);
    }
}

/// What the codes of IQ4 stand for.
fn uneven(code: f64) -> f64 {
    const VALUES: [i8; 16] =
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    f64::from(VALUES[code as usize & 15])
}

fn iq4_xs(block: &[u8], to: &mut [f64]) {
    let scale = d(block);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (own, values) in to.chunks_exact_mut(32).enumerate() {
        let low = block[4 + own / 2] >> (own % 2 * 4) & 15;
        let own_scale = f64::from(u16::from(low) | (high >> (2 * own) & 3) << 4) - 32.0;
        let codes = &block[8 + own * 16..][..16];
        nibbles(codes, values, scale * own_scale, 0.0, uneven);
    }
}

/// Five codes of three values a byte, as the digits of a fraction; four in the last bytes.
fn tq1_0(block: &[u8], to: &mut [f64]) {
    let scale = d(&block[52..]);
    let places =
        [(0, 32, 5), (32, 16, 5), (48, 4, 4)].into_iter().flat_map(|(at, count, digits)| {
            (0..digits).flat_map(move |digit| (at..at + count).map(move |byte| (byte, digit)))
        });
    for (value, (byte, digit)) in to.iter_mut().zip(places) {
        let rest = block[byte].wrapping_mul(3u8.wrapping_pow(digit));
        *value = scale * (f64::from((u16::from(rest) * 3) >> 8) - 1.0);
    }
}

fn tq2_0(block: &[u8], to: &mut [f64]) {
    let scale = d(&block[64..]);
    for (place, value) in to.iter_mut().enumerate() {
        *value = scale * (f64::from(block[twos(place)] >> shift(place) & 3) - 1.0);
    }
}

/// What a code of two exponent bits and one of fraction stands for.
fn e2m1(code: f64) -> f64 {
    const VALUES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let code = code as usize;
    if code < 8 { VALUES[code] } else { -VALUES[code & 7] }
}

/// Four scales of eight bits, without a sign, then sixteen codes for each.
fn nvfp4(block: &[u8], to: &mut [f64]) {
    for (own, values) in to.chunks_exact_mut(16).enumerate() {
        let (exponent, fraction) = (i32::from(block[own] >> 3 & 15), f64::from(block[own] & 7));
        let scale = match (block[own], exponent) {
            // ggml has no NaN here.
            (0x7f, _) => 0.0,
            (_, 0) => fraction * power_of_two(-9),
            _ => (8.0 + fraction) * power_of_two(exponent - 10),
        };
        nibbles(&block[4 + own * 8..][..8], values, scale, 0.0, e2m1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;
    use serde_json::Value;

    /// Every number of a row of any bytes, as llama.cpp's own Python package has it in single precision, and
    /// GPTQModel where that does not.
    #[test]
    fn numbers_are_those_that_the_format_says() {
        let rows: Value =
            serde_json::from_str(include_str!("../../fixtures/gguf/values.json")).unwrap();
        let rows = rows.as_object().unwrap();
        assert!(rows.len() >= 25, "{}", rows.len());
        for (name, expected) in rows {
            let block = (0..64).find_map(|code| match Dtype::of_ggml(code) {
                Dtype::Block(block) if block.name == name => Some(block),
                _ => None,
            });
            let blocks = Blocks::of(block.unwrap()).unwrap();
            let row: Vec<u8> = expected["row"]
                .as_str()
                .unwrap()
                .as_bytes()
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
                .collect();
            let expected: Vec<f64> = expected["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap())
                .collect();
            let found = blocks.values(&row);
            assert_eq!(found.len(), expected.len(), "{name}");
            // Sums with minima are rounded.
            let largest = expected.iter().fold(0.0, |largest: f64, value| value.abs().max(largest));
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let close = (found - expected).abs() <= 6e-5 * expected.abs() + 1e-6 * largest;
                assert!(close, "{name}: number {at} is {found}, not {expected}");
            }
        }
    }
}
