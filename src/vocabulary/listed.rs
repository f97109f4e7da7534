//! A vocabulary that is a list and no tokenizer: what entries spell is known, and not what encodes to
//! them.

use super::settings::Added;
use super::spelling::byte_alphabet;
use super::{Absent, Cause, Class, Token};
use crate::checkpoint::Entries;
use std::collections::BTreeMap;

/// What an entry is, by the numbers of SentencePiece, which llama.cpp took over.
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// What entries spell, by their ids.
pub struct Listed {
    entries: BTreeMap<u32, Entry>,
    /// Whether every id is in it, so that there is no token of any other.
    complete: bool,
}

struct Entry {
    spelled: Result<String, Vec<u8>>,
    special: Option<bool>,
}

impl Listed {
    /// The bytes that entries spell, and of those that were added beside a trained vocabulary whether
    /// they are marked special. Of two of one id the later counts.
    pub fn new(
        entries: impl IntoIterator<Item = (u32, Vec<u8>, Option<bool>)>,
        complete: bool,
    ) -> Self {
        let entry = |(id, bytes, special)| {
            let spelled = String::from_utf8(bytes).map_err(|error| error.into_bytes());
            (id, Entry { spelled, special })
        };
        Self { entries: entries.into_iter().map(entry).collect(), complete }
    }

    /// The entries of a GGUF file's metadata, as they are spelled there.
    pub fn of_metadata(entries: Entries) -> Self {
        let Entries { model, tokens, types } = entries;
        let alphabet = (model == "gpt2").then(byte_alphabet);
        let kind = |id: u32| types.get(id as usize).copied().unwrap_or_default();
        let entry = |(id, token): (u32, Vec<u8>)| {
            let spelled = match (std::str::from_utf8(&token), kind(id), &alphabet) {
                (Err(_), ..) | (_, CONTROL | USER_DEFINED, _) => None,
                (Ok(text), _, Some(alphabet)) => {
                    text.chars().map(|c| alphabet.get(&c).copied()).collect()
                }
                (Ok(text), _, None) if model == "rwkv" => Some(unescaped(text)),
                (Ok(text), kind, None) => Some(piece(text, kind)),
            };
            (id, spelled.unwrap_or(token), added(kind(id)))
        };
        // What fills a vocabulary up to the rows of the matrix is no token.
        let is_padding = |(id, token): &(u32, Vec<u8>)| {
            kind(*id) == UNUSED && *token == format!("[PAD{id}]").into_bytes()
        };
        let entries = (0..).zip(tokens).filter(|entry| !is_padding(entry));
        Self::new(entries.map(entry), true)
    }

    /// The same with tokens that were added to it.
    pub(super) fn with(mut self, tokens: &BTreeMap<u32, Added>) -> Self {
        let entry = |(&id, token): (&u32, &Added)| {
            (id, Entry { spelled: Ok(token.content.clone()), special: Some(token.special) })
        };
        self.entries.extend(tokens.iter().map(entry));
        self
    }

    /// How many ids there are.
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many of a matrix's rows lie past the last id; none where others may have ids too.
    pub fn padding_rows(&self, rows: u64) -> u64 {
        if self.complete { rows.saturating_sub(self.end()) } else { 0 }
    }

    /// The class of a row's token, where a list tells it: special tokens, and rows without any.
    pub fn classify(&self, row: u64) -> Option<(Class, Cause)> {
        match self.entry(row) {
            None if !self.complete => None,
            None => {
                let absent = Some(if row < self.end() { Absent::Hole } else { Absent::Past });
                Some((Class::NoToken, Cause { absent, ..Cause::default() }))
            }
            Some(entry) => {
                let marked = Some(entry.special?);
                Some((Class::Special, Cause { marked, ..Cause::default() }))
            }
        }
    }

    /// What is known of a row's token.
    pub fn token(&self, row: u64) -> Token {
        let (class, cause) = self.classify(row).unzip();
        let (text, bytes) = match self.entry(row).map(|entry| &entry.spelled) {
            None => (String::new(), None),
            Some(Ok(text)) => (text.clone(), None),
            Some(Err(bytes)) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (String::from_utf8_lossy(bytes).into_owned(), Some(hex))
            }
        };
        Token { row, text, class, cause: cause.unwrap_or_default(), bytes }
    }

    /// One past the highest id.
    fn end(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(&id, _)| u64::from(id) + 1)
    }

    fn entry(&self, row: u64) -> Option<&Entry> {
        self.entries.get(&u32::try_from(row).ok()?)
    }
}

/// Whether an entry was added beside what was trained, and then whether it is marked special.
pub(super) fn added(kind: i32) -> Option<bool> {
    match kind {
        CONTROL => Some(true),
        USER_DEFINED => Some(false),
        _ => None,
    }
}

