//! The parts of a scan, each beside the least that its work can cost:
//!
//! ```console
//! $ cargo bench --bench parts                     # all, about a minute
//! $ cargo bench --bench parts -- digests          # those whose names hold a word
//! $ cargo bench --bench parts -- classes --tokenizer tokenizer.json
//! ```
//!
//! Prints a table in Markdown: how fast a part is, what it is held against, how fast that is, and the
//! part's time in times of it. One run of each stands directly after the other, and the ratio is the
//! median of these pairs' ratios: what else the machine does meets both alike. That ratio is why this is
//! no suite of `divan` or `criterion`: they time one thing after another, and count its bytes, but know
//! no pairs. Times are never asserted; docs/benchmarks.md says how to read them.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use serde::de::IgnoredAny;
use singularity_survey::analysis::{Analysis, Both, Digest, Duplicates, Equality, Profile};
use singularity_survey::checkpoint::{Dtype, HeaderDecoder as _, Safetensors, Step};
use singularity_survey::observe::Silent;
use singularity_survey::rows::{RowBlock, RowFramer};
use singularity_survey::vocabulary::Vocabulary;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pairs of runs.
const PAIRS: usize = 11;

/// The shortest time worth reading from a clock; what is shorter is done several times.
const SAMPLE: Duration = Duration::from_millis(15);

/// Bytes of rows: more than caches hold, so that they come from memory as they do in a scan.
const BYTES: usize = 64 << 20;

/// The chunks that a network hands out, at most.
const CHUNK: usize = 256 << 10;

/// What a part gets through, by which its speed is told.
enum Amount {
    Bytes(usize),
    Rows(usize),
}

