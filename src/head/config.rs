//! What `config.json` says about the head: sizes, and whether it is tied, at every level.

use super::defaults::{always_ties, ties_by_default};
use crate::error::{Error, Result};
use regex::RegexBuilder;
use serde_json::{Map, Value};

/// The longest `config.json` that is read.
pub const MAX_CONFIG: u64 = 10_000_000;

/// Where multimodal and wrapped models keep the configuration of their text decoder.
const TEXT: [&[&str]; 10] = [
    &["text_config"],
    &["llm_config"],
    &["language_config"],
    &["thinker_config", "text_config"],
    &["decoder"],
    &["generator"],
    &["language_model_config"],
    &["text_model"],
    &["lm_config"],
    &["llm_cfg"],
];

/// What single families call their tie flag.
const FAMILY_FLAGS: [&str; 4] =
    ["weight_tying", "tie_embeddings", "tied_embeddings", "share_input_output_layers"];

/// What configurations call the number of rows of the head.
const VOCABULARY: [&str; 6] = [
    "vocab_size",
    "padded_vocab_size",
    "embedding_size",
    "tgt_vocab_size",
    "n_tokens",
    "text_vocab",
];

/// Tie flags that are told; no model has more than a few.
const FLAGS: usize = 32;

/// Groups of a quantiser's configuration that are looked at, targets of each, and bytes that a pattern
/// among these may take: strangers write them, and each is built.
const GROUPS: usize = 32;
const TARGETS: usize = 64;
const PATTERN: usize = 256 << 10;

/// A parsed `config.json`; empty where there is none.
#[derive(Debug, Clone, Default)]
pub struct Config {
    top: Map<String, Value>,
    text: Option<(String, Map<String, Value>)>,
}

/// Whether the head is tied, and which words say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TieFlag {
    /// The flag.
    pub tied: bool,
    /// Where it stands: a path inside `config.json`, or a model type's default.
    pub source: String,
}

/// What a configuration says of a quantised module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantisation {
    /// The quantiser.
    pub method: Option<String>,
    /// Bits of a code.
    pub bits: Option<u64>,
    /// Elements that share a scale.
    pub group_size: Option<u64>,
    /// Rows that share a scale, where blocks of a matrix do.
    pub block_rows: Option<u64>,
    /// Columns that do.
    pub block_columns: Option<u64>,
    /// Which of a quantiser's ways.
    pub mode: Option<String>,
    /// Which of its ways to pack.
    pub version: Option<String>,
}

