//! Servers that want no requests for now: until when, and how long that was waited for in all. One
//! client's knowledge, whatever it reads.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What servers have said, by their origin. A server may count some requests apart from others; what
/// is said of one kind is taken for all, which costs a wait and never a refusal.
#[derive(Default)]
pub(super) struct Limits(Mutex<State>);

#[derive(Default)]
struct State {
    closed: HashMap<String, Instant>,
    waited: Duration,
    /// When the last wait ends.
    until: Option<Instant>,
}

impl Limits {
    /// No request is wanted for so long.
    pub(super) fn close(&self, origin: String, now: Instant, wait: Duration) {
        if let Some(until) = now.checked_add(wait) {
            self.state().closed.insert(origin, until);
        }
    }

    /// How long no request is wanted from now.
    pub(super) fn closed(&self, origin: &str, now: Instant) -> Option<Duration> {
        let until = *self.state().closed.get(origin)?;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// It was waited for.
    pub(super) fn open(&self, origin: &str) {
        self.state().closed.remove(origin);
    }

    /// Whether a wait may begin, of `most` in all. Waits at a time count once.
    pub(super) fn begin(&self, now: Instant, wait: Duration, most: Duration) -> bool {
        let mut state = self.state();
        let from = state.until.map_or(now, |until| until.max(now));
        let Some(end) = now.checked_add(wait) else { return false };
        let waited = state.waited + end.saturating_duration_since(from);
        if waited > most {
            return false;
        }
        state.waited = waited;
        state.until = Some(end.max(from));
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_server_is_closed_until_its_time_or_until_that_was_waited_for() {
        let (limits, now) = (Limits::default(), Instant::now());
        limits.close("a".into(), now, S(5));
        assert_eq!(limits.closed("a", now + S(2)), Some(S(3)));
        assert_eq!(limits.closed("a", now + S(5)), None);
        assert_eq!(limits.closed("b", now), None);
        limits.open("a");
        assert_eq!(limits.closed("a", now), None);
        limits.close("a".into(), now, Duration::MAX);
        assert_eq!(limits.closed("a", now), None);
    }

    #[test]
    fn waits_add_up_and_those_at_a_time_count_once() {
        let (limits, now) = (Limits::default(), Instant::now());
        assert!(limits.begin(now, S(6), S(10)));
        assert!(limits.begin(now, S(4), S(10)));
        // Two seconds more than the first.
        assert!(limits.begin(now + S(1), S(7), S(10)));
        assert!(!limits.begin(now + S(20), S(3), S(10)));
        assert!(limits.begin(now + S(20), S(2), S(10)));
        assert!(!limits.begin(now, Duration::MAX, S(10)));
    }
}
