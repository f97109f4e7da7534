//! The command-line tool: it reads arguments and the environment, hands values to the library,
//! and prints. It uses the library as an outsider would.

pub(crate) mod advice;
pub(crate) mod args;
pub(crate) mod check;
mod init;
pub(crate) mod demo;
mod environment;
pub(crate) mod interrupt;
pub(crate) mod memory;
pub(crate) mod output;
mod progress;
pub(crate) mod run;
pub(crate) mod store;
mod stream;
pub(crate) mod target;
