//! Everything that can go wrong, sorted by what the reader can do about it.
//!
//! `Display` is one sentence: what happened and where. What to do next is the caller's to say
//! (the command-line tool does so in `cli/advice.rs`). Nothing here holds a token or a signed
//! query: URLs are stored as [`SafeUrl`](crate::source::SafeUrl) prints them.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result of every step of the pipeline.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a step could not be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What the user typed names no model, or the options contradict each other.
    Usage {
        /// What is wrong with it.
        what: String,
    },
    /// The Hub has no such repository, or does not show it to this caller.
    NoSuchRepository {
        /// The repository that was asked for.
        id: String,
        /// Whether a token was sent; without one a private repository looks like a missing one.
        authenticated: bool,
    },
    /// The repository is gated, or the token is not accepted.
    AccessDenied {
        /// The repository that was asked for.
        id: String,
        /// What the server said, cut short.
        message: String,
        /// Whether a token was sent.
        authenticated: bool,
    },
    /// The repository has no such branch, tag or commit.
    NoSuchRevision {
        /// The repository.
        id: String,
        /// The revision that was asked for.
        revision: String,
    },
    /// A file that is needed does not exist.
    NoSuchFile {
        /// The file, as its source names it.
        file: String,
    },
    /// The file is not at hand, and the network may not be used.
    Offline {
        /// What would have been fetched.
        what: String,
    },
    /// The repository has no weights that can be read; says what it has instead.
    NoWeights {
        /// The model.
        model: String,
        /// What was found instead.
        instead: String,
    },
    /// No tensor of the checkpoint is the unembedding.
    NoUnembedding {
        /// The model.
        model: String,
        /// Why, and what there is instead.
        why: String,
    },
    /// The tensor exists, but has no rows that can be read.
    Unreadable {
        /// The tensor.
        tensor: String,
        /// Why its rows cannot be read.
        why: String,
    },
    /// A file does not hold what its format says.
    Format {
        /// The file.
        file: String,
        /// Which rule is broken, and where.
        what: String,
    },
    /// The server ignores ranges, so that the whole file would have been sent.
    RangesIgnored {
        /// The address.
        url: String,
    },
    /// The server answered, but not what was asked for.
    BadAnswer {
        /// The address.
        url: String,
        /// What was asked and what came.
        what: String,
    },
    /// The server refuses for now.
    RateLimited {
        /// The address.
        url: String,
        /// Seconds until the server expects to answer again, where it says so.
        wait: Option<u64>,
        /// What the server calls the request.
        request: Option<String>,
    },
    /// The network or the server failed, and trying again did not help.
    Network {
        /// The address.
        url: String,
        /// The last failure.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The file changed while it was read.
    Changed {
        /// The file.
        file: String,
        /// What differs.
        what: String,
    },
    /// A local file could not be read or written.
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    /// A broken rule of a file's format.
    pub(crate) fn format(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Format { file: file.into(), what: what.into() }
    }

    /// A failed operation on a local path.
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { what } => write!(f, "{what}"),
            Self::NoSuchRepository { id, authenticated: false } => {
                write!(f, "{id}: no such repository, or it is private and no token was sent")
            }
            Self::NoSuchRepository { id, authenticated: true } => {
                write!(f, "{id}: no such repository, or the token may not see it")
            }
            Self::AccessDenied { id, message, authenticated } => {
                let token = if *authenticated { "with this token" } else { "without a token" };
                write!(f, "{id}: access denied {token}")?;
                if message.is_empty() { Ok(()) } else { write!(f, " ({message})") }
            }
            Self::NoSuchRevision { id, revision } => {
                write!(f, "{id}: no revision named {revision}")
            }
            Self::NoSuchFile { file } => write!(f, "{file}: no such file"),
            Self::Offline { what } => {
                write!(f, "{what}: not in the local cache, and the network may not be used")
            }
            Self::NoWeights { model, instead } => {
                write!(f, "{model}: no weights that are read ({instead})")
            }
            Self::NoUnembedding { model, why } => {
                write!(f, "{model}: no unembedding matrix: {why}")
            }
            Self::Unreadable { tensor, why } => write!(f, "{tensor}: no readable rows: {why}"),
            Self::Format { file, what } => write!(f, "{file}: {what}"),
            Self::RangesIgnored { url } => {
                write!(f, "{url}: the server ignores range requests and would send the whole file")
            }
            Self::BadAnswer { url, what } => write!(f, "{url}: {what}"),
            Self::RateLimited { url, wait, request } => {
                write!(f, "{url}: rate limit reached")?;
                if let Some(request) = request {
                    write!(f, ", request {request}")?;
                }
                match wait {
                    Some(seconds) => write!(f, "; it resets in {seconds} s"),
                    None => Ok(()),
                }
            }
            Self::Network { url, what, attempts: 1 } => write!(f, "{url}: {what}"),
            Self::Network { url, what, attempts } => {
                write!(f, "{url}: {what} (tried {attempts} times)")
            }
            Self::Changed { file, what } => {
                write!(f, "{file}: changed while it was read: {what}")
            }
            Self::Io { path, doing, source } => {
                write!(f, "{}: cannot {doing}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
