//! What a row's bytes stand for: its numbers as `f64`, eight at a time.
//!
//! Every floating type is a part of `f64`, so nothing is rounded but integers beyond 2^53. A BOOL is
//! 0 or 1, any byte but 0 being true. A complex number is two elements, its real and its imaginary
//! part. Types narrower than a byte are packed densely, the first element in the lowest bits.

use super::blocks::Blocks;
use super::coded::Coder;
use crate::checkpoint::Dtype;
use crate::head::Numbers;
use half::f16;
use std::sync::Arc;

/// How many elements are handed out at a time: as many sums run side by side, so that none waits
/// for the one before it.
pub(super) const LANES: usize = 8;

/// Whether it is known what such rows stand for.
pub fn is_readable(numbers: &Numbers) -> bool {
    Elements::of(numbers).is_some()
}

/// Reads the elements of rows of one type. Cheap to clone.
#[derive(Clone)]
pub(super) struct Elements {
    kind: Kind,
    /// Bits of one element as it is handed out; 0 where an element has no bits of its own.
    bits: u64,
}

#[derive(Clone)]
enum Kind {
    /// Codes of at most eight bits, looked up.
    Codes(Arc<Codes>),
    I8,
    U8,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    I64,
    U64,
    F64,
    Blocks(Blocks),
    Coded(Arc<Coder>),
}

/// What each code stands for.
struct Codes {
    values: [f64; 256],
    /// The place of each among the others, where they are floating.
    keys: Option<[i64; 256]>,
}

impl Elements {
    /// A reader of such rows; `None` for a type that has no numbers, or whose numbers are not known.
    pub(super) fn of(numbers: &Numbers) -> Option<Self> {
        let kind = match numbers {
            Numbers::Plain(dtype) => return Self::of_type(dtype),
            Numbers::Blocks(block) => Kind::Blocks(Blocks::of(*block)?),
            Numbers::Coded(coding) => Kind::Coded(Arc::new(Coder::of(coding)?)),
            Numbers::Unknown => return None,
        };
        Some(Self { kind, bits: 0 })
    }

    /// A reader of codes of so many bits, at most eight.
    pub(super) fn of_codes(bits: u32, value: impl Fn(u8) -> f64) -> Self {
        let values = std::array::from_fn(|code| value(code as u8));
        Self { kind: Kind::Codes(Arc::new(Codes { values, keys: None })), bits: bits.into() }
    }

    fn of_type(dtype: &Dtype) -> Option<Self> {
        let codes = |of: &dyn Fn(u8) -> f64, key: Option<&dyn Fn(u8) -> i64>| {
            let values = std::array::from_fn(|code| of(code as u8));
            let keys = key.map(|key| std::array::from_fn(|code| key(code as u8)));
            Kind::Codes(Arc::new(Codes { values, keys }))
        };
        let whole = |of: &dyn Fn(u8) -> f64| codes(of, None);
        let float = |float: Float| {
            codes(&|code| float.value(code), Some(&|code| key(code.into(), float.bits)))
        };
        let kind = match dtype {
            Dtype::Bool => whole(&|code| f64::from(u8::from(code != 0))),
            Dtype::U8 => Kind::U8,
            Dtype::I8 => Kind::I8,
            Dtype::F8E5M2 => float(Float { bits: 8, mantissa: 2, bias: 15, top: Top::Infinity }),
            Dtype::F8E4M3 => float(Float { bits: 8, mantissa: 3, bias: 7, top: Top::Nan }),
            Dtype::F8E4M3Fnuz => float(Float { bits: 8, mantissa: 3, bias: 8, top: Top::Unsigned }),
            Dtype::F8E5M2Fnuz => {
                float(Float { bits: 8, mantissa: 2, bias: 16, top: Top::Unsigned })
            }
            Dtype::F8E8M0 => {
                let value = |code| match code {
                    0xff => f64::NAN,
                    code => power_of_two(i32::from(code) - 127),
                };
                codes(&value, Some(&|code| code.into()))
            }
            Dtype::F6E2M3 => float(Float { bits: 6, mantissa: 3, bias: 1, top: Top::Number }),
            Dtype::F6E3M2 => float(Float { bits: 6, mantissa: 2, bias: 3, top: Top::Number }),
            Dtype::F4 => float(Float { bits: 4, mantissa: 1, bias: 1, top: Top::Number }),
            Dtype::I16 => Kind::I16,
            Dtype::U16 => Kind::U16,
            Dtype::F16 => Kind::F16,
            Dtype::Bf16 => Kind::Bf16,
            Dtype::I32 => Kind::I32,
            Dtype::U32 => Kind::U32,
            Dtype::F32 | Dtype::C64 => Kind::F32,
            Dtype::I64 => Kind::I64,
            Dtype::U64 => Kind::U64,
            Dtype::F64 => Kind::F64,
            Dtype::Block(_) | Dtype::Unknown(_) => return None,
        };
        let parts = if *dtype == Dtype::C64 { 2 } else { 1 };
        Some(Self { kind, bits: dtype.bits()? / parts })
    }

