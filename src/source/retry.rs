//! What is tried again, after which wait, and when to give up: pure decisions.
//!
//! The rules follow what the official clients do: six transient statuses, five tries without
//! progress, doubling waits; a wait that the server states is kept.

use futures::future::BoxFuture;
use std::time::{Duration, Instant, SystemTime};

/// Time and chance, handed in so that tests neither sleep nor roll dice.
pub trait Clock: Send + Sync {
    /// A moment that only moves forward.
    fn now(&self) -> Instant;
    /// The wall clock, for headers that hold a date.
    fn wall(&self) -> SystemTime;
    /// Completes after the given time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// A number in `[0, 1)`.
    fn random(&self) -> f64;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> f64 {
        use std::hash::{BuildHasher as _, RandomState};
        // A fresh RandomState is seeded at random; 53 bits fill a double's fraction.
        (RandomState::new().hash_one(()) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How patient a client is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Policy {
    /// Time for the connection to stand.
    pub connect: Duration,
    /// Time for the answer's headers to come.
    pub headers: Duration,
    /// Time between two chunks of a body.
    pub idle: Duration,
    /// Bytes a second below which a body counts as broken: a server that trickles would hold a
    /// scan for ever, never idle and never done.
    pub slowest: u64,
    /// Time over which that is measured.
    pub slow_for: Duration,
    /// Tries after the first, refilled whenever bytes arrive.
    pub retries: u32,
    /// The longest wait that a server may ask for; a rate-limit window is 300 s.
    pub longest_wait: Duration,
    /// All waits together that servers of limited requests may ask of one client.
    pub waits: Duration,
    /// Time without a single new byte after which no further try is made.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            slowest: 1000,
            slow_for: Duration::from_secs(30),
            retries: 5,
            longest_wait: Duration::from_secs(310),
            waits: Duration::MAX,
            patience: Duration::from_secs(900),
        }
    }
}

/// The statuses that may pass by themselves.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The wait that a refusing answer asks for, if it names one.
///
/// On 429 an exhausted `RateLimit` window wins over `Retry-After`; where requests remain in the
/// window another limiter fired, and the window's reset is not the time to wait for.
/// A second is added, as the official client does, because windows end on whole seconds.
pub(crate) fn told_wait(
    status: u16,
    retry_after: Option<&str>,
    rate_limit: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let exhausted = match (status, rate_limit.and_then(parse_rate_limit)) {
        (429, Some((0, reset))) => Some(reset),
        _ => None,
    };
    let wait = match exhausted {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let text = retry_after?.trim();
            match text.parse() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => httpdate::parse_http_date(text)
                    .ok()?
                    .duration_since(now)
                    .unwrap_or(Duration::ZERO),
            }
        }
    };
    Some(wait.saturating_add(Duration::from_secs(1)))
}

/// How long no request is wanted, by a `RateLimit` of which none remains.
pub(super) fn exhausted(rate_limit: &str) -> Option<Duration> {
    let (_, reset) = parse_rate_limit(rate_limit).filter(|&(remaining, _)| remaining == 0)?;
    Some(Duration::from_secs(reset).saturating_add(Duration::from_secs(1)))
}

/// `"<bucket>";r=<remaining>;t=<seconds to reset>`, with spaces allowed around `;` and `=`.
fn parse_rate_limit(value: &str) -> Option<(u64, u64)> {
    let (mut remaining, mut reset) = (None, None);
    for part in value.split(';') {
        if let Some((name, number)) = part.split_once('=') {
            match name.trim() {
                "r" => remaining = number.trim().parse().ok(),
                "t" => reset = number.trim().parse().ok(),
                _ => {}
            }
        }
    }
    remaining.zip(reset)
}

/// How fast a body comes, by the time that is spent waiting for it: what a slow reader takes does
/// not count against the server.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Bytes came after a wait: whether the body is too slow to be waited for any longer.
    pub(super) fn too_slow(&mut self, policy: &Policy, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < policy.slow_for {
            return false;
        }
        let Self { waited, bytes } = std::mem::take(self);
        (bytes as f64) < policy.slowest as f64 * waited.as_secs_f64()
    }
}

