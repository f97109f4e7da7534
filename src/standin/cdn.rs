//! The CDN: bytes of weights behind signed links. It knows nothing of repositories, and its
//! answers carry none of the Hub's headers.

use super::log::Request;
use super::repository::{Content, Repository, opaque};
use super::wire::{Answer, file};
use super::{Host, Shared, Signed};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

/// Signs a link to a file. `bound` is the only range it will be good for.
pub(super) fn sign(
    shared: &Shared,
    repository: &Repository,
    name: &str,
    content: &Content,
    bound: Option<&str>,
) -> String {
    let now = seconds();
    let expires = now + shared.lifetime.as_secs();
    let (object, hash) = (opaque(&repository.id, 24), repository.xet_hash(name));
    let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
    let signature = opaque(&format!("{hash} {expires} {bound:?} {}", links.len()), 40);
    let target = format!(
        "/xet-bridge-us/{object}/{hash}?Expires={expires}&Policy={}&Signature={signature}~_\
         &Key-Pair-Id=K2STANDIN&X-Xet-Cas-Uid=public&user_id=public",
        opaque(&signature, 64)
    );
    let signed =
        Signed { content: content.clone(), etag: hash, expires, bound: bound.map(str::to_owned) };
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
    if signed.expires <= seconds() {
        return expired();
    }
    if signed.bound.is_some() && signed.bound.as_deref() != request.range() {
        return Answer::text(403, "Auth failed: invalid range");
    }
    file(signed.content, request.range())
        .header("content-type", "application/octet-stream")
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

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
