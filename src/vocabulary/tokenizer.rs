//! A model's `tokenizer.json`: read with suspicion, and asked for names and classes of rows.

use super::spelling::Spelling;
use super::stages::{self, Stages};
use super::{Absent, Cause, Class, Token};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use tokenizers::Tokenizer;

/// The longest `tokenizer.json` that is read; the longest known have 35 MB.
pub const MAX_TOKENIZER: u64 = 256 << 20;

/// The names of all ids.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    size: u64,
    /// One past the highest id.
    end: u64,
    /// Added tokens, and whether each is marked special.
    added: HashMap<u32, bool>,
    spelling: Spelling,
    stages: OnceLock<Option<Stages>>,
}

impl Vocabulary {
    /// Parses a `tokenizer.json`; `file` is its name, for messages.
    pub fn parse(file: &str, json: &[u8]) -> Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| {
            Error::format(file, format!("the tokenizer cannot be read: {e}"))
        };
        sound(json).and_then(|()| modest(json)).map_err(|what| wrong(&what))?;
        let tokenizer = guard(|| Tokenizer::from_bytes(json).map_err(|e| e.to_string()))
            .unwrap_or_else(|| Err("its parts do not fit together".into()))
            .map_err(|what| wrong(&what))?;
        let size = tokenizer.get_vocab_size(true) as u64;
        let end = tokenizer.get_vocab(true).values().max().map_or(0, |&id| u64::from(id) + 1);
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let added = added.map(|(id, token)| (id, token.special)).collect();
        let decoder = serde_json::to_string(&tokenizer.get_decoder()).map_err(|e| wrong(&e))?;
        if growth(&serde_json::from_str(&decoder).map_err(|e| wrong(&e))?) > GROWTH {
            return Err(wrong(&"its decoder makes texts of any length"));
        }
        let spelling = Spelling::of(&tokenizer);
        Ok(Self { tokenizer, size, end, added, spelling, stages: OnceLock::new() })
    }

    /// How many ids the tokenizer has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The id of an entry or an added token.
    pub(super) fn id_of(&self, entry: &str) -> Option<u32> {
        self.tokenizer.token_to_id(entry)
    }

    /// How many of a matrix's rows lie past the tokenizer's last id.
    pub fn padding_rows(&self, rows: u64) -> u64 {
        rows.saturating_sub(self.end)
    }

    /// What is known of a row.
    pub fn token(&self, row: u64) -> Token {
        let (class, cause) = match self.classify(row) {
            Some((class, cause)) => (Some(class), cause),
            None => (None, Cause::default()),
        };
        let Some((id, entry)) = self.entry(row) else {
            return Token { row, text: String::new(), class, cause, bytes: None };
        };
        // Decoding fails for broken decoders only; the entry itself is the next best name.
        let decoded = match entry.len() <= LONGEST {
            true => guard(|| self.tokenizer.decode(&[id], false).ok()).flatten(),
            false => None,
        };
        let decoded = decoded.filter(|text| text.len() <= longest_text(&entry));
        let text = decoded.unwrap_or_else(|| entry.clone());
        let bytes = match text.contains(char::REPLACEMENT_CHARACTER) {
            true if class == Some(Class::Special) => None,
            true => self.spelling.bytes(&entry).filter(|bytes| str::from_utf8(bytes).is_err()),
            false => None,
        };
        let bytes = bytes.map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect());
        Token { row, text, class, cause, bytes }
    }

    /// The class of a row's token and its cause; `None` where the tokenizer breaks on it.
    pub fn classify(&self, row: u64) -> Option<(Class, Cause)> {
        let Some((id, entry)) = self.entry(row) else {
            let absent = if row < self.end { Absent::Hole } else { Absent::Past };
            return Some((Class::NoToken, Cause { absent: Some(absent), ..Cause::default() }));
        };
        if entry.len() > LONGEST {
            return None;
        }
        if let Some(&marked) = self.added.get(&id) {
            let ids = guard(|| stages::encode(&self.tokenizer, &entry)).flatten();
            let parses = ids.map(|ids| ids == [id]);
            return Some((
                Class::Special,
                Cause { marked: Some(marked), parses, ..Cause::default() },
            ));
        }
        let stages =
            self.stages.get_or_init(|| guard(|| Stages::new(&self.tokenizer, &self.spelling)));
        let stages = stages.as_ref()?;
        guard(|| stages.judge(&self.tokenizer, &self.spelling, id, &entry))
    }

    fn entry(&self, row: u64) -> Option<(u32, String)> {
        let id = u32::try_from(row).ok()?;
        self.tokenizer.id_to_token(id).map(|entry| (id, entry))
    }
}

