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
        (String::new(), "not an index of tensors"),
        ("[]".into(), "not an index of tensors"),
        ("{}".into(), "weight_map"),
        (r#"{"weight_map":[]}"#.into(), "not an index of tensors"),
        (r#"{"weight_map":{"a":1}}"#.into(), "not an index of tensors"),
        (r#"{"weight_map":{"a":"x","a":"y"}}"#.into(), "twice"),
        (deep, "not an index of tensors"),
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
        (map("lm_head.weight\u{1b}[31m", "one.safetensors"), "weight\\x1b[31m"),
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

/// A tokenizer with what a stranger may put into it.
fn tokenizer(model: Value, decoder: Value, normalizer: Value) -> Vec<u8> {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": null, "post_processor": null,
        "decoder": decoder, "model": model})
    .to_string()
    .into_bytes()
}

/// The library that reads tokenizers trusts them; what it does on hostile ones stays inside.
#[test]
fn a_tokenizer_that_breaks_its_reader_breaks_nothing_else() {
    let words = |texts: &[&str]| {
        let vocab: serde_json::Map<String, Value> =
            texts.iter().zip(0..).map(|(text, id)| ((*text).to_owned(), id.into())).collect();
        json!({"type": "WordLevel", "vocab": vocab, "unk_token": texts[0]})
    };
    let strip = |start: u32, stop: u32| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
    let long = format!("{}b", "a".repeat(40));
    let bpe = |prefix: &str, vocab: Value, merges: Value| {
        json!({"type": "BPE", "vocab": vocab, "merges": merges,
            "continuing_subword_prefix": prefix})
    };
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let none = Value::Null;
    let longer = "b".repeat(100_000);
    let repeated = vec![replace(json!({"String": "a"}), "bbbbbbbbbb"); 20];
    for (json, named) in [
        // Panics while a token is decoded: the entry itself is its name.
        (tokenizer(words(&[" ", "", "a"]), strip(1, 1), none.clone()), true),
        (tokenizer(words(&["", " ", "a"]), strip(0, 1), none.clone()), true),
        (
            tokenizer(
                words(&[" ", "", "a"]),
                json!({"type": "Sequence", "decoders": [strip(1, 1)]}),
                none.clone(),
            ),
            true,
        ),
        (
            tokenizer(words(&[&long, "x"]), replace(json!({"Regex": "(a+)+$"}), "x"), none.clone()),
            true,
        ),
        // Panics while the file is read.
        (
            tokenizer(
                words(&["a"]),
                none.clone(),
                json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            ),
            false,
        ),
        (
            tokenizer(
                bpe("####", json!({"a": 0, "": 1}), json!([["a", ""]])),
                none.clone(),
                none.clone(),
            ),
            false,
        ),
        (
            tokenizer(
                bpe("", json!({"a": 0, "b": 1}), json!([["a", "b"]])),
                none.clone(),
                none.clone(),
            ),
            false,
        ),
        // Cut between the bytes of a character.
        (
            tokenizer(
                bpe("#", json!({"a": 0, "é\u{202e}evil": 1}), json!([["a", "é\u{202e}evil"]])),
                none.clone(),
                none.clone(),
            ),
            false,
        ),
        (
            tokenizer(
                bpe("#", json!({"a": 0, "é\u{202e}evil": 1}), json!(["a é\u{202e}evil"])),
                none.clone(),
                none.clone(),
            ),
            false,
        ),
        // Texts of any length.
        (
            tokenizer(words(&["aaaa"]), replace(json!({"String": "a"}), &longer), none.clone()),
            false,
        ),
        (
            tokenizer(
                words(&["aaaa"]),
                json!({"type": "Sequence", "decoders": repeated}),
                none.clone(),
            ),
            false,
        ),
        (
            tokenizer(words(&["\u{1b}[31m\u{202e}\n", &"y".repeat(1 << 20)]), none.clone(), none),
            true,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rows = r#"{"lm_head.weight":{"dtype":"U8","shape":[8,4],"data_offsets":[0,32]}}"#;
        fs::write(folder.path().join("model.safetensors"), file(rows, 32)).unwrap();
        fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
        let world = World::new(StandIn::builder());
        let at = folder.path().to_str().unwrap();
        let shown = String::from_utf8_lossy(&json[..json.len().min(600)]).into_owned();
        for format in ["json", "jsonl", "text"] {
            let mut command = world.command(&[at, "--format", format]);
            let output = command.env("RUST_BACKTRACE", "1").output().unwrap();
            assert!(output.status.success(), "{shown}: {}", text(&output.stderr));
            let (out, errors) = (text(&output.stdout), text(&output.stderr));
            assert!(!errors.contains("panicked") && errors.lines().count() <= 1, "{errors}");
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!out.contains(bad) && !errors.contains(bad), "{shown}: {out}");
            if format == "json" {
                let report: Value = serde_json::from_str(out).unwrap();
                assert_eq!(report["duplicates"]["members"], 8);
                assert_eq!(report["tokenizer"].is_null(), !named, "{shown}: {errors}");
                let warned = report["warnings"][0].as_str().unwrap_or_default();
                assert_eq!(warned.starts_with("rows have no names"), !named, "{shown}: {warned}");
            }
        }
    }
}

/// What a server calls a commit becomes a part of addresses and of paths.
#[test]
fn a_commit_that_is_no_commit_leads_nowhere() {
    let private = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        fs::copy(fixture("tied").join(name), private.path().join(name)).unwrap();
    }
    let up = "../../../../../../../../../../..".to_owned() + private.path().to_str().unwrap();
    for commit in [private.path().to_str().unwrap(), &up, "..", "main", "0123456789ABCDEF"] {
        let action = Action::SetHeader { name: "x-repo-commit".into(), value: commit.into() };
        let fault = Fault::hub("", Nth::Every, action);
        let other = repository("untied");
        let world = World::new(StandIn::builder().repository(other).fault(fault));
        let report = world.scan(&["org/untied"]);
        assert_eq!(report["matrix_digest"], expected("untied")["matrix_digest"], "{commit}");
        assert_eq!(report["model"]["commit"], Value::Null, "{commit}");
    }
}

