use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Repository, StandIn};

/// Holds what was found against what is expected, wherever the latter says something: numbers to
/// within 1e-12 of `scale`, or of themselves where that is more.
fn close(found: &Value, expected: &Value, scale: f64, context: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (name, value) in expected {
                close(&found[name], value, scale, &format!("{context}.{name}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{context}");
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                close(found, expected, scale, &format!("{context}[{at}]"));
            }
        }
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            let most = 1e-12 * scale.max(expected.abs());
            assert!((found - expected).abs() <= most, "{context}: {found} is not {expected}");
        }
        _ => assert_eq!(found, expected, "{context}"),
    }
}

/// The numbers of one report against those of the oracle.
fn agree_on_numbers(report: &Value, expected: &Value, equality: &str, context: &str) {
    let (found, wanted) = (&report["profile"], &expected["profile"]);
    // Sums of numbers of either sign are as exact as their terms.
    let scale = wanted["norms"]["max"].as_f64().unwrap_or(0.0);
    for name in ["norms", "zero", "near_zero", "nan", "infinite", "row_norms"] {
        // Each norm by itself; a deviation may be of equal numbers.
        let scale = if name == "norms" { scale } else { 0.0 };
        close(&found[name], &wanted[name], scale, &format!("{context}: {name}"));
    }
    close(&found["centroid"], &wanted["centroid"], scale, &format!("{context}: centroid"));
    let bins = match found["norms"]["min"] == found["norms"]["max"] {
        true => json!(found["histogram"]["bins"].as_array().map(|bins| [bins.last()])),
        false => found["histogram"]["bins"].clone(),
    };
    assert_eq!(bins, wanted["histogram"], "{context}: histogram");
    let classes = found["classes"].as_array().unwrap();
    let wanted = wanted["classes"].as_object().unwrap();
    assert_eq!(classes.len(), wanted.len(), "{context}");
    for class in classes {
        let name = class["class"].as_str().unwrap();
        close(class, &wanted[name], scale, &format!("{context}: {name}"));
    }

    let wanted = &expected["geometry"][equality];
    close(&report["geometry"], &wanted["figures"], scale, &format!("{context}: geometry"));
    let groups = report["duplicates"]["groups"].as_array().unwrap();
    let far: Value = groups.iter().map(|group| group["centroid_distance"].clone()).collect();
    close(&far, &wanted["centroid_distances"], scale, &format!("{context}: distances"));
    for group in groups {
        let row = group["rows"][0].as_u64().unwrap() as usize;
        assert_eq!(group["norm"], report["profile"]["row_norms"][row], "{context}");
    }
}

#[test]
fn the_numbers_of_every_fixture_are_the_oracles() {
    let all = cases().iter().fold(StandIn::builder(), |b, case| b.repository(repository(case)));
    let world = World::new(all.chunk(1000));
    let mut seen = 0;
    let models = |case: &str| [fixture(case).to_str().unwrap().to_owned(), format!("org/{case}")];
    for case in cases() {
        let expected = expected(&case);
        if expected.get("profile").is_none() {
            continue;
        }
        for (model, equality) in models(&case).iter().zip(["bits", "values"]) {
            let report = world.scan(&[model, "--profile", "--equality", equality]);
            agree_on_numbers(&report, &expected, equality, &format!("{case} by {equality}"));
            seen += 1;
        }
    }
    assert!(seen >= 70, "{seen}");
}

/// A checkpoint of one tensor and nothing else.
fn one_tensor(id: &str, dtype: &str, shape: [usize; 2], data: &[u8]) -> Repository {
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{}]}}}}"#,
        data.len()
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    Repository::new(id).file("model.safetensors", bytes)
}

