//! Step 8: what a row is called, and whether its tokenizer can ever emit it.

mod classes;
#[cfg(feature = "tokenizer")]
mod assembled;
#[cfg(feature = "tokenizer")]
mod files;
#[cfg(feature = "tokenizer")]
mod listed;
#[cfg(feature = "tokenizer")]
mod pieces;
#[cfg(feature = "tokenizer")]
mod settings;
#[cfg(feature = "tokenizer")]
mod spelling;
#[cfg(feature = "tokenizer")]
mod stages;
#[cfg(feature = "tokenizer")]
mod tokenizer;

pub use classes::{Absent, Cause, Class, is_possible};
#[cfg(feature = "tokenizer")]
pub use files::{BESIDE, Beside, FILES, Form, Named};
#[cfg(feature = "tokenizer")]
pub use listed::Listed;
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
    /// What else is known of it, by its class.
    #[serde(flatten)]
    pub cause: Cause,
    /// The token's bytes in hex, where they are no UTF-8 by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}
