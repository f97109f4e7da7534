use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Host, Repository, StandIn};
use std::path::{Path, PathBuf};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pytorch").join(case)
}

fn cases() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<_> = names
        .map(|name| {
            let expected = std::fs::read(folder(&name).join("expected.json")).unwrap();
            (name, serde_json::from_slice(&expected).unwrap())
        })
        .collect();
    cases.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
    assert!(cases.len() >= 16);
    cases
}

fn model(case: &str) -> Repository {
    let mut repository = Repository::new("org/m");
    for entry in std::fs::read_dir(folder(case)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "expected.json" {
            repository = repository.file(name, std::fs::read(&path).unwrap());
        }
    }
    repository
}

/// A report against what torch says.
fn agrees(case: &str, report: &Value, expected: &Value) {
    let groups: Vec<&Value> =
        report["duplicates"]["groups"].as_array().unwrap().iter().map(|g| &g["rows"]).collect();
    assert_eq!(json!(groups), expected["groups"], "{case}");
    for part in ["rows", "columns", "row_bytes"] {
        assert_eq!(report["matrix"][part], expected[part], "{case}: {part}");
    }
    assert_eq!(report["matrix_digest"], expected["matrix_digest"], "{case}");
}

#[test]
fn rows_are_those_that_torch_loads_from_everywhere() {
    for (case, expected) in cases() {
        let world = World::new(StandIn::builder().chunk(333).repository(model(&case)));
        let file = expected["file"].as_str().unwrap();
        let local = folder(&case);
        let (inside, local) = (local.join(file), local.to_str().unwrap());
        let named: Vec<Vec<&str>> = match file.starts_with("pytorch_model") {
            true => vec![
                vec!["org/m"],
                vec!["org/m", "--connections", "1"],
                vec![local, "--threads", "2"],
                vec![inside.to_str().unwrap()],
            ],
            // Whether that is the model, nothing says.
            false => vec![vec!["org/m", "--file", file], vec![inside.to_str().unwrap()]],
        };
        for arguments in named {
            match expected["refused"].as_str() {
                Some(words) => refused(&world.run(&arguments), words),
                None => agrees(&case, &world.scan(&arguments), &expected),
            }
        }
        if !file.starts_with("pytorch_model") {
            refused(&world.run(&["org/m"]), &format!("{file}: name it with --file"));
        }
    }
}

/// A zip archive of stored members, in the order given.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (offset, size) = (file.len() as u32, (content.len() as u32).to_le_bytes());
        let common = [
            &[0; 2][..], // flags
            &[0; 2],     // stored
            &[0; 8],     // time and checksum
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        file.extend([b"PK\x03\x04\x0a\0", &common[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x0a\0\x0a\0", &common[..], &[0; 10]].concat());
        directory.extend([&offset.to_le_bytes()[..], name.as_bytes()].concat());
    }
    let (count, start) = ((members.len() as u16).to_le_bytes(), file.len() as u32);
    let size = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start.to_le_bytes()].concat());
    file.extend([0; 2]);
    file
}

/// A pickle of tensors of bytes: their names, storages and sides.
fn pickle(tensors: &[(&str, &str, [u32; 2])]) -> Vec<u8> {
    let text =
        |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let number = |number: u32| [b"J", &number.to_le_bytes()[..]].concat();
    let mut bytes = b"\x80\x02}(".to_vec();
    for (name, key, [rows, columns]) in tensors {
        let storage = [text("storage"), b"ctorch\nByteStorage\n".to_vec(), text(key), text("cpu")];
        let sides = [number(*rows), number(*columns), b"\x86".to_vec()].concat();
        let strides = [number(*columns), number(1), b"\x86".to_vec()].concat();
        bytes.extend([text(name), b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec()].concat());
        bytes.extend([storage.concat(), number(rows * columns), b"tQ".to_vec()].concat());
        bytes.extend([number(0), sides, strides, b"\x89}tR".to_vec()].concat());
    }
    bytes.extend(b"u.");
    bytes
}

#[test]
fn no_more_than_the_directory_the_pickle_and_the_matrix_is_read() {
    let tensors = [
        ("model.embed_tokens.weight", "0", [20_000, 64]),
        ("model.layers.0.weight", "1", [4_000, 1000]),
        ("lm_head.weight", "2", [20_000, 64]),
    ];
    let [other, large] = [vec![1; 1_280_000], vec![2; 4_000_000]];
    let mut rows: Vec<u8> =
        (0..20_000u64).flat_map(|row| [row.to_le_bytes(); 8].concat()).collect();
    rows.copy_within(64..128, 640);
    let file = archive(&[
        ("m/data.pkl", &pickle(&tensors)),
        ("m/byteorder", b"little"),
        ("m/data/0", &other),
        ("m/data/1", &large),
        ("m/data/2", &rows),
    ]);
    let model = Repository::new("org/m").file("pytorch_model.bin", file);
    let world = World::new(StandIn::builder().repository(model));
    let report = world.scan(&["org/m", "--connections", "1"]);
    assert_eq!(report["duplicates"]["groups"][0]["rows"], json!([1, 10]));
    let log = world.hub.log();
    let ranges = log.iter().filter(|request| request.host == Host::Cdn);
    let sent: Vec<u64> = ranges.map(|request| request.sent).collect();
    // The end, the pickle with the byte order, the head's own header, and the rows.
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(sent.iter().sum::<u64>() < rows.len() as u64 + (140 << 10), "{sent:?}");
}

