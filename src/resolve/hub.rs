//! A repository on the Hugging Face Hub. The only file that knows the Hub's URLs, headers and
//! error codes.
//!
//! Weights are looked up by HEAD: a GET would start the whole file on a server that does not
//! redirect. No range is ever sent to a `resolve` URL, because the Hub may bind the link that it
//! signs to that very range.

use super::cache::{self, Cache, Cached};
use super::hops::{self, Landing};
use super::{Content, Origin, Place, Snapshot};
use crate::error::{Error, Result};
use crate::source::{
    ByteSource, Client, FileSource, Headers, HttpSource, Identity, Link, Relink, Secret,
    content_length, read_whole,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response, StatusCode, Url, header};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Everything but letters, digits and `- . _ ~` is written encoded, in names and revisions alike.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is taken for a signed link's lifetime where its `Expires` cannot be read.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A Hub: where it is, and how it may be used.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The base address; a mirror may live below a path.
    pub endpoint: Url,
    /// The token, sent to the endpoint's own origin only.
    pub token: Option<Secret>,
    /// The local cache, where files are read from when they are there.
    pub cache: Option<PathBuf>,
    /// Whether only the cache may be used.
    pub offline: bool,
}

impl Hub {
    /// The address of a Hub as it is typed: `http` or `https`, without a query.
    pub fn endpoint(text: &str) -> Result<Url> {
        let wrong = |why: &str| Error::Usage { what: format!("the endpoint {text} {why}") };
        let url = Url::parse(text.trim_end_matches('/'))
            .map_err(|e| wrong(&format!("is no URL ({e})")))?;
        match url.scheme() {
            "http" | "https" if url.query().is_none() && url.fragment().is_none() => Ok(url),
            "http" | "https" => Err(wrong("has a query or a fragment")),
            _ => Err(wrong("is neither http nor https")),
        }
    }
}

/// The address of the Hub itself.
pub const ENDPOINT: &str = "https://huggingface.co";

impl Default for Hub {
    /// The Hub itself, without a token or a cache.
    fn default() -> Self {
        let endpoint = Url::parse(ENDPOINT).unwrap_or_else(|e| unreachable!("{ENDPOINT}: {e}"));
        Self { endpoint, token: None, cache: None, offline: false }
    }
}

/// One repository at one revision. Cheap to clone; clones share the pinned commit.
#[derive(Clone)]
pub struct HubSnapshot(Arc<Repository>);

struct Repository {
    hub: Hub,
    /// Absent exactly when the network may not be used.
    client: Option<Client>,
    cache: Option<Cache>,
    id: String,
    /// As it was asked for.
    revision: String,
    /// Set by the first answer that tells it, and used in every later URL.
    commit: OnceLock<String>,
    /// Told when it is.
    told: Notify,
    /// What is known of the content of the files that were asked for.
    asked_for: Mutex<BTreeMap<String, Known>>,
}

/// What is known of a file's content.
enum Known {
    /// Nothing, or it is not over yet.
    Nothing,
    /// There is no such file.
    Absent,
    /// What identifies it.
    Id(String),
}

impl HubSnapshot {
    /// A repository at a revision. Nothing is looked up yet; the first file that is read pins the
    /// commit. `client` is built only where the network may be used.
    pub fn new(
        hub: Hub,
        id: String,
        revision: Option<String>,
        client: impl FnOnce() -> Result<Client>,
    ) -> Result<Self> {
        let revision = revision.unwrap_or_else(|| "main".to_owned());
        let cache = hub.cache.as_deref().map(|root| Cache::new(root, &id));
        let known = match hub.offline {
            true => cache.as_ref().and_then(|cache| cache.commit(&revision)),
            false => Some(revision.clone()).filter(|revision| cache::is_commit(revision)),
        };
        if hub.offline && known.is_none() {
            return Err(Error::Offline { what: format!("{id} at {revision}") });
        }
        let client = if hub.offline { None } else { Some(client()?) };
        let commit = known.map(OnceLock::from).unwrap_or_default();
        let (told, asked_for) = (Notify::new(), Mutex::default());
        Ok(Self(Arc::new(Repository { hub, client, cache, id, revision, commit, told, asked_for })))
    }

    fn asks_for(&self, file: &str, known: Known) {
        let mut asked_for = self.0.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        asked_for.insert(file.to_owned(), known);
    }