#[test]
fn the_last_bit_of_every_sum_is_the_same_for_any_chunking_and_number_of_streams() {
    // Magnitudes far apart, so that another order of adding up would show.
    let (rows, columns) = (5_000, 137);
    let mut state = 1u64;
    let value = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as f64 - 1e9) * 10f64.powi((state >> 40) as i32 % 20 - 30)
    };
    let data: Vec<u8> = (0..rows * columns).map(value).flat_map(f64::to_le_bytes).collect();
    let mut seen: Option<Value> = None;
    for chunk in [1013, 64 << 10] {
        let repository = one_tensor("org/m", "F64", [rows, columns], &data);
        let world = World::new(StandIn::builder().repository(repository).chunk(chunk));
        for connections in ["1", "3", "8"] {
            let mut report = world.scan(&["org/m", "--profile", "--connections", connections]);
            report["transfer"].take();
            assert_eq!(&report, seen.get_or_insert_with(|| report.clone()));
        }
    }
    // The oracle here: each column added up with its error kept beside.
    let report = seen.unwrap();
    for column in [0, 1, columns - 1] {
        let (mut sum, mut error) = (0.0f64, 0.0f64);
        for row in 0..rows {
            let at = 8 * (row * columns + column);
            let value = f64::from_le_bytes(data[at..at + 8].try_into().unwrap());
            let next = sum + value;
            error +=
                if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
            sum = next;
        }
        let exact = (sum + error) / rows as f64;
        let found = report["profile"]["centroid"]["vector"][column].as_f64().unwrap();
        let scale = report["profile"]["norms"]["max"].as_f64().unwrap();
        assert!((found - exact).abs() <= 1e-15 * scale, "{found} is not {exact}");
    }
}

#[test]
fn vectors_that_were_not_kept_are_read_again_and_give_the_same_figures() {
    // Rows of a mebibyte: 24 pairs, more than are kept, and then the largest group.
    let row_bytes = 1usize << 20;
    let value = |row: usize| if row < 48 { row / 2 } else { 30 };
    let data: Vec<u8> =
        (0..52).flat_map(|row| (0..row_bytes).map(move |i| (value(row) + i % 7) as u8)).collect();
    let repository = one_tensor("org/m", "U8", [52, row_bytes], &data);
    let world = World::new(StandIn::builder().repository(repository));
    let plain = world.scan(&["org/m", "--connections", "1"]);
    let found = world.scan(&["org/m", "--connections", "1", "--profile"]);
    let again = |report: &Value| report["transfer"]["bytes"].as_u64().unwrap();
    assert_eq!(again(&found) - again(&plain), row_bytes as u64, "the largest group alone");
    let geometry = &found["geometry"];
    // Four vectors of a million columns are compared.
    assert_eq!((&geometry["groups_total"], &geometry["groups"]), (&json!(25), &json!(4)));
    assert_eq!(geometry["pairs"], 6);
    assert_eq!(geometry["linf"]["max"], 30.0);
    assert_eq!(geometry["linf_ulp"], Value::Null);
    let far = |at: usize| found["duplicates"]["groups"][at]["centroid_distance"].clone();
    assert!(far(3).is_number() && far(4).is_null());
    assert!(found["duplicates"]["groups"][24]["norm"].is_number());
}

