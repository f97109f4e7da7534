use super::support::*;
use singularity_survey::standin::StandIn;
use std::process::{Child, Stdio};

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
    let repository = singularity_survey::standin::Repository::new("org/wide").generated(
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
    let mut child =
        world.command(&["org/wide", "-q", "-o", &output]).stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_kilobytes(&child).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["duplicates"]["largest"], rows);
    assert!(peak > 1024 && peak < BOUND, "{peak} kB");
}
