//! The safetensors header: eight bytes of length, then JSON, then the tensors' bytes.
//!
//! Every rule of the format's description is checked, in 64-bit arithmetic that cannot wrap, so
//! that the byte range of a tensor is right or the file is refused. Where the description and the
//! reference reader differ, the stricter one holds: a tensor named twice is refused, and the JSON
//! must begin with `{`. Types that the format does not define are listed with the rest.

use super::decode::{HeaderDecoder, Step};
use super::{Dtype, TensorRecord};
use crate::error::{Error, Result};
use crate::quote;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Bytes asked for first: of the thousand most downloaded models, 97 % have headers that fit.
const FIRST: u64 = 100_000;

/// The longest header that the reference reader accepts.
const MAX_HEADER: u64 = 100_000_000;

/// Decodes a safetensors header.
pub struct Safetensors {
    file: String,
    size: u64,
    held: BytesMut,
}

/// What stands in place of a large file in a clone of a repository that has not fetched it.
const POINTER: &[u8] = b"version https://git-lfs";

impl Safetensors {
    /// A decoder for a file of `size` bytes; the name is for messages.
    pub fn new(file: impl Into<String>, size: u64) -> Self {
        Self { file: file.into(), size, held: BytesMut::new() }
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::format(&self.file, what)
    }

    /// Length of the JSON, held against the limit and the file.
    fn json_length(&self) -> Result<u64> {
        let prefix = self.held.first_chunk::<8>();
        let Some(prefix) = prefix else {
            let what = format!("not a safetensors file: {} bytes are too few", self.size);
            return Err(self.wrong(what));
        };
        let length = u64::from_le_bytes(*prefix);
        if POINTER.starts_with(prefix) {
            let what =
                "it is a pointer of Git LFS, not the file itself; `git lfs pull` fetches that";
            return Err(self.wrong(what));
        }
        if length > MAX_HEADER {
            let what = format!(
                "not a safetensors file: it claims a header of {length} bytes, \
                 the format allows {MAX_HEADER}"
            );
            return Err(self.wrong(what));
        }
        if length + 8 > self.size {
            let what = format!(
                "not a whole safetensors file: it claims a header of {length} bytes \
                 but has {} bytes in all",
                self.size
            );
            return Err(self.wrong(what));
        }
        Ok(length)
    }

    fn parse(&self, json: &[u8], start: u64) -> Result<Vec<TensorRecord>> {
        let text = std::str::from_utf8(json).map_err(|_| self.wrong("its header is not UTF-8"))?;
        if !text.starts_with('{') {
            return Err(self.wrong("not a safetensors file: its header is no JSON object"));
        }
        let Header(mut tensors) = serde_json::from_str(text)
            .map_err(|e| self.wrong(format!("its header cannot be read: {e}")))?;
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let name = quote::name(&pair[0].name);
            return Err(self.wrong(format!("its header names the tensor {name} twice")));
        }
        for tensor in &mut tensors {
            self.place(tensor, start)?;
        }
        tensors.sort_unstable_by_key(|tensor| (tensor.range.start, tensor.range.end));
        let mut reached = start;
        for tensor in &tensors {
            if tensor.range.start != reached {
                let fault =
                    if tensor.range.start < reached { "overlaps" } else { "leaves a hole after" };
                let name = quote::name(&tensor.name);
                return Err(self.wrong(format!("the tensor {name} {fault} the one before it")));
            }
            reached = tensor.range.end;
        }
        if reached != self.size {
            let what =
                format!("its tensors end at byte {reached}, the file has {} bytes", self.size);
            return Err(self.wrong(what));
        }
        Ok(tensors)
    }

    /// Counts a tensor's bytes from the start of the file, and holds its shape against them.
    fn place(&self, tensor: &mut TensorRecord, start: u64) -> Result<()> {
        let wrong =
            |what: &str| self.wrong(format!("the tensor {} {what}", quote::name(&tensor.name)));
        let Range { start: begin, end } = tensor.range;
        let range = match (start.checked_add(begin), start.checked_add(end)) {
            (Some(begin), Some(end)) if begin <= end && end <= self.size => begin..end,
            _ => {
                let size = self.size;
                return Err(wrong(&format!(
                    "lies outside the file, which has {size} bytes and is not whole"
                )));
            }
        };
        if let Some(bits) = tensor.dtype.bits() {
            // Elements first, as the reference counts: where there are none, no type is too wide.
            let elements = tensor.shape.iter().try_fold(1u64, |n, &side| n.checked_mul(side));
            let total = elements.and_then(|elements| elements.checked_mul(bits));
            let total = total.ok_or_else(|| wrong("has more elements than can be counted"))?;
            if total % 8 != 0 {
                return Err(wrong("does not fill whole bytes"));
            }
            if total / 8 != range.end - range.start {
                return Err(wrong("has a shape that does not fit its bytes"));
            }
        }
        tensor.range = range;
        Ok(())
    }
}

