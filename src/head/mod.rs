//! Step 4: which tensor is the unembedding, and why.
//!
//! The rules in short: a stored head is the unembedding, whatever a flag says. Where none is
//! stored, the text decoder's input embedding is, if the tie flag that holds is true or if nothing
//! says. Where all flags are false there is no unembedding, and the model is refused.

mod candidates;
mod coding;
mod config;
mod defaults;
mod layout;
mod locate;
mod matrix;
mod patterns;
mod names;
mod told;
mod turned;

pub use candidates::{Considered, Names, Role};
pub use coding::{Codes, Coding, Groups, Numbers, Run, Scales};
pub use config::{Config, MAX_CONFIG, Quantisation, TieFlag};
pub use layout::{Layout, Part};
pub use locate::{Located, locate};
pub use matrix::{Matrix, Sample, Span};
pub use told::Told;
pub use turned::Packing;
