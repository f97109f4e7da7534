//! What the stand-in does wrong on purpose, as data.

use super::body::{Delivery, Stop};
use super::log::Host;
use super::repository::opaque;
use super::wire::{self, Answer};
use std::ops::Range;
use std::time::Duration;

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Whose answer.
    pub on: Host,
    /// Only requests whose path, without the query, ends like this.
    pub path_end: String,
    /// Only requests with a range.
    pub ranged: bool,
    /// Which of the requests that match.
    pub nth: Nth,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A fault of the CDN's range answers.
    pub fn cdn(nth: Nth, action: Action) -> Self {
        Self { on: Host::Cdn, path_end: String::new(), ranged: true, nth, action }
    }

    /// A fault of the Hub's answers to requests whose path ends like this.
    pub fn hub(path_end: &str, nth: Nth, action: Action) -> Self {
        let path_end = path_end.to_owned();
        Self { on: Host::Hub, path_end, ranged: false, nth, action }
    }
}

/// Which of the matching requests, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// This one.
    Only(usize),
    /// The first so many.
    First(usize),
    /// This one and all after it.
    From(usize),
    /// All.
    Every,
    /// All that come so long after the start.
    After(Duration),
    /// One in so many, at random and each time the same ones.
    OneIn(u64),
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// The connection is closed before any header.
    Refuse,
    /// The connection is reset before any header.
    ResetBeforeHeaders,
    /// Nothing comes, not even a header; the connection stays open.
    StallBeforeHeaders,
    /// The connection is closed after so many bytes of the body, fewer than were announced.
    Break {
        /// Bytes sent before.
        after: u64,
    },
    /// The connection is reset after so many bytes of the body: an error, where closing is an end.
    Reset {
        /// Bytes sent before.
        after: u64,
    },
    /// Nothing comes after so many bytes of the body; the connection stays open.
    Stall {
        /// Bytes sent before.
        after: u64,
    },
    /// The body comes at a trickle.
    Drip {
        /// Bytes sent at a time.
        bytes: u64,
        /// Time between them.
        every: Duration,
    },
    /// Another status, with these headers and body.
    Status {
        /// The status.
        code: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body.
        body: String,
    },
    /// The whole file with 200, whatever range was asked for.
    IgnoreRange,
    /// A range that begins later than asked.
    WrongStart,
    /// A range that ends later than asked.
    WrongEnd,
    /// Another total length.
    WrongTotal,
    /// 206 without Content-Range.
    NoContentRange,
    /// An honest answer to a part of the range only.
    Shorter {
        /// Bytes sent.
        length: u64,
    },
    /// Zero bytes after the end of what Content-Range tells, in a body of no announced length.
    LongerBody {
        /// Bytes sent after the end.
        extra: u64,
    },
    /// The range as the one part of a multipart/byteranges body.
    Multipart,
    /// One byte of the body is sent inverted.
    Flip {
        /// Its place in the body.
        at: u64,
    },
    /// All links that were signed so far expire, the one that is asked for among them.
    Expire,
    /// A header of the answer is set to another value.
    SetHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Headers are left out.
    DropHeaders {
        /// How their names begin.
        prefix: String,
    },
}

impl Action {
    /// A status with a body and no headers.
    pub fn status(code: u16, body: &str) -> Self {
        Self::Status { code, headers: Vec::new(), body: body.to_owned() }
    }

    /// All the headers, and none of the body.
    pub fn empty() -> Self {
        Self::Break { after: 0 }
    }

    /// A body that claims to be compressed.
    pub fn gzip() -> Self {
        Self::SetHeader { name: "content-encoding".to_owned(), value: "gzip".to_owned() }
    }

    /// Weights with another hash, as after a push between two requests.
    pub fn changed_file() -> Self {
        Self::SetHeader {
            name: "x-linked-etag".to_owned(),
            value: format!("\"{}\"", opaque("changed", 64)),
        }
    }

