//! A tokenizer in several files: entries, merges, and settings, put together as one
//! `tokenizer.json` where the class that reads them has stages that are known.
//!
//! Where it has not, there is a list of what entries spell.

use super::Named;
use super::listed::Listed;
use super::settings::{Added, Settings};
use super::spelling::byte_alphabet;
use super::tokenizer::Vocabulary;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Entries, by what they are written as.
type Entries = BTreeMap<String, u32>;

/// A model, as `tokenizer.json` writes it.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Model<'a> {
    #[serde(rename = "BPE")]
    Pairs { vocab: &'a Entries, merges: Vec<(&'a str, &'a str)> },
    #[serde(rename = "WordPiece")]
    Words {
        vocab: &'a Entries,
        unk_token: &'a str,
        continuing_subword_prefix: &'a str,
        max_input_chars_per_word: u32,
    },
}

#[derive(Serialize)]
struct Whole<'a> {
    version: &'a str,
    added_tokens: Vec<Numbered<'a>>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: (),
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    id: u32,
    #[serde(flatten)]
    token: &'a Added,
}

/// What a class puts around its model, and the special tokens that it has by default.
struct Stages {
    normaliser: Value,
    pre: Value,
    decoder: Value,
    defaults: &'static [(&'static str, &'static str)],
}

