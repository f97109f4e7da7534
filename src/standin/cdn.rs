//! The CDN: bytes of weights behind signed links. It knows nothing of repositories, and its
//! answers carry none of the Hub's headers.

use super::habits::Several;
use super::log::Request;
use super::repository::{File, Repository, opaque};
use super::wire::{self, Answer};
use super::{Host, Shared, Signed};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

/// Signs a link to a file. `bound` is the only range it will be good for.
pub(super) fn sign(
    shared: &Shared,
    repository: &Repository,
    file: &File,
    bound: Option<&str>,
) -> String {
    let signed = seconds().saturating_sub(shared.habits.signed_ago.as_secs());
    let expires = signed + shared.habits.lifetime.as_secs();
    let (object, hash) = (opaque(&repository.id, 24), file.xet_hash());
    let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
    let signature = opaque(&format!("{hash} {expires} {bound:?} {}", links.len()), 40);
    let target = format!(
        "/xet-bridge-us/{object}/{hash}?Expires={expires}&Policy={}&Signature={signature}~_\
         &Key-Pair-Id=K2STANDIN&X-Xet-Cas-Uid=public&user_id=public",
        opaque(&signature, 64)
    );
    let content = file.content.clone();
    let signed = Signed { content, etag: hash, expires, bound: bound.map(str::to_owned) };
    let url = format!("{}{target}", shared.ports.address(Host::Cdn));
    links.insert(target, signed);
    url
}

pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    let signed = {
        let links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(&request.target).cloned()
    };
    let Some(signed) = signed else {
        return Answer::text(403, "Auth failed: SignatureError: the link was not signed here");
    };
    if shared.habits.signed_for_get && request.method == "HEAD" {
        return Answer::text(403, "Auth failed: SignatureError: signed for another method");
    }
    if signed.expires <= seconds() {
        return expired();
    }
    if signed.bound.is_some() && signed.bound.as_deref() != request.range() {
        return Answer::text(403, "Auth failed: invalid range");
    }
    let several = request.range().is_some_and(|range| range.contains(','));
    let answer = match (several, shared.habits.several) {
        (true, Several::Refuse) => return Answer::text(403, "Auth failed: invalid range"),
        (true, Several::Parts) => wire::parts(&signed.content, request.range()),
        _ => wire::file(signed.content, request.range())
            .header("content-type", "application/octet-stream"),
    };
    answer
        .header("etag", format!("\"{}\"", signed.etag))
        .header("cache-control", "public, max-age=31536000")
        .header("x-hf-cdn-pop", "standin")
}

/// The answer to a link whose time is over.
pub(super) fn expired() -> Answer {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    Answer::text(403, body).header("content-type", "application/xml")
}

/// Ends the time of all links.
pub(super) fn expire_all(shared: &Shared) {
    let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
    links.values_mut().for_each(|signed| signed.expires = 0);
}

/// Seconds since the epoch.
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
