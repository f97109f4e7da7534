//! Rows to digests, digests to groups, in a fixed order.
//!
//! Kept per row: 32 bytes of digest, six bytes of table and one bit; under equality of values another
//! 32 bytes, because the matrix's own digest is always over the stored bytes. When all rows have been
//! seen, the table goes before the rows inside groups are sorted, twenty bytes for each of them.

use super::Analysis;
use super::digest::Digest;
use super::equality::{Canonical, Equality};
use super::first::{AHEAD, FirstRows, claim};
use crate::error::{Error, Result};
use crate::head::Numbers;
use crate::observe::{Event, Observer};
use crate::rows::RowBlock;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, TryReserveError};
use std::sync::{Arc, Mutex, PoisonError};

/// Two or more rows that are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// BLAKE3 of a member's bytes; under equality of values with −0 rewritten as +0.
    pub digest: Digest,
    /// The members, ascending.
    pub rows: Vec<u64>,
}

/// What was found among the rows of one matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// Rows of the matrix.
    pub rows: u64,
    /// All groups: size descending, then by first row.
    pub groups: Vec<Group>,
    /// BLAKE3 over the digests of all rows' stored bytes, in row order; `None` if not all were read.
    pub matrix_digest: Option<Digest>,
}

impl Grouping {
    /// The groups of rows by the digests of their stored bytes, or by those of their values.
    pub fn of(stored: &[Digest], values: Option<&[Digest]>) -> Self {
        let keys = values.unwrap_or(stored);
        let rows = (0..keys.len() as u32).filter(|&row| keys[row as usize] != Digest::UNSEEN);
        let groups = groups(keys, rows.collect());
        Self { rows: stored.len() as u64, groups, matrix_digest: Some(Digest::of_all(stored)) }
    }

    /// Rows inside groups.
    pub fn members(&self) -> u64 {
        self.groups.iter().map(|group| group.rows.len() as u64).sum()
    }

    /// Rows beyond the first of each value: rows − distinct, or members − groups.
    pub fn excess(&self) -> u64 {
        self.members() - self.groups.len() as u64
    }

    /// Different row values.
    pub fn distinct(&self) -> u64 {
        self.rows - self.excess()
    }
}

/// Copies of rows that were found equal to another, one for each value, while there is room: so that
/// what is asked of the groups' vectors after the pass need not be read again. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Copies(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    room: usize,
    /// By the row that was the first of its value to come.
    rows: HashMap<u64, Bytes>,
}

impl Copies {
    /// Room for so many bytes of rows.
    pub fn with_room(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept { room: bytes, rows: HashMap::new() })))
    }

    /// Takes out the bytes of a row of the group, if one was kept. Under equality of values another
    /// member's may differ from it by the sign of a zero.
    pub fn take(&self, group: &Group) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        group.rows.iter().find_map(|row| kept.rows.remove(row))
    }

    /// Bytes there is room for.
    pub fn room(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).room
    }

    /// Keeps a copy of a row's bytes, if there is room.
    pub fn keep(&self, first: u64, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() <= kept.room && !kept.rows.contains_key(&first) {
            kept.room -= bytes.len();
            kept.rows.insert(first, Bytes::copy_from_slice(bytes));
        }
    }
}

/// Finds equal rows. Forks share one store, locked once for each block.
pub struct Duplicates {
    /// How rows are made those that their values have; `None` where bits decide.
    canonical: Option<Arc<Canonical>>,
    observer: Arc<dyn Observer>,
    copies: Copies,
    store: Arc<Mutex<Store>>,
}

/// What has been seen so far.
struct Store {
    seen: u64,
    /// Of each row's stored bytes.
    stored: Vec<Digest>,
    /// Of each row's values; empty where bits decide. A row that holds a NaN stays unseen.
    values: Vec<Digest>,
    /// The first row of each value, in order of arrival.
    first: FirstRows,
    /// A bit for each row, set where another row has its value.
    grouped: Vec<u64>,
}

