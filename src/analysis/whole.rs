//! Rows of F8_E4M3 in whole numbers, where the machine adds up many of these at a time.
//!
//! Every number of that type is a multiple of 2^−9, and below 2^18 times as much. So the sums of some
//! thousands of rows are whole numbers of 32 bits, and those of all rows are exact in an `f64`: they are
//! the same in whatever order rows come, and the same as those of numbers that are looked up one by one.
//! So are the sums of squares of a row, of which 64 bits hold more than a row has columns.

use super::element::LANES;

/// What numbers are counted in: the smallest one of the type.
const UNIT: f64 = 1.0 / 512.0;

/// Rows whose sums have room in 31 bits, each number having 18.
const MOST_ROWS: usize = 1 << 12;

/// Columns up to which the squares of a row, each number having 18 bits, add up to no more than 53: to a
/// number that an `f64` holds, as it does all on the way there.
const MOST_COLUMNS: usize = 1 << 17;

/// How many codes are taken at a time.
const WIDTH: usize = 64;

/// Whether the machine adds up many at a time.
fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The sum of each column over some rows.
#[derive(Clone)]
pub(super) struct Sums {
    rows: usize,
    /// In units, filled up to whole widths.
    columns: Vec<i32>,
}

impl Sums {
    /// Of no rows.
    fn new(columns: usize) -> Self {
        Self { rows: 0, columns: vec![0; columns.next_multiple_of(WIDTH)] }
    }

    /// Of no rows, where that is faster than to look up each code, and as exact.
    pub(super) fn if_worth_it(columns: usize) -> Option<Self> {
        (columns <= MOST_COLUMNS && is_wide()).then(|| Self::new(columns))
    }

    /// Whether there is no room for another row.
    pub(super) fn is_full(&self) -> bool {
        self.rows == MOST_ROWS
    }

    /// Adds a row, unless it holds a NaN; the sum of its squares, exact as
    /// [`Elements::sum_of_squares`](super::element::Elements::sum_of_squares) has it.
    pub(super) fn add(&mut self, row: &[u8]) -> f64 {
        self.rows += 1;
        #[cfg(target_arch = "x86_64")]
        if is_wide() {
            // SAFETY: the machine has what the function is compiled for.
            #[allow(unsafe_code)]
            return unsafe { add_avx2(row, &mut self.columns) };
        }
        add(row, &mut self.columns)
    }

