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
    assert!(names.len() >= 23, "{names:?}");
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

/// The case's only file, its header changed, and its data.
fn changed_file(
    case: &str,
    change: impl Fn(&str) -> String,
    data: impl Fn(&Value, &mut [u8]),
) -> Vec<u8> {
    let file = std::fs::read(folder(case).join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = change(std::str::from_utf8(&file[8..8 + length]).unwrap());
    let mut rest = file[8 + length..].to_vec();
    data(&serde_json::from_str(&header).unwrap(), &mut rest);
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &rest].concat()
}

fn changed(
    case: &str,
    change: impl Fn(&str) -> String,
    data: impl Fn(&Value, &mut [u8]),
) -> Repository {
    let file = changed_file(case, change, data);
    let config = std::fs::read(folder(case).join("config.json")).unwrap();
    Repository::new(&format!("org/{case}"))
        .file("config.json", config)
        .file("model.safetensors", file)
}

/// Whether a token is a column there.
fn is_turned(case: &str) -> bool {
    case.starts_with("gptq") || case == "awq"
}

fn groups_of(report: &Value) -> Vec<&Value> {
    report["duplicates"]["groups"].as_array().unwrap().iter().map(|group| &group["rows"]).collect()
}

/// A report against what the quantiser's own library says.
fn agrees(case: &str, report: &Value, digest: bool) {
    let expected = expected_of(case);
    assert_eq!(json!(groups_of(report)), expected["groups"], "{case}");
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
        agrees(&case, &world.scan(&[local, "--probe"]), is_turned(&case));
    }
}

#[test]
fn codes_of_four_bits_may_lie_in_elements_of_any_type() {
    let case = "bitsandbytes-nf4";
    for (dtype, bytes) in [("BF16", 2), ("F16", 2), ("F32", 4), ("I8", 1)] {
        let header = |header: &str| {
            let mut header: Value = serde_json::from_str(header).unwrap();
            let codes = &mut header["lm_head.weight"];
            let count = codes["shape"][0].as_u64().unwrap() / bytes;
            codes["dtype"] = json!(dtype);
            codes["shape"] = json!([count, 1]);
            header.to_string()
        };
        let world = World::new(StandIn::builder().repository(changed(case, header, |_, _| {})));
        let model = format!("org/{case}");
        agrees(case, &world.scan(&[&model]), true);
        let values = world.scan(&[&model, "--equality", "values", "--profile"]);
        assert_eq!(json!(groups_of(&values)), expected_of(case)["groups"], "{dtype}");
        assert!(values["profile"].is_object());
    }
}

#[test]
fn a_module_that_an_adapter_has_wrapped_is_read_as_it_was() {
    for case in ["bitsandbytes-nf4", "bitsandbytes-int8", "gptq-4", "mlx-affine-3"] {
        let header = |header: &str| header.replace("\"lm_head.", "\"lm_head.base_layer.");
        let world = World::new(StandIn::builder().repository(changed(case, header, |_, _| {})));
        agrees(case, &world.scan(&[&format!("org/{case}")]), true);
    }
}

#[test]
fn a_shape_that_the_words_do_not_hold_is_refused() {
    let case = "compressed-tensors-int4";
    for columns in [0, 1, 1 << 20, 1 << 62, i64::MAX] {
        let shape = |header: &Value, data: &mut [u8]| {
            let tensor = &header["lm_head.weight_shape"];
            let at = tensor["data_offsets"][0].as_u64().unwrap() as usize;
            match tensor["dtype"].as_str().unwrap() {
                "I64" => data[at + 8..at + 16].copy_from_slice(&columns.to_le_bytes()),
                _ => data[at + 4..at + 8].copy_from_slice(&(columns as i32).to_le_bytes()),
            }
        };
        let repository = changed(case, str::to_owned, shape);
        let world = World::new(StandIn::builder().repository(repository));
        for equality in ["bits", "values"] {
            let output = world.run(&[&format!("org/{case}"), "--equality", equality]);
            refused(&output, "weight_shape");
        }
    }
}

