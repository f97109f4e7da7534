//! What was asked of the stand-in.

use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One of the three listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Resolves names, and redirects.
    Hub,
    /// Holds the bytes of weights.
    Cdn,
    /// Belongs to neither; must never see a token.
    Elsewhere,
}

/// One request, and what became of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who was asked.
    pub host: Host,
    /// `GET`, `HEAD` or another method.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, of a POST.
    pub body: Bytes,
    /// When it came.
    pub at: Instant,
    /// The status of the answer; 0 where the connection was closed without one.
    pub status: u16,
    /// Body bytes sent so far.
    pub sent: u64,
}

impl Request {
    /// A header's value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The range that was asked for.
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// The requests so far; bodies count while they are sent.
#[derive(Default)]
pub(super) struct Log(Mutex<Vec<(Request, Arc<AtomicU64>)>>);

impl Log {
    pub(super) fn add(&self, request: Request) -> Arc<AtomicU64> {
        let sent = Arc::new(AtomicU64::new(0));
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push((request, Arc::clone(&sent)));
        sent
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |(request, sent): &(Request, Arc<AtomicU64>)| Request {
            sent: sent.load(Relaxed),
            ..request.clone()
        };
        entries.iter().map(shown).collect()
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
