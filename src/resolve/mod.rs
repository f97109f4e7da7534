//! Step 1: a name becomes a pinned set of files.
//!
//! [`ModelSpec`] is what a user may type; [`Snapshot`] is what it becomes: files at one revision,
//! whether they lie on a Hub, in its cache, in a folder or behind one URL.

mod cache;
mod directory;
mod hops;
mod hub;
mod spec;
mod url;

pub use directory::Directory;
pub use hub::{ENDPOINT, Hub, HubSnapshot};
pub use spec::ModelSpec;
pub use url::SingleUrl;

use crate::error::Result;
use crate::source::ByteSource;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files at ONE revision: everything read in one run comes from it.
///
/// A name is a path with `/` between its parts, relative to the snapshot's root. `Ok(None)` means
/// that the keeper says there is no such file; whatever keeps it from answering is an error.
pub trait Snapshot: Send + Sync {
    /// Where the files come from. The commit is known after the first answer.
    fn origin(&self) -> Origin;

    /// Completes once it is known which revision the files are of, so that what is asked for then,
    /// at a time with what told it, is of that one. Where nothing tells ahead, it never does.
    fn pinned(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// The files that were asked for, each with what the keeper says identifies its content, or `None`
    /// where it says that there is none; nothing at all unless that is known of every one.
    fn asked_for(&self) -> Option<Content> {
        None
    }

    /// What the keeper says identifies the content of every file, in one request; nothing where it does
    /// not say so.
    fn contents(&self) -> BoxFuture<'_, Option<Content>> {
        Box::pin(std::future::ready(None))
    }

    /// A file to be read by ranges.
    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn ByteSource>>>>;

    /// A small file, whole; longer than `limit` bytes is an error.
    fn read<'a>(&'a self, file: &'a str, limit: u64) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// The names of the files, as far as the keeper lists them: for messages, never for decisions.
    fn list(&self) -> BoxFuture<'_, Vec<String>>;

    /// Which of these files may be there, where telling costs less than to ask for each.
    fn possible<'a>(&'a self, files: Vec<String>) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async { files })
    }
}

/// What identifies the content of files, by their names: the git object's id, in 40 hex digits, or of
/// large files the SHA-256, in 64. `None` where there is no such file.
pub type Content = BTreeMap<String, Option<String>>;

/// Where a model was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The model's name: its repository, its URL without query, or its path.
    pub id: String,
    /// What kind of place that is.
    pub source: Place,
    /// The revision as it was asked for; `null` where there are none.
    pub revision: Option<String>,
    /// The commit that the files belong to; `null` where nothing tells.
    pub commit: Option<String>,
}

/// The kinds of places a model is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A repository on a Hub, or its copy in the local cache.
    Hub,
    /// One file behind a URL.
    Url,
    /// A local folder.
    Directory,
    /// A local file.
    File,
}
