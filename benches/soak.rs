//! A scan of a matrix far larger than memory, over a network that keeps breaking:
//!
//! ```console
//! $ cargo bench --bench soak              # 21.5 GB, about a minute
//! $ cargo bench --bench soak -- 100       # so many GB
//! $ cargo bench --bench soak -- 20 calm   # nothing goes wrong: how fast it can be
//! $ cargo bench --bench soak -- 20 2048   # rows of so many bytes, 16,384 else
//! ```
//!
//! A stand-in makes the matrix as it is read; nothing is stored. One request in five goes wrong: it is
//! refused, reset, cut off, stalled, slowed, answered by 429 or 503, by the wrong range, by less than
//! was asked for, or by a link that has expired. The program itself scans it over 8 connections, as a
//! process of its own whose memory the operating system tells. Ends with an error where the report is
//! not the right one or the memory is not flat.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use singularity_survey::analysis::Digest;
use singularity_survey::standin::{Action, Fault, Host, Nth, Repository, StandIn};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Each so many rows are the same.
const EVERY: u64 = 50;

/// One request in so many goes wrong in one of these ways.
const RATE: u64 = 90;

/// The pattern, with the row's number over its first bytes.
fn stamp(pattern: &[u8], row: u64, out: &mut Vec<u8>) {
    let number = if row.is_multiple_of(EVERY) { 0 } else { row };
    let at = out.len();
    out.extend_from_slice(pattern);
    out[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn pattern(row_bytes: u64) -> Vec<u8> {
    (0..row_bytes).map(|column| (column * 31 + column / 256) as u8).collect()
}

fn model(rows: u64, row_bytes: u64) -> Repository {
    let end = rows * row_bytes;
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"BF16","shape":[{rows},{}],"data_offsets":[0,{end}]}}}}"#,
        row_bytes / 2
    );
    let mut prefix = (header.len() as u64).to_le_bytes().to_vec();
    prefix.extend(header.bytes());
    let (start, pattern) = (prefix.len() as u64, pattern(row_bytes));
    Repository::new("soak/model").file("config.json", "{}").generated(
        "model.safetensors",
        start + end,
        move |from, length| {
            let to = from + length as u64;
            let mut bytes = Vec::with_capacity(length + 2 * row_bytes as usize);
            if from < start {
                bytes.extend_from_slice(&prefix[from as usize..to.min(start) as usize]);
            }
            let at = from.max(start);
            if at < to {
                let (first, skip) = ((at - start) / row_bytes, (at - start) % row_bytes);
                let kept = bytes.len();
                (first..=(to - 1 - start) / row_bytes)
                    .for_each(|row| stamp(&pattern, row, &mut bytes));
                bytes.drain(kept..kept + skip as usize);
                bytes.truncate(length);
            }
            bytes.into()
        },
    )
}

fn faults() -> Vec<Fault> {
    let told = |code, name: &str, value: &str| Action::Status {
        code,
        headers: vec![(name.to_owned(), value.to_owned())],
        body: "not now".to_owned(),
    };
    let actions = [
        Action::Refuse,
        Action::ResetBeforeHeaders,
        Action::StallBeforeHeaders,
        Action::empty(),
        Action::Break { after: 1_000_003 },
        Action::Break { after: 9_999_991 },
        Action::Reset { after: 5_000_011 },
        Action::Reset { after: 70_001 },
        Action::Stall { after: 3_000_017 },
        Action::Drip { bytes: 100, every: Duration::from_millis(400) },
        Action::Shorter { length: 2_000_003 },
        Action::WrongStart,
        Action::WrongTotal,
        Action::NoContentRange,
        told(503, "retry-after", "1"),
        told(429, "ratelimit", "\"resolvers\";r=0;t=1"),
        Action::status(500, ""),
        Action::Expire,
    ];
    actions.map(|action| Fault::cdn(Nth::OneIn(RATE), action)).to_vec()
}

