//! The GGUF header: metadata, then the tensors' names, shapes, types and places, then their bytes.
//!
//! Beside the tensors it holds a vocabulary, which is kept.
//!
//! By [its specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3, in
//! little-endian order. Nothing says how long a header is, so that its beginning grows until it is
//! whole. Of the metadata only the alignment and the vocabulary are kept; every length is held against the file's before
//! anything is made of it.

use super::decode::{HeaderDecoder, Step};
use super::{Dtype, Entries, TensorRecord};
use crate::error::{Error, Result};
use crate::quote;
use bytes::{Bytes, BytesMut};

/// Bytes asked for first. Headers have 1 to 12 MB, most of it the vocabulary.
const FIRST: u64 = 256 << 10;

/// The longest header that is read.
const MAX_HEADER: u64 = 256 << 20;

/// The most tensors: each takes at least so many bytes of the header.
const SHORTEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// The most sides of a tensor.
const MAX_SIDES: u32 = 4;

/// How deep arrays may lie in arrays.
const MAX_DEPTH: u32 = 4;

/// Where data begins, and each tensor's, is a multiple of this, unless the metadata say otherwise.
const ALIGNMENT: u64 = 32;

/// Decodes a GGUF header.
pub struct Gguf {
    file: String,
    size: u64,
    held: BytesMut,
    entries: Entries,
}

/// Why reading stopped.
enum Stop {
    /// The header goes on; so many bytes may be enough.
    Short(u64),
    /// It is none.
    Wrong(String),
}

type Read<T> = std::result::Result<T, Stop>;

impl Gguf {
    /// A decoder for a file of `size` bytes; the name is for messages.
    pub fn new(file: impl Into<String>, size: u64) -> Self {
        Self { file: file.into(), size, held: BytesMut::new(), entries: Entries::default() }
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::format(&self.file, what)
    }
}

impl HeaderDecoder for Gguf {
    fn feed(&mut self, part: Bytes) {
        self.held.extend_from_slice(&part);
    }

    fn entries(&mut self) -> Option<Entries> {
        let entries = std::mem::take(&mut self.entries);
        (!entries.tokens.is_empty()).then_some(entries)
    }

    fn step(&mut self) -> Result<Step> {
        let held = self.held.len() as u64;
        let limit = self.size.min(MAX_HEADER);
        if held == 0 && self.size > 0 {
            return Ok(Step::Need(0..FIRST.min(limit)));
        }
        let mut entries = Entries::default();
        match (Header { bytes: &self.held, at: 0, size: self.size }).tensors(&mut entries) {
            Ok(tensors) => {
                self.entries = entries;
                self.held = BytesMut::new();
                Ok(Step::Done(tensors))
            }
            Err(Stop::Wrong(what)) => Err(self.wrong(what)),
            Err(Stop::Short(_)) if held >= self.size => {
                Err(self.wrong("not a whole GGUF file: its header does not end"))
            }
            Err(Stop::Short(enough)) if held >= limit || enough > MAX_HEADER => {
                Err(self.wrong(format!("its header is longer than {MAX_HEADER} bytes")))
            }
            // At least as much again as an eighth of what there is, so that reading stays linear.
            Err(Stop::Short(enough)) => {
                Ok(Step::Need(held..enough.max(held + held / 8 + FIRST / 4).min(limit)))
            }
        }
    }
}

/// What is read of a header, from its first byte.
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The file's length.
    size: u64,
}