#[test]
fn both_matrices_are_held_against_each_other_row_by_row() {
    let world = World::of("untied");
    let expected = expected("untied");
    let both = world.scan(&["org/untied", "--matrix", "both"]);
    let members = |of: &Value| -> Vec<u64> {
        let groups = of["bits"]["groups"].as_array().unwrap().iter();
        let mut rows: Vec<u64> = groups
            .flat_map(|group| group["rows"].as_array().unwrap())
            .map(|row| row.as_u64().unwrap())
            .collect();
        rows.sort_unstable();
        rows
    };
    let (head, embedding) = (members(&expected), members(&expected["embedding"]));
    let cells = both["cross"]["cells"].as_array().unwrap();
    let cell = |head: &str, embedding: &str| {
        cells.iter().find(|cell| cell["unembedding"] == head && cell["embedding"] == embedding)
    };
    let shared: Vec<u64> = head.iter().filter(|row| embedding.contains(row)).copied().collect();
    let alone: Vec<u64> = head.iter().filter(|row| !embedding.contains(row)).copied().collect();
    assert!(!shared.is_empty() && !alone.is_empty());
    assert_eq!(cell("in-group", "in-group").unwrap()["rows"], json!(shared));
    assert_eq!(cell("in-group", "alone").unwrap()["rows"], json!(alone));
    assert!(cell("alone", "in-group").is_none());
    let all: u64 = cells.iter().map(|cell| cell["count"].as_u64().unwrap()).sum();
    assert_eq!(all, both["cross"]["rows"]);
    for cell in cells {
        let classes = cell["classes"].as_array().unwrap();
        let classed: u64 = classes.iter().map(|class| class["rows"].as_u64().unwrap()).sum();
        assert_eq!(classed, cell["rows"].as_array().unwrap().len() as u64);
    }

    let lines = world.run(&["org/untied", "--matrix", "both", "--format", "jsonl"]);
    let last: Value = serde_json::from_str(text(&lines.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["cells"]), (&json!("cross"), &both["cross"]["cells"]));

    let shown = world.run(&["org/untied", "--matrix", "both"]);
    assert!(text(&shown.stdout).contains("\nin-group / alone, "), "{}", text(&shown.stdout));
    let tied = World::of("tied").scan(&["org/tied", "--matrix", "both"]);
    assert_eq!(tied["cross"], Value::Null);
}

#[test]
fn rows_that_are_zero_in_one_matrix_are_told_from_those_in_a_group() {
    let bytes = |rows: [[f32; 2]; 5]| -> Vec<u8> {
        rows.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let head = bytes([[0.0, -0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [2.0, 1.0]]);
    let embedding = bytes([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 1.0]]);
    let header = r#"{"lm_head.weight":{"dtype":"F32","shape":[5,2],"data_offsets":[0,40]},
        "model.embed_tokens.weight":{"dtype":"F32","shape":[5,2],"data_offsets":[40,80]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(head.into_iter().chain(embedding));
    let world = World::new(
        StandIn::builder().repository(Repository::new("org/m").file("model.safetensors", file)),
    );
    let both = world.scan(&["org/m", "--matrix", "both", "--no-tokenizer"]);
    let cells: Vec<Value> = both["cross"]["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| json!([cell["unembedding"], cell["embedding"], cell["count"], cell["rows"]]))
        .collect();
    let expected = [
        json!(["alone", "alone", 1, []]),
        json!(["in-group", "alone", 1, [2]]),
        json!(["in-group", "zero", 1, [1]]),
        json!(["zero", "alone", 1, [0]]),
        json!(["zero", "zero", 1, [3]]),
    ];
    assert_eq!(cells, expected);
    // Zeros were counted for this table; what was not asked for is not reported.
    assert_eq!(both["reports"][0]["profile"], Value::Null);
}

#[test]
fn classes_are_held_against_the_rows_that_are_zero() {
    let world = World::of("padded-vocabulary");
    let report = world.scan(&["org/padded-vocabulary", "--classes"]);
    let zero = expected("padded-vocabulary")["profile"]["zero"].as_array().unwrap().len() as u64;
    let table = report["classes"]["table"].as_array().unwrap();
    assert_eq!(table.iter().map(|line| line["zero"].as_u64().unwrap()).sum::<u64>(), zero);
    assert_eq!(report["profile"], Value::Null);
}

#[test]
fn the_numbers_fit_a_terminal() {
    let world = World::of("padded-vocabulary");
    for format in ["text", "markdown"] {
        let output = world.run(&["org/padded-vocabulary", "--profile", "--format", format]);
        let shown = text(&output.stdout);
        for part in ["Norms of the rows (L2):", "Mean of all rows (centroid): L2 ", "\nVectors of "]
        {
            assert!(shown.contains(part), "{part} not in {shown}");
        }
        let narrow = |line: &&str| !line.starts_with(['|', '>', '-']) && !line.contains("Token");
        assert!(shown.lines().filter(narrow).all(|line| line.chars().count() <= 80), "{shown}");
    }
}
