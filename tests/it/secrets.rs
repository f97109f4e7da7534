use super::support::*;
use singularity_survey::standin::{Action, Fault, Gating, Nth, StandIn};
use std::fs;
use std::process::Output;

const TOKEN: &str = "hf_PLANTEDtokenPLANTED";
const PASSWORD: &str = "PLANTEDpassword";
const SIGNATURE: &str = "PLANTEDsignature";

/// Looks through all that a run printed and wrote.
fn holds_none(output: &Output, context: &str) {
    for text in [text(&output.stdout), text(&output.stderr)] {
        assert!(!text.contains("PLANTED"), "{context}: {text}");
    }
}

/// Every way a server can say things.
fn sayings() -> Vec<Action> {
    let say = |code, name: &str, value: &str| Action::Status {
        code,
        headers: vec![(name.to_owned(), value.to_owned())],
        body: format!("no, {TOKEN}: GET /x?X-Amz-Signature={SIGNATURE}&user={PASSWORD}"),
    };
    let message = format!("{TOKEN} may not");
    let mut sayings = vec![
        say(400, "x-request-id", TOKEN),
        say(409, "x-request-id", &format!("a ?b={SIGNATURE} c")),
        say(401, "x-error-message", &message),
        say(401, "x-error-message", &format!("Invalid credentials {message}")),
        say(403, "x-error-message", &message),
        say(404, "x-repo-commit", &format!("Bearer {TOKEN}")),
        // What would pass by itself is waited for: not for longer than a run may take.
        say(429, "retry-after", "4000"),
        say(302, "location", &format!("/Bearer/{TOKEN}/x?a={SIGNATURE}")),
        say(302, "location", &format!("ftp://user:{PASSWORD}@host/{TOKEN}?a={SIGNATURE}")),
        say(206, "content-range", TOKEN),
        say(200, "content-encoding", TOKEN),
    ];
    for code in ["GatedRepo", "RepoNotFound", "RevisionNotFound"] {
        let headers = [("x-error-code", code), ("x-error-message", &message)];
        let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        sayings.push(Action::Status { code: 403, headers, body: message.clone() });
    }
    sayings
}

#[test]
fn what_a_server_says_back_of_secrets_is_not_shown() {
    let faults: Vec<Fault> = sayings()
        .into_iter()
        .flat_map(|saying| {
            [
                Fault::hub("", Nth::Every, saying.clone()),
                Fault::hub("/model.safetensors", Nth::Every, saying.clone()),
                Fault::hub("/tokenizer.json", Nth::Every, saying.clone()),
                Fault::cdn(Nth::Every, saying.clone()),
                Fault::cdn(Nth::From(1), saying),
            ]
        })
        .collect();
    each(&faults, |fault| {
        let context = format!("{fault:?}");
        let repository = repository("tied").gated(Gating::Auto).token(TOKEN);
        let world = World::new(StandIn::builder().repository(repository).fault(fault.clone()));
        for args in [
            &["org/tied", "-v", "--token", TOKEN][..],
            &["inspect", "org/tied", "-v"],
            &["check", "org/tied", "-v"],
        ] {
            let mut command = world.command(args);
            let output = command.env("HF_TOKEN", TOKEN).output().unwrap();
            holds_none(&output, &context);
            assert!(text(&output.stderr).contains(" http://127"), "{context}");
        }
    });
}

#[test]
fn a_scan_that_succeeds_shows_no_secret_in_any_form() {
    let repository = repository("tied").gated(Gating::Auto).token(TOKEN);
    let world = World::new(StandIn::builder().repository(repository));
    let stored = world.home.path().join("token");
    fs::write(&stored, TOKEN).unwrap();
    for format in ["text", "json", "jsonl", "csv", "markdown", "ids"] {
        let output = world.run(&["org/tied", "-v", "--format", format]);
        assert!(output.status.success());
        holds_none(&output, format);
        // The links were signed; none of what signs them is shown.
        let shown = text(&output.stderr);
        assert!(shown.contains("/xet-bridge-us/") && !shown.contains("Signature"), "{shown}");
    }
    let address = world.hub.cdn_endpoint().replace("http://", "");
    let url = format!("http://user:{PASSWORD}@{address}/m.safetensors?X-Amz-Signature={SIGNATURE}");
    for args in [&[url.as_str(), "-v"][..], &["org/tied", "-v", "--tokenizer", &url]] {
        holds_none(&world.run(args), "a URL");
    }
}

