use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Host, Repository, StandIn};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf")
}

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).unwrap()
}

fn cases() -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_slice(&bytes("expected.json")).unwrap();
    assert!(cases.len() > 30);
    cases
}

/// The case's file, and the others that belong to it.
fn files(case: &Value) -> Vec<&str> {
    match case["of"].as_array() {
        Some(parts) => parts.iter().map(|part| part.as_str().unwrap()).collect(),
        None => vec![case["file"].as_str().unwrap()],
    }
}

fn agrees(report: &Value, case: &Value) {
    let groups: Vec<&Value> =
        report["duplicates"]["groups"].as_array().unwrap().iter().map(|g| &g["rows"]).collect();
    assert_eq!(json!(groups), case["groups"], "{case}");
    for part in ["tensor", "tied", "dtype", "rows", "columns", "row_bytes"] {
        assert_eq!(report["matrix"][part], case[part], "{part} of {case}");
    }
    assert_eq!(report["matrix_digest"], case["matrix_digest"], "{case}");
}

#[test]
fn rows_of_every_type_are_told_apart_from_everywhere() {
    for case in cases() {
        let mut repository = Repository::new("org/m");
        for file in files(&case) {
            repository = repository.file(file, bytes(file));
        }
        let world = World::new(StandIn::builder().chunk(999).repository(repository));
        // The only GGUF file there is.
        agrees(&world.scan(&["org/m"]), &case);
        let first = files(&case)[0];
        agrees(&world.scan(&["org/m", "--file", first, "--connections", "3"]), &case);
        let local = folder().join(first);
        agrees(&world.scan(&[local.to_str().unwrap(), "--threads", "2"]), &case);
    }
}

#[test]
fn however_a_file_is_named_its_own_vocabulary_goes_before_a_list_beside_it() {
    let both = Repository::new("org/m")
        .file("q8_0.gguf", bytes("q8_0.gguf"))
        .file("vocab.txt", "one\ntwo\nthree\n");
    let world = World::new(StandIn::builder().repository(both));
    for arguments in [&["org/m"][..], &["org/m", "--file", "q8_0.gguf"]] {
        let report = world.scan(arguments);
        assert_eq!(report["tokenizer"], json!({"size": 12, "padding_rows": 0}));
        assert_eq!(report["duplicates"]["groups"][0]["tokens"][0]["text"], "token 1 ä");
        let classed = world.scan(&[arguments, &["--classes"]].concat());
        assert!(classed["warnings"].to_string().contains("is a list and no tokenizer"));
    }
    let broken =
        Repository::new("org/m").file("q8_0.gguf", bytes("q8_0.gguf")).file("tokenizer.json", "{}");
    let world = World::new(StandIn::builder().repository(broken));
    let report = world.scan(&["org/m"]);
    assert_eq!(report["duplicates"]["groups"][0]["tokens"][0]["text"], "token 1 ä");
    assert!(report["warnings"].to_string().contains("tokenizer.json"), "{report}");
}

