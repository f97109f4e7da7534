//! Step 5: chunks become blocks of whole rows. Pure: no async, no I/O.
//!
//! Chunks come in any size. What lies whole inside a chunk is handed on without a copy; only the
//! one row that crosses a seam between chunks is put together in a buffer of its own.

use bytes::{Bytes, BytesMut};

/// The most rows of a tile.
const MAX_TILE_ROWS: u64 = 64;

/// The most bytes of a tile, but for one of a single row.
const MAX_TILE_BYTES: u64 = 1 << 20;

/// How many rows make a tile. Tiles are runs of rows counted from the matrix's first, the last one
/// being what is left; whatever rounds is summed up within one tile, then tile by tile, so that a
/// sum depends on nothing but the matrix. Hence this must depend on nothing but a row's length.
pub fn tile_rows(row_bytes: u64) -> u64 {
    (MAX_TILE_BYTES / row_bytes.max(1)).clamp(1, MAX_TILE_ROWS)
}

/// A whole number of consecutive rows. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBlock {
    first_row: u64,
    row_bytes: usize,
    bytes: Bytes,
}

impl RowBlock {
    /// The number of the first row, counted in the whole matrix.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.row_bytes)
    }

    /// The row of that number, counted in the whole matrix, if it is in the block.
    pub fn row(&self, number: u64) -> Option<&[u8]> {
        let at = usize::try_from(number.checked_sub(self.first_row)?).ok()?;
        self.rows().nth(at)
    }

    /// The bytes of each row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The bytes of all rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Cuts one stream of chunks into blocks of rows.
#[derive(Debug)]
pub struct RowFramer {
    row_bytes: usize,
    next_row: u64,
    /// The start of a row whose end has not come; always shorter than a row.
    seam: BytesMut,
}

impl RowFramer {
    /// Frames a stream that begins with the first byte of `first_row`. A row has at least one byte.
    pub fn new(first_row: u64, row_bytes: usize) -> Self {
        Self { row_bytes: row_bytes.max(1), next_row: first_row, seam: BytesMut::new() }
    }

    /// Takes a chunk and yields the blocks it completes: the row across the seam, then the run of
    /// rows inside the chunk.
    pub fn push(&mut self, mut chunk: Bytes) -> impl Iterator<Item = RowBlock> + use<> {
        let mut across = None;
        if !self.seam.is_empty() {
            let missing = self.row_bytes - self.seam.len();
            self.seam.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
            if self.seam.len() == self.row_bytes {
                let row = std::mem::take(&mut self.seam).freeze();
                across = Some(self.block(row));
            }
        }
        // While a seam is open the chunk is used up, so its tail never overwrites the seam.
        let tail = chunk.split_off(chunk.len() - chunk.len() % self.row_bytes);
        let inside = (!chunk.is_empty()).then(|| self.block(chunk));
        if !tail.is_empty() {
            self.seam.reserve(self.row_bytes);
            self.seam.extend_from_slice(&tail);
        }
        across.into_iter().chain(inside)
    }

    /// The row that the next completed block begins with.
    pub fn next_row(&self) -> u64 {
        self.next_row
    }

    /// Bytes that are held of an unfinished row; none, if the stream ended with a whole row.
    pub fn held(&self) -> usize {
        self.seam.len()
    }

    fn block(&mut self, bytes: Bytes) -> RowBlock {
        let block = RowBlock { first_row: self.next_row, row_bytes: self.row_bytes, bytes };
        self.next_row += block.len() as u64;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However a matrix is cut into chunks, its rows come out whole and in order.
        #[test]
        fn any_chunking_gives_the_same_rows(
            row_bytes in 1usize..40,
            rows in 0usize..30,
            cuts in prop::collection::vec(0usize..200, 0..40),
            first in 0u64..1000,
        ) {
            let matrix: Vec<u8> = (0..row_bytes * rows).map(|i| (i % 251) as u8).collect();
            let mut rest = Bytes::from(matrix.clone());
            let mut framer = RowFramer::new(first, row_bytes);
            let mut seen: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut take = |framer: &mut RowFramer, chunk: Bytes| {
                let blocks: Vec<RowBlock> = framer.push(chunk).collect();
                assert!(blocks.len() <= 2);
                for block in blocks {
                    for (i, row) in block.rows().enumerate() {
                        seen.push((block.first_row() + i as u64, row.to_vec()));
                    }
                }
            };
            for cut in cuts {
                let chunk = rest.split_to(cut.min(rest.len()));
                take(&mut framer, chunk);
                assert!(framer.held() < row_bytes);
            }
            take(&mut framer, rest);
            prop_assert_eq!(framer.held(), 0);
            prop_assert_eq!(framer.next_row(), first + rows as u64);
            let whole: Vec<(u64, Vec<u8>)> = matrix
                .chunks_exact(row_bytes)
                .enumerate()
                .map(|(i, row)| (first + i as u64, row.to_vec()))
                .collect();
            prop_assert_eq!(seen, whole);
        }
    }

    #[test]
    fn a_tile_has_at_most_64_rows_and_a_megabyte_but_never_less_than_a_row() {
        for (row_bytes, rows) in
            [(1, 64), (16_384, 64), (16_385, 63), (1 << 20, 1), (16 << 20, 1), (0, 64)]
        {
            assert_eq!(tile_rows(row_bytes), rows);
        }
    }

    #[test]
    fn rows_inside_a_chunk_are_not_copied() {
        let chunk = Bytes::from(vec![7u8; 100]);
        let mut framer = RowFramer::new(0, 10);
        let block = framer.push(chunk.clone()).next().unwrap();
        assert_eq!(block.bytes().as_ptr(), chunk.as_ptr());
    }
}
