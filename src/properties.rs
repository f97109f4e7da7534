//! What must hold of ANY input, one function for each kind of bytes that a stranger writes.
//!
//! Comes in: arbitrary bytes. Comes out: nothing, or a panic that names the property which is
//! broken. The fuzz targets call these functions, and so do the tests below, with bytes that are
//! made at random and with valid ones that are damaged. Built for those two alone, never into the
//! program. Wherever it can be, a result is held against something that shares no code with what
//! made it: the reference reader, a naive comparison, a rule written down a second time.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // to assert is its purpose

use crate::analysis::{Analysis as _, Digest, Duplicates, Equality, Grouping};
use crate::checkpoint::{
    Dtype, Gguf, HeaderDecoder, Index, Member, PyTorch, Safetensors, Step, TensorRecord, decode,
};
use crate::error::{Error, Result};
use crate::head::{Config, Matrix, Names, Role, Told, locate};
use crate::observe::Silent;
use crate::policy::{self, Baseline, Rules, judge};
use crate::quote;
use crate::report::{
    Basis, Csv, Ids, Inspection, Json, Markdown, Render, Report, Reports, Rule, Text, inspection,
    jsonl, pretty,
};
use crate::rows::{RowBlock, RowFramer};
use crate::source::{Budget, ContentRange, MemorySource, Policy, check, told_wait};
#[cfg(feature = "tokenizer")]
use crate::vocabulary::{Beside, Named};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// A safetensors header is refused, or its tensors cover the file's bytes as they say; the
/// reference reader thinks the same; and the choice of a head can be made among them.
pub fn header(bytes: &[u8]) {
    let found = step_by_step(bytes);
    for chunk in [1, 7, 4096] {
        let source = MemorySource::new("file", bytes.to_vec()).chunked(chunk);
        let mut decoder = Safetensors::new("file", bytes.len() as u64);
        let again = futures::executor::block_on(decode(&source, &mut decoder));
        assert_eq!(told(&again), told(&found), "chunks of {chunk} bytes give another result");
    }
    if let Err(error) = &found {
        assert_safe(&error.to_string(), "");
    }
    if let Ok(tensors) = &found {
        covered(bytes, tensors);
        chosen(tensors);
    }
    agrees_with_the_reference(bytes, &found);
}

/// A GGUF header is refused, or its tensors lie one behind another inside the file, with the bytes of
/// their shapes; chunks make no difference.
pub fn gguf(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let found = stepped(&mut Gguf::new("file", size), bytes, 64, true);
    for chunk in [1, 4096] {
        let source = MemorySource::new("file", bytes.to_vec()).chunked(chunk);
        let again = futures::executor::block_on(decode(&source, &mut Gguf::new("file", size)));
        assert_eq!(told(&again), told(&found), "chunks of {chunk} bytes give another result");
    }
    match &found {
        Err(error) => assert_safe(&error.to_string(), ""),
        Ok(tensors) => {
            let mut reached = 0;
            for TensorRecord { name, dtype, shape, range } in tensors {
                assert!(reached <= range.start && range.start <= range.end, "{name}");
                reached = range.end;
                if let Some(row) = shape.last().and_then(|&side| dtype.bytes_of(side)) {
                    let rows: u128 =
                        shape.iter().rev().skip(1).map(|&side| u128::from(side)).product();
                    assert_eq!(
                        rows * u128::from(row),
                        u128::from(range.end - range.start),
                        "{name}"
                    );
                }
            }
            assert!(reached <= size);
            chosen(tensors);
        }
    }
}

/// An archive of PyTorch is refused, or each tensor has a place that is refused or lies inside the file,
/// with the bytes of its shape; chunks make no difference.
pub fn pytorch(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let mut decoder = PyTorch::new("file", size);
    let found = stepped(&mut decoder, bytes, 5, false);
    let members = decoder.members();
    for chunk in [1, 4096] {
        let source = MemorySource::new("file", bytes.to_vec()).chunked(chunk);
        let again = futures::executor::block_on(decode(&source, &mut PyTorch::new("file", size)));
        assert_eq!(told(&again), told(&found), "chunks of {chunk} bytes give another result");
    }
    let tensors = match found {
        Err(error) => return assert_safe(&error.to_string(), ""),
        Ok(tensors) => tensors,
    };
    assert_eq!(members.len(), tensors.len());
    for TensorRecord { name, dtype, shape, range } in &tensors {
        let place = match &members[name] {
            Member::Strange(why) => {
                assert_safe(&quote::sentence(why), "");
                continue;
            }
            Member::Unplaced(place) => place,
        };
        let header = place.header();
        let header = bytes.get(header.start as usize..header.end as usize);
        let placed = match place.bytes(header.expect("a header lies inside the file")) {
            Err(why) => {
                assert_safe(&quote::sentence(&why), "");
                continue;
            }
            Ok(placed) => placed,
        };
        assert!(placed.end <= size && placed.end - placed.start == range.end - range.start);
        let elements: u128 = shape.iter().map(|&side| u128::from(side)).product();
        let bits = u128::from(dtype.bits().expect("a type that is known"));
        assert_eq!(elements * bits, u128::from(placed.end - placed.start) * 8, "{name}");
    }
}

fn step_by_step(bytes: &[u8]) -> Result<Vec<TensorRecord>> {
    stepped(&mut Safetensors::new("file", bytes.len() as u64), bytes, 3, true)
}