impl Store {
    fn new(rows: u32, equality: Equality) -> Result<Self, TryReserveError> {
        let count = rows as usize;
        let values = if equality == Equality::Values { count } else { 0 };
        Ok(Self {
            seen: 0,
            stored: claim(count, Digest::UNSEEN)?,
            values: claim(values, Digest::UNSEEN)?,
            first: FirstRows::new(rows)?,
            grouped: claim(count.div_ceil(64), 0)?,
        })
    }

    fn keys(&self) -> &[Digest] {
        if self.values.is_empty() { &self.stored } else { &self.values }
    }
}

impl Duplicates {
    /// An analysis of a matrix of so many rows of such numbers; its memory is claimed here.
    pub fn new(
        rows: u64,
        numbers: impl Into<Numbers>,
        equality: Equality,
        observer: Arc<dyn Observer>,
    ) -> Result<Self> {
        let canonical = match equality {
            Equality::Bits => None,
            Equality::Values => Some(Arc::new(Canonical::of(numbers.into())?)),
        };
        let store = u32::try_from(rows).ok().and_then(|rows| Store::new(rows, equality).ok());
        let store = store.ok_or_else(|| Error::Usage {
            what: format!("the digests of {rows} rows do not fit into memory"),
        })?;
        let (copies, store) = (Copies::default(), Arc::new(Mutex::new(store)));
        Ok(Self { canonical, observer, copies, store })
    }

    /// Keeps a copy of each value that comes a second time, while there is room.
    pub fn keeping(self, copies: Copies) -> Self {
        Self { copies, ..self }
    }
}

impl Analysis for Duplicates {
    type Finding = Grouping;

    fn fork(&self) -> Self {
        Self {
            canonical: self.canonical.clone(),
            observer: Arc::clone(&self.observer),
            copies: self.copies.clone(),
            store: Arc::clone(&self.store),
        }
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        // Hashing is the work; the store is locked for the bookkeeping alone.
        let stored = Digest::of_rows(block.bytes(), block.row_bytes());
        let values: Option<Vec<Digest>> = self.canonical.as_ref().map(|canonical| {
            let of = |(row, &stored)| match canonical.row(row) {
                None => Digest::UNSEEN,
                // Most rows are stored as their values have them.
                Some(Cow::Borrowed(_)) => stored,
                Some(Cow::Owned(row)) => Digest::of(&row),
            };
            block.rows().zip(&stored).map(of).collect()
        });
        let mut equal: Vec<(u64, u64)> = Vec::new();
        {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            let store = &mut *store;
            let first = block.first_row() as usize;
            let rows = first..first + block.len();
            store.seen += block.len() as u64;
            store.stored[rows.clone()].copy_from_slice(&stored);
            if let Some(values) = &values {
                store.values[rows.clone()].copy_from_slice(values);
            }
            let keys = if values.is_some() { &store.values } else { &store.stored };
            for row in rows {
                if (row - first).is_multiple_of(AHEAD) {
                    store.first.fetch(&keys[row..keys.len().min(row + AHEAD)]);
                }
                if keys[row] == Digest::UNSEEN {
                    continue;
                }
                if let Some(first) = store.first.first(row as u32, keys) {
                    equal.push((row as u64, u64::from(first)));
                    for row in [row, first as usize] {
                        store.grouped[row / 64] |= 1 << (row % 64);
                    }
                }
            }
        }
        for (row, same_as) in equal {
            let bytes = block.row(row).unwrap_or_default();
            self.copies.keep(same_as, bytes);
            self.observer.event(&Event::Duplicate { row, same_as });
        }
        Ok(())
    }

    fn finish(self) -> Result<Grouping> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = store.stored.len() as u64;
        if store.seen != rows {
            let what = format!("{} of {rows} rows were read", store.seen);
            return Err(Error::format("the matrix", what));
        }
        let matrix_digest = Some(Digest::of_all(&store.stored));
        // Its memory is given back before the next is taken.
        store.first = FirstRows::default();
        let groups = groups(store.keys(), members(&store.grouped));
        Ok(Grouping { rows, groups, matrix_digest })
    }
}

