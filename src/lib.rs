//! Finds bit-for-bit identical rows in a language model's unembedding matrix, reading only the
//! bytes that matter.
//!
//! A model's output head has one row for each entry of its vocabulary. Rows that are identical
//! belong to tokens that the model cannot tell apart: most often vocabulary that was never
//! trained. This crate finds them without downloading the model: it reads the checkpoint's header
//! by HTTP range requests, streams the matrix alone, hashes each row as chunks arrive, and groups
//! equal digests. The matrix is never held in memory.
//!
//! The modules stand in the order in which data flows:
//!
//! ```text
//! name ─► files at one revision ─► header ─► which tensor ─► byte streams ─► rows
//!      resolve                checkpoint    head          source          rows
//!
//!      ─► digests ─► groups ─► words ─► report
//!           analysis, scan   vocabulary  report
//! ```
//!
//! [`pipeline`] joins them. A scan in twelve lines:
//!
//! ```no_run
//! use singularity_survey::pipeline::{Job, Survey};
//! use singularity_survey::resolve::{Hub, ModelSpec};
//! use singularity_survey::source::Options;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let model = ModelSpec::parse("Qwen/Qwen2.5-0.5B", &hub.endpoint)?;
//! let survey = Survey::new(hub, Options::default());
//! let report = survey.prepare(&Job::new(model)).await?.scan(0).await?;
//! println!("{} of {} rows are in groups", report.duplicates.members, report.duplicates.rows);
//! for group in &report.duplicates.groups {
//!     println!("{} {:?}", group.digest.short(), group.rows);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The library never prints, never reads the environment, never ends the process and keeps no
//! global state: what it needs is handed in, and what happens is told to an
//! [`Observer`](observe::Observer). It wants a `tokio` runtime with its I/O and time drivers.
//!
//! Features: `cli` (default) builds the command-line tool and turns on the others; `tokenizer` names
//! rows; `policy` reads the files of gates; `standin` is a Hub on loopback for demonstrations and tests.

#![warn(clippy::print_stdout, clippy::print_stderr)]

// What everything below uses.
pub mod quote;
pub mod error;
pub mod observe;
// A file becomes bytes by range.
pub mod source;
// A name becomes a pinned set of files.
pub mod resolve;
// Bytes become a list of tensors.
pub mod checkpoint;
// Which tensor is the unembedding, and why.
pub mod head;
// Chunks become blocks of whole rows.
pub mod rows;
// What is learnt from rows.
pub mod analysis;
// One pass: streams, rows, an analysis.
pub mod scan;
// What a row is called.
pub mod vocabulary;
// One model of the result, many renderings.
pub mod report;
// What a gate accepts, and what it says.
pub mod policy;
// What was found before, kept in a folder.
pub mod store;
// The steps, one under another.
pub mod pipeline;
// A Hub on loopback that behaves as the real one does.
#[cfg(feature = "standin")]
pub mod standin;
// What must hold of any input, for tests and fuzzers.
#[cfg(any(test, fuzzing))]
pub mod properties;

// The README's example must compile.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;
