use super::support::*;
use singularity_survey::standin::{Repository, StandIn};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer as it came over the wire.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// Asks without any HTTP client, so that nothing is followed, decoded or normalised.
fn ask(url: &str, method: &str, headers: &[&str]) -> Answer {
    let (host, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!(
        "{method} /{target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut lines = text(&answer[..end]).lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: answer[end + 4..].to_vec() }
}

fn world() -> World {
    let repository = Repository::new("org/name")
        .file("config.json", "{}")
        .file("model.safetensors", (0..=255).collect::<Vec<u8>>())
        .revision("refs/pr/1")
        .alias("old");
    World::new(StandIn::builder().repository(repository))
}

#[test]
fn a_file_in_git_is_a_relative_redirect_away() {
    let world = world();
    let hub = world.hub.endpoint();
    let first = ask(&format!("{hub}/org/name/resolve/main/config.json"), "GET", &[]);
    assert_eq!((first.status, first.header("etag"), first.header("x-linked-size")), (307, "", ""));
    let commit = first.header("x-repo-commit");
    assert_eq!(commit.len(), 40);
    assert_eq!(first.header("content-length"), first.body.len().to_string());
    let location = first.header("location");
    assert!(location.starts_with("/api/resolve-cache/models/org/name/"), "{location}");
    let path = location.split('?').next().unwrap();
    for target in [location, path] {
        let second = ask(&format!("{hub}{target}"), "GET", &[]);
        assert_eq!((second.status, second.body.as_slice()), (200, &b"{}"[..]));
        assert_eq!(second.header("etag").len(), 42);
    }
    let named = path.replace(commit, "main");
    assert_eq!(ask(&format!("{hub}{named}"), "GET", &[]).status, 400);
    let foreign = path.replace(commit, &"0".repeat(40));
    assert_eq!(ask(&format!("{hub}{foreign}"), "GET", &[]).status, 404);
}

#[test]
fn weights_are_a_signed_link_away() {
    let world = world();
    let hub = world.hub.endpoint();
    let first = ask(&format!("{hub}/org/name/resolve/main/model.safetensors"), "HEAD", &[]);
    assert_eq!((first.status, first.header("x-linked-size"), first.body.len()), (302, "256", 0));
    let location = first.header("location");
    assert!(location.starts_with(&world.hub.cdn_endpoint()));
    for (range, status, content_range, bytes) in [
        ("range: bytes=3-5", 206, "bytes 3-5/256", &[3u8, 4, 5][..]),
        ("range: bytes=254-999", 206, "bytes 254-255/256", &[254, 255]),
        ("range: bytes=254-", 206, "bytes 254-255/256", &[254, 255]),
        ("range: bytes=-1", 206, "bytes 255-255/256", &[255]),
        ("range: bytes=256-", 416, "bytes */256", &[]),
    ] {
        let answer = ask(location, "GET", &[range]);
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range));
        assert_eq!(answer.body, bytes, "{range}");
        assert_eq!((answer.header("x-repo-commit"), answer.header("ratelimit")), ("", ""));
    }
    let whole = ask(location, "GET", &["range: bytes=0-1,4-5"]);
    assert_eq!((whole.status, whole.body.len()), (200, 256));
    assert_ne!(whole.header("etag"), first.header("x-linked-etag"));
    let changed = location.replace("Signature=", "Signature=0");
    let refused = ask(&changed, "GET", &[]);
    assert!(refused.status == 403 && text(&refused.body).starts_with("Auth failed: Signature"));
    assert_eq!(ask(location, "GET", &["authorization: Bearer x"]).status, 400);
}

#[test]
fn a_link_is_bound_to_the_range_that_the_hub_was_asked_with() {
    let world = world();
    let url = format!("{}/org/name/resolve/main/model.safetensors", world.hub.endpoint());
    let first = ask(&url, "GET", &["range: bytes=0-1"]);
    let location = first.header("location");
    assert_eq!(ask(location, "GET", &["range: bytes=0-1"]).status, 206);
    let other = ask(location, "GET", &["range: bytes=2-3"]);
    assert_eq!((other.status, text(&other.body)), (403, "Auth failed: invalid range"));
}

#[test]
fn a_link_expires() {
    let repository = Repository::new("org/name").file("m.safetensors", vec![0; 9]);
    let world = World::new(StandIn::builder().repository(repository).lifetime(Duration::ZERO));
    let url = format!("{}/org/name/resolve/main/m.safetensors", world.hub.endpoint());
    let answer = ask(ask(&url, "HEAD", &[]).header("location"), "GET", &["range: bytes=0-1"]);
    assert!(answer.status == 403 && text(&answer.body).contains("AccessDenied"));
}

#[test]
fn errors_are_told_by_status_and_code() {
    let world = world();
    let hub = world.hub.endpoint();
    for (path, status, code) in [
        ("/org/none/resolve/main/config.json", 401, ""),
        ("/org/name/resolve/none/config.json", 404, "RevisionNotFound"),
        ("/org/name/resolve/main/none", 404, "EntryNotFound"),
        ("/org/name/resolve/refs/pr/1/config.json", 404, "RevisionNotFound"),
        ("/org/name/resolve/refs%2Fpr%2F1/config.json", 307, ""),
        ("/old/resolve/main/config.json?x=1", 307, ""),
        ("/api/models/org/name", 200, ""),
    ] {
        let answer = ask(&format!("{hub}{path}"), "GET", &[]);
        assert_eq!((answer.status, answer.header("x-error-code")), (status, code), "{path}");
        assert!(
            answer.header("ratelimit").contains(";r=") && !answer.header("x-request-id").is_empty()
        );
    }
    let renamed = ask(&format!("{hub}/old/resolve/main/config.json?x=1"), "HEAD", &[]);
    assert_eq!(renamed.header("location"), "/org/name/resolve/main/config.json?x=1");
}
