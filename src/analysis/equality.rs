//! When two rows are equal: by their stored bits, or by the values that they stand for.
//!
//! By value, −0 equals +0, a row that holds a NaN equals nothing, and a BOOL is zero or not, as
//! `numpy.unique(axis=0)` has it. Integers are their bits, and codes with scales the numbers that they
//! stand for. Sub-byte types are packed densely, the
//! first element in the lowest bits.

use super::element::Elements;
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::head::Numbers;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// When two rows count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Equality {
    /// The stored bytes are the same.
    #[default]
    Bits,
    /// The values are the same.
    Values,
}

/// Why rows cannot be compared by value.
pub const UNKNOWN_VALUES: &str =
    "the rows are quantised in a way whose values are not known; their bits are";

/// Makes of rows what they are by value.
pub(super) enum Canonical {
    /// Of elements of a type, their own bytes.
    Plain(Dtype),
    /// Of all others, the numbers they stand for, as `f64`.
    Computed(Elements),
}

impl Canonical {
    /// For such rows.
    pub(super) fn of(numbers: Numbers) -> Result<Self> {
        if let Numbers::Plain(dtype) = numbers {
            return Ok(Self::Plain(dtype));
        }
        let unknown = || Error::Usage { what: UNKNOWN_VALUES.to_owned() };
        Elements::of(&numbers).map(Self::Computed).ok_or_else(unknown)
    }

    /// A row's bytes as its values have them: those of equal rows are equal. Borrowed, if they are the
    /// stored ones. `None`: the row holds a NaN and equals nothing.
    pub(super) fn row<'r>(&self, row: &'r [u8]) -> Option<Cow<'r, [u8]>> {
        let elements = match self {
            Self::Plain(dtype) => return canonical(dtype, row),
            Self::Computed(elements) => elements,
        };
        let values = elements.values(row);
        // A sum with +0 makes +0 of −0.
        let bytes = || values.iter().flat_map(|value| (value + 0.0).to_le_bytes()).collect();
        values.iter().all(|value| !value.is_nan()).then(|| Cow::Owned(bytes()))
    }
}

/// The same of elements of a type.
fn canonical<'r>(dtype: &Dtype, row: &'r [u8]) -> Option<Cow<'r, [u8]>> {
    match dtype {
        // Sign bit, and the largest finite magnitude or infinity; beyond it lies NaN.
        Dtype::F8E4M3 => elements::<1>(row, 0x80, 0x7e),
        Dtype::F8E5M2 => elements::<1>(row, 0x80, 0x7c),
        Dtype::F16 => {
            elements::<2>(row, f16::NEG_ZERO.to_bits().into(), f16::INFINITY.to_bits().into())
        }
        Dtype::Bf16 => {
            elements::<2>(row, bf16::NEG_ZERO.to_bits().into(), bf16::INFINITY.to_bits().into())
        }
        // A complex number is two floats, each with its own zero and NaN.
        Dtype::F32 | Dtype::C64 => {
            elements::<4>(row, (-0f32).to_bits().into(), f32::INFINITY.to_bits().into())
        }
        Dtype::F64 => elements::<8>(row, (-0f64).to_bits(), f64::INFINITY.to_bits()),
        // No negative zero: what would be its code is NaN.
        Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz => {
            (!row.contains(&0x80)).then_some(Cow::Borrowed(row))
        }
        Dtype::F8E8M0 => (!row.contains(&0xff)).then_some(Cow::Borrowed(row)),
        // No NaN, no infinity.
        Dtype::F4 => Some(nibbles(row)),
        Dtype::F6E2M3 | Dtype::F6E3M2 => Some(sextets(row)),
        Dtype::Bool => Some(match row.iter().any(|&b| b > 1) {
            true => row.iter().map(|&b| u8::from(b != 0)).collect::<Vec<_>>().into(),
            false => Cow::Borrowed(row),
        }),
        Dtype::U8
        | Dtype::I8
        | Dtype::I16
        | Dtype::U16
        | Dtype::I32
        | Dtype::U32
        | Dtype::I64
        | Dtype::U64
        | Dtype::Block(_)
        | Dtype::Unknown(_) => Some(Cow::Borrowed(row)),
    }
}

