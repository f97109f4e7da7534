//! Rows that may be in groups, or zero: padding, ranges of ids, lists with a reason.
//!
//! An allowed row is company all the same: another row that equals it is judged.

use crate::report::{MatrixPart, TokenizerPart};
use std::fmt;
use std::ops::RangeInclusive;

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Rows past the tokenizer's last id.
    pub padding: bool,
    /// Rows by their ids.
    pub ids: Vec<Ids>,
    /// Rows by their ids, and why.
    pub rows: Vec<Allowance>,
}

impl Default for Allow {
    fn default() -> Self {
        Self { padding: true, ids: Vec::new(), rows: Vec::new() }
    }
}

/// Rows that are allowed for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "policy", derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct Allowance {
    /// The rows.
    pub ids: Vec<Ids>,
    /// The reason.
    #[cfg_attr(feature = "policy", serde(deserialize_with = "reason"))]
    pub reason: String,
}

/// A reason that says something.
#[cfg(feature = "policy")]
fn reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let reason: String = serde::Deserialize::deserialize(from)?;
    match reason.trim().is_empty() {
        true => Err(serde::de::Error::custom("rows are allowed for a reason, and this is empty")),
        false => Ok(reason),
    }
}

/// One id, or all from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(RangeInclusive<u64>);

impl Ids {
    /// The ids from one to another, both included.
    pub fn new(first: u64, last: u64) -> Self {
        Self(first..=last)
    }

    /// Reads `7` or `5-9`.
    pub fn parse(text: &str) -> Option<Self> {
        // Digits alone: a sign would be read too.
        let id = |text: &str| {
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (id(first.trim())?, id(last.trim())?),
            None => (id(text.trim())?, id(text.trim())?),
        };
        (first <= last).then(|| Self::new(first, last))
    }

    /// Some rows, ascending, as few ranges.
    pub fn of(rows: &[u64]) -> Vec<Self> {
        let run = |a: &u64, b: &u64| a.checked_add(1) == Some(*b);
        rows.chunk_by(run).map(|run| Self::new(run[0], run[run.len() - 1])).collect()
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "\"{first}-{last}\""),
        }
    }
}

/// The allowed rows of one matrix.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowed {
    /// Ascending, and apart from one another.
    ranges: Vec<(u64, u64)>,
}

impl Allowed {
    pub(super) fn new(
        allow: &Allow,
        matrix: &MatrixPart,
        tokenizer: Option<&TokenizerPart>,
    ) -> Self {
        let ids = allow.ids.iter().chain(allow.rows.iter().flat_map(|rows| &rows.ids));
        let mut ranges: Vec<(u64, u64)> = ids.map(|ids| (*ids.0.start(), *ids.0.end())).collect();
        let padding = tokenizer.filter(|_| allow.padding).map_or(0, |part| part.padding_rows);
        if padding > 0 {
            ranges.push((matrix.rows.saturating_sub(padding), u64::MAX));
        }
        ranges.sort_unstable();
        let mut apart: Vec<(u64, u64)> = Vec::new();
        for (first, last) in ranges {
            match apart.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        Self { ranges: apart }
    }

    pub(super) fn has(&self, row: u64) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= row);
        after > 0 && row <= self.ranges[after - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::case::samples::matrix;
    use proptest::prelude::*;

    #[test]
    fn ids_are_numbers_and_ranges_and_nothing_else() {
        assert_eq!(Ids::parse("5-9"), Some(Ids::new(5, 9)));
        assert_eq!(Ids::parse(" 7 "), Some(Ids::new(7, 7)));
        for wrong in
            ["", "-", "9-5", "+5", "5-", "-5", "a", "1-2-3", "5..9", "99999999999999999999"]
        {
            assert_eq!(Ids::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_row_is_allowed_if_any_range_has_it(
            ranges in prop::collection::vec((0u64..50, 0u64..9), 0..8),
            padding in 0u64..60,
        ) {
            let ids: Vec<Ids> = ranges.iter().map(|&(first, n)| Ids::new(first, first + n)).collect();
            let allow = Allow { ids: ids.clone(), ..Allow::default() };
            let tokenizer = TokenizerPart { size: 0, padding_rows: padding, file: None };
            let allowed = Allowed::new(&allow, &matrix(60), Some(&tokenizer));
            for row in 0..60 {
                let naive = ids.iter().any(|ids| ids.0.contains(&row)) || row >= 60 - padding;
                prop_assert_eq!(allowed.has(row), naive);
            }
        }

        #[test]
        fn rows_come_back_from_their_ranges(rows in prop::collection::btree_set(0u64..40, 0..20)) {
            let rows: Vec<u64> = rows.into_iter().collect();
            let back: Vec<u64> = Ids::of(&rows).into_iter().flat_map(|ids| ids.0).collect();
            prop_assert_eq!(back, rows);
        }
    }
}
