//! Where reports go: standard output, and files that appear whole or not at all.

use super::args::OutputArg;
use singularity_survey::error::{Error, Result};
use singularity_survey::report::Format;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that a report goes to, opened before the work begins.
///
/// A regular file is written beside its place and renamed when it is whole; dropped before that,
/// it leaves nothing behind. What exists and is no regular file is written in place.
pub(crate) struct OutputFile {
    pub(crate) format: Format,
    path: PathBuf,
    target: Target,
}

enum Target {
    Beside(NamedTempFile),
    InPlace(File),
}

impl OutputFile {
    pub(crate) fn create(arg: &OutputArg) -> Result<Self> {
        let failed = |source| Error::Io { path: arg.path.clone(), doing: "write", source };
        // Through a link, so that the link stays.
        let path = std::fs::canonicalize(&arg.path).unwrap_or_else(|_| arg.path.clone());
        let special = std::fs::metadata(&path).is_ok_and(|meta| !meta.is_file());
        let target = if special {
            Target::InPlace(File::options().write(true).open(&path).map_err(failed)?)
        } else {
            let folder = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let mut builder = tempfile::Builder::new();
            builder.prefix(".singularity-survey-");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                // What any program's new file gets, less the user's mask.
                builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            Target::Beside(builder.tempfile_in(folder).map_err(failed)?)
        };
        Ok(Self { format: arg.format, path, target })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything is written: the file takes its place.
    pub(crate) fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        let failed = |source| Error::Io { path: path.clone(), doing: "write", source };
        self.flush().map_err(failed)?;
        match self.target {
            Target::Beside(file) => {
                file.as_file().sync_all().map_err(failed)?;
                file.persist(&self.path).map_err(|e| failed(e.error))?;
            }
            Target::InPlace(_) => {}
        }
        Ok(())
    }

    /// A handle for another thread; the file takes its place only by [`finish`](Self::finish).
    pub(crate) fn handle(&self) -> Result<File> {
        let file = match &self.target {
            Target::Beside(file) => file.as_file(),
            Target::InPlace(file) => file,
        };
        file.try_clone().map_err(|source| self.failed(source))
    }

    /// The error of a failed write, with the path.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), doing: "write", source }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl OutputFile {
    fn file(&mut self) -> &mut File {
        match &mut self.target {
            // By the file itself: the temporary file's own errors name the temporary path.
            Target::Beside(file) => file.as_file_mut(),
            Target::InPlace(file) => file,
        }
    }
}
