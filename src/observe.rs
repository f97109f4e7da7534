//! What a run tells while it runs.
//!
//! ```text
//! Matrix ─► ( Received | Duplicate | Zero | NonFinite | Waiting )* ─► Done
//! Warning and Request may come at any time, before Matrix too.
//! ```
//!
//! `Done` is not sent when the run fails: the `Result` decides.

use std::time::Duration;

/// Something that watches a run: a progress bar, a log, a test.
///
/// Duties: [`event`](Observer::event) is called from several threads, between network reads; it
/// must not block and must not panic.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A model is refused, and this name looked like what was looked for.
    Considered {
        /// The name.
        name: &'a str,
        /// Why it is not that.
        why: &'a str,
    },
    /// A request is sent: its method and its address, without query.
    Request {
        /// `GET` or `HEAD`.
        method: &'a str,
        /// The address, without its query.
        url: &'a str,
    },
    /// The matrix is chosen and its rows will now be read.
    Matrix {
        /// The tensor's name.
        tensor: &'a str,
        /// The file that holds it.
        file: &'a str,
        /// Rows of the matrix.
        rows: u64,
        /// Bytes of the matrix.
        bytes: u64,
    },
    /// So many bytes of the matrix have come, each counted once.
    Received {
        /// Bytes that came since the last such event.
        bytes: u64,
    },
    /// A row equals one that was seen before it; each such row is told once.
    Duplicate {
        /// The row.
        row: u64,
        /// The first row with its bytes that was seen, in order of arrival.
        same_as: u64,
    },
    /// A row is zero throughout; told where rows are measured, each once, as is the next.
    Zero {
        /// The row.
        row: u64,
    },
    /// A row holds a NaN or an infinity.
    NonFinite {
        /// The row.
        row: u64,
    },
    /// A server asked to wait, or a failed request is tried again later.
    Waiting {
        /// How long.
        duration: Duration,
        /// Why.
        why: &'a str,
    },
    /// Something the user should know and that is no failure.
    Warning {
        /// One sentence.
        message: &'a str,
    },
    /// All rows have been read.
    Done,
}

/// An observer that looks away.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}
