//! The Hub's local cache, read as `huggingface_hub` lays it out: `refs/<revision>` names a commit,
//! `snapshots/<commit>/<path>` holds files, `.no_exist/<commit>/<path>` marks known absences.
//! Nothing is written to it.

use std::path::{Component, Path, PathBuf};

/// The folder of one repository inside the cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// What the cache knows of a file.
pub(super) enum Cached {
    /// It is there.
    At(PathBuf),
    /// The Hub once said that there is no such file at that commit.
    Absent,
    /// Nothing.
    Unknown,
}

impl Cache {
    pub(super) fn new(root: &Path, id: &str) -> Self {
        Self { folder: root.join(format!("models--{}", id.replace('/', "--"))) }
    }

    /// The commit that a revision stood for when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let path = below(&self.folder.join("refs"), revision)?;
        let text = std::fs::read_to_string(path).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Looks a file up at a commit. Snapshots may be partial, so each file is looked up by itself.
    pub(super) fn look(&self, commit: &str, file: &str) -> Cached {
        let at = |folder: &str| {
            let folder = below(&self.folder.join(folder), commit)?;
            below(&folder, file)
        };
        match (at("snapshots"), at(".no_exist")) {
            (Some(path), _) if path.is_file() => Cached::At(path),
            (_, Some(mark)) if mark.is_file() => Cached::Absent,
            _ => Cached::Unknown,
        }
    }

    /// Names at the root of a cached snapshot.
    pub(super) fn list(&self, commit: &str) -> Vec<String> {
        let folder = self.folder.join("snapshots").join(commit);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// A full commit: 40 lowercase hex digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `folder/name`, unless the name would lead out of the folder.
fn below(folder: &Path, name: &str) -> Option<PathBuf> {
    let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    (inside && !name.is_empty()).then(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn files_absences_and_refs_are_found() {
        let root = tempfile::tempdir().unwrap();
        let repo = root.path().join("models--org--name");
        for (path, text) in [
            ("refs/main", COMMIT.to_owned() + "\n"),
            ("refs/refs/pr/1", COMMIT.to_owned()),
            (&format!("snapshots/{COMMIT}/sub/a.json"), String::new()),
            (&format!(".no_exist/{COMMIT}/b.json"), String::new()),
        ] {
            let path = repo.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cache = Cache::new(root.path(), "org/name");
        assert_eq!(cache.commit("main").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit("dev"), None);
        assert_eq!(cache.commit("../refs/main"), None);
        assert!(matches!(cache.look(COMMIT, "sub/a.json"), Cached::At(_)));
        assert!(matches!(cache.look(COMMIT, "b.json"), Cached::Absent));
        assert!(matches!(cache.look(COMMIT, "c.json"), Cached::Unknown));
        assert!(matches!(cache.look(COMMIT, "../../refs/main"), Cached::Unknown));
    }
}
