//! A source over a local file.

use super::ByteSource;
use super::ways::{Way, Ways};
#[cfg(target_os = "linux")]
use super::window::{Torn, Window};
use crate::error::{Error, Result};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// Bytes copied at a time: enough that system calls cost nothing, and few enough that they are still in the
/// processor's cache when they are hashed.
const COPY: u64 = 256 << 10;

/// A range up to this is copied, whatever is faster.
const SHORT: u64 = 1 << 20;

/// The longest window, and the length of what is read the same way: with smaller ones their opening shows,
/// with larger ones the memory.
const WINDOW: u64 = 8 << 20;

/// A local file, read by position through one handle, so that another file put in its place is
/// never mixed with it; written to while it is read, it is an error. Its streams wait for the disk on
/// the thread that polls them.
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
    ways: Ways,
    buffers: Buffers,
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
            ways: Ways::default(),
            buffers: Buffers::default(),
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
        let way = (range.end - range.start <= SHORT).then_some(Way::Copies);
        self.parts(range, way)
    }

    fn stream_for_few(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.parts(range, Some(Way::Windows))
    }
}

impl FileSource {
    /// The bytes of a range, read this way, or the better one.
    fn parts(&self, rest: Range<u64>, way: Option<Way>) -> BoxStream<'static, Result<Bytes>> {
        let parts = Parts { opened: Arc::clone(&self.opened), rest, way, part: None };
        stream::try_unfold(parts, |mut parts| async move {
            // What comes next is always ready, and others want their turn.
            tokio::task::yield_now().await;
            Ok(parts.next()?.map(|bytes| (bytes, parts)))
        })
        .boxed()
    }
}

/// A range as it is read.
struct Parts {
    opened: Arc<Opened>,
    rest: Range<u64>,
    way: Option<Way>,
    part: Option<Part>,
}

/// What is read the same way.
struct Part {
    way: Way,
    bytes: Range<u64>,
    began: Instant,
}

impl Parts {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let Self { opened, rest, .. } = self;
        if let Some(done) = self.part.take_if(|part| part.bytes.end == rest.start)
            && done.bytes.end - done.bytes.start == WINDOW
            && self.way.is_none()
        {
            opened.ways.took(done.way, done.began.elapsed());
        }
        if rest.is_empty() {
            // What was handed out last has been looked at by now.
            return opened.unchanged().map(|()| None);
        }
        let part = self.part.get_or_insert_with(|| Part {
            way: self.way.unwrap_or_else(|| opened.ways.next()),
            bytes: rest.start..rest.end.min(rest.start + WINDOW),
            began: Instant::now(),
        });
        let left = rest.start..part.bytes.end;
        let window = match part.way {
            Way::Windows => opened.window(&left),
            Way::Copies => None,
        };
        let bytes = window.map_or_else(|| opened.copy(&left), Ok)?;
        rest.start += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

#[cfg(target_os = "linux")]
impl Opened {
    /// A part without a copy, where the system gives it.
    fn window(&self, part: &Range<u64>) -> Option<Bytes> {
        let window = Window::open(&self.file, part.clone(), &self.torn)?;
        (!self.is_torn()).then(|| Bytes::from_owner(window))
    }

    /// Whether a part that was handed out had gone.
    fn is_torn(&self) -> bool {
        self.torn.is_torn()
    }
}

#[cfg(not(target_os = "linux"))]
impl Opened {
    fn window(&self, _part: &Range<u64>) -> Option<Bytes> {
        None
    }

    fn is_torn(&self) -> bool {
        false
    }
}

impl Opened {
    /// A copy of what comes first of a part, in a buffer that is used again. It waits for the disk: the
    /// threads that read a local file have nothing else to do, as where they touch a window.
    fn copy(&self, part: &Range<u64>) -> Result<Bytes> {
        let mut buffer = self.buffers.take((part.end - part.start).min(COPY) as usize);
        read_at(&self.file, buffer.filled(), part.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.changed("it became shorter"),
            _ => Error::io(self.path.as_path(), "read")(e),
        })?;
        Ok(Bytes::from_owner(buffer))
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

/// Buffers that nobody holds.
#[derive(Debug, Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer whose first bytes are in use; it goes back where it came from.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl Buffers {
    fn take(&self, length: usize) -> Buffer {
        let mut bytes = self.free().pop().unwrap_or_default();
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        Buffer { bytes, length, home: self.clone() }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.free().push(std::mem::take(&mut self.bytes));
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
    use futures::TryStreamExt as _;
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
    fn every_way_brings_the_bytes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let size = 7 * WINDOW + 17;
        let bytes: Vec<u8> = (0..size).map(|at| (at >> 3) as u8 ^ (at >> 11) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for way in [Some(Way::Windows), Some(Way::Copies), None] {
            let source = FileSource::open(&path).unwrap().unwrap();
            for range in [0..size, 1..size - 1, 4095..WINDOW, 5..5 + COPY, 7..SHORT + 9, 3..3] {
                let (start, end) = (range.start as usize, range.end as usize);
                let read = runtime
                    .block_on(source.parts(range, way).map_ok(Vec::from).try_concat())
                    .unwrap();
                assert!(read == bytes[start..end], "{start}..{end} by {way:?}");
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let size = 3 * WINDOW + 17;
        let ways = [Some(Way::Windows), Some(Way::Copies), None];
        for (taken, way) in (0..4).flat_map(|taken| ways.map(|way| (taken, way))) {
            std::fs::write(&path, vec![1; size as usize]).unwrap();
            let source = FileSource::open(&path).unwrap().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let error = runtime.block_on(async {
                let mut stream = source.parts(0..size, way);
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
