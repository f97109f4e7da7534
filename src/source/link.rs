//! Where a file's bytes are served right now, and how a fresh link to the same bytes is told from
//! one to others.

use super::secret::Secret;
use crate::error::Result;
use futures::future::BoxFuture;
use reqwest::Url;
use std::sync::Arc;
use std::time::Duration;

/// Where a file's bytes are served right now.
#[derive(Debug, Clone)]
pub struct Link {
    /// The final address: one that answers ranges itself and does not redirect.
    pub url: Url,
    /// The token, only where the address belongs to the origin that it was given for.
    pub token: Option<Secret>,
    /// How long the link is good for, counted from when it was given.
    pub lifetime: Option<Duration>,
    /// What identifies the bytes behind it.
    pub identity: Identity,
}

/// What identifies a file's bytes; a fresh link must agree in every part that both know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Length in bytes.
    pub size: Option<u64>,
    /// The server's own validator of the content.
    pub etag: Option<String>,
    /// The commit that the file belongs to.
    pub commit: Option<String>,
    /// What the Hub says identifies the content: a git object's id, or a SHA-256.
    pub content: Option<String>,
    /// SHA-256 of the content, in 64 hex digits, where its keeper states it.
    pub sha256: Option<String>,
}

impl Identity {
    /// What differs between two identities of one file.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        match (&self.size, &other.size) {
            (Some(a), Some(b)) if a != b => {
                return Some(format!("its length went from {a} to {b}"));
            }
            _ => {}
        }
        if differ(&self.commit, &other.commit) {
            return Some("it belongs to another commit now".into());
        }
        let other_bytes = differ(&self.etag, &other.etag) || differ(&self.sha256, &other.sha256);
        other_bytes.then(|| "its ETag differs".into())
    }
}

/// Obtains a fresh [`Link`] to one file.
pub type Relink = Arc<dyn Fn() -> BoxFuture<'static, Result<Link>> + Send + Sync>;