    fn commit(&self) -> Option<&str> {
        self.0.commit.get().map(String::as_str)
    }

    fn cached(&self, file: &str) -> Cached {
        match (&self.0.cache, self.commit()) {
            (Some(cache), Some(commit)) => cache.look(commit, file),
            _ => Cached::Unknown,
        }
    }

    /// The client, or the refusal to use the network for `file`.
    fn client(&self, file: &str) -> Result<&Client> {
        let offline = || Error::Offline { what: format!("{}/{file}", self.0.id) };
        self.0.client.as_ref().ok_or_else(offline)
    }

    /// `{endpoint}/{id}/resolve/{revision}/{file}`, the revision as one segment.
    fn resolve_url(&self, file: &str) -> Result<Url> {
        let revision = self.commit().unwrap_or(&self.0.revision);
        let encode = |part| utf8_percent_encode(part, ENCODED).to_string();
        let file: Vec<String> = file.split('/').map(encode).collect();
        self.url(&format!("{}/resolve/{}/{}", self.0.id, encode(revision), file.join("/")))
    }

    fn url(&self, path: &str) -> Result<Url> {
        let base = self.0.hub.endpoint.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/{path}")).map_err(|_| Error::Usage {
            what: format!("the endpoint {base} is not the URL of a Hub"),
        })
    }

    /// The token, if the address belongs to the endpoint's own scheme, host and port.
    fn token_for(&self, url: &Url) -> Option<Secret> {
        let own = url.origin() == self.0.hub.endpoint.origin();
        self.0.hub.token.clone().filter(|_| own)
    }

    /// Follows a file's `resolve` URL. `None`: the Hub says that there is no such file.
    async fn follow(&self, method: Method, file: &str) -> Result<Option<(Landing, Identity)>> {
        let client = self.client(file)?;
        let weights = method == Method::HEAD;
        let mut identity = Identity::default();
        let endpoint = self.0.hub.endpoint.origin();
        let mut enough = |answer: &Response| {
            identity.learn(answer, false);
            // At once, so that other files can be asked for meanwhile; held against it below.
            let _ = self.pin(file, &identity);
            // The redirect to a file's storage is told apart by the file's own length or ETag,
            // which the storage itself would not tell.
            weights && (identity.size.is_some() || identity.etag.is_some())
        };
        let token = |url: &Url| self.token_for(url);
        let url = self.resolve_url(file)?;
        self.asks_for(file, Known::Nothing);
        let landing = hops::follow(client, method, url, &token, &mut enough).await?;
        if let Landing::Answer(answer) = &landing {
            // An ETag of another host's own is not the one that the Hub knows the file by.
            identity.learn(answer, answer.url().origin() == endpoint);
            // What lies at a resolve URL itself, or at its end on another host, is the file.
            if answer.status() == StatusCode::OK && identity.size.is_none() {
                let headers = answer.headers();
                let encoded = headers.contains_key(header::CONTENT_ENCODING);
                identity.size = content_length(headers).filter(|_| !encoded);
            }
        }
        self.pin(file, &identity)?;
        let found = match landing {
            Landing::Answer(answer) if answer.status() != StatusCode::OK => {
                self.refusal(answer, file, weights).await?.map(|answer| (answer, identity))
            }
            landing => Some((landing, identity)),
        };
        match &found {
            None => self.asks_for(file, Known::Absent),
            Some((_, Identity { content: Some(id), .. })) => {
                self.asks_for(file, Known::Id(id.clone()));
            }
            Some(_) => {}
        }
        Ok(found)
    }

    /// Remembers the commit of the first answer, and holds every later one against it.
    fn pin(&self, file: &str, identity: &Identity) -> Result<()> {
        let Some(commit) = &identity.commit else {
            return Ok(());
        };
        let pinned = self.0.commit.get_or_init(|| commit.clone());
        self.0.told.notify_waiters();
        if pinned == commit {
            return Ok(());
        }
        let what = format!("commit {pinned} was asked for, {commit} came");
        Err(Error::Changed { file: format!("{}/{file}", self.0.id), what })
    }

    /// What a refusing answer means. A server that refuses HEAD alone is kept for its URL.
    async fn refusal(
        &self,
        mut answer: Response,
        file: &str,
        head: bool,
    ) -> Result<Option<Landing>> {
        let id = self.0.id.clone();
        let headers = Headers(answer.headers());
        let code = headers.text("x-error-code").unwrap_or_default().to_owned();
        let said = headers.text("x-error-message").unwrap_or_default();
        let message = self.client(file)?.clean(said, 200);
        let authenticated = self.token_for(answer.url()).is_some();
        let from_hub = answer.url().origin() == self.0.hub.endpoint.origin();
        match (answer.status().as_u16(), code.as_str()) {
            (_, "RepoNotFound") => Err(Error::NoSuchRepository { id, authenticated }),
            (_, "RevisionNotFound") => {
                Err(Error::NoSuchRevision { id, revision: self.0.revision.clone() })
            }
            (_, "GatedRepo") => Err(Error::AccessDenied { id, message, authenticated }),
            (404, _) => {
                self.client(file)?.discard(&mut answer).await;
                Ok(None)
            }
            (405 | 501, _) if head => Ok(Some(Landing::Answer(answer))),
            // Links that are signed for GET refuse HEAD; the range request will tell.
            (400 | 401 | 403, _) if head && !from_hub => Ok(Some(Landing::Answer(answer))),
            // The Hub answers alike for a missing and for a private repository; only a token that
            // it does not know is told apart, by these words.
            (401, _) if from_hub && message.starts_with("Invalid credentials") => {
                Err(Error::AccessDenied { id, message, authenticated })
            }
            (401, _) if from_hub => Err(Error::NoSuchRepository { id, authenticated }),
            (403, _) if from_hub => Err(Error::AccessDenied { id, message, authenticated }),
            _ => match &self.0.client {
                Some(client) => Err(client.unexpected(answer).await),
                None => Err(Error::Offline { what: format!("{id}/{file}") }),
            },
        }
    }

    /// A fresh link to a weights file.
    async fn link(&self, file: &str) -> Result<Option<Link>> {
        let Some((landing, identity)) = self.follow(Method::HEAD, file).await? else {
            return Ok(None);
        };
        let (url, lifetime) = match landing {
            Landing::At(url, answer) => {
                let lifetime = lifetime(&url, answer.headers());
                (url, lifetime)
            }
            Landing::Answer(answer) => (answer.url().clone(), None),
        };
        let token = self.token_for(&url);
        Ok(Some(Link { url, token, lifetime, identity }))
    }

    async fn open_remote(&self, file: &str) -> Result<Option<Arc<dyn ByteSource>>> {
        let client = self.client(file)?.clone();
        let Some(link) = self.link(file).await? else {
            return Ok(None);
        };
        let (again, name) = (self.clone(), file.to_owned());
        let relink: Relink = Arc::new(move || {
            let (again, name) = (again.clone(), name.clone());
            Box::pin(async move {
                let gone = Error::NoSuchFile { file: format!("{}/{name}", again.0.id) };
                again.link(&name).await?.ok_or(gone)
            })
        });
        let source = HttpSource::open(client, file.to_owned(), link, relink).await?;
        Ok(Some(Arc::new(source)))
    }

    async fn read_remote(&self, file: &str, limit: u64) -> Result<Option<Bytes>> {
        let client = self.client(file)?;
        let Some((Landing::Answer(answer), _)) = self.follow(Method::GET, file).await? else {
            return Ok(None);
        };
        let token = self.token_for(answer.url());
        client.whole(answer, token.as_ref(), limit).await.map(Some)
    }

    /// What the Hub lists, or nothing if it does not answer.
    async fn list_remote(&self, query: &str) -> Option<Vec<Sibling>> {
        /// No more is read than the largest repositories need.
        const LIMIT: u64 = 32 << 20;
        let client = self.0.client.as_ref()?;
        let revision = utf8_percent_encode(self.commit().unwrap_or(&self.0.revision), ENCODED);
        let url = self.url(&format!("api/models/{}/revision/{revision}{query}", self.0.id)).ok()?;
        let token = |url: &Url| self.token_for(url);
        let landing = hops::follow(client, Method::GET, url, &token, &mut |_| false).await.ok()?;
        let Landing::Answer(mut answer) = landing else {
            return None;
        };
        if answer.status() != StatusCode::OK {
            client.discard(&mut answer).await;
            return None;
        }
        let body = client.whole(answer, None, LIMIT).await.ok()?;
        let info: ModelInfo = serde_json::from_slice(&body).ok()?;
        // At the commit that was asked for, and at no other.
        let same = self.commit().zip(info.sha.as_deref()).is_none_or(|(own, sha)| own == sha);
        same.then_some(info.siblings)
    }
}

