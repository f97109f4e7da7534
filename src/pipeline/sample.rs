//! Whether a stored head is the input embedding once more: a few rows of both, compared.
//!
//! A flag says that the two are one, and yet both are stored. Headers cannot tell a copy from a head
//! that was trained by itself; reading both whole would double what a scan costs.

use crate::error::Result;
use crate::head::{Matrix, Sample};
use crate::source::{self, ByteSource, Share};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use std::ops::Range;

/// Rows that are compared, where there are so many.
const ROWS: u64 = 8;

/// Rows that are read at a time: one request brings neighbours at the price of one.
const PAIR: u64 = 2;

/// The longest row that is compared; those of the widest heads known have 64 kB.
const MAX_ROW_BYTES: u64 = 1 << 20;

/// Compares rows of two matrices, each of one span; nothing where these are no rows of the same kind.
pub(super) async fn sample(
    matrix: &Matrix,
    source: &dyn ByteSource,
    twin: &Matrix,
    twin_source: &dyn ByteSource,
    connections: usize,
) -> Result<Option<Sample>> {
    let kind = |matrix: &Matrix| {
        let layout = matrix.layout.as_ref();
        let parts = layout.map(|layout| layout.parts.iter().map(|part| part.share).collect());
        let parts: Option<Vec<Share>> = parts;
        // Where tokens are columns, no row is a run of bytes.
        let runs = layout.is_none_or(|layout| layout.turned.is_empty());
        runs.then(|| (matrix.dtype.clone(), matrix.rows, matrix.columns, matrix.row_bytes, parts))
    };
    let alike = kind(matrix).is_some_and(|own| kind(twin) == Some(own));
    let ([span], [twin_span]) = (matrix.spans.as_slice(), twin.spans.as_slice()) else {
        return Ok(None);
    };
    if !alike || matrix.row_bytes > MAX_ROW_BYTES || matrix.rows == 0 {
        return Ok(None);
    }
    let row_bytes = matrix.row_bytes;
    let bytes_of = |start: u64, rows: &Range<u64>| {
        start + rows.start * row_bytes..start + rows.end * row_bytes
    };
    let places = places(matrix.rows);
    let rows = places.iter().map(|rows| rows.end - rows.start).sum();
    let reads: Vec<_> = places
        .iter()
        .flat_map(|rows| {
            [
                source::read(source, bytes_of(span.bytes.start, rows)),
                source::read(twin_source, bytes_of(twin_span.bytes.start, rows)),
            ]
        })
        .collect();
    let read: Vec<Bytes> =
        futures::stream::iter(reads).buffered(connections.max(1)).try_collect().await?;
    let width = row_bytes as usize;
    let equal = read
        .chunks_exact(2)
        .flat_map(|both| both[0].chunks_exact(width).zip(both[1].chunks_exact(width)))
        .filter(|(head, embedding)| head == embedding)
        .count() as u64;
    Ok(Some(Sample { tensor: twin.tensor.clone(), rows, equal }))
}

/// Which rows are compared: pairs at even distances, the first and the last row among them.
fn places(rows: u64) -> Vec<Range<u64>> {
    if rows <= ROWS {
        return std::iter::once(0..rows).collect();
    }
    let last = ROWS / PAIR - 1;
    let start = |number: u64| (rows - PAIR) * number / last;
    (0..=last).map(|number| start(number)..start(number) + PAIR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_row_are_compared_and_none_twice() {
        for rows in (1..200).chain([151_936, 1 << 24]) {
            let places = places(rows);
            assert_eq!(
                places.iter().map(|place| place.end - place.start).sum::<u64>(),
                rows.min(8)
            );
            assert_eq!((places[0].start, places[places.len() - 1].end), (0, rows));
            assert!(places.windows(2).all(|two| two[0].end <= two[1].start), "{places:?}");
        }
    }
}
