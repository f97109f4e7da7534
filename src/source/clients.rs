//! The HTTP library's clients, each set up when first a request needs it.
//!
//! There are two, because trust is dear: the system keeps its certificates in some three hundred files,
//! and to read them takes longer than the first answers of a server nearby. A request that goes over a
//! plain connection has no use for them.

use super::options::Options;
use crate::error::{Error, Result};
use reqwest::{Client, Proxy, Url};
use std::sync::OnceLock;
use std::time::Duration;

/// Sets up clients.
pub(super) struct Clients {
    user_agent: String,
    connect: Duration,
    proxies: Vec<Proxy>,
    /// Trusts no certificate at all.
    plain: OnceLock<Client>,
    /// Trusts those that the system trusts.
    trusting: OnceLock<Client>,
}

impl Clients {
    /// Sets up none yet.
    pub(super) fn new(options: &Options) -> Result<Self> {
        // Ring, because the other provider takes 30 ms to gather entropy at the first handshake.
        // An error means that the program has installed a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            user_agent: options.user_agent.clone(),
            connect: options.policy.connect,
            proxies: options.proxies.build()?,
            plain: OnceLock::new(),
            trusting: OnceLock::new(),
        })
    }

    /// The client for such a request.
    pub(super) fn of(&self, url: &Url) -> Result<&Client> {
        // To a proxy the connection may be encrypted, whatever is asked of it.
        let plain = url.scheme() == "http" && self.proxies.is_empty();
        let place = if plain { &self.plain } else { &self.trusting };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let client = self.build(plain)?;
        Ok(place.get_or_init(|| client))
    }

    fn build(&self, plain: bool) -> Result<Client> {
        let mut builder = Client::builder()
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect)
            .http1_only()
            .no_proxy();
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        if plain {
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|e| Error::Usage {
            what: format!(
                "the HTTP client cannot be set up: {}; SSL_CERT_FILE and SSL_CERT_DIR, where set, \
                 must lead to certificates",
                super::client::describe(&e)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Proxies;
    use super::*;

    fn set_up(proxies: Proxies, url: &str) -> (bool, bool) {
        let clients = Clients::new(&Options { proxies, ..Options::default() }).unwrap();
        clients.of(&Url::parse(url).unwrap()).unwrap();
        (clients.plain.get().is_some(), clients.trusting.get().is_some())
    }

    #[test]
    fn certificates_are_read_where_a_connection_may_be_encrypted() {
        let proxy = |url: &str| Proxies { http: Some(url.into()), ..Proxies::default() };
        assert_eq!(set_up(Proxies::default(), "http://127.0.0.1/"), (true, false));
        assert_eq!(set_up(Proxies::default(), "https://127.0.0.1/"), (false, true));
        assert_eq!(set_up(proxy("https://127.0.0.1:3128"), "http://127.0.0.1/"), (false, true));
    }

    #[tokio::test]
    async fn a_client_that_trusts_nobody_is_never_asked_for_an_encrypted_connection() {
        let clients = Clients::new(&Options::default()).unwrap();
        let plain = clients.of(&Url::parse("http://127.0.0.1/").unwrap()).unwrap() as *const _;
        let trusting = clients.of(&Url::parse("https://127.0.0.1/").unwrap()).unwrap() as *const _;
        assert!(!std::ptr::eq(plain, trusting));
        let again = clients.of(&Url::parse("http://127.0.0.1:8/").unwrap()).unwrap();
        assert!(std::ptr::eq(plain, again));
    }
}