#[test]
fn a_quantised_head_that_a_flag_calls_tied_is_held_against_the_embedding() {
    for (case, sampled) in [("mlx-affine-3", true), ("bitsandbytes-nf4", true), ("gptq-4", false)] {
        let both = |header: &str| header.to_owned();
        let twin = |header: &str| header.replace("\"lm_head.", "\"model.embed_tokens.");
        let head = changed_file(case, both, |_, _| {});
        let twin = changed_file(case, twin, |_, _| {});
        let mut map = serde_json::Map::new();
        for (file, shard) in [(&head, "a.safetensors"), (&twin, "b.safetensors")] {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let header: serde_json::Map<String, Value> =
                serde_json::from_slice(&file[8..8 + length]).unwrap();
            map.extend(header.into_iter().map(|(name, _)| (name, json!(shard))));
        }
        map.remove("__metadata__");
        let config = std::fs::read(folder(case).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["tie_word_embeddings"] = json!(true);
        let repository = Repository::new("org/m")
            .file("config.json", config.to_string())
            .file("model.safetensors.index.json", json!({"weight_map": map}).to_string())
            .file("a.safetensors", head)
            .file("b.safetensors", twin);
        let world = World::new(StandIn::builder().repository(repository));
        let report = world.scan(&["org/m"]);
        agrees(case, &report, true);
        let sample = &report["matrix"]["sample"];
        match sampled {
            true => {
                assert_eq!((&sample["rows"], &sample["equal"]), (&json!(8), &json!(8)), "{case}")
            }
            false => assert!(sample.is_null(), "{case}"),
        }
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

/// A case with another configuration.
fn configured(case: &str, config: Value) -> World {
    let config = json!({ "quantization_config": config }).to_string();
    World::new(StandIn::builder().repository(quantised(case).file("config.json", config)))
}

#[test]
fn codes_in_columns_are_refused_where_it_is_not_certain_how_they_lie() {
    for (case, config, words) in [
        (
            "gptq-4",
            json!({"quant_method": "gptq", "checkpoint_format": "marlin"}),
            "format 'marlin'",
        ),
        ("gptq-4", json!({"quant_method": "awq", "bits": 4}), "of no such shape"),
        ("gptq-3", json!({"quant_method": "gptq", "checkpoint_format": "gptq_p"}), "'gptq_p'"),
        ("awq", json!({"quant_method": "awq", "version": "gemv"}), "version 'gemv'"),
        ("awq", json!({"quant_method": "gptq", "bits": 4}), "of no such shape"),
    ] {
        let world = configured(case, config);
        refused(&world.run(&[&format!("org/{case}")]), words);
        refused(&world.run(&["inspect", &format!("org/{case}")]), words);
    }
    // What the configuration does not say, or says of other modules, the shapes do.
    for (case, config) in [
        ("gptq-4", json!({})),
        ("gptq-2", json!({})),
        ("awq", json!({})),
        ("gptq-4", json!({"quant_method": "gptq", "bits": 8})),
        ("gptq-8", json!({"quant_method": "gptq", "bits": 4})),
        ("gptq-4", json!({"quant_method": "gptq", "bits": 5})),
    ] {
        let world = configured(case, config);
        agrees(case, &world.scan(&[&format!("org/{case}")]), true);
    }
}

/// The case with this byte as all its zero points, a byte having so many.
fn with_zero_points(case: &str, byte: u8) -> Repository {
    let fill = |header: &Value, data: &mut [u8]| {
        let of = header["lm_head.qzeros"]["data_offsets"].as_array().unwrap();
        let [start, end] = [&of[0], &of[1]].map(|at| at.as_u64().unwrap() as usize);
        data[start..end].fill(byte);
    };
    changed(case, str::to_owned, fill)
}

#[test]
fn what_columns_stand_for_is_not_guessed() {
    let unknown = |world: &World, case: &str| {
        let model = format!("org/{case}");
        refused(&world.run(&[&model, "--equality", "values"]), "values are not known");
        let report = world.scan(&[&model, "--profile"]);
        assert_eq!((&report["profile"], &report["degenerate"]), (&Value::Null, &Value::Null));
        assert!(report["warnings"].to_string().contains("values are not known"), "{report}");
        assert_eq!(report["matrix_digest"], world.scan(&[&model])["matrix_digest"]);
    };
    // Nothing says which of its two formats GPTQ's is.
    unknown(&configured("gptq-4", json!({"bits": 4})), "gptq-4");
    // A group is beyond the last, the list of them is of nothing but zeros, or they are of another size.
    let groups = |value: u8| {
        changed("gptq-4", str::to_owned, move |header, data| {
            let start = header["lm_head.g_idx"]["data_offsets"][0].as_u64().unwrap() as usize;
            data[start..start + 512].fill(0);
            data[start] = value;
        })
    };
    unknown(&World::new(StandIn::builder().repository(groups(9))), "gptq-4");
    unknown(&World::new(StandIn::builder().repository(groups(0))), "gptq-4");
    unknown(&configured("awq", json!({"quant_method": "awq", "bits": 4, "group_size": 48})), "awq");
    // A zero point of the first format that the one above has no room for: readers differ.
    for byte in [0xff, 0x3f] {
        let wrapped = with_zero_points("gptq-4", byte);
        unknown(&World::new(StandIn::builder().repository(wrapped)), "gptq-4");
    }
    // In the second there is nothing above.
    let wide = with_zero_points("gptq-act-order", 0xff);
    let world = World::new(StandIn::builder().repository(wide));
    assert!(world.scan(&["org/gptq-act-order", "--profile"])["profile"].is_object());
}

#[test]
fn codes_that_stand_for_the_same_numbers_are_equal_by_value() {
    // Another zero point, and all codes as much above it: other bits, the same numbers.
    let case = "awq";
    let shifted = changed(case, str::to_owned, |header, data| {
        let place = |name: &str| header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        let (codes, zeros, scales) =
            (place("lm_head.qweight"), place("lm_head.qzeros"), place("lm_head.scales"));
        // Tokens 0 and 1 of 320; they are the first field and the fifth of the first word.
        let put = |data: &mut [u8], at: usize, token: usize, code: u8| {
            let byte = &mut data[at + token * 2];
            *byte = *byte & 0xf0 | code;
        };
        for input in 0..128 {
            let code = (input % 5) as u8 + 3;
            put(data, codes + input * 160, 0, code);
            put(data, codes + input * 160, 1, code + 2);
        }
        for group in 0..4 {
            put(data, zeros + group * 160, 0, 5);
            put(data, zeros + group * 160, 1, 7);
            data.copy_within(
                scales + group * 640..scales + group * 640 + 2,
                scales + group * 640 + 2,
            );
        }
    });
    let world = World::new(StandIn::builder().repository(shifted));
    let by = |equality: &str| world.scan(&["org/awq", "--profile", "--equality", equality]);
    let (bits, values, pair) = (by("bits"), by("values"), json!([0, 1]));
    assert!(!groups_of(&bits).contains(&&pair));
    assert!(groups_of(&values).contains(&&pair));
    // No copy of their codes is kept while they come, since their zero points differ: they are read again.
    let requests = |report: &Value| report["transfer"]["requests"].as_u64().unwrap();
    assert_eq!(requests(&values), requests(&bits) + 3);
    for group in values["duplicates"]["groups"].as_array().unwrap() {
        assert!(group["centroid_distance"].as_f64().unwrap() > 0.0, "{group}");
    }
    assert_eq!(values["geometry"]["groups"], 4);
}

#[test]
fn columns_with_numbers_that_are_none_are_told() {
    let odd = changed("gptq-4", str::to_owned, |header, data| {
        let start = header["lm_head.scales"]["data_offsets"][0].as_u64().unwrap() as usize;
        for (token, bits) in [(0, 0x7e00u16), (1, 0x7e00), (2, 0x7c00), (4, 0), (7, 0)] {
            for group in 0..4 {
                let at = start + (group * 300 + token) * 2;
                data[at..at + 2].copy_from_slice(&bits.to_le_bytes());
            }
        }
    });
    let world = World::new(StandIn::builder().repository(odd));
    let report = world.scan(&["org/gptq-4", "--equality", "values", "--profile"]);
    let degenerate = &report["degenerate"];
    assert_eq!(degenerate["zero"], json!([4, 7]), "{degenerate}");
    assert!(groups_of(&report).contains(&&json!([4, 7])));
    assert!(!groups_of(&report).contains(&&json!([0, 1])));
    assert!(report["profile"]["row_norms"][0].is_null(), "{}", report["profile"]["row_norms"][0]);
    // A code at its zero point is infinity times nothing.
    assert_eq!(degenerate["infinite"], json!([2]), "{degenerate}");
    assert_eq!(degenerate["nan"], json!([0, 1, 2]), "{degenerate}");
}

#[test]
fn a_tensor_of_codes_in_columns_is_read_by_its_name() {
    let world = World::new(StandIn::builder().repository(quantised("gptq-4")));
    let tensor = world.scan(&["org/gptq-4", "--tensor", "lm_head.qweight"]);
    assert_eq!(tensor["matrix"]["rows"], 16);
}

#[test]
fn an_input_embedding_with_tokens_side_by_side_in_words_is_refused() {
    let file = std::fs::read(folder("gptq-4").join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&file[8..8 + length]).unwrap();
    let header = header.replace("lm_head.", "model.embed_tokens.");
    let mut other = (header.len() as u64).to_le_bytes().to_vec();
    other.extend(header.bytes());
    other.extend(&file[8 + length..]);
    let model = Repository::new("org/m").file("model.safetensors", other);
    let world = World::new(StandIn::builder().repository(model));
    refused(&world.run(&["org/m"]), "tokens side by side");
    refused(&world.run(&["org/m", "--matrix", "embedding"]), "tokens side by side");
}

#[test]
fn what_is_found_in_columns_is_kept() {
    let world = World::new(StandIn::builder().repository(quantised("awq")));
    let store = world.home.path().join("store");
    let store = format!("--store={}", store.display());
    let scan = || world.scan(&["org/awq", &store]);
    let first = scan();
    assert_ne!(first["transfer"]["stored"], true);
    let again = scan();
    assert_eq!(again["transfer"]["stored"], true);
    assert_eq!(again["duplicates"], first["duplicates"]);
}
