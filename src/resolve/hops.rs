//! Redirects, followed by hand: a server's headers are read on every hop, and each hop decides
//! anew whether it may see the token.

use crate::error::{Error, Result};
use crate::source::{Client, Secret};
use reqwest::{Method, Response, Url, header};

/// Redirects followed for one file; the official Rust client stops at as many.
const MAX_HOPS: usize = 10;

/// Where following ended.
pub(super) enum Landing {
    /// An answer that is no redirect.
    Answer(Response),
    /// The address that a redirect named, not visited because the caller knew enough.
    At(Url, Response),
}

/// Asks `url` and follows redirects. `token` says what an address may be shown; `enough` looks at
/// each redirect and says whether its target can be used as it is.
pub(super) async fn follow(
    client: &Client,
    method: Method,
    mut url: Url,
    token: &(dyn Fn(&Url) -> Option<Secret> + Sync),
    enough: &mut (dyn FnMut(&Response) -> bool + Send),
) -> Result<Landing> {
    let first = client.shown(&url);
    for _ in 0..=MAX_HOPS {
        let mut answer = client.request(method.clone(), &url, token(&url).as_ref()).await?;
        if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(Landing::Answer(answer));
        }
        let wrong =
            |what: &str| Error::BadAnswer { url: client.shown(&url), what: what.to_owned() };
        let location = answer.headers().get(header::LOCATION);
        let location = location.ok_or_else(|| wrong("a redirect without a Location"))?;
        let next = std::str::from_utf8(location.as_bytes()).ok().and_then(|to| url.join(to).ok());
        let next = next.ok_or_else(|| wrong("a redirect to no valid address"))?;
        match (url.scheme(), next.scheme()) {
            ("http", "http") | (_, "https") => {}
            ("https", "http") => return Err(wrong("a redirect away from https")),
            _ => return Err(wrong("a redirect to what is neither http nor https")),
        }
        client.discard(&mut answer).await;
        if enough(&answer) {
            return Ok(Landing::At(next, answer));
        }
        url = next;
    }
    Err(Error::BadAnswer {
        url: first,
        what: format!("more than {MAX_HOPS} redirects, the last to {}", client.shown(&url)),
    })
}
