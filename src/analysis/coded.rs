//! The numbers of a row of codes, with the scales and all else that lies behind them.
//!
//! Computed in `f64`, which holds the product of a code and a scale without rounding; of a scale that is
//! quantised itself, and of sums with biases, the last bits may be rounded, the same for equal rows.

use super::element::Elements;
use crate::head::{Codes, Coding, Groups, Numbers, Run, Scales};
use std::ops::Range;

/// Reads rows that are codes.
pub(super) struct Coder {
    columns: usize,
    bytes: Range<usize>,
    codes: Elements,
    order: Order,
    zeros: Option<Reader>,
    scales: Option<Factors>,
    biases: Option<Reader>,
    factor: f64,
}

/// How codes lie in their bytes.
enum Order {
    /// One behind the other, the first in the lowest bits.
    Dense,
    /// So that of the two of a byte the first is in the highest bits.
    Swapped,
    /// As many in a word as have room, each of so many bits.
    InWords(u32),
}

enum Factors {
    Plain(Reader),
    Nested { places: Range<usize>, table: Vec<f64>, by: Reader, offset: f64, each: usize },
}

/// Reads a run of numbers.
struct Reader {
    bytes: Range<usize>,
    elements: Elements,
    above: f64,
    groups: Groups,
}

impl Reader {
    fn of(run: &Run) -> Option<Self> {
        let elements = Elements::of(&Numbers::Plain(run.dtype.clone()))?;
        let (bytes, groups) = (run.bytes.clone(), run.groups.clone());
        Some(Self { bytes, elements, above: run.above, groups })
    }

    /// Each column with its number.
    fn apply(&self, row: &[u8], columns: &mut [f64], put: impl Fn(&mut f64, f64)) {
        let numbers = self.elements.values(row.get(self.bytes.clone()).unwrap_or_default());
        match &self.groups {
            Groups::Each(each) => {
                for (columns, number) in columns.chunks_mut(*each).zip(numbers) {
                    columns.iter_mut().for_each(|column| put(column, number - self.above));
                }
            }
            Groups::Listed(list) => {
                let numbers = list.iter().filter_map(|&group| numbers.get(group as usize));
                for (column, number) in columns.iter_mut().zip(numbers) {
                    put(column, number - self.above);
                }
            }
        }
    }
}

impl Coder {
    /// A reader of rows that are coded so; `None` where a type has no numbers.
    pub(super) fn of(coding: &Coding) -> Option<Self> {
        let codes = match &coding.codes {
            Codes::Elements(dtype) => Elements::of(&Numbers::Plain(dtype.clone()))?,
            Codes::Whole { bits, below } => {
                Elements::of_codes(*bits, |code| f64::from(i32::from(code) - below))
            }
            // They are bytes by then.
            Codes::InWords { below, .. } => {
                Elements::of_codes(8, |code| f64::from(i32::from(code) - below))
            }
            Codes::Table(table) => {
                Elements::of_codes(4, |code| table.get(usize::from(code)).copied().unwrap_or(0.0))
            }
        };
        let reader = |run: &Option<Run>| match run {
            Some(run) => Reader::of(run).map(Some),
            None => Some(None),
        };
        let scales = match &coding.scales {
            None => None,
            Some(Scales::Plain(run)) => Some(Factors::Plain(Reader::of(run)?)),
            Some(Scales::Nested { bytes, table, by, offset, each }) => Some(Factors::Nested {
                places: bytes.clone(),
                table: table.clone(),
                by: Reader::of(by)?,
                offset: *offset,
                each: *each,
            }),
        };
        Some(Self {
            columns: coding.columns,
            bytes: coding.bytes.clone(),
            codes,
            order: match coding.codes {
                Codes::Table(_) => Order::Swapped,
                Codes::InWords { bits, .. } => Order::InWords(bits),
                Codes::Elements(_) | Codes::Whole { .. } => Order::Dense,
            },
            zeros: reader(&coding.zeros)?,
            scales,
            biases: reader(&coding.biases)?,
            factor: coding.factor,
        })
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn values(&self, row: &[u8]) -> Vec<f64> {
        let codes = row.get(self.bytes.clone()).unwrap_or_default();
        let mut values = match self.order {
            Order::Dense => self.codes.values(codes),
            Order::Swapped => {
                let swapped: Vec<u8> = codes.iter().map(|byte| byte.rotate_left(4)).collect();
                self.codes.values(&swapped)
            }
            Order::InWords(bits) => {
                let in_word = |word: &[u8; 4]| {
                    let (word, mask) = (u32::from_le_bytes(*word), (1 << bits) - 1);
                    (0..32 / bits).map(move |code| (word >> (code * bits) & mask) as u8)
                };
                self.codes
                    .values(&codes.as_chunks().0.iter().flat_map(in_word).collect::<Vec<u8>>())
            }
        };
        // The last word may have room for more.
        values.truncate(self.columns);
        if let Some(zeros) = &self.zeros {
            zeros.apply(row, &mut values, |value, zero| *value -= zero);
        }
        match &self.scales {
            None => {}
            Some(Factors::Plain(scales)) => {
                scales.apply(row, &mut values, |value, scale| *value *= scale);
            }
            Some(Factors::Nested { places, table, by, offset, each }) => {
                let places = row.get(places.clone()).unwrap_or_default();
                let mut scales: Vec<f64> =
                    places.iter().map(|&place| table[usize::from(place)]).collect();
                by.apply(row, &mut scales, |scale, by| *scale = *scale * by + offset);
                for (columns, scale) in values.chunks_mut(*each).zip(scales) {
                    columns.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        if let Some(biases) = &self.biases {
            biases.apply(row, &mut values, |value, bias| *value += bias);
        }
        if self.factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.factor);
        }
        values
    }
}
