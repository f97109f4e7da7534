//! Everything that is promised of the program as a whole, in one binary.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

// What the tests share: fixtures and their expected results, the stand-in Hub, the binary.
mod support;

// The same expectation for every fixture, through every source, chunking and number of streams.
mod answers;

// Which tensor is the head, for every architecture of the `transformers` library.
mod architectures;

// Heads that are copies, in several tensors, or among many names like theirs.
mod heads;

// Heads of codes and scales, in every layout that quantisers write.
mod quantised;

// GGUF files: every type, whole and split, good and damaged.
mod gguf;

// What torch.save writes: archives of every make, good and damaged.
mod pytorch;

// What every token of every family of tokenizers is, and what reports say of it.
mod classes;

// Vocabularies that are no tokenizer.json: what their entries spell, and where they are looked for.
mod vocabularies;

// The numbers of rows: norms, special rows, distances, head against embedding.
mod profile;

// Rows told apart by their first bytes.
mod probe;

// What is sent over the wire when nothing goes wrong: which requests, to whom, for which bytes.
mod requests;

// The gate: policies, baselines, verdicts, and what it costs.
mod check;

// What checks keep, and what they need not read again.
mod store;

// What is sent, and what comes of it, when something does go wrong.
mod faults;

// A scan broken at every request and at every chunk of every body.
mod torture;

// The stand-in Hub itself: that it answers as the real one does, whatever the reader makes of it.
mod standin;

// Bad input: one clear sentence, exit code 2, nothing on standard output.
mod refusals;

// Files that strangers made: headers, indexes, configurations, tokenizers, names.
mod hostile;

// The forms of a report, and where they are written.
mod formats;

// The forms of a verdict: each accepted by what reads it, whatever strangers wrote.
mod renderings;

// What is shipped for CI: the steps of the Action, the hook.
#[cfg(unix)]
mod shipped;

// Runs that are told to stop, whose readers go away, whose files cannot be written.
#[cfg(unix)]
mod interruption;

// Tokens, passwords and signed queries, planted everywhere and looked for in all that is printed.
mod secrets;

// Variables of the environment and the local cache.
mod surroundings;

// Memory is bounded, whatever the matrix's size.
#[cfg(target_os = "linux")]
mod memory;