/// The longest entry that is decoded, in bytes, and how many times longer its text may become.
const LONGEST: usize = 4096;
const GROWTH: usize = 4096;

/// The longest text that an entry may stand for. A report holds the texts of all rows at a time:
/// together they should not take more than a few times the room of the file they come from.
fn longest_text(entry: &str) -> usize {
    64 + 8 * entry.len()
}

/// The bytes that a normaliser may make of all added tokens: the library runs it on each of them
/// when it reads the file, and keeps sixteen more for every byte while it does.
const NORMALISED: usize = 64 << 20;

/// How many times longer a decoder or a normaliser can make a text, by its parts' own fields.
fn growth(part: &Value) -> usize {
    let text = |key: &str| part[key].as_str();
    let own = if let (pattern, Some(content)) = (&part["pattern"], text("content")) {
        match pattern["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => content.len().div_ceil(pattern.len()).max(1),
            // What matches nothing matches between any two characters too.
            None if pattern.is_null() => 1,
            _ => content.len().saturating_add(1),
        }
    } else if let Some(prepend) = text("prepend") {
        prepend.len().saturating_add(1)
    } else if text("word_delimiter_token") == Some("") || text("type") == Some("ByteLevel") {
        2
    } else {
        1
    };
    let parts = ["decoders", "normalizers"].into_iter().filter_map(|key| part[key].as_array());
    parts.flatten().map(growth).fold(own, usize::saturating_mul)
}

/// Whether each map of characters in a normaliser has what it claims in its first four bytes: the
/// library makes room for a trie of that length, up to eight gigabytes, before it looks.
fn honest(part: &Value) -> bool {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let map = part["precompiled_charsmap"].as_str().unwrap_or_default();
    // Six digits are four bytes and four bits; what is no digit the library refuses by itself.
    let digits = map.bytes().take(6).map(|c| DIGITS.iter().position(|&digit| digit == c));
    let bits = digits.fold(0u64, |bits, digit| bits << 6 | digit.unwrap_or(0) as u64);
    let claimed = ((bits >> 4) as u32).swap_bytes();
    let parts = part["normalizers"].as_array();
    claimed as usize <= map.len() && parts.into_iter().flatten().all(honest)
}

/// Refuses a normaliser that could make more of the added tokens than there is room for.
fn modest(json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Added {
        content: String,
    }
    let file: File = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if !honest(&file.normalizer) {
        return Err("its map of characters claims to be longer than it is".into());
    }
    let added: usize = file.added_tokens.iter().map(|token| token.content.len()).sum();
    match added.saturating_mul(growth(&file.normalizer)) <= NORMALISED {
        true => Ok(()),
        false => Err("its normaliser makes texts of any length".into()),
    }
}

/// Refuses what the library would take apart between the bytes of a character: it cuts the prefix
/// of continuing pieces off the second half of each merge, by its length alone.
fn sound(json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File<M> {
        #[serde(bound(deserialize = "M: Deserialize<'de>"))]
        model: M,
    }
    #[derive(Deserialize)]
    struct Prefix {
        continuing_subword_prefix: Option<String>,
    }
    #[derive(Deserialize)]
    struct Merges {
        merges: Option<Vec<Merge>>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Text(String),
        Pair(IgnoredAny, String),
    }
    let said = |e: serde_json::Error| e.to_string();
    let prefix: File<Prefix> = serde_json::from_slice(json).map_err(said)?;
    let length = prefix.model.continuing_subword_prefix.map_or(0, |prefix| prefix.len());
    if length == 0 {
        return Ok(());
    }
    let merges: File<Merges> = serde_json::from_slice(json).map_err(said)?;
    let whole = |merge: &Merge| {
        let second = match merge {
            Merge::Text(text) => text.split_once(' ').map_or("", |(_, second)| second),
            Merge::Pair(_, second) => second,
        };
        second.is_char_boundary(length)
    };
    match merges.model.merges.unwrap_or_default().iter().all(whole) {
        true => Ok(()),
        false => Err("a merge is shorter than the prefix of continuing pieces, or cuts it".into()),
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread, now, is one that is caught and told of as a fault of a file.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs a part of the library on what a stranger wrote; `None` where it panics.
fn guard<T>(run: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    // What it leaves half done is not used again: a parser's result is lost, and decoding changes
    // nothing.
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_tokenizer_is_an_error() {
        for json in ["", "{}", "[1]", r#"{"version":"1.0","model":{"type":"BPE"}}"#] {
            assert!(Vocabulary::parse("tokenizer.json", json.as_bytes()).is_err(), "{json}");
        }
    }
}
