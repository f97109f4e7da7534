//! What happens when the run is told to stop: half-written files go, a line says how far it came,
//! and the process ends, whatever its threads are doing.

use super::progress;
use singularity_survey::error::{Error, Result};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that are being written under names of their own. Whoever creates, renames or removes one
/// holds the lock, so that none escapes when the process ends.
static HALF_WRITTEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The list of half-written files, locked.
pub(crate) struct HalfWritten(MutexGuard<'static, Vec<PathBuf>>);

impl HalfWritten {
    pub(crate) fn lock() -> Self {
        Self(HALF_WRITTEN.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&mut self, path: &Path) {
        self.0.push(path.to_owned());
    }

    pub(crate) fn forget(&mut self, path: &Path) {
        self.0.retain(|known| known != path);
    }
}

/// Starts to listen. Called inside the runtime, before any work begins; the task that waits runs on
/// a thread of the runtime, so that no work of the main thread holds it up.
pub(crate) fn listen() -> Result<()> {
    let failed = |source| Error::Io { path: "signals".into(), doing: "listen to them", source };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind).map_err(failed)?;
            tokio::spawn(async move {
                if signals.recv().await.is_some() {
                    end(128 + kind.as_raw_value());
                }
            });
        }
    }
    #[cfg(windows)]
    {
        let mut signals = tokio::signal::windows::ctrl_c().map_err(failed)?;
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                end(130);
            }
        });
    }
    Ok(())
}

fn end(code: i32) -> ! {
    let half_written = HalfWritten::lock();
    for path in &*half_written.0 {
        // What cannot be removed stays, and there is no one left to tell.
        let _ = std::fs::remove_file(path);
    }
    let how_far = progress::how_far();
    let _ = writeln!(io::stderr(), "interrupted: {how_far}");
    std::process::exit(code)
}
