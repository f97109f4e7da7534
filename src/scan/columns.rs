//! One pass over a matrix whose tokens are columns: lines in the order of the files, digests in step.
//!
//! Memory: what [`InStep`] keeps per token, and one line and one segment for each stream. A token's bytes
//! are complete with the last line, so that nothing is known before.

use super::lost;
use crate::analysis::{Digest, InStep};
use crate::error::{Error, Result};
use crate::head::{Layout, Packing};
use crate::observe::{Event, Observer};
use crate::rows::RowFramer;
use crate::source::{self, ByteSource};
use futures::{StreamExt as _, stream};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one request; one for each stream is held in memory.
const SEGMENT: u64 = 2 << 20;

/// How the bytes of one tensor are cut.
pub fn segments(bytes: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = bytes.end;
    (bytes.start..end).step_by(SEGMENT as usize).map(move |at| at..end.min(at + SEGMENT))
}

/// The digests of all tokens, each over what its tensors hold of it, one after another. Each part of the
/// layout has its source.
pub async fn columns(
    sources: &[Arc<dyn ByteSource>],
    layout: &Layout,
    streams: usize,
    observer: &dyn Observer,
) -> Result<Vec<Digest>> {
    let too_many = || Error::Usage {
        what: format!("the digests of {} tokens in step do not fit into memory", layout.rows),
    };
    let tokens = usize::try_from(layout.rows).map_err(|_| too_many())?;
    let width: u64 = layout.parts.iter().map(|part| part.share.width()).sum();
    let mut digests = InStep::new(tokens, width as usize).map_err(|_| too_many())?;
    for ((part, &packing), source) in layout.parts.iter().zip(&layout.turned).zip(sources) {
        let read = segments(&part.bytes).map(|bytes| source::read(source.as_ref(), bytes));
        let mut chunks = stream::iter(read).buffered(streams.max(1));
        let mut framer = RowFramer::new(0, packing.line_bytes(layout.rows) as usize);
        // Codes that the last line has room for and the token does not have.
        let mut left = part.share.width() as usize;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            observer.event(&Event::Received { bytes: chunk.len() as u64 });
            for block in framer.push(chunk) {
                for line in block.rows() {
                    let count = packing.width().min(left);
                    left -= count;
                    add(&mut digests, packing, line, tokens, count);
                }
            }
        }
        if left > 0 || framer.held() > 0 {
            return Err(lost("a source sent less than was asked for"));
        }
    }
    digests.finish().ok_or_else(|| lost("tokens are not complete"))
}

fn add(digests: &mut InStep, packing: Packing, line: &[u8], tokens: usize, count: usize) {
    digests.take(count, |token, out| packing.put(line, token, tokens, out));
}
