//! A source over a local file.

use super::ByteSource;
#[cfg(target_os = "linux")]
use super::window::{Torn, Window};
use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::task::spawn_blocking;

/// Bytes read at a time: large enough that system calls cost nothing, small enough for the cache.
const READ: u64 = 1 << 20;

/// The longest window: with smaller ones their opening shows, with larger ones the memory.
const WINDOW: u64 = 8 << 20;

/// A local file, read by position through one handle, so that another file put in its place is
/// never mixed with it; written to while it is read, it is an error.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    opened: Arc<Opened>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    size: u64,
    /// When it was last written to, where the system tells.
    modified: Option<SystemTime>,
    #[cfg(target_os = "linux")]
    torn: Torn,
}

impl FileSource {
    /// Opens a regular file; `None` if there is none at that path.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let failed = |e| Error::io(path, "open")(e);
        // Looked at first, because to open a pipe is to wait for its writer.
        match std::fs::metadata(path) {
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
            Ok(meta) if !meta.is_file() => {
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            Ok(_) => {}
        }
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let (size, modified) = (meta.len(), meta.modified().ok());
        let opened = Opened {
            path: path.to_owned(),
            file,
            size,
            modified,
            #[cfg(target_os = "linux")]
            torn: Torn::default(),
        };
        Ok(Some(Self { name: path.display().to_string(), opened: Arc::new(opened) }))
    }
}

/// Whether the error says that there is nothing at the path.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl ByteSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.opened.size
    }

    fn is_local(&self) -> bool {
        true
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let opened = Arc::clone(&self.opened);
        let long = range.end - range.start > READ;
        stream::try_unfold(range, move |rest| {
            let opened = Arc::clone(&opened);
            async move {
                if rest.is_empty() {
                    // What was handed out last has been looked at by now.
                    return opened.unchanged().map(|()| None);
                }
                let end = rest.end.min(rest.start + WINDOW);
                let window = match long {
                    // A window is always ready, and others want their turn.
                    true => opened.window(rest.start..end).filter(|_| !opened.is_torn()),
                    false => None,
                };
                if let Some(window) = window {
                    tokio::task::yield_now().await;
                    return Ok(Some((window, end..rest.end)));
                }
                let end = rest.end.min(rest.start + READ);
                let (from, step) = (Arc::clone(&opened), rest.start..end);
                let bytes = spawn_blocking(move || from.read(step)).await.unwrap_or_else(|_| {
                    let stopped = io::Error::other("the reading thread stopped");
                    Err(Error::io(opened.path.as_path(), "read")(stopped))
                })?;
                Ok(Some((bytes, end..rest.end)))
            }
        })
        .boxed()
    }
}

#[cfg(target_os = "linux")]
impl Opened {
    /// A part of the file without a copy, where the system gives one.
    fn window(&self, range: Range<u64>) -> Option<Bytes> {
        Window::open(&self.file, range, &self.torn).map(Bytes::from_owner)
    }

    /// Whether a part that was handed out had gone.
    fn is_torn(&self) -> bool {
        self.torn.is_torn()
    }
}

#[cfg(not(target_os = "linux"))]
impl Opened {
    fn window(&self, _range: Range<u64>) -> Option<Bytes> {
        None
    }

    fn is_torn(&self) -> bool {
        false
    }
}

impl Opened {
    /// Reads a step of at most [`READ`] bytes.
    fn read(&self, step: Range<u64>) -> Result<Bytes> {
        let mut buffer = BytesMut::zeroed((step.end - step.start) as usize);
        read_at(&self.file, &mut buffer, step.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.changed("it became shorter"),
            _ => Error::io(self.path.as_path(), "read")(e),
        })?;
        Ok(buffer.freeze())
    }

    fn unchanged(&self) -> Result<()> {
        let meta = self.file.metadata().map_err(Error::io(self.path.as_path(), "read"))?;
        if self.is_torn() && meta.len() == self.size {
            let lost = io::Error::other("a part of it could not be read");
            return Err(Error::io(self.path.as_path(), "read")(lost));
        }
        match (meta.len() == self.size, meta.modified().ok() == self.modified) {
            (true, true) => Ok(()),
            (false, _) => Err(self.changed("its length is another now")),
            (_, false) => Err(self.changed("it was written to")),
        }
    }

    fn changed(&self, what: &str) -> Error {
        Error::Changed { file: self.path.display().to_string(), what: what.to_owned() }
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                at += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn read(source: &FileSource, range: Range<u64>) -> Result<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(super::super::read(source, range))
    }

    #[test]
    fn a_file_put_in_its_place_is_not_mixed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, [1; 100]).unwrap();
        std::fs::write(&other, [2; 100]).unwrap();
        let source = FileSource::open(&path).unwrap().unwrap();
        assert_eq!(read(&source, 0..50).unwrap(), [1; 50][..]);
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(read(&source, 50..100).unwrap(), [1; 50][..]);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let size = 3 * WINDOW + 17;
        for taken in 0..4 {
            std::fs::write(&path, vec![1; size as usize]).unwrap();
            let source = FileSource::open(&path).unwrap().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let error = runtime.block_on(async {
                let mut stream = source.stream(0..size);
                for _ in 0..taken {
                    stream.next().await.unwrap().unwrap();
                }
                File::options().write(true).open(&path).unwrap().set_len(WINDOW / 2).unwrap();
                loop {
                    match stream.next().await.unwrap() {
                        // Whatever it holds.
                        Ok(chunk) => drop(chunk.iter().map(|&b| u64::from(b)).sum::<u64>()),
                        Err(error) => return error,
                    }
                }
            });
            assert!(matches!(error, Error::Changed { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_written_to_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (change, says) in [
            ((|file| file.set_len(60)) as fn(&mut File) -> io::Result<()>, "shorter"),
            (|file| file.set_len(200), "length"),
            (
                |file| {
                    file.write_all(&[3])?;
                    file.set_modified(SystemTime::UNIX_EPOCH)
                },
                "written to",
            ),
        ] {
            std::fs::write(&path, [1; 100]).unwrap();
            let source = FileSource::open(&path).unwrap().unwrap();
            change(&mut File::options().write(true).open(&path).unwrap()).unwrap();
            let error = read(&source, 50..100).unwrap_err();
            assert!(matches!(error, Error::Changed { .. }) && error.to_string().contains(says));
        }
    }
}
