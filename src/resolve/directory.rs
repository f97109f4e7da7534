//! Local files: a folder, and with it a single file or one revision in an existing Hub cache.

use super::{Origin, Place, Snapshot};
use crate::error::Result;
use crate::source::{ByteSource, FileSource, read_whole};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files below a local folder.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    origin: Origin,
}

impl Directory {
    /// A local folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let id = root.display().to_string();
        Self { root, origin: Origin { id, source: Place::Directory, revision: None, commit: None } }
    }

    /// The folder around one local file, reported under the file's name.
    pub fn around(file: &Path) -> Self {
        let id = file.display().to_string();
        let root = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { root, origin: Origin { id, source: Place::File, revision: None, commit: None } }
    }

    fn source(&self, file: &str) -> Result<Option<FileSource>> {
        FileSource::open(&self.root.join(file))
    }
}

impl Snapshot for Directory {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn ByteSource>>>> {
        Box::pin(async move {
            Ok(self.source(file)?.map(|source| Arc::new(source) as Arc<dyn ByteSource>))
        })
    }

    fn read<'a>(&'a self, file: &'a str, limit: u64) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            match self.source(file)? {
                Some(source) => Ok(Some(read_whole(&source, limit).await?)),
                None => Ok(None),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async {
            let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        })
    }
}
