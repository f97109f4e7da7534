use super::support::*;
use singularity_survey::source::{Clock, Options};
use singularity_survey::standin::{Action, Fault, Gating, Host, Nth, Repository, Request, StandIn};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The requests that resolve a name: each file once, however many hops its redirect takes.
fn resolves(log: &[Request]) -> Vec<&Request> {
    log.iter().filter(|r| r.host == Host::Hub && r.path().contains("/resolve/")).collect()
}

#[test]
fn a_model_of_one_file_takes_four_resolves_and_a_sharded_one_five() {
    for (case, most) in [("tied", 4), ("two-shards", 5)] {
        let world = World::of(case);
        world.scan(&[&format!("org/{case}")]);
        let log = world.hub.log();
        let resolves = resolves(&log);
        assert_eq!(resolves.len(), most, "{resolves:#?}");
        let only_resolve = |r: &Request| {
            r.path().contains("/resolve/") || r.path().starts_with("/api/resolve-cache/")
        };
        assert!(log.iter().filter(|r| r.host == Host::Hub).all(only_resolve));
    }
}

#[test]
fn a_flag_that_contradicts_a_stored_head_takes_one_more_name() {
    let flag = r#"{"tie_word_embeddings": true}"#;
    let repository = repository("two-shards").file("config.json", flag);
    let world = World::new(StandIn::builder().repository(repository));
    let report = world.scan(&["org/two-shards"]);
    assert_eq!(report["matrix"]["sample"]["rows"], 8);
    let log = world.hub.log();
    assert_eq!(resolves(&log).len(), 6, "{log:#?}");
    let ranges = log.iter().filter(|request| request.host == Host::Cdn);
    // Two headers, four pairs of rows of both, and the head.
    assert_eq!(ranges.count(), 11, "{log:#?}");
}

#[test]
fn the_commit_of_the_first_answer_is_in_every_later_url() {
    let repository = repository("two-shards");
    let commit = repository.commit().to_owned();
    let world = World::new(StandIn::builder().repository(repository));
    let report = world.scan(&["org/two-shards"]);
    assert_eq!(report["model"]["commit"], commit.as_str());
    let log = world.hub.log();
    let mut paths = resolves(&log).into_iter().map(Request::path);
    assert!(paths.next().unwrap().contains("/resolve/main/"));
    assert!(paths.all(|path| path.contains(&format!("/resolve/{commit}/"))));
}

#[test]
fn a_revision_may_be_a_branch_a_tag_a_commit_or_a_pull_request() {
    let repository = repository("tied").revision("v1.0").revision("refs/pr/1").revision("a/b");
    let commit = repository.commit().to_owned();
    let world = World::new(StandIn::builder().repository(repository));
    for revision in ["main", "v1.0", "refs/pr/1", "a/b", &commit] {
        for args in [
            vec![format!("org/tied@{revision}")],
            vec!["org/tied".to_owned(), "--revision".to_owned(), revision.to_owned()],
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let report = world.scan(&args);
            assert_eq!(report["model"]["revision"], revision);
            assert_eq!(report["model"]["commit"], commit.as_str());
        }
    }
}

