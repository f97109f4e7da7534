//! A vocabulary that is a list and no tokenizer: what entries spell is known, and not what encodes to
//! them.

use super::spelling::byte_alphabet;
use super::{Absent, Cause, Class, Token};
use crate::checkpoint::Entries;

/// What an entry is, by the numbers of llama.cpp (`llama_token_type`).
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// The entries of a GGUF file's metadata.
pub struct Listed {
    entries: Vec<Entry>,
}

struct Entry {
    spelled: Result<String, Vec<u8>>,
    special: Option<bool>,
}

impl Listed {
    /// Takes the entries as they are spelled there.
    pub fn new(entries: Entries) -> Self {
        let Entries { model, tokens, types } = entries;
        let alphabet = (model == "gpt2").then(byte_alphabet);
        let entry = |(number, token): (usize, String)| {
            let kind = types.get(number).copied().unwrap_or_default();
            let special = match kind {
                CONTROL => Some(true),
                USER_DEFINED => Some(false),
                _ => None,
            };
            let bytes = match (special, &alphabet) {
                (Some(_), _) => None,
                (None, Some(alphabet)) => {
                    token.chars().map(|c| alphabet.get(&c).copied()).collect()
                }
                (None, None) if kind == BYTE => byte(&token).map(|byte| vec![byte]),
                // SentencePiece's sign for a space.
                (None, None) => Some(token.replace('▁', " ").into_bytes()),
            };
            let spelled = match bytes.map(String::from_utf8) {
                None => Ok(token),
                Some(Ok(text)) => Ok(text),
                Some(Err(error)) => Err(error.into_bytes()),
            };
            Entry { spelled, special }
        };
        Self { entries: tokens.into_iter().enumerate().map(entry).collect() }
    }

    /// How many ids there are.
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The class of a row's token, where a list tells it: special tokens, and rows past its end.
    pub fn classify(&self, row: u64) -> Option<(Class, Cause)> {
        match self.entry(row) {
            None => {
                let absent = Some(Absent::Past);
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

    fn entry(&self, row: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(row).ok()?)
    }
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
        let (tokens, types) = entries.iter().map(|&(text, kind)| (text.to_owned(), kind)).unzip();
        Listed::new(Entries { model: model.into(), tokens, types })
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
    fn only_what_a_list_tells_is_classed() {
        let list = listed("llama", &[("a", 1), ("</s>", 3), ("<x>", 4), ("<unk>", 2)]);
        let class = |row| list.classify(row).map(|(class, cause)| (class, cause.marked));
        assert_eq!(class(0), None);
        assert_eq!(class(1), Some((Class::Special, Some(true))));
        assert_eq!(class(2), Some((Class::Special, Some(false))));
        assert_eq!((class(3), class(4)), (None, Some((Class::NoToken, None))));
    }
}
