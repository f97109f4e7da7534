use super::support::*;
use singularity_survey::analysis::Digest;
use singularity_survey::error::{Error, Result};
use singularity_survey::report::{DuplicatesPart, Report};
use singularity_survey::standin::{Action, Builder, Fault, Host, Nth, Request, StandIn};
use std::sync::Arc;
use std::time::Duration;

const ROWS: u64 = 4_000;
const ROW_BYTES: u64 = 1_024;
const BYTES: u64 = ROWS * ROW_BYTES;

/// The longest segment of a matrix of this size: one for each connection, but none below a megabyte,
/// and all of whole tiles.
fn segment(connections: usize) -> u64 {
    BYTES.div_ceil(connections as u64).max(1 << 20).next_multiple_of(64 * ROW_BYTES)
}

/// Requests that no scan of a small model may exceed, whatever goes wrong: six tries for each of
/// eight streams, as many links, and the small files.
const BOUND: usize = 6 * 8 * 2 + 20;

/// How a model lies on the Hub.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Tied,
    TwoShards,
}

impl Layout {
    fn builder(self) -> Builder {
        let builder = StandIn::builder().chunk(10_000);
        match self {
            Self::Tied => builder.repository(generated("org/m", ROWS, ROW_BYTES, 50)),
            Self::TwoShards => builder.repository(generated_shards("org/m", ROWS, ROW_BYTES, 50)),
        }
    }

    /// The file with the matrix.
    fn weights(self) -> &'static str {
        match self {
            Self::Tied => "/model.safetensors",
            Self::TwoShards => "/model-00002-of-00002.safetensors",
        }
    }

    fn tensor(self) -> &'static str {
        match self {
            Self::Tied => "model.embed_tokens.weight",
            Self::TwoShards => "lm_head.weight",
        }
    }
}

/// What must come of a fault.
enum Then {
    /// The report of a scan without it; so many waits, each of this length where one is told; so
    /// many links to the weights.
    Same(usize, Option<u64>, usize),
    /// This kind of error, with these words; at most so many links.
    Error(&'static str, &'static str, usize),
}
use Then::{Error as Fails, Same};

fn status(code: u16, headers: &[(&str, &str)], body: &str) -> Action {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Action::Status { code, headers, body: body.to_owned() }
}

fn set(name: &str, value: &str) -> Action {
    Action::SetHeader { name: name.to_owned(), value: value.to_owned() }
}

fn drip() -> Action {
    Action::Drip { bytes: 10, every: Duration::from_millis(20) }
}

