//! Tokens that are columns: their digests and their numbers, while lines of them come.
//!
//! A line has a few codes of every token, so that nothing is complete before the last: what is computed
//! of a token waits for its next number. Scales and zero points come before the codes and are held, as
//! they are stored; of each token are held eight numbers, the sum of its squares and its largest
//! magnitude, and what [`InStep`] keeps for the digest of its values.
//!
//! The numbers are those that a token's row has for [`Elements`], to the last bit; norms and means may
//! differ in the last ones from those of rows, because sums are taken in another order.

use super::digest::{Digest, InStep};
use super::element::{Elements, LANES, tree};
use super::first::claim;
use super::profile::{NEAR_ZERO, Reach, RowProfile, Special};
use super::spread::sum;
use crate::head::{Coding, Groups, Numbers, Packing, Scales};
use std::collections::TryReserveError;
use std::sync::Arc;

/// Numbers of a token that are computed before its sums are advanced; those of a digest's block.
const BATCH: usize = 8;

/// A tensor of which a line has a part of every token, whole.
pub struct Lines {
    /// How a line holds them.
    pub packing: Packing,
    /// Bytes of a line.
    pub line_bytes: usize,
    /// One line after another.
    pub bytes: Vec<u8>,
}

impl Lines {
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.line_bytes.max(1))
    }

    fn line(&self, number: usize) -> &[u8] {
        let start = number.saturating_mul(self.line_bytes);
        self.bytes.get(start..start.saturating_add(self.line_bytes)).unwrap_or_default()
    }
}

/// Computes the numbers of tokens, a few of each at a time.
pub struct InColumns {
    tokens: usize,
    groups: Groups,
    /// Scales and zero points.
    held: Arc<[Lines; 2]>,
    scale_elements: Elements,
    above: f64,
    /// The group whose scales and zero points the next two are.
    group: usize,
    scale: Vec<f64>,
    zero: Vec<f64>,
    /// A line's codes, those of one input after those of another.
    codes: Vec<u8>,
    /// Numbers of a few inputs, those of one after those of another.
    batch: Vec<f64>,
    batched: usize,
    squares: Vec<f64>,
    largest: Vec<f64>,
    /// The tokens that have a scale which is no number.
    odd: Vec<usize>,
    /// Of each input, over all other tokens.
    sums: Vec<f64>,
    values: Option<InStep>,
}

impl InColumns {
    /// For tokens that are coded so; the memory is claimed here. `codes` is how lines hold the codes,
    /// `held` are scales and zero points. `None` where the numbers are not certain after all: where a
    /// zero point is above all codes. Those of GPTQ's first format are stored less one, and what is
    /// there in place of −1 is read as such by some and not by others, as
    /// [GPTQModel](https://github.com/ModelCloud/GPTQModel) says where it converts them.
    pub fn new(
        tokens: usize,
        coding: &Coding,
        codes: Packing,
        held: Arc<[Lines; 2]>,
        values: bool,
    ) -> Result<Option<Self>, TryReserveError> {
        let (Some(Scales::Plain(scale)), Some(zero)) = (&coding.scales, &coding.zeros) else {
            return Ok(None);
        };
        let Some(scale_elements) = Elements::of(&Numbers::Plain(scale.dtype.clone())) else {
            return Ok(None);
        };
        let values = values.then(|| InStep::new(tokens, coding.columns * size_of::<f64>()));
        let mut this = Self {
            tokens,
            groups: scale.groups.clone(),
            held,
            scale_elements,
            above: zero.above,
            group: usize::MAX,
            scale: claim(tokens, 0.0)?,
            zero: claim(tokens, 0.0)?,
            codes: claim(tokens * codes.width(), 0)?,
            batch: claim(tokens * BATCH, 0.0)?,
            batched: 0,
            squares: claim(tokens, 0.0)?,
            largest: claim(tokens, 0.0)?,
            odd: Vec::new(),
            sums: Vec::new(),
            values: values.transpose()?,
        };
        let most = codes.largest().map_or(f64::INFINITY, f64::from);
        let mut odd = claim(tokens, false)?;
        for group in 0..this.held[0].iter().count() {
            this.look_up(group);
            if this.zero.iter().any(|&zero| zero > most) {
                return Ok(None);
            }
            odd.iter_mut().zip(&this.scale).for_each(|(odd, scale)| *odd |= !scale.is_finite());
        }
        this.odd = (0..tokens).filter(|&token| odd[token]).collect();
        Ok(Some(this))
    }

