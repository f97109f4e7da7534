use super::support::*;
use singularity_survey::standin::{Repository, StandIn};
use std::process::{Child, Command, Stdio};

/// The most memory that the process has held so far, by the operating system's own figure.
fn peak_kilobytes(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn a_matrix_far_larger_than_the_bound_is_scanned_within_it() {
    // 256 MB of rows in 48 MB: 32 bytes of digest for each of the 16,384 rows, a chunk and a seam
    // row for each of eight streams, and the program itself.
    const BOUND: u64 = 48 << 10;
    let (rows, row_bytes) = (16_384u64, 16_384u64);
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"BF16","shape":[{rows},{}],"data_offsets":[0,{}]}}}}"#,
        row_bytes / 2,
        rows * row_bytes
    );
    let mut prefix = (header.len() as u64).to_le_bytes().to_vec();
    prefix.extend(header.bytes());
    let start = prefix.len() as u64;
    let repository = Repository::new("org/wide").generated(
        "model.safetensors",
        start + rows * row_bytes,
        move |from, length| match from {
            0 => {
                let mut bytes = prefix.clone();
                bytes.resize(length.max(prefix.len()), 0);
                bytes.truncate(length);
                bytes.into()
            }
            _ => vec![0; length].into(),
        },
    );
    let world = World::new(StandIn::builder().repository(repository));
    let path = world.home.path().join("report.json");
    let output = format!("json:{}", path.display());
    let peak = peak_of(world.command(&["org/wide", "-q", "-o", &output]));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["duplicates"]["largest"], rows);
    assert!(peak > 1024 && peak < BOUND, "{peak} kB");
}

/// The peak of a run that has to succeed.
fn peak_of(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(peak_kilobytes(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The longest header that the format allows. Its text is held, and a record of each tensor: in all
/// not four times the text, whether it has a million tensors or, as here for the sake of time, fewer
/// with longer names.
#[test]
fn the_longest_header_is_read_within_four_times_its_length() {
    const LENGTH: usize = 100_000_000;
    let mut header = String::with_capacity(LENGTH);
    header += r#"{"lm_head.weight":{"dtype":"BF16","shape":[64,64],"data_offsets":[0,8192]}"#;
    let mut end = 8192;
    let path = "transformer.".repeat(40);
    loop {
        let (layer, expert) = (end / 512, end % 512);
        let next = end + 1;
        let entry = format!(
            r#","{path}layers.{layer}.mlp.experts.{expert}.gate.weight":{{"dtype":"U8","shape":[1],"data_offsets":[{end},{next}]}}"#
        );
        if header.len() + entry.len() >= LENGTH {
            break;
        }
        header += &entry;
        end = next;
    }
    header += "}";
    header += &" ".repeat(LENGTH - header.len());
    let mut bytes = (LENGTH as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.resize(bytes.len() + end, 0);
    let (served, size) = (bytes::Bytes::from(bytes), LENGTH as u64 + 8 + end as u64);
    let repository =
        Repository::new("org/long").generated("model.safetensors", size, move |from, length| {
            served.slice(from as usize..from as usize + length)
        });
    let world = World::new(StandIn::builder().repository(repository));
    let peak = peak_of(world.command(&["inspect", "org/long", "-q"])) << 10;
    assert!(peak > LENGTH as u64 && peak < 4 * LENGTH as u64, "{peak} bytes");
}

/// As long as the longest index known: half a million tensors, 60 MB.
#[test]
fn an_index_of_half_a_million_tensors_is_read_within_a_few_times_its_length() {
    const BOUND: u64 = 192 << 10;
    let shard = |number: u32| format!("model-{number:05}-of-00200.safetensors");
    let mut index = String::from(r#"{"metadata":{"total_size":1,"x":[0]},"weight_map":{"#);
    for number in 0..500_000 {
        let (layer, expert) = (number / 1500, number % 1500);
        index += &format!(
            r#""model.language_model.layers.{layer}.block_sparse_moe.experts.{expert}.weight_scale_inv":"{}","#,
            shard(number / 2500 + 1)
        );
    }
    index += &format!(r#""lm_head.weight":"{}"}}}}"#, shard(1));
    assert!(index.len() > 55_000_000);
    let rows = r#"{"lm_head.weight":{"dtype":"U8","shape":[8,4],"data_offsets":[0,32]}}"#;
    let mut bytes = (rows.len() as u64).to_le_bytes().to_vec();
    bytes.extend(rows.bytes());
    bytes.extend([0; 32]);
    let repository = Repository::new("org/many")
        .file("model.safetensors.index.json", index)
        .file(&shard(1), bytes);
    let world = World::new(StandIn::builder().repository(repository));
    let peak = peak_of(world.command(&["org/many", "-q", "--no-tokenizer"]));
    assert!(peak < BOUND, "{peak} kB");
}