    /// Adds what was summed up to those sums, and begins anew.
    pub(super) fn move_to(&mut self, sums: &mut [f64]) {
        for (sum, units) in sums.iter_mut().zip(&mut self.columns) {
            *sum += f64::from(std::mem::take(units)) * UNIT;
        }
        self.rows = 0;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_avx2(row: &[u8], sums: &mut [i32]) -> f64 {
    add(row, sums)
}

#[inline(always)]
fn add(row: &[u8], sums: &mut [i32]) -> f64 {
    // All ones but for the sign. A truth value of a byte, as many at a time as a register has.
    if row.iter().fold(0, |nan, &code| nan | u8::from(code & 0x7f == 0x7f)) > 0 {
        return f64::NAN;
    }
    let mut squares = [0; LANES];
    for (codes, sums) in row.chunks(WIDTH).zip(sums.as_chunks_mut::<WIDTH>().0) {
        // One body for the last codes too, so that it is compiled in here and not apart, where it would
        // know of no wide registers.
        let codes = codes.first_chunk().copied().unwrap_or_else(|| {
            let mut last = [0; WIDTH];
            last[..codes.len()].copy_from_slice(codes);
            last
        });
        let units = units(&codes);
        for (sum, units) in sums.iter_mut().zip(units) {
            *sum += units;
        }
        for eight in units.as_chunks::<LANES>().0 {
            for (sum, &units) in squares.iter_mut().zip(eight) {
                *sum += i64::from(units) * i64::from(units);
            }
        }
    }
    squares.iter().sum::<i64>() as f64 * UNIT * UNIT
}

/// What codes stand for, in units. Of a code with the exponent e and the fraction f that is 8 + f,
/// shifted by e − 1; of one whose e is 0 it is f. Either is the code without its sign, less eight times
/// what it is shifted by.
#[inline(always)]
fn units(codes: &[u8; WIDTH]) -> [i32; WIDTH] {
    let (mut digits, mut shifts) = ([0i8; WIDTH], [0u8; WIDTH]);
    for ((digit, shift), &code) in digits.iter_mut().zip(&mut shifts).zip(codes) {
        let magnitude = code & 0x7f;
        *shift = (magnitude >> 3).saturating_sub(1);
        // At most 15.
        let unsigned = (magnitude - (*shift << 3)) as i8;
        // All ones where the code is negative.
        let sign = (code as i8) >> 7;
        *digit = (unsigned ^ sign).wrapping_sub(sign);
    }
    let mut units = [0; WIDTH];
    for ((units, digit), shift) in units.iter_mut().zip(digits).zip(shifts) {
        // At most 14.
        *units = i32::from(digit).wrapping_shl(u32::from(shift));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::super::element::{Elements, LANES};
    use super::*;
    use crate::checkpoint::Dtype;

    #[test]
    fn every_code_is_what_a_look_tells() {
        let elements = Elements::of(&Dtype::F8E4M3.into()).unwrap();
        let codes: Vec<u8> = (0..=255).collect();
        let looked_up = elements.values(&codes);
        for (codes, values) in codes.as_chunks::<WIDTH>().0.iter().zip(looked_up.chunks(WIDTH)) {
            for ((units, value), code) in units(codes).iter().zip(values).zip(codes) {
                let computed = f64::from(*units) * UNIT;
                assert!(computed == *value || value.is_nan() && code & 0x7f == 0x7f, "{code:#x}");
            }
        }
    }

    #[test]
    fn sums_are_those_of_codes_that_are_looked_up() {
        let elements = Elements::of(&Dtype::F8E4M3.into()).unwrap();
        for columns in [1, 7, 8, 63, 64, 65, 200, 1000] {
            let mut state = columns as u64;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8 & 0xfe
            };
            let mut sums = Sums::new(columns);
            let (mut found, mut expected) =
                (vec![0.0; columns], vec![[0.0; LANES]; columns.div_ceil(LANES)]);
            for _ in 0..100 {
                let row: Vec<u8> = (0..columns).map(|_| random()).collect();
                let squares = sums.add(&row);
                assert_eq!(squares.to_bits(), elements.sum_of_squares(&row).to_bits());
                elements.add(&row, &mut expected);
            }
            assert!(sums.add(&vec![0xff; columns]).is_nan());
            sums.move_to(&mut found);
            assert_eq!(found, expected.as_flattened()[..columns]);
            sums.move_to(&mut found);
            assert_eq!(found, expected.as_flattened()[..columns]);
        }
    }

    #[test]
    fn squares_are_exact_in_as_many_columns_as_are_taken() {
        let elements = Elements::of(&Dtype::F8E4M3.into()).unwrap();
        // The largest, and one whose square has all digits that there are.
        for code in [0x7e, 0x7d] {
            let mut row = vec![code; MOST_COLUMNS];
            // Takes the last digit too.
            row[0] = 1;
            let squares = Sums::new(MOST_COLUMNS).add(&row);
            assert_eq!(squares.to_bits(), elements.sum_of_squares(&row).to_bits());
            let one = elements.values(&[code])[0];
            let units = (one / UNIT) as u64;
            let exact = units * units * (MOST_COLUMNS as u64 - 1) + 1;
            assert_eq!(squares, exact as f64 * UNIT * UNIT);
            assert_eq!(exact as f64 as u64, exact);
        }
        assert!(Sums::if_worth_it(MOST_COLUMNS + 1).is_none());
    }

    #[test]
    fn there_is_room_for_as_many_rows_as_are_taken() {
        let mut sums = Sums::new(1);
        for code in [0x7e, 0xfe] {
            while !sums.is_full() {
                sums.add(&[code]);
            }
            let mut found = [0.0];
            sums.move_to(&mut found);
            let one = if code == 0x7e { 448.0 } else { -448.0 };
            assert_eq!(found, [one * MOST_ROWS as f64]);
        }
    }
}
