//! What the stand-in does wrong on purpose, as data.

use super::log::Host;

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
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// The connection is closed before any header.
    Refuse,
    /// The connection is closed after so many bytes of the body, fewer than were announced.
    Break {
        /// Bytes sent before.
        after: u64,
    },
    /// Nothing comes after so many bytes of the body; the connection stays open.
    Stall {
        /// Bytes sent before.
        after: u64,
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
    /// Another total length.
    WrongTotal,
    /// 206 without Content-Range.
    NoContentRange,
    /// An honest answer to a part of the range only.
    Shorter {
        /// Bytes sent.
        length: u64,
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
    pub(super) fn strike(&mut self, on: Host, path: &str, ranged: bool) -> Option<Action> {
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
        };
        now.then(|| fault.action.clone())
    }
}