/// Decodes as the driver does, and holds the decoder to its contract.
fn stepped(
    decoder: &mut dyn HeaderDecoder,
    bytes: &[u8],
    most: usize,
    in_order: bool,
) -> Result<Vec<TensorRecord>> {
    let size = bytes.len() as u64;
    let mut fed = 0;
    for _ in 0..most {
        match decoder.step()? {
            Step::Need(Range { start, end }) => {
                let follows = start == fed || !in_order;
                assert!(follows && start < end && end <= size, "{start}..{end} of {size}");
                decoder.feed(Bytes::copy_from_slice(&bytes[start as usize..end as usize]));
                fed = end;
            }
            Step::Done(tensors) => return Ok(tensors),
        }
    }
    panic!("a header takes {most} steps at most");
}

fn told(result: &Result<Vec<TensorRecord>>) -> Result<&Vec<TensorRecord>, String> {
    result.as_ref().map_err(Error::to_string)
}

/// Every byte after the header belongs to one tensor, and every tensor has the bytes of its shape.
fn covered(bytes: &[u8], tensors: &[TensorRecord]) {
    let mut reached = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap());
    let mut names: Vec<&str> = Vec::new();
    for TensorRecord { name, dtype, shape, range } in tensors {
        assert_eq!(range.start, reached, "{name}");
        assert!(range.start <= range.end, "{name}");
        reached = range.end;
        if let Some(bits) = dtype.bits() {
            // Where a side is zero the others may be anything.
            let elements = match shape.contains(&0) {
                true => 0,
                false => shape.iter().map(|&side| u128::from(side)).product::<u128>(),
            };
            assert_eq!(elements * u128::from(bits), 8 * u128::from(range.end - range.start));
        }
        names.push(name);
    }
    assert_eq!(reached, bytes.len() as u64);
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice");
}

/// Whatever a header lists, a head is found in it or refused, and one that is found has rows.
fn chosen(tensors: &[TensorRecord]) {
    let names = Names::collect(tensors.iter().map(|tensor| tensor.name.as_str()));
    let by_name: HashMap<&str, &TensorRecord> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let record = |name: &str| by_name.get(name).copied();
    for role in [Role::Unembedding, Role::Embedding] {
        let Ok(located) = locate(role, &names, &Config::default(), &record, "model") else {
            continue;
        };
        let tensors = [&located.tensor].into_iter().chain(&located.more);
        let found = |name: &String| record(name).expect("a tensor of the header is chosen");
        let records: Vec<_> = tensors.map(|name| ("file".to_owned(), found(name))).collect();
        if let Ok(matrix) = Matrix::new(
            located,
            &records,
            &record,
            &Config::default().quantisation("lm_head"),
            &Told::default(),
        ) {
            assert!(matrix.row_bytes > 0);
            assert_eq!(matrix.row_bytes.checked_mul(matrix.rows), Some(matrix.bytes()));
        }
    }
}

