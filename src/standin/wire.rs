//! Connections and answers. Comes in: requests. Goes out: what the listener's host decides to answer,
//! as a fault changes it. Knows neither names nor links.

use super::body::{Body, Delivery, Tally, body};
use super::fault::Action;
use super::log::{Host, Request};
use super::repository::Content;
use super::{Shared, cdn, hub};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The longest body of a request that is read.
const MAX_BODY: usize = 1 << 20;

/// What the Hub or the CDN has decided to answer, before faults.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    /// The part of the content that is sent.
    pub(super) range: Range<u64>,
    /// Whether the length is kept back.
    pub(super) unannounced: bool,
}

impl Answer {
    /// A short text, whole.
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        let body = Bytes::from(body.into());
        let range = 0..body.len() as u64;
        let content = Content::Held(body);
        Self { status, headers: Vec::new(), content, range, unannounced: false }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }
}

/// Accepts connections until it is aborted.
pub(super) async fn serve(listener: TcpListener, host: Host, shared: Arc<Shared>) {
    // Dropped with this task, and every open connection with it.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        let keeps_no_connection = shared.habits.close;
        connections.spawn(async move {
            let reset = Arc::new(AtomicBool::new(false));
            let wanted = Arc::clone(&reset);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let (shared, reset) = (Arc::clone(&shared), Arc::clone(&wanted));
                Box::pin(async move { answer(&shared, host, request, reset).await })
            });
            let mut connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(!keeps_no_connection)
                .serve_connection(TokioIo::new(socket), service);
            // A client that goes away is no failure of the server.
            let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
            let socket = connection.into_parts().io.into_inner();
            if reset.load(Relaxed) {
                // Closing then resets, and a system that cannot do it closes.
                let _ = socket.set_zero_linger();
            }
        });
    }
}

/// Answers one request, with what a fault makes of it. An error closes the connection.
async fn answer(
    shared: &Shared,
    host: Host,
    request: hyper::Request<Incoming>,
    reset: Arc<AtomicBool>,
) -> io::Result<Response<Body>> {
    let at = Instant::now();
    let (request, sent) = request.into_parts();
    let posted = match request.method == Method::POST {
        true => Limited::new(sent, MAX_BODY).collect().await.map_err(io::Error::other)?.to_bytes(),
        false => Bytes::new(),
    };
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        request.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
    let mut entry = Request {
        host,
        method: request.method.as_str().to_owned(),
        target,
        headers,
        body: posted,
        at,
        status: 0,
        sent: 0,
    };
    tokio::time::sleep(shared.habits.latency).await;
    let action = {
        let mut faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let ranged = entry.range().is_some();
        let since = at.duration_since(shared.started);
        faults.iter_mut().find_map(|fault| fault.strike(host, entry.path(), ranged, since))
    };
    let place = match host {
        Host::Cdn => shared.crowd.enter(shared.habits.serves),
        Host::Hub | Host::Elsewhere => None,
    };
    let stray = host != Host::Hub && entry.header("authorization").is_some();
    let mut answer = match (&action, host) {
        _ if stray => Answer::text(400, "a token was sent where it does not belong"),
        (_, Host::Cdn) if place.is_none() => Answer::text(503, "too many connections"),
        (Some(Action::Refuse | Action::ResetBeforeHeaders), _) => {
            reset.store(matches!(action, Some(Action::ResetBeforeHeaders)), Relaxed);
            shared.log.add(entry);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        (Some(Action::StallBeforeHeaders), _) => {
            shared.log.add(entry);
            return std::future::pending().await;
        }
        (Some(Action::Status { code, headers, body }), _) => {
            Answer { headers: headers.clone(), ..Answer::text(*code, body.clone()) }
        }
        (Some(Action::Expire), _) => {
            cdn::expire_all(shared);
            cdn::expired()
        }
        (Some(Action::IgnoreRange), _) => {
            let mut whole = entry.clone();
            whole.headers.retain(|(name, _)| name != "range");
            route(shared, host, &whole)
        }
        _ => route(shared, host, &entry),
    };
    let delivery = action.map_or_else(Delivery::default, |action| action.spoil(&mut answer));
    entry.status = answer.status;
    let tally = Tally { sent: shared.log.add(entry), reset, _place: place };

    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    let announced = answer.headers.iter().any(|(name, _)| name == "content-length");
    if !announced && !delivery.chunked && !answer.unannounced {
        response = response.header(header::CONTENT_LENGTH, answer.range.end - answer.range.start);
    }
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response = response.header(name, value);
        }
    }
    let chunk = shared.habits.chunk as u64;
    let body = match request.method == Method::HEAD {
        true => body(answer.content, 0..0, chunk, Delivery::default(), tally),
        false => body(answer.content, answer.range, chunk, delivery, tally),
    };
    response.body(body).map_err(io::Error::other)
}