    /// How many elements a row of so many bytes has; of complex numbers two for each.
    pub(super) fn count(&self, row_bytes: usize) -> usize {
        match &self.kind {
            Kind::Blocks(blocks) => blocks.columns(row_bytes),
            Kind::Coded(coder) => coder.columns(),
            _ => (row_bytes as u64 * 8 / self.bits) as usize,
        }
    }

    /// Hands out a row's elements in order, eight at a time; the last eight are filled up with +0.
    #[inline(always)]
    fn eights(&self, row: &[u8], take: impl FnMut([f64; LANES])) {
        match &self.kind {
            Kind::Codes(codes) if self.bits == 8 => {
                wide(row, |[code]| codes.values[usize::from(code)], take);
            }
            Kind::Codes(codes) => looked_up(row, self.bits as usize, &codes.values, take),
            Kind::I8 => wide(row, |b| f64::from(i8::from_le_bytes(b)), take),
            Kind::U8 => wide(row, |[b]| f64::from(b), take),
            Kind::I16 => wide(row, |b| f64::from(i16::from_le_bytes(b)), take),
            Kind::U16 => wide(row, |b| f64::from(u16::from_le_bytes(b)), take),
            Kind::F16 => wide(row, |b| half(u16::from_le_bytes(b)), take),
            Kind::Bf16 => {
                // The upper half of an f32.
                let value = |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
                wide(row, value, take);
            }
            Kind::I32 => wide(row, |b| f64::from(i32::from_le_bytes(b)), take),
            Kind::U32 => wide(row, |b| f64::from(u32::from_le_bytes(b)), take),
            Kind::F32 => wide(row, |b| f64::from(f32::from_le_bytes(b)), take),
            Kind::I64 => wide(row, |b| i64::from_le_bytes(b) as f64, take),
            Kind::U64 => wide(row, |b| u64::from_le_bytes(b) as f64, take),
            Kind::F64 => wide(row, f64::from_le_bytes, take),
            Kind::Blocks(blocks) => in_eights(&blocks.values(row), take),
            Kind::Coded(coder) => in_eights(&coder.values(row), take),
        }
    }

    /// The sum of the squares of a row's elements: every eighth element apart, then these eight
    /// sums two by two, so that the order never depends on the machine.
    pub(super) fn sum_of_squares(&self, row: &[u8]) -> f64 {
        let mut lanes = [0.0; LANES];
        self.fast_eights(row, |eight| {
            for (lane, value) in lanes.iter_mut().zip(eight) {
                *lane += value * value;
            }
        });
        tree(lanes)
    }

    /// Adds a row's elements to sums, each to its own. The sums are as many eights as the row has.
    pub(super) fn add(&self, row: &[u8], sums: &mut [[f64; LANES]]) {
        let mut sums = sums.iter_mut();
        self.fast_eights(row, |eight| {
            if let Some(sums) = sums.next() {
                for (sum, value) in sums.iter_mut().zip(eight) {
                    *sum += value;
                }
            }
        });
    }

    /// The same as [`eights`](Self::eights), with wider registers where the machine has them: a quarter
    /// more elements in the same time. No two operations are made one, so that sums are the same on every
    /// machine.
    #[inline(always)]
    fn fast_eights(&self, row: &[u8], take: impl FnMut([f64; LANES])) {
        // A code's number comes from memory, which is no faster for wide registers.
        #[cfg(target_arch = "x86_64")]
        if !matches!(self.kind, Kind::Codes(_)) && std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has what the function is compiled for.
            #[allow(unsafe_code)]
            return unsafe { self.eights_avx2(row, take) };
        }
        self.eights(row, take);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn eights_avx2(&self, row: &[u8], take: impl FnMut([f64; LANES])) {
        self.eights(row, take);
    }

