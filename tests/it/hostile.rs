use super::support::*;
use serde_json::{Value, json};
use singularity_survey::checkpoint::{Dtype, Safetensors, TensorRecord, decode};
use singularity_survey::error::Result;
use singularity_survey::source::{ByteSource as _, MemorySource};
use singularity_survey::standin::{Action, Fault, Nth, Repository, StandIn};
use std::fs;
use std::path::Path;

fn header(bytes: &[u8], chunk: usize) -> Result<Vec<TensorRecord>> {
    let source = MemorySource::new("x.safetensors", bytes.to_vec()).chunked(chunk);
    let mut decoder = Safetensors::new("x.safetensors", source.size());
    futures::executor::block_on(decode(&source, &mut decoder))
}

/// A safetensors file with this header.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn every_bad_header_is_refused_as_the_reference_reader_refuses_it_or_for_a_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/headers/verdicts.json");
    let verdicts: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let verdicts = verdicts.as_object().unwrap();
    assert!(verdicts.len() > 80);
    for (case, verdict) in verdicts {
        let hex = verdict["bytes"].as_str().unwrap();
        let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
        let bytes: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        for chunk in [1, 7, 1 << 20] {
            match (header(&bytes, chunk), verdict["expected"].as_str().unwrap()) {
                (Ok(tensors), "ok") => {
                    let ends = tensors.last().map_or(bytes.len(), |last| last.range.end as usize);
                    assert_eq!(ends, bytes.len(), "{case}");
                }
                (Err(error), expected) => {
                    let shown = error.to_string();
                    assert!(expected != "ok" && shown.contains(expected), "{case}: {shown}");
                    assert!(shown.chars().count() < 400, "{case}: {shown}");
                }
                (Ok(tensors), expected) => panic!("{case}: {expected} expected: {tensors:?}"),
            }
        }
    }
}

#[test]
fn a_type_of_tomorrow_is_listed_and_refused_only_as_the_matrix() {
    let head = r#""lm_head.weight":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}"#;
    let other = r#""other":{"dtype":"F3","shape":[7,3],"data_offsets":[4,12]}"#;
    let bytes = file(&format!("{{{head},{other}}}"), 12);
    let tensors = header(&bytes, 1 << 20).unwrap();
    assert_eq!(tensors[1].dtype, Dtype::Unknown("F3".into()));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let world = World::new(StandIn::builder());
    let at = folder.path().to_str().unwrap();
    assert_eq!(world.scan(&[at])["duplicates"]["groups_total"], 1);
    refused(&world.run(&[at, "--tensor", "other"]), "its type 'F3' is unknown");
    let bytes = file(r#"{"lm_head.weight":{"dtype":"F3","shape":[7,3],"data_offsets":[0,8]}}"#, 8);
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    refused(&world.run(&[at]), "its type 'F3' is unknown");
}

#[test]
fn rows_of_half_bytes_are_refused_where_a_row_does_not_fill_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let world = World::new(StandIn::builder());
    for (dtype, shape, data, says) in [
        ("F4", "[2,3]", 3, "a row"),
        ("F6_E3M2", "[4,1]", 3, "a row"),
        ("F4", "[3,1]", 2, "whole bytes"),
    ] {
        let entry = format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{data}]}}"#);
        let bytes = file(&format!(r#"{{"lm_head.weight":{entry}}}"#), data);
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        refused(&world.run(&[at]), says);
    }
}