/// What goes wrong with the CDN's answers; the first request there is the header's, the second the
/// first of the matrix.
fn at_the_cdn() -> Vec<(&'static str, Nth, Action, Then)> {
    use Nth::{Every, First, From, Only};
    let page = format!("<!doctype html>{}", "<p>slow down</p>".repeat(3500));
    let soon = httpdate::fmt_http_date(wall() + Duration::from_secs(100));
    let for_good = [("x-request-id", "Root=1-abc")];
    let mut table = vec![
        ("refused", First(3), Action::Refuse, Same(3, None, 1)),
        ("refused for good", From(1), Action::Refuse, Fails("Network", "tried 6 times", 1)),
        ("reset before headers", First(3), Action::ResetBeforeHeaders, Same(3, None, 1)),
        ("closed in the body", Only(1), Action::Break { after: 12_345 }, Same(1, Some(1), 1)),
        ("reset in the body", Only(1), Action::Reset { after: 12_345 }, Same(1, Some(1), 1)),
        ("stalled in the body", Only(1), Action::Stall { after: 12_345 }, Same(1, Some(1), 1)),
        ("closed at its first byte", First(3), Action::empty(), Same(3, None, 1)),
        ("reset at its first byte", First(3), Action::Reset { after: 0 }, Same(3, None, 1)),
        ("stalled at its first byte", First(3), Action::Stall { after: 0 }, Same(3, None, 1)),
        ("never a byte", From(1), Action::empty(), Fails("Network", "tried 6 times", 1)),
        ("no headers", First(2), Action::StallBeforeHeaders, Same(2, None, 1)),
        (
            "no headers for good",
            From(1),
            Action::StallBeforeHeaders,
            Fails("Network", "no answer for 0.3 s", 1),
        ),
        ("a trickle", Only(1), drip(), Same(1, Some(1), 1)),
        ("a trickle for good", From(1), drip(), Fails("Network", "bytes a second", 1)),
        ("a later start", Only(1), Action::WrongStart, Same(1, Some(1), 1)),
        (
            "a later start for good",
            From(1),
            Action::WrongStart,
            Fails("BadAnswer", "were asked for", 1),
        ),
        ("a later end", Only(1), Action::WrongEnd, Same(1, Some(1), 1)),
        (
            "a later end for good",
            From(1),
            Action::WrongEnd,
            Fails("BadAnswer", "were asked for", 1),
        ),
        ("another total", Only(1), Action::WrongTotal, Same(1, Some(1), 1)),
        (
            "another total for good",
            From(1),
            Action::WrongTotal,
            Fails("BadAnswer", "this answer says", 1),
        ),
        ("no Content-Range", Only(1), Action::NoContentRange, Same(1, Some(1), 1)),
        (
            "no Content-Range for good",
            From(1),
            Action::NoContentRange,
            Fails("BadAnswer", "without Content-Range", 1),
        ),
        ("less than asked", From(1), Action::Shorter { length: 100_001 }, Same(0, None, 1)),
        (
            "more than announced",
            Only(1),
            Action::LongerBody { extra: 9 },
            Fails("BadAnswer", "longer than its Content-Range", 1),
        ),
        (
            "the whole file",
            From(1),
            Action::IgnoreRange,
            Fails("RangesIgnored", "ignores range requests", 1),
        ),
        ("compressed", Only(1), Action::gzip(), Same(1, Some(1), 1)),
        ("compressed for good", From(1), Action::gzip(), Fails("BadAnswer", "encoded", 1)),
        (
            "no length",
            Every,
            Action::DropHeaders { prefix: "content-length".into() },
            Same(0, None, 1),
        ),
        ("parts", Only(1), Action::Multipart, Same(1, Some(1), 1)),
        (
            "parts for good",
            From(1),
            Action::Multipart,
            Fails("BadAnswer", "without Content-Range", 1),
        ),
        (
            "parts that look like one",
            From(1),
            set("content-type", "multipart/byteranges"),
            Fails("BadAnswer", "several came", 1),
        ),
        (
            "a redirect's length",
            Only(1),
            status(416, &[("content-range", "bytes */177")], ""),
            Same(0, None, 2),
        ),
        (
            "a redirect's length for good",
            From(1),
            status(416, &[("content-range", "bytes */177")], ""),
            Fails("BadAnswer", "416", 10),
        ),
        (
            "r=0;t=2",
            Only(1),
            status(429, &[("ratelimit", "\"resolvers\";r=0;t=2")], ""),
            Same(1, Some(3), 1),
        ),
        (
            "r>0",
            Only(1),
            status(429, &[("ratelimit", "\"resolvers\";r=9;t=200")], ""),
            Same(1, Some(1), 1),
        ),
        ("Retry-After", Only(1), status(429, &[("retry-after", "7")], ""), Same(1, Some(8), 1)),
        (
            "both",
            Only(1),
            status(429, &[("retry-after", "7"), ("ratelimit", "\"a\";r=0;t=4")], ""),
            Same(1, Some(5), 1),
        ),
        ("a date", Only(1), status(429, &[("retry-after", &soon)], ""), Same(1, Some(101), 1)),
        (
            "503 with a wait",
            Only(1),
            status(503, &[("retry-after", "11")], ""),
            Same(1, Some(12), 1),
        ),
        ("a page and no hint", Only(1), status(429, &[], &page), Same(1, Some(1), 1)),
        (
            "429 for good",
            From(1),
            status(429, &for_good, &page),
            Fails("RateLimited", "rate limit reached, request Root=1-abc", 1),
        ),
        (
            "a wait of an hour",
            From(1),
            status(429, &[("retry-after", "3600")], ""),
            Fails("RateLimited", "resets in 3601 s", 1),
        ),
        (
            "503 with a wait of an hour",
            From(1),
            status(503, &[("retry-after", "3600")], ""),
            Fails("RateLimited", "resets in 3601 s", 1),
        ),
        (
            "503 for good",
            From(1),
            status(503, &for_good, "no"),
            Fails("Network", "503 Service Unavailable, request Root=1-abc (tried 6 times)", 1),
        ),
        (
            "too large for the bridge",
            From(1),
            status(400, &for_good, "File is too large"),
            Fails("BadAnswer", "400 Bad Request (File is too large), request Root=1-abc", 1),
        ),
        (
            "a megabyte of noise",
            From(1),
            Action::status(400, &"\u{202e}\u{1b}[2J\n".repeat(150_000)),
            Fails("BadAnswer", "400 Bad Request", 1),
        ),
        (
            "not implemented",
            From(1),
            status(501, &[], "no"),
            Fails("BadAnswer", "501 Not Implemented (no)", 1),
        ),
        ("expired", Only(1), Action::Expire, Same(0, None, 2)),
        (
            "expired, in plain text",
            Only(1),
            Action::status(403, "Auth failed: expired"),
            Same(0, None, 2),
        ),
        ("401", Only(1), Action::status(401, ""), Same(0, None, 2)),
        ("410", Only(1), Action::status(410, ""), Same(0, None, 2)),
        ("moved", Only(1), Action::redirect(302, "/elsewhere"), Same(0, None, 2)),
        (
            "403 for good",
            From(1),
            status(403, &for_good, "Auth failed: no\u{1b}[31m luck"),
            Fails(
                "BadAnswer",
                "403 Forbidden (Auth failed: no\\x1b[31m luck), request Root=1-abc",
                10,
            ),
        ),
        (
            "bound to a range",
            From(1),
            Action::status(403, "Auth failed: invalid range"),
            Fails("BadAnswer", "invalid range", 10),
        ),
    ];
    for code in [408, 500, 502, 503, 504] {
        table.push(("a status that passes", First(2), Action::status(code, ""), Same(2, None, 1)));
    }
    table
}

