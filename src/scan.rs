//! Step 6: one pass over a matrix: several range streams, their rows, an analysis.
//!
//! Memory: what the analysis keeps per row, and for each stream one chunk as the source hands it
//! out (half a megabyte over HTTP, one from a file) and one row across a seam. Nothing grows with
//! the width of the matrix beyond that row, nor with the number of segments.

use crate::analysis::Analysis;
use crate::error::{Error, Result};
use crate::head::{Matrix, Span};
use crate::observe::{Event, Observer};
use crate::rows::{self, RowFramer};
use crate::source::{self, ByteSource};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use width::{State, Width};

mod columns;
mod width;

pub use columns::{Columns, Wanted, segments};

/// The longest segment, one request each: from 8 MiB up a request costs nothing beside its bytes,
/// and a shorter one serves memory and the tries that follow a break.
const MAX_SEGMENT: u64 = 16 << 20;

/// The shortest segment, but for the last: below it a connection costs more than it brings.
const MIN_SEGMENT: u64 = 1 << 20;

/// The length that segments shrink to at the end, so that streams of different rates, or that did not
/// begin together, end together.
const LAST_SEGMENT: u64 = 4 << 20;

/// How a matrix is cut: ranges of rows, in order, one request each. No cut goes through a tile, so
/// that each tile comes in the order of its rows, from one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first row of each segment, and the end of the last.
    cuts: Arc<[u64]>,
    /// Places inside of segments where the rows go on in another tensor.
    seams: u64,
    streams: usize,
    few: bool,
}

impl Plan {
    /// Cuts a matrix for at most so many streams at a time; a small one needs fewer.
    pub fn new(matrix: &Matrix, connections: NonZeroUsize) -> Self {
        let (streams, row_bytes) = (connections.get() as u64, matrix.row_bytes);
        let tile = rows::tile_rows(row_bytes);
        let most = (MAX_SEGMENT / row_bytes / tile * tile).max(tile);
        // Up, so that what cuts leave over is no segment of its own.
        let whole = |bytes: u64| bytes.div_ceil(row_bytes).next_multiple_of(tile).min(most);
        let longest = matrix.bytes().div_ceil(streams).clamp(MIN_SEGMENT, MAX_SEGMENT);
        let mut cuts = vec![0];
        let mut first = 0;
        while first < matrix.rows {
            let left = (matrix.rows - first) * row_bytes;
            let share = left.div_ceil(streams).clamp(LAST_SEGMENT.min(longest), longest);
            first = (first + whole(share)).min(matrix.rows);
            cuts.push(first);
        }
        let streams = connections.get().min(cuts.len() - 1);
        let inside =
            |span: &&Span| !span.rows.is_empty() && cuts.binary_search(&span.rows.start).is_err();
        let seams = matrix.spans.iter().filter(inside).count() as u64;
        Self { cuts: cuts.into(), seams, streams, few: false }
    }

    /// The same for an analysis that looks at few of a matrix's pages.
    pub fn for_few(self) -> Self {
        Self { few: true, ..self }
    }

    /// The rows of a segment, or nothing past the last.
    fn segment(&self, number: usize) -> Option<Range<u64>> {
        let end = *self.cuts.get(number.checked_add(1)?)?;
        Some(self.cuts[number]..end)
    }

    /// How many range requests a scan sends when nothing breaks.
    pub fn requests(&self) -> u64 {
        (self.cuts.len() - 1) as u64 + self.seams
    }

    /// How many streams run at a time, at most.
    pub fn streams(&self) -> usize {
        self.streams
    }
}

/// The segments that are left, and how many streams may work on them.
struct Segments {
    plan: Plan,
    left: Mutex<(usize, Width)>,
    changed: Notify,
}

impl Segments {
    fn new(plan: &Plan) -> Self {
        let left = Mutex::new((0, Width::new(plan.streams)));
        Self { plan: plan.clone(), left, changed: Notify::new() }
    }

