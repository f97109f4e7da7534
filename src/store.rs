//! What was found before, kept in a folder, so that what has not changed is not read again.
//!
//! Comes in: a key, which says in words everything that an answer depends on, and the answer. Comes
//! out: the answer, if the very key was kept and nothing of the entry is damaged; whatever else is
//! there is as good as nothing. What keys are made of is up to who keeps; nothing here knows models.
//!
//! An entry is a file of two lines: what it is, with the BLAKE3 of the second; and the key and the
//! answer as JSON. It is written beside its place and renamed, so that readers see it whole or not at
//! all, however many processes share the folder; the last to write wins, and all write the same.

use crate::analysis::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// How the first line begins; it changes when what follows it does.
const MAGIC: &str = "singularity-survey store 1 ";

/// The longest entry that is written or read.
const MAX_ENTRY: u64 = 64 << 20;

/// How old a file is that its writer has left behind.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The ends of names: of entries, and of files on their way to be one.
const ENTRY: &str = "entry";
const WRITTEN: &str = "part";

/// A folder of entries. Nothing is made before something is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content<K, T> {
    key: K,
    answer: T,
}

/// An entry as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its file's name.
    pub name: String,
    /// The key, a line for each thing that the answer depends on; `null` where the entry is damaged or of
    /// another version.
    pub key: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub written: u64,
}

/// What was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Files.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// The store in this folder, which need not be there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was kept under this key.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let content: Content<String, T> = checked(&self.place(key))?;
        (content.key == key).then_some(content.answer)
    }

    /// Keeps an answer. One that would be too long is not kept.
    pub fn put<T: Serialize>(&self, key: &str, answer: &T) -> io::Result<()> {
        let content = serde_json::to_vec(&Content { key, answer })?;
        if content.len() as u64 > MAX_ENTRY {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)?;
        // Its owner alone may read it: that a model was looked at may be nobody's business.
        let mut file =
            tempfile::Builder::new().suffix(&format!(".{WRITTEN}")).tempfile_in(&self.folder)?;
        writeln!(file, "{MAGIC}{}", Digest::of(&content))?;
        file.write_all(&content)?;
        persist(file, &self.place(key))
    }

    /// Everything that is kept, by the names of the files.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for path in self.files()? {
            if path.extension().is_some_and(|end| end == ENTRY) {
                let (bytes, written) = told(&path)?;
                let content: Option<Content<String, serde::de::IgnoredAny>> = checked(&path);
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let written = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                entries.push(Entry {
                    name: name.unwrap_or_default(),
                    key: content.map(|content| content.key),
                    bytes,
                    written: written.as_secs(),
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Throws away what is damaged or of another version, what was written before `oldest`, and then
    /// the oldest until no more than `most` bytes are left.
    pub fn prune(&self, oldest: Option<SystemTime>, most: Option<u64>) -> io::Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut kept = Vec::new();
        for path in self.files()? {
            let (bytes, written) = told(&path)?;
            let end = path.extension().unwrap_or_default();
            let stale = oldest.is_some_and(|oldest| written < oldest);
            let gone = if end == ENTRY {
                stale || checked::<Content<String, serde::de::IgnoredAny>>(&path).is_none()
            } else if end == WRITTEN {
                written.elapsed().is_ok_and(|age| age > ABANDONED)
            } else {
                // Nothing of ours.
                continue;
            };
            match gone {
                true => pruned.remove(&path, bytes)?,
                false => kept.push((written, bytes, path)),
            }
        }
        kept.sort();
        let mut held: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in kept {
            if most.is_some_and(|most| held > most) {
                pruned.remove(&path, bytes)?;
                held -= bytes;
            }
        }
        Ok(pruned)
    }

    /// The files of the folder; none where there is no folder.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn place(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.{ENTRY}", Digest::of(key.as_bytes())))
    }
}

