use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Host, Repository, StandIn};
use std::path::{Path, PathBuf};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/quantised").join(case)
}

fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(folder("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 17, "{names:?}");
    names
}

fn quantised(case: &str) -> Repository {
    let mut repository = Repository::new(&format!("org/{case}"));
    for entry in std::fs::read_dir(folder(case)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "expected.json" {
            repository = repository.file(name, std::fs::read(&path).unwrap());
        }
    }
    repository
}

fn expected_of(case: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(case).join("expected.json")).unwrap()).unwrap()
}

/// A report against what the quantiser's own library says.
fn agrees(case: &str, report: &Value, digest: bool) {
    let expected = expected_of(case);
    let groups: Vec<&Value> =
        report["duplicates"]["groups"].as_array().unwrap().iter().map(|g| &g["rows"]).collect();
    assert_eq!(json!(groups), expected["groups"], "{case}");
    let matrix = &report["matrix"];
    for part in ["rows", "columns", "row_bytes"] {
        assert_eq!(matrix[part], expected[part], "{case}: {part}");
    }
    assert_eq!(matrix["layout"]["scheme"], expected["scheme"], "{case}");
    if digest {
        assert_eq!(report["matrix_digest"], expected["matrix_digest"], "{case}");
    }
}

#[test]
fn rows_of_every_scheme_are_told_apart_as_their_values_are_from_everywhere() {
    for case in cases() {
        let world = World::new(StandIn::builder().chunk(777).repository(quantised(&case)));
        let model = format!("org/{case}");
        for connections in ["1", "8"] {
            agrees(&case, &world.scan(&[&model, "--connections", connections]), true);
        }
        let local = folder(&case);
        let local = local.to_str().unwrap();
        for threads in ["1", "3"] {
            agrees(&case, &world.scan(&[local, "--threads", threads]), true);
        }
        agrees(&case, &world.scan(&[local, "--probe"]), false);
    }
}

#[test]
fn the_report_says_what_was_compared() {
    for case in cases() {
        let world = World::new(StandIn::builder().repository(quantised(&case)));
        let report = world.scan(&[&format!("org/{case}")]);
        let layout = &report["matrix"]["layout"];
        let parts = layout["parts"].as_array().unwrap();
        assert!(parts.len() > 1, "{case}");
        let bytes: u64 = parts.iter().map(|part| part["row_bytes"].as_u64().unwrap()).sum();
        assert_eq!(report["matrix"]["row_bytes"], bytes, "{case}");
        let reason = report["matrix"]["reason"].as_str().unwrap();
        for part in parts {
            assert!(reason.contains(part["tensor"].as_str().unwrap()), "{case}: {reason}");
        }
        let text_of = world.run(&[&format!("org/{case}")]);
        assert!(text(&text_of.stdout).contains("a row is "), "{}", text(&text_of.stdout));
    }
}

#[test]
fn no_more_than_the_parts_of_rows_is_read() {
    for case in cases() {
        let world = World::new(StandIn::builder().repository(quantised(&case)));
        let model = format!("org/{case}");
        let inspection = json(&world.run(&["inspect", &model, "--format", "json"]));
        let cost = &inspection["cost"];
        let ranges = |world: &World| {
            world.hub.log().iter().filter(|request| request.host == Host::Cdn).count() as u64
        };
        let before = ranges(&world);
        world.hub.clear_log();
        let report = world.scan(&[&model]);
        // As many headers are read as before.
        assert_eq!(ranges(&world) - before, cost["requests"].as_u64().unwrap(), "{case}");
        assert_eq!(report["matrix"]["bytes"], cost["bytes"], "{case}");
    }
}

#[test]
fn rows_are_measured_and_compared_by_what_they_stand_for() {
    for case in cases() {
        let local = folder(&case);
        let local = local.to_str().unwrap();
        let world = World::new(StandIn::builder().chunk(333).repository(quantised(&case)));
        let expected = expected_of(&case);
        for model in [local, &format!("org/{case}")] {
            let report = world.scan(&[model, "--equality", "values", "--profile"]);
            let groups = report["duplicates"]["groups"].as_array().unwrap();
            let rows: Vec<&Value> = groups.iter().map(|group| &group["rows"]).collect();
            assert_eq!(json!(rows), expected["groups"], "{case}");
            let norms = report["profile"]["row_norms"].as_array().unwrap();
            let expected = expected["norms"].as_array().unwrap();
            assert_eq!(norms.len(), expected.len(), "{case}");
            for (norm, expected) in norms.iter().zip(expected) {
                let (norm, expected) = (norm.as_f64().unwrap(), expected.as_f64().unwrap());
                assert!((norm / expected - 1.0).abs() < 1e-6, "{case}: {norm} for {expected}");
            }
            assert!(report["geometry"]["l2"]["min"].as_f64().unwrap() > 0.0, "{case}");
            // The digest is of what is stored, in any case.
            assert_eq!(report["matrix_digest"], expected_of(&case)["matrix_digest"], "{case}");
            assert_eq!(report["warnings"], world.scan(&[model])["warnings"], "{case}");
        }
        let check = world.run(&["check", local]);
        assert!(!text(&check.stdout).contains("leave it out of forbid"), "{case}");
    }
}

#[test]
fn what_codes_stand_for_is_not_guessed() {
    // Nothing says in which of its ways the quantiser packed them.
    let bare = quantised("mlx-mxfp4").file("config.json", "{}");
    let world = World::new(StandIn::builder().repository(bare));
    let model = "org/mlx-mxfp4";
    refused(&world.run(&[model, "--equality", "values"]), "values are not known");
    let report = world.scan(&[model, "--profile"]);
    assert_eq!((&report["profile"], &report["degenerate"]), (&Value::Null, &Value::Null));
    let check = world.run(&["check", model]);
    assert_eq!(check.status.code(), Some(2));
    assert!(text(&check.stdout).contains("leave it out of forbid"), "{}", text(&check.stdout));
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("not known"), "{warnings}");
}

#[test]
fn a_tensor_of_the_module_that_nothing_is_known_of_is_a_part_of_rows_or_a_refusal() {
    let header = |shape: &str, bytes: usize| {
        let end = 600 + bytes;
        format!(
            r#"{{"lm_head.weight":{{"dtype":"U8","shape":[300,2],"data_offsets":[0,600]}},
                "lm_head.weight_offsets":{{"dtype":"U8","shape":{shape},"data_offsets":[600,{end}]}}}}"#
        )
    };
    let file = |shape: &str, other: Vec<u8>| {
        let header = header(shape, other.len());
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.resize(file.len() + 600, 7);
        file.extend(other);
        Repository::new("org/m").file("model.safetensors", file)
    };
    // All codes are the same.
    let own =
        World::new(StandIn::builder().repository(file("[300]", [[1; 150], [2; 150]].concat())));
    let report = own.scan(&["org/m"]);
    assert_eq!(report["duplicates"]["distinct"], 2, "{}", report["duplicates"]);
    refused(&own.run(&["org/m", "--equality", "values"]), "values are not known");
    let odd = World::new(StandIn::builder().repository(file("[7]", vec![1; 7])));
    refused(&odd.run(&["org/m"]), "weight_offsets");
}
