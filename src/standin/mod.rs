//! A Hub on loopback that answers as the real one does: for demonstrations and for tests.
//!
//! Three listeners on three ports: the Hub, which resolves names and redirects; its CDN, which
//! holds the bytes of weights behind signed links that expire; and a host elsewhere, which must
//! never see a token. Comes in: [`Repository`]s and [`Fault`]s. Goes out: answers over HTTP/1.1,
//! and a log of every request. Nothing leaves the loopback interface.
//!
//! ```
//! # use singularity_survey::standin::{Repository, StandIn};
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let model = Repository::new("org/name").file("config.json", "{}");
//! let hub = StandIn::builder().repository(model).start().await.unwrap();
//! assert!(hub.endpoint().starts_with("http://127.0.0.1:"));
//! # });
//! ```

mod api;
mod body;
mod cdn;
mod fault;
mod hub;
mod log;
mod repository;
mod wire;

pub use fault::{Action, Fault, Nth};
pub use log::{Host, Request};
pub use repository::{Gating, Repository};

use fault::Armed;
use log::Log;
use repository::Content;
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is to be served.
#[derive(Default)]
pub struct Builder {
    repositories: Vec<Repository>,
    faults: Vec<Fault>,
    plain: bool,
    chunk: Option<usize>,
    lifetime: Option<Duration>,
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

    /// Behaves as a plain static web server laid out as `org/name/resolve/main/file`: direct
    /// answers without the Hub's headers, and nothing at other revisions.
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Sends bodies in chunks of so many bytes.
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.chunk = Some(bytes.max(1));
        self
    }

    /// Signs links for so long, in place of an hour.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
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
            plain: self.plain,
            chunk: self.chunk.unwrap_or(64 << 10),
            lifetime: self.lifetime.unwrap_or(Duration::from_secs(3600)),
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

    /// Body bytes that all listeners have sent.
    pub fn bytes_sent(&self) -> u64 {
        self.log().iter().map(|request| request.sent).sum()
    }
}

/// What the three listeners share.
struct Shared {
    repositories: Vec<Repository>,
    faults: Mutex<Vec<Armed>>,
    plain: bool,
    chunk: usize,
    lifetime: Duration,
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