#[test]
fn an_index_that_lies_is_refused_and_what_it_says_of_sizes_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::copy(fixture("untied").join("model.safetensors"), place("one.safetensors")).unwrap();
    fs::create_dir(place("folder.safetensors")).unwrap();
    let world = World::new(StandIn::builder());
    let at = folder.path().to_str().unwrap();
    let deep = format!("{{\"weight_map\":{}1{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let long = "x".repeat(1 << 20);
    let map = |tensor: &str, shard: &str| json!({"weight_map": {tensor: shard}}).to_string();
    for (index, says) in [
        (String::new(), "not a safetensors index"),
        ("[]".into(), "not a safetensors index"),
        ("{}".into(), "weight_map"),
        (r#"{"weight_map":[]}"#.into(), "not a safetensors index"),
        (r#"{"weight_map":{"a":1}}"#.into(), "not a safetensors index"),
        (r#"{"weight_map":{"a":"x","a":"y"}}"#.into(), "twice"),
        (deep, "not a safetensors index"),
        (map("lm_head.weight", "../one.safetensors"), "no file beside it"),
        (map("lm_head.weight", "a/../../one.safetensors"), "no file beside it"),
        (map("lm_head.weight", "/etc/passwd"), "no file beside it"),
        (map("lm_head.weight", "http://x/y"), "no file beside it"),
        (map("lm_head.weight", "c:\\x"), "no file beside it"),
        (map("lm_head.weight", ""), "no file beside it"),
        (map("lm_head.weight", "a\0b"), "no file beside it"),
        (map("lm_head.weight", "two.safetensors"), "does not exist"),
        (map("lm_head.weight", "tw\u{1b}[31mo\u{202e}\n.safetensors"), "\\x1b"),
        (map("lm_head.weight", "folder.safetensors"), "not a regular file"),
        (map("lm_head.weight", "model.safetensors.index.json"), "safetensors file"),
        (map("model.lm_head.weight", "one.safetensors"), "but it does not"),
        (map("lm_head.weight", &long), "error"),
        (map(&long, "one.safetensors"), "no unembedding"),
        (map("lm_head.weight\u{1b}[31m", "one.safetensors"), "no unembedding"),
    ] {
        fs::write(place("model.safetensors.index.json"), &index).unwrap();
        let output = world.run(&[at]);
        refused(&output, says);
        let shown = text(&output.stderr);
        assert!(shown.chars().count() < 1500, "{says}: {} characters", shown.chars().count());
        assert!(!shown.trim_end().contains(char::is_control), "{shown:?}");
    }
    for size in [json!(1), json!(u64::MAX), json!("many"), json!(-1), json!(null), json!({})] {
        let index = json!({"metadata": {"total_size": size},
            "weight_map": {"lm_head.weight": "one.safetensors"}});
        fs::write(place("model.safetensors.index.json"), index.to_string()).unwrap();
        assert_eq!(world.scan(&[at])["matrix_digest"], expected("untied")["matrix_digest"]);
    }
}

/// A configuration says which matrix it is, so that one which cannot be read is an error.
#[test]
fn a_configuration_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::copy(fixture("untied").join("model.safetensors"), place("model.safetensors")).unwrap();
    let world = World::new(StandIn::builder());
    let at = folder.path().to_str().unwrap();
    for config in [
        b"".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"a\": \"\xff\"}".to_vec(),
        b"<html>".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        "{\"text_config\":".repeat(100_000).into_bytes(),
        vec![b' '; 11_000_000],
    ] {
        fs::write(place("config.json"), &config).unwrap();
        let output = world.run(&[at]);
        refused(&output, "config.json");
        assert!(output.stderr.len() < 1000);
    }
    fs::remove_file(place("config.json")).unwrap();
    fs::create_dir(place("config.json")).unwrap();
    refused(&world.run(&[at]), "not a regular file");
    fs::remove_dir(place("config.json")).unwrap();
    // Wrong in what is not asked, or of another type: no reason to refuse a stored head.
    for config in [
        json!({"vocab_size": "many", "tie_word_embeddings": "yes", "model_type": 7}),
        json!({"text_config": [], "vocab_size": -1}),
        json!({"vocab_size": 1e300}),
    ] {
        fs::write(place("config.json"), config.to_string()).unwrap();
        assert_eq!(world.scan(&[at])["matrix_digest"], expected("untied")["matrix_digest"]);
    }
}

/// A tokenizer is a help: what cannot be read of it is a warning, never another answer.
#[test]
fn a_tokenizer_that_cannot_be_read_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::copy(fixture("untied").join("model.safetensors"), place("model.safetensors")).unwrap();
    let world = World::new(StandIn::builder());
    let at = folder.path().to_str().unwrap();
    let good: Value =
        serde_json::from_slice(&fs::read(fixture("tied").join("tokenizer.json")).unwrap()).unwrap();
    let with = |path: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(path).unwrap() = value;
        changed.to_string().into_bytes()
    };
    for json in [
        b"".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        b"{\"model\": {\"type\": \"BPE\"}}".to_vec(),
        "{\"model\":".repeat(100_000).into_bytes(),
        "[".repeat(1_000_000).into_bytes(),
        b"\xff\xfe".to_vec(),
        with("/model/vocab", json!({"a": -1})),
        with("/model/vocab", json!({"a": 4_294_967_296u64})),
        with("/model/vocab", json!([["a", "b"]])),
        with("/model/merges", json!(["a b c d", "x"])),
        with("/model/type", json!("Nonesuch")),
    ] {
        fs::write(place("tokenizer.json"), &json).unwrap();
        let output = world.run(&[at, "--format", "json"]);
        let report = super::support::json(&output);
        assert_eq!(report["matrix_digest"], expected("untied")["matrix_digest"]);
        assert_eq!(report["tokenizer"], Value::Null, "{}", String::from_utf8_lossy(&json));
        assert!(report["warnings"][0].as_str().unwrap().starts_with("rows have no names"));
        assert!(output.stderr.len() < 1000, "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    }
}

/// Lengths are those that the server states, and what a stranger claims beyond them is not waited
/// for and not made room for.
#[test]
fn small_files_of_any_length_end_in_a_sentence() {
    let huge = |path: &str, size: u64| {
        let model = repository("tied").generated(path, size, |_, length| vec![b' '; length].into());
        World::new(StandIn::builder().repository(model))
    };
    refused(&huge("config.json", 11_000_000).run(&["org/tied"]), "longer than");
    refused(&huge("model.safetensors.index.json", 1 << 40).run(&["org/tied"]), "longer than");
    let report = huge("tokenizer.json", 1 << 40).scan(&["org/tied"]);
    assert_eq!(report["matrix_digest"], expected("tied")["matrix_digest"]);
    assert!(report["warnings"][0].as_str().unwrap().contains("longer than"));
    // The same without a length that could be looked at first.
    let unannounced = Action::DropHeaders { prefix: "content-length".into() };
    let model = repository("tied").file("config.json", vec![b' '; 11_000_000]).git("config.json");
    let fault = Fault::hub("/config.json", Nth::Every, unannounced);
    let world = World::new(StandIn::builder().repository(model).fault(fault));
    refused(&world.run(&["org/tied"]), "longer than");
}

#[test]
fn names_of_any_length_and_kind_are_shown_harmlessly() {
    let odd = "=cmd|' /C calc'!A0\u{1b}]0;title\u{7}\u{202e}|`\n<script>";
    let long = format!("{odd}{}", "x".repeat(1 << 20));
    let head = |name: &str| {
        let entry = json!({"dtype": "U8", "shape": [4, 2], "data_offsets": [0, 8]});
        file(&json!({ name: entry }).to_string(), 8)
    };
    for name in [odd, &long] {
        let model = Repository::new("org/odd").file("model.safetensors", head(name));
        let world = World::new(StandIn::builder().repository(model));
        // A command line has room for the shorter one only.
        let args: &[&str] =
            if name.len() < 1000 { &["org/odd", "--tensor", name] } else { &["org/odd"] };
        for format in ["text", "csv", "markdown", "ids", "json", "jsonl"] {
            let mut all = args.to_vec();
            all.extend(["--format", format]);
            let output = world.run(&all);
            if name.len() < 1000 {
                assert!(output.status.success(), "{}", text(&output.stderr));
            } else {
                assert_eq!(output.status.code(), Some(2));
            }
            for shown in [text(&output.stdout), text(&output.stderr)] {
                let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
                assert!(!shown.contains(bad), "{format}: {shown:?}");
                assert!(shown.len() < 20_000, "{format}: {} bytes", shown.len());
            }
            if format == "csv" {
                let cells = text(&output.stdout).lines().skip(1);
                assert!(
                    cells
                        .into_iter()
                        .all(|line| line.starts_with("\"'=cmd") || line.starts_with("'=cmd")),
                    "{}",
                    text(&output.stdout)
                );
            }
        }
    }
}
