//! How fast rows are hashed, and equal ones found:
//!
//! ```console
//! $ cargo bench --no-default-features --bench digest
//! $ cargo bench --no-default-features --bench digest -- grouping    # the second part alone
//! ```
//!
//! By width of a row, in blocks as a server sends them and as a file is read: one row at a time, side
//! by side, and all bytes as one, in GB/s; what counts are the ratios to the last. Then the time and
//! the memory that a row costs beyond its hash. Medians of runs that take turns, because a machine is
//! never equally busy; that is also why this is no framework's bench, each of which times one thing
//! after another. Nothing is asserted.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use singularity_survey::analysis::{Analysis as _, Digest, Duplicates, Equality};
use singularity_survey::checkpoint::Dtype;
use singularity_survey::observe::Silent;
use singularity_survey::rows::{RowBlock, RowFramer};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WIDTHS: [usize; 20] = [
    512, 768, 1_024, 1_100, 1_536, 1_792, 2_048, 3_072, 4_096, 4_100, 5_120, 6_144, 7_168, 8_192,
    10_240, 14_336, 16_384, 18_432, 24_576, 32_768,
];

/// Larger than caches, so that bytes come from memory as those of a file do.
const BYTES: usize = 64 << 20;

const TURNS: usize = 9;

/// Each so many rows are the same, as in a vocabulary with dead entries.
const EVERY: u64 = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(rows) = arguments.first().and_then(|rows| rows.parse().ok()) {
        return grouping(rows);
    }
    if !arguments.iter().any(|argument| argument == "grouping") {
        hashing();
    }
    println!("Grouping");
    println!("      rows  ns/row  bytes/row");
    for rows in ["151936", "917505", "1000000", "10000000"] {
        // A process for each, because memory that was given back once hides what is taken next.
        Command::new(std::env::current_exe().unwrap()).arg(rows).status().unwrap();
    }
}

fn hashing() {
    let noise: Vec<u8> = (0..BYTES as u64 / 8).flat_map(|n| mixed(n).to_le_bytes()).collect();
    for (block, what) in [(192 << 10, "a server"), (1 << 20, "a file")] {
        println!("Blocks of {} KiB, as from {what}, GB/s", block >> 10);
        println!("  width  per row  side by side  as one   ratio");
        for width in WIDTHS {
            widths(&noise, width, block);
        }
        println!();
    }
}

/// A line of the first table.
fn widths(noise: &[u8], width: usize, block: usize) {
    let block = (block / width).max(1) * width;
    let per_row = || {
        for block in noise.chunks_exact(block) {
            black_box(block.chunks_exact(width).map(Digest::of).collect::<Vec<_>>());
        }
    };
    let side_by_side = || {
        for block in noise.chunks_exact(block) {
            black_box(Digest::of_rows(block, width));
        }
    };
    let as_one = || {
        black_box(Digest::of(noise));
    };
    let times = take_turns([&per_row, &side_by_side, &as_one]);
    let [per_row, side_by_side, as_one] = times.map(|time| BYTES as f64 / time.as_secs_f64() / 1e9);
    let ratio = side_by_side / as_one;
    println!("{width:7}  {per_row:7.2}  {side_by_side:12.2}  {as_one:6.2}  {ratio:6.2}");
}

/// A line of the second table.
fn grouping(rows: u64) {
    let row = |row: u64| mixed(if row.is_multiple_of(EVERY) { 0 } else { row }).to_le_bytes();
    let bytes: bytes::Bytes = (0..rows).flat_map(row).collect::<Vec<u8>>().into();
    let blocks: Vec<RowBlock> = (0..rows)
        .step_by(256)
        .flat_map(|first| {
            let end = rows.min(first + 256);
            RowFramer::new(first, 8).push(bytes.slice(first as usize * 8..end as usize * 8))
        })
        .collect();
    let hashed = || {
        for block in &blocks {
            black_box(Digest::of_rows(block.bytes(), block.row_bytes()));
        }
    };
    let grouped = || {
        let mut all = Duplicates::new(rows, Dtype::U64, Equality::Bits, Arc::new(Silent)).unwrap();
        blocks.iter().for_each(|block| all.block(block).unwrap());
        black_box(all.finish().unwrap());
    };
    // From here on the peak counts anew.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS:");
    grouped();
    let grown = memory("VmHWM:").saturating_sub(before) as f64 / rows as f64;
    let [hashed, grouped] = take_turns([&hashed, &grouped]);
    let time = grouped.saturating_sub(hashed).as_secs_f64() * 1e9 / rows as f64;
    println!("{rows:10}  {time:6.1}  {grown:9.1}");
}

/// The median time of each, run in turns.
fn take_turns<const N: usize>(work: [&dyn Fn(); N]) -> [Duration; N] {
    let mut times = [[Duration::ZERO; TURNS]; N];
    for turn in 0..TURNS {
        for (work, times) in work.iter().zip(&mut times) {
            let start = Instant::now();
            work();
            times[turn] = start.elapsed();
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[TURNS / 2]
    })
}

/// A number that looks like any other.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A figure of this process by the operating system, in bytes; 0 where it tells none.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}
