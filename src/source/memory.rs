//! A source over a buffer, for tests and for callers that hold the bytes already.

use super::ByteSource;
use crate::error::{Error, Result};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::ops::Range;

/// Bytes in memory, served in chunks of a chosen size.
#[derive(Debug, Clone)]
pub struct MemorySource {
    name: String,
    bytes: Bytes,
    chunk: usize,
}

impl MemorySource {
    /// Serves `bytes` in one chunk.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), bytes: bytes.into(), chunk: usize::MAX }
    }

    /// Serves in chunks of at most `bytes` bytes, at least one.
    pub fn chunked(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_local(&self) -> bool {
        true
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let inside = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let Some((start, end)) = inside.filter(|&(s, e)| s <= e && e <= self.bytes.len()) else {
            let error = Error::format(&self.name, "the range lies outside the file");
            return stream::iter([Err(error)]).boxed();
        };
        let mut rest = self.bytes.slice(start..end);
        let chunk = self.chunk;
        stream::iter(std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| Ok(rest.split_to(chunk.min(rest.len()))))
        }))
        .boxed()
    }
}
