use super::support::*;
use serde_json::Value;
use singularity_survey::standin::StandIn;

/// Runs a fixture's every expectation: the default scan, both equalities, and the other matrices
/// that its expected results name. `model` may be a folder or a name on the Hub.
fn check(world: &World, case: &str, model: &str, more: &[&str]) {
    let all = expected(case);
    let mut runs: Vec<(&Value, Vec<&str>)> = vec![(&all, vec![])];
    for (name, expected) in all.as_object().unwrap() {
        if name == "embedding" {
            runs.push((expected, vec!["--matrix", "embedding"]));
        } else if let Some(tensor) = name.strip_prefix("tensor:") {
            runs.push((expected, vec!["--tensor", tensor]));
        }
    }
    for (expected, args) in runs {
        for equality in ["bits", "values"] {
            let mut args = args.clone();
            args.extend(["--equality", equality, model]);
            args.extend(more);
            if expected.get("matrix").is_none() {
                assert!(expected["error"].is_string());
                refused(&world.run(&args), "");
                continue;
            }
            let report = world.scan(&args);
            agree(&report, expected, equality, &format!("{case} {args:?}"));
            let tokenizer = expected.get("tokenizer").unwrap_or(&Value::Null);
            assert_eq!(&report["tokenizer"], tokenizer, "{case}");
        }
    }
}

#[test]
fn every_fixture_from_a_folder() {
    let world = World::new(StandIn::builder());
    for case in cases() {
        check(&world, &case, fixture(&case).to_str().unwrap(), &[]);
    }
    assert!(world.hub.log().is_empty());
}

#[test]
fn every_fixture_from_the_hub() {
    let all = cases().iter().fold(StandIn::builder(), |b, case| b.repository(repository(case)));
    let world = World::new(all.chunk(1000));
    for case in cases() {
        check(&world, &case, &format!("org/{case}"), &[]);
    }
}

#[test]
fn every_fixture_from_a_plain_web_server() {
    let all = cases().iter().fold(StandIn::builder(), |b, case| b.repository(repository(case)));
    let world = World::new(all.plain());
    for case in cases() {
        // A lone shard is found by the Hub's listing only, which such a server has not.
        if case != "lone-shard" {
            check(&world, &case, &format!("org/{case}"), &[]);
        }
    }
}

#[test]
fn a_file_is_judged_by_what_lies_beside_it() {
    let world = World::of("two-shards");
    for file in ["model-00001-of-00002.safetensors", "model.safetensors.index.json"] {
        let path = fixture("two-shards").join(file);
        let report = world.scan(&[path.to_str().unwrap()]);
        agree(&report, &expected("two-shards"), "bits", file);
        assert_eq!(report["model"]["source"], "file");
        let report = world.scan(&["org/two-shards", "--file", file]);
        agree(&report, &expected("two-shards"), "bits", file);
    }
}

#[test]
fn one_file_behind_a_url_has_no_neighbours() {
    let world = World::new(StandIn::builder().repository(repository("untied")).plain());
    let url = format!("{}/org/untied/resolve/main/model.safetensors", world.hub.endpoint());
    let mut command = world.command(&[&url, "--format", "json"]);
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    let report = json(&command.output().unwrap());
    assert_eq!(report["matrix_digest"], expected("untied")["matrix_digest"]);
    assert_eq!(report["model"]["source"], "url");
    assert_eq!(report["tokenizer"], Value::Null);
    assert!(world.hub.log().iter().all(|request| request.path().ends_with(".safetensors")));
}

