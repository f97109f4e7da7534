//! A source over a local file.

use super::ByteSource;
use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Bytes read at a time: large enough that system calls cost nothing, small enough for the cache.
const READ: u64 = 1 << 20;

/// A local file, read by position; its length is what it was when it was opened.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    name: String,
    size: u64,
}

impl FileSource {
    /// Opens a regular file; `None` if there is none at that path.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match std::fs::metadata(path) {
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(Error::io(path, "open")(e)),
            Ok(meta) if !meta.is_file() => {
                let kind = io::Error::other("it is not a regular file");
                Err(Error::io(path, "open")(kind))
            }
            Ok(meta) => {
                let name = path.display().to_string();
                Ok(Some(Self { path: path.to_owned(), name, size: meta.len() }))
            }
        }
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
        self.size
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let path = Arc::new(self.path.clone());
        stream::try_unfold((None::<File>, range), move |(file, rest)| {
            let path = Arc::clone(&path);
            async move {
                if rest.is_empty() {
                    return Ok(None);
                }
                let end = rest.end.min(rest.start + READ);
                let step = rest.start..end;
                let from = Arc::clone(&path);
                let (file, bytes) = spawn_blocking(move || read_step(&from, file, step))
                    .await
                    .unwrap_or_else(|_| Err(io::Error::other("the reading thread stopped")))
                    .map_err(Error::io(path.as_path(), "read"))?;
                Ok(Some((bytes, (Some(file), end..rest.end))))
            }
        })
        .boxed()
    }
}

/// Reads one step of at most [`READ`] bytes; the file stands at its start after the first step.
fn read_step(path: &Path, file: Option<File>, step: Range<u64>) -> io::Result<(File, Bytes)> {
    let mut file = match file {
        Some(file) => file,
        None => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(step.start))?;
            file
        }
    };
    let mut buffer = BytesMut::zeroed((step.end - step.start) as usize);
    file.read_exact(&mut buffer).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("it became shorter while it was read"),
        _ => e,
    })?;
    Ok((file, buffer.freeze()))
}