    /// The next segment of a stream, once it may have one; `None` when none is left.
    async fn next(&self, state: &mut State) -> Option<Range<u64>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut left = self.left();
                let (number, width) = &mut *left;
                let Some(rows) = self.plan.segment(*number) else {
                    width.leave(state);
                    self.changed.notify_waiters();
                    return None;
                };
                if width.admit(state) {
                    *number += 1;
                    return Some(rows);
                }
            }
            changed.await;
        }
    }

    /// A stream's chunk; an empty one tells of a try that failed.
    fn came(&self, state: &mut State, bytes: u64) {
        let mut left = self.left();
        let (width, now) = (&mut left.1, Instant::now());
        let room = width.room();
        match bytes {
            0 => width.failed(state, now),
            _ => width.received(state, bytes, now),
        }
        if width.room() > room {
            self.changed.notify_waiters();
        }
    }

    fn left(&self) -> MutexGuard<'_, (usize, Width)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads every row of the matrix once and shows it to the analysis. The first failure ends all
/// streams; there is no finding then. Each span of the matrix has its source.
pub async fn scan<A: Analysis + 'static>(
    sources: &[Arc<dyn ByteSource>],
    matrix: &Matrix,
    plan: &Plan,
    analysis: A,
    observer: Arc<dyn Observer>,
) -> Result<A::Finding> {
    let segments = Arc::new(Segments::new(plan));
    let (matrix, sources) = (Arc::new(matrix.clone()), Arc::new(sources.to_vec()));
    let few = plan.few;
    let mut streams = JoinSet::new();
    for _ in 0..plan.streams {
        let mut part = analysis.fork();
        let (matrix, sources) = (Arc::clone(&matrix), Arc::clone(&sources));
        let (segments, observer) = (Arc::clone(&segments), Arc::clone(&observer));
        streams.spawn(async move {
            let mut state = State::Idle;
            while let Some(rows) = segments.next(&mut state).await {
                for (span, rows, bytes) in matrix.pieces(rows) {
                    let source = &sources[span];
                    let stream =
                        if few { source.stream_for_few(bytes) } else { source.stream(bytes) };
                    let stream = stream.inspect_ok(|chunk| {
                        segments.came(&mut state, chunk.len() as u64);
                    });
                    let row_bytes = matrix.row_bytes;
                    read_rows(stream, &rows, row_bytes, &mut part, observer.as_ref()).await?;
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = streams.join_next().await {
        // A task that panicked has lost rows; dropping the set ends the others.
        ended.map_err(|_| lost("a stream stopped"))??;
    }
    observer.event(&Event::Done);
    analysis.finish()
}

/// Reads some rows again, several at a time; they come in the order asked for.
pub async fn rows_again(
    sources: &[Arc<dyn ByteSource>],
    matrix: &Matrix,
    plan: &Plan,
    rows: &[u64],
) -> Result<Vec<Bytes>> {
    let pieces = rows.iter().flat_map(|&row| matrix.pieces(row..row + 1));
    let read = pieces.map(|(span, _, bytes)| source::read(sources[span].as_ref(), bytes));
    futures::stream::iter(read).buffered(plan.streams.max(1)).try_collect().await
}

/// Rows of one tensor: their chunks, framed, in order.
async fn read_rows<A: Analysis>(
    mut stream: impl Stream<Item = Result<Bytes>> + Unpin,
    rows: &Range<u64>,
    row_bytes: u64,
    analysis: &mut A,
    observer: &dyn Observer,
) -> Result<()> {
    // A row has at most MAX_ROW_BYTES, as the matrix was checked.
    let mut framer = RowFramer::new(rows.start, row_bytes as usize);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if chunk.is_empty() {
            continue;
        }
        // Before they are looked at: what ends a scan early ends it in the midst of them.
        observer.event(&Event::Received { bytes: chunk.len() as u64 });
        for block in framer.push(chunk) {
            if block.first_row() + block.len() as u64 > rows.end {
                return Err(lost("a source sent more than was asked for"));
            }
            analysis.block(&block)?;
        }
    }
    if framer.next_row() != rows.end || framer.held() > 0 {
        return Err(lost("a source sent less than was asked for"));
    }
    Ok(())
}

fn lost(what: &str) -> Error {
    Error::format("the matrix", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Digest, Duplicates, Equality};
    use crate::checkpoint::Dtype;
    use crate::head::Role;
    use crate::observe::Silent;
    use crate::source::MemorySource;

    fn matrix(rows: u64, row_bytes: u64, offset: u64) -> Matrix {
        Matrix {
            role: Role::Tensor,
            tensor: "t".into(),
            file: "f".into(),
            tied: None,
            reason: String::new(),
            dtype: Dtype::U8,
            rows,
            columns: row_bytes,
            row_bytes,
            spans: vec![Span {
                tensor: "t".into(),
                file: "f".into(),
                rows: 0..rows,
                bytes: offset..offset + rows * row_bytes,
            }],
            sample: None,
            scales: Vec::new(),
            layout: None,
            numbers: Dtype::U8.into(),
        }
    }

    #[test]
    fn segments_cover_every_row_once() {
        for (rows, row_bytes, connections) in [
            (151_936, 4096, 8),
            (10, 3, 8),
            (1, 1, 1),
            (0, 4, 8),
            (7, 5 << 20, 3),
            (40, 1 << 20, 2),
            (100_000, 3000, 7),
            (1000, 700_000, 8),
            (300, 96 << 10, 5),
            (5, 16 << 20, 2),
            (3, 17 << 20, 2),
        ] {
            let matrix = matrix(rows, row_bytes, 9);
            let plan = Plan::new(&matrix, NonZeroUsize::new(connections).unwrap());
            let tile = rows::tile_rows(row_bytes);
            let mut reached = 0;
            for segment in (0..).map_while(|number| plan.segment(number)) {
                assert_eq!(segment.start, reached);
                assert!(segment.end > segment.start);
                assert!(segment.start.is_multiple_of(tile));
                assert!((segment.end - segment.start) * row_bytes <= MAX_SEGMENT.max(row_bytes));
                reached = segment.end;
            }
            assert_eq!(reached, rows);
            assert!(plan.streams() <= connections && plan.streams() as u64 <= plan.requests());
        }
    }

    #[test]
    fn every_chunking_and_number_of_streams_finds_the_same() {
        let (rows, width, offset) = (30_000u64, 96u64, 13u64);
        let mut file = vec![1u8; offset as usize];
        // Row 5k + 3 repeats row 5k.
        let value = |row: u64| if row % 5 == 3 { row - 3 } else { row };
        file.extend((0..rows).flat_map(|row| {
            (0..width).map(move |i| if i < 8 { (value(row) >> (8 * i)) as u8 } else { i as u8 })
        }));
        let digests: Vec<Digest> =
            file[offset as usize..].chunks(width as usize).map(Digest::of).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for chunk in [1 << 20, 95, 4096] {
            for connections in [1, 3, 8] {
                let matrix = matrix(rows, width, offset);
                let source = MemorySource::new("f", file.clone()).chunked(chunk);
                let sources = [Arc::new(source) as Arc<dyn ByteSource>];
                let plan = Plan::new(&matrix, NonZeroUsize::new(connections).unwrap());
                let analysis =
                    Duplicates::new(rows, Dtype::U8, Equality::Bits, Arc::new(Silent)).unwrap();
                let observer = Arc::new(Silent);
                let found =
                    runtime.block_on(scan(&sources, &matrix, &plan, analysis, observer)).unwrap();
                assert_eq!(found.matrix_digest, Some(Digest::of_all(&digests)));
                assert_eq!(found.groups.len() as u64, rows / 5);
                assert_eq!(found.groups[1].rows, [5, 8]);
            }
        }
    }
}