/// What goes wrong with the Hub's answer on the weights, whose first request is the first look.
fn at_the_hub() -> Vec<(&'static str, Nth, Action, Then)> {
    use Nth::{Every, First, Only};
    let bare = |code| Action::Status { code, headers: vec![], body: String::new() };
    vec![
        ("refused", First(2), Action::Refuse, Same(2, None, 3)),
        ("reset", First(2), Action::ResetBeforeHeaders, Same(2, None, 3)),
        ("no headers", First(2), Action::StallBeforeHeaders, Same(2, None, 3)),
        ("503 twice", First(2), Action::status(503, ""), Same(2, None, 3)),
        (
            "a wait",
            Only(0),
            status(429, &[("ratelimit", "\"resolvers\";r=0;t=2")], ""),
            Same(1, Some(3), 2),
        ),
        (
            "a wait of an hour",
            Every,
            status(429, &[("ratelimit", "\"r\";r=0;t=3999")], ""),
            Fails("RateLimited", "resets in 4000 s", 1),
        ),
        (
            "503 for good",
            Every,
            status(503, &[("x-amzn-trace-id", "Root=1-abc")], ""),
            Fails("Network", "503 Service Unavailable, request Root=1-abc (tried 6 times)", 6),
        ),
        (
            "no X-Linked-Size",
            Every,
            Action::DropHeaders { prefix: "x-linked-size".into() },
            Same(0, None, 1),
        ),
        ("a size below zero", Every, set("x-linked-size", "-1"), Same(0, None, 1)),
        (
            "a size beyond counting",
            Every,
            set("x-linked-size", "99999999999999999999"),
            Same(0, None, 1),
        ),
        (
            "a size that is not the file's",
            Every,
            set("x-linked-size", "12345"),
            Fails("BadAnswer", "the file has 12345 bytes", 1),
        ),
        (
            "no commit",
            Every,
            Action::DropHeaders { prefix: "x-repo-commit".into() },
            Same(0, None, 1),
        ),
        (
            "a redirect to itself",
            Every,
            Action::redirect(302, "?again"),
            Fails("BadAnswer", "more than 10 redirects", 11),
        ),
        (
            "a redirect to nothing",
            Every,
            Action::redirect(302, "http://["),
            Fails("BadAnswer", "no valid address", 1),
        ),
        (
            "a redirect to a file",
            Every,
            Action::redirect(302, "file:///etc/passwd"),
            Fails("BadAnswer", "neither http nor https", 1),
        ),
        (
            "a redirect without a Location",
            Every,
            bare(302),
            Fails("BadAnswer", "without a Location", 1),
        ),
        ("304 unasked", Every, bare(304), Fails("BadAnswer", "304 Not Modified", 1)),
        ("no content", Every, bare(204), Fails("BadAnswer", "204 No Content", 1)),
    ]
}