/// What is left of a request's tries.
#[derive(Debug)]
pub(crate) struct Budget {
    failed: u32,
    since: Option<Instant>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { failed: 0, since: None }
    }

    /// Tries made since bytes last arrived, for messages.
    pub(crate) fn attempts(&self) -> u32 {
        self.failed.max(1)
    }

    /// Bytes arrived: all tries are there again.
    pub(super) fn refill(&mut self) {
        *self = Self::new();
    }

    /// Bytes arrived elsewhere: tries do not run out, and waits stay as long as they have become.
    pub(super) fn extend(&mut self, retries: u32) {
        self.failed = self.failed.min(retries.saturating_sub(1));
        self.since = None;
    }

    /// A try failed: how long to wait before the next, or `None` to give up.
    /// `told` is a wait that the server named; it is kept, or too long.
    pub(crate) fn next_wait(
        &mut self,
        policy: &Policy,
        told: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Option<Duration> {
        self.failed += 1;
        let since = *self.since.get_or_insert(now);
        let wait = match told {
            Some(told) => told,
            None => {
                // 1, 2, 4, 8, 8 s, less up to a half at random, so that streams that broke
                // together do not come back together.
                let exponent = (self.failed - 1).min(3);
                Duration::from_secs(1 << exponent).mul_f64(1.0 - random / 2.0)
            }
        };
        let over = self.failed > policy.retries
            || wait > policy.longest_wait
            || now.saturating_duration_since(since).saturating_add(wait) > policy.patience;
        (!over).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_wait_that_the_server_names_is_found() {
        let now = SystemTime::UNIX_EPOCH + S(784_111_770);
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT"); // 784,111,777
        let window = |r, t| Some(format!("\"resolvers\";r={r};t={t}"));
        let wait =
            |status, after, limit: Option<String>| told_wait(status, after, limit.as_deref(), now);
        assert_eq!(wait(429, None, window(0, 2)), Some(S(3)));
        assert_eq!(wait(429, Some("7"), window(0, 2)), Some(S(3)));
        assert_eq!(wait(429, None, window(99_794, 241)), None);
        assert_eq!(wait(429, Some("7"), window(5, 241)), Some(S(8)));
        assert_eq!(wait(503, Some("7"), window(0, 241)), Some(S(8)));
        assert_eq!(wait(503, date, None), Some(S(8)));
        assert_eq!(wait(503, Some("soon"), None), None);
        let spaced = Some("\"api\" ; r = 0 ; t = 4".to_owned());
        assert_eq!(wait(429, None, spaced), Some(S(5)));
    }

    #[test]
    fn tries_run_out_unless_bytes_arrive() {
        let (policy, now) = (Policy::default(), Instant::now());
        let mut budget = Budget::new();
        let waits: Vec<_> = (0..6).map(|_| budget.next_wait(&policy, None, now, 0.0)).collect();
        assert_eq!(waits, [Some(S(1)), Some(S(2)), Some(S(4)), Some(S(8)), Some(S(8)), None]);
        budget.refill();
        assert_eq!(budget.next_wait(&policy, None, now, 0.0), Some(S(1)));
    }

    #[test]
    fn a_trickle_is_too_slow_and_a_slow_reader_is_not() {
        let policy = Policy { slowest: 100, slow_for: S(10), ..Policy::default() };
        let mut pace = Pace::default();
        assert!((0..9).all(|_| !pace.too_slow(&policy, S(1), 99)));
        assert!(pace.too_slow(&policy, S(1), 99));
        // Measured anew.
        assert!((0..30).all(|_| !pace.too_slow(&policy, S(1), 100)));
        // Nothing was waited for, however long it took in all.
        assert!((0..1000).all(|_| !pace.too_slow(&policy, S(0), 1)));
    }

    #[test]
    fn a_wait_that_is_too_long_is_not_begun() {
        let (policy, now) = (Policy::default(), Instant::now());
        assert_eq!(Budget::new().next_wait(&policy, Some(S(311)), now, 0.0), None);
        let mut budget = Budget::new();
        for _ in 0..3 {
            budget.next_wait(&policy, Some(S(300)), now, 0.0);
        }
        assert_eq!(budget.next_wait(&policy, Some(S(300)), now + S(700), 0.0), None);
    }
}
