//! Rate limits: fixed windows, one for each bucket and each caller, that really count down.

use super::habits::Habits;
use super::log::Request;
use super::wire::Answer;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The windows that are open: when each began, and how many requests it has seen.
#[derive(Default)]
pub(super) struct Windows(Mutex<HashMap<Whose, (Instant, u64)>>);

/// A bucket, and the caller's token.
type Whose = (&'static str, Option<String>);

/// Where a caller stands in a window.
pub(super) struct Standing {
    bucket: &'static str,
    quota: u64,
    window: u64,
    rest: u64,
    /// Seconds until the window ends.
    reset: u64,
    /// Whether this request was one too many.
    pub(super) exceeded: bool,
}

impl Windows {
    /// Counts a request.
    pub(super) fn count(
        &self,
        request: &Request,
        token: Option<&str>,
        habits: &Habits,
    ) -> Standing {
        let path = request.path();
        let bucket = match () {
            () if path.starts_with("/api/resolve-cache/") => "resolvers",
            () if path.starts_with("/api/") => "api",
            () if path.contains("/resolve/") => "resolvers",
            () => "pages",
        };
        // The quotas of anonymous callers and of free accounts.
        let quota = habits.quota.unwrap_or(match (bucket, token) {
            ("api", None) => 500,
            ("api", Some(_)) => 1000,
            ("resolvers", None) => 3000,
            ("resolvers", Some(_)) => 5000,
            (_, None) => 100,
            (_, Some(_)) => 200,
        });
        let now = Instant::now();
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, used) = windows.entry((bucket, token.map(str::to_owned))).or_insert((now, 0));
        if now.duration_since(*began) >= habits.window {
            (*began, *used) = (now, 0);
        }
        *used += 1;
        let left = habits.window.saturating_sub(now.duration_since(*began));
        Standing {
            bucket,
            quota,
            window: habits.window.as_secs(),
            rest: quota.saturating_sub(*used),
            reset: left.as_secs_f64().ceil() as u64,
            exceeded: *used > quota,
        }
    }
}

impl Standing {
    /// Tells a caller where it stands, as every answer of the Hub does.
    pub(super) fn tell(&self, answer: Answer) -> Answer {
        let Self { bucket, quota, window, rest, reset, .. } = self;
        answer.header("ratelimit", format!("\"{bucket}\";r={rest};t={reset}")).header(
            "ratelimit-policy",
            format!("\"fixed window\";\"{bucket}\";q={quota};w={window}"),
        )
    }
}

/// The answer to one request too many: a long page, and no Retry-After.
pub(super) fn too_many() -> Answer {
    let page =
        format!("<!doctype html><title>429</title>{}", "<p>Too many requests</p>\n".repeat(2000));
    Answer::text(429, page).header("content-type", "text/html; charset=utf-8")
}