/// Floats of `N` bytes, little-endian: `sign` is the code of −0, `largest` the largest magnitude
/// that is no NaN.
fn elements<const N: usize>(row: &[u8], sign: u64, largest: u64) -> Option<Cow<'_, [u8]>> {
    let (elements, _) = row.as_chunks::<N>();
    let code = |element: &[u8; N]| {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(element);
        u64::from_le_bytes(wide)
    };
    let (mut nan, mut negative_zero) = (false, false);
    for element in elements {
        let code = code(element);
        nan |= code & (sign - 1) > largest;
        negative_zero |= code == sign;
    }
    if nan {
        return None;
    }
    if !negative_zero {
        return Some(Cow::Borrowed(row));
    }
    let mut row = row.to_vec();
    for element in row.as_chunks_mut::<N>().0 {
        if code(element) == sign {
            *element = [0; N];
        }
    }
    Some(row.into())
}

/// Two 4-bit floats a byte; −0 is 8.
fn nibbles(row: &[u8]) -> Cow<'_, [u8]> {
    let clear = |byte: u8| {
        let low = if byte & 0x0f == 0x08 { 0 } else { byte & 0x0f };
        let high = if byte & 0xf0 == 0x80 { 0 } else { byte & 0xf0 };
        low | high
    };
    match row.iter().any(|&byte| clear(byte) != byte) {
        true => row.iter().map(|&byte| clear(byte)).collect::<Vec<_>>().into(),
        false => Cow::Borrowed(row),
    }
}

/// Four 6-bit floats in three bytes; −0 is 32.
fn sextets(row: &[u8]) -> Cow<'_, [u8]> {
    let mut row = row.to_vec();
    for group in row.as_chunks_mut::<3>().0 {
        let [a, b, c] = *group;
        let mut bits = u32::from_le_bytes([a, b, c, 0]);
        for shift in [0, 6, 12, 18] {
            if bits >> shift & 0x3f == 0x20 {
                bits &= !(0x3f << shift);
            }
        }
        let [a, b, c, _] = bits.to_le_bytes();
        *group = [a, b, c];
    }
    row.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dtype: Dtype, row: &[u8], expected: Option<&[u8]>) {
        assert_eq!(canonical(&dtype, row).as_deref(), expected, "{dtype} {row:02x?}");
    }

    #[test]
    fn negative_zero_becomes_zero_and_nan_equals_nothing() {
        check(Dtype::F32, &(-0f32).to_le_bytes(), Some(&[0; 4]));
        check(Dtype::F32, &f32::NAN.to_le_bytes(), None);
        check(Dtype::F32, &f32::NEG_INFINITY.to_le_bytes(), Some(&[0, 0, 0x80, 0xff]));
        check(Dtype::F64, &(-0f64).to_le_bytes(), Some(&[0; 8]));
        check(Dtype::F64, &(-f64::NAN).to_le_bytes(), None);
        check(Dtype::Bf16, &[0x00, 0x80, 0x80, 0x7f], Some(&[0, 0, 0x80, 0x7f]));
        check(Dtype::Bf16, &[0x81, 0x7f], None);
        check(Dtype::F16, &[0x01, 0xfc], None);
        check(
            Dtype::C64,
            &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x80],
            Some(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0]),
        );
        check(Dtype::F8E4M3, &[0x80, 0xfe], Some(&[0, 0xfe]));
        check(Dtype::F8E4M3, &[0xff], None);
        check(Dtype::F8E5M2, &[0xfc, 0x80], Some(&[0xfc, 0]));
        check(Dtype::F8E5M2, &[0x7d], None);
        check(Dtype::F8E4M3Fnuz, &[0x7f, 0xff], Some(&[0x7f, 0xff]));
        check(Dtype::F8E5M2Fnuz, &[0x80], None);
        check(Dtype::F8E8M0, &[0xff], None);
        check(Dtype::F8E8M0, &[0x80], Some(&[0x80]));
        check(Dtype::F4, &[0x88, 0x98, 0x89], Some(&[0x00, 0x90, 0x09]));
        check(Dtype::F6E2M3, &[0x20, 0x08, 0x82], Some(&[0x00, 0x00, 0x00]));
        check(Dtype::F6E3M2, &[0x21, 0x08, 0x02], Some(&[0x21, 0x00, 0x00]));
    }

    #[test]
    fn a_bool_is_zero_or_not_and_an_integer_its_bits() {
        check(Dtype::Bool, &[0, 1, 2, 255], Some(&[0, 1, 1, 1]));
        check(Dtype::I8, &[0x80, 0xff], Some(&[0x80, 0xff]));
        check(Dtype::U16, &[0, 0x80], Some(&[0, 0x80]));
    }
}
