//! Step 2: a file becomes bytes by range.
//!
//! Knows nothing of models or of the Hub: [`HttpSource`] asks a URL, [`FileSource`] a local file,
//! [`MemorySource`] a buffer. How a fresh link is obtained when one expires is handed in.

mod client;
mod clients;
mod content_range;
mod file;
mod http;
mod interleaved;
mod link;
mod memory;
mod limits;
mod options;
mod retry;
mod secret;
mod ways;
#[cfg(target_os = "linux")]
mod window;

pub(crate) use client::content_length;
pub use client::{Client, Headers};
#[cfg(any(test, fuzzing))]
pub(crate) use content_range::{ContentRange, check};
pub use file::FileSource;
pub use http::HttpSource;
pub use interleaved::{Interleaved, Share, Strand};
pub use link::{Identity, Link, Relink};
pub use memory::MemorySource;
pub use options::{Options, Proxies};
#[cfg(any(test, fuzzing))]
pub(crate) use retry::{Budget, told_wait};
pub use retry::{Clock, Policy, SystemClock};
pub use secret::Secret;

use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt as _};
use std::fmt;
use std::ops::Range;

/// The bytes of one file at one revision, by range.
///
/// Contract of [`stream`](ByteSource::stream): exactly `range.end - range.start` bytes, in order
/// and in chunks of any size, then the end; or one error, then the end. Never short, never long.
/// Failures that may pass are retried inside; an error means that retrying did not help. An empty
/// chunk says that a try has failed and another follows, for whoever decides how many streams there
/// are.
pub trait ByteSource: Send + Sync {
    /// The file's name, for messages.
    fn name(&self) -> &str;

    /// The file's length in bytes, as its keeper states it.
    fn size(&self) -> u64;

    /// SHA-256 of the file, in 64 hex digits, where its keeper states it. It is taken at its word.
    fn sha256(&self) -> Option<&str> {
        None
    }

    /// Whether the bytes are at hand, so that several streams at a time take threads to read and not
    /// connections.
    fn is_local(&self) -> bool {
        false
    }

    /// Streams the bytes of `range`, which must lie inside the file.
    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>>;

    /// The same for one who will look at few of the bytes, where those that are not looked at may cost
    /// nothing.
    fn stream_for_few(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.stream(range)
    }
}

/// The bytes of `range` in one buffer; for headers, never for weights.
///
/// The buffer grows as bytes arrive, so that a claimed length costs nothing by itself.
pub async fn read(source: &dyn ByteSource, range: Range<u64>) -> Result<Bytes> {
    let mut stream = source.stream(range);
    let mut buffer = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk?);
    }
    Ok(buffer.freeze())
}

/// Reads a whole file through its source, if it has at most `limit` bytes.
pub(crate) async fn read_whole(source: &dyn ByteSource, limit: u64) -> Result<Bytes> {
    if source.size() > limit {
        let what = format!("longer than the {limit} bytes that such a file may have");
        return Err(Error::format(source.name(), what));
    }
    read(source, 0..source.size()).await
}

/// A URL that prints without user, query and fragment, where secrets and signatures live.
#[derive(Clone, Copy)]
pub struct SafeUrl<'a>(pub &'a reqwest::Url);

impl fmt::Display for SafeUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_without_its_secrets() {
        let url = reqwest::Url::parse("https://user:pw@host:8443/a/b?Signature=s#f").unwrap();
        assert_eq!(SafeUrl(&url).to_string(), "https://host:8443/a/b");
    }
}
