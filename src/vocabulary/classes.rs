//! What a row's token is to its tokenizer, and why it may never be emitted. Pure: the names of the
//! classes, their causes, and what bytes can be inside UTF-8.

use serde::{Deserialize, Serialize};

/// The class of a row's token: the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The tokenizer has no token of this id.
    NoToken,
    /// A token added beside the vocabulary that was trained.
    Special,
    /// Bytes that are no text by themselves.
    Fragment,
    /// Its text is encoded as exactly this token.
    Reachable,
    /// The normaliser makes another text of its text.
    Normalised,
    /// The pre-tokeniser cuts its text into several pieces.
    Split,
    /// Its text is one piece, of which the model makes other tokens.
    Unmerged,
}

impl Class {
    /// Every class, in the order in which they are tried.
    pub const ALL: [Self; 7] = [
        Self::NoToken,
        Self::Special,
        Self::Fragment,
        Self::Reachable,
        Self::Normalised,
        Self::Split,
        Self::Unmerged,
    ];

    /// The name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::Special => "special",
            Self::Fragment => "fragment",
            Self::Reachable => "reachable",
            Self::Normalised => "normalised",
            Self::Split => "split",
            Self::Unmerged => "unmerged",
        }
    }
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// The id is past the tokenizer's last: padding.
    Past,
    /// The tokenizer's ids leave this one out.
    Hole,
}

/// What else is known of a token, by its class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Of no token: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
    /// Of a special token: whether the tokenizer marks it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<bool>,
    /// Of a special token: whether its text is encoded as it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parses: Option<bool>,
    /// Of a fragment: whether its bytes can be inside UTF-8 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible: Option<bool>,
    /// Of a fragment: whether the model builds it from its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildable: Option<bool>,
    /// Of a normalised token: the text that the normaliser makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<String>,
    /// Of a split token: the pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<String>>,
    /// The tokens that its text is encoded as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<u32>>,
}

/// Whether bytes can stand somewhere inside a UTF-8 text.
///
/// By the table of well-formed sequences (Unicode, table 3-7): the bytes may begin inside a
/// character and end inside one, so every state of a decoder is a possible beginning.
pub fn is_possible(bytes: &[u8]) -> bool {
    let mut states: Vec<State> = State::ALL.to_vec();
    for &byte in bytes {
        states = states.into_iter().filter_map(|state| state.after(byte)).collect();
        states.sort_unstable();
        states.dedup();
    }
    !states.is_empty()
}

/// Where a decoder of UTF-8 stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Between characters.
    Between,
    /// Any so many bytes of continuation are missing.
    One,
    Two,
    Three,
    /// After a byte that bounds the next.
    E0,
    Ed,
    F0,
    F4,
}

impl State {
    const ALL: [Self; 8] =
        [Self::Between, Self::One, Self::Two, Self::Three, Self::E0, Self::Ed, Self::F0, Self::F4];

    fn after(self, byte: u8) -> Option<Self> {
        let (low, high, next) = match self {
            Self::Between => {
                return match byte {
                    0x00..=0x7f => Some(Self::Between),
                    0xc2..=0xdf => Some(Self::One),
                    0xe0 => Some(Self::E0),
                    0xed => Some(Self::Ed),
                    0xe1..=0xef => Some(Self::Two),
                    0xf0 => Some(Self::F0),
                    0xf1..=0xf3 => Some(Self::Three),
                    0xf4 => Some(Self::F4),
                    _ => None,
                };
            }
            Self::One => (0x80, 0xbf, Self::Between),
            Self::Two => (0x80, 0xbf, Self::One),
            Self::Three => (0x80, 0xbf, Self::Two),
            Self::E0 => (0xa0, 0xbf, Self::One),
            Self::Ed => (0x80, 0x9f, Self::One),
            Self::F0 => (0x90, 0xbf, Self::Two),
            Self::F4 => (0x80, 0x8f, Self::Two),
        };
        (low..=high).contains(&byte).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_no_text_holds_are_impossible() {
        for bytes in [
            &[0xc0][..],
            &[0xc1],
            &[0xf5],
            &[0xff],
            &[0xc3, 0x41],
            &[0xe0, 0x80],
            &[0xed, 0xa0],
            &[0xf0, 0x80],
            &[0xf4, 0x90],
            &[0x80, 0x80, 0x80, 0x80],
            &[0x41, 0x80],
        ] {
            assert!(!is_possible(bytes), "{bytes:x?}");
        }
        for bytes in [
            &[0x80][..],
            &[0xbf, 0xbf, 0xbf],
            &[0xc3],
            &[0xe0],
            &[0xf4, 0x8f],
            &[0xa9, 0x20],
            &[0x80, 0x41, 0xe4, 0xb8],
            &[],
        ] {
            assert!(is_possible(bytes), "{bytes:x?}");
        }
    }

    proptest! {
        /// Whatever is cut out of a text is possible.
        #[test]
        fn every_part_of_a_text_is_possible(text in "\\PC{0,8}", cut in 0usize..9, length in 0usize..9) {
            let bytes = text.as_bytes();
            let from = cut.min(bytes.len());
            let to = (from + length).min(bytes.len());
            prop_assert!(is_possible(&bytes[from..to]));
        }
    }
}
