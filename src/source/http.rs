//! A source over HTTP: ask, check, resume. The only file that sends range requests.
//!
//! What a link leads to is worked out by whoever hands in the [`Relink`]; here it must answer by
//! itself.

use super::ByteSource;
use super::client::{Client, Failure, Headers, content_length, status_text, with_request};
use super::content_range::{self, ContentRange};
use super::link::{Link, Relink};
use super::retry::{self, Budget, Pace};
use crate::error::{Error, Result};
use crate::quote;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Fresh links that are asked for without a byte of progress before a refusal is taken for good.
const RENEWALS: u32 = 3;

/// Wrong answers, likewise: one bad edge of a CDN may be met more than once.
const MISMATCHES: u32 = 2;

/// A file on a server, read by ranges.
#[derive(Clone)]
pub struct HttpSource(Arc<Remote>);

struct Remote {
    client: Client,
    name: String,
    size: u64,
    sha256: Option<String>,
    relink: Relink,
    link: tokio::sync::Mutex<Current>,
    /// Bytes that all streams have received.
    received: AtomicU64,
}

/// The link in use. All streams share it, so that an expired one is renewed once for all.
struct Current {
    link: Link,
    generation: u64,
    since: Instant,
    /// What differed when other bytes were met: no stream may ask again after that.
    changed: Option<String>,
    /// The ETag of the first range that came by this link.
    etag: Option<String>,
}

impl HttpSource {
    /// Opens the file behind `link`. Where no header told its length, one byte is asked for, as
    /// the answer's Content-Range does.
    pub async fn open(client: Client, name: String, link: Link, relink: Relink) -> Result<Self> {
        let size = match link.identity.size {
            Some(size) => size,
            None => probe_size(&client, &link).await?,
        };
        let (since, sha256) = (client.now(), link.identity.sha256.clone());
        let current = Current { link, generation: 0, since, changed: None, etag: None };
        let link = tokio::sync::Mutex::new(current);
        let received = AtomicU64::new(0);
        Ok(Self(Arc::new(Remote { client, name, size, sha256, relink, link, received })))
    }
}

impl ByteSource for HttpSource {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn size(&self) -> u64 {
        self.0.size
    }

    fn sha256(&self) -> Option<&str> {
        self.0.sha256.as_deref()
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let reader = RangeReader {
            remote: Arc::clone(&self.0),
            rest: range,
            body: None,
            budget: Budget::new(),
            stale: None,
            renewals: 0,
            mismatches: 0,
            slow: 0,
            seen: 0,
            failed: None,
        };
        stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|chunk| (chunk, reader)))
        })
        .boxed()
    }
}

impl Remote {
    /// The link to use: the current one, or a fresh one if `stale` is the current generation or
    /// the link nears its end.
    async fn link(&self, stale: Option<u64>) -> Result<(Link, u64)> {
        let mut current = self.link.lock().await;
        if let Some(what) = &current.changed {
            return Err(self.changed(what));
        }
        // A request is refused only at its start, so a sixth of the lifetime is margin enough.
        let worn = current
            .link
            .lifetime
            .is_some_and(|life| self.client.elapsed(current.since) > life.mul_f64(5.0 / 6.0));
        if worn || stale == Some(current.generation) {
            let fresh = match (self.relink)().await {
                Ok(fresh) => match current.link.identity.difference(&fresh.identity) {
                    None => fresh,
                    Some(what) => return Err(self.changed(current.changed.insert(what))),
                },
                Err(Error::Changed { what, .. }) => {
                    return Err(self.changed(current.changed.insert(what)));
                }
                Err(error) => return Err(error),
            };
            let since = self.client.now();
            let generation = current.generation + 1;
            *current = Current { link: fresh, generation, since, changed: None, etag: None };
        }
        Ok((current.link.clone(), current.generation))
    }