impl HeaderDecoder for Safetensors {
    fn feed(&mut self, part: Bytes) {
        self.held.extend_from_slice(&part);
    }

    fn step(&mut self) -> Result<Step> {
        let held = self.held.len() as u64;
        if held == 0 && self.size > 0 {
            return Ok(Step::Need(0..FIRST.min(self.size)));
        }
        let end = 8 + self.json_length()?;
        if held < end {
            // At most MAX_HEADER more, and the file is known to have them.
            self.held.reserve((end - held) as usize);
            return Ok(Step::Need(held..end));
        }
        let held = std::mem::take(&mut self.held);
        self.parse(&held[8..end as usize], end).map(Step::Done)
    }
}

/// The tensors in the order they are written, so that a repeated name is seen; their bytes are
/// counted from the end of the header.
struct Header(Vec<TensorRecord>);

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata, true) {
                            return Err(A::Error::custom("__metadata__ stands twice"));
                        }
                        map.next_value::<Option<Metadata>>()?;
                        continue;
                    }
                    let Entry { dtype, shape, data_offsets: [begin, end] } = map.next_value()?;
                    let dtype = Dtype::parse(&dtype);
                    tensors.push(TensorRecord { name, dtype, shape, range: begin..end });
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// `__metadata__`: text to text, checked and let go.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                while map.next_key::<IgnoredAny>()?.is_some() {
                    map.next_value::<String>()?;
                }
                Ok(Metadata)
            }
        }

        deserializer.deserialize_map(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::decode::decode;
    use crate::source::MemorySource;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<TensorRecord>> {
        let source = MemorySource::new("x.safetensors", bytes).chunked(7);
        let mut decoder = Safetensors::new("x.safetensors", source.size());
        futures::executor::block_on(decode(&source, &mut decoder))
    }

    use crate::source::ByteSource as _;

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let json = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
            "a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4],"more":1},
            "e":{"dtype":"U8","shape":[0,9],"data_offsets":[12,12]},
            "z":{"dtype":"NEW","shape":[3],"data_offsets":[12,13]}}  "#;
        let start = 8 + json.len() as u64;
        let tensors = read(file(json, 13)).unwrap();
        let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e", "z"]);
        assert_eq!(tensors[0].range, start..start + 4);
        assert_eq!(tensors[3].dtype, Dtype::Unknown("NEW".into()));
    }

    #[test]
    fn a_header_longer_than_the_first_read_is_fetched_whole() {
        let padding = " ".repeat(2 * FIRST as usize);
        let json = format!(r#"{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}{padding}"#);
        assert_eq!(read(file(&json, 1)).unwrap().len(), 1);
    }

    #[test]
    fn a_tensor_without_elements_is_not_too_large() {
        let json =
            r#"{"a":{"dtype":"F64","shape":[1152921504606846976,8,0],"data_offsets":[0,0]}}"#;
        assert_eq!(
            read(file(json, 0)).unwrap()[0].range,
            8 + json.len() as u64..8 + json.len() as u64
        );
    }

    #[test]
    fn what_the_format_forbids_is_refused() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let ok = one("U8", "[4]", "[0,4]");
        let cases = [
            (file(&ok, 3), "lies outside the file"),
            (file(&ok, 5), "end at byte"),
            (file(&one("U8", "[3]", "[1,4]"), 4), "hole"),
            (file(&one("U8", "[4]", "[4,0]"), 4), "outside"),
            (file(&one("U8", "[5]", "[0,4]"), 4), "does not fit"),
            (file(&one("F4", "[7]", "[0,4]"), 4), "whole bytes"),
            (file(&one("U8", "[9223372036854775808,2]", "[0,4]"), 4), "counted"),
            (file(&one("U8", "[4]", "[0,18446744073709551615]"), 4), "outside"),
            (file(&one("U8", "[-1]", "[0,4]"), 4), "cannot be read"),
            (file(&one("U8", "[4]", "[0,4,8]"), 4), "cannot be read"),
            (file(&format!(" {ok}"), 4), "no JSON object"),
            (file("[]", 0), "no JSON object"),
            (file("", 0), "no JSON object"),
            (file(&format!("{ok}\0"), 4), "cannot be read"),
            (file(r#"{"__metadata__":{"a":1}}"#, 0), "cannot be read"),
            (file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "twice"),
            (file(&format!("{},{}", &ok[..ok.len() - 1], &ok[1..]), 4), "twice"),
            (
                file(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                    6,
                ),
                "overlaps",
            ),
            (vec![], "too few"),
            (vec![1; 7], "too few"),
            (u64::MAX.to_le_bytes().to_vec(), "claims a header"),
            (100_000_001u64.to_le_bytes().to_vec(), "the format allows"),
            (9u64.to_le_bytes().to_vec(), "bytes in all"),
        ];
        for (bytes, reason) in cases {
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let error = read(bytes).expect_err(&shown).to_string();
            assert!(error.contains(reason), "{shown}: {error}");
        }
    }
}
