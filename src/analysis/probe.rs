//! Which rows may have an equal: where the first bytes of two rows differ, the rows do.
//!
//! Two passes over a file whose pages need not all be looked at. The first takes a digest of each
//! row's [`PREFIX`]; the second looks at the whole of those rows alone whose prefix is not the only
//! one of its kind. Kept per row: eight bytes, and two while the first pass ends; and 36 for each row
//! that is looked at whole. Nothing is decided by a prefix but that a row is unlike all others.

use super::Analysis;
use super::digest::Digest;
use super::duplicates::{self, Group, Grouping};
use crate::error::{Error, Result};
use crate::observe::{Event, Observer};
use crate::rows::RowBlock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of each row that are looked at first. Fewer are no cheaper, because a page is fetched at
/// least.
pub const PREFIX: usize = 64;

/// Rows that are put side by side to be hashed.
const BATCH: usize = 64;

/// The first pass: a key for each row's prefix.
pub struct Prefixes {
    rows: u64,
    keys: Arc<Mutex<Keys>>,
}

struct Keys {
    seen: u64,
    keys: Vec<u64>,
}

impl Prefixes {
    /// An analysis of a matrix of so many rows; its memory is claimed here.
    pub fn new(rows: u64) -> Result<Self> {
        let count = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut keys = Vec::new();
        keys.try_reserve_exact(count).map_err(|_| Error::Usage {
            what: format!("the keys of {rows} rows do not fit into memory"),
        })?;
        keys.resize(count, 0);
        Ok(Self { rows, keys: Arc::new(Mutex::new(Keys { seen: 0, keys })) })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Analysis for Prefixes {
    /// The rows whose prefix some other row has too, ascending.
    type Finding = Vec<u32>;

    fn fork(&self) -> Self {
        Self { rows: self.rows, keys: Arc::clone(&self.keys) }
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        let mut found = Vec::with_capacity(block.len());
        batches(block.rows().map(|row| &row[..row.len().min(PREFIX)]), |digests| {
            found.extend(digests.iter().map(Digest::key));
        });
        let mut keys = self.keys();
        let first = block.first_row() as usize;
        keys.seen += found.len() as u64;
        keys.keys[first..first + found.len()].copy_from_slice(&found);
        Ok(())
    }

    fn finish(self) -> Result<Vec<u32>> {
        let mut keys = self.keys();
        whole(keys.seen, self.rows)?;
        Ok(repeated(&std::mem::take(&mut keys.keys)))
    }
}

/// The second pass: digests of the rows that may have an equal, and of no other.
pub struct Suspects {
    rows: u64,
    suspects: Arc<[u32]>,
    observer: Arc<dyn Observer>,
    store: Arc<Mutex<Store>>,
}

struct Store {
    seen: u64,
    /// In the order of the suspects.
    digests: Vec<Digest>,
}

impl Suspects {
    /// An analysis of some rows of a matrix, ascending, of so many in all.
    pub fn new(rows: u64, suspects: Vec<u32>, observer: Arc<dyn Observer>) -> Self {
        let digests = vec![Digest::UNSEEN; suspects.len()];
        let store = Arc::new(Mutex::new(Store { seen: 0, digests }));
        Self { rows, suspects: suspects.into(), observer, store }
    }
}

impl Analysis for Suspects {
    type Finding = Grouping;

    fn fork(&self) -> Self {
        Self {
            rows: self.rows,
            suspects: Arc::clone(&self.suspects),
            observer: Arc::clone(&self.observer),
            store: Arc::clone(&self.store),
        }
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        let end = block.first_row() + block.len() as u64;
        let before = |row: u64| self.suspects.partition_point(|&suspect| u64::from(suspect) < row);
        let (first, last) = (before(block.first_row()), before(end));
        let rows = self.suspects[first..last].iter();
        let mut found = Vec::with_capacity(last - first);
        batches(rows.filter_map(|&row| block.row(row.into())), |digests| {
            found.extend_from_slice(digests);
        });
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.seen += block.len() as u64;
        store.digests[first..last].copy_from_slice(&found);
        Ok(())
    }

    fn finish(self) -> Result<Grouping> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        whole(store.seen, self.rows)?;
        let mut groups =
            duplicates::groups(&store.digests, (0..store.digests.len() as u32).collect());
        for Group { rows, .. } in &mut groups {
            rows.iter_mut().for_each(|row| *row = self.suspects[*row as usize].into());
            for &row in &rows[1..] {
                self.observer.event(&Event::Duplicate { row, same_as: rows[0] });
            }
        }
        Ok(Grouping { rows: self.rows, groups, matrix_digest: None })
    }
}

fn whole(seen: u64, rows: u64) -> Result<()> {
    match seen == rows {
        true => Ok(()),
        false => Err(Error::format("the matrix", format!("{seen} of {rows} rows were read"))),
    }
}

/// Hashes pieces of one length, which lie apart, some at a time.
fn batches<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut take: impl FnMut(&[Digest])) {
    let (mut side_by_side, mut count, mut length) = (Vec::new(), 0, 0);
    for piece in pieces {
        length = piece.len();
        side_by_side.extend_from_slice(piece);
        count += 1;
        if count == BATCH {
            take(&Digest::of_rows(&side_by_side, length));
            (count, side_by_side) = (0, emptied(side_by_side));
        }
    }
    if count > 0 {
        take(&Digest::of_rows(&side_by_side, length));
    }
}

fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

/// The places of all keys that are there more than once, ascending.
///
/// Two bits for each of eight slots a key tell nearly all keys that are alone, in one pass over them;
/// what is left is sorted.
fn repeated(keys: &[u64]) -> Vec<u32> {
    let slots = (keys.len() * 8).next_power_of_two().max(64);
    let slot = |key: u64| (key as usize) & (slots - 1);
    let is_set = |bits: &[u64], at: usize| bits[at / 64] >> (at % 64) & 1 == 1;
    let (mut once, mut twice) = (vec![0u64; slots / 64], vec![0u64; slots / 64]);
    for &key in keys {
        let at = slot(key);
        let bits = if is_set(&once, at) { &mut twice } else { &mut once };
        bits[at / 64] |= 1 << (at % 64);
    }
    drop(once);
    // Rows are fewer than 2^32, as the matrix was checked.
    let mut places: Vec<u32> =
        (0..keys.len() as u32).filter(|&at| is_set(&twice, slot(keys[at as usize]))).collect();
    places.sort_unstable_by_key(|&at| keys[at as usize]);
    let same = |a: &u32, b: &u32| keys[*a as usize] == keys[*b as usize];
    let mut repeated: Vec<u32> =
        places.chunk_by(same).filter(|places| places.len() > 1).flatten().copied().collect();
    repeated.sort_unstable();
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Silent;
    use crate::rows::RowFramer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn repeated_keys_are_those_that_are_there_twice(
            keys in prop::collection::vec(0u64..300, 0..300),
            spread in 0u32..57,
        ) {
            let keys: Vec<u64> = keys.into_iter().map(|key| key << spread).collect();
            let count = |key: u64| keys.iter().filter(|&&other| other == key).count();
            let expected: Vec<u32> =
                (0..keys.len() as u32).filter(|&at| count(keys[at as usize]) > 1).collect();
            prop_assert_eq!(repeated(&keys), expected);
        }

        /// As hashing every row whole gives, whatever prefixes rows share.
        #[test]
        fn the_groups_are_those_of_all_rows(
            rows in prop::collection::vec((0u8..3, 0u8..3, 0u8..30), 0..200),
            width in 65usize..200,
            cut in 1usize..50,
        ) {
            let matrix: Vec<u8> = rows
                .iter()
                .flat_map(|&(head, tail, rare)| {
                    let mut row = vec![head; width];
                    row[PREFIX - 1] = if rare == 0 { 1 } else { 0 };
                    row[width - 1] = tail;
                    row
                })
                .collect();
            let blocks: Vec<RowBlock> = (0..rows.len())
                .step_by(cut)
                .map(|first| {
                    let end = rows.len().min(first + cut);
                    let bytes = matrix[first * width..end * width].to_vec();
                    RowFramer::new(first as u64, width).push(bytes.into()).next().unwrap()
                })
                .collect();
            let count = rows.len() as u64;
            let prefixes = Prefixes::new(count).unwrap();
            for block in blocks.iter().rev() {
                prefixes.fork().block(block).unwrap();
            }
            let suspects = prefixes.finish().unwrap();
            let second = Suspects::new(count, suspects, Arc::new(Silent));
            for block in &blocks {
                second.fork().block(block).unwrap();
            }
            let digests: Vec<Digest> = matrix.chunks(width).map(Digest::of).collect();
            prop_assert_eq!(second.finish().unwrap().groups, duplicates::groups(&digests, (0..digests.len() as u32).collect()));
        }
    }

    #[test]
    fn a_matrix_that_was_not_read_whole_has_no_finding() {
        assert!(Prefixes::new(1).unwrap().finish().is_err());
        assert!(Suspects::new(1, vec![0], Arc::new(Silent)).finish().is_err());
    }
}
