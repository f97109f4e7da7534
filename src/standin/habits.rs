//! Where real servers differ from one another, and from day to day: each habit is one that the Hub
//! or its CDN has been seen with, and a client must be right in all of them.

use std::time::Duration;

/// What the Hub does with a range that is sent to it, and not to where it redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HubRange {
    /// The link that it signs is good for exactly that range, and for no other.
    #[default]
    Bind,
    /// It signs a link that is good for any range.
    Ignore,
    /// A cache applies the range to the redirect's own short body: 416 with `bytes */177`.
    Refuse,
}

/// What the CDN does when asked for several ranges at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Several {
    /// The whole file with 200.
    #[default]
    Whole,
    /// All of them, as multipart/byteranges.
    Parts,
    /// 403.
    Refuse,
}

/// How the Hub writes the address of a redirect to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Location {
    /// `/path`.
    #[default]
    Path,
    /// `http://host/path`.
    Absolute,
    /// `//host/path`.
    SchemeRelative,
}

/// All habits; the default is what the Hub does today.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    /// No Hub at all, but a static web server.
    pub(super) plain: bool,
    /// Bytes of a body that are sent at a time.
    pub(super) chunk: usize,
    /// Time between an answer's decision and its first byte.
    pub(super) latency: Duration,
    /// Requests that the CDN serves at a time, where that has a limit.
    pub(super) serves: Option<usize>,
    /// How long a link is good for once it is signed.
    pub(super) lifetime: Duration,
    /// How long before it is handed out a link was signed.
    pub(super) signed_ago: Duration,
    /// Links are signed for GET, and HEAD is refused.
    pub(super) signed_for_get: bool,
    pub(super) hub_range: HubRange,
    pub(super) several: Several,
    pub(super) location: Location,
    /// The status of redirects within the Hub.
    pub(super) redirect: u16,
    /// Each connection serves one request.
    pub(super) close: bool,
    /// Requests in a window, where it is not the Hub's own quota.
    pub(super) quota: Option<u64>,
    pub(super) window: Duration,
    /// Entries on a page of a listing, where it is not the Hub's own number.
    pub(super) page: Option<usize>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            plain: false,
            chunk: 64 << 10,
            latency: Duration::ZERO,
            serves: None,
            lifetime: Duration::from_secs(3600),
            signed_ago: Duration::ZERO,
            signed_for_get: false,
            hub_range: HubRange::default(),
            several: Several::default(),
            location: Location::default(),
            redirect: 307,
            close: false,
            quota: None,
            window: Duration::from_secs(300),
            page: None,
        }
    }
}
