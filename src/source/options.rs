//! What a client is built from.

use super::retry::{Clock, Policy, SystemClock};
use crate::error::{Error, Result};
use crate::observe::{Observer, Silent};
use std::sync::Arc;

/// Proxies to go through, as curl's variables name them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// For whatever the other two do not name.
    pub all: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

/// What a [`Client`](super::Client) is built from.
#[derive(Clone)]
pub struct Options {
    /// How the client names itself.
    pub user_agent: String,
    /// Proxies to go through.
    pub proxies: Proxies,
    /// How patient it is.
    pub policy: Policy,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Who is told of requests and waits.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).into(),
            proxies: Proxies::default(),
            policy: Policy::default(),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Silent),
        }
    }
}

impl Proxies {
    /// The proxies that are set, each in the form that the client takes.
    pub(super) fn build(&self) -> Result<Vec<reqwest::Proxy>> {
        type Make = fn(&str) -> reqwest::Result<reqwest::Proxy>;
        let exempt = self.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        let mut proxies = Vec::new();
        for (url, make) in [
            (&self.http, (|url| reqwest::Proxy::http(url)) as Make),
            (&self.https, |url| reqwest::Proxy::https(url)),
            (&self.all, |url| reqwest::Proxy::all(url)),
        ] {
            let Some(url) = url.as_deref().filter(|url| !url.is_empty()) else { continue };
            // A proxy of any other kind would be passed by without a word.
            let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
            let spoken = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
            let known = spoken.iter().any(|known| known.eq_ignore_ascii_case(scheme));
            let proxy = make(url).ok().filter(|_| known).ok_or_else(|| Error::Usage {
                what: "the proxy that the environment names is no URL of an HTTP or SOCKS proxy"
                    .into(),
            })?;
            proxies.push(proxy.no_proxy(exempt.clone()));
        }
        Ok(proxies)
    }
}