impl Config {
    /// Parses `config.json`. Python writes `NaN` and `Infinity` into such files, which JSON does
    /// not know; they are read as `null`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::format("config.json", format!("not JSON: {e}"));
        let value: Value = match serde_json::from_slice(json) {
            Ok(value) => value,
            Err(first) => {
                serde_json::from_slice(&without_python_floats(json)).map_err(|_| wrong(first))?
            }
        };
        let Value::Object(top) = value else {
            return Err(Error::format("config.json", "not a JSON object"));
        };
        let text = TEXT.iter().find_map(|path| {
            let mut object = &top;
            for key in *path {
                object = object.get(*key)?.as_object()?;
            }
            Some((path.join("."), object.clone()))
        });
        Ok(Self { top, text })
    }

    /// Every tie flag that is written, at every level, with its path: those that count for the
    /// text decoder first, then those of other parts of the model.
    pub fn tie_flags(&self) -> Vec<TieFlag> {
        let mut flags = self.text_flags();
        let counted = flags.len();
        walk(&self.top, "", &mut |prefix, object| {
            for flag in flags_of(prefix, object) {
                let known = flags[..counted].iter().any(|other| other.source == flag.source);
                if !known && flags.len() < FLAGS {
                    flags.push(flag);
                }
            }
        });
        flags
    }

    /// The tie flags that count for the text decoder.
    pub(super) fn text_flags(&self) -> Vec<TieFlag> {
        let mut flags = Vec::new();
        let mut collect = |prefix: &str, object| flags.extend(flags_of(prefix, object));
        collect("", &self.top);
        if let Some(Value::Object(thinker)) = self.top.get("thinker_config") {
            collect("thinker_config.", thinker);
        }
        if let Some((path, text)) = &self.text {
            collect(&format!("{path}."), text);
        }
        flags
    }

    /// The flag that holds: a family's own field, then the text decoder's, then the top level's,
    /// then the model type's default where that ties. `None`: nothing says.
    pub fn effective_tie(&self) -> Option<TieFlag> {
        let types = self.text.iter().map(|(_, text)| text).chain([&self.top]);
        let mut types = types.filter_map(|level| level.get("model_type")?.as_str());
        if let Some(model_type) = types.clone().find(|name| always_ties(name)) {
            let source = format!("the code of model type {model_type}");
            return Some(TieFlag { tied: true, source });
        }
        let flags = self.text_flags();
        let find = |test: &dyn Fn(&str) -> bool| flags.iter().find(|flag| test(&flag.source));
        let of_family =
            |path: &str| FAMILY_FLAGS.contains(&path.rsplit('.').next().unwrap_or(path));
        let of_text = |path: &str| {
            let text = self.text.as_ref().map(|(text, _)| format!("{text}.tie_word_embeddings"));
            text.as_deref() == Some(path)
        };
        let written = find(&of_family)
            .or_else(|| find(&of_text))
            .or_else(|| find(&|path| path.ends_with("tie_word_embeddings")));
        if let Some(flag) = written {
            return Some(flag.clone());
        }
        let model_type = types.next()?;
        ties_by_default(model_type).then(|| TieFlag {
            tied: true,
            source: format!("the default of model type {model_type}"),
        })
    }

    /// The sizes of the vocabulary that are written, the text decoder's first.
    pub fn vocabulary(&self) -> Vec<u64> {
        let levels = self.text.iter().map(|(_, text)| text).chain([&self.top]);
        let sizes = |level: &Map<String, Value>| {
            let sizes = VOCABULARY.map(|key| (key, level.get(key).and_then(Value::as_u64)));
            let vocabulary = sizes[0].1;
            // Some families pad their vocabulary to an embedding_size; to others that is a width.
            let counts =
                move |key, size| key != "embedding_size" || vocabulary.is_none_or(|v| v <= size);
            sizes.into_iter().filter_map(move |(key, size)| size.filter(|&size| counts(key, size)))
        };
        levels.flat_map(sizes).collect()
    }

    /// The class names that the file gives for the whole model.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        let list = self.top.get("architectures").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// How the file says that the weights of a module are quantised.
    pub fn quantisation(&self, module: &str) -> Quantisation {
        let levels = [Some(&self.top), self.text.as_ref().map(|(_, text)| text)];
        let keys = ["quantization_config", "quantization", "compression_config"];
        let found = levels.into_iter().flatten().flat_map(|level| keys.map(|key| level.get(key)));
        let Some(all) = found.flatten().find_map(Value::as_object) else {
            return Quantisation::default();
        };
        // MLX writes what is particular to a module under its name; compressed-tensors has groups.
        let own = all.get(module).and_then(Value::as_object);
        let groups = all.get("config_groups").and_then(Value::as_object);
        let weights =
            groups.and_then(|groups| group_of(groups, module)?.get("weights")?.as_object());
        let number = |keys: &[&str]| {
            let levels = [own, weights, Some(all)].into_iter().flatten();
            levels.flat_map(|level| keys.iter().filter_map(|&key| level.get(key)?.as_u64())).next()
        };
        let text =
            |level: &Map<String, Value>, key: &str| Some(level.get(key)?.as_str()?.to_owned());
        let block = all.get("weight_block_size").or_else(|| weights?.get("block_structure"));
        Quantisation {
            method: text(all, "quant_method"),
            bits: number(&["bits", "num_bits", "w_bit"]),
            group_size: number(&["group_size", "q_group_size"]),
            block_rows: block.and_then(|block| block.get(0)?.as_u64()),
            block_columns: block.and_then(|block| block.get(1)?.as_u64()),
            mode: own.and_then(|own| text(own, "mode")).or_else(|| text(all, "mode")),
            version: ["checkpoint_format", "format", "version"]
                .iter()
                .find_map(|key| text(all, key)),
        }
    }
}

/// The group of a compressed-tensors configuration that a module belongs to: the one that names it, else
/// one whose pattern matches its name, else one for modules of its class, which a name does not tell.
fn group_of<'a>(groups: &'a Map<String, Value>, module: &str) -> Option<&'a Value> {
    let matches = |target: &str| match target.strip_prefix("re:") {
        None => (target == module).then_some(0),
        Some(pattern) => {
            let pattern = RegexBuilder::new(&format!("^(?:{pattern})")).size_limit(PATTERN).build();
            pattern.ok()?.is_match(module).then_some(1)
        }
    };
    let named = groups.values().take(GROUPS).filter_map(|group| {
        let targets = group.get("targets")?.as_array()?.iter().take(TARGETS);
        let best = targets.filter_map(|target| matches(target.as_str()?)).min()?;
        Some((best, group))
    });
    let named = named.min_by_key(|(best, _)| *best).map(|(_, group)| group);
    let of_class = |group: &&Value| {
        let targets = group.get("targets").and_then(Value::as_array);
        targets.into_iter().flatten().any(|target| target == "Linear")
    };
    let only = groups.values().next().filter(|_| groups.len() == 1);
    named.or_else(|| groups.values().find(of_class)).or(only)
}

/// The tie flags of one level.
fn flags_of(prefix: &str, object: &Map<String, Value>) -> impl Iterator<Item = TieFlag> {
    FAMILY_FLAGS.into_iter().chain(["tie_word_embeddings"]).filter_map(move |key| {
        let tied = object.get(key)?.as_bool()?;
        Some(TieFlag { tied, source: format!("{prefix}{key}") })
    })
}