impl Pruned {
    fn remove(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        match fs::remove_file(path) {
            Ok(()) => {
                self.entries += 1;
                self.bytes += bytes;
                Ok(())
            }
            // Another process was first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn persist(file: NamedTempFile, place: &Path) -> io::Result<()> {
    file.persist(place).map(drop).map_err(|error| error.error)
}

/// A file's length, and when it was written.
fn told(path: &Path) -> io::Result<(u64, SystemTime)> {
    let told = fs::symlink_metadata(path)?;
    Ok((told.len(), told.modified()?))
}

/// An entry's content, if it is whole and of this version.
fn checked<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    let first = MAGIC.len() as u64 + 65;
    // One byte more than may be there, so that what is longer is not taken for whole.
    File::open(path).ok()?.take(first + MAX_ENTRY + 1).read_to_end(&mut bytes).ok()?;
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (digest, rest) = rest.split_at_checked(64)?;
    let content = rest.strip_prefix(b"\n")?;
    let whole = Digest::of(content).to_string().as_bytes() == digest;
    if whole { serde_json::from_slice(content).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("kept"));
        (folder, store)
    }

    #[test]
    fn what_is_kept_is_found_under_its_own_key_alone() {
        let (_folder, store) = store();
        assert_eq!(store.get::<Vec<u64>>("a"), None);
        assert_eq!(store.list().unwrap(), []);
        store.put("a", &vec![1u64, 2]).unwrap();
        store.put("b", &vec![3u64]).unwrap();
        assert_eq!(store.get("a"), Some(vec![1u64, 2]));
        assert_eq!(store.get("b"), Some(vec![3u64]));
        assert_eq!(store.get::<Vec<u64>>("c"), None);
        store.put("a", &vec![9u64]).unwrap();
        assert_eq!(store.get("a"), Some(vec![9u64]));
        let mut keys: Vec<_> = store.list().unwrap().into_iter().map(|e| e.key.unwrap()).collect();
        keys.sort();
        assert_eq!(keys, ["a", "b"]);
        // Under another name it is another's.
        fs::rename(store.place("a"), store.place("c")).unwrap();
        assert_eq!(store.get::<Vec<u64>>("c"), None);
    }

    #[test]
    fn a_damaged_entry_is_no_entry_wherever_it_is_damaged() {
        let (_folder, store) = store();
        store.put("key", &"answer").unwrap();
        let place = store.place("key");
        let whole = fs::read(&place).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&place, &bytes).unwrap();
            assert_eq!(store.get::<String>("key"), None, "byte {at}");
            fs::write(&place, &whole[..at]).unwrap();
            assert_eq!(store.get::<String>("key"), None, "cut at {at}");
        }
        fs::write(&place, [whole.as_slice(), b" "].concat()).unwrap();
        assert_eq!(store.get::<String>("key"), None);
        assert_eq!(store.list().unwrap()[0].key, None);
        let pruned = store.prune(None, None).unwrap();
        assert_eq!((pruned.entries, store.list().unwrap().len()), (1, 0));
    }

    #[test]
    fn the_oldest_go_first_and_what_is_not_ours_stays() {
        let (_folder, store) = store();
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            store.put(key, &"x").unwrap();
            let when = SystemTime::now() - Duration::from_secs(1000 - number as u64);
            File::options().write(true).open(store.place(key)).unwrap().set_modified(when).unwrap();
        }
        fs::write(store.folder().join("notes.txt"), "mine").unwrap();
        fs::write(store.folder().join("x.part"), "being written").unwrap();
        let bytes = store.list().unwrap()[0].bytes;
        assert_eq!(store.prune(None, None).unwrap(), Pruned::default());
        let pruned = store.prune(None, Some(2 * bytes + 20)).unwrap();
        assert_eq!(pruned, Pruned { entries: 1, bytes });
        assert!(store.get::<String>("a").is_none() && store.get::<String>("b").is_some());
        let oldest = SystemTime::now() - Duration::from_millis(998_500);
        assert_eq!(store.prune(Some(oldest), None).unwrap().entries, 1);
        assert!(store.get::<String>("c").is_some());
        assert!(
            store.folder().join("notes.txt").exists() && store.folder().join("x.part").exists()
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look_into_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, store) = store();
        store.put("a", &1).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.folder()), mode(&store.place("a"))), (0o700, 0o600));
    }
}