    /// A row's elements as whole numbers in the order of their values, neighbours one apart: what
    /// units in the last place are counted in. +0 and −0 are one number. `None` for integers and
    /// truth values, which have no last place, and for codes, whose scales say how far they are apart.
    pub(super) fn keys(&self, row: &[u8]) -> Option<Vec<i64>> {
        let columns = self.count(row.len());
        let mut keys = Vec::with_capacity(columns.next_multiple_of(LANES));
        match &self.kind {
            Kind::Codes(codes) => {
                let table = codes.keys.as_ref()?;
                looked_up(row, self.bits as usize, table, |eight| keys.extend(eight));
            }
            Kind::F16 | Kind::Bf16 => wide(
                row,
                |b| key(u16::from_le_bytes(b).into(), 16),
                |eight| {
                    keys.extend(eight);
                },
            ),
            Kind::F32 => wide(
                row,
                |b| key(u32::from_le_bytes(b).into(), 32),
                |eight| {
                    keys.extend(eight);
                },
            ),
            Kind::F64 => wide(row, |b| key(u64::from_le_bytes(b), 64), |eight| keys.extend(eight)),
            _ => return None,
        }
        keys.truncate(columns);
        Some(keys)
    }

    /// A row's elements.
    pub(super) fn values(&self, row: &[u8]) -> Vec<f64> {
        let columns = self.count(row.len());
        let mut values = Vec::with_capacity(columns.next_multiple_of(LANES));
        self.read(row, &mut values);
        values
    }

    /// The same in the place of what is there.
    pub(super) fn read(&self, row: &[u8], values: &mut Vec<f64>) {
        values.clear();
        self.eights(row, |eight| values.extend(eight));
        values.truncate(self.count(row.len()));
    }
}

/// Eight sums as one.
pub(super) fn tree([a, b, c, d, e, f, g, h]: [f64; LANES]) -> f64 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Numbers that were computed.
#[inline(always)]
fn in_eights(values: &[f64], mut take: impl FnMut([f64; LANES])) {
    for chunk in values.chunks(LANES) {
        let mut eight = [0.0; LANES];
        eight[..chunk.len()].copy_from_slice(chunk);
        take(eight);
    }
}

/// Elements of `N` whole bytes.
#[inline(always)]
fn wide<const N: usize, T: Copy + Default>(
    row: &[u8],
    value: impl Fn([u8; N]) -> T,
    mut take: impl FnMut([T; LANES]),
) {
    let (eights, rest) = row.as_chunks::<N>().0.as_chunks::<LANES>();
    for eight in eights {
        // One by one, and not by `map`, which becomes a call where there is much to do: then no wide
        // register is used.
        let mut values = [T::default(); LANES];
        for (to, &bytes) in values.iter_mut().zip(eight) {
            *to = value(bytes);
        }
        take(values);
    }
    if !rest.is_empty() {
        let mut last = [T::default(); LANES];
        for (last, &element) in last.iter_mut().zip(rest) {
            *last = value(element);
        }
        take(last);
    }
}

/// Elements of at most eight bits: eight of them are as many bytes as each has bits.
#[inline(always)]
fn looked_up<T: Copy + Default>(
    row: &[u8],
    bits: usize,
    table: &[T; 256],
    mut take: impl FnMut([T; LANES]),
) {
    let mask = (1u64 << bits) - 1;
    for bytes in row.chunks(bits) {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let codes = u64::from_le_bytes(wide);
        let value = |at: usize| table[(codes >> (at * bits) & mask) as usize & 0xff];
        if bytes.len() == bits {
            take(std::array::from_fn(value));
        } else {
            // Where a row ends there are no codes, and the code 0 need not stand for the number 0.
            let count = bytes.len() * 8 / bits;
            take(std::array::from_fn(|at| if at < count { value(at) } else { T::default() }));
        }
    }
}