/// What is accepted here the reference reader accepts, with the same tensors; what it accepts is
/// accepted here but for the rules that are stricter.
fn agrees_with_the_reference(bytes: &[u8], found: &Result<Vec<TensorRecord>>) {
    match (found, safetensors::SafeTensors::deserialize(bytes)) {
        (Ok(ours), Ok(reference)) => {
            assert_eq!(ours.len(), reference.len());
            for TensorRecord { name, dtype, shape, range } in ours {
                let view = reference.tensor(name).unwrap();
                assert_eq!(dtype.name(), view.dtype().to_string());
                let theirs: Vec<u64> = view.shape().iter().map(|&side| side as u64).collect();
                assert_eq!(*shape, theirs);
                // Not the same contents only, but the same place.
                let at = range.start as usize..range.end as usize;
                assert!(std::ptr::eq(&bytes[at], view.data()), "{name} lies elsewhere");
            }
        }
        (Ok(ours), Err(error)) => {
            let unknown = ours.iter().any(|tensor| tensor.dtype.bits().is_none());
            // A field that the format does not define is skipped unread, whatever it holds: depth,
            // numbers beyond measure, halves of characters.
            let end = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            let unread = serde_json::from_slice::<serde_json::Value>(&bytes[8..end]).is_err();
            assert!(unknown || unread, "the reference refuses what is accepted here: {error}");
        }
        (Err(error), Ok(_)) => {
            let error = error.to_string();
            let stricter = [
                "its header names the tensor",          // … twice
                "its header is no JSON object",         // white space before it
                "invalid type: map, expected a string", // a type written as {"U8":null}
            ];
            assert!(stricter.iter().any(|rule| error.contains(rule)), "refused here only: {error}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// An index is refused, or each shard that it names is a path below the repository, and each
/// tensor is in one of them.
pub fn index(bytes: &[u8]) {
    let index = match Index::parse("index", bytes) {
        Ok(index) => index,
        Err(error) => return assert_safe(&error.to_string(), ""),
    };
    for shard in index.shards() {
        let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
        assert!(inside && !shard.is_empty(), "{shard:?} is no plain path");
        assert!(!shard.contains(['\\', ':', '\0']) && !shard.starts_with('/'), "{shard:?}");
        assert!(!shard.split('/').any(|part| matches!(part, "" | "." | "..")), "{shard:?}");
    }
    let names: Vec<&str> = index.names().collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "names are sorted, each stands once");
    let used: Vec<&str> = names.iter().map(|name| index.shard(name).expect("a shard")).collect();
    assert!(used.iter().all(|shard| index.shards().iter().any(|listed| listed == shard)));
    assert!(index.shards().iter().all(|shard| used.contains(&shard.as_str())));
}

/// A `Content-Range` is refused, or says the same when it is written again; and no answer is taken
/// that starts elsewhere, goes past what was asked for, or is of another file.
pub fn content_range(bytes: &[u8]) {
    let (numbers, text) = bytes.split_at(bytes.len().min(3));
    let text = String::from_utf8_lossy(text);
    let parsed = ContentRange::parse(&text);
    let written = match &parsed {
        None => None,
        Some(ContentRange::Bytes { range, total }) => {
            assert!(range.start < range.end && total.is_none_or(|total| range.end <= total));
            let total = total.map_or("*".to_owned(), |total| total.to_string());
            Some(format!("bytes {}-{}/{total}", range.start, range.end - 1))
        }
        Some(ContentRange::Unsatisfied { total }) => Some(format!("bytes */{total}")),
    };
    assert_eq!(parsed, written.as_deref().and_then(ContentRange::parse));

    // What was asked for: near what the header says, where it says anything, so that the two meet.
    let nudge = |at: usize| u64::from(numbers.get(at).copied().unwrap_or(0));
    let (start, end, size) = match &parsed {
        Some(ContentRange::Bytes { range, total }) => {
            (range.start, range.end, total.unwrap_or(range.end))
        }
        _ => (0, 1, 1),
    };
    let start = (start ^ (nudge(0) & 3)).min(u64::MAX - 1);
    let end = (end ^ (nudge(1) & 3)).max(start + 1);
    let size = (size ^ (nudge(2) & 3)).max(end);
    let asked = start..end;
    match check(Some(&text), &asked, size) {
        Ok(reached) => match parsed {
            Some(ContentRange::Bytes { range, total }) => {
                assert_eq!((range.start, range.end), (asked.start, reached));
                assert!(asked.start < reached && reached <= asked.end);
                assert!(total.is_none_or(|total| total == size));
            }
            other => panic!("{other:?} was taken for an answer"),
        },
        Err(what) => assert_safe(&what, ""),
    }
    let exact = format!("bytes {}-{}/{size}", asked.start, asked.end - 1);
    assert_eq!(check(Some(&exact), &asked, size), Ok(asked.end));
    assert!(check(None, &asked, size).is_err());
}

/// Whatever a server says of waiting, a wait that it names is a second at least, none is begun
/// that the policy does not allow, and tries and time run out.
pub fn rate_limit(bytes: &[u8]) {
    let (numbers, text) = bytes.split_at(bytes.len().min(4));
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let text = String::from_utf8_lossy(text);
    let (after, limit) = match text.split_once('\n') {
        Some((after, limit)) => (Some(after), Some(limit)),
        None => (Some(&*text), None),
    };
    let after = after.filter(|after| !after.is_empty());
    let status = [429, 503, 500, 408, 200][usize::from(number(0)) % 5];
    // From 1970 to a year that few dates reach.
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(number(1)) << 30);
    let told = told_wait(status, after, limit, wall);
    assert!(told.is_none_or(|wait| wait >= Duration::from_secs(1)), "{told:?}");

    let policy = Policy { retries: u32::from(number(2)), ..Policy::default() };
    let random = f64::from(number(3)) / 256.0;
    let (begun, mut budget) = (Instant::now(), Budget::new());
    let (mut now, mut tries) = (begun, 0);
    while let Some(wait) = budget.next_wait(&policy, told, now, random) {
        tries += 1;
        assert!(tries <= policy.retries, "more tries than the policy has");
        assert!(wait <= policy.longest_wait && told.is_none_or(|told| wait == told));
        assert!(wait >= Duration::from_millis(500), "a server is not tried again at once");
        now += wait;
        assert!(now.duration_since(begun) <= policy.patience);
    }
    assert!(budget.attempts() >= 1);
}

/// However a matrix is cut into segments and chunks, and in whatever order they come: the same
/// rows, the same digests, and the groups that comparing rows finds.
pub fn rows(bytes: &[u8]) {
    let Some((&[width, kind, order, cuts], matrix)) = bytes.split_first_chunk() else {
        return;
    };
    let width = usize::from(width).max(1);
    let cuts: Vec<usize> = matrix.iter().take(cuts.into()).map(|&cut| cut.into()).collect();
    let count = matrix.len() / width;
    let whole: Vec<&[u8]> = matrix.chunks_exact(width).collect();

    // One framer over everything, the end of the last row missing.
    let mut framer = RowFramer::new(0, width);
    let blocks = push(&mut framer, Bytes::copy_from_slice(matrix), &cuts);
    assert_eq!((framer.held(), framer.next_row()), (matrix.len() % width, count as u64));
    let framed: Vec<&[u8]> = blocks.iter().flat_map(RowBlock::rows).collect();
    assert_eq!(framed, whole);
    assert!(blocks.iter().all(|block| !block.is_empty()));

    // Two segments, each with its own framer, cut elsewhere, last block first.
    let middle = count * usize::from(order) / 256;
    let mut parts = Vec::new();
    for rows in [0..middle, middle..count] {
        let mut framer = RowFramer::new(rows.start as u64, width);
        let bytes = Bytes::copy_from_slice(&matrix[rows.start * width..rows.end * width]);
        parts.extend(push(&mut framer, bytes, cuts.get(1..).unwrap_or_default()));
        assert_eq!((framer.held(), framer.next_row()), (0, rows.end as u64));
    }
    parts.reverse();

    let dtype = DTYPES[usize::from(kind) % DTYPES.len()].clone();
    let stored: Vec<Digest> = whole.iter().map(|row| Digest::of(row)).collect();
    let [bits, values] = [Equality::Bits, Equality::Values].map(|equality| {
        let found = grouping(&dtype, equality, count, [&blocks, &[]]);
        assert_eq!(
            found,
            grouping(
                &dtype,
                equality,
                count,
                [&parts[..1.min(parts.len())], &parts[1.min(parts.len())..]]
            )
        );
        assert_eq!(found.matrix_digest, Some(Digest::of_all(&stored)));
        assert_eq!(found.rows - found.distinct(), found.excess());
        found
    });

    let mut naive: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for (row, bytes) in (0..).zip(&whole) {
        naive.entry(bytes).or_default().push(row);
    }
    let mut naive: Vec<Vec<u64>> = naive.into_values().filter(|rows| rows.len() > 1).collect();
    naive.sort_by_key(|rows| (std::cmp::Reverse(rows.len()), rows[0]));
    let found: Vec<&Vec<u64>> = bits.groups.iter().map(|group| &group.rows).collect();
    assert_eq!(found, naive.iter().collect::<Vec<_>>());

    // Rows that are equal by their bits are equal by their values, unless they hold a NaN.
    let mut group_of: HashMap<u64, usize> = HashMap::new();
    for (number, group) in values.groups.iter().enumerate() {
        group_of.extend(group.rows.iter().map(|&row| (row, number)));
    }
    for group in &bits.groups {
        let found: Vec<_> = group.rows.iter().map(|row| group_of.get(row)).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{:?} is torn", group.rows);
    }
}

/// Types whose values differ from their bits in different ways.
const DTYPES: [Dtype; 14] = [
    Dtype::U8,
    Dtype::Bool,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::F32,
    Dtype::F64,
    Dtype::C64,
    Dtype::F4,
    Dtype::F6E2M3,
    Dtype::F8E4M3,
    Dtype::F8E5M2,
    Dtype::F8E8M0,
    Dtype::F8E4M3Fnuz,
    Dtype::F8E5M2Fnuz,
];

/// Pushes the bytes in chunks of these lengths, then the rest.
fn push(framer: &mut RowFramer, mut rest: Bytes, cuts: &[usize]) -> Vec<RowBlock> {
    let mut blocks = Vec::new();
    for &cut in cuts {
        blocks.extend(framer.push(rest.split_to(cut.min(rest.len()))));
    }
    blocks.extend(framer.push(rest));
    blocks
}

fn grouping(dtype: &Dtype, equality: Equality, rows: usize, forks: [&[RowBlock]; 2]) -> Grouping {
    let all = Duplicates::new(rows as u64, dtype.clone(), equality, Arc::new(Silent)).unwrap();
    for blocks in forks {
        let mut fork = all.fork();
        blocks.iter().for_each(|block| fork.block(block).unwrap());
    }
    all.finish().unwrap()
}

/// A tokenizer is refused, or each row has a token that can be shown.
#[cfg(feature = "tokenizer")]
pub fn tokenizer(bytes: &[u8]) {
    named("tokenizer.json", bytes, &Beside::default());
}

/// Each form of a vocabulary that is no tokenizer.json, likewise: its file, its merges and what lies
/// beside it, one behind another, with a byte between that no text has.
#[cfg(feature = "tokenizer")]
pub fn vocabulary(bytes: &[u8]) {
    let mut parts = bytes.split(|&byte| byte == 0xff).map(Bytes::copy_from_slice);
    let file = parts.next().unwrap_or_default();
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let [merges, config, added, special] = [next(), next(), next(), next()];
    let known = |class: &str| format!(r#"{{"tokenizer_class":"{class}","do_lower_case":true}}"#);
    for (name, class) in [
        ("vocab.json", "GPT2Tokenizer"),
        ("vocab.txt", "BertTokenizer"),
        ("tokenizer.model", "LlamaTokenizer"),
        ("sentencepiece.bpe.model", "XLMRobertaTokenizer"),
    ] {
        let config = config.clone().unwrap_or_else(|| known(class).into());
        let (merges, added, special) = (merges.clone(), added.clone(), special.clone());
        named(name, &file, &Beside { merges, config: Some(config), added, special });
    }
    // A SentencePiece model is no text, and may hold any byte.
    named("spiece.model", bytes, &Beside::default());
}

/// A vocabulary is refused, or each row has a token that can be shown.
#[cfg(feature = "tokenizer")]
fn named(file: &str, bytes: &[u8], beside: &Beside) {
    use crate::vocabulary::{Absent, Class};

    quiet_inside_guards();
    let vocabulary = match Named::read(file, bytes, beside) {
        Ok(vocabulary) => vocabulary,
        // The message may hold anything; what shows it makes it safe.
        Err(error) => return assert_safe(&quote::sentence(&error.to_string()), ""),
    };
    let others = [&beside.config, &beside.added, &beside.special].into_iter().flatten();
    let length = bytes.len() + others.map(|part| part.len()).sum::<usize>();
    let near = [u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX];
    for row in (0..64).chain(near) {
        let token = vocabulary.token(row);
        assert_eq!(token.row, row);
        assert!(token.text.len() <= 64 + 8 * length, "a short file makes a long text");
        assert_eq!(token.cause.absent.is_some(), token.class == Some(Class::NoToken));
        if token.cause.absent == Some(Absent::Past) {
            assert!(vocabulary.padding_rows(row.saturating_add(1)) > 0);
        }
        assert!(token.bytes.iter().all(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())));
        for shown in [quote::repr(&token.text), quote::short(&token.text)] {
            assert_safe(&shown, "");
        }
        let mut json = Vec::new();
        pretty(&token, &mut json).unwrap();
        assert_safe(std::str::from_utf8(&json).unwrap(), "\n");
        assert_eq!(serde_json::from_slice::<crate::vocabulary::Token>(&json).unwrap(), token);
    }
}

/// A fuzzer ends at every panic, those included that are caught where they are expected: inside
/// of the guards around the `tokenizers` crate, a panic is no finding.
#[cfg(feature = "tokenizer")]
fn quiet_inside_guards() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !crate::vocabulary::is_guarded() {
                hook(panic);
            }
        }));
    });
}

