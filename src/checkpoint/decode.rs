//! Decoding a header without I/O: a decoder says which bytes it needs next, or that it is done.
//! One driver serves every decoder over every source.

use super::TensorRecord;
use crate::error::Result;
use crate::source::{self, ByteSource};
use bytes::Bytes;
use std::ops::Range;

/// What a decoder wants.
#[derive(Debug)]
pub enum Step {
    /// These bytes of the file, in one piece.
    Need(Range<u64>),
    /// Nothing more: the tensors of the file, in the order of their bytes.
    Done(Vec<TensorRecord>),
}

/// A decoder of one container format's header.
pub trait HeaderDecoder {
    /// Takes the bytes that the last step asked for, or nothing at the start.
    ///
    /// A decoder never asks for bytes beyond the file's length, and checks every length that the
    /// file claims against it before it asks.
    fn step(&mut self, bytes: Option<Bytes>) -> Result<Step>;
}

/// Reads what the decoder asks for until it is done.
pub async fn decode(
    source: &dyn ByteSource,
    decoder: &mut (dyn HeaderDecoder + Send),
) -> Result<Vec<TensorRecord>> {
    let mut bytes = None;
    loop {
        match decoder.step(bytes.take())? {
            Step::Need(range) => bytes = Some(source::read(source, range).await?),
            Step::Done(tensors) => return Ok(tensors),
        }
    }
}
