//! Where reports go: standard output, and files that appear whole or not at all.

use super::args::OutputArg;
use super::interrupt::HalfWritten;
use singularity_survey::error::{Error, Result};
use singularity_survey::report::Format;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that a report goes to, opened before the work begins.
///
/// A regular file is written beside its place and renamed when it is whole; dropped before that,
/// it leaves nothing behind. What exists and is no regular file is written in place.
pub(crate) struct OutputFile<F = Format> {
    pub(crate) format: F,
    path: PathBuf,
    target: Target,
}

enum Target {
    Beside(NamedTempFile),
    InPlace(File),
}

/// How standard output is named in errors.
pub(crate) const STDOUT: &str = "standard output";

/// Names of standard output and of other open files: what is written to them would be mixed with
/// what the process writes there already.
const OPEN_ALREADY: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/"];

impl<F: Copy> OutputFile<F> {
    /// Opens all that were asked for, each file once.
    pub(crate) fn create_all(args: &[OutputArg<F>]) -> Result<Vec<Self>> {
        let files: Vec<Self> = args.iter().map(Self::create).collect::<Result<_>>()?;
        for (at, file) in files.iter().enumerate() {
            let regular = matches!(file.target, Target::Beside(_));
            if regular && files[..at].iter().any(|other| other.path == file.path) {
                let what = format!("two reports would go to {}", file.path.display());
                return Err(Error::Usage { what });
            }
        }
        Ok(files)
    }

    pub(crate) fn create(arg: &OutputArg<F>) -> Result<Self> {
        let failed = |source| Error::Io { path: arg.path.clone(), doing: "write", source };
        let given = arg.path.to_string_lossy();
        if given == "-" || OPEN_ALREADY.iter().any(|open| given.starts_with(open)) {
            let what = format!("-o cannot write to {given}; --format is for standard output");
            return Err(Error::Usage { what });
        }
        let path = behind_links(&arg.path);
        let target = match std::fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => {
                Target::InPlace(File::options().write(true).open(&path).map_err(failed)?)
            }
            Ok(meta) => {
                const WEIGHTS: [&str; 6] = ["safetensors", "gguf", "bin", "pt", "pth", "ckpt"];
                let holds_weights =
                    path.extension().is_some_and(|end| WEIGHTS.iter().any(|known| end == *known));
                if holds_weights {
                    let what = format!("-o would write over {}", path.display());
                    return Err(Error::Usage { what });
                }
                // What may not be written must not be replaced either.
                drop(File::options().write(true).open(&path).map_err(failed)?);
                Target::Beside(beside(&path, Some(meta.permissions())).map_err(failed)?)
            }
            Err(_) => Target::Beside(beside(&path, None).map_err(failed)?),
        };
        Ok(Self { format: arg.format, path, target })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything is written: the file takes its place.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush().map_err(|e| self.failed(e))?;
        let Self { path, target, .. } = self;
        let failed = |source| Error::Io { path: path.clone(), doing: "write", source };
        match target {
            Target::Beside(file) => {
                file.as_file().sync_all().map_err(failed)?;
                let mut half_written = HalfWritten::lock();
                let temporary = file.path().to_owned();
                file.persist(&path).map_err(|e| failed(e.error))?;
                half_written.forget(&temporary);
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

impl<F> Write for OutputFile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl<F> OutputFile<F> {
    fn file(&mut self) -> &mut File {
        match &mut self.target {
            // By the file itself: the temporary file's own errors name the temporary path.
            Target::Beside(file) => file.as_file_mut(),
            Target::InPlace(file) => file,
        }
    }
}

/// The path that links lead to, also where there is nothing yet at their end: the link stays.
fn behind_links(path: &Path) -> PathBuf {
    /// Links followed; as many as Linux follows.
    const LINKS: usize = 40;
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        match std::fs::read_link(&at) {
            Ok(to) => at = at.parent().map_or(to.clone(), |folder| folder.join(to)),
            Err(_) => break,
        }
    }
    std::fs::canonicalize(&at).unwrap_or(at)
}

/// A file of another name in the same folder, with the permissions of the one that it will replace.
fn beside(path: &Path, permissions: Option<Permissions>) -> io::Result<NamedTempFile> {
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
        builder.permissions(Permissions::from_mode(0o666));
    }
    let mut half_written = HalfWritten::lock();
    // The error names the temporary file, which means nothing to a reader.
    let file = builder.tempfile_in(folder).map_err(|e| match e.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => e.kind().into(),
    })?;
    half_written.add(file.path());
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    Ok(file)
}