impl Amount {
    fn rate(&self, time: Duration) -> String {
        match *self {
            Self::Bytes(bytes) => match bytes as f64 / 1e9 / time.as_secs_f64() {
                // No memory is as fast: the bytes were not looked at.
                rate if rate > 200.0 => "without a touch".to_owned(),
                rate => format!("{rate:.2} GB/s"),
            },
            Self::Rows(rows) => {
                let each = time.as_nanos() as f64 / rows as f64;
                format!("{:.2} M/s, {each:.0} ns each", 1e3 / each)
            }
        }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    black_box(work());
    began.elapsed()
}

struct Suite {
    words: Vec<String>,
}

impl Suite {
    /// Whether a part of that name is asked for, so that what it needs is made.
    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// Runs a part and its limit by turns. Each tells its own time, so that what it has to prepare is
    /// not in it.
    fn pair(
        &self,
        name: &str,
        amount: &Amount,
        mut part: impl FnMut() -> Duration,
        limit_name: &str,
        mut limit: impl FnMut() -> Duration,
    ) {
        let part_times = times(part());
        let limit_times = times(limit());
        let mean = |times: u32, run: &mut dyn FnMut() -> Duration| {
            (0..times).map(|_| run()).sum::<Duration>() / times
        };
        let pairs: Vec<(Duration, Duration)> = (0..PAIRS)
            .map(|_| (mean(part_times, &mut part), mean(limit_times, &mut limit)))
            .collect();
        let ratios = pairs.iter().map(|(part, limit)| part.as_secs_f64() / limit.as_secs_f64());
        let ratio = median(ratios);
        let part = Duration::from_secs_f64(median(pairs.iter().map(|pair| pair.0.as_secs_f64())));
        let limit = Duration::from_secs_f64(median(pairs.iter().map(|pair| pair.1.as_secs_f64())));
        let (own, its) = (amount.rate(part), amount.rate(limit));
        println!("| {name} | {own} | {limit_name} | {its} | {ratio:.2} |");
    }
}

/// How often a run that took so long makes a sample.
fn times(run: Duration) -> u32 {
    (SAMPLE.as_nanos() / run.as_nanos().max(1)).clamp(1, 10_000) as u32
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes that look random and are the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A copy of the bytes, into memory that is there already.
fn copied(bytes: &[u8]) -> impl FnMut() -> Duration {
    let mut target = vec![1; bytes.len()];
    move || {
        timed(|| {
            target.copy_from_slice(bytes);
            black_box(&mut target);
        })
    }
}

/// Hashes rows as a scan does; the one place here that says how.
fn digests(rows: &[u8], width: usize) -> Duration {
    timed(|| {
        black_box(Digest::of_rows(rows, width));
    })
}

/// The blocks of a matrix, as they come from a stream of such chunks.
fn blocks(matrix: &Bytes, width: usize, chunk: usize) -> Vec<RowBlock> {
    let mut framer = RowFramer::new(0, width);
    let chunks = (0..matrix.len()).step_by(chunk);
    chunks.flat_map(|at| framer.push(matrix.slice(at..matrix.len().min(at + chunk)))).collect()
}

/// Shows all blocks to a new analysis and lets it finish; the time of both, and of the end alone.
fn analysed<A: Analysis>(analysis: A, blocks: &[RowBlock]) -> (Duration, Duration) {
    let mut fork = analysis.fork();
    let all = timed(|| blocks.iter().for_each(|block| fork.block(block).unwrap()));
    drop(fork);
    let end = timed(|| analysis.finish().map(black_box).is_ok());
    (all + end, end)
}

fn duplicates(rows: usize, dtype: Dtype) -> Duplicates {
    Duplicates::new(rows as u64, dtype, Equality::Bits, Arc::new(Silent)).unwrap()
}

fn headers(suite: &Suite) {
    for (name, tensors) in [("header, 10 tensors", 10u64), ("header, 10,000 tensors", 10_000)] {
        if !suite.wants(name) {
            continue;
        }
        let entry = |at: u64| {
            format!(
                r#""model.layers.{at}.mlp.up_proj.weight":{{"dtype":"BF16","shape":[64,64],"data_offsets":[{},{}]}}"#,
                at * 8192,
                (at + 1) * 8192
            )
        };
        let entries: Vec<String> = (0..tensors).map(entry).collect();
        let json = format!("{{{}}}", entries.join(","));
        let size = 8 + json.len() as u64 + tensors * 8192;
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.bytes());
        // What a decoder asks for at once may go past the header.
        file.resize(file.len() + 200_000, 0);
        let file = Bytes::from(file);
        let decode = || {
            let mut decoder = Safetensors::new("model.safetensors", size);
            loop {
                match decoder.step().unwrap() {
                    Step::Need(range) => {
                        decoder.feed(file.slice(range.start as usize..range.end as usize));
                    }
                    Step::Done(found) => return found.len(),
                }
            }
        };
        assert_eq!(decode() as u64, tensors);
        let amount = Amount::Bytes(json.len());
        let parse = || timed(|| serde_json::from_str::<IgnoredAny>(&json).is_ok());
        suite.pair(name, &amount, || timed(decode), "the JSON parsed and dropped", parse);
    }
}

fn framing(suite: &Suite) {
    // 4,099 is a prime: no chunk ends with a row.
    for (width, chunk) in [
        (4096, 16 << 10),
        (4096, CHUNK),
        (4096, 1 << 20),
        (4099, 16 << 10),
        (4099, CHUNK),
        (4099, 1 << 20),
        (32_771, 16 << 10),
    ] {
        let name = format!("framing, rows of {width} B in chunks of {} KiB", chunk >> 10);
        if !suite.wants(&name) {
            continue;
        }
        let matrix = Bytes::from(noise(BYTES / width * width));
        let frame = || {
            timed(|| {
                let mut framer = RowFramer::new(0, width);
                for at in (0..matrix.len()).step_by(chunk) {
                    let part = matrix.slice(at..matrix.len().min(at + chunk));
                    framer.push(part).for_each(|block| {
                        black_box(block);
                    });
                }
            })
        };
        suite.pair(&name, &Amount::Bytes(matrix.len()), frame, "memcpy", copied(&matrix));
    }
}

fn hashing(suite: &Suite) {
    for width in [512, 1024, 1536, 2048, 4096, 5120, 8192, 14_336, 16_384, 32_768] {
        let name = format!("digests, rows of {width} B");
        if !suite.wants(&name) {
            continue;
        }
        let matrix = noise(BYTES / width * width);
        let whole = || timed(|| Digest::of(&matrix));
        let amount = Amount::Bytes(matrix.len());
        suite.pair(&name, &amount, || digests(&matrix, width), "BLAKE3 of all as one", whole);
    }
}

fn grouping(suite: &Suite) {
    const WIDTH: usize = 8;
    // 1.5 % of the rows are in 60 groups; or all, two in each.
    let few = |row: usize| if row.is_multiple_of(69) { row / 69 % 60 } else { row + 60 };
    let pairs = |row: usize| row / 2;
    for (rows, shown, all) in [
        (151_936, "151,936", false),
        (1_000_000, "1,000,000", false),
        (1_000_000, "500,000 pairs of", true),
    ] {
        let name = format!("grouping, {shown} rows");
        if !suite.wants(&name) {
            continue;
        }
        let value = |row| if all { pairs(row) } else { few(row) };
        let matrix: Vec<u8> = (0..rows).flat_map(|row| value(row).to_le_bytes()).collect();
        let matrix = Bytes::from(matrix);
        let blocks = blocks(&matrix, WIDTH, CHUNK);
        let amount = Amount::Rows(rows);
        let run = || analysed(duplicates(rows, Dtype::U8), &blocks);
        let hash = || digests(&matrix, WIDTH);
        suite.pair(&format!("{name} of 8 B"), &amount, || run().0, "their digests alone", hash);
        let kept = noise(rows * 32);
        let copy = copied(&kept);
        suite.pair(&format!("{name}: the end"), &amount, || run().1, "memcpy of digests", copy);
    }
}

fn profile(suite: &Suite) {
    // Bytes whose elements are finite: those that are not are looked at twice, and are rare. Of each
    // element's highest byte the sign and the last bits stay.
    for (dtype, bytes, high, low) in [
        (Dtype::Bf16, 2, 0x3C, 0x83),
        (Dtype::F16, 2, 0x3C, 0x83),
        (Dtype::F32, 4, 0x3C, 0x83),
        (Dtype::F8E4M3, 1, 0x20, 0x8F),
        (Dtype::F8E5M2, 1, 0x3C, 0x83),
        (Dtype::I8, 1, 0, 0xFF),
    ] {
        let name = format!("profile, {dtype}");
        if !suite.wants(&name) {
            continue;
        }
        let columns = 4096 / bytes;
        let mut matrix = noise(BYTES);
        for highest in matrix.iter_mut().skip(bytes - 1).step_by(bytes) {
            *highest = *highest & low | high;
        }
        let (matrix, rows) = (Bytes::from(matrix), BYTES / 4096);
        let blocks = blocks(&matrix, 4096, CHUNK);
        let amount = Amount::Bytes(BYTES);
        let new = || Profile::new(rows as u64, columns as u64, &dtype).unwrap();
        let alone = || analysed(new(), &blocks).0;
        suite.pair(&name, &amount, alone, "memcpy", copied(&matrix));
        let both = || analysed(Both(duplicates(rows, dtype.clone()), new()), &blocks).0;
        let hash = || analysed(duplicates(rows, dtype.clone()), &blocks).0;
        suite.pair(&format!("{name}, and groups"), &amount, both, "groups alone", hash);
    }
}

fn classes(suite: &Suite, more: Option<&str>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers");
    let families = ["bert-uncased", "gemma", "gpt-2", "qwen", "t5"];
    let mut files: Vec<_> = families.map(|name| (name, folder.join(name))).into();
    files.iter_mut().for_each(|(_, path)| {
        path.set_extension("json");
    });
    files.extend(more.map(|path| (path, path.into())));
    for (name, path) in files {
        let named = format!("classes, {name}");
        if !suite.wants(&named) {
            continue;
        }
        let json = std::fs::read(path).unwrap();
        let ours = Vocabulary::parse("tokenizer.json", &json).unwrap();
        let library = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let ids = library.get_vocab(true).values().max().map_or(0, |&id| id + 1);
        let classify = || {
            timed(|| {
                (0..u64::from(ids)).for_each(|id| {
                    black_box(ours.classify(id));
                });
            })
        };
        // What one would do without stages: does its text come back as this id alone?
        let round = |id: u32| {
            let text = library.decode(&[id], false).ok()?;
            Some(library.encode_fast(text, false).ok()?.get_ids() == [id])
        };
        let rounds = || {
            timed(|| {
                (0..ids).for_each(|id| {
                    black_box(round(id));
                });
            })
        };
        let amount = Amount::Rows(ids as usize);
        let named = format!("{named}, {ids} ids");
        suite.pair(&named, &amount, classify, "decode and encode again", rounds);
        let load = || timed(|| Vocabulary::parse("tokenizer.json", &json).is_ok());
        let bare = || timed(|| tokenizers::Tokenizer::from_bytes(&json).is_ok());
        suite.pair(&format!("{named}: loaded"), &amount, load, "the library's own loading", bare);
    }
}

fn main() {
    let (mut words, mut tokenizer) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--tokenizer" => tokenizer = arguments.next(),
            _ => words.push(argument),
        }
    }
    let suite = Suite { words };
    println!("| part | speed | held against | its speed | part's time / its time |");
    println!("|---|---|---|---|---|");
    headers(&suite);
    framing(&suite);
    hashing(&suite);
    grouping(&suite);
    profile(&suite);
    classes(&suite, tokenizer.as_deref());
}