/// Shows each level of a configuration, with what its keys' paths begin with.
fn walk(object: &Map<String, Value>, prefix: &str, see: &mut dyn FnMut(&str, &Map<String, Value>)) {
    see(prefix, object);
    for (key, value) in object {
        if let Value::Object(inner) = value {
            walk(inner, &format!("{prefix}{key}."), see);
        }
    }
}

/// The text with `NaN`, `Infinity` and `-Infinity` outside of strings replaced by `null`.
fn without_python_floats(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut rest, mut in_string) = (json, false);
    while let Some(&byte) = rest.first() {
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"];
        if !in_string && let Some(word) = word.iter().find(|word| rest.starts_with(word)) {
            out.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        let taken = if in_string && byte == b'\\' { rest.len().min(2) } else { 1 };
        in_string ^= byte == b'"';
        out.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tie(json: &str) -> Option<(bool, String)> {
        let flag = Config::parse(json.as_bytes()).unwrap().effective_tie()?;
        Some((flag.tied, flag.source))
    }

    #[test]
    fn the_flag_that_holds_is_the_most_specific_one() {
        for (json, tied, source) in [
            (r#"{"tie_word_embeddings":true}"#, true, "tie_word_embeddings"),
            (r#"{"tie_word_embeddings":true,"weight_tying":false}"#, false, "weight_tying"),
            (
                r#"{"tie_word_embeddings":false,"text_config":{"tie_word_embeddings":true}}"#,
                true,
                "text_config.tie_word_embeddings",
            ),
            (r#"{"tie_word_embeddings":true,"llm_config":{}}"#, true, "tie_word_embeddings"),
            (
                r#"{"thinker_config":{"tie_word_embeddings":true,"text_config":{"tie_word_embeddings":false}}}"#,
                false,
                "thinker_config.text_config.tie_word_embeddings",
            ),
            (r#"{"model_type":"gemma2"}"#, true, "the default of model type gemma2"),
            (
                r#"{"model_type":"gemma3","text_config":{"model_type":"gemma3_text"}}"#,
                true,
                "the default of model type gemma3_text",
            ),
        ] {
            assert_eq!(tie(json), Some((tied, source.to_owned())), "{json}");
        }
    }

    #[test]
    fn flags_of_other_parts_are_told_and_do_not_count() {
        let json = r#"{"tie_word_embeddings":false,"text_config":{"tie_word_embeddings":false},
            "talker_config":{"text_config":{"tie_word_embeddings":true}}}"#;
        let config = Config::parse(json.as_bytes()).unwrap();
        let told: Vec<String> = config.tie_flags().into_iter().map(|flag| flag.source).collect();
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], "talker_config.text_config.tie_word_embeddings");
        assert!(config.text_flags().iter().all(|flag| !flag.tied));
    }

    #[test]
    fn where_nothing_says_there_is_no_flag() {
        for json in ["{}", r#"{"model_type":"qwen2"}"#, r#"{"tie_word_embeddings":null}"#] {
            assert_eq!(tie(json), None, "{json}");
        }
    }

    #[test]
    fn a_module_belongs_to_the_group_that_names_it_best() {
        let of = |groups: &str| {
            let json = format!(r#"{{"quantization_config":{{"config_groups":{groups}}}}}"#);
            Config::parse(json.as_bytes()).unwrap().quantisation("lm_head").bits
        };
        let group = |target: &str, bits: u32| {
            format!(r#"{{"targets":["{target}"],"weights":{{"num_bits":{bits}}}}}"#)
        };
        let two = |a: String, b: String| of(&format!(r#"{{"a":{a},"b":{b}}}"#));
        assert_eq!(two(group("Linear", 4), group("re:.*lm_head", 8)), Some(8));
        assert_eq!(two(group("re:.*head", 4), group("lm_head", 8)), Some(8));
        assert_eq!(two(group("re:head", 8), group("Linear", 4)), Some(4));
        assert_eq!(two(group("re:(", 8), group("re:.*experts", 4)), None);
        assert_eq!(of(&format!(r#"{{"a":{}}}"#, group("re:.*experts", 4))), Some(4));
    }

    #[test]
    fn an_embedding_size_counts_where_it_is_no_width() {
        let of = |json: &str| Config::parse(json.as_bytes()).unwrap().vocabulary();
        assert_eq!(of(r#"{"vocab_size":50280,"embedding_size":50304}"#), [50280, 50304]);
        assert_eq!(of(r#"{"vocab_size":30000,"embedding_size":128}"#), [30000]);
    }

    #[test]
    fn numbers_that_only_python_writes_are_read_as_null() {
        let json =
            br#"{"limit":[0.0,Infinity,-Infinity,NaN],"say":"NaN \"Infinity","vocab_size":7}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!(config.vocabulary(), [7]);
        assert_eq!(config.top["say"], "NaN \"Infinity");
        assert!(Config::parse(b"{nope}").is_err());
        assert!(Config::parse(b"[1]").is_err());
    }
}
