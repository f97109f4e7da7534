//! Which files a vocabulary may lie in, and how each is read.

use super::settings::Settings;
use super::tokenizer::{MAX_TOKENIZER, Vocabulary};
use super::{Cause, Class, Listed, Token, assembled, pieces};
use crate::error::{Error, Result};
use bytes::Bytes;

/// Names of rows, from whichever file.
pub enum Named {
    /// By a tokenizer, which classes them too.
    Tokenizer(Box<Vocabulary>),
    /// By a list.
    Listed(Listed),
}

impl Named {
    /// How many ids there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Tokenizer(all) => all.size(),
            Self::Listed(all) => all.size(),
        }
    }

    /// How many of a matrix's rows lie past the last id, as far as that is known.
    pub fn padding_rows(&self, rows: u64) -> u64 {
        match self {
            Self::Tokenizer(all) => all.padding_rows(rows),
            Self::Listed(all) => all.padding_rows(rows),
        }
    }

    /// The class of a row's token and its cause, where they are known.
    pub fn classify(&self, row: u64) -> Option<(Class, Cause)> {
        match self {
            Self::Tokenizer(all) => all.classify(row),
            Self::Listed(all) => all.classify(row),
        }
    }

    /// What is known of a row.
    pub fn token(&self, row: u64) -> Token {
        match self {
            Self::Tokenizer(all) => all.token(row),
            Self::Listed(all) => all.token(row),
        }
    }
}

/// The files that a vocabulary is looked for in: the first that is there counts.
pub const FILES: [&str; 9] = [
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "qwen.tiktoken",
    "tiktoken.model",
];

/// The longest file of others than `tokenizer.json` that is read; the longest known have 19 MB, and
/// an entry of a byte may take forty.
const MAX_OTHERS: u64 = 32 << 20;

/// How a file is read, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A whole tokenizer.
    Json,
    /// `vocab.json`: entries with their ids; merges lie beside it.
    Pairs,
    /// `vocab.txt`: a line for each id.
    Words,
    /// A SentencePiece model, or a list of ranks.
    Pieces,
}

impl Form {
    /// The form of a file; what has no other known name is a whole tokenizer.
    pub fn of(file: &str) -> Self {
        let name = file.rsplit('/').next().unwrap_or(file);
        match name.rsplit_once('.') {
            _ if name == "vocab.json" => Self::Pairs,
            Some((_, "txt")) => Self::Words,
            Some((_, "model" | "spm" | "tiktoken")) => Self::Pieces,
            _ => Self::Json,
        }
    }

    /// The longest that is read.
    pub fn limit(self) -> u64 {
        if self == Self::Json { MAX_TOKENIZER } else { MAX_OTHERS }
    }
}

/// The files that may lie beside one that is no whole tokenizer, in the order of [`Beside`].
pub const BESIDE: [&str; 4] =
    ["merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"];

/// What lies beside a file that is no whole tokenizer.
#[derive(Debug, Default)]
pub struct Beside {
    /// `merges.txt`.
    pub merges: Option<Bytes>,
    /// `tokenizer_config.json`.
    pub config: Option<Bytes>,
    /// `added_tokens.json`.
    pub added: Option<Bytes>,
    /// `special_tokens_map.json`.
    pub special: Option<Bytes>,
}

impl Beside {
    /// Whether the configuration holds the added tokens already.
    pub fn tells_all(&self) -> bool {
        self.config.as_deref().is_some_and(Settings::hold_added)
    }
}

impl Named {
    /// Reads a vocabulary; `file` is its name.
    pub fn read(file: &str, bytes: &[u8], beside: &Beside) -> Result<Self> {
        let Beside { merges, config, added, special } = beside;
        let settings = || Settings::read(config.as_deref(), added.as_deref(), special.as_deref());
        match Form::of(file) {
            Form::Json => Vocabulary::parse(file, bytes).map(|all| Self::Tokenizer(Box::new(all))),
            Form::Pairs => assembled::pairs(file, bytes, merges.as_deref(), settings()?),
            Form::Words => assembled::words(file, bytes, settings()?),
            Form::Pieces => {
                let wrong =
                    |what| Error::format(file, format!("the tokenizer cannot be read: {what}"));
                pieces::read(file, bytes, &settings()?).map(Self::Listed).map_err(wrong)
            }
        }
    }
}
