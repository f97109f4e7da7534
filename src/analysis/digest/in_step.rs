//! Digests of many rows of one length that come side by side: some bytes of each, then some more of
//! each.
//!
//! Kept per row: a block of 64 bytes, the value of its chunk, and one value for each level of the tree
//! above it: 32 bytes for each doubling of its chunks.

use super::{CHUNK_END, CHUNK_START, Digest, IV, PARENT, ROOT};
use blake3::platform::{self, Platform};
use blake3::{BLOCK_LEN, CHUNK_LEN};
use std::collections::TryReserveError;

type Words = [u32; 8];

/// Hashes rows in step.
pub struct InStep {
    platform: Platform,
    row_bytes: usize,
    /// Bytes that each row has had.
    done: usize,
    /// Of these, in its block.
    filled: usize,
    blocks: Vec<[u8; BLOCK_LEN]>,
    values: Vec<Words>,
    /// Of chunks, or of pairs above them, that wait for what comes behind them; the lowest last.
    waiting: Vec<Vec<Words>>,
}

impl InStep {
    /// So many rows of so many bytes, at least one; their memory is claimed here.
    pub fn new(rows: usize, row_bytes: usize) -> Result<Self, TryReserveError> {
        let blocks = crate::analysis::first::claim(rows, [0; BLOCK_LEN])?;
        let values = crate::analysis::first::claim(rows, IV)?;
        let (platform, waiting) = (Platform::detect(), Vec::new());
        Ok(Self { platform, row_bytes, done: 0, filled: 0, blocks, values, waiting })
    }

    /// The next bytes of each row, at most 64: `put` writes a row's, and may be asked for them twice.
    pub fn take(&mut self, count: usize, put: impl Fn(usize, &mut [u8])) {
        let count = count.min(self.row_bytes - self.done);
        self.make_room();
        let first = count.min(BLOCK_LEN - self.filled);
        let part = self.filled..self.filled + first;
        if first == count {
            for (row, block) in self.blocks.iter_mut().enumerate() {
                put(row, &mut block[part.clone()]);
            }
        } else {
            self.across(count, part, 0, &put);
        }
        (self.done, self.filled) = (self.done + first, self.filled + first);
        if first < count {
            self.make_room();
            self.across(count, 0..count - first, first, &put);
            (self.done, self.filled) = (self.done + count - first, count - first);
        }
    }

    /// Puts a part of what does not fit into one block.
    fn across(
        &mut self,
        count: usize,
        to: std::ops::Range<usize>,
        from: usize,
        put: &impl Fn(usize, &mut [u8]),
    ) {
        for (row, block) in self.blocks.iter_mut().enumerate() {
            let mut bytes = [0; BLOCK_LEN];
            put(row, &mut bytes[..count]);
            let length = to.len();
            block[to.clone()].copy_from_slice(&bytes[from..from + length]);
        }
    }

    /// Compresses full blocks. The last is left for the end, which has flags of its own.
    fn make_room(&mut self) {
        if self.filled < BLOCK_LEN || self.done == self.row_bytes {
            return;
        }
        let ends = self.done.is_multiple_of(CHUNK_LEN);
        self.compress(if ends { CHUNK_END } else { 0 });
        self.filled = 0;
        if !ends {
            return;
        }
        // Complete pairs are made one at once; more follows, so that none of them is the root.
        let mut chunks = self.done / CHUNK_LEN;
        let mut spare = None;
        while chunks.is_multiple_of(2) {
            spare = self.pair(0).or(spare);
            chunks /= 2;
        }
        let mut next = spare.unwrap_or_else(|| self.values.clone());
        next.fill(IV);
        self.waiting.push(std::mem::replace(&mut self.values, next));
    }

    fn compress(&mut self, flags: u8) {
        let (begun, chunk) = ((self.done - self.filled) % CHUNK_LEN, (self.done - 1) / CHUNK_LEN);
        let flags = flags | if begun == 0 { CHUNK_START } else { 0 };
        let (length, platform) = (self.filled as u8, self.platform);
        for (value, block) in self.values.iter_mut().zip(&self.blocks) {
            platform.compress_in_place(value, block, length, chunk as u64, flags);
        }
    }

    /// Makes each row's value one with the one that waits for it.
    fn pair(&mut self, root: u8) -> Option<Vec<Words>> {
        let left = self.waiting.pop()?;
        for (value, left) in self.values.iter_mut().zip(&left) {
            let mut block = [0; BLOCK_LEN];
            let (first, second) = block.split_at_mut(BLOCK_LEN / 2);
            first.copy_from_slice(&platform::le_bytes_from_words_32(left));
            second.copy_from_slice(&platform::le_bytes_from_words_32(value));
            *value = IV;
            let flags = PARENT | root;
            self.platform.compress_in_place(value, &block, BLOCK_LEN as u8, 0, flags);
        }
        Some(left)
    }

    /// The digests, once each row has had all its bytes; nothing before.
    pub fn finish(mut self) -> Option<Vec<Digest>> {
        if self.done != self.row_bytes {
            return None;
        }
        for block in &mut self.blocks {
            block[self.filled..].fill(0);
        }
        self.compress(if self.waiting.is_empty() { CHUNK_END | ROOT } else { CHUNK_END });
        while !self.waiting.is_empty() {
            let root = if self.waiting.len() == 1 { ROOT } else { 0 };
            self.pair(root);
        }
        self.blocks = Vec::new();
        Some(
            self.values
                .iter()
                .map(|value| Digest(platform::le_bytes_from_words_32(value)))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(rows: usize, row_bytes: usize, steps: &[usize]) -> Vec<Digest> {
        let byte = |row: usize, at: usize| (row * 31 + at * 7 + at / 251) as u8;
        let mut all = InStep::new(rows, row_bytes).unwrap();
        let mut steps = steps.iter().cycle();
        let mut at = 0;
        while at < row_bytes {
            let step = *steps.next().unwrap();
            let count = step.min(row_bytes - at);
            all.take(step, |row, out| {
                assert_eq!(out.len(), count);
                for (place, out) in out.iter_mut().enumerate() {
                    *out = byte(row, at + place);
                }
            });
            at += count;
        }
        let found = all.finish().unwrap();
        let row = |row: usize| (0..row_bytes).map(|at| byte(row, at)).collect::<Vec<u8>>();
        let expected: Vec<Digest> = (0..rows).map(|r| Digest::of(&row(r))).collect();
        assert_eq!(found, expected, "{rows} rows of {row_bytes} bytes");
        found
    }

    #[test]
    fn digests_are_those_of_the_rows_at_every_length() {
        for row_bytes in (1..=300).chain(960..=1100).chain([2047, 2048, 2049, 3072, 4096, 5000]) {
            digests(2, row_bytes, &[8, 8, 3]);
        }
        // Trees of every shape.
        for chunks in 1..=17 {
            digests(1, chunks * CHUNK_LEN, &[64]);
            digests(1, chunks * CHUNK_LEN + 1, &[32, 5]);
        }
    }

    #[test]
    fn however_bytes_come_the_digests_are_the_same() {
        let expected = digests(3, 2500, &[1]);
        for steps in [&[64][..], &[63], &[2, 1, 8, 64, 7], &[40, 40]] {
            assert_eq!(digests(3, 2500, steps), expected);
        }
    }

    #[test]
    fn there_are_none_before_all_bytes_have_come() {
        let mut all = InStep::new(1, 100).unwrap();
        all.take(64, |_, out| out.fill(1));
        assert!(all.finish().is_none());
    }
}
