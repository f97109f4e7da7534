//! How an answer's bytes leave. Comes in: a part of a file, and what a fault makes of its sending.
//! Goes out: chunks, each made when the socket has room for it. Never holds more than one chunk.

use super::crowd::Place;
use super::repository::Content;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a body leaves; the default is in full and as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivery {
    /// After so many bytes, nothing more but this.
    pub(super) stop: Option<(u64, Stop)>,
    /// So many bytes at a time, and the time between them.
    pub(super) drip: Option<(u64, Duration)>,
    /// Zero bytes sent after the end, so that the length cannot be announced.
    pub(super) extra: u64,
    /// The length is not announced.
    pub(super) chunked: bool,
    /// The place in the body of a byte that is sent inverted.
    pub(super) flip: Option<u64>,
}

/// What comes in place of the rest of a body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Close,
    Reset,
    Stall,
}

/// A connection's tallies: what its bodies sent, and whether it is to end by a reset.
pub(super) struct Tally {
    pub(super) sent: Arc<AtomicU64>,
    pub(super) reset: Arc<AtomicBool>,
    /// Held until the body has gone.
    pub(super) _place: Option<Place>,
}

/// A part of the content, in chunks.
pub(super) fn body(
    content: Content,
    range: Range<u64>,
    chunk: u64,
    delivery: Delivery,
    tally: Tally,
) -> Body {
    let length = range.end - range.start;
    let all = length.saturating_add(delivery.extra);
    let shared = Arc::new((content, tally));
    let chunks = stream::unfold(0, move |at| {
        let shared = Arc::clone(&shared);
        async move {
            let (content, tally) = &*shared;
            let chunk = delivery.drip.map_or(chunk, |(bytes, _)| bytes);
            if let Some((_, every)) = delivery.drip {
                tokio::time::sleep(every).await;
            }
            let mut to = if at < length { length } else { all }.min(at.saturating_add(chunk));
            if let Some((after, how)) = delivery.stop {
                if at >= after {
                    cut(how, &tally.reset).await;
                    return Some((Err(io::ErrorKind::ConnectionReset.into()), u64::MAX));
                }
                to = to.min(after);
            }
            if at >= to {
                return None;
            }
            let mut bytes = match at < length {
                true => content.slice(range.start + at..range.start + to),
                false => vec![0; (to - at) as usize].into(),
            };
            if let Some(place) = delivery.flip.filter(|place| (at..to).contains(place)) {
                let mut changed = bytes.to_vec();
                changed[(place - at) as usize] ^= 0xff;
                bytes = changed.into();
            }
            tally.sent.fetch_add(to - at, Relaxed);
            Some((Ok(Frame::data(bytes)), to))
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

async fn cut(how: Stop, reset: &AtomicBool) {
    match how {
        Stop::Stall => std::future::pending().await,
        Stop::Reset => reset.store(true, Relaxed),
        Stop::Close => {}
    }
    // An error at once would take the headers and the bytes before it down with it: hyper writes
    // them to the socket only when a body has to be waited for.
    tokio::task::yield_now().await;
}
