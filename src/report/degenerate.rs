//! Rows that hold no direction: zero throughout, or not finite.

use crate::analysis::{Grouping, Special};
use crate::vocabulary::Token;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The rows that are zero or not finite. Each list ascends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegeneratePart {
    /// Rows whose every element is +0 or −0.
    pub zero: Vec<u64>,
    /// Rows that hold a NaN.
    pub nan: Vec<u64>,
    /// Rows that hold an infinity; they may hold a NaN as well.
    pub infinite: Vec<u64>,
    /// What those of them are called that are in no group; empty without a tokenizer.
    pub tokens: Vec<Token>,
}

impl DegeneratePart {
    /// Names the rows; the names of a group's members are with the group.
    pub fn new(special: &Special, found: &Grouping, token: Option<&dyn Fn(u64) -> Token>) -> Self {
        let members: HashSet<u64> =
            found.groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
        let mut part = Self {
            zero: special.zero.clone(),
            nan: special.nan.clone(),
            infinite: special.infinite.clone(),
            tokens: Vec::new(),
        };
        let mut alone: Vec<u64> = part.zero.iter().copied().chain(part.non_finite()).collect();
        alone.retain(|row| !members.contains(row));
        alone.sort_unstable();
        part.tokens = token.map(|token| alone.into_iter().map(token).collect()).unwrap_or_default();
        part
    }

    /// The rows that hold a NaN or an infinity, ascending, each once.
    pub fn non_finite(&self) -> Vec<u64> {
        let mut rows = [self.nan.as_slice(), &self.infinite].concat();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}
