//! A Hub on loopback that answers as the real one does: for demonstrations, for this crate's tests,
//! and for those of any program that reads from the Hub.
//!
//! Three listeners on three ports: the Hub, which resolves names and redirects; its CDN, which
//! holds the bytes of weights behind signed links that expire; and a host elsewhere, which must
//! never see a token. Comes in: [`Repository`]s and [`Fault`]s. Goes out: answers over HTTP/1.1,
//! and a log of every request. Nothing leaves the loopback interface.
//!
//! ```
//! # use singularity_survey::standin::{Action, Fault, Nth, Repository, StandIn};
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let model = Repository::new("org/name").file("config.json", "{}").alias("old/name");
//! let hub = StandIn::builder()
//!     .repository(model)
//!     // The first two range requests to the CDN end after 1,000 bytes of the body.
//!     .fault(Fault::cdn(Nth::First(2), Action::Break { after: 1000 }))
//!     .start()
//!     .await
//!     .unwrap();
//! // What is tested reads from `hub.endpoint()`; then:
//! assert!(hub.log().iter().all(|request| request.status == 200));
//! # });
//! ```
//!
//! What it does: redirects of files in git and of weights, with every header that only they have;
//! old and wrongly cased names; revisions; conditional requests; compression on the fly; gated,
//! private, disabled and missing repositories, by who asks; rate limits that count down; model info,
//! trees in pages, paths, refs, lists. Where real servers differ from one another the
//! [`Builder`] has a switch ([`HubRange`], [`Several`], [`Location`], …). What goes wrong on purpose
//! is a [`Fault`]: an [`Action`] at a chosen request, byte or time.
//!
//! What it does not: datasets and spaces, writing, and native Xet, whose hashes and tokens it hands
//! out without a storage behind them. Its hashes are not those of the real algorithms, but equal for
//! equal bytes. `huggingface_hub` works with it, with `HF_ENDPOINT` set to [`StandIn::endpoint`] and
//! `HF_HUB_DISABLE_XET=1`; for tests in other languages, the example `standin` serves folders.

mod api;
mod body;
mod cdn;
mod crowd;
mod fault;
mod habits;
mod hub;
mod log;
mod quota;
mod repository;
mod wire;

pub use fault::{Action, Fault, Nth};
pub use habits::{HubRange, Location, Several};
pub use log::{Host, Request};
pub use repository::{Gating, Repository};

use crowd::Crowd;
use fault::Armed;
use habits::Habits;
use log::Log;
use quota::Windows;
use repository::Content;
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is to be served, and how.
#[derive(Default)]
pub struct Builder {
    repositories: Vec<Repository>,
    faults: Vec<Fault>,
    tokens: Vec<String>,
    habits: Habits,
}

impl Builder {
    /// Serves this repository.
    pub fn repository(mut self, repository: Repository) -> Self {
        self.repositories.push(repository);
        self
    }

    /// Does this wrong; repeatable, and the first fault that matches a request counts.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Knows this token, of a user to whom no gated or private repository is open.
    pub fn token(mut self, token: &str) -> Self {
        self.tokens.push(token.to_owned());
        self
    }

    /// Behaves as a plain static web server laid out as `org/name/resolve/main/file`: direct
    /// answers without the Hub's headers, and nothing at other revisions.
    pub fn plain(mut self) -> Self {
        self.habits.plain = true;
        self
    }

