use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::StandIn;
use std::path::{Path, PathBuf};

#[test]
fn a_probe_finds_the_groups_of_every_fixture() {
    let world = World::new(StandIn::builder());
    for case in cases() {
        let folder = fixture(&case);
        let full = world.run(&[folder.to_str().unwrap(), "--format", "json"]);
        let probe = world.run(&[folder.to_str().unwrap(), "--probe", "--format", "json"]);
        assert_eq!(full.status.code(), probe.status.code(), "{case}");
        if !full.status.success() {
            assert_eq!(full.stderr, probe.stderr, "{case}");
            continue;
        }
        let (full, probe) = (json(&full), json(&probe));
        assert_eq!(full["duplicates"], probe["duplicates"], "{case}");
        assert_eq!(full["probe"], Value::Null);
        // Where all were read after all there is a digest, and it is the same.
        match probe["probe"].is_null() {
            true => assert_eq!(full["matrix_digest"], probe["matrix_digest"], "{case}"),
            false => assert_eq!(probe["matrix_digest"], Value::Null, "{case}"),
        }
    }
}

/// A file of U8 rows, each made of its number.
fn file(folder: &Path, rows: u64, row_bytes: usize, row: impl Fn(u64) -> Vec<u8>) -> PathBuf {
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"U8","shape":[{rows},{row_bytes}],"data_offsets":[0,{}]}}}}"#,
        rows * row_bytes as u64
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..rows).flat_map(row));
    let path = folder.join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_probe_reads_whole_only_what_prefixes_leave_in_doubt() {
    let world = World::new(StandIn::builder());
    let folder = tempfile::tempdir().unwrap();
    // Rows that share a prefix by tens among a thousand others; of them every second is equal.
    let row = |number: u64| {
        let mut row = number.to_le_bytes().repeat(40);
        if number.is_multiple_of(100) {
            row[..64].fill(1);
            row[64..].fill((number / 100 % 2) as u8);
        }
        row
    };
    let path = file(folder.path(), 30_000, 320, row);
    for threads in ["1", "3"] {
        let args = [path.to_str().unwrap(), "--no-tokenizer", "--threads", threads];
        let full = world.scan(&args);
        let probe = world.scan(&[&args[..], &["--probe"]].concat());
        assert_eq!(full["duplicates"], probe["duplicates"]);
        assert_eq!(probe["probe"], json!({"prefix_bytes": 64, "rows_read": 300}));
        assert_eq!(probe["duplicates"]["groups_total"], 2);
    }
    let shown = world.run(&[path.to_str().unwrap(), "--no-tokenizer", "--probe"]);
    let says = "Probed: 64 bytes of each row, and 300 rows whole; so there is no matrix digest";
    assert!(text(&shown.stdout).contains(says), "{}", text(&shown.stdout));
    let lines =
        world.run(&[path.to_str().unwrap(), "--no-tokenizer", "--probe", "--format", "jsonl"]);
    assert_eq!(text(&lines.stdout).matches(r#""type":"duplicate""#).count(), 298);
}

#[test]
fn a_probe_of_rows_that_all_begin_alike_is_a_full_scan() {
    let world = World::new(StandIn::builder());
    let folder = tempfile::tempdir().unwrap();
    let row = |number: u64| {
        let mut row = vec![7; 200];
        row[192..].copy_from_slice(&(number / 3).to_le_bytes());
        row
    };
    let path = file(folder.path(), 3_000, 200, row);
    let full = world.scan(&[path.to_str().unwrap(), "--no-tokenizer"]);
    let mut probe = world.scan(&[path.to_str().unwrap(), "--no-tokenizer", "--probe"]);
    probe["transfer"] = full["transfer"].clone();
    assert_eq!(full, probe);
}

#[test]
fn what_a_probe_cannot_say_is_refused() {
    let world = World::of("untied");
    refused(&world.run(&["org/untied", "--probe", "-q"]), "only local files can be probed");
    let folder = fixture("untied");
    let refuse = |args: &[&str], says: &str| {
        let mut all = vec![folder.to_str().unwrap(), "--probe", "-q"];
        all.extend(args);
        refused(&world.run(&all), says);
    };
    refuse(&["--equality", "values"], "stored bits only");
    refuse(&["--matrix", "both"], "does not read all rows");
    refuse(&["--profile"], "--profile");
    refuse(&["--classes"], "--classes");
}
