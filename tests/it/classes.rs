use super::support::*;
use serde_json::{Value, json};
use singularity_survey::vocabulary::{Class, Vocabulary};
use std::fs;
use std::path::PathBuf;

fn families() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers")
}

/// What the outside oracle says of every id, stage by stage.
fn judged(family: &str) -> Vec<Value> {
    let text = fs::read_to_string(families().join(format!("{family}.classes.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_id_of_every_family_has_the_class_and_cause_that_its_stages_give() {
    let mut seen = 0;
    let mut classes = std::collections::BTreeSet::new();
    for entry in fs::read_dir(families()).unwrap() {
        let path = entry.unwrap().path();
        let Some(family) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".json") else {
            continue;
        };
        let vocabulary = Vocabulary::parse(family, &fs::read(&path).unwrap()).unwrap();
        for (row, expected) in (0..).zip(judged(family)) {
            let (class, cause) = vocabulary.classify(row).unwrap();
            let found = json!([class.name(), serde_json::to_value(cause).unwrap()]);
            assert_eq!(found, expected, "{family}: {row}");
            classes.insert(class);
            seen += 1;
        }
    }
    assert!(seen > 8_000, "{seen}");
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), Class::ALL);
}

/// A model whose rows are all the same, with a tokenizer of a family.
fn model(family: &str, rows: u64) -> World {
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"U8","shape":[{rows},2],"data_offsets":[0,{}]}}}}"#,
        2 * rows
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    // Row 0 is the one that differs.
    bytes.extend([1, 1]);
    bytes.resize(bytes.len() + 2 * (rows as usize - 1), 0);
    let tokenizer = fs::read(families().join(format!("{family}.json"))).unwrap();
    let repository = singularity_survey::standin::Repository::new("org/m")
        .file("model.safetensors", bytes)
        .file("tokenizer.json", tokenizer);
    World::new(singularity_survey::standin::StandIn::builder().repository(repository))
}

#[test]
fn a_report_says_what_the_members_of_groups_are_and_of_all_rows_when_asked() {
    let judged = judged("qwen");
    let rows = judged.len() as u64;
    let world = model("qwen", rows);
    let report = world.scan(&["org/m"]);
    assert_eq!(report["classes"], Value::Null);
    let group = &report["duplicates"]["groups"][0];
    let of = |class: &str| judged[1..].iter().filter(|one| one[0] == class).count() as u64;
    for count in group["classes"].as_array().unwrap() {
        assert_eq!(count["rows"], of(count["class"].as_str().unwrap()));
    }
    let emittable = |one: &Value| {
        ["reachable", "special"].contains(&one[0].as_str().unwrap()) || one[1]["buildable"] == true
    };
    let wanted: Vec<u64> = (1..rows).filter(|&row| emittable(&judged[row as usize])).collect();
    assert_eq!(group["emittable"], json!(wanted));
    let thai = group["scripts"].as_array().unwrap().iter().any(|s| s["script"] == "Thai");
    assert!(thai, "{}", group["scripts"]);

    let report = world.scan(&["org/m", "--classes"]);
    let split: Vec<u64> = (0..rows).filter(|&row| judged[row as usize][0] == "split").collect();
    assert_eq!(report["classes"]["rows"]["split"], json!(split));
    for line in report["classes"]["table"].as_array().unwrap() {
        let (grouped, alone) =
            (line["in_groups"].as_u64().unwrap(), line["alone"].as_u64().unwrap());
        assert_eq!(line["rows"], grouped + alone);
        // All but row 0 are in the one group.
        assert_eq!(alone, u64::from(line["class"] == judged[0][0]));
    }

    let ids = |args: &[&str]| {
        let mut all = vec!["org/m", "--format", "ids"];
        all.extend(args);
        let output = world.run(&all);
        text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(ids(&["--class", "split"]), split);
    assert_eq!(ids(&["--class", "no-token"]), [rows - 2, rows - 1]);
    assert_eq!(ids(&[]), (1..rows).collect::<Vec<_>>());

    let output = world.run(&["org/m", "--classes"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("\n  CAN BE EMITTED: "), "{shown}");
    assert!(shown.contains(" split, ") && shown.contains("\n  unmerged ") == (of("unmerged") > 0));
    assert!(shown.contains("\nClasses of all rows:\n"), "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80 || line.contains("Token")),
        "{shown}"
    );
}

#[test]
fn classes_cannot_be_had_without_a_tokenizer() {
    let world = World::of("no-tokenizer");
    refused(
        &world.run(&["org/no-tokenizer", "--classes", "-q"]),
        "only where there is a tokenizer",
    );
    refused(&world.run(&["org/no-tokenizer", "--class", "x"]), "--class");
}