impl<'a> Header<'a> {
    fn tensors(mut self, entries: &mut Entries) -> Read<Vec<TensorRecord>> {
        let wrong = |what: &str| Err(Stop::Wrong(what.to_owned()));
        if self.take(4)? != b"GGUF" {
            return wrong("not a GGUF file: it does not begin with GGUF");
        }
        match self.u32()? {
            2 | 3 => {}
            1 => return wrong("its GGUF version 1 is not read; convert it again"),
            version if version.swap_bytes() <= 3 => {
                return wrong("it is a big-endian GGUF file, which is not read");
            }
            version => return Err(Stop::Wrong(format!("its GGUF version {version} is unknown"))),
        }
        let (tensors, pairs) = (self.u64()?, self.u64()?);
        if tensors > self.size / SHORTEST_TENSOR || pairs > self.size / 12 {
            let what = format!("it claims {tensors} tensors and {pairs} pairs of metadata");
            return Err(Stop::Wrong(what));
        }
        let mut alignment = ALIGNMENT;
        for _ in 0..pairs {
            let key = self.text()?;
            let kind = self.u32()?;
            if key == b"general.alignment" && kind == 4 {
                alignment = self.u32()?.into();
                if alignment == 0 || !alignment.is_multiple_of(8) {
                    return wrong("its alignment is no multiple of 8");
                }
                continue;
            }
            let start = self.at;
            self.value(kind, 0)?;
            let mut value =
                Header { bytes: &self.bytes[..self.at], at: start, size: self.at as u64 };
            match (key, kind) {
                (b"tokenizer.ggml.model", 8) => entries.model = lossy(value.text()?),
                (b"tokenizer.ggml.tokens", 9) => entries.tokens = value.texts()?,
                (b"tokenizer.ggml.token_type", 9) => entries.types = value.numbers()?,
                _ => {}
            }
        }
        let first = self.at;
        let mut read = |of: fn(u32) -> Dtype| {
            self.at = first;
            let records = (0..tensors).map(|_| self.tensor(of)).collect::<Read<_>>()?;
            let start = (self.at as u64).next_multiple_of(alignment);
            place(records, start, alignment, self.size).map_err(Stop::Wrong)
        };
        // One number stands for two types, of which one alone has the lengths that the places tell.
        let in_branch = |number| Dtype::of_ggml_branch(number).unwrap_or(Dtype::of_ggml(number));
        match read(Dtype::of_ggml) {
            Err(Stop::Wrong(why)) => read(in_branch).map_err(|_| Stop::Wrong(why)),
            found => found,
        }
    }

