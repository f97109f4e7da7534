//! Step 3: bytes become a list of tensors.
//!
//! [`Checkpoint`] finds the files and their headers; nothing is read but headers: where each tensor's bytes lie, and of which type and shape they are.

mod decode;
mod dtype;
mod gguf;
mod index;
mod pickle;
mod pytorch;
mod safetensors;
mod weights;

pub use decode::{HeaderDecoder, Step, decode};
pub use dtype::{Block, Dtype};
pub use gguf::Gguf;
pub use index::{Index, MAX_INDEX};
pub use pytorch::{Member, Place, PyTorch};
pub use safetensors::Safetensors;
pub use weights::{Checkpoint, Chosen};

use std::ops::Range;

/// The vocabulary that a header holds, an entry for each id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// How they are spelled: `gpt2`, `llama`, …
    pub model: String,
    /// The entries, of which a few are no UTF-8.
    pub tokens: Vec<Vec<u8>>,
    /// What each is, by the numbers of the format; empty where it does not say.
    pub types: Vec<i32>,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRecord {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its sides, outermost first.
    pub shape: Vec<u64>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}