const GPT2: &[(&str, &str)] = &[
    ("bos_token", "<|endoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
];
const QWEN2: &[(&str, &str)] = &[
    ("eos_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
];
const ROBERTA: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("cls_token", "<s>"),
    ("eos_token", "</s>"),
    ("mask_token", "<mask>"),
    ("pad_token", "<pad>"),
    ("sep_token", "</s>"),
    ("unk_token", "<unk>"),
];
const BERT: &[(&str, &str)] = &[
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
    ("pad_token", "[PAD]"),
    ("sep_token", "[SEP]"),
    ("unk_token", "[UNK]"),
];

/// How Qwen2's class cuts texts.
const QWEN2_PIECES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `vocab.json`, with `merges.txt` where there is one.
pub(super) fn pairs(
    file: &str,
    vocab: &[u8],
    merges: Option<&[u8]>,
    mut settings: Settings,
) -> Result<Named> {
    let entries: Entries = serde_json::from_slice(vocab)
        .map_err(|e| Error::format(file, format!("it is no list of entries: {e}")))?;
    let stages = byte_level(&settings);
    let (Some(merges), Some(stages)) = (merges, stages) else {
        return Ok(Named::Listed(spelled(entries, merges.is_some(), &settings)));
    };
    let merges = pairs_of(merges).map_err(|what| Error::format("merges.txt", what))?;
    let model = Model::Pairs { vocab: &entries, merges };
    match assembled(file, &entries, model, stages, &mut settings) {
        Ok(Some(vocabulary)) => Ok(Named::Tokenizer(Box::new(vocabulary))),
        // Merges that do not go with the entries leave these their names.
        Ok(None) | Err(_) => Ok(Named::Listed(spelled(entries, true, &settings))),
    }
}

/// Classes whose `vocab.txt` has a number behind each entry, and ids that begin elsewhere.
const COUNTED: [&str; 2] = ["BertweetTokenizer", "PhobertTokenizer"];

/// `vocab.txt`: a line for each id.
pub(super) fn words(file: &str, vocab: &[u8], mut settings: Settings) -> Result<Named> {
    let text = std::str::from_utf8(vocab)
        .map_err(|e| Error::format(file, format!("it is no UTF-8 text: {e}")))?;
    let class = settings.class.as_deref();
    if let Some(class) = class.filter(|class| COUNTED.contains(class)) {
        return Err(Error::format(file, format!("{class} gives its entries ids of its own")));
    }
    if text.starts_with("version https://git-lfs") {
        return Err(Error::format(file, "it is a pointer of Git LFS, not the file itself"));
    }
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
    let entries: Entries = lines.map(str::to_owned).zip(0..).collect();
    let Some(stages) = bert(&settings) else {
        return Ok(Named::Listed(spelled(entries, false, &settings)));
    };
    let unknown = settings.role("unk_token").unwrap_or("[UNK]").to_owned();
    let model = Model::Words {
        vocab: &entries,
        unk_token: &unknown,
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
    };
    match assembled(file, &entries, model, stages, &mut settings)? {
        Some(vocabulary) => Ok(Named::Tokenizer(Box::new(vocabulary))),
        None => Ok(Named::Listed(spelled(entries, false, &settings))),
    }
}

/// The stages of classes whose entries are written in GPT-2's alphabet.
fn byte_level(settings: &Settings) -> Option<Stages> {
    let prefix = settings.says("add_prefix_space").unwrap_or(false);
    let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let decoder = level(true);
    let own = |defaults| Stages {
        normaliser: Value::Null,
        pre: level(true),
        decoder: decoder.clone(),
        defaults,
    };
    match settings.class.as_deref()? {
        "GPT2Tokenizer" => Some(own(GPT2)),
        "BartTokenizer" | "LEDTokenizer" | "LongformerTokenizer" | "RobertaTokenizer" => {
            Some(own(ROBERTA))
        }
        "Qwen2Tokenizer" => {
            let cut = json!({"type": "Split", "pattern": {"Regex": QWEN2_PIECES},
                "behavior": "Isolated", "invert": false});
            let pre = json!({"type": "Sequence", "pretokenizers": [cut, level(false)]});
            Some(Stages { normaliser: json!({"type": "NFC"}), pre, ..own(QWEN2) })
        }
        _ => None,
    }
}

/// BERT's stages; unknown where it is not said whether case counts, which decides most of them.
fn bert(settings: &Settings) -> Option<Stages> {
    let class = settings.class.as_deref()?;
    if !["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"].contains(&class) {
        return None;
    }
    let normaliser = json!({"type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": settings.says("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": settings.says("strip_accents"),
        "lowercase": settings.says("do_lower_case")?});
    let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    Some(Stages { normaliser, pre: json!({"type": "BertPreTokenizer"}), decoder, defaults: BERT })
}

/// All parts as one file, read as such; `None` where that would give added tokens other ids, or where
/// it is not known which id a special token has.
fn assembled(
    file: &str,
    entries: &Entries,
    model: Model<'_>,
    stages: Stages,
    settings: &mut Settings,
) -> Result<Option<Vocabulary>> {
    let special: Vec<String> = settings.special(stages.defaults).map(str::to_owned).collect();
    for content in special {
        if settings.added.values().all(|token| token.content != content) {
            let Some(&id) = entries.get(&content) else {
                settings.complete = false;
                return Ok(None);
            };
            settings.added.insert(id, Added::new(&content, true));
        }
    }
    let added: Vec<_> = settings.added.iter().map(|(&id, token)| Numbered { id, token }).collect();
    let whole = Whole {
        version: "1.0",
        added_tokens: added,
        normalizer: stages.normaliser,
        pre_tokenizer: stages.pre,
        post_processor: (),
        decoder: stages.decoder,
        model,
    };
    let whole = serde_json::to_vec(&whole).map_err(|e| Error::format(file, e.to_string()))?;
    let vocabulary = Vocabulary::parse(file, &whole)?;
    let mut added = settings.added.iter();
    let same = added.all(|(&id, token)| vocabulary.id_of(&token.content) == Some(id));
    Ok(same.then_some(vocabulary))
}

/// What entries spell where stages are not known: as bytes, where the vocabulary has each letter of
/// GPT-2's alphabet, and as they are written otherwise.
fn spelled(entries: Entries, by_pairs: bool, settings: &Settings) -> Listed {
    let alphabet = byte_alphabet();
    let has = |letter: &char| {
        let letter = letter.to_string();
        entries.contains_key(&letter) || entries.contains_key(&format!("{letter}</w>"))
    };
    let in_bytes = by_pairs && alphabet.keys().all(has);
    let ends_words = in_bytes && entries.contains_key("a</w>");
    let bytes = |entry: &str| -> Option<Vec<u8>> {
        let word = entry.strip_suffix("</w>").filter(|_| ends_words).unwrap_or(entry);
        word.chars().map(|c| alphabet.get(&c).copied()).collect()
    };
    let special: Vec<&str> = settings.special(&[]).collect();
    let list = entries.into_iter().map(|(entry, id)| {
        let is_special = special.contains(&entry.as_str());
        let bytes = if in_bytes && !is_special { bytes(&entry) } else { None };
        (id, bytes.unwrap_or_else(|| entry.into_bytes()), is_special.then_some(true))
    });
    Listed::new(list, settings.complete).with(&settings.added)
}

/// The pairs of a list of merges: one a line, behind a line that names its version.
fn pairs_of(merges: &[u8]) -> Result<Vec<(&str, &str)>, String> {
    let text = std::str::from_utf8(merges).map_err(|e| format!("it is no UTF-8 text: {e}"))?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    let pairs = lines.map(|(number, line)| {
        let pair = line.split_once(' ').filter(|(_, second)| !second.contains(' '));
        pair.ok_or_else(|| format!("line {} is no pair", number + 1))
    });
    pairs.collect()
}
