use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Action, Fault, Host, Nth, Repository, StandIn};

/// A safetensors file of these tensors, with rows of so many bytes each.
fn file<const BYTES: usize>(tensors: &[(&str, Vec<[u8; BYTES]>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, rows) in tensors {
        let start = data.len();
        data.extend(rows.concat());
        let entry = json!({"dtype": "U8", "shape": [rows.len(), BYTES], "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

/// Rows that all differ, the numbers of a range.
fn rows(numbers: std::ops::Range<u32>) -> Vec<[u8; 4]> {
    numbers.map(u32::to_le_bytes).collect()
}

fn tied(head: Vec<[u8; 4]>, embedding: Vec<[u8; 4]>) -> Repository {
    let weights = file(&[("lm_head.weight", head), ("model.embed_tokens.weight", embedding)]);
    Repository::new("org/m")
        .file("config.json", r#"{"tie_word_embeddings": true}"#)
        .file("model.safetensors", weights)
}

/// The ranges of weights that were asked for.
fn ranges(world: &World) -> usize {
    world.hub.log().iter().filter(|request| request.host == Host::Cdn).count()
}

#[test]
fn a_stored_head_that_a_flag_calls_tied_is_held_against_a_few_rows_of_the_embedding() {
    let mut changed = rows(0..1000);
    changed[999] = [9; 4];
    for (embedding, equal) in [(rows(0..1000), 8), (changed, 7), (rows(2000..3000), 0)] {
        let world = World::new(StandIn::builder().repository(tied(rows(0..1000), embedding)));
        let report = world.scan(&["org/m"]);
        let sample = json!({"tensor": "model.embed_tokens.weight", "rows": 8, "equal": equal});
        assert_eq!(report["matrix"]["sample"], sample);
        assert_eq!(report["matrix"]["tensor"], "lm_head.weight");
        let says = format!("{equal} of 8 sampled rows equal the embedding's");
        assert!(report["matrix"]["reason"].as_str().unwrap().contains(&says), "{report}");
        // One for the header, eight for the samples, one for the rows; and all are counted.
        assert_eq!(ranges(&world), 10);
        assert_eq!(report["transfer"]["requests"], world.hub.log().len());
        assert_eq!(report["transfer"]["bytes"], world.hub.bytes_sent());
    }
}

#[test]
fn a_small_head_is_compared_whole_and_one_of_another_shape_is_not() {
    let world = World::new(StandIn::builder().repository(tied(rows(0..5), rows(0..5))));
    let sample = &world.scan(&["org/m"])["matrix"]["sample"];
    assert_eq!((&sample["rows"], &sample["equal"]), (&json!(5), &json!(5)));
    assert_eq!(ranges(&world), 4);
    let world = World::new(StandIn::builder().repository(tied(rows(0..50), rows(0..60))));
    let report = world.scan(&["org/m"]);
    assert_eq!((&report["matrix"]["sample"], ranges(&world)), (&Value::Null, 2));
}

#[test]
fn a_flag_that_agrees_with_what_is_stored_costs_no_sample() {
    let repository =
        tied(rows(0..50), rows(0..50)).file("config.json", r#"{"tie_word_embeddings": false}"#);
    let world = World::new(StandIn::builder().repository(repository));
    let report = world.scan(&["org/m"]);
    assert_eq!((&report["matrix"]["sample"], ranges(&world)), (&Value::Null, 2));
}

#[test]
fn a_sample_that_cannot_be_read_fails_the_run() {
    let fault = Fault {
        on: Host::Cdn,
        path_end: String::new(),
        ranged: true,
        // The first range is the header's.
        nth: Nth::From(1),
        action: Action::status(404, "gone"),
    };
    let world =
        World::new(StandIn::builder().repository(tied(rows(0..50), rows(0..50))).fault(fault));
    for args in [&["org/m"][..], &["inspect", "org/m"]] {
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
}

/// A head and an embedding in two tensors each, over two shards.
fn split(more: Vec<[u8; 4]>) -> Repository {
    let shard = |number: u32| format!("model-0000{number}-of-00002.safetensors");
    let first = file(&[
        ("lm_head.weight", rows(0..300)),
        ("model.embed_tokens.weight", rows(0..300)),
        ("model.embed_tokens.additional_embedding.weight", more.clone()),
    ]);
    let second = file(&[("lm_head.additional_fc.weight", more)]);
    let map = json!({"metadata": {}, "weight_map": {
        "lm_head.weight": shard(1), "model.embed_tokens.weight": shard(1),
        "model.embed_tokens.additional_embedding.weight": shard(1),
        "lm_head.additional_fc.weight": shard(2)}});
    Repository::new("org/m")
        .file("config.json", r#"{"tie_word_embeddings": false}"#)
        .file("model.safetensors.index.json", map.to_string())
        .file(&shard(1), first)
        .file(&shard(2), second)
}

#[test]
fn a_head_split_over_tensors_is_read_as_one_matrix_in_order() {
    let more: Vec<[u8; 4]> = [7u32, 1000, 299].map(u32::to_le_bytes).to_vec();
    let whole = file(&[("lm_head.weight", [rows(0..300), more.clone()].concat())]);
    let whole = Repository::new("org/whole").file("model.safetensors", whole);
    let world = World::new(StandIn::builder().repository(split(more)).repository(whole));
    let digest = world.scan(&["org/whole"])["matrix_digest"].clone();
    for args in [vec!["org/m"], vec!["org/m", "--matrix", "embedding"]] {
        let report = world.scan(&args);
        assert_eq!(report["matrix"]["rows"], 303);
        assert_eq!(report["matrix_digest"], digest, "{args:?}");
        let groups: Vec<&Value> =
            report["duplicates"]["groups"].as_array().unwrap().iter().map(|g| &g["rows"]).collect();
        assert_eq!(groups, [&json!([7, 300]), &json!([299, 302])]);
        let parts = report["matrix"]["parts"].as_array().unwrap();
        assert_eq!((&parts[0]["rows"], &parts[1]["rows"]), (&json!([0, 300]), &json!([300, 303])));
    }
    let found = json(&world.run(&["inspect", "org/m", "--format", "json"]));
    assert_eq!(found["cost"]["requests"], 2);
    assert_eq!(found["matrix"]["parts"][1]["file"], "model-00002-of-00002.safetensors");
    let reason = found["matrix"]["reason"].as_str().unwrap();
    assert!(reason.contains("from 300 on are lm_head.additional_fc.weight"), "{reason}");
}

#[test]
fn a_split_head_is_read_alike_from_everywhere() {
    const FIRST: u32 = 9000;
    // Wide enough to be probed, and long enough for several segments, one of which holds the seam.
    let row = |number: u32| -> [u8; 512] {
        std::array::from_fn(|column| (number % 7001).to_le_bytes()[column % 4] ^ column as u8)
    };
    let rows = |rows: std::ops::Range<u32>| -> Vec<[u8; 512]> { rows.map(row).collect() };
    let parts =
        [("lm_head.weight", rows(0..FIRST)), ("lm_head.additional_fc.weight", rows(FIRST..9999))];
    let whole = file(&[("lm_head.weight", rows(0..9999))]);
    let world = World::new(
        StandIn::builder()
            .repository(Repository::new("org/m").file("model.safetensors", file(&parts)))
            .repository(Repository::new("org/whole").file("model.safetensors", whole)),
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), file(&parts)).unwrap();
    let local = folder.path().to_str().unwrap();
    let expected = world.scan(&["org/whole", "--profile"]);
    assert_eq!(expected["duplicates"]["groups_total"], 9999 - 7001);
    for model in [
        ["org/m", "--connections=1"],
        ["org/m", "--connections=5"],
        [local, "--threads=1"],
        [local, "--threads=3"],
    ] {
        let report = world.scan(&[&model[..], &["--profile"]].concat());
        for part in ["duplicates", "profile", "geometry", "matrix_digest"] {
            assert_eq!(report[part], expected[part], "{part} of {model:?}");
        }
    }
    let bare = world.scan(&["org/whole"]);
    let probed = world.scan(&[local, "--probe"]);
    assert_eq!(probed["duplicates"], bare["duplicates"]);
}

#[test]
fn an_inspection_says_what_looked_like_the_head_and_why_it_is_not() {
    let weights = file(&[
        ("lm_head.weight", rows(0..50)),
        ("model.embed_tokens.weight", rows(0..50)),
        ("model.layers.2.shared_head.head.weight", rows(0..50)),
        ("model.embed_tokens_per_layer.weight", rows(0..50)),
        ("talker.codec_head.weight", rows(0..50)),
        ("output.weight", rows(0..3)),
        ("a.b.lm_head.weight", rows(0..50)),
    ]);
    let config = r#"{"tie_word_embeddings": true, "text_config": {"tie_word_embeddings": false}}"#;
    let repository =
        Repository::new("org/m").file("config.json", config).file("model.safetensors", weights);
    let world = World::new(StandIn::builder().repository(repository));
    let found = json(&world.run(&["inspect", "org/m", "--format", "json"]));
    let verdict = |name: &str| {
        let all = found["candidates"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()["excluded_by"].clone()
    };
    assert_eq!((verdict("lm_head"), verdict("model.embed_tokens")), (Value::Null, Value::Null));
    for (name, why) in [
        ("model.layers.2.shared_head.head.weight", "numbered block"),
        ("model.embed_tokens_per_layer.weight", "no table of tokens"),
        ("talker.codec_head.weight", "another modality"),
        ("output", "3 rows do not fit"),
        ("a.b.lm_head.weight", "on no list"),
    ] {
        let said = verdict(name);
        assert!(said.as_str().is_some_and(|said| said.contains(why)), "{name}: {said}");
    }
    assert_eq!(found["candidates_left_out"], 0);
    assert_eq!(
        found["tie_flags"],
        json!([["tie_word_embeddings", true], ["text_config.tie_word_embeddings", false]])
    );
    let shown = world.run(&["inspect", "org/m"]);
    let shown = text(&shown.stdout);
    for line in ["lm_head - this is the head", "talker.codec_head.weight - not the head: it"] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn of_very_many_names_a_few_are_told_and_the_others_counted() {
    let odd = "model.layers.\u{1b}[2J\u{202e}.7.lm_head.weight";
    let mut names: Vec<String> =
        (0..30_000).map(|layer| format!("model.layers.{layer}.lm_head.weight")).collect();
    names.extend((0..500).map(|number| format!("a{number}.embed_tokens.weight")));
    names.extend(["lm_head.weight".to_owned(), odd.to_owned()]);
    let map: serde_json::Map<String, Value> =
        names.into_iter().map(|name| (name, json!("s.safetensors"))).collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    let repository = Repository::new("org/m")
        .file("model.safetensors.index.json", index)
        .file("s.safetensors", file(&[("lm_head.weight", rows(0..50)), (odd, rows(0..50))]));
    let world = World::new(StandIn::builder().repository(repository));
    let found = json(&world.run(&["inspect", "org/m", "--format", "json"]));
    let told = found["candidates"].as_array().unwrap().len() as u64;
    assert!(told <= 80, "{told}");
    assert_eq!(told + found["candidates_left_out"].as_u64().unwrap(), 30_502);
    let output = world.run(&["inspect", "org/m"]);
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("more such names"), "{shown}");
    assert!(shown.lines().count() < 60, "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
}
