//! How entries of a vocabulary spell texts: spaces, bytes, continued and ended words.

use serde_json::Value;
use std::collections::HashMap;
use tokenizers::{ModelWrapper, Tokenizer};

/// How a tokenizer's entries are written.
pub(super) struct Spelling {
    /// The bytes that characters stand for, as in GPT-2, where they do.
    bytes: Option<HashMap<char, u8>>,
    /// Whether the normaliser writes in that alphabet already.
    early: bool,
    /// Whether `▁` stands for a space.
    metaspace: bool,
    /// Whether `<0x0A>` stands for a byte.
    fallback: bool,
    /// What entries that continue a word begin with.
    continuing: Option<String>,
    /// What entries that end a word end with.
    ending: Option<String>,
}

/// What an entry spells.
pub(super) enum Unspelled {
    Text(String),
    /// Bytes that are no text by themselves.
    Bytes(Vec<u8>),
}

/// The character that stands for a space.
const META: char = '▁';

impl Spelling {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let told = |part: Option<Value>| part.unwrap_or(Value::Null).to_string();
        let normaliser =
            told(tokenizer.get_normalizer().and_then(|n| serde_json::to_value(n).ok()));
        let pre = told(tokenizer.get_pre_tokenizer().and_then(|p| serde_json::to_value(p).ok()));
        let decoder = told(tokenizer.get_decoder().and_then(|d| serde_json::to_value(d).ok()));
        let byte_level = [&normaliser, &pre, &decoder].iter().any(|p| p.contains("\"ByteLevel\""));
        let metaspace = [&normaliser, &pre, &decoder]
            .iter()
            .any(|part| part.contains("\"Metaspace\"") || part.contains(META));
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (fallback, continuing, ending) = match tokenizer.get_model() {
            ModelWrapper::BPE(bpe) => (
                bpe.byte_fallback,
                given(&bpe.continuing_subword_prefix),
                given(&bpe.end_of_word_suffix),
            ),
            ModelWrapper::Unigram(unigram) => (unigram.byte_fallback(), None, None),
            ModelWrapper::WordPiece(words) => {
                (false, given(&Some(words.continuing_subword_prefix.clone())), None)
            }
            ModelWrapper::WordLevel(_) => (false, None, None),
        };
        let bytes = byte_level.then(byte_alphabet);
        let early = normaliser.contains("\"ByteLevel\"");
        Self { bytes, early, metaspace: metaspace && !byte_level, fallback, continuing, ending }
    }

    /// Whether some entries continue words.
    pub(super) fn continues(&self) -> bool {
        self.continuing.is_some()
    }

    /// Whether an entry continues a word.
    pub(super) fn is_continuation(&self, entry: &str) -> bool {
        self.continuing.as_ref().is_some_and(|prefix| {
            entry.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
        })
    }

    /// Whether a space may be put in front of a text.
    pub(super) fn prefixes_space(&self) -> bool {
        self.metaspace
    }

    /// Whether a piece begins with a space, as it is spelled.
    pub(super) fn starts_with_space(&self, piece: &str) -> bool {
        match (&self.bytes, self.metaspace) {
            (Some(bytes), _) => piece.chars().next().and_then(|c| bytes.get(&c)) == Some(&b' '),
            (None, true) => piece.starts_with(META),
            (None, false) => piece.starts_with(' '),
        }
    }

    /// What an entry spells.
    pub(super) fn unspell(&self, entry: &str) -> Unspelled {
        if let Some(bytes) = self.bytes(entry) {
            return match String::from_utf8(bytes) {
                Ok(text) => Unspelled::Text(text),
                Err(error) => Unspelled::Bytes(error.into_bytes()),
            };
        }
        let entry = match &self.continuing {
            Some(prefix) if self.is_continuation(entry) => &entry[prefix.len()..],
            _ => entry,
        };
        let entry = match &self.ending {
            Some(ending) => entry.strip_suffix(ending.as_str()).unwrap_or(entry),
            None => entry,
        };
        Unspelled::Text(self.plain(entry))
    }

    /// The bytes that an entry spells, where it spells bytes.
    pub(super) fn bytes(&self, entry: &str) -> Option<Vec<u8>> {
        if let Some(alphabet) = &self.bytes {
            let entry = match &self.ending {
                Some(ending) => entry.strip_suffix(ending.as_str()).unwrap_or(entry),
                None => entry,
            };
            return entry.chars().map(|c| alphabet.get(&c).copied()).collect();
        }
        let digits = entry.strip_prefix("<0x")?.strip_suffix('>')?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)?;
        self.fallback.then(|| vec![byte])
    }

    /// What the normaliser made, as the text that it spells.
    pub(super) fn plain_normal(&self, normal: &str) -> String {
        match self.bytes.is_some() && !self.early {
            true => normal.to_owned(),
            false => self.plain(normal),
        }
    }

    /// A piece as the text that it spells.
    pub(super) fn plain(&self, piece: &str) -> String {
        if let Some(alphabet) = &self.bytes {
            let bytes: Option<Vec<u8>> = piece.chars().map(|c| alphabet.get(&c).copied()).collect();
            if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                return text;
            }
        }
        match self.metaspace {
            true => piece.replace(META, " "),
            false => piece.to_owned(),
        }
    }
}

/// GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes, in order,
/// for the characters from U+0100 on.
pub(super) fn byte_alphabet() -> HashMap<char, u8> {
    let itself = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = (0x100u32..).filter_map(char::from_u32);
    (0..=255u8)
        .filter_map(|b| {
            let c = if itself(b) { char::from(b) } else { others.next()? };
            Some((c, b))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet.len(), 256);
        for (c, byte) in [('Ġ', b' '), ('Ċ', b'\n'), ('!', b'!'), ('Ń', 0xad), ('ÿ', 0xff)] {
            assert_eq!(alphabet[&c], byte);
        }
    }
}
