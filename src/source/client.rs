//! An HTTP/1.1 client that counts what it sends and receives, and that waits and tries again.
//!
//! Every request asks for `Accept-Encoding: identity`, because a compressed answer to a range
//! request is a range of the wrong bytes. Redirects are never followed here.

use super::clients::Clients;
use super::limits::Limits;
use super::options::Options;
use super::retry::{self, Budget, Clock, Pace, Policy};
use super::secret::{Secret, Sent};
use crate::error::{Error, Result};
use crate::observe::{Event, Observer};
use crate::quote;
use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// An HTTP/1.1 client that counts what it sends and receives. Cheap to clone.
///
/// HTTP/1.1 because parallel ranges want connections of their own: servers cap the rate of each.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    clients: Clients,
    policy: Policy,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Whether any server has answered.
    reached: AtomicBool,
    sent: Sent,
    limits: Limits,
}

/// Tries after the first while no server has answered at all: then it is more likely that there is
/// no network, or no such host, than that a connection was lost.
const FIRST_RETRIES: u32 = 2;

/// Why one try brought no usable answer.
pub(super) enum Failure {
    /// No answer, or its body broke; may pass.
    Broken(String),
    /// The body came at a trickle; may pass, though bytes did come.
    Slow(String),
    /// A transient status, with the wait that the server names and what it calls the request.
    Refused { status: StatusCode, wait: Option<Duration>, request: Option<String> },
    /// A partial answer that is not the one asked for; may be one bad edge, so tried once more.
    Mismatch(String),
    /// The link has expired or leads elsewhere now.
    Stale { status: StatusCode, what: String },
    /// Nothing that time would mend.
    Fatal(Error),
}

impl Failure {
    /// Whether fewer connections might have spared it.
    pub(super) fn may_be_the_load(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Slow(_) | Self::Refused { .. })
    }
}

