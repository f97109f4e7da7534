use super::support::*;
use singularity_survey::error::Error;
use singularity_survey::standin::{Action, Fault, Host, Nth, Request, StandIn};
use std::sync::Arc;
use std::time::Duration;

const ROWS: u64 = 4_000;
const ROW_BYTES: u64 = 1_024;
const BYTES: u64 = ROWS * ROW_BYTES;

/// Scans a matrix of four segments with faults, over one, three and eight connections.
fn with(
    faults: &[Fault],
    check: impl Fn(
        &World,
        singularity_survey::error::Result<singularity_survey::report::Report>,
        Vec<Duration>,
    ),
) {
    let clean = {
        let world =
            World::new(StandIn::builder().repository(generated("org/m", ROWS, ROW_BYTES, 50)));
        world.survey("org/m", 3).0.unwrap()
    };
    for connections in [1, 3, 8] {
        let mut builder = StandIn::builder().repository(generated("org/m", ROWS, ROW_BYTES, 50));
        for fault in faults {
            builder = builder.fault(fault.clone());
        }
        let world = World::new(builder.chunk(10_000));
        let (report, waits) = world.survey_with("org/m", connections, |options| {
            options.policy.idle = Duration::from_millis(300);
            options.policy.headers = Duration::from_millis(300);
        });
        if let Ok(report) = &report {
            assert_eq!(report.matrix_digest, clean.matrix_digest);
            assert_eq!(report.duplicates, clean.duplicates);
        }
        check(&world, report, waits);
    }
}

fn to_cdn(world: &World) -> Vec<Request> {
    world.hub.log().into_iter().filter(|r| r.host == Host::Cdn).collect()
}

/// Weights links asked for at the Hub.
fn links(world: &World) -> usize {
    let log = world.hub.log();
    log.iter().filter(|r| r.host == Host::Hub && r.path().ends_with("/model.safetensors")).count()
}

/// Body bytes of the CDN's answers, less the header's first read.
fn matrix_bytes(world: &World) -> u64 {
    let log = to_cdn(world);
    log.iter().filter(|r| !r.range().unwrap().starts_with("bytes=0-")).map(|r| r.sent).sum()
}

#[test]
fn a_broken_body_is_resumed_at_the_byte_reached() {
    for action in [
        Action::Break { after: 12_345 },
        Action::Reset { after: 12_345 },
        Action::Stall { after: 12_345 },
    ] {
        // The request after the header's: the first of the matrix.
        with(&[Fault::cdn(Nth::Only(1), action)], |world, report, waits| {
            report.unwrap();
            assert_eq!(waits, [Duration::from_secs(1)]);
            assert_eq!(links(world), 1);
            // The client takes whole chunks only from a reset connection, so that a part of what
            // was sent may be asked for again, and nothing beyond that.
            let sent = matrix_bytes(world);
            assert!((BYTES..=BYTES + 12_345).contains(&sent), "{sent}");
        });
    }
}

#[test]
fn a_refused_connection_and_a_transient_status_are_tried_again() {
    for action in [
        Action::Refuse,
        Action::status(500, ""),
        Action::status(502, ""),
        Action::status(503, ""),
        Action::status(504, ""),
        Action::status(408, ""),
        Action::Stall { after: 0 },
        Action::Break { after: 0 },
        Action::Reset { after: 0 },
        Action::StallBeforeHeaders,
        Action::empty(),
    ] {
        with(&[Fault::cdn(Nth::First(3), action)], |_, report, waits| {
            report.unwrap();
            assert!(waits.len() == 3, "{waits:?}");
        });
    }
}

#[test]
fn tries_are_bounded() {
    for action in [Action::Refuse, Action::status(503, "no"), Action::Break { after: 0 }] {
        with(&[Fault::cdn(Nth::From(1), action)], |world, report, _| {
            let error = report.unwrap_err();
            assert!(matches!(error, Error::Network { attempts: 6, .. }), "{error}");
            // Six tries for each stream, and the header's request.
            assert!(to_cdn(world).len() <= 1 + 6 * 8);
        });
    }
}

#[test]
fn an_expired_link_is_renewed_once_for_all_streams() {
    // With several streams, those whose requests come after the first are refused as well.
    with(&[Fault::cdn(Nth::Only(1), Action::Expire)], |world, report, waits| {
        report.unwrap();
        assert_eq!((links(world), waits.len()), (2, 0));
    });
}

#[test]
fn a_link_that_stays_refused_is_an_error_with_the_servers_words() {
    let refused = Action::status(403, "Auth failed: no\u{1b}[31m luck");
    with(&[Fault::cdn(Nth::From(1), refused)], |world, report, _| {
        let error = report.unwrap_err().to_string();
        assert!(error.contains("403 Forbidden (Auth failed: no\\x1b[31m luck)"), "{error}");
        assert!(links(world) <= 2 + 8);
    });
}

#[test]
fn a_link_is_renewed_before_it_expires() {
    let world = World::new(StandIn::builder().repository(generated("org/m", ROWS, ROW_BYTES, 50)));
    // Links are good for an hour, and this clock moves by most of an hour at each look.
    let clock = Impatient { stride: Duration::from_secs(3200), ..Impatient::default() };
    let (report, _) = world.survey_with("org/m", 1, |options| options.clock = Arc::new(clock));
    report.unwrap();
    assert!(links(&world) >= 2, "{}", links(&world));
    assert!(to_cdn(&world).iter().all(|request| request.status == 206));
}