fn route(shared: &Shared, host: Host, request: &Request) -> Answer {
    match host {
        Host::Hub => hub::answer(shared, request),
        Host::Cdn => cdn::answer(shared, request),
        Host::Elsewhere => Answer::text(404, "nothing here"),
    }
}

/// A file with its length and ranges, as any server of plain files answers (RFC 9110, 14).
/// What is no valid range is ignored, and so are several at a time.
pub(super) fn file(content: Content, range: Option<&str>) -> Answer {
    let size = content.size();
    let asked = range.and_then(|range| range.strip_prefix("bytes="));
    let asked = asked.and_then(|range| span(range, size));
    let answer =
        Answer { status: 200, headers: Vec::new(), content, range: 0..size, unannounced: false };
    let answer = answer.header("accept-ranges", "bytes");
    match asked {
        None => answer,
        Some(range) if range.start >= range.end => Answer::text(416, "")
            .header("content-range", format!("bytes */{size}"))
            .header("accept-ranges", "bytes"),
        Some(range) => {
            let told = told(&range, size);
            Answer { status: 206, range, ..answer }.header("content-range", told)
        }
    }
}

/// `first-last`, `first-` or `-length` of a file; empty where there is nothing of it.
fn span(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.trim().split_once('-')?;
    match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) if first > last => None,
        (Some(first), Some(last)) => Some(first..size.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => Some(first..size),
        (None, Some(last)) if first.is_empty() => Some(size.saturating_sub(last)..size),
        _ => None,
    }
}

/// Content-Range, of a range that is sent.
pub(super) fn told(range: &Range<u64>, total: u64) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end - 1)
}

/// Several ranges in one body, which is held in memory.
pub(super) fn parts(content: &Content, range: Option<&str>) -> Answer {
    let list = range.and_then(|range| range.strip_prefix("bytes=")).unwrap_or_default();
    let spans = list.split(',').filter_map(|range| span(range, content.size()));
    let spans: Vec<_> = spans.filter(|span| !span.is_empty()).collect();
    multipart(content, &spans)
}

/// Ranges as multipart/byteranges (RFC 9110, 14.6).
pub(super) fn multipart(content: &Content, ranges: &[Range<u64>]) -> Answer {
    const BOUNDARY: &str = "standin-part";
    let mut body = Vec::new();
    for range in ranges {
        let told = told(range, content.size());
        let head = format!("\r\n--{BOUNDARY}\r\nContent-Range: {told}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&content.slice(range.clone()));
    }
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let answer = Answer { content: Content::Held(body.into()), ..Answer::text(206, "") };
    let range = 0..answer.content.size();
    Answer { range, ..answer }
        .header("content-type", format!("multipart/byteranges; boundary={BOUNDARY}"))
}

/// A whole text, compressed while it is sent: of no known length, and of no ranges.
pub(super) fn compressed(content: &Content) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let bytes = encoder
        .write_all(&content.slice(0..content.size()))
        .and_then(|()| encoder.finish())
        .unwrap_or_else(|e| unreachable!("a vector takes all that is written: {e}"));
    let range = 0..bytes.len() as u64;
    let content = Content::Held(bytes.into());
    Answer { status: 200, headers: Vec::new(), content, range, unannounced: true }
        .header("content-encoding", "gzip")
        .header("vary", "Accept-Encoding")
}
