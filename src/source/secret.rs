//! What must not be shown: tokens, and the parts of addresses that open what they lead to.

use super::SafeUrl;
use crate::quote;
use reqwest::Url;
use reqwest::header::HeaderValue;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A secret that does not print, and whose header is marked sensitive.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a token as it stands in a variable or a file: line breaks are deleted and the ends
    /// stripped; `None` if nothing is left or if it could not stand in a header.
    pub fn new(token: &str) -> Option<Self> {
        let clean = token.replace(['\r', '\n'], "");
        let clean = clean.trim();
        let legal = !clean.is_empty() && HeaderValue::from_str(clean).is_ok();
        legal.then(|| Self(clean.to_owned()))
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secrets that a client has sent. A server may say them back, in a message, a name or an
/// address, and whoever shows what it says must not show them.
#[derive(Default)]
pub(super) struct Sent(Mutex<Vec<String>>);

/// Values of a query that are shorter say too little to be secrets, and too much of other text would
/// look like them.
const SHORTEST: usize = 8;

impl Sent {
    /// Remembers what a request shows to its server.
    pub(super) fn note(&self, url: &Url, token: Option<&Secret>) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut note = |value: &str| {
            if !value.is_empty() && !sent.iter().any(|known| known == value) {
                sent.push(value.to_owned());
            }
        };
        if let Some(Secret(token)) = token {
            note(token);
        }
        if let Some(password) = url.password() {
            note(password);
        }
        // As they are written, and as they are meant.
        for pair in url.query().into_iter().flat_map(|query| query.split('&')) {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            if value.len() >= SHORTEST {
                note(value);
            }
        }
        for (_, value) in url.query_pairs() {
            if value.len() >= SHORTEST {
                note(&value);
            }
        }
    }

    /// The text with `…` where a secret stood, or what looks like one.
    pub(super) fn mask(&self, text: &str) -> String {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mask = |text: String, secret: &String| text.replace(secret.as_str(), "…");
        quote::redact(&sent.iter().fold(text.to_owned(), mask))
    }

    /// An address as it may be shown.
    pub(super) fn shown(&self, url: &Url) -> String {
        self.mask(&SafeUrl(url).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_shown_when_it_comes_back() {
        let sent = Sent::default();
        let url = Url::parse("https://u:passw@h/a?Signature=abc%2Fdefgh&v=1#f").unwrap();
        sent.note(&url, Secret::new("hf_token").as_ref());
        for (said, shown) in [
            ("no hf_token here", "no … here"),
            ("GET /a?Signature=abc%2Fdefgh&v=1", "GET /a?…"),
            ("signed abc/defgh, not passw", "signed …, not …"),
            ("v=1", "v=1"),
        ] {
            assert_eq!(sent.mask(said), shown);
        }
        let back = Url::parse("https://h/hf_token/x?y=z").unwrap();
        assert_eq!(sent.shown(&back), "https://h/%E2%80%A6/x".replace("%E2%80%A6", "…"));
    }
}
