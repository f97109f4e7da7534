//! How the system's allocator is told to behave, on glibc.
//!
//! Left to itself it learns from the buffers of the first answers to keep such buffers in its heap, and
//! never gives the heap's end back, and has a heap for each thread: a scan over eight connections peaks
//! 3 MB higher then, of 26, and one with a tokenizer 9 MB, of 95. Other allocators were measured, and
//! hold more.

/// From this size up memory comes straight from the system, and goes back to it: the allocator's own
/// first value, which by being set no longer grows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

/// Heaps: little is asked for at a time, so that threads seldom meet at one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;

/// Tells the allocator; to be called before anything large is held.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    let values = [
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, LARGE),
        (libc::M_ARENA_MAX, HEAPS),
    ];
    for (what, value) in values {
        // SAFETY: two numbers are handed in, which glibc knows; where it refuses, all stays as it was.
        unsafe { libc::mallopt(what, value) };
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