    /// A tensor, its place counted from where data begins.
    fn tensor(&mut self, of: fn(u32) -> Dtype) -> Read<TensorRecord> {
        let name = self.text()?;
        let name = match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() => name.to_owned(),
            _ => return Err(Stop::Wrong("the name of a tensor is no text".into())),
        };
        let wrong = |what: &str| Stop::Wrong(format!("the tensor {} {what}", quote::name(&name)));
        let sides = self.u32()?;
        if sides == 0 || sides > MAX_SIDES {
            return Err(wrong(&format!("has {sides} sides")));
        }
        let mut shape = Vec::new();
        for _ in 0..sides {
            shape.push(self.u64()?);
        }
        let number = self.u32()?;
        let offset = self.u64()?;
        let dtype = of(number);
        let elements = shape[1..].iter().try_fold(1u64, |n, &side| n.checked_mul(side));
        let bytes = match dtype.bytes_of(shape[0]) {
            // Of a type that is unknown the length is, too.
            None if matches!(dtype, Dtype::Unknown(_)) => None,
            None => return Err(wrong("has a side that does not fill whole blocks")),
            Some(row) => {
                let bytes = elements.and_then(|rows| rows.checked_mul(row));
                Some(bytes.ok_or_else(|| wrong("has more elements than can be counted"))?)
            }
        };
        let end = bytes.map_or(Some(offset), |bytes| offset.checked_add(bytes));
        let end = end.ok_or_else(|| wrong("lies outside the file"))?;
        // Written with the shortest stride first.
        shape.reverse();
        Ok(TensorRecord { name, dtype, shape, range: offset..end })
    }

    /// Passes over a value of metadata.
    fn value(&mut self, kind: u32, depth: u32) -> Read<()> {
        match (fixed(kind), kind) {
            (Some(width), _) => self.skip(width),
            (None, 8) => self.text().map(drop),
            (None, 9) if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                let shortest = fixed(kind).unwrap_or(8);
                let fits = count.checked_mul(shortest).is_some_and(|bytes| bytes <= self.size);
                if !fits {
                    return Err(Stop::Wrong(format!("it claims an array of {count} values")));
                }
                match fixed(kind) {
                    Some(width) => self.skip(count * width),
                    None => self.several(kind, count, depth),
                }
            }
            _ => Err(Stop::Wrong(format!("its metadata has a value of the kind {kind}"))),
        }
    }

    /// Passes over so many values whose lengths differ. Where they go on, the mean of those that are
    /// there says how far.
    fn several(&mut self, kind: u32, count: u64, depth: u32) -> Read<()> {
        let start = self.at as u64;
        for done in 0..count {
            let reached = self.at as u64;
            self.value(kind, depth + 1).map_err(|stop| match stop {
                Stop::Short(enough) => {
                    let mean = (reached - start) / done.max(1) + 1;
                    let rest = mean.saturating_mul(count - done);
                    Stop::Short(enough.max(reached.saturating_add(rest)))
                }
                wrong => wrong,
            })?;
        }
        Ok(())
    }

    /// The texts of an array that was passed over; none where it holds something else.
    fn texts(&mut self) -> Read<Vec<Vec<u8>>> {
        match (self.u32()?, self.u64()?) {
            (8, count) => (0..count).map(|_| self.text().map(<[u8]>::to_vec)).collect(),
            _ => Ok(Vec::new()),
        }
    }

    /// The same of numbers of 32 bits with a sign.
    fn numbers(&mut self) -> Read<Vec<i32>> {
        match (self.u32()?, self.u64()?) {
            (5, count) => (0..count).map(|_| self.u32().map(u32::cast_signed)).collect(),
            _ => Ok(Vec::new()),
        }
    }

    fn text(&mut self) -> Read<&'a [u8]> {
        let length = self.u64()?;
        self.take(length)
    }

    fn u32(&mut self) -> Read<u32> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn u64(&mut self) -> Read<u64> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip(&mut self, length: u64) -> Read<()> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let end = (self.at as u64).checked_add(length).filter(|&end| end <= self.size);
        let end = end.ok_or_else(|| {
            let what = "not a whole GGUF file: a part of its header reaches past its end";
            Stop::Wrong(what.to_owned())
        })?;
        match self.bytes.get(self.at..end as usize) {
            Some(bytes) => {
                self.at = end as usize;
                Ok(bytes)
            }
            None => Err(Stop::Short(end)),
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Bytes of a value of metadata, of a kind whose values have all one length.
fn fixed(kind: u32) -> Option<u64> {
    match kind {
        // Numbers of 8, 16, 32 and 64 bits, and truth.
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Counts places from the start of the file. Each tensor begins where the one before ends, rounded up.
fn place(
    mut records: Vec<TensorRecord>,
    start: u64,
    alignment: u64,
    size: u64,
) -> std::result::Result<Vec<TensorRecord>, String> {
    let wrong = |name: &str, what: &str| format!("the tensor {} {what}", quote::name(name));
    let mut names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("its header names the tensor {} twice", quote::name(pair[0])));
    }
    records.sort_by_key(|record| (record.range.start, record.range.end));
    let (mut reached, mut known) = (0u64, true);
    for record in &mut records {
        let (begin, end) = (record.range.start, record.range.end);
        // Behind a tensor of unknown length there may be anything.
        let follows = if known { begin == reached } else { begin >= reached };
        if !follows || !begin.is_multiple_of(alignment) {
            return Err(wrong(&record.name, "does not begin where the one before ends"));
        }
        known = !matches!(record.dtype, Dtype::Unknown(_));
        let place = start.checked_add(begin).zip(start.checked_add(end));
        let (begin, end) = place
            .filter(|&(_, end)| end <= size)
            .ok_or_else(|| wrong(&record.name, "lies outside the file"))?;
        reached = (end - start).next_multiple_of(alignment);
        record.range = begin..end;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_beyond_the_limit_is_refused_before_more_is_asked_for() {
        for (length, refused) in [(1 << 20, false), (MAX_HEADER, true), (1 << 39, true)] {
            let mut decoder = Gguf::new("f", 1 << 40);
            let Step::Need(first) = decoder.step().unwrap() else { panic!("nothing was read") };
            let mut bytes = b"GGUF\x03\0\0\0".to_vec();
            // No tensors, and one key of that length.
            bytes.extend([0, 1, length].map(u64::to_le_bytes).as_flattened());
            bytes.resize(first.end as usize, b'k');
            decoder.feed(bytes.into());
            assert_eq!(decoder.step().is_err(), refused, "{length}");
        }
    }
}
