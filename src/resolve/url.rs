//! One plain file behind a URL that is no Hub's: no neighbours, no token.

use super::hops::{self, Landing};
use super::{Origin, Place, Snapshot};
use crate::error::{Error, Result};
use crate::source::{
    ByteSource, Client, Headers, HttpSource, Identity, Link, Relink, SafeUrl, content_length,
    read_whole,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::{Method, Url, header};
use std::sync::Arc;

/// A snapshot of exactly one file.
#[derive(Clone)]
pub struct SingleUrl {
    client: Client,
    url: Url,
    file: String,
}

impl SingleUrl {
    /// The file behind `url`; its name is the last part of the path.
    pub fn new(client: Client, url: Url) -> Self {
        let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let file = percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned();
        Self { client, url, file }
    }

    /// The name of the one file.
    pub fn file(&self) -> &str {
        &self.file
    }

    async fn link(client: Client, url: Url) -> Result<Option<Link>> {
        let shown = SafeUrl(&url).to_string();
        let landing = hops::follow(&client, Method::HEAD, url, &|_| None, &mut |_| false).await?;
        let Landing::Answer(answer) = landing else {
            return Err(Error::BadAnswer { url: shown, what: "a redirect to nowhere".into() });
        };
        let mut link = Link {
            url: answer.url().clone(),
            token: None,
            lifetime: None,
            identity: Identity::default(),
        };
        match answer.status().as_u16() {
            200 => {
                let encoded = answer.headers().contains_key(header::CONTENT_ENCODING);
                link.identity.size = content_length(answer.headers()).filter(|_| !encoded);
                let etag = Headers(answer.headers()).text(header::ETAG);
                link.identity.etag = etag.map(str::to_owned);
                Ok(Some(link))
            }
            404 | 410 => Ok(None),
            // Addresses that are signed for GET refuse HEAD; the range request will tell.
            400 | 401 | 403 | 405 | 501 => Ok(Some(link)),
            _ => Err(client.unexpected(answer).await),
        }
    }
}

impl Snapshot for SingleUrl {
    fn origin(&self) -> Origin {
        Origin {
            id: SafeUrl(&self.url).to_string(),
            source: Place::Url,
            revision: None,
            commit: None,
        }
    }

    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn ByteSource>>>> {
        Box::pin(async move {
            if file != self.file {
                return Ok(None);
            }
            let (client, url) = (self.client.clone(), self.url.clone());
            let Some(link) = Self::link(client.clone(), url.clone()).await? else {
                return Ok(None);
            };
            let shown = SafeUrl(&self.url).to_string();
            let gone = shown.clone();
            let again = client.clone();
            let relink: Relink = Arc::new(move || {
                let fresh = Self::link(again.clone(), url.clone());
                let gone = gone.clone();
                Box::pin(async move { fresh.await?.ok_or(Error::NoSuchFile { file: gone }) })
            });
            let source = HttpSource::open(client, shown, link, relink).await?;
            Ok(Some(Arc::new(source) as Arc<dyn ByteSource>))
        })
    }

    fn read<'a>(&'a self, file: &'a str, limit: u64) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            match self.open(file).await? {
                Some(source) => Ok(Some(read_whole(source.as_ref(), limit).await?)),
                None => Ok(None),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { vec![self.file.clone()] })
    }
}