/// What goes wrong with a small file, found by its name on both of its hops.
fn at_the_configuration() -> Vec<(&'static str, Nth, Action, Then)> {
    use Nth::{Every, First};
    vec![
        ("closed in the body", First(2), Action::Break { after: 10 }, Same(1, None, 1)),
        ("stalled in the body", First(2), Action::Stall { after: 10 }, Same(1, None, 1)),
        (
            "a trickle",
            First(2),
            Action::Drip { bytes: 1, every: Duration::from_millis(20) },
            Same(1, Some(1), 1),
        ),
        ("compressed for good", Every, Action::gzip(), Fails("BadAnswer", "compressed", 1)),
        ("503 twice", First(2), Action::status(503, ""), Same(2, None, 1)),
        (
            "never a whole body",
            Every,
            Action::Break { after: 10 },
            Fails("Network", "tried 6 times", 1),
        ),
    ]
}

#[test]
fn every_fault_of_the_cdn_ends_in_the_same_report_or_in_its_own_error() {
    for (what, nth, action, then) in at_the_cdn() {
        hold(what, |_| vec![Fault::cdn(nth, action.clone())], &then);
    }
}

#[test]
fn every_fault_of_the_hub_ends_in_the_same_report_or_in_its_own_error() {
    for (what, nth, action, then) in at_the_hub() {
        hold(what, |layout| vec![Fault::hub(layout.weights(), nth, action.clone())], &then);
    }
    for (what, nth, action, then) in at_the_configuration() {
        hold(what, |_| vec![Fault::hub("/config.json", nth, action.clone())], &then);
    }
}

#[test]
fn a_file_that_changed_is_never_mixed() {
    for (name, value) in [
        ("x-linked-etag", "\"another\""),
        ("x-linked-size", "7"),
        ("x-repo-commit", "0123456789012345678901234567890123456789"),
    ] {
        let faults = |layout: Layout| {
            let expired = Fault::cdn(Nth::Only(1), Action::Expire);
            vec![expired, Fault::hub(layout.weights(), Nth::From(1), set(name, value))]
        };
        hold(name, faults, &Fails("Changed", "changed while it was read", 2));
    }
}

#[test]
fn a_plain_file_that_is_replaced_while_it_is_read_is_never_mixed() {
    let fault = |nth, etag: &str| {
        let action = set("etag", etag);
        Fault { ranged: true, ..Fault::hub("/model.safetensors", nth, action) }
    };
    // The second is the first, no longer marked as weak.
    for (etag, changed) in [("\"later\"", true), ("\"first\"", false)] {
        let hub = Layout::Tied.builder().plain();
        let hub = hub.fault(fault(Nth::First(2), "W/\"first\"")).fault(fault(Nth::Every, etag));
        match World::new(hub).survey("org/m", 3).0 {
            Err(error) => assert!(changed && matches!(error, Error::Changed { .. }), "{error}"),
            Ok(_) => assert!(!changed, "{etag}"),
        }
    }
}

