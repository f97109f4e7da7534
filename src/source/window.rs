//! Windows onto a local file: its pages as the system holds them, without a copy. It takes `unsafe` code,
//! which a scan of a local file needs to keep up with what reads it whole: where a file was read at a
//! stretch, a scan takes 0.9 of the time of one that copies, and one that looks at a part of each row 0.4.
//!
//! The danger of a mapped file is that another process shortens it: the pages behind its new end are
//! gone, and to touch one is a fatal signal. Here the signal is taken, zeros are put in the place of
//! what is missing, and the file is marked as [torn](Torn), so that whoever read those zeros learns of
//! it before the end of their stream.

#![allow(unsafe_code)]

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

/// Windows open at a time, in the whole process; there are as many as threads that read.
const SLOTS: usize = 256;

/// Whether a page of the file could not be had. It stays so.
#[derive(Debug, Clone, Default)]
pub(super) struct Torn(Arc<AtomicBool>);

impl Torn {
    pub(super) fn is_torn(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// A part of a file, as long as it is held.
pub(super) struct Window {
    // Dropped after the slot was given back, so that no slot ever points to what is not mapped.
    map: Mmap,
    slot: &'static Slot,
    /// What the slot points to.
    _torn: Torn,
}

/// Where a window is, for the handler of the signal.
struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    length: AtomicUsize,
    torn: AtomicPtr<AtomicBool>,
}

static WINDOWS: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        torn: AtomicPtr::new(std::ptr::null_mut()),
    }
}; SLOTS];

impl Window {
    /// Opens a window; `None` where the system has none to give, or too many are open.
    pub(super) fn open(file: &File, range: Range<u64>, torn: &Torn) -> Option<Self> {
        guard().ok()?;
        let length = usize::try_from(range.end - range.start).ok()?;
        let slot = WINDOWS.iter().find(|slot| !slot.taken.swap(true, SeqCst))?;
        // SAFETY: the bytes may change or vanish while they are looked at. They are only hashed and
        // copied, never taken for anything whose form is relied on; that they changed shows in the
        // file's time, and that they vanished in its being torn, both looked at before the end of
        // the stream that hands them out.
        let map = unsafe { MmapOptions::new().offset(range.start).len(length).map(file) };
        let Ok(map) = map else {
            slot.taken.store(false, SeqCst);
            return None;
        };
        slot.torn.store(Arc::as_ptr(&torn.0).cast_mut(), SeqCst);
        slot.start.store(map.as_ptr() as usize, SeqCst);
        slot.length.store(length, SeqCst);
        Some(Self { map, slot, _torn: torn.clone() })
    }
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // With no length it holds no address.
        self.slot.length.store(0, SeqCst);
        self.slot.taken.store(false, SeqCst);
    }
}

/// What was done at the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Bytes of a page.
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// Takes the signal, once in the life of a process.
fn guard() -> io::Result<()> {
    static TAKEN: OnceLock<bool> = OnceLock::new();
    let taken = *TAKEN.get_or_init(|| {
        // SAFETY: no arguments but constants; an answer that is no length is looked at.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let Ok(page @ 1..) = usize::try_from(page) else { return false };
        PAGE.store(page, SeqCst);
        // SAFETY: all zeros are a valid `sigaction`: no handler, no flags, an empty mask.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        let mut action = before;
        action.sa_sigaction = missing as extern "C" fn(_, _, _) as usize;
        // On the stack for signals, where there is one, and with the address.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: both point to what lives until the call returns. What was done before is asked
        // for first, so that it is known when the first signal comes.
        unsafe {
            if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 {
                return false;
            }
            let _ = BEFORE.set(before);
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) == 0
        }
    });
    if taken { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// A page could not be had. It is called wherever the page was touched, in the middle of anything, so
/// it does nothing but look at atomics and ask the system: no locks, no memory.
extern "C" fn missing(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the system hands in a valid `info`, and for this signal it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let page = PAGE.load(SeqCst);
    for slot in &WINDOWS {
        let (start, length) = (slot.start.load(SeqCst), slot.length.load(SeqCst));
        if address < start || address - start >= length {
            continue;
        }
        // From this page to the window's last: a shortened file has none of them.
        let from = address - address % page;
        let rest = (start + length).next_multiple_of(page) - from;
        // SAFETY: these pages are the window's own, mapped until it is dropped, and it is being read
        // at this moment. Zeros take their place, which nobody can write to.
        let zeros = unsafe {
            libc::mmap(
                from as *mut libc::c_void,
                rest,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if zeros != libc::MAP_FAILED {
            // SAFETY: the window holds a share of what this points to, and is being read.
            unsafe { (*slot.torn.load(SeqCst)).store(true, SeqCst) };
            return;
        }
    }
    // None of ours: what was done before is done, when the same instruction runs again.
    if let Some(before) = BEFORE.get() {
        // SAFETY: `before` came from the system, and lives as long as the process.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zeros_and_marks_the_file() {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, &[7; 1 << 20]).unwrap();
        let torn = Torn::default();
        let window = Window::open(&file, 5000..1 << 20, &torn).unwrap();
        let other = Window::open(&file, 0..100, &torn).unwrap();
        assert!(window.as_ref().iter().all(|&byte| byte == 7) && !torn.is_torn());
        file.set_len(4096).unwrap();
        assert_eq!(window.as_ref()[(1 << 20) - 5001], 0);
        assert!(torn.is_torn());
        // The end first, and then all in front of it.
        assert!(window.as_ref().iter().all(|&byte| byte == 0));
        assert!(other.as_ref().iter().all(|&byte| byte == 7));
        let untouched = Torn::default();
        assert!(!untouched.is_torn());
    }

    #[test]
    fn windows_are_given_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let torn = Torn::default();
        for _ in 0..3 {
            let open: Vec<Window> =
                std::iter::from_fn(|| Window::open(&file, 0..100, &torn)).take(SLOTS).collect();
            // Other tests have some open too.
            assert!(open.len() > SLOTS / 2, "{}", open.len());
        }
    }
}