/// A report is refused, or written again it is the same, and every rendering of it is text that
/// does nothing to a terminal.
pub fn report(bytes: &[u8]) {
    if let Ok(reports) = policy::read("report.json", bytes) {
        reports.iter().for_each(judged);
    }
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let alone = Reports::from(vec![report.clone()]);
        let json = rendered(&|out| Json::default().render(&alone, out));
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        renderings(&vec![report.clone(), report].into());
    }
    if let Ok(reports) = serde_json::from_slice::<Reports>(bytes) {
        renderings(&reports);
    }
    if let Ok(found) = serde_json::from_slice::<Inspection>(bytes) {
        let json = rendered(&|out| pretty(&found, out));
        assert_eq!(serde_json::from_str::<Inspection>(&json).unwrap(), found);
        rendered(&|out| inspection(&[found.clone(), found.clone()], out));
    }
}

fn renderings(reports: &Reports) {
    let several = rendered(&|out| Json { several: true }.render(reports, out));
    assert_eq!(&serde_json::from_str::<Reports>(&several).unwrap(), reports);
    for most in [0, 2, usize::MAX] {
        let (max_groups, max_tokens) = (most, most);
        let plain = Text { max_groups, max_tokens, color: false };
        let color = Text { max_groups, max_tokens, color: true };
        let text = rendered(&|out| plain.render(reports, out));
        let mut out = Vec::new();
        color.render(reports, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.replace("\u{1b}[1m", "").replace("\u{1b}[0m", ""), text);
        rendered(&|out| Markdown { max_groups, max_tokens }.render(reports, out));
    }
    let groups = reports.reports.iter().flat_map(|report| &report.duplicates.groups);
    let members: usize = groups.map(|group| group.rows.len()).sum();
    let csv = rendered(&|out| Csv.render(reports, out));
    assert_eq!(csv.lines().count(), 1 + members, "a line for each member");
    let ids = rendered(&|out| Ids::default().render(reports, out));
    let ids: Vec<u64> = ids.lines().map(|id| id.parse().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && ids.len() <= members);
    if let Some(cross) = &reports.cross {
        rendered(&|out| jsonl::cross(cross, out));
    }
    for report in &reports.reports {
        let lines = rendered(&|out| {
            jsonl::start(&report.model, &report.matrix, out)?;
            jsonl::finish(report, out)?;
            jsonl::error(&report.matrix.reason, out)
        });
        assert_eq!(lines.lines().count(), 3 + report.duplicates.groups.len());
        for line in lines.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].is_string());
        }
    }
}