#[test]
fn a_range_that_the_true_length_refuses_is_not_asked_for_again() {
    let faults = |layout: Layout| {
        let size = file_size(layout.tensor(), ROWS, ROW_BYTES);
        let action = status(416, &[("content-range", &format!("bytes */{size}"))], "");
        vec![Fault::cdn(Nth::From(1), action)]
    };
    hold("416", faults, &Fails("BadAnswer", "416 Range Not Satisfiable", 1));
}

/// Bytes that are sent wrong in the right number are beyond what HTTP can show: what protects is
/// TLS on the way, and the matrix digest against an earlier report.
#[test]
fn a_flipped_byte_changes_the_matrix_digest_and_nothing_else_tells() {
    let run = |faults: &[Fault]| {
        let builder = faults.iter().cloned().fold(Layout::Tied.builder(), Builder::fault);
        World::new(builder).survey("org/m", 3).0.unwrap()
    };
    let clean = run(&[]);
    let flipped = run(&[Fault::cdn(Nth::Only(1), Action::Flip { at: 70_001 })]);
    assert_ne!(clean.matrix_digest, flipped.matrix_digest);
    assert_eq!(clean.warnings, flipped.warnings);
}

/// Runs a fault with each layout over one, three and eight connections.
fn hold(what: &str, faults: impl Fn(Layout) -> Vec<Fault> + Sync, then: &Then) {
    let run = &|layout: Layout, connections| {
        let context = format!("{what}, {layout:?}, {connections} connections");
        let world = World::new(faults(layout).into_iter().fold(layout.builder(), Builder::fault));
        let (report, waits) = world.survey_with("org/m", connections, |options| {
            options.policy.idle = Duration::from_millis(300);
            options.policy.headers = Duration::from_millis(300);
            options.policy.slow_for = Duration::from_millis(200);
            options.policy.slowest = 10_000;
        });
        judge(&context, layout, connections, &world, report, &waits, then);
    };
    std::thread::scope(|scope| {
        for layout in [Layout::Tied, Layout::TwoShards] {
            for connections in [1, 3, 8] {
                scope.spawn(move || run(layout, connections));
            }
        }
    });
}

fn judge(
    context: &str,
    layout: Layout,
    connections: usize,
    world: &World,
    report: Result<Report>,
    waits: &[Duration],
    then: &Then,
) {
    let log = world.hub.log();
    decent(context, &log);
    let links = log.iter().filter(|r| r.host == Host::Hub && r.path().ends_with(layout.weights()));
    let links = links.count();
    match (then, report) {
        (Same(count, told, wanted), Ok(report)) => {
            assert_eq!((&report.matrix_digest, &report.duplicates), clean(), "{context}");
            // Requests that were about to be sent to a server that has just asked for a wait take
            // part in it, for what is left of it.
            let whole = |wait: &&Duration| told.is_none_or(|told| wait.as_secs() == told);
            let whole = waits.iter().filter(whole).count();
            assert_eq!((whole, links), (*count, *wanted), "{context}: {waits:?}");
            let longest = told.map_or(Duration::MAX, |told| Duration::from_secs(told + 1));
            assert!(waits.iter().all(|wait| *wait < longest), "{context}: {waits:?}");
            // Each break costs what was on its way, and nothing beyond its own segment, in whatever
            // it was wrapped.
            let breaks = (*count + wanted - 1).max(1) as u64;
            let (twice, most) = (twice(&log), breaks * (segment(connections) + 200));
            assert!(twice <= most, "{context}: {twice} bytes were sent twice");
        }
        (Fails(kind, says, most), Err(error)) => {
            assert!(format!("{error:?}").starts_with(kind), "{context}: {error:?}");
            let shown = error.to_string();
            assert!(shown.contains(says), "{context}: {shown}");
            assert!(shown.chars().count() < 1000 && !shown.contains(char::is_control), "{shown}");
            assert!(links <= *most, "{context}: {links} links");
        }
        (_, report) => panic!("{context}: {:?}", report.map(|report| report.matrix_digest)),
    }
}