#[test]
fn what_is_typed_into_the_wrong_place_is_not_repeated() {
    let world = World::of("tied");
    let query = format!("?X-Amz-Signature={SIGNATURE}");
    let user = format!("user:{PASSWORD}@");
    let all = [
        format!("https://{user}host:99999/m"),
        format!("https://{user}[bad/m"),
        format!("http://{user}"),
        format!("HTTPS://{user}127.0.0.1:9/m.safetensors{query}"),
        format!("ftp://{user}host/m{query}"),
        format!("s3://bucket/m{query}"),
        format!(" https://{user}host/m{query}"),
        format!("https:/{user}host/m{query}"),
        format!("127.0.0.1:9/m.safetensors{query}"),
        format!("hf://org/name/x{query}"),
        format!("https://huggingface.co/datasets/a/b{query}"),
        TOKEN.to_owned(),
    ];
    each(&all, |typed| {
        // Through a proxy that is not there, so that no address is really asked.
        for args in [
            vec![typed.as_str()],
            vec!["inspect", typed.as_str(), "-v"],
            vec!["org/tied", "--tokenizer", typed.as_str()],
            vec!["org/tied", "--endpoint", typed.as_str()],
            vec!["org/tied", "--file", typed.as_str()],
            vec!["org/tied", typed.as_str()],
            vec!["org/tied", "--format", typed.as_str()],
            vec!["org/tied", "--connections", typed.as_str()],
            vec!["org/tied", "-o", typed.as_str()],
        ] {
            let mut command = world.command(&args);
            command.env("https_proxy", "http://127.0.0.1:9").env("HF_HUB_ETAG_TIMEOUT", "1");
            let output = command.env("no_proxy", "127.0.0.1").output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            holds_none(&output, &format!("{args:?}"));
            let said = text(&output.stderr);
            let errors = said
                .lines()
                .filter(|line| !line.contains("127.0.0.1") || line.starts_with("error"));
            assert!(errors.filter(|line| line.starts_with("error: ")).count() == 1, "{said}");
        }
        for format in ["text", "json", "markdown", "sarif", "junit", "github"] {
            let args = ["check", typed.as_str(), "--format", format, "-v", "--max-wait", "0"];
            let mut command = world.command(&args);
            command.env("https_proxy", "http://127.0.0.1:9").env("HF_HUB_ETAG_TIMEOUT", "1");
            let output = command.env("no_proxy", "127.0.0.1").output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            holds_none(&output, &format!("{args:?}"));
        }
    });
    let mut command = world.command(&[&format!("--offline={TOKEN}")]);
    holds_none(&command.output().unwrap(), "--offline");
}

#[test]
fn proxies_do_not_show_their_passwords_and_none_is_passed_by() {
    let world = World::of("tied");
    for proxy in [
        format!("http://user:{PASSWORD}@127.0.0.1:9"),
        format!("socks5h://user:{PASSWORD}@127.0.0.1:9"),
        format!("ftp://user:{PASSWORD}@127.0.0.1:9"),
        format!("http://user:{PASSWORD}@[bad"),
        format!("user:{PASSWORD}@127.0.0.1:9"),
    ] {
        let mut command = world.command(&["org/tied", "-v"]);
        let output = command.env("http_proxy", &proxy).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{proxy}");
        holds_none(&output, &proxy);
        assert!(world.hub.log().is_empty(), "{proxy} was passed by");
    }
}

#[test]
fn a_secret_that_prints_says_nothing() {
    let secret = singularity_survey::source::Secret::new(TOKEN).unwrap();
    assert!(!format!("{secret:?}").contains("PLANTED"));
    let hub = singularity_survey::resolve::Hub { token: Some(secret), ..Default::default() };
    assert!(!format!("{hub:?}").contains("PLANTED"));
}