/// What is written, which is text that is safe but for its line breaks.
fn rendered(write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_safe(&text, "\n");
    text
}

/// A report that is sound is judged, in safe sentences, and has no news for itself.
fn judged(report: &Report) {
    let rules = Rules { forbid: Rule::FORBIDDEN.to_vec(), ..Rules::default() };
    let check = judge("m", report, &rules, None, Basis::Replay);
    let messages = check.findings.iter().map(|finding| &finding.message);
    messages.chain(&check.undecided).for_each(|text| assert_safe(text, ""));
    let (model, matrix) = (&report.model, &report.matrix);
    let equality = report.duplicates.equality;
    if let Ok(own) = Baseline::find("b", std::slice::from_ref(report), model, matrix, equality) {
        assert_eq!(judge("m", report, &rules, Some(&own), Basis::Replay).findings, []);
    }
}

/// A policy is refused in a safe sentence that names a line, or read.
#[cfg(feature = "policy")]
pub fn policy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = policy::Policy::parse("p.toml", &text) {
        let said = error.to_string();
        assert!(said.starts_with("p.toml: line "), "{said}");
        assert_safe(&said, "");
    }
}

/// A configuration is refused, or every question about it has an answer; JSON that is valid is
/// read, and what nests deeper than a parser should follow is not.
pub fn config(bytes: &[u8]) {
    let valid = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(bytes).is_ok();
    let config = match Config::parse(bytes) {
        Ok(config) => config,
        Err(error) => {
            assert!(!valid, "valid JSON is refused: {error}");
            return assert_safe(&quote::sentence(&error.to_string()), "");
        }
    };
    assert!(depth(bytes) <= 128, "nested too deep");
    let flags = config.tie_flags();
    if let Some(flag) = config.effective_tie() {
        let by_default = flag.tied && flag.source.starts_with("the default of model type ");
        assert!(flags.contains(&flag) || (flags.is_empty() && by_default), "{flag:?}");
    } else {
        assert!(flags.is_empty(), "{flags:?} say nothing");
    }
    let text = String::from_utf8_lossy(bytes);
    // A number that is found stands in the file.
    assert!(config.vocabulary().iter().all(|size| text.contains(&size.to_string())));
    config.architectures().for_each(drop);
    config.quantisation("lm_head");
}