/// What holds of the requests of every scan.
fn decent(context: &str, log: &[Request]) {
    assert!(log.len() <= BOUND, "{context}: {} requests", log.len());
    for request in log {
        let token = request.header("authorization");
        let own = request.host == Host::Hub;
        assert_eq!(token.is_some(), own, "{context}: {request:?}");
        assert!(!own || request.range().is_none(), "{context}: {request:?}");
        assert_ne!(request.host, Host::Elsewhere, "{context}: {request:?}");
    }
}

/// The finding that a scan without faults has, of either layout.
fn clean() -> (&'static Option<Digest>, &'static DuplicatesPart) {
    static CLEAN: std::sync::LazyLock<Report> = std::sync::LazyLock::new(|| {
        let [tied, shards] = [Layout::Tied, Layout::TwoShards]
            .map(|layout| World::new(layout.builder()).survey("org/m", 3).0.unwrap());
        assert_eq!(tied.matrix_digest, shards.matrix_digest);
        assert_eq!(tied.duplicates, shards.duplicates);
        assert_eq!(tied.duplicates.largest, Some(ROWS / 50));
        tied
    });
    (&CLEAN.matrix_digest, &CLEAN.duplicates)
}

/// Bytes of weights that were sent more than once; the header's first read, which may reach into
/// the matrix, does not count.
fn twice(log: &[Request]) -> u64 {
    let sent = log.iter().filter(|r| r.host == Host::Cdn && r.status == 206 && r.method == "GET");
    let mut spans: Vec<(u64, u64)> = sent
        .filter_map(|request| {
            let (first, _) = request.range()?.strip_prefix("bytes=")?.split_once('-')?;
            let first = first.parse().ok()?;
            (first > 0).then_some((first, first + request.sent))
        })
        .collect();
    spans.sort_unstable();
    let (mut reached, mut twice) = (0, 0);
    for (first, end) in spans {
        twice += end.min(reached).saturating_sub(first);
        reached = reached.max(end);
    }
    twice
}

#[test]
fn a_link_is_renewed_before_it_expires() {
    let world = World::new(Layout::Tied.builder());
    // Links are good for an hour, and this clock moves by most of an hour at each look.
    let clock = Impatient { stride: Duration::from_secs(3200), ..Impatient::default() };
    let (report, _) = world.survey_with("org/m", 1, |options| options.clock = Arc::new(clock));
    report.unwrap();
    let log = world.hub.log();
    let links = log.iter().filter(|r| r.path().ends_with("/model.safetensors")).count();
    assert!(links >= 2, "{links}");
    assert!(log.iter().all(|r| r.host != Host::Cdn || r.status == 206));
}

#[test]
fn a_redirect_to_another_host_or_port_gets_no_token() {
    // The address of the third listener is known once the servers run, so the redirect is made
    // by an old world's listener that stays up.
    let other = World::new(StandIn::builder());
    for location in [other.hub.elsewhere(), other.hub.endpoint()] {
        let redirect = Action::Status {
            code: 307,
            headers: vec![("location".into(), format!("{location}/x"))],
            body: String::new(),
        };
        let world =
            World::new(StandIn::builder().repository(repository("tied")).fault(Fault::hub(
                "/config.json",
                Nth::Every,
                redirect,
            )));
        world.survey("org/tied", 1).0.unwrap();
    }
    let log = other.hub.log();
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn where_no_server_ever_answers_the_end_comes_soon() {
    let world = World::new(StandIn::builder().repository(repository("tied")).fault(Fault::hub(
        "",
        Nth::Every,
        Action::Refuse,
    )));
    let (report, waits) = world.survey("org/tied", 1);
    assert!(matches!(report.unwrap_err(), Error::Network { attempts: 3, .. }));
    assert_eq!(waits, [Duration::from_secs(1), Duration::from_secs(2)]);
}
