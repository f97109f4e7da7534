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

/// The answer of a Hub whose habits are as `with` sets them.
async fn habit(with: impl FnOnce(Builder) -> Builder, path: &str, headers: &[&str]) -> Answer {
    let hub = with(StandIn::builder().repository(repository())).start().await.unwrap();
    get(&hub, path, headers).await
}

#[tokio::test]
async fn redirects_take_every_form_and_status() {
    for (form, begins) in [
        (Location::Path, "/api/resolve-cache/"),
        (Location::Absolute, "http://127.0.0.1:"),
        (Location::SchemeRelative, "//127.0.0.1:"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let path = "/org/name/resolve/main/config.json";
            let answer = habit(|hub| hub.redirects(form, status), path, &[]).await;
            assert_eq!(answer.status, status);
            assert!(answer.header("location").starts_with(begins), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_range_that_is_sent_to_the_hub_is_bound_ignored_or_refused() {
    let range: &[&str] = &["range: bytes=0-1"];
    let refused = habit(|hub| hub.hub_range(HubRange::Refuse), WEIGHTS, range).await;
    assert_eq!((refused.status, refused.header("content-range")), (416, "bytes */177"));
    for (kind, status) in [(HubRange::Bind, 403), (HubRange::Ignore, 206)] {
        let builder = StandIn::builder().repository(repository()).hub_range(kind);
        let hub = builder.start().await.unwrap();
        let link = get(&hub, WEIGHTS, range).await;
        let other = ask(link.header("location"), "GET", &["range: bytes=2-3"]).await;
        assert_eq!(other.status, status);
        let same = ask(link.header("location"), "GET", range).await;
        assert_eq!(same.status, 206);
    }
}

#[tokio::test]
async fn links_can_be_old_when_they_come_and_signed_for_get_alone() {
    for (age, status) in [(3540, 206), (3605, 403)] {
        let builder = StandIn::builder().repository(repository());
        let hub = builder.signed_ago(Duration::from_secs(age)).start().await.unwrap();
        let link = get(&hub, WEIGHTS, &[]).await;
        let answer = ask(link.header("location"), "GET", &["range: bytes=2-3"]).await;
        assert_eq!(answer.status, status);
    }
    let builder = StandIn::builder().repository(repository()).signed_for_get();
    let hub = builder.start().await.unwrap();
    let link = get(&hub, WEIGHTS, &[]).await;
    assert_eq!(ask(link.header("location"), "HEAD", &[]).await.status, 403);
    assert_eq!(ask(link.header("location"), "GET", &["range: bytes=2-3"]).await.status, 206);
}

#[tokio::test]
async fn several_ranges_get_the_file_or_parts_or_nothing() {
    for (kind, status, begins) in [
        (Several::Whole, 200, &b"\x00\x01"[..]),
        (
            Several::Parts,
            206,
            b"\r\n--standin-part\r\nContent-Range: bytes 1-2/256\r\n\r\n\x01\x02",
        ),
        (Several::Refuse, 403, b"Auth failed"),
    ] {
        let builder = StandIn::builder().repository(repository()).several(kind);
        let hub = builder.start().await.unwrap();
        let link = get(&hub, WEIGHTS, &[]).await;
        let answer = ask(link.header("location"), "GET", &["range: bytes=1-2,5-6"]).await;
        assert_eq!(answer.status, status);
        assert!(answer.body.starts_with(begins), "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let hub = start(repository()).await;
    let weights = get(&hub, WEIGHTS, &[]).await;
    let small = get(&hub, "/org/name/resolve/main/config.json", &[]).await;
    let landed = get(&hub, small.header("location"), &[]).await;
    for (path, etag) in [
        (WEIGHTS, weights.header("x-linked-etag")),
        ("/org/name/resolve/main/config.json", landed.header("etag")),
        (small.header("location"), landed.header("etag")),
    ] {
        for etag in [etag.to_owned(), format!("W/{etag}, \"other\"")] {
            let answer = get(&hub, path, &[&format!("if-none-match: {etag}")]).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{path}");
        }
        let answer = get(&hub, path, &["if-none-match: \"other\""]).await;
        assert_ne!(answer.status, 304);
    }
}

#[tokio::test]
async fn small_files_are_compressed_for_whom_it_suits() {
    let hub = start(repository()).await;
    let small = get(&hub, "/org/name/resolve/main/config.json", &[]).await;
    let to = small.header("location");
    for accepted in ["accept-encoding: gzip, br", "accept-encoding: gzip;q=0.5"] {
        let answer = get(&hub, to, &[accepted, "range: bytes=0-0"]).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, "gzip"));
        assert_eq!((answer.header("content-length"), answer.header("accept-ranges")), ("", ""));
    }
    for accepted in ["accept-encoding: identity", "accept-encoding: gzip;q=0", "accept: gzip"] {
        assert_eq!(get(&hub, to, &[accepted]).await.body, b"{}");
    }
}

#[tokio::test]
async fn raw_files_are_what_stands_in_git() {
    let hub = start(repository()).await;
    let small = get(&hub, "/org/name/raw/main/config.json", &[]).await;
    assert_eq!((small.status, small.body.as_slice()), (200, &b"{}"[..]));
    let large = get(&hub, "/org/name/raw/main/model.safetensors", &[]).await;
    assert!(large.body.starts_with(b"version https://git-lfs"), "{large:?}");
    assert!(large.body.ends_with(b"\nsize 256\n"), "{large:?}");
}

#[tokio::test]
async fn whoever_asks_to_be_told_is_not_sent_away() {
    let hub = start(repository()).await;
    let accept = "accept: application/vnd.xet-fileinfo+json, */*";
    let answer = get(&hub, WEIGHTS, &[accept, "range: bytes=0-0"]).await;
    assert_eq!((answer.status, answer.header("x-linked-size")), (200, "256"));
    assert_eq!(answer.json()["hash"], answer.header("x-xet-hash"));
}

#[tokio::test]
async fn a_name_that_changed_twice_takes_two_redirects() {
    let hub = start(repository().alias("older")).await;
    let first = get(&hub, "/older/resolve/main/config.json?a=b", &[]).await;
    assert_eq!(first.header("location"), "/old/resolve/main/config.json?a=b");
    let second = get(&hub, first.header("location"), &[]).await;
    assert_eq!(second.header("location"), "/org/name/resolve/main/config.json?a=b");
}

#[tokio::test]
async fn listings_come_in_pages() {
    let builder = StandIn::builder().repository(repository()).page(2);
    let hub = builder.repository(Repository::new("org/b")).start().await.unwrap();
    let mut path = "/api/models/org/name/tree/main?recursive=true".to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = get(&hub, &path, &[]).await;
        pages.push(answer.json().as_array().unwrap().len());
        let Some(next) = answer.header("link").strip_suffix(">; rel=\"next\"") else { break };
        path = next.strip_prefix(&format!("<{}", hub.endpoint())).unwrap().to_owned();
        assert!(path.contains("recursive=true&cursor="), "{path}");
    }
    assert_eq!(pages, [2, 2, 1]);
    let ids = async |query: &str| {
        let list = get(&hub, &format!("/api/models?{query}"), &[]).await.json();
        list.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
    };
    let ids: [Vec<String>; 4] =
        [ids("").await, ids("search=NAME").await, ids("author=none").await, ids("limit=1").await];
    assert_eq!(ids, [vec!["org/name", "org/b"], vec!["org/name"], vec![], vec!["org/name"]]);
}

#[tokio::test]
async fn named_paths_are_told_of_and_missing_ones_left_out() {
    let hub = start(repository()).await;
    let post = async |body: &str| {
        let host = hub.endpoint();
        let host = host.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "POST /api/models/org/name/paths-info/main HTTP/1.1\r\nhost: {host}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    for body in [
        "paths=config.json&paths=none&paths=onnx%2Fdeep&expand=True",
        r#"{"paths": ["config.json", "none", "onnx/deep"], "expand": true}"#,
    ] {
        let told = post(body).await;
        assert_eq!(told.as_array().unwrap().len(), 2);
        assert_eq!((&told[0]["size"], &told[1]["type"]), (&2.into(), &"directory".into()));
        assert_eq!(told[0]["lastCommit"]["id"], repository().commit());
    }
}

#[tokio::test]
async fn the_api_tells_of_names_tokens_and_access() {
    let closed = Repository::new("org/closed").file("a", "").disabled();
    let builder = StandIn::builder().repository(repository().revision("v1")).repository(closed);
    let hub = builder.token("hf_some").start().await.unwrap();
    let refs = get(&hub, "/api/models/org/name/refs?include_prs=1", &[]).await.json();
    assert_eq!(refs["branches"][0]["ref"], "refs/heads/main");
    assert_eq!(refs["tags"][0]["ref"], "refs/tags/v1");
    assert_eq!(refs["pullRequests"][0]["targetCommit"], repository().commit());
    let token = get(&hub, "/api/models/org/name/xet-read-token/main", &[]).await.json();
    assert!(token["accessToken"].is_string() && token["exp"].is_u64());
    assert_eq!(get(&hub, "/api/models/org/name/auth-check", &[]).await.status, 200);
    let info = get(&hub, "/api/models/org/name?expand=sha&expand=gated", &[]).await.json();
    assert_eq!(info.as_object().unwrap().keys().collect::<Vec<_>>(), ["_id", "gated", "id", "sha"]);

    assert_eq!(get(&hub, "/api/models/org/closed", &[]).await.json()["disabled"], true);
    for path in ["/org/closed/resolve/main/a", "/api/models/org/closed/tree/main"] {
        let answer = get(&hub, path, &[]).await;
        assert_eq!((answer.status, answer.header("x-error-code")), (401, "GatedRepo"));
        let answer = get(&hub, path, &["authorization: Bearer hf_some"]).await;
        let said = answer.header("x-error-message");
        assert_eq!((answer.status, said), (403, "Access to this resource is disabled."));
    }
    let bad = get(&hub, WEIGHTS, &["authorization: Bearer hf_bad"]).await;
    let said = bad.header("x-error-message");
    assert_eq!((bad.status, said), (401, "Invalid credentials in Authorization header"));
}

#[tokio::test]
async fn a_quota_runs_out_and_comes_back() {
    let window = Duration::from_millis(400);
    let builder = StandIn::builder().repository(repository()).quota(2, window);
    let hub = builder.start().await.unwrap();
    let ask = async || {
        let answer = get(&hub, WEIGHTS, &[]).await;
        (answer.status, answer.header("ratelimit").to_owned())
    };
    assert_eq!(ask().await, (302, "\"resolvers\";r=1;t=1".into()));
    assert_eq!(ask().await, (302, "\"resolvers\";r=0;t=1".into()));
    assert_eq!(ask().await, (429, "\"resolvers\";r=0;t=1".into()));
    // Another bucket has a window of its own.
    assert_eq!(get(&hub, "/api/models/org/name", &[]).await.status, 200);
    tokio::time::sleep(window).await;
    assert_eq!(ask().await.0, 302);
}

#[tokio::test]
async fn an_answer_can_be_slow_and_each_connection_short() {
    let drip = Action::Drip { bytes: 5, every: Duration::from_millis(20) };
    let began = Instant::now();
    let (answer, _) = under(drip).await;
    assert_eq!(answer.body, sixteen());
    assert!(began.elapsed() >= Duration::from_millis(80));
    let closing = habit(Builder::close, WEIGHTS, &["connection: keep-alive"]).await;
    assert_eq!(closing.header("connection"), "close");
    let slow = Duration::from_millis(60);
    let began = Instant::now();
    habit(|hub| hub.latency(slow), WEIGHTS, &[]).await;
    assert!(began.elapsed() >= slow);
}

#[tokio::test]
async fn a_fault_may_begin_at_a_time() {
    let fault = Fault::hub("", Nth::After(Duration::from_millis(200)), Action::status(503, ""));
    let builder = StandIn::builder().repository(repository()).fault(fault);
    let hub = builder.start().await.unwrap();
    assert_eq!(get(&hub, WEIGHTS, &[]).await.status, 302);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(get(&hub, WEIGHTS, &[]).await.status, 503);
}

#[tokio::test]
async fn a_request_keeps_the_name_that_its_sender_gave_it() {
    let hub = start(repository()).await;
    let answer = get(&hub, WEIGHTS, &["x-amzn-trace-id: mine"]).await;
    assert_eq!(answer.header("x-request-id"), "mine");
}