/// How deep brackets nest outside of strings.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Whatever goes in, what comes out is safe to show; and what is quoted as Python quotes it can be
/// read back.
pub fn quoted(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let limit = usize::from(bytes.first().copied().unwrap_or(0));
    let shown = [
        quote::repr(&text),
        quote::printable(&text),
        quote::excerpt(&text, limit),
        quote::name(&text),
        quote::short(&text),
        quote::sentence(&text),
    ];
    for shown in &shown {
        assert_safe(shown, "");
        assert!(shown.chars().all(quote::is_printable), "{shown:?}");
    }
    let redacted = quote::redact(&text);
    let token = |(at, _): (usize, &str)| {
        let before = redacted[..at].chars().next_back();
        let rest = redacted[at + 3..].bytes();
        let rest = rest.take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        // In the middle of a word it is none.
        rest >= 6 && before.is_none_or(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_')
    };
    assert!(!redacted.match_indices("hf_").any(token), "a token is shown");
    let [repr, _, excerpt, name, short, sentence] = shown.map(|shown| shown.chars().count());
    // A character becomes ten at most, `\U000e0001`; then the quotes, or `… (n bytes)`.
    assert!(repr <= 10 * text.chars().count() + 2 && excerpt <= 10 * limit + 1);
    assert!(name < 2050 && short < 2050 && sentence < 10_050);
    assert_eq!(unquoted(&quote::repr(&text)), text);
}

/// The text that Python's `repr` has written.
fn unquoted(repr: &str) -> String {
    let mut chars = repr.chars();
    assert_eq!(chars.next(), chars.next_back(), "{repr}");
    let mut out = String::new();
    while let Some(c) = chars.next() {
        let digits = match c {
            '\\' => match chars.next().unwrap() {
                'n' => Err('\n'),
                'r' => Err('\r'),
                't' => Err('\t'),
                'x' => Ok(2),
                'u' => Ok(4),
                'U' => Ok(8),
                itself => Err(itself),
            },
            itself => Err(itself),
        };
        out.push(digits.map_or_else(
            |c| c,
            |digits| {
                let code: String = chars.by_ref().take(digits).collect();
                char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap()
            },
        ));
    }
    out
}

/// Text in which nothing acts on what shows it: no controls, format characters or separators of
/// lines, but those that are allowed.
fn assert_safe(text: &str, allowed: &str) {
    use GeneralCategory as G;
    let acts = text.chars().find(|&c| {
        let category = c.general_category();
        let acting = [G::Control, G::Format, G::LineSeparator, G::ParagraphSeparator];
        acting.contains(&category) && !allowed.contains(c)
    });
    assert_eq!(acts, None, "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index as At, select};

    /// Bytes of no form at all.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..300)
    }

    /// Valid bytes with a few places changed, cut out, doubled or swapped for a number that hurts.
    fn damaged(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let edits = vec((any::<At>(), any::<At>(), any::<u8>(), 0..5), 0..4);
        (select(valid), edits).prop_map(|(mut bytes, edits)| {
            for (from, to, byte, kind) in edits {
                let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
                let (from, to) = (from.min(to), from.max(to));
                let number = [&b"18446744073709551615"[..], b"-1", b"1e999", b"null"];
                match kind {
                    0 => bytes.insert(from, byte),
                    1 if from < bytes.len() => bytes[from] = byte,
                    2 => drop(bytes.drain(from..to)),
                    3 => bytes.extend_from_within(from..to),
                    _ => {
                        let number = number[usize::from(byte) % number.len()];
                        drop(bytes.splice(from..from, number.iter().copied()));
                    }
                }
            }
            bytes
        })
    }

    /// The fixtures' files of that name, those that are short.
    fn fixtures(name: &str) -> Vec<Vec<u8>> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
        let models = std::fs::read_dir(models).unwrap();
        let read = models.filter_map(|model| std::fs::read(model.unwrap().path().join(name)).ok());
        let found: Vec<Vec<u8>> = read.filter(|bytes| bytes.len() < 10_000).collect();
        assert!(!found.is_empty(), "{name}");
        found
    }

    /// The fixtures' vocabularies, the beginning of each.
    #[cfg(feature = "tokenizer")]
    fn vocabularies() -> Vec<Vec<u8>> {
        let json = br##"{"a":0,"b":1,"ab":2,"<|endoftext|>":3}"##;
        let added = br#"{"<x>":5,"<y>":4}"#;
        let config = br#"{"tokenizer_class":"GPT2TokenizerFast","eos_token":{"content":"<x>"},
            "added_tokens_decoder":{"4":{"content":"<y>","special":true}}}"#;
        let mut found = vec![
            [&json[..], b"#version: 0.2\na b\n", b"", added, br#"{"eos_token":"<x>"}"#].join(&0xff),
            [&json[..], b"a b\n", config].join(&0xff),
            b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n".to_vec(),
            b"IQ== 0\nIg== 1\n/w== 300\n".to_vec(),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vocabularies");
        for file in ["unigram/spiece.model", "llama/tokenizer.model"] {
            let mut model = std::fs::read(folder.join(file)).unwrap();
            model.truncate(600);
            found.push(model);
        }
        found
    }

    /// The fixtures' GGUF files that are short.
    fn ggufs() -> Vec<Vec<u8>> {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf");
        let files = std::fs::read_dir(files).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "gguf"));
        let found: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
        let short: Vec<Vec<u8>> = found.into_iter().filter(|file| file.len() < 4000).collect();
        assert!(!short.is_empty());
        short
    }

    /// The fixtures' archives of PyTorch.
    fn archives() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pytorch");
        ["untied", "tied", "float8-slice", "packed-again", "sparse", "whole-model"]
            .map(|case| std::fs::read(folder.join(case).join("pytorch_model.bin")).unwrap())
            .to_vec()
    }

    /// Valid bytes with numbers that hurt in a few places.
    fn numbered(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let numbers =
            select(vec![0, 1, 7, 9, 1 << 31, 1 << 32, u64::MAX / 2, u64::MAX - 7, u64::MAX]);
        (select(valid), vec((any::<At>(), numbers), 1..3)).prop_map(|(mut bytes, edits)| {
            for (at, number) in edits {
                let at = at.index(bytes.len() - 8);
                bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(number));
            }
            bytes
        })
    }

    /// Files with headers that are nearly right: tensors one after another, of names that mean
    /// something, with sides and ends that now and then do not fit.
    fn files() -> impl Strategy<Value = Vec<u8>> {
        let names = [
            "a",
            "b",
            r"\u0061",
            "lm_head.weight",
            "lm_head.weight_scale",
            "output.weight",
            "lm_head.qweight",
            "model.embed_tokens.weight",
            "__metadata__",
            "a\u{1b}b",
        ];
        let types = ["U8", "BF16", "F32", "F4", "F6_E2M3", "I32", "NEW", "u8"];
        let side = prop_oneof![
            8 => 0..5u64,
            1 => select(vec![1 << 31, 1 << 60, 1 << 61, 1 << 63, u64::MAX]),
        ];
        let tensor =
            (select(names.to_vec()), select(types.to_vec()), vec(side, 0..4), 0..12u64, 0..20u8);
        (vec(tensor, 0..5), 0..20u8).prop_map(|(tensors, wrong)| {
            let (mut entries, mut reached) = (Vec::new(), 0);
            for (name, dtype, shape, length, wrong) in tensors {
                let bits = Dtype::parse(dtype).bits();
                let fits = bits.and_then(|bits| {
                    let total = shape.iter().try_fold(bits, |n, &side| n.checked_mul(side))?;
                    Some(total / 8).filter(|&bytes| bytes < 1000 && wrong != 0)
                });
                let begin = if wrong == 1 { reached + 1 } else { reached };
                reached = begin + fits.unwrap_or(length);
                let more = if wrong == 2 { r#","more":[{"x":1e9}]"# } else { "" };
                entries.push(format!(
                    r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{reached}]{more}}}"#
                ));
            }
            let space = if wrong == 0 { " " } else { "" };
            let json = format!("{space}{{{}}}  ", entries.join(","));
            let mut file = (json.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(json.as_bytes());
            file.resize(file.len() + reached as usize + usize::from(wrong == 1), 7);
            file
        })
    }

    /// Values of headers: words and numbers that belong there, in any order.
    fn values(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            4 => select(words).prop_map(str::to_owned),
            2 => any::<u64>().prop_map(|n| n.to_string()),
            1 => (0..200u64).prop_map(|n| n.to_string()),
            1 => "\\PC{0,3}",
        ];
        (vec(any::<u8>(), 4), vec(word, 0..8))
            .prop_map(|(numbers, words)| [numbers, words.concat().into_bytes()].concat())
    }

    /// A policy that has everything.
    #[cfg(feature = "policy")]
    const POLICY: &str = r#"
        forbid = ["emittable-in-group", "zero-rows"]
        limits = { max-excess = 3, class.special.max-members = 1 }
        [allow]
        ids = [1, "2-3"]
        rows = [{ ids = ["5-9"], reason = "r" }]
        [[model]]
        id = "org/name"
        matrix = "both"
        strict-baseline = true
    "#;

    #[cfg(feature = "policy")]
    proptest! {
        #[test]
        fn a_policy_is_refused_or_read(
            bytes in prop_oneof![noise(), damaged(vec![POLICY.as_bytes().to_vec()])],
        ) {
            policy(&bytes);
        }
    }

    /// A report of the fixtures' kind, as JSON.
    fn reports() -> Vec<Vec<u8>> {
        let digest = Digest::of(b"");
        let token = r#"{"row":3,"text":"b"},{"row":7,"text":"a\u001b\u202e","class":"special","bytes":"e2"}"#;
        let matrix = r#"{"role":"unembedding","tensor":"t","file":"f","tied":null,"reason":"r",
            "dtype":"BF16","rows":10,"columns":4,"row_bytes":8,"bytes":80}"#;
        let origin = r#"{"id":"org/name","source":"hub","revision":"main","commit":null}"#;
        let tool = r#"{"name":"x","version":"0"}"#;
        let transfer = r#"{"requests":3,"bytes":99,"seconds":0.25,"checkpoint_bytes":1000}"#;
        let head = format!(
            r#""schema":1,"tool":{tool},"warnings":["w"],"model":{origin},"matrix":{matrix}"#
        );
        let scan = format!(
            r#"{{{head},"tokenizer":{{"size":9,"padding_rows":1}},"duplicates":{{
            "equality":"values","rows":10,"distinct":9,"excess":1,"members":2,"groups_total":1,
            "largest":2,"smallest":2,"mean":2.0,"median":2.5,"histogram":[{{"size":2,"groups":1}}],
            "groups":[{{"size":2,"digest":"{digest}","rows":[3,7],"tokens":[{token}]}}]}},
            "degenerate":{{"zero":[1],"nan":[2],"infinite":[2],"tokens":[]}},
            "matrix_digest":"{digest}","transfer":{transfer}}}"#
        );
        let inspected = format!(
            r#"{{{head},"byte_range":[8,88],"tie_flags":[["tie_word_embeddings",true]],
            "cost":{{"bytes":80,"requests":1,"connections":1}},"transfer":{transfer}}}"#
        );
        assert!(policy::read("r.json", scan.as_bytes()).is_ok());
        assert!(serde_json::from_str::<Inspection>(&inspected).is_ok());
        vec![scan.into_bytes(), inspected.into_bytes()]
    }

    #[test]
    fn the_differences_from_the_reference_reader_are_these() {
        let rest = r#""shape":[1],"data_offsets":[0,1]"#;
        let one = format!(r#"{{"a":{{"dtype":"U8",{rest}}}}}"#);
        let more = |more: &str| format!(r#"{{"a":{{"dtype":"U8",{rest},"more":{more}}}}}"#);
        let deep = "[".repeat(200) + &"]".repeat(200);
        let twice = format!("{},{}", &one[..one.len() - 1], &one[1..]);
        // What is said of each here, and by the reference.
        for (json, ours, reference) in [
            // The header must begin with `{`, as the format's description has it.
            (format!(" {one}"), false, true),
            // No name stands twice, as it has it too; the last would win.
            (twice, false, true),
            // A type is written as a text.
            (format!(r#"{{"a":{{"dtype":{{"U8":null}},{rest}}}}}"#), false, true),
            // A type of tomorrow is listed, and never read as rows.
            (format!(r#"{{"a":{{"dtype":"NEW",{rest}}}}}"#), true, false),
            // Fields that the format does not define are skipped unread.
            (more(&deep), true, false),
            (more("1e999"), true, false),
            (more(r#""\ud800""#), true, false),
            // The same: a list of values for an entry, a metadata's name twice.
            (r#"{"a":["U8",[1],[0,1]]}"#.to_owned(), true, true),
            (format!(r#"{{"__metadata__":{{"x":"y","x":"z"}},{}"#, &one[1..]), true, true),
        ] {
            let mut file = (json.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(json.as_bytes());
            file.push(7);
            assert_eq!(step_by_step(&file).is_ok(), ours, "here: {json}");
            let read = safetensors::SafeTensors::deserialize(&file);
            assert_eq!(read.is_ok(), reference, "there: {json}");
            header(&file);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn an_archive_is_refused_or_its_tensors_lie_inside_it(
            bytes in prop_oneof![noise(), damaged(archives()), numbered(archives())],
        ) {
            pytorch(&bytes);
        }

        #[test]
        fn a_gguf_header_is_refused_or_lies_inside_its_file(
            bytes in prop_oneof![noise(), damaged(ggufs()), numbered(ggufs())],
        ) {
            gguf(&bytes);
        }

        #[test]
        fn a_header_is_refused_or_covers_its_file(
            bytes in prop_oneof![noise(), files(), damaged(fixtures("model.safetensors"))],
        ) {
            header(&bytes);
        }

        #[test]
        fn an_index_is_refused_or_stays_inside_the_repository(
            bytes in prop_oneof![
                noise(),
                damaged(fixtures("model.safetensors.index.json")),
                ("[a-z./:\\\\]{0,6}", "\\PC{0,4}").prop_map(|(shard, name)| {
                    serde_json::json!({"weight_map": {name: shard}}).to_string().into_bytes()
                }),
            ],
        ) {
            index(&bytes);
        }

        #[test]
        fn a_content_range_says_the_same_when_it_is_written_again(
            bytes in prop_oneof![
                noise(),
                values(&["bytes ", "Bytes", "-", "/", "*", " ", "18446744073709551615"]),
                (any::<[u8; 3]>(), any::<[u64; 3]>()).prop_map(|(numbers, [a, b, c])| {
                    let text = format!("bytes {}-{b}/{c}", a & b);
                    [&numbers[..], text.as_bytes()].concat()
                }),
            ],
        ) {
            content_range(&bytes);
        }

        #[test]
        fn a_wait_that_is_named_is_kept_or_refused(
            bytes in prop_oneof![
                noise(),
                values(&[
                    "\n", "\"api\"", ";", "r=", "t=", "r=0;t=", " ", "-", "18446744073709551615",
                    "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
                ]),
            ],
        ) {
            rate_limit(&bytes);
        }

        #[test]
        fn rows_are_the_same_however_they_come(
            (width, rest) in (1..9u8, prop_oneof![vec(any::<u8>(), 3..300), vec(0..2u8, 3..300)]),
        ) {
            rows(&[&[width], &rest[..]].concat());
        }

        #[test]
        #[cfg(feature = "tokenizer")]
        fn a_vocabulary_is_refused_or_its_tokens_can_be_shown(
            bytes in prop_oneof![noise(), damaged(vocabularies())],
        ) {
            vocabulary(&bytes);
        }

        #[test]
        #[cfg(feature = "tokenizer")]
        fn a_tokenizer_is_refused_or_its_tokens_can_be_shown(
            bytes in prop_oneof![noise(), damaged(fixtures("tokenizer.json"))],
        ) {
            tokenizer(&bytes);
        }

        #[test]
        fn a_report_is_refused_or_the_same_when_it_is_written_again(
            bytes in prop_oneof![noise(), damaged(reports())],
        ) {
            report(&bytes);
        }

        #[test]
        fn a_configuration_is_refused_or_answers(
            bytes in prop_oneof![
                noise(),
                damaged(fixtures("config.json")),
                (0..200usize).prop_map(|depth| {
                    format!("{{\"a\":{}NaN{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
                }),
            ],
        ) {
            config(&bytes);
        }

        #[test]
        fn what_is_quoted_is_safe_and_can_be_read_back(
            bytes in prop_oneof![noise(), any::<String>().prop_map(String::into_bytes)],
        ) {
            quoted(&bytes);
        }
    }
}