    /// Sends bodies in chunks of so many bytes.
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.habits.chunk = bytes.max(1);
        self
    }

    /// Waits so long before each answer.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.habits.latency = latency;
        self
    }

    /// Has the CDN serve so many requests at a time, and answer 503 to any beyond.
    pub fn serves(mut self, requests: usize) -> Self {
        self.habits.serves = Some(requests);
        self
    }

    /// Signs links for so long, in place of an hour.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.habits.lifetime = lifetime;
        self
    }

    /// Hands out links that were signed so long ago; longer than their lifetime, and they have
    /// expired when they come.
    pub fn signed_ago(mut self, age: Duration) -> Self {
        self.habits.signed_ago = age;
        self
    }

    /// Signs links for GET alone, so that HEAD of one is refused.
    pub fn signed_for_get(mut self) -> Self {
        self.habits.signed_for_get = true;
        self
    }

    /// What becomes of a range that is sent to the Hub.
    pub fn hub_range(mut self, habit: HubRange) -> Self {
        self.habits.hub_range = habit;
        self
    }

    /// What the CDN does when asked for several ranges at a time.
    pub fn several(mut self, habit: Several) -> Self {
        self.habits.several = habit;
        self
    }

    /// How redirects within the Hub are written, and their status, in place of 307.
    pub fn redirects(mut self, location: Location, status: u16) -> Self {
        (self.habits.location, self.habits.redirect) = (location, status);
        self
    }

    /// Closes each connection after one answer.
    pub fn close(mut self) -> Self {
        self.habits.close = true;
        self
    }

    /// Takes so many requests of a kind in each window of such a length, in place of the Hub's own.
    pub fn quota(mut self, requests: u64, window: Duration) -> Self {
        (self.habits.quota, self.habits.window) = (Some(requests), window);
        self
    }

    /// Lists so many entries on a page, in place of the Hub's own number.
    pub fn page(mut self, entries: usize) -> Self {
        self.habits.page = Some(entries);
        self
    }

    /// Starts the listeners.
    pub async fn start(self) -> io::Result<StandIn> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (hub, cdn, elsewhere) = (listen().await?, listen().await?, listen().await?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let shared = Arc::new(Shared {
            repositories: self.repositories,
            faults: Mutex::new(self.faults.into_iter().map(Armed::new).collect()),
            tokens: self.tokens,
            habits: self.habits,
            windows: Windows::default(),
            crowd: Arc::new(Crowd::default()),
            started: Instant::now(),
            ports: Ports { hub: port(&hub)?, cdn: port(&cdn)?, elsewhere: port(&elsewhere)? },
            log: Log::default(),
            links: Mutex::default(),
            answers: AtomicU64::new(0),
        });
        let listeners = [(hub, Host::Hub), (cdn, Host::Cdn), (elsewhere, Host::Elsewhere)]
            .map(|(listener, host)| tokio::spawn(wire::serve(listener, host, Arc::clone(&shared))));
        Ok(StandIn { shared, listeners })
    }
}

/// Running listeners; they stop when this is dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    listeners: [JoinHandle<()>; 3],
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl StandIn {
    /// Describes what is to be served.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The Hub's address.
    pub fn endpoint(&self) -> String {
        self.shared.ports.address(Host::Hub)
    }

    /// The CDN's address.
    pub fn cdn_endpoint(&self) -> String {
        self.shared.ports.address(Host::Cdn)
    }

    /// The address of a host that belongs to neither.
    pub fn elsewhere(&self) -> String {
        self.shared.ports.address(Host::Elsewhere)
    }

    /// Every request so far, in the order of arrival.
    pub fn log(&self) -> Vec<Request> {
        self.shared.log.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.shared.log.clear();
    }

    /// The most requests that the CDN has served at a time.
    pub fn most_at_a_time(&self) -> usize {
        self.shared.crowd.most()
    }

    /// Body bytes that all listeners have sent.
    pub fn bytes_sent(&self) -> u64 {
        self.log().iter().map(|request| request.sent).sum()
    }
}

/// What the three listeners share.
struct Shared {
    repositories: Vec<Repository>,
    faults: Mutex<Vec<Armed>>,
    tokens: Vec<String>,
    habits: Habits,
    windows: Windows,
    crowd: Arc<Crowd>,
    started: Instant,
    ports: Ports,
    log: Log,
    /// Signed links by their path and query, to the byte.
    links: Mutex<HashMap<String, Signed>>,
    answers: AtomicU64,
}

/// What a signed link leads to.
#[derive(Clone)]
struct Signed {
    content: Content,
    etag: String,
    /// Seconds since the epoch.
    expires: u64,
    /// The only range that the link is good for, if the Hub was asked with one.
    bound: Option<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    hub: u16,
    cdn: u16,
    elsewhere: u16,
}

impl Ports {
    fn address(self, host: Host) -> String {
        let port = match host {
            Host::Hub => self.hub,
            Host::Cdn => self.cdn,
            Host::Elsewhere => self.elsewhere,
        };
        format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
    }
}

#[cfg(test)]
mod tests;