impl Client {
    /// Builds a client. Certificates are read when first a connection may be encrypted.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            clients: Clients::new(&options)?,
            policy: options.policy,
            clock: options.clock,
            observer: options.observer,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            sent: Sent::default(),
            limits: Limits::default(),
        })))
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Relaxed)
    }

    /// Body bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// Sends one request without a range, again while the failure may pass; any other status is
    /// the caller's to judge.
    pub(crate) async fn request(
        &self,
        method: Method,
        url: &Url,
        token: Option<&Secret>,
    ) -> Result<Response> {
        let mut budget = Budget::new();
        loop {
            self.turn(url).await?;
            let failure = match self.send(&method, url, token, None).await {
                Ok(mut answer) if retry::is_transient(answer.status().as_u16()) => {
                    self.discard(&mut answer).await;
                    self.refusal(&answer)
                }
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.wait_after(failure, &mut budget, url).await?;
        }
    }

    /// Waits as long as the server wants no request, by what it has said to others.
    async fn turn(&self, url: &Url) -> Result<()> {
        let Inner { limits, clock, policy, observer, .. } = self.0.as_ref();
        let (origin, now) = (url.origin().ascii_serialization(), clock.now());
        let Some(wait) = limits.closed(&origin, now) else { return Ok(()) };
        if wait > policy.longest_wait || !limits.begin(now, wait, policy.waits) {
            let wait = Some(wait.as_secs() + 1);
            return Err(Error::RateLimited { url: self.shown(url), wait, request: None });
        }
        let why = "the server's limit of requests is used up";
        observer.event(&Event::Waiting { duration: wait, why });
        clock.sleep(wait).await;
        limits.open(&origin);
        Ok(())
    }

    /// Fetches a whole file of at most `limit` bytes that `answer` has begun to bring; asks again
    /// from the start when the body breaks.
    pub(crate) async fn whole(
        &self,
        mut answer: Response,
        token: Option<&Secret>,
        limit: u64,
    ) -> Result<Bytes> {
        let url = answer.url().clone();
        let (mut budget, mut mismatched) = (Budget::new(), false);
        loop {
            match self.body(&mut answer, limit).await {
                Ok(body) => return Ok(body),
                Err(Failure::Mismatch(what)) if std::mem::replace(&mut mismatched, true) => {
                    return Err(Error::BadAnswer { url: self.shown(&url), what });
                }
                Err(failure) => self.wait_after(failure, &mut budget, &url).await?,
            }
            answer = self.request(Method::GET, &url, token).await?;
            if answer.status() != StatusCode::OK {
                return Err(self.unexpected(answer).await);
            }
        }
    }

    /// Reads a body to its end, held against its announced length.
    async fn body(&self, answer: &mut Response, limit: u64) -> Result<Bytes, Failure> {
        let encoding = answer.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Failure::Mismatch("the answer is compressed, though not asked to".into()));
        }
        let announced = content_length(answer.headers());
        let too_long = |url: &Url| {
            Failure::Fatal(Error::BadAnswer {
                url: self.shown(url),
                what: format!("longer than the {limit} bytes that such a file may have"),
            })
        };
        if announced.is_some_and(|n| n > limit) {
            return Err(too_long(answer.url()));
        }
        let (mut body, mut pace) = (BytesMut::new(), Pace::default());
        while let Some(chunk) = self.chunk(answer, &mut pace).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_long(answer.url()));
            }
            body.extend_from_slice(&chunk);
        }
        match announced {
            Some(n) if n != body.len() as u64 => {
                Err(Failure::Broken(format!("the answer ended at byte {} of {n}", body.len())))
            }
            _ => Ok(body.freeze()),
        }
    }

    /// The next chunk of a body, within the idle time and not at a trickle.
    pub(super) async fn chunk(
        &self,
        answer: &mut Response,
        pace: &mut Pace,
    ) -> Result<Option<Bytes>, Failure> {
        let policy = &self.0.policy;
        let asked = Instant::now();
        match tokio::time::timeout(policy.idle, answer.chunk()).await {
            Ok(Ok(chunk)) => {
                let bytes = chunk.as_ref().map_or(0, |c| c.len() as u64);
                self.0.bytes.fetch_add(bytes, Relaxed);
                match pace.too_slow(policy, asked.elapsed(), bytes) && chunk.is_some() {
                    true => Err(Failure::Slow(format!(
                        "fewer than {} bytes a second came for {} s",
                        policy.slowest,
                        policy.slow_for.as_secs_f64()
                    ))),
                    false => Ok(chunk),
                }
            }
            Ok(Err(e)) => Err(Failure::Broken(describe(&e))),
            Err(_) => {
                Err(Failure::Broken(format!("no byte came for {} s", policy.idle.as_secs_f64())))
            }
        }
    }

    /// One try.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        token: Option<&Secret>,
        range: Option<HeaderValue>,
    ) -> Result<Response, Failure> {
        let http = self.0.clients.of(url).map_err(Failure::Fatal)?;
        self.0.requests.fetch_add(1, Relaxed);
        self.0.sent.note(url, token);
        let shown = self.shown(url);
        self.0.observer.event(&Event::Request { method: method.as_str(), url: &shown });
        let mut request = http
            .request(method.clone(), url.clone())
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(value) = token.and_then(Secret::header) {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        match tokio::time::timeout(self.0.policy.headers, request.send()).await {
            Ok(Ok(answer)) => {
                self.0.reached.store(true, Relaxed);
                let limit = Headers(answer.headers()).text(HeaderName::from_static("ratelimit"));
                if let Some(wait) = limit.and_then(retry::exhausted) {
                    let origin = url.origin().ascii_serialization();
                    self.0.limits.close(origin, self.0.clock.now(), wait);
                }
                Ok(answer)
            }
            Ok(Err(e)) if is_tls(&e) => {
                Err(Failure::Fatal(Error::Network { url: shown, what: describe(&e), attempts: 1 }))
            }
            Ok(Err(e)) => Err(Failure::Broken(describe(&e))),
            Err(_) => Err(Failure::Broken(format!(
                "no answer for {} s",
                self.0.policy.headers.as_secs_f64()
            ))),
        }
    }

    pub(super) fn refusal(&self, answer: &Response) -> Failure {
        let headers = Headers(answer.headers());
        let wait = retry::told_wait(
            answer.status().as_u16(),
            headers.text(header::RETRY_AFTER),
            headers.text(HeaderName::from_static("ratelimit")),
            self.0.clock.wall(),
        );
        Failure::Refused { status: answer.status(), wait, request: self.request_id(answer) }
    }

    /// Waits before the next try, or says why there is none.
    pub(super) async fn wait_after(
        &self,
        failure: Failure,
        budget: &mut Budget,
        url: &Url,
    ) -> Result<()> {
        let (told, why) = match &failure {
            Failure::Broken(what) | Failure::Slow(what) | Failure::Mismatch(what) => {
                (None, what.clone())
            }
            Failure::Refused { status, wait, request } => {
                (*wait, with_request(status_text(*status), request.as_deref()))
            }
            Failure::Stale { status, what } => (None, format!("{}: {what}", status_text(*status))),
            Failure::Fatal(_) => (None, String::new()),
        };
        let why = self.0.sent.mask(&why);
        if let Failure::Fatal(error) = failure {
            return Err(error);
        }
        let clock = &self.0.clock;
        let mut policy = self.0.policy.clone();
        if !self.0.reached.load(Relaxed) {
            policy.retries = policy.retries.min(FIRST_RETRIES);
        }
        let (now, limits) = (clock.now(), &self.0.limits);
        let origin = url.origin().ascii_serialization();
        let limited = match &failure {
            Failure::Refused { status, wait, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS || wait.is_some()
            }
            _ => false,
        };
        let wait = budget
            .next_wait(&policy, told, now, clock.random())
            .filter(|&wait| !limited || limits.begin(now, wait, policy.waits));
        let Some(wait) = wait else {
            if let Some(told) = told {
                limits.close(origin, now, told);
            }
            let shown = self.shown(url);
            return Err(match failure {
                Failure::Refused { status, wait, request }
                    if status == StatusCode::TOO_MANY_REQUESTS
                        || wait
                            .is_some_and(|wait| wait > policy.longest_wait.min(policy.waits)) =>
                {
                    Error::RateLimited { url: shown, wait: wait.map(|w| w.as_secs()), request }
                }
                _ => Error::Network { url: shown, what: why, attempts: budget.attempts() },
            });
        };
        self.0.observer.event(&Event::Waiting { duration: wait, why: &why });
        clock.sleep(wait).await;
        limits.open(&origin);
        Ok(())
    }

    /// Reads the little body that a redirect or an error has, so that its connection serves the
    /// next request; a long one is not worth that.
    pub(crate) async fn discard(&self, answer: &mut Response) {
        const WORTH: u64 = 16 << 10;
        if content_length(answer.headers()).is_some_and(|length| length <= WORTH) {
            let mut pace = Pace::default();
            let read = async { while let Ok(Some(_)) = self.chunk(answer, &mut pace).await {} };
            let _ = tokio::time::timeout(EXCERPT_TIME, read).await;
        }
    }

    /// An answer of a status that no one asked for, with the first words of its body.
    pub(crate) async fn unexpected(&self, mut answer: Response) -> Error {
        let url = self.shown(answer.url());
        let mut what = status_text(answer.status());
        let request = self.request_id(&answer);
        let body = self.excerpt(&mut answer).await;
        if !body.is_empty() {
            what = format!("{what} ({body})");
        }
        let what = with_request(format!("the server answered {what}"), request.as_deref());
        Error::BadAnswer { url, what }
    }

    /// An address as it may be shown.
    pub(crate) fn shown(&self, url: &Url) -> String {
        self.0.sent.shown(url)
    }

    /// The first words that a server says, on one line and without what it was sent in confidence.
    pub(crate) fn clean(&self, text: &str, limit: usize) -> String {
        quote::excerpt(&self.0.sent.mask(text), limit)
    }

    /// What the server calls the request, for whoever asks its keepers about it.
    pub(super) fn request_id(&self, answer: &Response) -> Option<String> {
        let headers = Headers(answer.headers());
        let id = ["x-request-id", "x-amzn-trace-id", "x-amz-cf-id"];
        id.iter().find_map(|name| headers.text(*name)).map(|id| self.clean(id, 80))
    }

    /// The first words of a body, on one line: for messages. A few kB are read, and no failure of
    /// doing so is told.
    pub(super) async fn excerpt(&self, answer: &mut Response) -> String {
        const ENOUGH: usize = 2048;
        let mut body = BytesMut::new();
        let read = async {
            while let Ok(Some(chunk)) = answer.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() >= ENOUGH {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(EXCERPT_TIME, read).await;
        let text = String::from_utf8_lossy(&body);
        // A page of HTML tells a reader nothing.
        if text.trim_start().starts_with("<!") || text.trim_start().starts_with("<html") {
            return String::new();
        }
        self.clean(&text, 160)
    }

    /// Tries after the first.
    pub(super) fn retries(&self) -> u32 {
        self.0.policy.retries
    }

    /// The moment, by the client's clock.
    pub(super) fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// Time since `then`, by the client's clock.
    pub(super) fn elapsed(&self, then: Instant) -> Duration {
        self.0.clock.now().saturating_duration_since(then)
    }
}

/// The longest that is waited for a body that is only to be shown or thrown away.
const EXCERPT_TIME: Duration = Duration::from_secs(2);

pub(super) fn with_request(what: String, request: Option<&str>) -> String {
    match request {
        Some(request) => format!("{what}, request {request}"),
        None => what,
    }
}

/// The headers of an answer, by text.
#[derive(Clone, Copy)]
pub struct Headers<'a>(pub &'a HeaderMap);

impl<'a> Headers<'a> {
    /// The value, if it is there and is text.
    pub fn text(self, name: impl header::AsHeaderName) -> Option<&'a str> {
        self.0.get(name)?.to_str().ok()
    }
}

/// Content-Length as the server stated it; a HEAD answer has a length but no body.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    Headers(headers).text(header::CONTENT_LENGTH)?.trim().parse().ok()
}

pub(super) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Whether TLS itself refused, as it does an unknown certificate: no second try mends that. What an
/// `io::Error` wraps is not among its sources, so both ways are gone.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|inner| is_tls(inner))
        || error.source().is_some_and(is_tls)
}

/// The innermost cause of a transport error: the outer ones repeat the URL with its secrets.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    quote::excerpt(&cause.to_string(), 160)
}
