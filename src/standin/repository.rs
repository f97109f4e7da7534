//! What the stand-in serves: files of one commit under one name.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A repository of one commit.
#[derive(Clone)]
pub struct Repository {
    pub(super) id: String,
    pub(super) commit: String,
    pub(super) revisions: Vec<String>,
    pub(super) aliases: Vec<String>,
    pub(super) files: BTreeMap<String, File>,
    pub(super) gating: Gating,
    pub(super) private: bool,
    pub(super) disabled: bool,
    pub(super) token: Option<String>,
}

/// Whether access must be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gating {
    /// It need not.
    #[default]
    Open,
    /// It is granted by itself.
    Auto,
    /// The author grants it.
    Manual,
}

/// A file, and how the Hub keeps it.
#[derive(Clone)]
pub(super) struct File {
    pub(super) content: Content,
    /// Kept apart and served by the CDN, as all weights are; otherwise in git, served by the Hub.
    pub(super) large: bool,
    /// What all its hashes are made from: equal for equal bytes.
    seed: String,
}

impl File {
    fn new(content: Content, large: bool) -> Self {
        let seed = match &content {
            Content::Held(bytes) => opaque_bytes(bytes, 32),
            // Its bytes are never all there to be hashed.
            Content::Made { size, make } => {
                let sample = make(0, (*size).min(4096) as usize);
                format!("{size} {}", opaque_bytes(&sample, 32))
            }
        };
        Self { content, large, seed }
    }

    /// Stands for its hash in git: the ETag of small files.
    pub(super) fn oid(&self) -> String {
        opaque(&format!("git {}", self.seed), 40)
    }

    /// Stands for its SHA-256, which the Hub shows as X-Linked-ETag.
    pub(super) fn sha256(&self) -> String {
        opaque(&format!("sha256 {}", self.seed), 64)
    }

    /// Stands for the hash of its storage, which the CDN shows as ETag.
    pub(super) fn xet_hash(&self) -> String {
        opaque(&format!("xet {}", self.seed), 64)
    }

    /// The ETag that clients know it by: of its kind.
    pub(super) fn etag(&self) -> String {
        if self.large { self.sha256() } else { self.oid() }
    }

    /// The text that stands in git for a file kept apart from it.
    pub(super) fn pointer(&self) -> String {
        let (sha256, size) = (self.sha256(), self.content.size());
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
    }
}

type Make = dyn Fn(u64, usize) -> Bytes + Send + Sync;

/// A file's bytes.
#[derive(Clone)]
pub(super) enum Content {
    Held(Bytes),
    Made { size: u64, make: Arc<Make> },
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Made { size, .. } => *size,
        }
    }

    /// A range that lies inside, and that is small enough to be held.
    pub(super) fn slice(&self, range: Range<u64>) -> Bytes {
        match self {
            Self::Held(bytes) => bytes.slice(range.start as usize..range.end as usize),
            Self::Made { make, .. } => make(range.start, (range.end - range.start) as usize),
        }
    }
}

/// Endings of files that the Hub never keeps in git.
const LARGE: [&str; 5] = [".safetensors", ".bin", ".gguf", ".pt", ".pth"];

impl Repository {
    /// An empty repository: `org/name`, or one part.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            commit: opaque(id, 40),
            revisions: vec!["main".to_owned()],
            aliases: Vec::new(),
            files: BTreeMap::new(),
            gating: Gating::Open,
            private: false,
            disabled: false,
            token: None,
        }
    }

    /// Every file below a folder.
    pub fn directory(id: &str, folder: &Path) -> io::Result<Self> {
        let mut found = Self::new(id);
        let mut open = vec![folder.to_owned()];
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(at)? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Ok(name) = path.strip_prefix(folder) {
                    let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
                    found = found.file(&parts.join("/"), std::fs::read(&path)?);
                }
            }
        }
        Ok(found)
    }

    /// Adds a file; weights are kept apart from git.
    pub fn file(mut self, path: &str, bytes: impl Into<Bytes>) -> Self {
        let content = Content::Held(bytes.into());
        let large = LARGE.iter().any(|end| path.ends_with(end)) || content.size() > 10 << 20;
        self.files.insert(path.to_owned(), File::new(content, large));
        self
    }

    /// Adds a file of any size, kept apart from git and made when it is asked for: `make` gives so
    /// many bytes from a position on.
    pub fn generated(
        mut self,
        path: &str,
        size: u64,
        make: impl Fn(u64, usize) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        let content = Content::Made { size, make: Arc::new(make) };
        self.files.insert(path.to_owned(), File::new(content, true));
        self
    }

    /// Keeps a file in git, whatever it is.
    pub fn git(mut self, path: &str) -> Self {
        if let Some(file) = self.files.get_mut(path) {
            file.large = false;
        }
        self
    }

    /// Keeps a file apart from git, whatever it is.
    pub fn lfs(mut self, path: &str) -> Self {
        if let Some(file) = self.files.get_mut(path) {
            file.large = true;
        }
        self
    }

    /// Gives the commit another name: a branch, a tag, `refs/pr/1`.
    pub fn revision(mut self, name: &str) -> Self {
        self.revisions.push(name.to_owned());
        self
    }

    /// Gives the repository an old name, which redirects: to its name, or to the old name that was
    /// given before, as renaming twice leaves it.
    pub fn alias(mut self, id: &str) -> Self {
        self.aliases.push(id.to_owned());
        self
    }

    /// Makes access something to ask for.
    pub fn gated(mut self, gating: Gating) -> Self {
        self.gating = gating;
        self
    }

    /// Hides the repository from whoever has not its token.
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Closes the repository: it is known of, and nothing in it can be read.
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    /// The token that opens it.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The commit, 40 hex digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.content.size()).sum()
    }

    /// Whether the revision names the commit.
    pub(super) fn knows(&self, revision: &str) -> bool {
        revision == self.commit
            || (revision.len() >= 7 && self.commit.starts_with(revision))
            || self.revisions.iter().any(|known| known == revision)
    }
}

/// So many hex digits that stand for a hash of the text. Clients must take what the real Hub puts
/// in such places for opaque, so this is no cryptographic hash.
pub(super) fn opaque(text: &str, digits: usize) -> String {
    opaque_bytes(text.as_bytes(), digits)
}

fn opaque_bytes(bytes: &[u8], digits: usize) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    let mut out = String::new();
    while out.len() < digits {
        // SplitMix64, which turns a counter into even bits.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out += &format!("{:016x}", mixed ^ (mixed >> 31));
    }
    out.truncate(digits);
    out
}
