//! `model.safetensors.index.json`: which shard holds which tensor.
//!
//! The names of shards come from a stranger and become URLs and paths, so a name that could lead
//! out of the repository is refused before it is used.

use crate::error::{Error, Result};
use crate::quote;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// The longest index that is read; the longest known lists half a million tensors in 60 MB.
pub const MAX_INDEX: u64 = 250_000_000;

/// Shards that a checkpoint may have.
const MAX_SHARDS: usize = 10_000;

/// Tensors that a checkpoint may have: eight times as many as the longest known index lists.
const MAX_TENSORS: usize = 4_000_000;

/// A checkpoint's tensors by name, and the shard of each.
#[derive(Debug)]
pub struct Index {
    tensors: Vec<(String, u32)>,
    shards: Vec<String>,
    total_bytes: Option<u64>,
}

impl Index {
    /// Parses the index; `file` is its name, for messages.
    pub fn parse(file: &str, json: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(json)
            .map_err(|e| Error::format(file, format!("not an index of tensors: {e}")))?;
        let total_bytes = raw.metadata.total_size;
        let WeightMap { mut tensors, shards } = raw.weight_map;
        if let Some(shard) = shards.iter().find(|shard| !is_plain(shard)) {
            let what =
                format!("it names the shard {}, which is no file beside it", quote::name(shard));
            return Err(Error::format(file, what));
        }
        tensors.sort();
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::format(
                file,
                format!("it names the tensor {} twice", quote::name(&pair[0].0)),
            ));
        }
        Ok(Self { tensors, shards, total_bytes })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// The shard that the index gives for a tensor.
    pub fn shard(&self, tensor: &str) -> Option<&str> {
        let at = self.tensors.binary_search_by(|(name, _)| name.as_str().cmp(tensor)).ok()?;
        self.shards.get(self.tensors[at].1 as usize).map(String::as_str)
    }

    /// Bytes of all tensors, where the index states them; for reports, never for checks.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The names of all shards, in the order they first appear.
    pub fn shards(&self) -> &[String] {
        &self.shards
    }
}

/// A relative path of ordinary parts, with `/` between them.
fn is_plain(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(part) && !name.contains(['\\', ':', '\0'])
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: Metadata,
    weight_map: WeightMap,
}

/// `metadata`, of which one number is of interest; whatever else it is or holds is skipped, and
/// takes no room.
#[derive(Default)]
struct Metadata {
    /// Itself, if it is a number.
    number: Option<u64>,
    total_size: Option<u64>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut found = Metadata::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "total_size" {
                        found.total_size = map.next_value::<Metadata>()?.number;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Metadata, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Metadata::default())
            }

            fn visit_u64<E>(self, number: u64) -> Result<Metadata, E> {
                Ok(Metadata { number: Some(number), ..Metadata::default() })
            }

            fn visit_i64<E>(self, _: i64) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }

            fn visit_unit<E>(self) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }
        }

        deserializer.deserialize_any(Anything)
    }
}

/// Read entry by entry, so that half a million tensors do not repeat the names of their shards.
struct WeightMap {
    tensors: Vec<(String, u32)>,
    shards: Vec<String>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensors to shards")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut seen: HashMap<String, u32> = HashMap::new();
                let mut out = WeightMap { tensors: Vec::new(), shards: Vec::new() };
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    let number = match seen.get(&shard) {
                        Some(&number) => number,
                        None if out.shards.len() == MAX_SHARDS => {
                            let what = format!("it names more than {MAX_SHARDS} shards");
                            return Err(A::Error::custom(what));
                        }
                        None => {
                            let number = out.shards.len() as u32;
                            out.shards.push(shard.clone());
                            seen.insert(shard, number);
                            number
                        }
                    };
                    if out.tensors.len() == MAX_TENSORS {
                        let what = format!("it names more than {MAX_TENSORS} tensors");
                        return Err(A::Error::custom(what));
                    }
                    out.tensors.push((tensor, number));
                }
                Ok(out)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_shards_are_found() {
        let json = br#"{"metadata":{"total_size":9},"weight_map":
            {"b":"two.safetensors","a":"sub/one.safetensors","c":"two.safetensors"}}"#;
        let index = Index::parse("index", json).unwrap();
        assert_eq!(index.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(index.shard("a"), Some("sub/one.safetensors"));
        assert_eq!(index.shard("d"), None);
        assert_eq!(index.shards(), ["two.safetensors", "sub/one.safetensors"]);
    }

    #[test]
    fn a_shard_outside_the_repository_is_refused() {
        for shard in ["../x", "/x", "a/../x", "http://x/y", "a\\\\b", "", "a//b", "./a", "c:x"] {
            let json = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
            assert!(Index::parse("index", json.as_bytes()).is_err(), "{shard}");
        }
    }

    #[test]
    fn a_tensor_named_twice_is_refused() {
        let json = br#"{"weight_map":{"a":"x","a":"y"}}"#;
        assert!(Index::parse("index", json).is_err());
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for json in ["", "[]", "{}", r#"{"weight_map":[]}"#, r#"{"weight_map":{"a":1}}"#] {
            assert!(Index::parse("index", json.as_bytes()).is_err(), "{json}");
        }
    }
}