    /// Holds the ETag of a range against that of the first. A plain server may have the file
    /// replaced by another of the same length while it is read; a commit never changes, and
    /// the stores behind it need not agree on ETags.
    async fn hold(&self, generation: u64, headers: Headers<'_>) -> Result<()> {
        // Apache marks the ETag of a file as weak in the second in which it was written only.
        let etag = headers.text(header::ETAG).map(|etag| etag.trim_start_matches("W/"));
        let mut current = self.link.lock().await;
        if current.link.identity.commit.is_some() || current.generation != generation {
            return Ok(());
        }
        match (&current.etag, etag) {
            (Some(first), Some(etag)) if first != etag => {
                Err(self.changed(current.changed.insert("its ETag differs".into())))
            }
            (None, Some(etag)) => {
                current.etag = Some(etag.to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn changed(&self, what: &str) -> Error {
        Error::Changed { file: self.name.clone(), what: what.to_owned() }
    }
}

/// One stream: keeps the byte reached, and asks for the rest until there is none.
struct RangeReader {
    remote: Arc<Remote>,
    rest: Range<u64>,
    body: Option<Body>,
    budget: Budget,
    /// The generation of the link that was refused last, if one was since the last byte.
    stale: Option<u64>,
    /// Fresh links asked for since the last byte.
    renewals: u32,
    /// Wrong answers since the last byte.
    mismatches: u32,
    /// Answers given up because they came at a trickle. Bytes do arrive then, so that the budget
    /// alone would never end it.
    slow: u32,
    /// What all streams had received when this one last failed.
    seen: u64,
    /// Why the last try failed, once that was told and before another is made.
    failed: Option<Failure>,
}

/// An open answer and the position at which it must end.
struct Body {
    answer: Response,
    pace: Pace,
    end: u64,
}

impl RangeReader {
    /// The next chunk; an empty one tells of a try that failed.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(failure) = self.failed.take() {
            self.recover(failure).await?;
        }
        loop {
            if self.rest.is_empty() && self.body.is_none() {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(chunk)) => {
                    self.budget.refill();
                    self.stale = None;
                    self.renewals = 0;
                    self.mismatches = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => {}
                Err(failure) => {
                    self.body = None;
                    if failure.may_be_the_load() {
                        self.failed = Some(failure);
                        return Ok(Some(Bytes::new()));
                    }
                    self.recover(failure).await?;
                }
            }
        }
    }

    /// Opens an answer if there is none, and takes its next chunk; `None` at its end.
    async fn step(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.body.is_none() {
            self.body = Some(self.open().await?);
        }
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        match self.remote.client.chunk(&mut body.answer, &mut body.pace).await? {
            // What came before is handed on already, so there is nothing to be tried again.
            Some(chunk) if self.rest.start + chunk.len() as u64 > body.end => {
                Err(Failure::Fatal(Error::BadAnswer {
                    url: self.remote.client.shown(body.answer.url()),
                    what: "the body is longer than its Content-Range".into(),
                }))
            }
            Some(chunk) if chunk.is_empty() => Ok(None),
            Some(chunk) => {
                self.rest.start += chunk.len() as u64;
                self.remote.received.fetch_add(chunk.len() as u64, Relaxed);
                Ok(Some(chunk))
            }
            None if self.rest.start < body.end => {
                let missing = body.end - self.rest.start;
                Err(Failure::Broken(format!("the answer ended {missing} bytes early")))
            }
            None => {
                self.body = None;
                Ok(None)
            }
        }
    }

    /// Asks for the rest, and checks everything the headers say.
    async fn open(&mut self) -> Result<Body, Failure> {
        let remote = &self.remote;
        let (link, generation) = remote.link(self.stale).await.map_err(Failure::Fatal)?;
        let client = &remote.client;
        let mut answer = client
            .send(&Method::GET, &link.url, link.token.as_ref(), range_header(&self.rest))
            .await?;
        let status = answer.status();
        let shown = || client.shown(&link.url);
        match status.as_u16() {
            206 => {}
            200 => return Err(Failure::Fatal(Error::RangesIgnored { url: shown() })),
            status if retry::is_transient(status) => {
                client.discard(&mut answer).await;
                return Err(client.refusal(&answer));
            }
            // Expired or moved. A 416 with another total than the file's is a redirect's own
            // length, seen from caches; with the true total the request itself was wrong.
            300..=399 | 401 | 403 | 404 | 410 | 416 => {
                let said = Headers(answer.headers())
                    .text(header::CONTENT_RANGE)
                    .and_then(ContentRange::parse);
                let stale = self.renewals < RENEWALS
                    && said != Some(ContentRange::Unsatisfied { total: remote.size });
                self.stale = Some(generation);
                self.renewals += 1;
                let request = client.request_id(&answer);
                let what = client.excerpt(&mut answer).await;
                return Err(match stale {
                    true => Failure::Stale { status, what },
                    false => Failure::Fatal(refused(shown(), status, &what, request.as_deref())),
                });
            }
            _ => return Err(Failure::Fatal(client.unexpected(answer).await)),
        }
        let headers = Headers(answer.headers());
        let end =
            content_range::check(headers.text(header::CONTENT_RANGE), &self.rest, remote.size)
                .map_err(Failure::Mismatch)?;
        if let Some(encoding) = headers.text(header::CONTENT_ENCODING)
            && !encoding.eq_ignore_ascii_case("identity")
        {
            return Err(Failure::Mismatch(format!(
                "the range came encoded as {}",
                quote::excerpt(encoding, 40)
            )));
        }
        if let Some(kind) = headers.text(header::CONTENT_TYPE)
            && kind.trim_start().to_ascii_lowercase().starts_with("multipart/")
        {
            return Err(Failure::Mismatch("one range was asked for, several came".into()));
        }
        remote.hold(generation, headers).await.map_err(Failure::Fatal)?;
        if content_length(headers.0).is_some_and(|n| n != end - self.rest.start) {
            let what = "Content-Length and Content-Range disagree";
            return Err(Failure::Mismatch(what.into()));
        }
        // They lie in the buffer that they were read into, and would hold it as long as the body lasts:
        // half a megabyte and more of each connection.
        answer.headers_mut().clear();
        Ok(Body { answer, pace: Pace::default(), end })
    }

    /// Makes the next try possible: waits, has the link renewed, or gives up.
    async fn recover(&mut self, failure: Failure) -> Result<()> {
        match failure {
            // The fresh link is fetched when the rest is asked for, once for all streams. One that
            // is refused like the first may be early, or refused for good: it is waited for.
            Failure::Stale { .. } if self.renewals <= 1 => Ok(()),
            Failure::Mismatch(what) if self.mismatches == MISMATCHES => {
                let url = self.remote.link.lock().await.link.url.clone();
                let url = self.remote.client.shown(&url);
                Err(Error::BadAnswer { url, what })
            }
            failure => {
                self.mismatches += u32::from(matches!(failure, Failure::Mismatch(_)));
                let url = self.remote.link.lock().await.link.url.clone();
                let client = &self.remote.client;
                if let Failure::Slow(what) = &failure {
                    self.slow += 1;
                    if self.slow > client.retries() {
                        let (url, what) = (client.shown(&url), what.clone());
                        return Err(Error::Network { url, what, attempts: self.slow });
                    }
                }
                // While others get on, a server that serves only so many at a time is no reason
                // to give up; that this one waits is.
                let received = self.remote.received.load(Relaxed);
                if std::mem::replace(&mut self.seen, received) != received {
                    self.budget.extend(client.retries());
                }
                client.wait_after(failure, &mut self.budget, &url).await
            }
        }
    }
}

/// A link that a fresh one did not mend.
fn refused(url: String, status: StatusCode, body: &str, request: Option<&str>) -> Error {
    let mut what = format!("the server answered {}", status_text(status));
    if !body.is_empty() {
        what = format!("{what} ({body})");
    }
    Error::BadAnswer { url, what: with_request(what, request) }
}

/// The file's length by asking for its first byte.
async fn probe_size(client: &Client, link: &Link) -> Result<u64> {
    let shown = client.shown(&link.url);
    let mut budget = Budget::new();
    loop {
        let sent =
            client.send(&Method::GET, &link.url, link.token.as_ref(), range_header(&(0..1))).await;
        let failure = match sent {
            Ok(answer) => match answer.status().as_u16() {
                206 => {
                    let range = Headers(answer.headers()).text(header::CONTENT_RANGE);
                    return match range.and_then(ContentRange::parse) {
                        Some(ContentRange::Bytes { total: Some(total), .. }) => Ok(total),
                        _ => Err(Error::BadAnswer {
                            url: shown,
                            what: "no header tells the file's length".into(),
                        }),
                    };
                }
                200 => return Err(Error::RangesIgnored { url: shown }),
                status if retry::is_transient(status) => client.refusal(&answer),
                _ => return Err(client.unexpected(answer).await),
            },
            Err(failure) => failure,
        };
        client.wait_after(failure, &mut budget, &link.url).await?;
    }
}

/// The bytes asked for, both ends included; digits are always a legal header.
fn range_header(range: &Range<u64>) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end - 1)).ok()
}