    /// Makes scales and zero points those of a group.
    fn look_up(&mut self, group: usize) {
        if self.group == group {
            return;
        }
        self.group = group;
        let [scales, zeros] = self.held.as_ref();
        self.scale_elements.read(scales.line(group), &mut self.scale);
        let (line, packing) = (zeros.line(group), zeros.packing);
        for (token, zero) in self.zero.iter_mut().enumerate() {
            let mut stored = [0];
            packing.put(line, token, self.tokens, &mut stored);
            *zero = f64::from(stored[0]) - self.above;
        }
    }

    /// The next codes of each token, so many.
    pub fn take(&mut self, packing: Packing, line: &[u8], count: usize) {
        let tokens = self.tokens;
        packing.spread(line, tokens, count, &mut self.codes);
        for input in 0..count {
            self.look_up(self.groups.of(self.sums.len()));
            let codes = &self.codes[input * tokens..][..tokens];
            let numbers = &mut self.batch[self.batched * tokens..][..tokens];
            let of_group = self.zero.iter().zip(&self.scale);
            for ((number, &code), (zero, scale)) in numbers.iter_mut().zip(codes).zip(of_group) {
                *number = (f64::from(code) - zero) * scale;
            }
            let sum = match self.odd.as_slice() {
                [] => sum_of(numbers),
                odd => {
                    let mut finite = numbers.to_vec();
                    odd.iter().for_each(|&token| finite[token] = 0.0);
                    sum_of(&finite)
                }
            };
            self.sums.push(sum);
            self.batched += 1;
            if self.batched == BATCH {
                self.advance();
            }
        }
    }

    /// Adds the numbers that are there to the sums and the digests.
    fn advance(&mut self) {
        let (tokens, batch) = (self.tokens, &self.batch);
        let count = std::mem::take(&mut self.batched);
        let sums = self.squares.chunks_mut(LANES).zip(self.largest.chunks_mut(LANES));
        for (eight, (squares, largest)) in sums.enumerate() {
            for input in 0..count {
                let numbers = &batch[input * tokens + eight * LANES..][..squares.len()];
                let sums = squares.iter_mut().zip(largest.iter_mut());
                for (number, (square, largest)) in numbers.iter().zip(sums) {
                    *square += number * number;
                    // A NaN is no magnitude.
                    *largest = number.abs().max(*largest);
                }
            }
        }
        if let Some(values) = &mut self.values {
            values.take(count * size_of::<f64>(), |token, out| {
                for (input, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                    // A sum with +0 makes +0 of −0.
                    *out = (batch[input * tokens + token] + 0.0).to_le_bytes();
                }
            });
        }
    }

    /// What was learnt once each token has had all its codes: the profile, and the digest of each
    /// token's values, where they were asked for; of one with a NaN, which equals nothing, it is that of a
    /// row that was not seen.
    pub fn finish(mut self) -> Option<(RowProfile, Option<Vec<Digest>>)> {
        self.advance();
        let mut special = Special::default();
        for ((token, square), &largest) in (0..).zip(&mut self.squares).zip(&self.largest) {
            let (nan, infinite) = (square.is_nan(), largest == f64::INFINITY);
            *square = square.sqrt();
            let lists = [
                (nan, &mut special.nan),
                (infinite, &mut special.infinite),
                (!nan && largest == 0.0, &mut special.zero),
                (!nan && largest > 0.0 && largest <= NEAR_ZERO, &mut special.near_zero),
            ];
            lists.into_iter().filter(|(is, _)| *is).for_each(|(_, list)| list.push(token));
        }
        let norms = self.squares;
        let values = match self.values.map(InStep::finish) {
            None => None,
            Some(None) => return None,
            Some(Some(mut digests)) => {
                special.nan.iter().for_each(|&token| digests[token as usize] = Digest::UNSEEN);
                Some(digests)
            }
        };
        let finite_rows = (self.tokens - self.odd.len()) as u64;
        let mut centroid = self.sums;
        centroid.iter_mut().for_each(|sum| *sum /= finite_rows as f64);
        let reach = Reach::of(&centroid);
        if finite_rows == 0 || !(reach.l1.is_finite() && reach.l2.is_finite()) {
            centroid.clear();
        }
        Some((RowProfile { norms, special, centroid, finite_rows }, values))
    }
}

