//! Connections, answers and their bodies.

use super::fault::Action;
use super::log::{Host, Request};
use super::repository::Content;
use super::{Shared, cdn, hub};
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the Hub or the CDN has decided to answer, before faults.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    /// The part of the content that is sent.
    pub(super) range: Range<u64>,
}

impl Answer {
    /// A short text, whole.
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        let body = Bytes::from(body.into());
        let range = 0..body.len() as u64;
        Self { status, headers: Vec::new(), content: Content::Held(body), range }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Accepts connections until it is aborted.
pub(super) async fn serve(listener: TcpListener, host: Host, shared: Arc<Shared>) {
    // Dropped with this task, and every open connection with it.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { answer(&shared, host, &request) }
            });
            let io = TokioIo::new(socket);
            // A client that goes away is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers one request, with what a fault makes of it. An error closes the connection.
fn answer(
    shared: &Shared,
    host: Host,
    request: &hyper::Request<Incoming>,
) -> io::Result<Response<Body>> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
    let mut entry = Request {
        host,
        method: request.method().as_str().to_owned(),
        target,
        headers,
        status: 0,
        sent: 0,
    };
    let action = {
        let mut faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let ranged = entry.range().is_some();
        faults.iter_mut().find_map(|fault| fault.strike(host, entry.path(), ranged))
    };
    let stray = host != Host::Hub && entry.header("authorization").is_some();
    let mut answer = match (&action, host) {
        _ if stray => Answer::text(400, "a token was sent where it does not belong"),
        (Some(Action::Refuse), _) => {
            shared.log.add(entry);
            return Err(io::ErrorKind::ConnectionAborted.into());
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
    let (mut stop, mut stall) = (None, false);
    match action {
        Some(Action::Break { after }) => stop = Some(after),
        Some(Action::Stall { after }) => (stop, stall) = (Some(after), true),
        Some(Action::WrongStart) => set_range(&mut answer, |range, total| {
            format!("bytes {}-{}/{total}", range.start + 1, range.end)
        }),
        Some(Action::WrongTotal) => set_range(&mut answer, |range, total| {
            format!("bytes {}-{}/{}", range.start, range.end - 1, total + 1)
        }),
        Some(Action::NoContentRange) => answer.headers.retain(|(n, _)| n != "content-range"),
        Some(Action::Shorter { length }) => {
            answer.range.end = answer.range.end.min(answer.range.start + length);
            set_range(&mut answer, |range, total| {
                format!("bytes {}-{}/{total}", range.start, range.end - 1)
            });
        }
        Some(Action::SetHeader { name, value }) => {
            answer.headers.retain(|(known, _)| *known != name);
            answer.headers.push((name, value));
        }
        Some(Action::DropHeaders { prefix }) => {
            answer.headers.retain(|(name, _)| !name.starts_with(&prefix));
        }
        _ => {}
    }
    entry.status = answer.status;
    let head = *request.method() == Method::HEAD;
    let length = answer.range.end - answer.range.start;
    let sent = shared.log.add(entry);

    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header(header::CONTENT_LENGTH, length);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response = response.header(name, value);
        }
    }
    let (content, chunk) = (answer.content, shared.chunk as u64);
    let end = if head { answer.range.start } else { answer.range.end };
    let stop = stop.map(|after| answer.range.start + after).filter(|_| !head);
    let chunks = stream::unfold(answer.range.start, move |at| {
        let (content, sent) = (content.clone(), Arc::clone(&sent));
        async move {
            if stop.is_some_and(|stop| at >= stop) {
                if stall {
                    std::future::pending::<()>().await;
                }
                return Some((Err(io::ErrorKind::ConnectionReset.into()), u64::MAX));
            }
            let to = end.min(at.saturating_add(chunk)).min(stop.unwrap_or(u64::MAX));
            if at >= to {
                return None;
            }
            sent.fetch_add(to - at, Relaxed);
            Some((Ok(Frame::data(content.slice(at..to))), to))
        }
    });
    let body = StreamBody::new(chunks).boxed_unsync();
    response.body(body).map_err(io::Error::other)
}

fn route(shared: &Shared, host: Host, request: &Request) -> Answer {
    match host {
        Host::Hub => hub::answer(shared, request),
        Host::Cdn => cdn::answer(shared, request),
        Host::Elsewhere => Answer::text(404, "nothing here"),
    }
}

/// Rewrites Content-Range, where there is one.
fn set_range(answer: &mut Answer, write: impl Fn(&Range<u64>, u64) -> String) {
    let value = write(&answer.range, answer.content.size());
    for (name, old) in &mut answer.headers {
        if name == "content-range" {
            *old = value.clone();
        }
    }
}

/// A file with its length and ranges, as any server of plain files answers (RFC 9110, 14).
/// Several ranges at a time are not supported and get the whole file.
pub(super) fn file(content: Content, range: Option<&str>) -> Answer {
    let size = content.size();
    let asked = range.and_then(|range| range.strip_prefix("bytes=")).and_then(|range| {
        let (first, last) = range.split_once('-')?;
        match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
            (Some(first), Some(last)) => Some(first..size.min(last.checked_add(1)?)),
            (Some(first), None) if last.is_empty() => Some(first..size),
            (None, Some(last)) if first.is_empty() => Some(size.saturating_sub(last)..size),
            _ => None,
        }
    });
    let answer = Answer { status: 200, headers: Vec::new(), content, range: 0..size };
    let answer = answer.header("accept-ranges", "bytes");
    match asked {
        None => answer,
        Some(range) if range.start >= range.end => Answer::text(416, "")
            .header("content-range", format!("bytes */{size}"))
            .header("accept-ranges", "bytes"),
        Some(range) => {
            let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            Answer { status: 206, range, ..answer }.header("content-range", told)
        }
    }
}