/// The place of a floating code of so many bits among all of its type: the highest bit is the sign,
/// the others a magnitude.
#[inline]
fn key(code: u64, bits: u32) -> i64 {
    let sign = 1 << (bits - 1);
    let magnitude = (code & (sign - 1)) as i64;
    if code & sign == 0 { magnitude } else { -magnitude }
}

/// An f16, without a branch, so that many are done at once: its exponent and fraction are moved to
/// where an f32 has them, and the difference of the biases is multiplied in, which also turns its
/// subnormal numbers into what they are.
#[inline(always)]
pub(super) fn half(bits: u16) -> f64 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    // Infinity and NaN have the highest exponent in either type.
    let top = if magnitude >= u32::from(f16::INFINITY.to_bits()) { 0x7f80_0000 } else { 0 };
    let scale = f32::from_bits((127 + 127 - 15) << 23);
    let scaled = f32::from_bits(magnitude << 13) * scale;
    f64::from(f32::from_bits(scaled.to_bits() | top | sign))
}

/// A floating type of at most eight bits: sign, exponent, fraction.
struct Float {
    bits: u32,
    mantissa: u32,
    bias: i32,
    top: Top,
}

/// What the codes at the upper end stand for.
enum Top {
    /// Infinity and NaN have the highest exponent, as IEEE 754 has it.
    Infinity,
    /// All ones are NaN, all else is a number.
    Nan,
    /// What would be −0 is NaN, all else is a number.
    Unsigned,
    /// All are numbers.
    Number,
}

impl Float {
    fn value(&self, code: u8) -> f64 {
        let code = u32::from(code) & ((1 << self.bits) - 1);
        let sign = 1 << (self.bits - 1);
        let magnitude = code & (sign - 1);
        let exponent = magnitude >> self.mantissa;
        let highest = (sign - 1) >> self.mantissa;
        let fraction = magnitude & ((1 << self.mantissa) - 1);
        let special = match self.top {
            Top::Infinity if exponent == highest => {
                Some(if fraction == 0 { f64::INFINITY } else { f64::NAN })
            }
            Top::Nan if magnitude == sign - 1 => Some(f64::NAN),
            Top::Unsigned if code == sign => Some(f64::NAN),
            _ => None,
        };
        let value = special.unwrap_or_else(|| {
            // A subnormal number has the exponent of the lowest normal ones, and no leading one.
            let leading = u32::from(exponent > 0) << self.mantissa;
            let exponent = exponent.max(1) as i32 - self.bias - self.mantissa as i32;
            f64::from(leading | fraction) * power_of_two(exponent)
        });
        if code & sign == 0 { value } else { -value }
    }
}