/// The sum of numbers: eight sums side by side for each thousand, and these by halves.
fn sum_of(numbers: &[f64]) -> f64 {
    let of_some = |some: &[f64]| {
        let mut lanes = [0.0; LANES];
        for eight in some.chunks(LANES) {
            lanes.iter_mut().zip(eight).for_each(|(lane, number)| *lane += number);
        }
        tree(lanes)
    };
    sum(&numbers.chunks(1 << 10).map(of_some).collect::<Vec<f64>>())
}

/// Collects the bytes of some tokens while lines of them come.
#[derive(Default)]
pub struct Gather {
    rows: Vec<(u64, Vec<u8>)>,
}

impl Gather {
    /// Of these tokens.
    pub fn new(rows: impl IntoIterator<Item = u64>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row, Vec::new())).collect() }
    }

    /// What a line has of them.
    pub fn take(&mut self, packing: Packing, line: &[u8], tokens: usize, count: usize) {
        for (row, bytes) in &mut self.rows {
            let had = bytes.len();
            bytes.resize(had + count, 0);
            packing.put(line, *row as usize, tokens, &mut bytes[had..]);
        }
    }

    /// The tokens and their bytes, in the order they were asked for.
    pub fn finish(self) -> Vec<(u64, Vec<u8>)> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Analysis as _, Profile};
    use super::*;
    use crate::checkpoint::Dtype;
    use crate::head::{Codes, Run};
    use crate::rows::RowFramer;
    use half::f16;
    use proptest::prelude::*;

    fn coding(columns: usize, count: usize, groups: Groups, above: f64) -> Coding {
        let (scales, end) = (columns + 2 * count, columns + 3 * count);
        let run = |bytes, dtype, above| Run { bytes, dtype, above, groups: groups.clone() };
        Coding {
            columns,
            row_bytes: end,
            bytes: 0..columns,
            codes: Codes::Elements(Dtype::U8),
            zeros: Some(run(scales..end, Dtype::U8, above)),
            scales: Some(Scales::Plain(run(columns..scales, Dtype::F16, 0.0))),
            biases: None,
            factor: 1.0,
        }
    }

    /// So many lines of such numbers.
    fn lines(
        packing: Packing,
        tokens: usize,
        count: usize,
        byte: &mut impl FnMut() -> u8,
    ) -> Lines {
        let line_bytes = packing.line_bytes(tokens as u64) as usize;
        let bytes = (0..count * line_bytes).map(|_| byte()).collect();
        Lines { packing, line_bytes, bytes }
    }

    proptest! {
        /// What is computed in step is what rows of the same bytes have.
        #[test]
        fn numbers_in_columns_are_those_of_rows(
            packing in prop::sample::select(vec![
                Packing::Down { bits: 2 },
                Packing::Down { bits: 3 },
                Packing::Down { bits: 4 },
                Packing::Down { bits: 8 },
                Packing::Across { bits: 4, mixed: true },
            ]),
            // AutoAWQ packs whole words.
            tokens in (1usize..6).prop_map(|words| words * 8),
            columns in 1usize..70,
            count in 1usize..5,
            listed in any::<bool>(),
            first in any::<bool>(),
            odd in prop::collection::vec((0usize..40, prop::sample::select(vec![
                f16::NAN, f16::INFINITY, f16::NEG_INFINITY, f16::ZERO, f16::NEG_ZERO,
            ])), 0..6),
            seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            let groups = match listed {
                true => {
                    let list: Vec<u32> =
                        (0..columns).map(|_| u32::from(byte()) % count as u32).collect();
                    Groups::Listed(list.into())
                }
                false => Groups::Each(columns.div_ceil(count)),
            };
            let codes =
                lines(packing, tokens, columns.div_ceil(packing.width()), &mut byte);
            let mut scales = lines(Packing::Plain { size: 2 }, tokens, count, &mut byte);
            // Magnitudes from 1 to 2, and what else is wanted.
            for scale in scales.bytes.as_chunks_mut().0 {
                *scale = ((u16::from_le_bytes(*scale) & 0x83ff) | 0x3c00).to_le_bytes();
            }
            for (token, value) in odd {
                for line in scales.bytes.chunks_exact_mut(2 * tokens) {
                    let token = token % tokens * 2;
                    line[token..token + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            let bits = 8 - packing.largest().unwrap().leading_zeros();
            let mixed = matches!(packing, Packing::Across { .. });
            let zeros = lines(Packing::Across { bits, mixed }, tokens, count, &mut byte);
            let coding = coding(columns, count, groups, if first { -1.0 } else { 0.0 });

            let mut gather = Gather::new(0..tokens as u64);
            let mut left = columns;
            for line in codes.iter() {
                gather.take(packing, line, tokens, packing.width().min(left));
                left = left.saturating_sub(packing.width());
            }
            for held in [&scales, &zeros] {
                for line in held.iter() {
                    gather.take(held.packing, line, tokens, held.packing.width());
                }
            }
            let rows: Vec<Vec<u8>> = gather.finish().into_iter().map(|(_, row)| row).collect();
            let stored = |row: &Vec<u8>| row[columns + 2 * count..].iter().max().copied().unwrap();
            let most = rows.iter().map(stored).max().unwrap();

            let held = Arc::new([scales, zeros]);
            let all = InColumns::new(tokens, &coding, packing, held, true).unwrap();
            let certain = !first || Some(most) < packing.largest();
            prop_assert_eq!(all.is_some(), certain);
            let Some(mut all) = all else { return Ok(()) };
            let mut left = columns;
            for line in codes.iter() {
                all.take(packing, line, packing.width().min(left));
                left = left.saturating_sub(packing.width());
            }
            let (found, values) = all.finish().unwrap();

            let numbers = Numbers::Coded(Arc::new(coding));
            let elements = Elements::of(&numbers).unwrap();
            let expected: Vec<Digest> = rows
                .iter()
                .map(|row| {
                    let values = elements.values(row);
                    let bytes: Vec<u8> =
                        values.iter().flat_map(|value| (value + 0.0).to_le_bytes()).collect();
                    match values.iter().any(|value| value.is_nan()) {
                        true => Digest::UNSEEN,
                        false => Digest::of(&bytes),
                    }
                })
                .collect();
            prop_assert_eq!(values.unwrap(), expected);
            let mut profile = Profile::new(tokens as u64, columns as u64, numbers).unwrap();
            let block = RowFramer::new(0, rows[0].len()).push(rows.concat().into()).next().unwrap();
            profile.block(&block).unwrap();
            let expected = profile.finish().unwrap();
            let close = |a: &f64, b: &f64| {
                (a - b).abs() <= 1e-12 * (a.abs() + b.abs() + 1.0) || a == b || a.is_nan() && b.is_nan()
            };
            let all_close = |a: &[f64], b: &[f64]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b))
            };
            prop_assert!(all_close(&found.norms, &expected.norms));
            prop_assert!(all_close(&found.centroid, &expected.centroid));
            prop_assert_eq!(found.special, expected.special);
            prop_assert_eq!(found.finite_rows, expected.finite_rows);
        }
    }
}
