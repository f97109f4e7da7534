//! Lines of JSON while the scan runs, written by a thread of their own so that a slow reader never
//! holds up the network.

use super::output::{OutputFile, STDOUT};
use singularity_survey::error::{Error, Result};
use singularity_survey::observe::{Event, Observer};
use singularity_survey::report::{CrossPart, MatrixPart, Report, jsonl};
use singularity_survey::resolve::Origin;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// What is written.
pub(crate) enum Line {
    Start(Box<(Origin, MatrixPart)>),
    Duplicate { row: u64, same_as: u64 },
    Finish(Box<Report>),
    Cross(Box<CrossPart>),
    Error(String),
}

/// Where lines go; the thread ends when all senders are gone.
pub(crate) struct Stream {
    lines: Sender<Line>,
    writer: JoinHandle<Result<()>>,
    broken: Arc<Notify>,
}

/// Hands the rows found equal to the thread.
pub(crate) struct Duplicates(Sender<Line>);

impl Observer for Duplicates {
    fn event(&self, event: &Event<'_>) {
        if let &Event::Duplicate { row, same_as } = event {
            // A thread that is gone has told why, and the run is about to end.
            let _ = self.0.send(Line::Duplicate { row, same_as });
        }
    }
}

impl Stream {
    /// Starts the thread. It writes to handles: the files stay with the caller, so that they go when
    /// the run ends early, whatever the thread is doing.
    ///
    /// A reader of standard output that goes away ends the run only where nothing else is written:
    /// where it is `alone` and there are no files.
    pub(crate) fn start(stdout: bool, files: &[OutputFile], alone: bool) -> Result<Self> {
        let alone = alone && files.is_empty();
        let handles: Vec<Handle> = files
            .iter()
            .map(|file| {
                let out = BufWriter::new(file.handle()?);
                Ok(Handle { path: file.path().to_owned(), out })
            })
            .collect::<Result<_>>()?;
        let (lines, received) = mpsc::channel();
        let broken = Arc::new(Notify::new());
        let notify = Arc::clone(&broken);
        let writer = std::thread::spawn(move || {
            let result = write_all(&received, stdout, handles, alone);
            if result.is_err() {
                notify.notify_one();
            }
            result
        });
        Ok(Self { lines, writer, broken })
    }

    /// An observer that feeds the thread.
    pub(crate) fn observer(&self) -> Duplicates {
        Duplicates(self.lines.clone())
    }

    pub(crate) fn send(&self, line: Line) {
        let _ = self.lines.send(line);
    }

    /// Completes when the thread cannot write.
    pub(crate) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) -> Result<()> {
        drop(self.lines);
        self.writer.join().unwrap_or(Ok(()))
    }
}

/// A file that lines go to.
struct Handle {
    path: PathBuf,
    out: BufWriter<File>,
}

fn write_all(
    lines: &Receiver<Line>,
    stdout: bool,
    mut files: Vec<Handle>,
    alone: bool,
) -> Result<()> {
    let mut console = stdout.then(|| BufWriter::new(io::stdout()));
    let failed = |path: &PathBuf, source| Error::Io { path: path.clone(), doing: "write", source };
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            // Nothing waits: what there is goes out now.
            Err(TryRecvError::Empty) => {
                to_console(&mut console, alone, |out| out.flush())?;
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => break,
                }
            }
        };
        to_console(&mut console, alone, |out| write(&line, out))?;
        for Handle { path, out } in &mut files {
            write(&line, out).map_err(|e| failed(path, e))?;
        }
    }
    to_console(&mut console, alone, |out| out.flush())?;
    files.iter_mut().try_for_each(|Handle { path, out }| out.flush().map_err(|e| failed(path, e)))
}

type Console = Option<BufWriter<io::Stdout>>;

/// Writes to standard output while there is someone to read it.
fn to_console(
    console: &mut Console,
    alone: bool,
    write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>,
) -> Result<()> {
    let Some(Err(source)) = console.as_mut().map(write) else { return Ok(()) };
    // What is left in the buffer has no reader.
    console.take().map(BufWriter::into_parts);
    match source.kind() == io::ErrorKind::BrokenPipe && !alone {
        true => Ok(()),
        false => Err(Error::Io { path: STDOUT.into(), doing: "write to it", source }),
    }
}

fn write(line: &Line, out: &mut dyn Write) -> io::Result<()> {
    match line {
        Line::Start(start) => jsonl::start(&start.0, &start.1, out),
        &Line::Duplicate { row, same_as } => jsonl::duplicate(row, same_as, out),
        Line::Finish(report) => jsonl::finish(report, out),
        Line::Cross(cross) => jsonl::cross(cross, out),
        Line::Error(message) => jsonl::error(message, out),
    }
}
