//! Rows that lie in several files or places, as if they lay side by side in one.
//!
//! Each row is made of what belongs to it in each strand, in their order. What is a row's own is
//! streamed, all strands in step; what rows share is read once, whole, and held.

use super::{ByteSource, read};
use crate::error::{Error, Result};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::future::try_join_all;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Which bytes of a tensor belong to row `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Its own: the `r`-th record of so many bytes.
    Own {
        /// Bytes of a record.
        width: u64,
    },
    /// The record of its block of so many rows.
    Block {
        /// Bytes of a record.
        width: u64,
        /// Rows that share it.
        rows: u64,
    },
    /// The elements with the numbers `(r · count + i) / share`, for each `i` below `count`.
    Elements {
        /// Bytes of an element.
        width: u64,
        /// Elements of a row.
        count: u64,
        /// Neighbours that share one.
        share: u64,
    },
    /// Of words of 32 bits that hold a field for each of several rows, lowest bits first: its field of
    /// each of the `count` words of its block, a byte for each.
    Fields {
        /// Bits of a field.
        bits: u64,
        /// Words of a block.
        count: u64,
        /// Whether they lie one behind the other, across the ends of words; else as many in a word as have
        /// room.
        dense: bool,
    },
}

impl Share {
    /// Bytes that it adds to a row.
    pub fn width(self) -> u64 {
        match self {
            Self::Own { width } | Self::Block { width, .. } => width,
            Self::Elements { width, count, .. } => width * count,
            Self::Fields { count, .. } => count,
        }
    }

    /// Whether rows have bytes of their own, so that these are read with the rows and not before.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Own { .. })
    }

    /// Adds what belongs to a row, of all bytes of a tensor that rows share; nothing past their end.
    pub fn of(self, all: &[u8], row: u64, out: &mut Vec<u8>) {
        let mut take = |at: u64, width: u64| {
            let at = at.saturating_mul(width) as usize;
            out.extend_from_slice(all.get(at..at + width as usize).unwrap_or_default());
        };
        match self {
            Self::Own { width } => take(row, width),
            Self::Block { width, rows } => take(row / rows, width),
            Self::Elements { width, count, share } => {
                (0..count).for_each(|i| take((row * count + i) / share, width));
            }
            Self::Fields { bits, count, dense } => {
                let per = 32 / bits;
                let bit = if dense { row * bits } else { row / per * 32 + row % per * bits };
                let words = all.as_chunks::<4>().0;
                let word = |at: u64| {
                    words.get(at as usize).map(|&word| u64::from(u32::from_le_bytes(word)))
                };
                // A field may go on in the word that lies below, a line of words further.
                let first = bit / 32 * count;
                out.extend((first..first + count).map_while(|at| {
                    let both = word(at)? | word(at + count).unwrap_or(0) << 32;
                    Some((both >> (bit % 32) & ((1 << bits) - 1)) as u8)
                }));
            }
        }
    }
}

/// One of the places that rows lie in.
pub struct Strand {
    /// The file.
    pub source: Arc<dyn ByteSource>,
    /// Its bytes that belong to rows.
    pub bytes: Range<u64>,
    /// Which of these belong to which.
    pub share: Share,
}

/// Rows made of strands. Cheap to clone.
#[derive(Clone)]
pub struct Interleaved(Arc<Strands>);

struct Strands {
    strands: Vec<Strand>,
    rows: u64,
    row_bytes: u64,
    identity: Option<String>,
    /// All bytes of the strands that rows share; nothing of the others.
    shared: OnceCell<Vec<Bytes>>,
}

/// Bytes of rows that are put together at a time.
const STEP: u64 = 256 << 10;

impl Interleaved {
    /// So many rows of these strands, of which one at least has bytes of each row's own.
    pub fn new(strands: Vec<Strand>, rows: u64) -> Self {
        let row_bytes = strands.iter().map(|strand| strand.share.width()).sum();
        let identity = |Strand { source, bytes, share }: &Strand| {
            Some(format!("{share:?} of bytes {bytes:?} of {}", source.sha256()?))
        };
        let identity: Option<Vec<String>> = strands.iter().map(identity).collect();
        let identity = identity.map(|parts| parts.join(", "));
        Self(Arc::new(Strands { strands, rows, row_bytes, identity, shared: OnceCell::new() }))
    }

    async fn shared(&self) -> Result<&Vec<Bytes>> {
        let read = || {
            try_join_all(self.0.strands.iter().map(|strand| async {
                match strand.share.is_own() {
                    true => Ok(Bytes::new()),
                    false => read(strand.source.as_ref(), strand.bytes.clone()).await,
                }
            }))
        };
        self.0.shared.get_or_try_init(read).await
    }
}

impl ByteSource for Interleaved {
    fn name(&self) -> &str {
        self.0.strands.first().map_or("", |strand| strand.source.name())
    }

    fn size(&self) -> u64 {
        self.0.rows * self.0.row_bytes
    }

    fn sha256(&self) -> Option<&str> {
        self.0.identity.as_deref()
    }

    fn is_local(&self) -> bool {
        self.0.strands.iter().all(|strand| strand.source.is_local())
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let row_bytes = self.0.row_bytes.max(1);
        let rows = range.start / row_bytes..range.end.div_ceil(row_bytes);
        let own = |Strand { source, bytes, share }: &Strand| match share {
            Share::Own { width } => {
                let at = |row: u64| bytes.start + row * width;
                let stream = source.stream(at(rows.start)..at(rows.end));
                Some(Own { stream, waiting: BytesMut::new(), width: *width as usize })
            }
            _ => None,
        };
        let reader = Reader {
            owns: self.0.strands.iter().map(own).collect(),
            from: self.clone(),
            left: range.end - range.start,
            skip: range.start % row_bytes,
            rows,
        };
        stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })
        .boxed()
    }
}

/// A strand that is streamed.
struct Own {
    stream: BoxStream<'static, Result<Bytes>>,
    waiting: BytesMut,
    width: usize,
}

struct Reader {
    from: Interleaved,
    owns: Vec<Option<Own>>,
    rows: Range<u64>,
    /// Bytes of the first row that were not asked for.
    skip: u64,
    /// Bytes that are still to be handed out.
    left: u64,
}

impl Reader {
    /// The next rows, cut to what was asked for; an empty chunk tells of a try that failed.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let step = (STEP / self.from.0.row_bytes.max(1)).max(1);
        let rows = self.rows.start..self.rows.end.min(self.rows.start + step);
        let count = (rows.end - rows.start) as usize;
        for own in self.owns.iter_mut().flatten() {
            while own.waiting.len() < own.width * count {
                match own.stream.next().await {
                    Some(chunk) => {
                        let chunk = chunk?;
                        if chunk.is_empty() {
                            return Ok(Some(chunk));
                        }
                        own.waiting.extend_from_slice(&chunk);
                    }
                    None => {
                        let what = "it ended before its last row";
                        return Err(Error::format(self.from.name(), what));
                    }
                }
            }
        }
        let shared = self.from.shared().await?;
        let mut out = Vec::with_capacity(count * self.from.0.row_bytes as usize);
        for row in rows.clone() {
            for ((strand, own), shared) in
                self.from.0.strands.iter().zip(&mut self.owns).zip(shared)
            {
                match own {
                    Some(own) => {
                        out.extend_from_slice(&own.waiting[..own.width]);
                        own.waiting.advance(own.width);
                    }
                    None => strand.share.of(shared, row, &mut out),
                }
            }
        }
        if out.len() as u64 != count as u64 * self.from.0.row_bytes {
            return Err(Error::format(self.from.name(), "what its rows share is too short"));
        }
        self.rows.start = rows.end;
        let skip = std::mem::take(&mut self.skip) as usize;
        let bytes = Bytes::from(out).slice(skip..);
        let bytes =
            bytes.slice(..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;
    use proptest::prelude::*;

    fn strand(bytes: &[u8], lead: usize, chunk: usize, share: Share) -> Strand {
        let file: Vec<u8> = vec![0xEE; lead].into_iter().chain(bytes.iter().copied()).collect();
        let (start, end) = (lead as u64, file.len() as u64);
        let source = Arc::new(MemorySource::new("f", file).chunked(chunk));
        Strand { source, bytes: start..end, share }
    }

    #[test]
    fn what_rows_share_is_found_for_each() {
        let of = |share: Share, all: &[u8], row| {
            let mut out = Vec::new();
            share.of(all, row, &mut out);
            assert_eq!(out.len() as u64, share.width());
            out
        };
        let all: Vec<u8> = (0..24).collect();
        assert_eq!(of(Share::Block { width: 3, rows: 128 }, &all, 127), [0, 1, 2]);
        assert_eq!(of(Share::Block { width: 3, rows: 128 }, &all, 128), [3, 4, 5]);
        let elements = Share::Elements { width: 2, count: 3, share: 4 };
        // Elements 0 to 2, 3 to 5, 6 to 8, of which four share one.
        assert_eq!(of(elements, &all, 0), [0, 1, 0, 1, 0, 1]);
        assert_eq!(of(elements, &all, 1), [0, 1, 2, 3, 2, 3]);
        assert_eq!(of(elements, &all, 2), [2, 3, 2, 3, 4, 5]);
        // Eight fields of four bits to a word, two words to a block.
        let words: Vec<u8> = [0x7654_3210u32, 0xfedc_ba98, 0x0000_0009, 0x0000_000a]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let fields = Share::Fields { bits: 4, count: 2, dense: true };
        assert_eq!(of(fields, &words, 0), [0, 8]);
        assert_eq!(of(fields, &words, 7), [7, 15]);
        assert_eq!(of(fields, &words, 8), [9, 10]);
    }

    #[test]
    fn fields_of_any_width_are_found_with_gaps_and_without() {
        for bits in 1..=8u32 {
            let field = |row: u32, word: u32| u64::from((row * 7 + word * 3) % (1 << bits));
            for dense in [true, false] {
                // Two words to a block, 40 rows; the bits of a column of words, one after another.
                let columns = [0, 1].map(|word| {
                    let mut column = vec![0u32; 40];
                    for row in 0..40u32 {
                        let per = 32 / bits;
                        let bit = match dense {
                            true => row * bits,
                            false => row / per * 32 + row % per * bits,
                        };
                        let both = field(row, word) << (bit % 32);
                        let at = bit as usize / 32;
                        column[at] |= both as u32;
                        column[at + 1] |= (both >> 32) as u32;
                    }
                    column
                });
                let words: Vec<u8> = (0..40)
                    .flat_map(|at| [columns[0][at], columns[1][at]])
                    .flat_map(u32::to_le_bytes)
                    .collect();
                let share = Share::Fields { bits: bits.into(), count: 2, dense };
                for row in 0..40u32 {
                    let mut out = Vec::new();
                    share.of(&words, row.into(), &mut out);
                    assert_eq!(out, [field(row, 0) as u8, field(row, 1) as u8], "{bits} {dense}");
                }
            }
        }
    }

    proptest! {
        /// Whatever the chunks and the range, what comes are the rows put together one by one.
        #[test]
        fn strands_come_in_step(
            rows in 1u64..60,
            widths in prop::collection::vec(1u64..40, 1..4),
            block in 1u64..9,
            chunk in 1usize..50,
            ends in any::<(u16, u16)>(),
        ) {
            let bytes = |strand: u64, length: u64| -> Vec<u8> {
                (0..length).map(|at| (at * 7 + strand * 31) as u8).collect()
            };
            let shared = Share::Block { width: 5, rows: block };
            let table = bytes(9, rows.div_ceil(block) * 5);
            let owns: Vec<Vec<u8>> =
                (0..).zip(&widths).map(|(n, width)| bytes(n, rows * width)).collect();
            let mut strands: Vec<Strand> = owns
                .iter()
                .zip(&widths)
                .map(|(bytes, &width)| strand(bytes, 3, chunk, Share::Own { width }))
                .collect();
            strands.insert(1, strand(&table, 8, chunk, shared));
            let source = Interleaved::new(strands, rows);
            let mut naive = Vec::new();
            for row in 0..rows {
                for (number, (bytes, width)) in owns.iter().zip(&widths).enumerate() {
                    naive.extend_from_slice(&bytes[(row * width) as usize..][..*width as usize]);
                    if number == 0 {
                        shared.of(&table, row, &mut naive);
                    }
                }
            }
            prop_assert_eq!(source.size(), naive.len() as u64);
            let (a, b) = (u64::from(ends.0) % (source.size() + 1), u64::from(ends.1) % (source.size() + 1));
            for range in [0..source.size(), a.min(b)..a.max(b)] {
                let come = futures::executor::block_on(read(&source, range.clone())).unwrap();
                prop_assert_eq!(&come[..], &naive[range.start as usize..range.end as usize]);
            }
        }
    }
}