/// The rows whose bit is set, ascending.
fn members(grouped: &[u64]) -> Vec<u32> {
    // Their number is counted before, so that the list does not grow by doubling.
    let count: u32 = grouped.iter().map(|bits| bits.count_ones()).sum();
    let mut members = Vec::with_capacity(count as usize);
    for (at, &bits) in (0..).zip(grouped) {
        let mut rest = bits;
        while rest != 0 {
            members.push(64 * at + rest.trailing_zeros());
            rest &= rest - 1;
        }
    }
    members
}

/// The groups among some rows, by their keys: size descending, then by first row.
pub(super) fn groups(keys: &[Digest], rows: Vec<u32>) -> Vec<Group> {
    // By digest, then by row: equal rows stand together, and each group ascends. A part of the digest
    // stands beside the row, so that sorting seldom looks at the digests themselves, which lie anywhere.
    let mut order: Vec<(u64, u32)> =
        rows.into_iter().map(|row| (keys[row as usize].key(), row)).collect();
    let whole = |row: u32| (keys[row as usize], row);
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| whole(a.1).cmp(&whole(b.1))));
    let mut groups: Vec<Group> = order
        .chunk_by(|a, b| a.0 == b.0 && keys[a.1 as usize] == keys[b.1 as usize])
        .filter(|rows| rows.len() > 1)
        .map(|rows| Group {
            digest: keys[rows[0].1 as usize],
            rows: rows.iter().map(|&(_, row)| u64::from(row)).collect(),
        })
        .collect();
    groups.sort_unstable_by_key(|group| (std::cmp::Reverse(group.rows.len()), group.rows[0]));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;
    use crate::observe::Silent;
    use crate::rows::RowFramer;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Groups by comparing rows, in the fixed order: the naive oracle.
    fn naive(rows: &[Vec<u8>]) -> Vec<Vec<u64>> {
        let mut by_value: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            by_value.entry(row).or_default().push(i as u64);
        }
        let mut groups: Vec<Vec<u64>> = by_value.into_values().filter(|g| g.len() > 1).collect();
        groups.sort_by_key(|g| (std::cmp::Reverse(g.len()), g[0]));
        groups
    }

    proptest! {
        /// Whatever the order of the blocks and the number of forks, the groups are the naive ones.
        #[test]
        fn groups_are_those_of_comparing_rows(
            rows in prop::collection::vec(prop::collection::vec(0u8..3, 3), 0..60),
            order in any::<u64>(),
        ) {
            let all = Duplicates::new(rows.len() as u64, Dtype::U8, Equality::Bits, Arc::new(Silent))
                .unwrap();
            let mut blocks: Vec<RowBlock> = rows
                .iter()
                .enumerate()
                .flat_map(|(i, row)| RowFramer::new(i as u64, 3).push(row.clone().into()))
                .collect();
            blocks.sort_by_key(|b| (b.first_row() + 1).wrapping_mul(order | 1));
            let mut forks = [all.fork(), all.fork()];
            for (i, block) in blocks.iter().enumerate() {
                forks[i % 2].block(block).unwrap();
            }
            let found = all.finish().unwrap();
            let members: Vec<Vec<u64>> = found.groups.iter().map(|g| g.rows.clone()).collect();
            let expected = naive(&rows);
            prop_assert_eq!(found.excess(), found.rows - found.distinct());
            prop_assert_eq!(members, expected);
            let stored: Vec<Digest> = rows.iter().map(|row| Digest::of(row)).collect();
            prop_assert_eq!(found.matrix_digest, Some(Digest::of_all(&stored)));
        }
    }

    #[test]
    fn a_matrix_that_was_not_read_whole_has_no_finding() {
        let all = Duplicates::new(2, Dtype::U8, Equality::Bits, Arc::new(Silent)).unwrap();
        let block = RowFramer::new(0, 1).push(vec![1].into()).next().unwrap();
        all.fork().block(&block).unwrap();
        assert!(all.finish().is_err());
    }
}