/// A figure of the process in kB, as the operating system tells it.
fn memory(child: &Child, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The process's own CPU time so far, in ticks of 10 ms.
fn ticks(child: &Child) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // Behind the name, which may hold anything: fields 14 and 15 of all.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<f64>().ok());
    let gigabytes = numbers.next().unwrap_or(21.5);
    let row_bytes = numbers.next().unwrap_or(16_384.0) as u64;
    let rows = (gigabytes * 1e9 / row_bytes as f64) as u64;
    let bytes = rows * row_bytes;
    let faults =
        if std::env::args().any(|argument| argument == "calm") { Vec::new() } else { faults() };
    let wrong = match faults.len() as u64 {
        0 => "nothing goes wrong".to_owned(),
        kinds => format!("one request in {} goes wrong", RATE / kinds),
    };
    println!("{rows} rows of {row_bytes} B, {:.1} GB; {wrong}", bytes as f64 / 1e9);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let builder = StandIn::builder().repository(model(rows, row_bytes)).chunk(256 << 10);
    let builder = faults.into_iter().fold(builder, |builder, fault| builder.fault(fault));
    let hub = runtime.block_on(builder.start()).unwrap();
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_singularity-survey"))
        .args(["soak/model", "--connections", "8", "--no-tokenizer", "-q", "--format", "json"])
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "2")
        .env("HF_HUB_ETAG_TIMEOUT", "2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let report = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).map(|_| text)
    });
    let mut samples = Vec::new();
    let (mut peak, mut cpu, mut last) = (0, 0, Instant::now());
    while child.try_wait().unwrap().is_none() {
        peak = memory(&child, "VmHWM:").unwrap_or(peak);
        cpu = ticks(&child).filter(|&ticks| ticks > 0).unwrap_or(cpu);
        if last.elapsed() >= Duration::from_secs(1) {
            last = Instant::now();
            samples.extend(memory(&child, "VmRSS:"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    let report: serde_json::Value = serde_json::from_str(&report.join().unwrap().unwrap()).unwrap();

    let log = hub.log();
    let asked = log.iter().filter(|request| request.host == Host::Cdn).count();
    // What ends well is the whole range that was asked for.
    let whole = |request: &&singularity_survey::standin::Request| {
        let span = request.range().and_then(|range| range.strip_prefix("bytes="));
        let ends = span.and_then(|span| span.split_once('-'));
        ends.is_some_and(|(first, last)| {
            let length = last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1;
            request.status == 206 && request.sent == length
        })
    };
    let broken = asked - log.iter().filter(|r| r.host == Host::Cdn).filter(whole).count();
    let links = log.iter().filter(|r| r.path().ends_with("/model.safetensors")).count();
    let (wall, cpu) = (seconds * 1e9 / bytes as f64, cpu as f64 * 1e7 / bytes as f64);
    println!("{seconds:.1} s; by the byte {wall:.2} ns, and {cpu:.2} ns of CPU");
    println!("{asked} ranges asked for, {broken} of them not sent whole; {links} links");
    println!(
        "sent {:.2} GB; peak memory {:.1} MB",
        hub.bytes_sent() as f64 / 1e9,
        peak as f64 / 1e3
    );
    println!("memory by the second, MB: {}", series(&samples));

    let pattern = pattern(row_bytes);
    let mut row = Vec::new();
    let digests: Vec<Digest> = (0..rows)
        .map(|number| {
            row.clear();
            stamp(&pattern, number, &mut row);
            Digest::of(&row)
        })
        .collect();
    let found = &report["duplicates"];
    let members = rows.div_ceil(EVERY);
    assert_eq!(report["matrix_digest"], Digest::of_all(&digests).to_string());
    assert_eq!((&found["groups_total"], &found["members"]), (&1.into(), &members.into()));
    assert_eq!(found["groups"][0]["rows"][1], EVERY);
    // The digests are claimed at the start and touched as rows come; nothing else may grow.
    let (first, second) = samples.split_at(samples.len() / 2);
    let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0);
    let grown = most(second).saturating_sub(most(first));
    assert!(grown < 16 << 10, "memory grew by {grown} kB in the second half");
    println!("the report is right, and memory is flat");
}

/// At most some twenty of the samples.
fn series(samples: &[u64]) -> String {
    let step = (samples.len() / 20).max(1);
    let shown: Vec<String> = samples
        .iter()
        .step_by(step)
        .map(|kilobytes| format!("{:.0}", *kilobytes as f64 / 1e3))
        .collect();
    shown.join(" ")
}
