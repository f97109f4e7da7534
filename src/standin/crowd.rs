//! How many requests are served at a time: each has a place from its answer's first byte to the last.

use std::sync::{Arc, Mutex, PoisonError};

/// The places that are taken, and the most that ever were.
#[derive(Default)]
pub(super) struct Crowd(Mutex<(usize, usize)>);

/// A place, given back when it is dropped.
pub(super) struct Place(Arc<Crowd>);

impl Crowd {
    /// A place, if fewer than the limit are taken.
    pub(super) fn enter(self: &Arc<Self>, limit: Option<usize>) -> Option<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, most) = &mut *places;
        if limit.is_some_and(|limit| *now >= limit) {
            return None;
        }
        *now += 1;
        *most = (*most).max(*now);
        Some(Place(Arc::clone(self)))
    }

    pub(super) fn most(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
    }
}