/// 2 to that power, of those that a normal `f64` has.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn values(dtype: Dtype, row: &[u8]) -> Vec<f64> {
        Elements::of(&(&dtype).into()).unwrap().values(row)
    }

    /// The same number, the sign of zero included, or both NaN.
    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn every_16_bit_float_is_what_the_half_crate_says() {
        let codes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let (halves, brains) = (values(Dtype::F16, &codes), values(Dtype::Bf16, &codes));
        for code in 0..=u16::MAX {
            let at = usize::from(code);
            assert!(same(halves[at], f16::from_bits(code).to_f64()), "F16 {code:#06x}");
            assert!(same(brains[at], bf16::from_bits(code).to_f64()), "BF16 {code:#06x}");
        }
    }

    #[test]
    fn narrow_floats_are_what_their_specifications_say() {
        let check = |dtype: Dtype, cases: &[(u8, f64)]| {
            for &(code, expected) in cases {
                // Alone, and as the last of several.
                let found = values(dtype.clone(), &[0, 0, 0, 0, 0, 0, 0, 0, code]);
                assert!(same(found[8], expected), "{dtype} {code:#04x}: {}", found[8]);
            }
        };
        let nan = f64::NAN;
        check(
            Dtype::F8E4M3,
            &[(0x7e, 448.0), (0xfe, -448.0), (0x7f, nan), (0xff, nan), (0x80, -0.0)],
        );
        check(Dtype::F8E4M3, &[(0x01, 0.001953125), (0x08, 0.015625), (0x38, 1.0), (0x78, 256.0)]);
        check(
            Dtype::F8E5M2,
            &[(0x7b, 57344.0), (0x7c, f64::INFINITY), (0xfc, f64::NEG_INFINITY), (0x7d, nan)],
        );
        check(Dtype::F8E5M2, &[(0x01, 2f64.powi(-16)), (0x3c, 1.0), (0x80, -0.0), (0xff, nan)]);
        check(
            Dtype::F8E4M3Fnuz,
            &[(0x7f, 240.0), (0xff, -240.0), (0x80, nan), (0x40, 1.0), (0x01, 2f64.powi(-10))],
        );
        check(
            Dtype::F8E5M2Fnuz,
            &[(0x7f, 57344.0), (0xff, -57344.0), (0x80, nan), (0x40, 1.0), (0x01, 2f64.powi(-17))],
        );
        check(
            Dtype::F8E8M0,
            &[(0, 2f64.powi(-127)), (127, 1.0), (254, 2f64.powi(127)), (255, nan)],
        );
        check(Dtype::Bool, &[(0, 0.0), (1, 1.0), (255, 1.0)]);
        check(Dtype::I8, &[(0x80, -128.0), (0xff, -1.0), (0x7f, 127.0)]);
        check(Dtype::U8, &[(0x80, 128.0)]);
    }

    #[test]
    fn types_below_a_byte_are_unpacked_from_the_lowest_bits() {
        // Codes 0 to 15, two a byte.
        let row: Vec<u8> = (0..8).map(|i| (2 * i) | ((2 * i + 1) << 4)).collect();
        let half = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let found = values(Dtype::F4, &row);
        assert_eq!(found[..8], half);
        assert_eq!(found[8..], half.map(|value| -value));
        // Codes 1, 2, 31, 63 of six bits in three bytes, twice and once more.
        let bits = 1u32 | 2 << 6 | 31 << 12 | 63 << 18;
        let row = bits.to_le_bytes()[..3].repeat(3);
        assert_eq!(values(Dtype::F6E2M3, &row), [0.125, 0.25, 7.5, -7.5].repeat(3));
        assert_eq!(values(Dtype::F6E3M2, &row), [0.0625, 0.125, 28.0, -28.0].repeat(3));
    }

    #[test]
    fn a_key_goes_up_by_one_from_each_number_to_the_next() {
        let types = [
            (Dtype::F16, 16),
            (Dtype::Bf16, 16),
            (Dtype::F8E5M2, 8),
            (Dtype::F8E4M3, 8),
            (Dtype::F8E4M3Fnuz, 8),
            (Dtype::F8E5M2Fnuz, 8),
            (Dtype::F8E8M0, 8),
            (Dtype::F4, 4),
            (Dtype::F6E2M3, 6),
        ];
        for (dtype, bits) in types {
            let elements = Elements::of(&(&dtype).into()).unwrap();
            // All codes there are, packed one behind the other.
            let row: Vec<u8> = match bits {
                16 => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
                8 => (0..=255).collect(),
                4 => (0..8).map(|i| (2 * i) | ((2 * i + 1) << 4)).collect(),
                _ => (0..16u32)
                    .map(|i| 4 * i)
                    .flat_map(|i| {
                        let four = i | (i + 1) << 6 | (i + 2) << 12 | (i + 3) << 18;
                        four.to_le_bytes()[..3].to_vec()
                    })
                    .collect(),
            };
            let keys = elements.keys(&row).unwrap();
            let mut pairs: Vec<(f64, i64)> = elements.values(&row).into_iter().zip(keys).collect();
            assert_eq!(pairs.len(), 1 << bits);
            pairs.retain(|(value, _)| !value.is_nan());
            pairs.sort_by(|a, b| a.partial_cmp(b).unwrap());
            // −0 and +0 are one number.
            pairs.dedup();
            assert!(pairs.windows(2).all(|p| p[1].1 - p[0].1 == 1 && p[1].0 > p[0].0), "{dtype}");
        }
        let keys = |dtype: Dtype, row: &[u8]| Elements::of(&(&dtype).into()).unwrap().keys(row);
        let row = [-1f32, 1.0, -0.0].map(f32::to_le_bytes);
        let one = i64::from(1f32.to_bits());
        assert_eq!(keys(Dtype::F32, row.as_flattened()), Some(vec![-one, one, 0]));
        assert_eq!(keys(Dtype::C64, row.as_flattened()), Some(vec![-one, one, 0]));
        let row = [f64::MAX, -f64::INFINITY].map(f64::to_le_bytes);
        let infinity = f64::INFINITY.to_bits() as i64;
        assert_eq!(keys(Dtype::F64, row.as_flattened()), Some(vec![infinity - 1, -infinity]));
        assert_eq!(keys(Dtype::I32, &[0; 4]), None);
        assert_eq!(keys(Dtype::Bool, &[0; 4]), None);
    }

    #[test]
    fn wide_types_are_themselves_and_complex_numbers_two() {
        let check = |dtype: Dtype, row: &[u8], expected: &[f64]| {
            assert_eq!(values(dtype.clone(), row), expected, "{dtype}");
        };
        check(Dtype::I16, &(-2i16).to_le_bytes(), &[-2.0]);
        check(Dtype::U16, &u16::MAX.to_le_bytes(), &[65535.0]);
        check(Dtype::I32, &i32::MIN.to_le_bytes(), &[-2_147_483_648.0]);
        check(Dtype::U32, &u32::MAX.to_le_bytes(), &[4_294_967_295.0]);
        check(Dtype::I64, &i64::MIN.to_le_bytes(), &[-9_223_372_036_854_775_808.0]);
        check(Dtype::U64, &u64::MAX.to_le_bytes(), &[18_446_744_073_709_551_616.0]);
        check(Dtype::F64, &f64::MIN_POSITIVE.to_le_bytes(), &[f64::MIN_POSITIVE]);
        let complex = [1.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
        check(Dtype::C64, &complex, &[1.5, -2.0]);
        assert!(Elements::of(&Dtype::Unknown("NEW".into()).into()).is_none());
    }

    #[test]
    fn sums_are_those_of_the_elements_whatever_the_rows_length() {
        for columns in 0..40u16 {
            let row: Vec<u8> = (1..=columns).flat_map(u16::to_le_bytes).collect();
            let elements = Elements::of(&Dtype::U16.into()).unwrap();
            let expected: f64 = (1..=columns).map(|v| f64::from(v).powi(2)).sum();
            assert_eq!(elements.sum_of_squares(&row), expected);
            let mut sums = vec![[1.0; LANES]; usize::from(columns).div_ceil(LANES)];
            elements.add(&row, &mut sums);
            for (at, &sum) in sums.as_flattened().iter().enumerate() {
                let added = if at < usize::from(columns) { at as f64 + 1.0 } else { 0.0 };
                assert_eq!(sum, 1.0 + added);
            }
        }
    }

    /// With whatever registers: the sums are those of elements that were read one after another.
    #[test]
    fn the_width_of_registers_does_not_show() {
        let types = [
            Dtype::F8E4M3,
            Dtype::I16,
            Dtype::U16,
            Dtype::F16,
            Dtype::Bf16,
            Dtype::I32,
            Dtype::U32,
            Dtype::F32,
            Dtype::I64,
            Dtype::U64,
            Dtype::F64,
        ];
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for (dtype, length) in types.into_iter().flat_map(|t| [(t.clone(), 8), (t, 1000)]) {
            let mut state = length as u64;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // No exponent of all ones: two of its bits are clear.
                (state >> 56) as u8 & 0xdb
            };
            let row: Vec<u8> = (0..length).map(|_| random()).collect();
            let elements = Elements::of(&(&dtype).into()).unwrap();
            let values = elements.values(&row);
            let (mut lanes, mut sums) = ([0.0; LANES], Vec::new());
            for eight in values.chunks(LANES) {
                let mut sum = [0.1; LANES];
                for ((lane, sum), value) in lanes.iter_mut().zip(&mut sum).zip(eight) {
                    *lane += value * value;
                    *sum += value;
                }
                sums.push(sum);
            }
            let mut found = vec![[0.1; LANES]; sums.len()];
            elements.add(&row, &mut found);
            assert!(same(elements.sum_of_squares(&row), tree(lanes)), "{dtype}, {length} bytes");
            let pairs = found.as_flattened().iter().zip(sums.as_flattened());
            assert!(pairs.into_iter().all(|(&a, &b)| same(a, b)), "{dtype}, {length} bytes");
        }
    }
}