/// The part of `/api/models/{id}` that names files.
#[derive(serde::Deserialize)]
struct ModelInfo {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

/// A file; all but its name is told if that is asked for.
#[derive(serde::Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(serde::Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

impl Identity {
    /// Takes what an answer tells: a mirror may lead to the Hub itself, so any hop may be the one
    /// that knows. The length and ETag of a redirect itself are those of its own body, so only the
    /// linked ones count there; a length that is no number is unknown, not zero.
    fn learn(&mut self, answer: &Response, own: bool) {
        let headers = Headers(answer.headers());
        let own = own && answer.status() == StatusCode::OK;
        let set = |slot: &mut Option<String>, value: Option<&str>| {
            if let Some(value) = value {
                *slot = Some(value.to_owned());
            }
        };
        // It becomes a part of addresses and paths, so that nothing else is taken for one.
        let commit = headers.text("x-repo-commit").filter(|commit| cache::is_commit(commit));
        set(&mut self.commit, commit);
        let own_etag = headers.text(header::ETAG).filter(|_| own);
        let linked = headers.text("x-linked-etag");
        set(&mut self.etag, linked.or(own_etag).map(strong));
        set(&mut self.content, linked.or(own_etag).and_then(content));
        // Only the Hub's own word for what lies apart from it; a server's own ETag may be anything.
        set(&mut self.sha256, linked.and_then(content).filter(|id| id.len() == 64));
        if let Some(size) = headers.text("x-linked-size").and_then(|text| text.parse().ok()) {
            self.size = Some(size);
        }
    }
}

/// An ETag without its weakness mark and quotes, as the official clients compare them.
fn strong(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// What identifies the content, of an ETag that does: a git object's id or a SHA-256, and not weak.
fn content(etag: &str) -> Option<&str> {
    let id = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag);
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    (matches!(id.len(), 40 | 64) && id.chars().all(hex)).then_some(id)
}

/// How long a signed link is good for: its `Expires` against the server's own clock, since the
/// link may have been signed well before it was handed out, and this machine's clock may be off.
fn lifetime(url: &Url, headers: &header::HeaderMap) -> Option<Duration> {
    let query: HashMap<_, _> = url.query_pairs().collect();
    let expires = query.get("Expires")?.parse::<u64>().ok();
    let date = Headers(headers).text(header::DATE).and_then(|d| httpdate::parse_http_date(d).ok());
    let date = date.and_then(|d| d.duration_since(std::time::UNIX_EPOCH).ok());
    match (expires, date) {
        (Some(expires), Some(date)) => {
            Some(Duration::from_secs(expires).saturating_sub(date).max(Duration::from_secs(1)))
        }
        _ => Some(LIFETIME),
    }
}

impl Snapshot for HubSnapshot {
    fn origin(&self) -> Origin {
        Origin {
            id: self.0.id.clone(),
            source: Place::Hub,
            revision: Some(self.0.revision.clone()),
            commit: self.commit().map(str::to_owned),
        }
    }

