//! `model.safetensors.index.json`: which shard holds which tensor.
//!
//! The names of shards come from a stranger and become URLs and paths, so a name that could lead
//! out of the repository is refused before it is used.

use crate::error::{Error, Result};
use crate::quote;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

/// The longest index that is read; the longest known lists half a million tensors in 60 MB.
pub const MAX_INDEX: u64 = 250_000_000;

/// Shards that a checkpoint may have.
const MAX_SHARDS: usize = 10_000;

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
            .map_err(|e| Error::format(file, format!("not a safetensors index: {e}")))?;
        let total_bytes = raw.metadata.get("total_size").and_then(Value::as_u64);
        let WeightMap { mut tensors, shards } = raw.weight_map;
        if shards.len() > MAX_SHARDS {
            let what = format!("it names {} shards, more than {MAX_SHARDS}", shards.len());
            return Err(Error::format(file, what));
        }
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
    metadata: Value,
    weight_map: WeightMap,
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
                        None => {
                            let number = out.shards.len() as u32;
                            out.shards.push(shard.clone());
                            seen.insert(shard, number);
                            number
                        }
                    };
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
