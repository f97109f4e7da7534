//! Head and input embedding side by side: what a row is in one and in the other.

use super::ClassCount;
use super::classes;
use crate::analysis::Grouping;
use crate::vocabulary::{Class, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a row is in one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No other row is equal to it.
    Alone,
    /// Another row is equal to it, and it is not zero.
    InGroup,
    /// Every element is +0 or −0.
    Zero,
}

impl State {
    /// Every state, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Alone, Self::InGroup, Self::Zero];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::InGroup => "in-group",
            Self::Zero => "zero",
        }
    }
}

/// The rows that both matrices have, by what they are in each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossPart {
    /// Rows that both matrices have.
    pub rows: u64,
    /// Rows past the end of the shorter one.
    pub rows_in_one_only: u64,
    /// Each pair of states that some row has, in the order of the states.
    pub cells: Vec<Cell>,
}

/// The rows of one pair of states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What they are in the unembedding.
    pub unembedding: State,
    /// What they are in the embedding.
    pub embedding: State,
    /// How many they are.
    pub count: u64,
    /// Their numbers, ascending; left empty where they are alone in both.
    pub rows: Vec<u64>,
    /// The same rows by class: most first; empty without a tokenizer, as the next.
    pub classes: Vec<ClassCount>,
    /// Those of them that are special tokens, reserved ones among them.
    pub special: Vec<Token>,
}

/// What is known of one matrix's rows.
pub struct States(Vec<State>);

impl States {
    /// By the groups and the rows that are zero.
    pub fn new(found: &Grouping, zero: &[u64]) -> Self {
        let mut states = vec![State::Alone; found.rows as usize];
        let mut set = |row: &u64, state| {
            if let Some(at) = states.get_mut(*row as usize) {
                *at = state;
            }
        };
        found.groups.iter().flat_map(|group| &group.rows).for_each(|row| set(row, State::InGroup));
        zero.iter().for_each(|row| set(row, State::Zero));
        Self(states)
    }
}

impl CrossPart {
    /// Holds one against the other; `token` names a row, where there is a tokenizer.
    pub fn new(
        unembedding: &States,
        embedding: &States,
        token: Option<&dyn Fn(u64) -> Token>,
    ) -> Self {
        let mut cells: BTreeMap<(State, State), Vec<u64>> = BTreeMap::new();
        for (row, pair) in (0..).zip(unembedding.0.iter().copied().zip(embedding.0.iter().copied()))
        {
            cells.entry(pair).or_default().push(row);
        }
        let cell = |(pair, rows): ((State, State), Vec<u64>)| {
            let count = rows.len() as u64;
            let rows = if pair == (State::Alone, State::Alone) { Vec::new() } else { rows };
            let tokens: Vec<Token> =
                token.map(|token| rows.iter().map(|&row| token(row)).collect()).unwrap_or_default();
            let classes = classes::by_class(&tokens);
            let special = |token: &Token| token.class == Some(Class::Special);
            let special = tokens.into_iter().filter(special).collect();
            Cell { unembedding: pair.0, embedding: pair.1, count, rows, classes, special }
        };
        let (one, other) = (unembedding.0.len() as u64, embedding.0.len() as u64);
        Self {
            rows: one.min(other),
            rows_in_one_only: one.abs_diff(other),
            cells: cells.into_iter().map(cell).collect(),
        }
    }

    /// How many rows have that pair of states.
    pub fn count(&self, unembedding: State, embedding: State) -> u64 {
        let of = |cell: &&Cell| (cell.unembedding, cell.embedding) == (unembedding, embedding);
        self.cells.iter().find(of).map_or(0, |cell| cell.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Digest, Group};

    fn states(rows: u64, groups: &[&[u64]], zero: &[u64]) -> States {
        let group = |rows: &&[u64]| Group { digest: Digest::of(b"x"), rows: rows.to_vec() };
        let groups = groups.iter().map(group).collect();
        States::new(&Grouping { rows, groups, matrix_digest: None }, zero)
    }

    #[test]
    fn every_row_is_in_one_cell() {
        let head = states(8, &[&[1, 2, 3], &[4, 5]], &[4, 5, 6]);
        let embedding = states(7, &[&[2, 3], &[5, 6]], &[0]);
        let found = CrossPart::new(&head, &embedding, None);
        assert_eq!((found.rows, found.rows_in_one_only), (7, 1));
        let cells: Vec<_> =
            found.cells.iter().map(|c| (c.unembedding, c.embedding, c.rows.clone())).collect();
        use State::{Alone, InGroup, Zero};
        let expected = [
            (Alone, Zero, vec![0]),
            (InGroup, Alone, vec![1]),
            (InGroup, InGroup, vec![2, 3]),
            (Zero, Alone, vec![4]),
            (Zero, InGroup, vec![5, 6]),
        ];
        assert_eq!(cells, expected);
        assert_eq!(found.count(InGroup, InGroup), 2);
        assert_eq!(found.count(Zero, Zero), 0);
    }

    #[test]
    fn rows_alone_in_both_are_counted_and_not_listed() {
        let found = CrossPart::new(&states(3, &[], &[]), &states(3, &[], &[]), None);
        assert_eq!((found.cells.len(), found.cells[0].count), (1, 3));
        assert!(found.cells[0].rows.is_empty());
    }
}
