//! How a local file is read: by windows onto the system's pages, or by copies of them. Pure decisions;
//! times are handed in.
//!
//! Which is faster hangs on how the file came into the system's cache. What was read at a stretch lies
//! there in large pieces; a window takes each at once, and the bytes are spared a copy. Pages that came one
//! by one, or were in part taken away and came again, a window takes one by one, and that costs twice a
//! copy. No call tells, so that both are tried, with the work that is done on the bytes: a copy leaves
//! them in the processor's cache, and the pages that nobody looks at cost a window nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often each way is tried, unless windows take two thirds of the time of copies before. The best time
/// counts: the first finds everything cold, a window most of all, and machines have other things to do.
const TRIES: usize = 3;

/// The part of a window's time that a copy must spare to be chosen: times differ by as much for no reason,
/// and where copies are better, they are so by far more.
const WORTH: u32 = 16;

/// A way to come by the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Windows,
    Copies,
}

/// What was tried of a file, by all streams that read it.
#[derive(Debug, Default)]
pub(super) struct Ways(Mutex<Tried>);

#[derive(Debug, Default)]
struct Tried {
    begun: usize,
    windows: Vec<Duration>,
    copies: Vec<Duration>,
}

impl Ways {
    /// The way in which the next part is to be read.
    pub(super) fn next(&self) -> Way {
        let mut tried = self.tried();
        tried.better().unwrap_or_else(|| {
            tried.begun += 1;
            if tried.begun % 2 == 1 { Way::Copies } else { Way::Windows }
        })
    }

    /// How long a part took that way, with the work on it. All that are told of are of one length.
    pub(super) fn took(&self, way: Way, time: Duration) {
        let mut tried = self.tried();
        if tried.better().is_none() {
            match way {
                Way::Windows => tried.windows.push(time),
                Way::Copies => tried.copies.push(time),
            }
        }
    }

    fn tried(&self) -> MutexGuard<'_, Tried> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tried {
    /// The better way, once that is known.
    fn better(&self) -> Option<Way> {
        let (windows, copies) = (*self.windows.iter().min()?, *self.copies.iter().min()?);
        match self.windows.len().min(self.copies.len()) < TRIES {
            true if windows < copies * 2 / 3 => Some(Way::Windows),
            true => None,
            false if windows.saturating_sub(copies) > windows / WORTH => Some(Way::Copies),
            false => Some(Way::Windows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// What is kept after parts took so long, each in both ways.
    fn kept(times: &[(u64, u64)]) -> Way {
        let ways = Ways::default();
        for &(windows, copies) in times {
            assert_eq!([ways.next(), ways.next()], [Way::Copies, Way::Windows]);
            ways.took(Way::Windows, MS(windows));
            ways.took(Way::Copies, MS(copies));
        }
        let kept = ways.next();
        // What comes later changes nothing.
        ways.took(Way::Windows, MS(0));
        ways.took(Way::Copies, MS(0));
        assert_eq!([ways.next(), ways.next()], [kept, kept]);
        kept
    }

    #[test]
    fn both_ways_are_tried_and_the_better_one_is_kept() {
        assert_eq!(kept(&[(50, 40), (33, 40), (32, 40)]), Way::Windows);
        assert_eq!(kept(&[(32, 40), (40, 32), (32, 31)]), Way::Windows);
        assert_eq!(kept(&[(32, 40), (32, 32), (32, 29)]), Way::Copies);
    }

    #[test]
    fn windows_that_are_clearly_better_are_tried_no_more() {
        assert_eq!(kept(&[(19, 30)]), Way::Windows);
        assert_eq!(kept(&[(90, 40), (19, 30)]), Way::Windows);
        // A first window may be as slow as that.
        assert_eq!(kept(&[(90, 30), (90, 30), (28, 30)]), Way::Windows);
        assert_eq!(kept(&[(90, 30), (90, 30), (90, 30)]), Way::Copies);
    }

    #[test]
    fn a_way_that_is_not_told_of_is_tried_again() {
        let ways = Ways::default();
        for _ in 0..3 {
            ways.took(Way::Windows, MS(1));
            assert_eq!([ways.next(), ways.next()], [Way::Copies, Way::Windows]);
        }
    }
}