/// A header may claim a matrix of any size, and a server a file of any size with it.
#[test]
fn a_matrix_that_could_not_exist_is_refused() {
    for (shape, size, says) in [
        ("[4294967295,16777216]", 4_294_967_295u64 * 16_777_216, "rows, more than"),
        ("[400000000,1]", 400_000_000, "rows, more than"),
        ("[2,33554432]", 67_108_864, "a row has"),
    ] {
        let header = format!(
            r#"{{"lm_head.weight":{{"dtype":"U8","shape":{shape},"data_offsets":[0,{size}]}}}}"#
        );
        let prefix = file(&header, 0);
        let whole = prefix.len() as u64 + size;
        let model =
            Repository::new("org/m").generated("model.safetensors", whole, move |from, length| {
                let start = (from as usize).min(prefix.len());
                let mut bytes = prefix[start..(start + length).min(prefix.len())].to_vec();
                bytes.resize(length, 0);
                bytes.into()
            });
        let world = World::new(StandIn::builder().repository(model));
        refused(&world.run(&["org/m"]), says);
        refused(&world.run(&["inspect", "org/m"]), says);
        assert!(world.hub.bytes_sent() < 1 << 20);
    }
}

/// Work grows with what is read, not with its square.
#[test]
fn a_header_of_many_candidates_is_sorted_out_in_time() {
    let count = 30_000;
    let mut header = String::from("{");
    for number in 0..count {
        for name in ["unembed.weight", "embed_tokens.weight", "lm_head.weight"] {
            header += &format!(
                r#""{number}.{name}":{{"dtype":"U8","shape":[0,2],"data_offsets":[0,0]}},"#
            );
        }
    }
    header += r#""lm_head.weight":{"dtype":"U8","shape":[8,4],"data_offsets":[0,32]}}"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), file(&header, 32)).unwrap();
    let world = World::new(StandIn::builder());
    let began = std::time::Instant::now();
    refused(&world.run(&[folder.path().to_str().unwrap()]), "could both be the head");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}
