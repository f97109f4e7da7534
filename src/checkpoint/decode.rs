//! Decoding a header without I/O: a decoder says which bytes it needs next, or that it is done.
//! One driver serves every decoder over every source.

use super::pytorch::Member;
use super::{Entries, TensorRecord};
use crate::error::Result;
use crate::source::ByteSource;
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::HashMap;
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
///
/// It never asks for bytes beyond the file's length, and holds every length that the file claims
/// against it before it asks or makes room.
pub trait HeaderDecoder {
    /// Takes a part of the bytes that the last step asked for; parts come in order.
    fn feed(&mut self, part: Bytes);

    /// The vocabulary that the header holds, once it is done.
    fn entries(&mut self) -> Option<Entries> {
        None
    }

    /// Where tensors lie whose bytes are told by a part of the file that has not been read, once it is
    /// done; by their names.
    fn members(&mut self) -> HashMap<String, Member> {
        HashMap::new()
    }

    /// Says what is wanted, once all that was asked for has been fed.
    fn step(&mut self) -> Result<Step>;
}

/// Reads what the decoder asks for until it is done.
pub async fn decode(
    source: &dyn ByteSource,
    decoder: &mut (dyn HeaderDecoder + Send),
) -> Result<Vec<TensorRecord>> {
    loop {
        match decoder.step()? {
            Step::Need(range) => {
                let mut stream = source.stream(range);
                while let Some(part) = stream.next().await {
                    decoder.feed(part?);
                }
            }
            Step::Done(tensors) => return Ok(tensors),
        }
    }
}