/// The bytes that a SentencePiece entry spells.
pub(super) fn piece(token: &str, kind: i32) -> Vec<u8> {
    match byte(token) {
        Some(byte) if kind == BYTE => vec![byte],
        // Its sign for a space.
        _ => token.replace('▁', " ").into_bytes(),
    }
}

/// What an entry of an RWKV vocabulary spells, which is written with Python's escapes: `\n`, `\x0a`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter().copied();
    while let Some(byte) = rest.next() {
        match (byte, rest.clone().next()) {
            (b'\\', Some(escape)) => {
                rest.next();
                let digits = text.get(text.len() - rest.len()..).and_then(|rest| rest.get(..2));
                let hex = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
                bytes.push(match (escape, hex) {
                    (b't', _) => b'\t',
                    (b'n', _) => b'\n',
                    (b'r', _) => b'\r',
                    (b'x', Some(byte)) => {
                        rest.nth(1);
                        byte
                    }
                    (other, _) => other,
                });
            }
            (byte, _) => bytes.push(byte),
        }
    }
    bytes
}

/// The byte that `<0x0A>` spells.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(model: &str, entries: &[(&str, i32)]) -> Listed {
        let (tokens, types) = entries.iter().map(|&(text, kind)| (text.into(), kind)).unzip();
        Listed::of_metadata(Entries { model: model.into(), tokens, types })
    }

    #[test]
    fn entries_are_spelled_by_their_model() {
        let list = listed("gpt2", &[("Ġa", 1), ("Ã", 1), ("<|Ġ|>", 3), ("<x>", 4)]);
        let texts: Vec<_> = (0..5).map(|row| list.token(row)).map(|t| (t.text, t.bytes)).collect();
        let text = |text: &str| (text.to_owned(), None);
        let half = ("\u{fffd}".to_owned(), Some("c3".to_owned()));
        assert_eq!(texts, [text(" a"), half, text("<|Ġ|>"), text("<x>"), text("")]);
        let list = listed("llama", &[("▁a", 1), ("<0x0A>", 6), ("<0xFF>", 6), ("<0x0A>", 1)]);
        let texts: Vec<_> = (0..4).map(|row| list.token(row)).map(|t| (t.text, t.bytes)).collect();
        let byte = ("\u{fffd}".to_owned(), Some("ff".to_owned()));
        assert_eq!(texts, [text(" a"), text("\n"), byte, text("<0x0A>")]);
    }

    #[test]
    fn entries_of_rwkv_are_written_with_escapes() {
        let list = listed("rwkv", &[("\\n", 1), ("\\xe4\\xb8", 1), ("a\\\\'", 1), ("\\x4", 1)]);
        let texts: Vec<_> = (0..4).map(|row| list.token(row)).map(|t| (t.text, t.bytes)).collect();
        let text = |text: &str| (text.to_owned(), None);
        let half = ("\u{fffd}".to_owned(), Some("e4b8".to_owned()));
        assert_eq!(texts, [text("\n"), half, text("a\\'"), text("x4")]);
    }

    #[test]
    fn what_fills_a_vocabulary_up_is_padding() {
        let list = listed("gpt2", &[("a", 1), ("[PAD1]", 1), ("[PAD2]", 5), ("[PAD3]", 5)]);
        assert_eq!((list.size(), list.padding_rows(4)), (2, 2));
        assert_eq!(list.classify(2).map(|(class, _)| class), Some(Class::NoToken));
        assert_eq!(list.classify(1), None);
        let tokens = vec![vec![b'a', 0xff]];
        let list = Listed::of_metadata(Entries { model: "llama".into(), tokens, types: vec![1] });
        assert_eq!(list.token(0).bytes.as_deref(), Some("61ff"));
    }

    #[test]
    fn only_what_a_list_tells_is_classed() {
        let list = listed("llama", &[("a", 1), ("</s>", 3), ("<x>", 4), ("<unk>", 2)]);
        let class = |row| list.classify(row).map(|(class, cause)| (class, cause.marked));
        assert_eq!(class(0), None);
        assert_eq!(class(1), Some((Class::Special, Some(true))));
        assert_eq!(class(2), Some((Class::Special, Some(false))));
        assert_eq!((class(3), class(4)), (None, Some((Class::NoToken, None))));
    }

    #[test]
    fn a_list_that_may_lack_ids_says_nothing_of_those_it_lacks() {
        let entries = || [(1, b"a".to_vec(), None), (3, vec![0xff], None)];
        let class = |list: &Listed, row| list.classify(row).map(|(_, cause)| cause.absent);
        let (whole, part) = (Listed::new(entries(), true), Listed::new(entries(), false));
        assert_eq!(
            (class(&whole, 2), class(&whole, 4)),
            (Some(Some(Absent::Hole)), Some(Some(Absent::Past)))
        );
        assert_eq!((class(&part, 2), class(&part, 4)), (None, None));
        assert_eq!((whole.size(), whole.padding_rows(6), part.padding_rows(6)), (2, 2, 0));
    }
}