#[test]
fn a_wrong_range_is_never_taken() {
    for action in
        [Action::WrongStart, Action::WrongTotal, Action::NoContentRange, Action::Multipart]
    {
        with(&[Fault::cdn(Nth::Only(1), action.clone())], |_, report, _| {
            report.unwrap();
        });
        with(&[Fault::cdn(Nth::From(1), action)], |_, report, _| {
            let error = report.unwrap_err();
            assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
        });
    }
    for (name, value) in
        [("content-encoding", "gzip"), ("content-type", "multipart/byteranges; boundary=x")]
    {
        let (name, value) = (name.to_owned(), value.to_owned());
        let action = Action::SetHeader { name, value };
        with(&[Fault::cdn(Nth::From(1), action)], |_, report, _| {
            assert!(matches!(report.unwrap_err(), Error::BadAnswer { .. }));
        });
    }
}

#[test]
fn a_body_that_is_longer_than_announced_is_an_error() {
    with(&[Fault::cdn(Nth::Only(1), Action::LongerBody { extra: 9 })], |_, report, _| {
        let error = report.unwrap_err();
        assert!(error.to_string().contains("longer than its Content-Range"), "{error}");
    });
}

#[test]
fn an_honest_shorter_range_is_taken_and_the_rest_asked_for() {
    with(
        &[Fault::cdn(Nth::From(1), Action::Shorter { length: 100_001 })],
        |world, report, waits| {
            report.unwrap();
            assert_eq!((matrix_bytes(world), waits.len()), (BYTES, 0));
        },
    );
}

#[test]
fn a_whole_file_in_answer_to_a_range_is_refused_at_once() {
    with(&[Fault::cdn(Nth::From(1), Action::IgnoreRange)], |world, report, _| {
        let error = report.unwrap_err();
        assert!(matches!(error, Error::RangesIgnored { .. }), "{error}");
        assert!(to_cdn(world).len() <= 1 + 8);
    });
}

#[test]
fn waits_are_as_the_server_tells() {
    let limited = |headers: &[(&str, &str)], code| Action::Status {
        code,
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        body: "<html>slow down".into(),
    };
    for (action, seconds) in [
        (limited(&[("ratelimit", "\"resolvers\";r=0;t=2")], 429), 3),
        (limited(&[("ratelimit", "\"resolvers\";r=9;t=200")], 429), 1),
        (limited(&[("retry-after", "7")], 429), 8),
        (limited(&[("retry-after", "7"), ("ratelimit", "\"api\";r=0;t=4")], 429), 5),
        (limited(&[("retry-after", "11")], 503), 12),
    ] {
        for fault in [
            Fault::cdn(Nth::Only(1), action.clone()),
            Fault::hub("/model.safetensors", Nth::Only(0), action),
        ] {
            with(&[fault], |_, report, waits| {
                report.unwrap();
                assert_eq!(waits, [Duration::from_secs(seconds)]);
            });
        }
    }
    let long = limited(&[("ratelimit", "\"resolvers\";r=0;t=4000")], 429);
    with(&[Fault::hub("config.json", Nth::Every, long)], |_, report, waits| {
        let error = report.unwrap_err();
        assert!(matches!(error, Error::RateLimited { wait: Some(4001), .. }), "{error}");
        assert!(waits.is_empty());
    });
}

#[test]
fn a_file_that_changed_is_never_mixed() {
    for (name, value) in [
        ("x-linked-etag", "\"another\""),
        ("x-linked-size", "7"),
        ("x-repo-commit", "0123456789012345678901234567890123456789"),
    ] {
        let changed = Action::SetHeader { name: name.into(), value: value.into() };
        let faults = [
            Fault::cdn(Nth::Only(1), Action::Expire),
            Fault::hub("/model.safetensors", Nth::From(1), changed),
        ];
        with(&faults, |_, report, _| {
            let error = report.unwrap_err();
            assert!(matches!(error, Error::Changed { .. }), "{error}");
        });
    }
}

#[test]
fn headers_that_are_missing_or_no_numbers_are_unknown() {
    for action in [
        Action::DropHeaders { prefix: "x-linked-size".into() },
        Action::SetHeader { name: "x-linked-size".into(), value: "-1".into() },
        Action::SetHeader { name: "x-linked-size".into(), value: "99999999999999999999".into() },
        Action::DropHeaders { prefix: "x-repo-commit".into() },
    ] {
        with(&[Fault::hub("/model.safetensors", Nth::Every, action)], |_, report, _| {
            report.unwrap();
        });
    }
}

#[test]
fn redirects_are_followed_within_reason() {
    let to = |location: &str| Action::Status {
        code: 302,
        headers: vec![("location".into(), location.into())],
        body: String::new(),
    };
    for (location, says) in
        [("/org/m/resolve/main/model.safetensors", "redirects"), ("http://[", "no valid address")]
    {
        let fault = Fault::hub("/model.safetensors", Nth::Every, to(location));
        with(&[fault], |_, report, _| {
            let error = report.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        });
    }
    let nowhere = Action::Status { code: 302, headers: vec![], body: String::new() };
    with(&[Fault::hub("/model.safetensors", Nth::Every, nowhere)], |_, report, _| {
        assert!(report.unwrap_err().to_string().contains("without a Location"));
    });
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
fn a_small_file_whose_body_breaks_is_fetched_again() {
    let broken = Fault {
        on: Host::Hub,
        path_end: "/config.json".into(),
        ranged: false,
        nth: Nth::First(2),
        action: Action::Break { after: 20 },
    };
    let world = World::new(StandIn::builder().repository(repository("tied")).fault(broken));
    let (report, waits) = world.survey("org/tied", 1);
    assert_eq!(report.unwrap().tokenizer.unwrap().size, expected("tied")["tokenizer"]["size"]);
    assert!(!waits.is_empty());
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