#[test]
fn what_is_not_in_little_endian_order_is_refused() {
    let pickle = pickle(&[("lm_head.weight", "0", [2, 2])]);
    for (order, words) in [("big", Some("little-endian")), ("little", None)] {
        let members = [
            ("m/data.pkl", &pickle[..]),
            ("m/data/0", b"abab"),
            ("m/data/1", &[0; 400_000]),
            ("m/byteorder", order.as_bytes()),
        ];
        let model = Repository::new("org/m").file("pytorch_model.bin", archive(&members));
        let world = World::new(StandIn::builder().repository(model));
        match words {
            Some(words) => refused(&world.run(&["org/m"]), words),
            None => assert_eq!(world.scan(&["org/m"])["duplicates"]["members"], 2),
        }
    }
}

#[test]
fn what_a_pickle_says_of_storages_is_held_against_the_archive() {
    let head = |key: &str, sides| pickle(&[("lm_head.weight", key, sides)]);
    for (pickle, data, words) in [
        (head("7", [2, 2]), "m/data/0", "has no storage"),
        (head("0", [3, 2]), "m/data/0", "another size"),
        (head("0", [u32::MAX >> 1, 2]), "m/data/0", "none that PyTorch writes"),
        (head("../x", [2, 2]), "m/data/0", "has no storage"),
        (head("0", [2, 2]), "other/data/0", "has no storage"),
        (b"\x80\x02cos\nsystem\nX\x01\0\0\0a\x85R.".to_vec(), "m/data/0", "os.system"),
    ] {
        let members = [("m/data.pkl", &pickle[..]), (data, b"abab")];
        let model = Repository::new("org/m").file("pytorch_model.bin", archive(&members));
        let world = World::new(StandIn::builder().repository(model));
        refused(&world.run(&["org/m"]), words);
    }
}

#[test]
fn a_head_that_is_one_storage_with_the_embedding_is_tied_to_it() {
    let tied = model("tied").file("config.json", r#"{"tie_word_embeddings": true}"#);
    let world = World::new(StandIn::builder().repository(tied));
    let matrix = world.scan(&["org/m"])["matrix"].clone();
    assert_eq!((&matrix["tied"], &matrix["sample"]), (&json!(true), &Value::Null));
    assert!(matrix["reason"].as_str().unwrap().contains("are stored as one"), "{matrix}");
}

#[test]
fn safetensors_go_before_it_and_it_goes_before_gguf() {
    let gguf = std::fs::read(folder("../gguf/q8_0.gguf")).unwrap();
    let both = model("untied").file("m.gguf", gguf);
    let world = World::new(StandIn::builder().repository(both));
    let report = world.scan(&["org/m"]);
    assert_eq!(report["matrix"]["file"], "pytorch_model.bin");
    assert!(report["warnings"].to_string().contains("pytorch_model.bin is read"));
    assert_eq!(world.scan(&["org/m", "--file", "m.gguf"])["matrix"]["file"], "m.gguf");
    let bin = std::fs::read(folder("untied").join("pytorch_model.bin")).unwrap();
    let all = repository("untied").file("config.json", "{}").file("pytorch_model.bin", bin);
    let world = World::new(StandIn::builder().repository(all));
    assert_eq!(world.scan(&["org/untied"])["matrix"]["file"], "model.safetensors");
    let named = world.scan(&["org/untied", "--file", "pytorch_model.bin"]);
    assert_eq!(named["matrix"]["file"], "pytorch_model.bin");
}

#[test]
fn damaged_files_are_refused_or_read_as_they_were() {
    let path = folder("untied").join("pytorch_model.bin");
    let whole = std::fs::read(&path).unwrap();
    let world = World::new(StandIn::builder());
    let at = world.home.path().join("m.bin");
    let path = at.to_str().unwrap();
    let expected = cases().into_iter().find(|(case, _)| case == "untied").unwrap().1;
    let scan = |bytes: &[u8]| {
        std::fs::write(&at, bytes).unwrap();
        world.run(&[path, "--format", "json", "--no-tokenizer"])
    };
    for cut in [0, 1, 21, 22, 500, whole.len() / 2, whole.len() - 1] {
        refused(&scan(&whole[..cut]), "zip archive");
    }
    // The name of a member's own header, and its directory's.
    for (found, wrong) in [(&b"PK\x03\x04"[..], b"PK\x03\x05"), (b"PK\x01\x02", b"PK\x01\x03")] {
        let mut bytes = whole.clone();
        let places: Vec<usize> =
            (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(found)).collect();
        for at in places {
            bytes[at..at + 4].copy_from_slice(wrong);
        }
        refused(&scan(&bytes), "m.bin");
    }
    let output = scan(&whole);
    agrees("untied", &json(&output), &expected);
}
