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
        let next = target(&url, location.as_bytes()).map_err(wrong)?;
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

/// Where a redirect leads, or why it is not followed.
fn target(from: &Url, location: &[u8]) -> Result<Url, &'static str> {
    let to = std::str::from_utf8(location).ok().and_then(|to| from.join(to).ok());
    let to = to.ok_or("a redirect to no valid address")?;
    match (from.scheme(), to.scheme()) {
        ("http", "http") | ("http" | "https", "https") => Ok(to),
        // What was asked for in private is not fetched in public.
        ("https", "http") => Err("a redirect away from https"),
        _ => Err("a redirect to what is neither http nor https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_http_or_https_and_never_back_from_https() {
        for (from, location, to) in [
            ("http://h/a/b?q", "c", Ok("http://h/a/c")),
            ("http://h/a", "/c?d=%2F", Ok("http://h/c?d=%2F")),
            ("http://h/a", "//other:81/c", Ok("http://other:81/c")),
            ("https://h/a", "//other/c", Ok("https://other/c")),
            ("http://h/a", "https://h/c", Ok("https://h/c")),
            ("https://h/a", "http://h/c", Err("away from https")),
            ("https://h/a", "HTTP://h/c", Err("away from https")),
            ("https://h/a", "ftp://h/c", Err("neither http nor https")),
            ("http://h/a", "file:///etc/passwd", Err("neither http nor https")),
            ("http://h/a", "data:,x", Err("neither http nor https")),
            ("http://h/a", "http://[", Err("no valid address")),
            ("http://h/a", "\u{fc}", Ok("http://h/%C3%BC")),
        ] {
            let found = target(&Url::parse(from).unwrap(), location.as_bytes());
            match (found, to) {
                (Ok(found), Ok(to)) => assert_eq!(found.as_str(), to),
                (Err(found), Err(to)) => assert!(found.contains(to), "{location}: {found}"),
                (found, _) => panic!("{location}: {found:?}"),
            }
        }
        assert!(target(&Url::parse("http://h").unwrap(), b"\xff").is_err());
    }
}
