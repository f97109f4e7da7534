use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WEIGHTS: &str = "/org/name/resolve/main/model.safetensors";
const SOON: Duration = Duration::from_millis(500);

/// An answer as it came over the wire, as far as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// How the connection ended: `None` where it did not.
    end: Option<io::Result<()>>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let line = |line: &'_ str| line.split_once(": ").is_some_and(|(known, _)| known == name);
        self.head.lines().find(|l| line(l)).map_or("", |line| &line[name.len() + 2..])
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Asks without any HTTP client, so that nothing is followed, decoded or tried again.
async fn ask(url: &str, method: &str, headers: &[&str]) -> Answer {
    let (host, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!(
        "{method} /{target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        match timeout(SOON, socket.read(&mut part)).await {
            Err(_) => break None,
            Ok(Ok(0)) => break Some(Ok(())),
            Ok(Ok(read)) => all.extend_from_slice(&part[..read]),
            Ok(Err(error)) => break Some(Err(error)),
        }
    };
    let split = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
    let head = String::from_utf8(all[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    Answer { status, head, body: all[split..].to_vec(), end }
}

async fn get(hub: &StandIn, path: &str, headers: &[&str]) -> Answer {
    ask(&format!("{}{path}", hub.endpoint()), "GET", headers).await
}

fn repository() -> Repository {
    Repository::new("org/name")
        .file("config.json", "{}")
        .file("model.safetensors", (0..=255).collect::<Vec<u8>>())
        .file("onnx/deep/model.bin", "12345")
        .revision("refs/pr/1")
        .alias("old")
}

async fn start(repository: Repository) -> StandIn {
    StandIn::builder().repository(repository).start().await.unwrap()
}

/// The answer to bytes 16 to 31 of the weights under a fault of the CDN, and what was logged.
async fn under(action: Action) -> (Answer, Request) {
    let fault = Fault::cdn(Nth::Every, action);
    let hub = StandIn::builder().repository(repository()).fault(fault).start().await.unwrap();
    let link = get(&hub, WEIGHTS, &[]).await;
    let answer = ask(link.header("location"), "GET", &["range: bytes=16-31"]).await;
    (answer, hub.log().pop().unwrap())
}

fn sixteen() -> Vec<u8> {
    (16..32).collect()
}

#[tokio::test]
async fn weights_are_redirected_with_all_that_only_this_answer_tells() {
    let hub = start(repository()).await;
    let first = get(&hub, WEIGHTS, &[]).await;
    assert_eq!(first.status, 302);
    assert_eq!(first.header("content-length"), first.body.len().to_string());
    for rel in ["rel=\"xet-auth\"", "rel=\"xet-reconstruction-info\""] {
        assert!(first.header("link").contains(rel), "{first:?}");
    }
    let second = ask(first.header("location"), "GET", &["range: bytes=16-31"]).await;
    assert_eq!((second.status, second.body), (206, sixteen()));
    assert_eq!(hub.bytes_sent(), first.body.len() as u64 + 16);
}

#[tokio::test]
async fn the_quota_counts_down() {
    let hub = start(repository()).await;
    let rest = async || {
        let answer = get(&hub, WEIGHTS, &[]).await;
        let (_, rest) = answer.header("ratelimit").split_once(";r=").unwrap();
        rest.split(';').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(rest().await, rest().await + 1);
}

#[tokio::test]
async fn a_fault_of_a_small_file_is_found_by_its_name_on_both_hops() {
    let fault = Fault::hub("/config.json", Nth::Every, Action::Break { after: 1 });
    let hub = StandIn::builder().repository(repository()).fault(fault).start().await.unwrap();
    let first = get(&hub, "/org/name/resolve/main/config.json", &[]).await;
    assert_eq!((first.status, first.body.len()), (307, 1));
    let second = get(&hub, first.header("location"), &[]).await;
    assert_eq!((second.status, second.body.len()), (200, 1));
}

#[tokio::test]
async fn the_kind_of_a_file_can_be_forced() {
    let hub = start(repository().lfs("config.json").git("model.safetensors")).await;
    assert_eq!(get(&hub, "/org/name/resolve/main/config.json", &[]).await.status, 302);
    let small = get(&hub, WEIGHTS, &[]).await;
    assert_eq!((small.status, small.header("x-linked-size")), (307, ""));
    assert_eq!(get(&hub, small.header("location"), &[]).await.body.len(), 256);
}

#[tokio::test]
async fn model_info_tells_sizes_when_asked_to() {
    let hub = start(repository()).await;
    let info = get(&hub, "/api/models/org/name", &[]).await.json();
    assert_eq!(info["sha"], repository().commit());
    assert_eq!(info["siblings"][0], serde_json::json!({ "rfilename": "config.json" }));
    let path = "/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true";
    let info = get(&hub, path, &[]).await.json();
    assert_eq!(
        (&info["siblings"][0]["size"], &info["siblings"][1]["lfs"]["size"]),
        (&2.into(), &256.into())
    );
    assert!(info["siblings"][0].get("lfs").is_none());
    let renamed = get(&hub, "/api/models/old/revision/main?blobs=true", &[]).await;
    assert_eq!(renamed.header("location"), "/api/models/org/name/revision/main?blobs=true");
    let none = get(&hub, "/api/models/org/name/revision/none", &[]).await;
    assert_eq!((none.status, none.header("x-error-code")), (404, "RevisionNotFound"));
}

#[tokio::test]
async fn a_tree_is_listed_by_folder_or_whole() {
    let hub = start(repository()).await;
    let commit = repository().commit().to_owned();
    for (path, listed) in [
        ("main", &["onnx", "config.json", "model.safetensors"][..]),
        (&commit, &["onnx", "config.json", "model.safetensors"]),
        ("refs%2Fpr%2F1/onnx", &["onnx/deep"]),
        ("refs/pr/1/onnx/deep", &["onnx/deep/model.bin"]),
        ("main/onnx%2Fdeep", &["onnx/deep/model.bin"]),
        ("main/onnx?recursive=true", &["onnx/deep", "onnx/deep/model.bin"]),
    ] {
        let tree = get(&hub, &format!("/api/models/org/name/tree/{path}"), &[]).await.json();
        let paths: Vec<_> =
            tree.as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
        assert_eq!(paths, listed, "{path}");
    }
    for (path, code) in [("none", "RevisionNotFound"), ("main/none", "EntryNotFound")] {
        let answer = get(&hub, &format!("/api/models/org/name/tree/{path}"), &[]).await;
        assert_eq!((answer.status, answer.header("x-error-code")), (404, code));
    }
}

#[tokio::test]
async fn a_gated_tree_is_public_but_for_what_leads_to_the_bytes() {
    let hub = start(repository().gated(Gating::Manual).token("hf_good")).await;
    let path = "/api/models/org/name/tree/main";
    let hash = async |headers: &[&str]| {
        get(&hub, path, headers).await.json()[2]["xetHash"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(&[]).await, "*".repeat(64));
    let open = hash(&["authorization: Bearer hf_good"]).await;
    assert!(open.len() == 64 && !open.contains('*'));
}

#[tokio::test]
async fn refusals_depend_on_who_asks() {
    let hub = StandIn::builder()
        .repository(Repository::new("org/gated").file("a", "").gated(Gating::Auto).token("hf_1"))
        .repository(Repository::new("org/hidden").file("a", "").private().token("hf_2"))
        .start()
        .await
        .unwrap();
    for (name, token, status, code) in [
        ("gated", "", 401, "GatedRepo"),
        ("gated", "authorization: Bearer garbage", 401, "GatedRepo"),
        ("gated", "authorization: Bearer hf_2", 403, "GatedRepo"),
        ("gated", "authorization: Bearer hf_1", 307, ""),
        ("hidden", "", 401, ""),
        ("hidden", "authorization: Bearer hf_1", 404, "RepoNotFound"),
        ("hidden", "authorization: Bearer hf_2", 307, ""),
        ("none", "authorization: Bearer hf_2", 404, "RepoNotFound"),
    ] {
        let headers: &[&str] = if token.is_empty() { &[] } else { &[token] };
        let answer = get(&hub, &format!("/org/{name}/resolve/main/a"), headers).await;
        assert_eq!(
            (answer.status, answer.header("x-error-code")),
            (status, code),
            "{name} {token}"
        );
        assert_eq!(answer.header("x-hf-warning").is_empty(), !token.is_empty());
    }
}

#[tokio::test]
async fn a_token_elsewhere_is_an_error_that_is_logged() {
    let hub = start(repository()).await;
    for host in [hub.cdn_endpoint(), hub.elsewhere()] {
        let answer = ask(&format!("{host}/"), "GET", &["authorization: Bearer x"]).await;
        assert_eq!(answer.status, 400);
    }
    assert_eq!(
        hub.log().iter().map(|r| (r.host, r.status)).collect::<Vec<_>>(),
        [(Host::Cdn, 400), (Host::Elsewhere, 400)]
    );
}

#[tokio::test]
async fn a_plain_server_answers_directly_and_knows_one_revision() {
    let hub = StandIn::builder().repository(repository()).plain().start().await.unwrap();
    let part = get(&hub, WEIGHTS, &["range: bytes=16-31"]).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 16-31/256"));
    assert!(part.body == sixteen() && !part.head.contains("\r\nx-"), "{}", part.head);
    for path in ["/org/name/resolve/refs%2Fpr%2F1/config.json", "/api/models/org/name"] {
        assert_eq!(get(&hub, path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_body_ends_as_the_fault_says_after_what_it_lets_through() {
    for after in [0, 5] {
        for (action, kind) in [
            (Action::Break { after }, "closed"),
            (Action::Reset { after }, "reset"),
            (Action::Stall { after }, "open"),
        ] {
            let (answer, logged) = under(action).await;
            assert_eq!((answer.status, answer.header("content-length")), (206, "16"), "{kind}");
            assert_eq!(answer.body, sixteen()[..after as usize], "{kind}");
            assert_eq!(logged.sent, after);
            let end = match answer.end {
                None => "open",
                Some(Ok(())) => "closed",
                Some(Err(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    "reset"
                }
            };
            assert_eq!(end, kind);
        }
    }
}

#[tokio::test]
async fn an_answer_may_never_begin() {
    let (answer, logged) = under(Action::Refuse).await;
    assert!(answer.head.is_empty() && answer.end.is_some() && logged.status == 0);
    let (answer, logged) = under(Action::StallBeforeHeaders).await;
    assert!(answer.head.is_empty() && answer.end.is_none() && logged.status == 0);
}

#[tokio::test]
async fn ranges_lie_as_the_fault_says() {
    for (action, told, bytes) in [
        (Action::WrongStart, "bytes 17-32/256", sixteen()),
        (Action::WrongTotal, "bytes 16-31/257", sixteen()),
        (Action::NoContentRange, "", sixteen()),
        (Action::Shorter { length: 4 }, "bytes 16-19/256", vec![16, 17, 18, 19]),
        (Action::Flip { at: 1 }, "bytes 16-31/256", {
            let mut bytes = sixteen();
            bytes[1] ^= 0xff;
            bytes
        }),
    ] {
        let (answer, _) = under(action).await;
        assert_eq!((answer.status, answer.header("content-range")), (206, told));
        assert_eq!(answer.body, bytes);
    }
    let (whole, _) = under(Action::IgnoreRange).await;
    assert_eq!((whole.status, whole.body.len()), (200, 256));
}

#[tokio::test]
async fn bodies_are_longer_wrapped_or_wrongly_labelled_as_the_fault_says() {
    let (longer, logged) = under(Action::LongerBody { extra: 3 }).await;
    assert_eq!(longer.header("transfer-encoding"), "chunked");
    assert_eq!(longer.header("content-range"), "bytes 16-31/256");
    assert!(longer.header("content-length").is_empty() && logged.sent == 19);
    let (wrapped, _) = under(Action::Multipart).await;
    assert!(wrapped.header("content-type").starts_with("multipart/byteranges"));
    assert!(wrapped.header("content-range").is_empty() && wrapped.status == 206);
    assert!(wrapped.body.windows(16).any(|part| part == sixteen()));
    let (labelled, _) = under(Action::gzip()).await;
    assert_eq!(labelled.header("content-encoding"), "gzip");
    assert_eq!(labelled.body, sixteen());
    let unannounced = Action::DropHeaders { prefix: "content-length".into() };
    assert_eq!(under(unannounced).await.0.header("transfer-encoding"), "chunked");
}

#[tokio::test]
async fn faults_of_answers_without_a_range_change_nothing_that_is_not_there() {
    for action in [Action::WrongStart, Action::WrongTotal, Action::Multipart] {
        let fault = Fault { ranged: false, ..Fault::cdn(Nth::Every, action) };
        let empty = Repository::new("org/name").file("model.safetensors", "");
        let hub = StandIn::builder().repository(empty).fault(fault).start().await.unwrap();
        let link = get(&hub, WEIGHTS, &[]).await;
        for (headers, status) in [(&[][..], 200), (&["range: bytes=0-1"], 416)] {
            let answer = ask(link.header("location"), "GET", headers).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        }
    }
}

#[tokio::test]
async fn the_hub_can_point_elsewhere_or_to_other_weights() {
    let hub = StandIn::builder()
        .repository(repository())
        .fault(Fault::hub(".safetensors", Nth::Only(1), Action::changed_file()))
        .fault(Fault::hub(".safetensors", Nth::From(1), Action::redirect(308, "//evil/x")))
        .start()
        .await
        .unwrap();
    let [first, second, third] = [
        get(&hub, WEIGHTS, &[]).await,
        get(&hub, WEIGHTS, &[]).await,
        get(&hub, WEIGHTS, &[]).await,
    ];
    assert_ne!(first.header("x-linked-etag"), second.header("x-linked-etag"));
    assert_eq!(first.header("x-linked-size"), second.header("x-linked-size"));
    assert_eq!((third.status, third.header("location")), (308, "//evil/x"));
}
