use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Host, Repository, StandIn};
use singularity_survey::vocabulary::{Beside, Form, Named};
use std::fs;
use std::path::{Path, PathBuf};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vocabularies").join(case)
}

/// Each case, and the file that its vocabulary is in.
const CASES: [(&str, &str); 12] = [
    ("bert-cased", "vocab.txt"),
    ("bert-uncased", "vocab.txt"),
    ("gpt2", "vocab.json"),
    ("gpt2-added", "vocab.json"),
    ("llama", "tokenizer.model"),
    ("qwen2", "vocab.json"),
    ("ranks", "tokenizer.model"),
    ("ranks-qwen", "qwen.tiktoken"),
    ("roberta", "vocab.json"),
    ("unigram", "spiece.model"),
    ("unknown-class", "vocab.json"),
    ("xlm-roberta", "sentencepiece.bpe.model"),
];

fn part(case: &str, file: &str) -> Option<Vec<u8>> {
    fs::read(folder(case).join(file)).ok()
}

/// What the libraries say of every id: its bytes in hex, its class and the cause.
fn expected_of(case: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder(case).join("expected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_id_spells_what_its_library_says_and_has_the_class_that_is_known() {
    let found = fs::read_dir(folder("")).unwrap().count();
    assert_eq!(found, CASES.len());
    for (case, file) in CASES {
        let bytes = |file: &str| part(case, file).map(Into::into);
        let beside = Beside {
            merges: bytes("merges.txt"),
            config: bytes("tokenizer_config.json"),
            added: bytes("added_tokens.json"),
            special: bytes("special_tokens_map.json"),
        };
        let named = Named::read(file, &part(case, file).unwrap(), &beside).unwrap();
        for (row, expected) in (0..).zip(expected_of(case)) {
            let token = named.token(row);
            let hex = token.bytes.clone().unwrap_or_else(|| hex(&token.text));
            let context = format!("{case}: {row} {token:?}");
            assert_eq!(hex, expected[0].as_str().unwrap_or_default(), "{context}");
            let class = token.class.map(|class| class.name());
            assert_eq!(json!(class), expected[1], "{context}");
            if !expected[2].is_null() {
                assert_eq!(serde_json::to_value(&token.cause).unwrap(), expected[2], "{context}");
            }
        }
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Weights with a row for each id, all the same but the first.
fn weights(case: &str) -> Vec<u8> {
    let rows = expected_of(case).len();
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"U8","shape":[{rows},2],"data_offsets":[0,{}]}}}}"#,
        2 * rows
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([1, 1]);
    file.resize(file.len() + 2 * (rows - 1), 0);
    file
}

/// A model of them with the files of a case.
fn model(case: &str) -> Repository {
    let mut repository = Repository::new("org/m").file("model.safetensors", weights(case));
    for entry in fs::read_dir(folder(case)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "expected.jsonl" {
            repository = repository.file(name, fs::read(&path).unwrap());
        }
    }
    repository
}

#[test]
fn a_repository_without_tokenizer_json_is_named_by_what_it_has_and_the_report_says_by_what() {
    for (case, file) in CASES {
        let world = World::new(StandIn::builder().repository(model(case)));
        let report = world.scan(&["org/m"]);
        assert_eq!(report["tokenizer"]["file"], file, "{case}");
        assert_eq!(report["warnings"], json!([]), "{case}");
        for token in report["duplicates"]["groups"][0]["tokens"].as_array().unwrap() {
            let expected = &expected_of(case)[token["row"].as_u64().unwrap() as usize];
            let hex =
                token["bytes"].as_str().map_or(hex(token["text"].as_str().unwrap()), str::to_owned);
            assert_eq!(hex, expected[0].as_str().unwrap_or_default(), "{case}: {token}");
        }
        // In the order in which they are looked for, none twice and none too many.
        let log = world.hub.log();
        let asked: Vec<&str> = log
            .iter()
            .filter(|request| request.host == Host::Hub && request.path().contains("/resolve/"))
            .map(|request| request.path().rsplit('/').next().unwrap())
            .filter(|name| !name.starts_with("model.") && *name != "config.json")
            .collect();
        let there = fs::read_dir(folder(case)).unwrap().count();
        assert!(asked.len() <= there, "{case}: {asked:?}");
        if case == "qwen2" {
            let names = ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"];
            assert_eq!(asked, names);
        }
    }
}

#[test]
fn a_vocabulary_may_be_given_as_a_file_a_folder_or_a_model() {
    for (case, file) in CASES {
        let world = World::new(StandIn::builder().repository(model(case)));
        let (at, inside) = (folder(case), folder(case).join(file));
        let alone = world.home.path().join("m.safetensors");
        fs::write(&alone, weights(case)).unwrap();
        let page = format!("{}/org/m/blob/main/{file}", world.hub.endpoint());
        let reports: Vec<Value> = [at.to_str().unwrap(), inside.to_str().unwrap(), "org/m", &page]
            .iter()
            .map(|given| world.scan(&[alone.to_str().unwrap(), "--tokenizer", given]))
            .collect();
        for report in &reports {
            assert_eq!(report["tokenizer"]["file"], file, "{case}");
            assert_eq!(report["duplicates"], reports[0]["duplicates"], "{case}");
        }
    }
}

#[test]
fn a_form_is_told_by_a_files_name() {
    for (file, form) in [
        ("a/vocab.json", Form::Pairs),
        ("tokenizer.json", Form::Json),
        ("words.txt", Form::Words),
        ("spiece.model", Form::Pieces),
        ("any.tiktoken", Form::Pieces),
        ("noname", Form::Json),
    ] {
        assert_eq!(Form::of(file), form, "{file}");
    }
}
