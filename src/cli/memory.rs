//! How the system's allocator is told to behave, on glibc.
//!
//! Left to itself it learns from the buffers of the first answers to keep such buffers in its heap, and
//! never gives the heap's end back, and has a heap for each thread: a scan over eight connections peaks
//! 3 MB higher then, of 26, and one with a tokenizer 9 MB, of 95. Other allocators were measured, and
//! hold more.

/// From this size up memory comes straight from the system, and goes back to it; by being set it no longer
/// grows. Above the buffers of answers, which come and go some sixty times in a scan of 622 MB: mapped anew
/// each time, they are a tenth of the time that the system takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 512 << 10;

/// What may lie free at the heap's end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE: libc::c_int = 32 << 10;

/// Tells the allocator; to be called before anything large is held. Of a tokenizer many small parts are made
/// by a thread of their own, which has a heap of its own then: with one for all it takes a third longer.
/// Without, little is asked for at a time, so that threads seldom meet at the one heap, and what one lets go
/// of the others find.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn give_back(with_tokenizer: bool) {
    let heaps = if with_tokenizer { 2 } else { 1 };
    let values = [
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, FREE),
        (libc::M_ARENA_MAX, heaps),
    ];
    for (what, value) in values {
        // SAFETY: two numbers are handed in, which glibc knows; where it refuses, all stays as it was.
        unsafe { libc::mallopt(what, value) };
    }
}

/// Lets go of the pages of the program itself. To set up a scan runs through most of them; those that
/// reading needs come back at a touch from the system's cache, and they are half as many.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn shed() {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    // SAFETY: no arguments but a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page @ 1..) = usize::try_from(page) else { return };
    let (start, end) = (&raw const __executable_start, &raw const etext);
    let start = (start as usize).next_multiple_of(page);
    let length = (end as usize / page * page).saturating_sub(start);
    // SAFETY: from the first byte of the program to the last of its code lies what was mapped from its
    // file and is never written to: constants and code, without relocations. The pages are read again
    // from that file where they are touched; where the system refuses, all stays as it was.
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Elsewhere pages are left to the system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shed() {}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back(_: bool) {}
