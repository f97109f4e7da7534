//! Step 8: what a row is called.

#[cfg(feature = "tokenizer")]
mod tokenizer;

#[cfg(feature = "tokenizer")]
pub use tokenizer::{MAX_TOKENIZER, Vocabulary, is_guarded};

use serde::{Deserialize, Serialize};

/// What is known of a row's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The row, which is the token's id.
    pub row: u64,
    /// The token as the tokenizer decodes it alone; what is no UTF-8 by itself becomes `�`.
    pub text: String,
    /// Its class, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Why there is no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
    /// The token's bytes in hex, where they are no UTF-8 by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// The class of a row's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The tokenizer has no token of this id.
    NoToken,
    /// A token added beside the vocabulary that was trained.
    Special,
}

impl Class {
    /// The name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::Special => "special",
        }
    }
}

/// Why a row has no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// The id is past the tokenizer's last: padding.
    Past,
    /// The tokenizer's ids leave this one out.
    Hole,
}
