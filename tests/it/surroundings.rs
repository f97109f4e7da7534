use super::support::*;
use singularity_survey::standin::{Gating, Host, StandIn};
use std::fs;
use std::path::Path;

/// Lays a fixture out as the Hub's own client keeps it.
fn cache(root: &Path, case: &str, commit: &str, files: &[&str]) {
    let repository = root.join(format!("models--org--{case}"));
    let snapshot = repository.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), commit).unwrap();
    for file in files {
        fs::copy(fixture(case).join(file), snapshot.join(file)).unwrap();
    }
}

const WHOLE: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

#[test]
fn offline_reads_the_cache_alone() {
    let world = World::new(StandIn::builder());
    let commit = repository("tied").commit().to_owned();
    cache(&world.home.path().join("hub"), "tied", &commit, &WHOLE);
    for model in ["org/tied", &format!("org/tied@{commit}")] {
        let report = world.scan(&[model, "--offline"]);
        agree(&report, &expected("tied"), "bits", "offline");
        assert_eq!(report["model"]["commit"], commit.as_str());
        assert_eq!(report["transfer"]["requests"], 0);
    }
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let mut command = world.command(&["org/tied", "--format", "json"]);
        agree(
            &json(&command.env(variable, "ON").output().unwrap()),
            &expected("tied"),
            "bits",
            variable,
        );
    }
    refused(&world.run(&["org/tied@dev", "--offline"]), "not in the local cache");
    refused(&world.run(&["org/other", "--offline"]), "not in the local cache");
    refused(
        &world.run(&["http://127.0.0.1:9/m.safetensors", "--offline"]),
        "not in the local cache",
    );
    assert!(world.hub.log().is_empty());
}

#[test]
fn a_partial_cache_is_filled_up_from_the_hub_and_is_an_error_offline() {
    let world = World::of("tied");
    let commit = repository("tied").commit().to_owned();
    cache(&world.home.path().join("hub"), "tied", &commit, &["config.json", "tokenizer.json"]);
    agree(&world.scan(&["org/tied"]), &expected("tied"), "bits", "partial");
    let log = world.hub.log();
    assert!(!log.iter().any(|r| r.path().ends_with("/tokenizer.json")), "{log:#?}");
    refused(&world.run(&["org/tied", "--offline"]), "model.safetensors");
}

#[test]
fn a_commit_in_the_cache_needs_no_network() {
    let world = World::of("tied");
    let commit = repository("tied").commit().to_owned();
    cache(&world.home.path().join("elsewhere"), "tied", &commit, &WHOLE);
    let absent = world.home.path().join("elsewhere/models--org--tied/.no_exist").join(&commit);
    fs::create_dir_all(&absent).unwrap();
    fs::write(absent.join("model.safetensors.index.json"), "").unwrap();
    let mut command = world.command(&[&format!("org/tied@{commit}"), "--format", "json"]);
    command.env("HF_HUB_CACHE", world.home.path().join("elsewhere"));
    agree(&json(&command.output().unwrap()), &expected("tied"), "bits", "cached");
    assert!(world.hub.log().is_empty());
}

#[test]
fn the_token_comes_from_the_option_the_variables_or_the_stored_file() {
    let world = World::new(
        StandIn::builder().repository(repository("tied").gated(Gating::Auto).token("hf_good")),
    );
    let stored = world.home.path().join("token");
    let run = |variables: &[(&str, &str)]| {
        let mut command = world.command(&["org/tied", "-q", "--format", "ids"]);
        command.envs(variables.iter().copied()).output().unwrap().status.success()
    };
    assert!(!run(&[]));
    assert!(run(&[("HF_TOKEN", " hf_good\n")]));
    assert!(run(&[("HF_TOKEN", ""), ("HUGGING_FACE_HUB_TOKEN", "hf_good")]));
    assert!(!run(&[("HF_TOKEN", "hf_bad"), ("HUGGING_FACE_HUB_TOKEN", "hf_good")]));
    fs::write(&stored, "hf_good\n").unwrap();
    assert!(run(&[]));
    assert!(run(&[("HF_TOKEN", "  ")]));
    assert!(!run(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]));
    let other = world.home.path().join("other");
    fs::rename(&stored, &other).unwrap();
    assert!(run(&[("HF_TOKEN_PATH", other.to_str().unwrap())]));
}

#[test]
fn the_endpoint_comes_from_the_option_or_the_variable() {
    let world = World::of("tied");
    let mut command = world.command(&["org/tied", "--format", "json", "--endpoint"]);
    command.arg(world.hub.endpoint() + "/").env("HF_ENDPOINT", "http://127.0.0.1:9");
    agree(&json(&command.output().unwrap()), &expected("tied"), "bits", "--endpoint");
    let page = format!("{}/org/tied/blob/main/model.safetensors", world.hub.endpoint());
    agree(&world.scan(&[&page]), &expected("tied"), "bits", "page");
    let mut command = world.command(&["org/tied"]);
    refused(&command.env("HF_ENDPOINT", "nonsense").output().unwrap(), "endpoint");
}

#[test]
fn proxies_are_gone_through_and_gone_round_as_the_variables_say() {
    let world = World::of("tied");
    let proxy = World::new(StandIn::builder());
    let run = |variables: &[(&str, &str)]| {
        let mut command = world.command(&["org/tied", "-q"]);
        command.envs(variables.iter().copied()).output().unwrap().status.success()
    };
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        proxy.hub.clear_log();
        assert!(!run(&[(variable, &proxy.hub.elsewhere())]));
        assert_eq!(proxy.hub.log()[0].host, Host::Elsewhere);
        // Where nothing listens, a run succeeds only if it asks nothing of it.
        let absent = "http://127.0.0.1:9";
        assert!(run(&[(variable, absent), ("NO_PROXY", "127.0.0.1")]));
    }
}