    fn pinned(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let told = self.0.told.notified();
            if self.commit().is_none() {
                told.await;
            }
        })
    }

    fn asked_for(&self) -> Option<Content> {
        let asked_for = self.0.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(file, known): (&String, &Known)| match known {
            Known::Nothing => None,
            Known::Absent => Some((file.clone(), None)),
            Known::Id(id) => Some((file.clone(), Some(id.clone()))),
        };
        asked_for.iter().map(known).collect()
    }

    fn contents(&self) -> BoxFuture<'_, Option<Content>> {
        Box::pin(async {
            let files = self.list_remote("?blobs=true").await?;
            let id = |file: Sibling| {
                // Of a large file git knows a text in its place.
                let id = match file.lfs {
                    Some(lfs) => lfs.sha256,
                    None => file.blob_id,
                };
                Some((file.rfilename, Some(content(&id?)?.to_owned())))
            };
            files.into_iter().map(id).collect()
        })
    }

    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn ByteSource>>>> {
        Box::pin(async move {
            self.asks_for(file, Known::Nothing);
            match self.cached(file) {
                Cached::At(path) => {
                    Ok(FileSource::open(&path)?.map(|s| Arc::new(s) as Arc<dyn ByteSource>))
                }
                Cached::Absent => Ok(None),
                Cached::Unknown => self.open_remote(file).await,
            }
        })
    }

    fn read<'a>(&'a self, file: &'a str, limit: u64) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            self.asks_for(file, Known::Nothing);
            match self.cached(file) {
                Cached::At(path) => match FileSource::open(&path)? {
                    Some(source) => Ok(Some(read_whole(&source, limit).await?)),
                    None => Ok(None),
                },
                Cached::Absent => Ok(None),
                Cached::Unknown => self.read_remote(file, limit).await,
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async {
            let remote = self.list_remote("").await;
            let names =
                |files: Vec<Sibling>| files.into_iter().map(|file| file.rfilename).collect();
            remote.map(names).unwrap_or_else(|| match (&self.0.cache, self.commit()) {
                (Some(cache), Some(commit)) => cache.list(commit),
                _ => Vec::new(),
            })
        })
    }

    fn possible(&self, files: Vec<String>) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async {
            let Some(listed) = self.list_remote("").await else { return files };
            let is_there = |file: &String| {
                let listed = listed.iter().any(|sibling| sibling.rfilename == *file);
                if !listed {
                    self.asks_for(file, Known::Absent);
                }
                listed
            };
            files.into_iter().filter(is_there).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(endpoint: &str, revision: &str) -> HubSnapshot {
        let endpoint = endpoint.parse().unwrap();
        let hub = Hub { endpoint, token: Secret::new("hf_x"), cache: None, offline: false };
        let client = || Client::new(crate::source::Options::default());
        HubSnapshot::new(hub, "org/name".into(), Some(revision.into()), client).unwrap()
    }

    #[test]
    fn names_and_revisions_are_encoded() {
        let at = snapshot("https://hub.example/base/", "refs/pr/1");
        let url = at.resolve_url("a b/#?%+[ü].json").unwrap();
        let shown = "https://hub.example/base/org/name/resolve/refs%2Fpr%2F1/\
                     a%20b/%23%3F%25%2B%5B%C3%BC%5D.json";
        assert_eq!(url.as_str(), shown);
    }

    #[test]
    fn the_token_goes_to_the_endpoints_own_origin_only() {
        let at = snapshot("https://hub.example", "main");
        let sees = |url: &str| at.token_for(&url.parse().unwrap()).is_some();
        assert!(sees("https://hub.example/x"));
        assert!(!sees("http://hub.example/x"));
        assert!(!sees("https://hub.example:8443/x"));
        assert!(!sees("https://hub.example.evil/x"));
        assert!(!sees("https://cdn.example/x"));
    }

    #[test]
    fn a_links_lifetime_is_counted_by_the_servers_clock() {
        let mut headers = header::HeaderMap::new();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT"; // 784,111,777
        headers.insert(header::DATE, date.parse().unwrap());
        let life = |query: &str| {
            lifetime(&format!("https://cdn.example/x{query}").parse().unwrap(), &headers)
        };
        assert_eq!(life("?Expires=784112077&Signature=s"), Some(Duration::from_secs(300)));
        assert_eq!(life("?Expires=soon"), Some(LIFETIME));
        assert_eq!(life(""), None);
    }

    #[test]
    fn only_an_etag_that_is_a_digest_identifies_content() {
        let (git, sha256) = ("0123456789abcdef".repeat(4)[..40].to_owned(), "ab".repeat(32));
        for id in [&git, &sha256] {
            assert_eq!(content(id), Some(id.as_str()));
            assert_eq!(content(&format!("\"{id}\"")), Some(id.as_str()));
            let others =
                [format!("W/\"{id}\""), format!("{id}0"), format!("\"{id}"), id.to_uppercase()];
            for other in others {
                assert_eq!(content(&other), None, "{other}");
            }
        }
        for other in ["", "\"\"", "W/\"x\"", "d41d8cd98f00b204e9800998ecf8427e", "5f-61a8"] {
            assert_eq!(content(other), None);
        }
    }
}