#[test]
fn the_number_of_streams_and_the_chunking_change_nothing() {
    // Several segments, each with rows across the seams of chunks.
    let (rows, row_bytes) = (3_000u64, 1_366u64);
    let mut digests = Vec::new();
    for chunk in [997, 64 << 10] {
        let world = World::new(
            StandIn::builder().repository(generated("org/big", rows, row_bytes, 100)).chunk(chunk),
        );
        for connections in ["1", "3", "8"] {
            let report = world.scan(&["org/big", "--connections", connections]);
            let found = &report["duplicates"];
            assert_eq!((&found["members"], &found["groups_total"]), (&30.into(), &1.into()));
            let multiples: Vec<u64> = (0..rows).step_by(100).collect();
            assert_eq!(found["groups"][0]["rows"], serde_json::json!(multiples));
            digests.push(report["matrix_digest"].clone());
        }
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn both_matrices_are_read_unembedding_first_and_once_where_they_are_one() {
    let world = World::new(
        StandIn::builder().repository(repository("untied")).repository(repository("tied")),
    );
    let both = world.scan(&["org/untied", "--matrix", "both"]);
    let reports = both["reports"].as_array().unwrap();
    let roles: Vec<_> = reports.iter().map(|r| r["matrix"]["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["unembedding", "embedding"]);
    agree(&reports[0], &expected("untied"), "bits", "both");
    agree(&reports[1], &expected("untied")["embedding"], "bits", "both");
    let one = world.scan(&["org/tied", "--matrix", "both"]);
    assert_eq!((one["schema"].as_u64(), one["reports"].as_array().unwrap().len()), (Some(1), 1));
}

#[test]
fn the_reason_names_what_decided() {
    let world = World::new(StandIn::builder());
    for (case, reason) in [
        ("untied", "lm_head is stored"),
        ("tied", "tie_word_embeddings = true"),
        ("flag-true-head-stored", "counts for more than tie_word_embeddings = true"),
        ("flag-absent-no-head", "nothing says"),
        ("prefixed-names", "text_config.tie_word_embeddings = true"),
    ] {
        let report = world.scan(&[fixture(case).to_str().unwrap()]);
        let found = report["matrix"]["reason"].as_str().unwrap();
        assert!(found.contains(reason), "{case}: {found}");
    }
}

#[test]
fn a_tokenizer_may_come_from_elsewhere() {
    let world = World::new(
        StandIn::builder().repository(repository("no-tokenizer")).repository(repository("tied")),
    );
    let file = fixture("tied").join("tokenizer.json");
    for tokenizer in ["org/tied", file.to_str().unwrap(), fixture("tied").to_str().unwrap()] {
        let report = world.scan(&["org/no-tokenizer", "--tokenizer", tokenizer]);
        assert_eq!(report["tokenizer"]["size"], expected("tied")["tokenizer"]["size"]);
        let warning = report["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("the tokenizer has 121 tokens, and the matrix 64 rows"));
    }
    refused(&world.run(&["org/no-tokenizer", "--tokenizer", "org/no-tokenizer"]), "tokenizer.json");
}

#[test]
fn without_a_tokenizer_the_report_says_so() {
    let world = World::of("no-tokenizer");
    let report = world.scan(&["org/no-tokenizer"]);
    assert!(report["warnings"][0].as_str().unwrap().contains("no tokenizer.json"));
    assert_eq!(report["duplicates"]["groups"][0]["tokens"], serde_json::json!([]));
    let silent = world.scan(&["org/no-tokenizer", "--no-tokenizer"]);
    assert_eq!(silent["warnings"], serde_json::json!([]));
}

#[test]
fn a_broken_tokenizer_is_a_warning() {
    let world = World::of("broken-tokenizer");
    let report = world.scan(&["org/broken-tokenizer"]);
    assert!(report["warnings"][0].as_str().unwrap().contains("tokenizer"), "{report}");
    agree(&report, &expected("broken-tokenizer"), "bits", "broken tokenizer");
}

#[test]
fn an_inspection_agrees_with_the_scan_and_reads_no_weights() {
    let world = World::of("two-shards");
    let found = json(&world.run(&["inspect", "org/two-shards", "--format", "json"]));
    let scan = world.scan(&["org/two-shards"]);
    assert_eq!(found["matrix"], scan["matrix"]);
    let [start, end] = [0, 1].map(|at| found["byte_range"][at].as_u64().unwrap());
    assert_eq!(end - start, found["matrix"]["bytes"].as_u64().unwrap());
    assert_eq!(found["cost"]["requests"], 1);
    let file = std::fs::read(fixture("two-shards").join(found["matrix"]["file"].as_str().unwrap()));
    let row = found["matrix"]["row_bytes"].as_u64().unwrap();
    assert!(end as usize <= file.unwrap().len() && (end - start) % row == 0);
    let text_form = world.run(&["inspect", "org/two-shards"]);
    assert!(text(&text_form.stdout).contains("A scan would read: "));
}
