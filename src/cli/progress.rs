//! A bar on standard error, for whoever watches.

use super::memory;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use singularity_survey::observe::{Event, Observer};
use singularity_survey::quote;
use singularity_survey::report::size;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Waits shorter than this are not worth a line.
const WORTH_TELLING: Duration = Duration::from_secs(5);

/// Bytes of a matrix after which its streams, once begun, are near to doing nothing but going on.
const BEGUN: u64 = 4 << 20;

/// Bytes after which requests have been made again.
const AGAIN: u64 = 64 << 20;

/// Whether this is a point at which, if there were requests, the program has lately run through more of
/// itself than it needs to go on: each doubling while streams begin, then ever and again.
fn has_settled(before: u64, now: u64) -> bool {
    match now {
        ..BEGUN => false,
        BEGUN..AGAIN => before < BEGUN || before.ilog2() != now.ilog2(),
        _ => before / AGAIN != now / AGAIN,
    }
}

/// The bar in use, for whoever has to take it off the terminal.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Takes the bar off the terminal, and says how far the run came.
pub(crate) fn how_far() -> String {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(bar) = bar else { return "nothing had been read".to_owned() };
    let (read, all) = (bar.position(), bar.length());
    bar.finish_and_clear();
    match all {
        None => "no byte of the matrix had been read".to_owned(),
        Some(all) if read >= all => {
            format!("all {} of the matrix had been read, and not every report written", size(all))
        }
        Some(all) => format!("{} of the matrix's {} had been read", size(read), size(all)),
    }
}

/// Draws the bar, and prints what is worth a line.
pub(crate) struct Progress {
    bar: ProgressBar,
    equal: AtomicU64,
    /// Whether there were requests since pages of the program were let go of.
    requested: AtomicBool,
    warnings: bool,
    requests: bool,
    waits: bool,
}

/// What is told besides the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// Nothing.
    pub(crate) quiet: bool,
    /// Each request.
    pub(crate) verbose: bool,
    /// Warnings, unless the report on standard output shows them.
    pub(crate) warnings: bool,
    /// A bar, if standard error is a terminal.
    pub(crate) bar: bool,
}

impl Progress {
    pub(crate) fn new(told: Told) -> Self {
        let show = told.bar && !told.quiet && io::stderr().is_terminal();
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self {
            bar,
            equal: AtomicU64::new(0),
            requested: AtomicBool::new(false),
            warnings: told.warnings && !told.quiet,
            requests: told.verbose,
            waits: !told.quiet,
        }
    }

    /// Takes the bar off the terminal, before anything else is printed.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        let text = quote::sentence(text);
        self.bar.suspend(|| {
            // There is no one to tell that standard error is gone.
            let _ = writeln!(io::stderr(), "{text}");
        });
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Matrix { bytes, .. } => {
                memory::shed();
                let style = ProgressStyle::with_template(
                    "{bar:20} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left, {msg}",
                );
                self.equal.store(0, Relaxed);
                if let Ok(style) = style {
                    self.bar.set_style(style);
                }
                self.bar.set_length(*bytes);
                self.bar.set_message("0 rows equal");
                // Drawn anew: this may be the second matrix.
                self.bar.reset();
            }
            Event::Received { bytes } => {
                let before = self.bar.position();
                self.bar.inc(*bytes);
                if has_settled(before, before + bytes) && self.requested.swap(false, Relaxed) {
                    memory::shed();
                }
                self.bar.set_message(format!("{} rows equal", self.equal.load(Relaxed)));
            }
            Event::Duplicate { .. } => {
                self.equal.fetch_add(1, Relaxed);
            }
            Event::Warning { message } if self.warnings => {
                self.line(&format!("warning: {message}"))
            }
            Event::Considered { name, why } if self.requests => {
                self.line(&format!("considered: {name}: {why}"));
            }
            Event::Request { method, url } => {
                self.requested.store(true, Relaxed);
                if self.requests {
                    self.line(&format!("{method} {url}"));
                }
            }
            Event::Waiting { duration, why }
                if self.requests || self.waits && *duration >= WORTH_TELLING =>
            {
                self.line(&format!("waiting {:.0} s: {why}", duration.as_secs_f64().ceil()));
            }
            Event::Done => self.clear(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_settled_at_each_doubling_and_then_ever_and_again() {
        let chunk = 400_000;
        let at = |n: u64| has_settled(n * chunk, (n + 1) * chunk);
        let settled: Vec<u64> =
            (0..640_000_000 / chunk).filter(|&n| at(n)).map(|n| ((n + 1) * chunk) >> 20).collect();
        assert_eq!(settled, [4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512, 576]);
    }
}