#[test]
fn rows_are_named_by_the_files_own_vocabulary_unless_there_is_a_tokenizer() {
    let alone = Repository::new("org/m").file("q8_0.gguf", bytes("q8_0.gguf"));
    let world = World::new(StandIn::builder().repository(alone));
    let report = world.scan(&["org/m"]);
    assert_eq!(report["tokenizer"], json!({"size": 12, "padding_rows": 0}));
    let texts = |report: &Value| -> Vec<String> {
        let tokens = report["duplicates"]["groups"][0]["tokens"].as_array().unwrap();
        tokens.iter().map(|token| token["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&report), ["token 1 ä", "token 5 ä", "token 11 ä"]);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(world.scan(&["org/m", "--no-tokenizer"])["tokenizer"], Value::Null);
    let tokenizer = fixture("untied").join("tokenizer.json");
    let named = world.scan(&["org/m", "--tokenizer", tokenizer.to_str().unwrap()]);
    assert_ne!(texts(&named), texts(&report));
    // What the list does not tell is not guessed.
    let policy = world.home.path().join("p.toml");
    std::fs::write(&policy, "forbid = [\"special-in-group\"]\n").unwrap();
    let output = world.run(&["check", "org/m", "--policy", policy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
}

#[test]
fn of_several_files_one_has_to_be_named() {
    let repository = Repository::new("org/m")
        .file("m-Q8_0.gguf", bytes("q8_0.gguf"))
        .file("m-Q4_K.gguf", bytes("q4_k.gguf"));
    let world = World::new(StandIn::builder().repository(repository));
    refused(&world.run(&["org/m"]), "m-Q4_K.gguf, m-Q8_0.gguf: 2 GGUF files; name one with --file");
    assert_eq!(world.scan(&["org/m", "--file", "m-Q4_K.gguf"])["matrix"]["dtype"], "Q4_K");
    // Safetensors go before it.
    let both = repository_with_both();
    let world = World::new(StandIn::builder().repository(both));
    assert_eq!(world.scan(&["org/untied"])["matrix"]["file"], "model.safetensors");
    assert_eq!(world.scan(&["org/untied", "--file", "q8_0.gguf"])["matrix"]["file"], "q8_0.gguf");
}

fn repository_with_both() -> Repository {
    repository("untied").file("q8_0.gguf", bytes("q8_0.gguf"))
}

#[test]
fn a_part_that_is_missing_is_an_error() {
    let repository = Repository::new("org/m")
        .file("split-00001-of-00003.gguf", bytes("split-00001-of-00003.gguf"))
        .file("split-00003-of-00003.gguf", bytes("split-00003-of-00003.gguf"));
    let world = World::new(StandIn::builder().repository(repository));
    refused(
        &world.run(&["org/m", "--file", "split-00003-of-00003.gguf"]),
        "split-00002-of-00003.gguf",
    );
}

#[test]
fn blocks_are_measured_and_compared_by_what_they_stand_for_where_that_is_known() {
    let world = World::new(StandIn::builder());
    for case in cases() {
        let local = folder().join(files(&case)[0]);
        let local = local.to_str().unwrap();
        let report = world.scan(&[local, "--profile"]);
        let Some(expected) = case["norms"].as_array() else {
            let is_plain =
                ["F64", "I8", "I16", "I32", "I64"].contains(&case["dtype"].as_str().unwrap());
            assert_eq!(report["profile"].is_null(), !is_plain, "{case}");
            let values = world.run(&[local, "--equality", "values"]);
            assert_eq!(values.status.success(), is_plain, "{case}");
            continue;
        };
        let norms = report["profile"]["row_norms"].as_array().unwrap();
        for (row, (norm, expected)) in norms.iter().zip(expected).enumerate() {
            // What is no number is null.
            let close = match (norm.as_f64(), expected.as_f64()) {
                (Some(norm), Some(expected)) => (norm / expected - 1.0).abs() < 2e-5,
                (norm, expected) => norm.is_none() && expected.is_none(),
            };
            assert!(close, "{}: {row} {norm} for {expected}", case["dtype"]);
        }
        // A row with a NaN equals nothing.
        let values = world.scan(&[local, "--equality", "values"]);
        let is_number =
            |rows: &Value| !case["norms"][rows[0].as_u64().unwrap() as usize].is_string();
        let mut groups = case["groups"].as_array().unwrap().clone();
        groups.retain(is_number);
        let found: Vec<&Value> = values["duplicates"]["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| &group["rows"])
            .collect();
        assert_eq!(json!(found), json!(groups), "{case}");
    }
}

/// A GGUF file with a vocabulary of so many tokens.
fn large(tokens: u64) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(1u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(text("tokenizer.ggml.tokens"));
    file.extend([9u32.to_le_bytes(), 8u32.to_le_bytes()].concat());
    file.extend(tokens.to_le_bytes());
    (0..tokens).for_each(|token| file.extend(text(&format!("token number {token}"))));
    file.extend(text("token_embd.weight"));
    file.extend([2u32.to_le_bytes()].concat());
    file.extend([4u64.to_le_bytes(), tokens.to_le_bytes()].concat());
    file.extend(0u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    (0..tokens)
        .for_each(|token| file.extend([token as u32, 0, 0, 1].map(u32::to_le_bytes).concat()));
    file
}

#[test]
fn a_long_header_takes_few_requests_and_hardly_more_bytes_than_it_has() {
    let file = large(200_000);
    let (size, matrix) = (file.len() as u64, 200_000 * 16);
    let world =
        World::new(StandIn::builder().repository(Repository::new("org/m").file("m.gguf", file)));
    let inspection = json(&world.run(&["inspect", "org/m", "--format", "json"]));
    assert_eq!(inspection["matrix"]["rows"], 200_000);
    let log = world.hub.log();
    let ranges: Vec<_> = log.iter().filter(|request| request.host == Host::Cdn).collect();
    let sent: u64 = ranges.iter().map(|request| request.sent).sum();
    assert!(ranges.len() <= 4, "{} ranges", ranges.len());
    assert!(sent < (size - matrix) * 12 / 10, "{sent} of a header of {}", size - matrix);
}

#[test]
fn damaged_files_are_refused_and_never_read_beyond_their_ends() {
    let whole = bytes("q8_0.gguf");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let run = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        bare(&[path.to_str().unwrap()]).output().unwrap()
    };
    for length in (0..whole.len()).step_by(97) {
        assert_eq!(run(&whole[..length]).status.code(), Some(2), "cut at {length}");
    }
    let with = |at: usize, new: &[u8]| {
        let mut file = whole.clone();
        file[at..at + new.len()].copy_from_slice(new);
        file
    };
    refused(&run(&with(0, b"GGJT")), "does not begin with GGUF");
    refused(&run(&with(4, &[1, 0, 0, 0])), "version 1");
    refused(&run(&with(4, &[0, 0, 0, 3])), "big-endian");
    refused(&run(&with(4, &[9, 0, 0, 0])), "version 9");
    refused(&run(&with(8, &u64::MAX.to_le_bytes())), "tensors");
    refused(&run(&with(16, &u64::MAX.to_le_bytes())), "metadata");
    refused(&run(&with(24, &u64::MAX.to_le_bytes())), "past its end");
}

/// A GGUF file of 32 rows of 128 numbers of two bits, and a tensor behind them; blocks are of so many.
fn of_two_bits(elements: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let row = 128 / elements * (2 + elements / 4);
    let matrix = (32 * row).next_multiple_of(32);
    let mut file = [&b"GGUF\x03\0\0\0"[..], &2u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    file.extend([text("token_embd.weight"), 2u32.to_le_bytes().to_vec()].concat());
    file.extend([128u64, 32].map(u64::to_le_bytes).concat());
    file.extend([&42u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    file.extend([text("output_norm.weight"), 1u32.to_le_bytes().to_vec()].concat());
    file.extend([&8u64.to_le_bytes()[..], &0u32.to_le_bytes()].concat());
    file.extend((matrix as u64).to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    for row in (0..32u8).map(|row| if row == 2 { 0 } else { row }) {
        for _ in 0..128 / elements {
            // A scale of one.
            file.extend([0, 0x3c]);
            file.extend(vec![row; elements / 4]);
        }
    }
    file.resize(file.len().next_multiple_of(32) + 32, 0);
    file
}

#[test]
fn one_number_for_two_types_is_told_by_the_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let local = path.to_str().unwrap();
    let world = World::new(StandIn::builder());
    for (elements, row_bytes) in [(64, 36), (128, 34)] {
        std::fs::write(&path, of_two_bits(elements)).unwrap();
        let report = world.scan(&[local, "--equality", "values", "--profile"]);
        assert_eq!(report["matrix"]["dtype"], "Q2_0");
        assert_eq!(report["matrix"]["row_bytes"], row_bytes);
        assert_eq!(report["duplicates"]["groups"][0]["rows"], json!([0, 2]));
        // Of 0 all codes are 0, of 1 the first of four is 1, of 3 it is 3; and less one they are numbers.
        let norms = report["profile"]["row_norms"].as_array().unwrap();
        for (norm, squares) in norms.iter().zip([128.0, 96.0, 128.0, 224.0]) {
            assert!((norm.as_f64().unwrap() - f64::sqrt(squares)).abs() < 1e-12, "{norms:?}");
        }
    }
    // Neither has that length.
    let mut odd = of_two_bits(64);
    let at = odd.windows(4).position(|four| four == 42u32.to_le_bytes()).unwrap();
    odd[at - 8..at].copy_from_slice(&9u64.to_le_bytes());
    std::fs::write(&path, odd).unwrap();
    refused(&world.run(&[local]), "where the one before ends");
}
