//! The first row of each digest: a table whose size is known before the first row comes.
//!
//! One number a slot: a row and, in the bits that rows leave, a part of its key, so that another row's
//! digest is hardly ever looked at in vain. Nothing grows and nothing moves: six bytes a row from the
//! first to the last, and one look at a random place for each.

use super::digest::Digest;
use std::collections::TryReserveError;
use std::hash::{BuildHasher as _, RandomState};
use std::hint::black_box;

/// Rows whose places are looked at ahead: so many requests to memory run at a time.
pub(super) const AHEAD: usize = 16;

/// So many copies of a value, if there is memory for them.
pub(super) fn claim<T: Clone>(count: usize, value: T) -> Result<Vec<T>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(count)?;
    values.resize(count, value);
    Ok(values)
}

/// The rows that were the first with their digest.
#[derive(Default)]
pub(super) struct FirstRows {
    /// A row plus one in the low bits, a part of its key in the others; 0 where there is none.
    slots: Vec<u32>,
    /// The low bits.
    row: u32,
    /// Another in each run: digests that were chosen to meet in a table do not meet in this one.
    factor: u64,
}

impl FirstRows {
    /// A table for so many rows.
    pub(super) fn new(rows: u32) -> Result<Self, TryReserveError> {
        // Two of three slots are taken in the end; with more, runs become long.
        let slots = claim((rows as usize).saturating_add(rows as usize / 2 + 1), 0)?;
        let row = u32::MAX >> rows.max(1).leading_zeros();
        Ok(Self { slots, row, factor: RandomState::new().hash_one(0) | 1 })
    }

    /// Looks at the places of some digests, all at a time: each lies anywhere in memory, and to wait for
    /// one after another would take most of the time that a row takes here.
    pub(super) fn fetch(&self, digests: &[Digest]) {
        let slots = digests.iter().map(|digest| self.slots[self.place(self.hash(digest))]);
        black_box(slots.fold(0, |all, slot| all | slot));
    }

    fn hash(&self, digest: &Digest) -> u64 {
        digest.key().wrapping_mul(self.factor)
    }

    /// The hash as a fraction of the table.
    fn place(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    /// The first row with this row's digest, or nothing where it is this one. A row is told once.
    pub(super) fn first(&mut self, row: u32, digests: &[Digest]) -> Option<u32> {
        let digest = &digests[row as usize];
        let hash = self.hash(digest);
        let part = hash as u32 & !self.row;
        let mut at = self.place(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                self.slots[at] = part | (row + 1);
                return None;
            }
            let other = (slot & self.row) - 1;
            if slot & !self.row == part && digests[other as usize] == *digest {
                return Some(other);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    #[test]
    fn a_row_meets_the_first_of_its_digest() {
        for rows in [0u32, 1, 2, 3, 255, 256, 257, 1000, 70_000] {
            for values in [1, 2, u64::from(rows / 2 + 1), u64::MAX] {
                let digests: Vec<Digest> =
                    (0..u64::from(rows)).map(|row| digest(row * row % values)).collect();
                let (mut table, mut naive) = (FirstRows::new(rows).unwrap(), HashMap::new());
                for row in (0..rows).rev() {
                    let first = *naive.entry(digests[row as usize]).or_insert(row);
                    let expected = (first != row).then_some(first);
                    assert_eq!(table.first(row, &digests), expected, "row {row} of {rows}");
                }
            }
        }
    }

    /// The longest run of slots that are taken, which bounds what a row can cost.
    fn longest_run(digests: &[Digest]) -> Option<usize> {
        let mut table = FirstRows::new(digests.len() as u32).unwrap();
        for row in 0..digests.len() as u32 {
            table.first(row, digests);
        }
        table.slots.split(|&slot| slot == 0).map(<[u32]>::len).max()
    }

    #[test]
    fn digests_that_begin_and_end_alike_do_not_crowd() {
        let text = |row: u64, alike: bool| {
            let mut text = digest(row).to_string();
            if alike {
                // The highest and the lowest three bytes of the key.
                text.replace_range(10..16, "c0ffee");
                text.replace_range(0..6, "c0ffee");
            }
            text.parse().unwrap()
        };
        for alike in [false, true] {
            let digests: Vec<Digest> = (0..20_000).map(|row| text(row, alike)).collect();
            assert!(longest_run(&digests).unwrap() < 1_000);
        }
    }
}