#[test]
fn ranges_go_to_the_final_address_and_never_to_one_that_redirects() {
    let world = World::of("two-shards");
    world.scan(&["org/two-shards"]);
    for request in world.hub.log() {
        match request.host {
            Host::Hub => assert_eq!(request.range(), None, "{request:?}"),
            Host::Cdn => assert_eq!((request.range().is_some(), request.status), (true, 206)),
            Host::Elsewhere => panic!("{request:?}"),
        }
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[test]
fn weights_are_looked_up_by_head() {
    let world = World::new(StandIn::builder().repository(repository("tied")).plain());
    world.scan(&["org/tied"]);
    for request in world.hub.log() {
        if request.path().ends_with(".safetensors") {
            assert!(request.method == "HEAD" || request.range().is_some(), "{request:?}");
        }
    }
}

#[test]
fn a_server_that_refuses_head_is_asked_for_one_byte() {
    let refuses = Fault::hub("/model.safetensors", Nth::Only(0), Action::status(405, ""));
    let world =
        World::new(StandIn::builder().repository(repository("tied")).plain().fault(refuses));
    agree(&world.scan(&["org/tied"]), &expected("tied"), "bits", "no HEAD");
    let log = world.hub.log();
    assert!(log.iter().any(|request| request.range() == Some("bytes=0-0")));
}

#[test]
fn a_mirror_may_lead_to_the_hub_itself() {
    let real = World::of("tied");
    let lead = |file: &str| {
        let location = format!("{}/org/tied/resolve/main/{file}", real.hub.endpoint());
        let headers = vec![("location".to_owned(), location)];
        let action = Action::Status { code: 308, headers, body: String::new() };
        Fault::hub(&format!("/{file}"), Nth::Every, action)
    };
    let mirror =
        ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"]
            .iter()
            .fold(StandIn::builder(), |mirror, file| mirror.fault(lead(file)));
    let mirror = World::new(mirror);
    let report = mirror.scan(&["org/tied", "--token", "hf_mirror"]);
    agree(&report, &expected("tied"), "bits", "mirror");
    assert_eq!(report["model"]["commit"], repository("tied").commit());
    assert!(real.hub.log().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_signed_link_that_refuses_head_is_read_all_the_same() {
    // Without the linked headers nothing tells that the redirect's target is the file itself, so
    // it is asked by HEAD, which addresses that are signed for GET refuse.
    let drop = Action::DropHeaders { prefix: "x-linked-".into() };
    let refuses = Fault {
        on: Host::Cdn,
        path_end: String::new(),
        ranged: false,
        nth: Nth::Only(0),
        action: Action::status(403, "Auth failed"),
    };
    let world = World::new(
        StandIn::builder()
            .repository(repository("tied"))
            .fault(Fault::hub("/model.safetensors", Nth::Every, drop))
            .fault(refuses),
    );
    agree(&world.scan(&["org/tied"]), &expected("tied"), "bits", "signed for GET");
}

#[test]
fn the_token_is_seen_by_the_endpoint_alone() {
    let repository = repository("tied").gated(Gating::Manual).token("hf_good");
    let world = World::new(StandIn::builder().repository(repository));
    let report = world.scan(&["org/tied", "--token", "hf_good"]);
    agree(&report, &expected("tied"), "bits", "gated");
    for request in world.hub.log() {
        let token = request.header("authorization");
        assert_eq!(token, (request.host == Host::Hub).then_some("Bearer hf_good"), "{request:?}");
    }
}

#[test]
fn old_names_lead_to_the_model() {
    let repository = repository("tied").alias("old/name").alias("older");
    let world = World::new(StandIn::builder().repository(repository));
    for name in ["old/name", "older", "ORG/tied"] {
        agree(&world.scan(&[name]), &expected("tied"), "bits", name);
    }
}

#[test]
fn little_is_sent_beyond_the_matrix_and_the_small_files() {
    let (rows, row_bytes) = (20_000u64, 512u64);
    let world = World::new(StandIn::builder().repository(generated("org/big", rows, row_bytes, 7)));
    let report = world.scan(&["org/big"]);
    let sent = world.hub.bytes_sent();
    assert!(sent >= rows * row_bytes && sent < rows * row_bytes + 300_000, "{sent}");
    // What the report says of the transfer is what the server saw.
    assert_eq!(report["transfer"]["requests"], world.hub.log().len());
    assert_eq!(report["transfer"]["bytes"], sent);
}

#[test]
fn file_names_that_need_encoding_are_found() {
    let bytes = std::fs::read(fixture("untied").join("model.safetensors")).unwrap();
    for name in ["a b/m#1?%+[ü].safetensors", "x/model.fp16.safetensors"] {
        let repository = Repository::new("org/odd").file(name, bytes.clone());
        let world = World::new(StandIn::builder().repository(repository));
        let report = world.scan(&["org/odd", "--file", name]);
        assert_eq!(report["matrix"]["file"], name);
        assert_eq!(report["matrix_digest"], expected("untied")["matrix_digest"]);
    }
}

#[test]
fn a_folder_of_a_repository_is_a_model_of_its_own() {
    let mut repository = Repository::new("org/pipe").file("model_index.json", "{}");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let bytes = std::fs::read(fixture("tied").join(file)).unwrap();
        repository = repository.file(&format!("text_encoder/{file}"), bytes);
    }
    let world = World::new(StandIn::builder().repository(repository));
    let page = format!("{}/org/pipe/tree/main/text_encoder", world.hub.endpoint());
    for args in [vec!["org/pipe", "--file", "text_encoder/"], vec![page.as_str()]] {
        let report = world.scan(&args);
        assert_eq!(report["matrix"]["file"], "text_encoder/model.safetensors");
        assert_eq!(report["matrix_digest"], expected("tied")["matrix_digest"]);
    }
}

#[test]
fn where_a_single_file_and_an_index_differ_the_single_file_is_read_and_the_report_warns() {
    let both = repository("two-shards").file(
        "model.safetensors",
        std::fs::read(fixture("untied").join("model.safetensors")).unwrap(),
    );
    let world = World::new(StandIn::builder().repository(both));
    let report = world.scan(&["org/two-shards"]);
    assert_eq!(report["matrix_digest"], expected("untied")["matrix_digest"]);
    assert!(report["warnings"][0].as_str().unwrap().contains("model.safetensors.index.json"));
    let args = ["org/two-shards", "--file", "model.safetensors.index.json"];
    assert_eq!(world.scan(&args)["matrix_digest"], expected("two-shards")["matrix_digest"]);
}

#[test]
fn the_demonstration_needs_nothing_and_tells_what_it_cost() {
    let output = bare(&["demo"]).env("http_proxy", "http://127.0.0.1:9").output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let groups = expected("demo")["bits"]["groups_total"].clone();
    assert!(shown.contains(&format!("Singularity groups: {groups}\n")), "{shown}");
    assert!(shown.lines().last().unwrap().contains("singularity-survey "), "{shown}");
    // But for findings, which have a line each.
    let (report, gate) = shown.split_once("$ singularity-survey check").unwrap();
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    assert!(gate.contains("\nerror[emittable-in-group] "), "{gate}");
    assert_eq!(text(&output.stderr), "");
}

/// What was asked for until the first bytes of the matrix were, each with the number of answers,
/// one after another, that it may have waited for; each answer takes `latency`.
fn round_trips(log: &[Request], latency: Duration) -> Vec<(usize, String)> {
    let matrix = |r: &Request| r.range().is_some_and(|range| !range.starts_with("bytes=0-"));
    let mut log: Vec<&Request> = log.iter().collect();
    log.sort_by_key(|request| request.at);
    let mut trips: Vec<(Instant, usize, String)> = Vec::new();
    for request in log {
        let before = trips.iter().filter(|(answered, ..)| *answered <= request.at);
        let depth = 1 + before.map(|(_, depth, _)| *depth).max().unwrap_or(0);
        let shown = format!("{} {}", request.method, request.path());
        trips.push((request.at + latency, depth, shown));
        if matrix(request) {
            break;
        }
    }
    trips.into_iter().map(|(_, depth, shown)| (depth, shown)).collect()
}

#[test]
fn the_first_row_takes_few_round_trips() {
    // What is asked for at a time is asked for within this time, on a busy machine too.
    let latency = Duration::from_millis(150);
    for (case, plain, most) in [
        ("tied", true, 4),
        ("two-shards", true, 5),
        // Configuration, link, header, matrix: the commit is known from the first redirect.
        ("tied", false, 4),
        // Two hops for the index, and the shard's link.
        ("two-shards", false, 6),
    ] {
        let builder = StandIn::builder().repository(repository(case)).latency(latency);
        let world = World::new(if plain { builder.plain() } else { builder });
        world.survey(&format!("org/{case}"), 8).0.unwrap();
        let trips = round_trips(&world.hub.log(), latency);
        assert_eq!(trips.last().unwrap().0, most, "{case}, plain: {plain}: {trips:#?}");
    }
}

#[test]
fn a_commit_that_is_named_spares_the_wait_for_the_first_answer() {
    let latency = Duration::from_millis(150);
    let repository = repository("tied");
    let model = format!("org/tied@{}", repository.commit());
    let world = World::new(StandIn::builder().repository(repository).latency(latency));
    world.survey(&model, 8).0.unwrap();
    let trips = round_trips(&world.hub.log(), latency);
    assert_eq!(trips.last().unwrap().0, 3, "{trips:#?}");
}

/// A clock that sleeps a tenth of what it is asked to.
struct Hasty;

impl Clock for Hasty {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        wall()
    }

    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration / 10))
    }

    fn random(&self) -> f64 {
        0.0
    }
}

#[test]
fn all_connections_are_used_where_each_is_throttled_and_as_many_as_are_served_where_few_are() {
    let (rows, row_bytes) = (10_000, 16_384);
    let throttled = Action::Drip { bytes: 256 << 10, every: Duration::from_millis(5) };
    let mut digests = Vec::new();
    for serves in [None, Some(3)] {
        let mut builder = StandIn::builder()
            .repository(generated("org/m", rows, row_bytes, 50))
            .fault(Fault::cdn(Nth::Every, throttled.clone()));
        if let Some(serves) = serves {
            builder = builder.serves(serves);
        }
        let world = World::new(builder);
        let hasty = |options: &mut Options| options.clock = Arc::new(Hasty);
        let report = world.survey_with("org/m", 8, hasty).0.unwrap();
        assert_eq!(report.duplicates.largest, Some(rows / 50));
        digests.push(report.matrix_digest);
        let refusals = world.hub.log().iter().filter(|request| request.status == 503).count();
        match serves {
            None => assert_eq!((world.hub.most_at_a_time(), refusals), (8, 0)),
            Some(serves) => {
                assert_eq!(world.hub.most_at_a_time(), serves);
                assert!(refusals > 0 && refusals < 30, "{refusals}");
            }
        }
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}