    /// A redirect.
    pub fn redirect(code: u16, location: &str) -> Self {
        let headers = vec![("location".to_owned(), location.to_owned())];
        Self::Status { code, headers, body: String::new() }
    }
}

impl Action {
    /// Does to an answer what concerns its headers and body, and tells how the body leaves.
    pub(super) fn spoil(self, answer: &mut Answer) -> Delivery {
        let mut delivery = Delivery::default();
        match self {
            Self::Break { after } => delivery.stop = Some((after, Stop::Close)),
            Self::Reset { after } => delivery.stop = Some((after, Stop::Reset)),
            Self::Stall { after } => delivery.stop = Some((after, Stop::Stall)),
            Self::Drip { bytes, every } => delivery.drip = Some((bytes.max(1), every)),
            Self::Flip { at } => delivery.flip = Some(at),
            Self::LongerBody { extra } => (delivery.extra, delivery.chunked) = (extra, true),
            Self::WrongStart => tell(answer, |range, total| {
                format!("bytes {}-{}/{total}", range.start + 1, range.end)
            }),
            Self::WrongEnd => {
                tell(answer, |range, total| format!("bytes {}-{}/{total}", range.start, range.end));
            }
            Self::WrongTotal => tell(answer, |range, total| {
                format!("bytes {}-{}/{}", range.start, range.end - 1, total + 1)
            }),
            Self::NoContentRange => answer.remove("content-range"),
            Self::Shorter { length } => {
                let end = answer.range.start.saturating_add(length.max(1));
                answer.range.end = answer.range.end.min(end);
                tell(answer, wire::told);
            }
            Self::Multipart if answer.status == 206 => multipart(answer),
            Self::SetHeader { name, value } => {
                answer.remove(&name);
                answer.headers.push((name, value));
            }
            Self::DropHeaders { prefix } => {
                delivery.chunked = "content-length".starts_with(&prefix);
                answer.headers.retain(|(name, _)| !name.starts_with(&prefix));
            }
            // These decide on the whole answer, before there is one to spoil; or there is no range.
            Self::Refuse
            | Self::ResetBeforeHeaders
            | Self::StallBeforeHeaders
            | Self::Status { .. }
            | Self::IgnoreRange
            | Self::Expire
            | Self::Multipart => {}
        }
        delivery
    }
}

/// Rewrites Content-Range, where a range is sent.
fn tell(answer: &mut Answer, write: impl Fn(&Range<u64>, u64) -> String) {
    if answer.status == 206 {
        let value = write(&answer.range, answer.content.size());
        answer.remove("content-range");
        answer.headers.push(("content-range".to_owned(), value));
    }
}

/// Wraps the range, which is held in memory for it.
fn multipart(answer: &mut Answer) {
    *answer = wire::multipart(&answer.content, std::slice::from_ref(&answer.range));
}

/// A fault, and how many requests have matched it.
pub(super) struct Armed {
    fault: Fault,
    matched: usize,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, matched: 0 }
    }

    /// What to do with a request, if this fault is about it.
    pub(super) fn strike(
        &mut self,
        on: Host,
        path: &str,
        ranged: bool,
        since: Duration,
    ) -> Option<Action> {
        let fault = &self.fault;
        let about = fault.on == on && path.ends_with(&fault.path_end) && (ranged || !fault.ranged);
        if !about {
            return None;
        }
        let number = self.matched;
        self.matched += 1;
        let now = match fault.nth {
            Nth::Only(n) => number == n,
            Nth::First(n) => number < n,
            Nth::From(n) => number >= n,
            Nth::Every => true,
            Nth::After(time) => since >= time,
            Nth::OneIn(many) => {
                let seed = format!("{:?} {number}", fault.action);
                u64::from_str_radix(&opaque(&seed, 16), 16).is_ok_and(|at| at % many.max(1) == 0)
            }
        };
        now.then(|| fault.action.clone())
    }
}
