//! How the bytes of a token's row lie in the tensors of a quantised module.
//!
//! A row is every byte that decides its value and may differ between two rows: its codes, then its
//! part of each further tensor of the module, in the order of [`Layout::parts`]. What is one number for
//! the whole tensor, a table that all rows share, or about the columns alone is left out: it cannot tell
//! two rows apart. Layouts are known by names and shapes, which the quantisers' own packing writes:
//! [compressed-tensors](https://github.com/vllm-project/compressed-tensors), ModelOpt, fine-grained FP8
//! and bitsandbytes in [transformers](https://github.com/huggingface/transformers/tree/main/src/transformers/quantizers),
//! and [MLX](https://github.com/ml-explore/mlx).

use super::config::Quantisation;
use super::names;
use super::told::{QuantState, Told};
use super::turned::Packing;
use crate::checkpoint::{Dtype, TensorRecord};
use crate::quote;
use crate::source::Share;
use std::ops::Range;

/// The most bytes of parts that several rows share; these are held in memory.
const MAX_SHARED: u64 = 64 << 20;

/// A row as several tensors hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The scheme that writes such tensors.
    pub scheme: &'static str,
    /// Rows: tokens.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Where its bytes come from, in order.
    pub parts: Vec<Part>,
    /// Tensors of the module that say nothing about one row.
    pub left_out: Vec<String>,
    /// Where tokens are columns: how the lines of each part hold them. Empty where they are rows.
    pub turned: Vec<Packing>,
}

impl Layout {
    /// How many tensors are read side by side.
    pub fn strands(&self) -> usize {
        self.parts.iter().filter(|part| part.share.is_own()).count()
    }

    /// Bytes of all tensors that are read.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.end - part.bytes.start).sum()
    }
}

/// What one tensor adds to each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tensor.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// Its bytes, counted from the start of the file.
    pub bytes: Range<u64>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Which of its bytes.
    pub share: Share,
}

/// The schemes, as reports name them.
pub(super) const MLX_AFFINE: &str = "MLX, affine";
pub(super) const MLX_MICROSCALING: &str = "MLX, microscaling";
pub(super) const COMPRESSED_TENSORS: &str = "compressed-tensors";
pub(super) const PACKED: &str = "compressed-tensors, packed";
pub(super) const NVFP4: &str = "compressed-tensors, NVFP4";
pub(super) const MXFP4: &str = "compressed-tensors, MXFP4";
pub(super) const MODELOPT: &str = "ModelOpt";
pub(super) const TORCHAO: &str = "torchao";
pub(super) const FINE_GRAINED: &str = "fine-grained FP8";
pub(super) const BITSANDBYTES_8: &str = "bitsandbytes, 8 bits";
pub(super) const BITSANDBYTES_4: &str = "bitsandbytes, 4 bits";

/// What is known of a module whose tensors are to be put together.
pub(super) struct Module<'a> {
    /// The tensor of its codes.
    pub(super) codes: &'a TensorRecord,
    /// Its other tensors.
    pub(super) others: Vec<&'a TensorRecord>,
    pub(super) config: Quantisation,
    pub(super) told: &'a Told,
}

/// The layout of a quantised module; `None` where the tensor's own bytes are all of a row, and why not
/// where there are no rows.
pub(super) fn layout(module: &Module<'_>) -> Result<Option<Layout>, String> {
    let Module { codes, others, config, told } = module;
    if let Some(state) = told.state() {
        return four_bits(codes, others, state).map(Some);
    }
    let [rows, own] = codes.shape[..] else { return Ok(None) };
    if rows == 0 || others.is_empty() {
        return Ok(None);
    }
    let Some(bits) = codes.dtype.bits() else { return Ok(None) };
    // What a server says of a file's length bounds nothing.
    let all = own.checked_mul(bits).filter(|&bits| bits > 0);
    let Some(all) = all.filter(|bits| bits.is_multiple_of(8)) else {
        return Err(format!("a row of {own} {} is no whole number of bytes", codes.dtype));
    };
    let mut parts = vec![part(codes, Share::Own { width: all / 8 })];
    let mut left_out = Vec::new();
    let (mut groups, mut packed) = (None, None);
    // In an order of their own: files and indexes list them in any.
    let mut others = others.clone();
    others.sort_by_key(|other| (suffix(&other.name).contains("bias"), &other.name));
    for &other in &others {
        let suffix = suffix(&other.name);
        if is_inert(suffix) {
            left_out.push(other.name.clone());
        } else if are_fields(codes, other) {
            packed = Some(other);
        } else if other.shape.iter().all(|&side| side == 1) {
            left_out.push(other.name.clone());
        } else {
            let share = share(codes, other, config)?;
            if suffix.ends_with("scale") || suffix.ends_with("scales") {
                groups = other.shape.get(1).copied();
            }
            parts.push(part(other, share));
        }
    }
    let columns = match codes.dtype {
        Dtype::I32 | Dtype::U32 => columns_of_words([rows, own], told, config, groups)?,
        // Two codes to a byte.
        Dtype::U8 => own * 2,
        _ => own,
    };
    let field = bits_of_codes(own, columns, config);
    if let Some(zeros) = packed {
        parts.push(part(zeros, fields(zeros, rows, field)?));
    }
    if parts.len() == 1 {
        return Ok(None);
    }
    let scheme = scheme(codes, &others, config);
    Ok(Some(Layout { scheme, rows, columns, parts, left_out, turned: Vec::new() }))
}

pub(super) fn part(record: &TensorRecord, share: Share) -> Part {
    let TensorRecord { name, dtype, range, .. } = record.clone();
    // Which file that is, whoever has the records knows.
    Part { tensor: name, file: String::new(), bytes: range, dtype, share }
}

pub(super) fn suffix(name: &str) -> &str {
    names::split(name).1
}

/// Tensors that say nothing of one row: about how all are stored, about inputs, or about columns.
pub(super) fn is_inert(suffix: &str) -> bool {
    const INERT: [&str; 8] = [
        ".weight_shape",
        ".weight_format",
        ".weight.quant_map",
        ".weight.nested_quant_map",
        ".input_scale",
        ".input_global_scale",
        ".weight_g_idx",
        ".g_idx",
    ];
    INERT.contains(&suffix) || suffix.starts_with(".weight.quant_state.")
}

/// Whether a tensor's words hold a zero point for each of several rows.
fn are_fields(codes: &TensorRecord, other: &TensorRecord) -> bool {
    let packed = suffix(&codes.name) == ".weight_packed" && other.dtype == Dtype::I32;
    let words = other.shape.len() == 2 && other.shape[0] != codes.shape[0];
    packed && words && suffix(&other.name) == ".weight_zero_point"
}

/// Which bytes of a further tensor belong to a row of the codes.
fn share(
    codes: &TensorRecord,
    other: &TensorRecord,
    config: &Quantisation,
) -> Result<Share, String> {
    let rows = codes.shape[0];
    let bytes = other.range.end - other.range.start;
    let of = |first: u64, width: u64| first.checked_mul(width) == Some(bytes);
    match other.shape[..] {
        [first] | [first, _] if first == rows && of(rows, bytes / rows) && bytes >= rows => {
            Ok(Share::Own { width: bytes / rows })
        }
        [first, _] if first > 0 && bytes.is_multiple_of(first) => match config.block_rows {
            Some(block) if block > 0 && rows.div_ceil(block) == first => {
                held(other)?;
                Ok(Share::Block { width: bytes / first, rows: block })
            }
            _ => Err(odd(other, rows)),
        },
        _ => Err(odd(other, rows)),
    }
}

fn odd(other: &TensorRecord, rows: u64) -> String {
    let name = quote::name(&other.name);
    format!(
        "nothing says which part of {name}, of shape {:?}, belongs to one of {rows} rows",
        other.shape
    )
}

/// Whether a tensor that rows share can be held in memory.
fn held(other: &TensorRecord) -> Result<(), String> {
    let bytes = other.range.end - other.range.start;
    match bytes <= MAX_SHARED {
        true => Ok(()),
        false => {
            let name = quote::name(&other.name);
            Err(format!("{name}, which rows share, has {bytes} bytes, more than {MAX_SHARED}"))
        }
    }
}

/// Zero points that lie side by side in words, along the rows.
fn fields(zeros: &TensorRecord, rows: u64, bits: Option<u64>) -> Result<Share, String> {
    let [words, count] = zeros.shape[..] else { return Err(odd(zeros, rows)) };
    held(zeros)?;
    let Some(bits) = bits else { return Err(odd(zeros, rows)) };
    let dense = rows.checked_mul(bits).map(|bits| bits.div_ceil(32)) == Some(words);
    // Where both fit, they are the same, or the rows are so few that nothing tells which it is.
    match (dense, rows.div_ceil(32 / bits) == words) {
        (true, other) if !other || bits.is_power_of_two() => {
            Ok(Share::Fields { bits, count, dense: true })
        }
        (false, true) => Ok(Share::Fields { bits, count, dense: false }),
        _ => Err(odd(zeros, rows)),
    }
}

/// Whether so many words hold exactly so many codes: one behind the other, or as many in each word as
/// it has room for.
fn hold(words: u64, columns: u64, bits: u64) -> bool {
    let dense = columns.checked_mul(bits).map(|bits| bits.div_ceil(32));
    columns > 0 && (dense == Some(words) || columns.div_ceil(32 / bits) == words)
}

/// Codes of a row that lie in words: as a tensor beside them tells, else by the configuration. What
/// words do not hold is refused.
fn columns_of_words(
    [rows, words]: [u64; 2],
    told: &Told,
    config: &Quantisation,
    groups: Option<u64>,
) -> Result<u64, String> {
    if let Some([first, columns]) = told.shape() {
        let held = first == rows && BITS.into_iter().any(|bits| hold(words, columns, bits));
        return held.then_some(columns).ok_or_else(|| {
            format!("its weight_shape tells of {first} × {columns} codes, and it has {rows} rows of {words} words")
        });
    }
    let by_groups =
        config.group_size.zip(groups).and_then(|(size, groups)| size.checked_mul(groups));
    let bits = config.bits.or_else(|| (words * 32).checked_div(by_groups?));
    let Some(bits) = bits.filter(|bits| BITS.contains(bits)) else { return Ok(words) };
    let columns = words * 32 / bits;
    match (config.group_size, groups) {
        (Some(size @ 1..), Some(groups @ 2..)) if columns.div_ceil(size) != groups => Err(format!(
            "its {words} words and {groups} scales a row are not of {bits} bits in groups of {size}, as it is configured"
        )),
        _ => Ok(columns),
    }
}

/// Bits of a code that lies in words.
const BITS: std::ops::RangeInclusive<u64> = 1..=8;

/// Bits of a code: as configured, if the words hold such codes, else the only number that they can have.
fn bits_of_codes(words: u64, columns: u64, config: &Quantisation) -> Option<u64> {
    let mut fit = BITS.filter(|&bits| hold(words, columns, bits));
    config.bits.filter(|bits| fit.clone().any(|fit| fit == *bits)).or_else(|| {
        let only = fit.next();
        only.filter(|_| fit.next().is_none())
    })
}

/// bitsandbytes with 4 bits: codes in one flat run, two to a byte, with an absolute maximum for each
/// block of them; these may be quantised once more.
fn four_bits(
    codes: &TensorRecord,
    others: &[&TensorRecord],
    state: &QuantState,
) -> Result<Layout, String> {
    let [rows, columns] = state.shape[..] else {
        return Err(format!("its quant_state has the shape {:?}", state.shape));
    };
    let elements = rows.checked_mul(columns).filter(|&elements| elements > 0);
    let bytes = codes.range.end - codes.range.start;
    if elements.map(|elements| elements.div_ceil(2)) != Some(bytes) {
        return Err(format!(
            "its quant_state tells of {rows} × {columns} codes, and it has {bytes} bytes"
        ));
    }
    let block = state.blocksize;
    if block == 0 || !columns.is_multiple_of(block) || columns % 2 != 0 {
        return Err(format!("its blocks of {block} codes are shared by rows of {columns}"));
    }
    let count = columns / block;
    let find = |suffix: &str| {
        let found = others.iter().find(|other| other.name.ends_with(suffix)).copied();
        found.ok_or_else(|| format!("it has no {suffix}"))
    };
    let absmax = find(".weight.absmax")?;
    let width = absmax.dtype.bits().unwrap_or(0) / 8 * count;
    if absmax.range.end - absmax.range.start != width * rows || width == 0 {
        return Err(odd(absmax, rows));
    }
    let mut parts =
        vec![part(codes, Share::Own { width: columns / 2 }), part(absmax, Share::Own { width })];
    if absmax.dtype == Dtype::U8 {
        let nested = find(".weight.nested_absmax")?;
        let share = state.nested_blocksize.filter(|&share| share > 0);
        let share = share.ok_or_else(|| odd(nested, rows))?;
        let size = nested.dtype.bits().unwrap_or(0) / 8;
        if nested.range.end - nested.range.start != (rows * count).div_ceil(share) * size {
            return Err(odd(nested, rows));
        }
        held(nested)?;
        parts.push(part(nested, Share::Elements { width: size, count, share }));
    }
    let used = |other: &&&TensorRecord| parts.iter().all(|part| part.tensor != other.name);
    let left_out = others.iter().filter(used).map(|other| other.name.clone()).collect();
    Ok(Layout { scheme: BITSANDBYTES_4, rows, columns, parts, left_out, turned: Vec::new() })
}

/// What writes such tensors: by their names, and by what the configuration says.
fn scheme(codes: &TensorRecord, others: &[&TensorRecord], config: &Quantisation) -> &'static str {
    let has = |suffix: &str| others.iter().any(|other| other.name.ends_with(suffix));
    let method = config.method.as_deref().unwrap_or_default();
    match suffix(&codes.name) {
        ".weight_packed" if codes.dtype == Dtype::U8 && has(".weight_global_scale") => NVFP4,
        ".weight_packed" if codes.dtype == Dtype::U8 => MXFP4,
        ".weight_packed" => PACKED,
        _ if has(".SCB") => BITSANDBYTES_8,
        _ if has(".scales") && has(".biases") => MLX_AFFINE,
        _ if has(".scales") => MLX_MICROSCALING,
        _ if has(".weight_scale_inv") => FINE_GRAINED,
        _ if has("_weight_scale") && suffix(&codes.name).contains("qdata") => TORCHAO,
        _ if method == "modelopt" || has(".weight_scale_2") => MODELOPT,
        _ if method == "compressed-tensors" => COMPRESSED_TENSORS,
        _ => "codes with scales",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, dtype: Dtype, shape: &[u64]) -> TensorRecord {
        let bytes = shape.iter().product::<u64>() * dtype.bits().unwrap() / 8;
        TensorRecord { name: name.into(), dtype, shape: shape.to_vec(), range: 8..8 + bytes }
    }

    fn of(
        codes: TensorRecord,
        others: &[TensorRecord],
        config: Quantisation,
    ) -> Result<Option<Layout>, String> {
        layout(&Module {
            codes: &codes,
            others: others.iter().collect(),
            config,
            told: &Told::default(),
        })
    }

    fn blocks(rows: u64) -> Quantisation {
        Quantisation { block_rows: Some(rows), ..Quantisation::default() }
    }

    #[test]
    fn a_scale_is_of_a_row_of_a_block_or_of_all() {
        let codes = || record("h.weight", Dtype::F8E4M3, &[300, 64]);
        let scale = |shape: &[u64]| [record("h.weight_scale", Dtype::F32, shape)];
        let found = |shape: &[u64], config| of(codes(), &scale(shape), config);
        for shape in [&[1][..], &[], &[1, 1]] {
            assert_eq!(found(shape, blocks(128)), Ok(None), "{shape:?}");
        }
        for (shape, width) in [(&[300][..], 4), (&[300, 1], 4), (&[300, 4], 16)] {
            let found = found(shape, Quantisation::default()).unwrap().unwrap();
            assert_eq!(found.parts[1].share, Share::Own { width }, "{shape:?}");
        }
        let block = found(&[3, 2], blocks(128)).unwrap().unwrap();
        assert_eq!(block.parts[1].share, Share::Block { width: 8, rows: 128 });
        // Of any other shape nothing says whose it is.
        for (shape, rows) in [(&[3, 2][..], 64), (&[4, 2], 128), (&[2, 3, 4], 128), (&[64], 128)] {
            assert!(found(shape, blocks(rows)).is_err(), "{shape:?}");
        }
        assert!(found(&[3, 2], Quantisation::default()).is_err());
    }

    #[test]
    fn zero_points_that_rows_share_are_fields_of_words() {
        let codes = || record("h.weight_packed", Dtype::I32, &[300, 16]);
        let with = |words: u64, bits| {
            let others = [
                record("h.weight_scale", Dtype::Bf16, &[300, 4]),
                record("h.weight_zero_point", Dtype::I32, &[words, 4]),
            ];
            of(codes(), &others, Quantisation { bits, ..Quantisation::default() })
        };
        let found = with(38, Some(4)).unwrap().unwrap();
        assert_eq!(
            (found.columns, found.parts[2].share),
            (128, Share::Fields { bits: 4, count: 4, dense: true })
        );
        // The groups tell what the configuration does not.
        assert!(
            with(38, None).is_err() && with(37, Some(4)).is_err() && with(38, Some(3)).is_err()
        );
        // Of three bits ten fit into a word, or 32 into three.
        let of_three = |words: u64, columns_in_words: u64| {
            let codes = record("h.weight_packed", Dtype::I32, &[300, columns_in_words]);
            let others = [record("h.weight_zero_point", Dtype::I32, &[words, 4])];
            let config = Quantisation { bits: Some(3), ..Quantisation::default() };
            of(codes, &others, config).unwrap().unwrap().parts[1].share
        };
        assert_eq!(of_three(29, 12), Share::Fields { bits: 3, count: 4, dense: true });
        assert_eq!(of_three(30, 12), Share::Fields { bits: 3, count: 4, dense: false });
    }

    #[test]
    fn blocks_that_cross_the_ends_of_rows_are_refused() {
        let state = record("h.weight.quant_state.bitsandbytes__nf4", Dtype::U8, &[64]);
        let state = |json: &str| {
            let mut told = Told::default();
            told.add(&state, json.as_bytes()).map(|()| told)
        };
        let codes = record("h.weight", Dtype::U8, &[300 * 64, 1]);
        let absmax = [record("h.weight.absmax", Dtype::F32, &[600])];
        let found = |json: &str| {
            let (told, others) = (state(json).unwrap(), absmax.iter().collect());
            let config = Quantisation::default();
            layout(&Module { codes: &codes, others, config, told: &told })
        };
        let whole = found(r#"{"shape": [300, 128], "blocksize": 64}"#).unwrap().unwrap();
        assert_eq!((whole.rows, whole.columns, whole.parts[1].share.width()), (300, 128, 8));
        for json in [
            r#"{"shape": [600, 64], "blocksize": 128}"#,
            r#"{"shape": [300, 127], "blocksize": 64}"#,
            r#"{"shape": [300, 128], "blocksize": 0}"#,
            r#"{"shape": [18446744073709551615, 128], "blocksize": 64}"#,
            r#"{"shape": [300], "blocksize": 64}"#,
        ] {
            assert!(found(json).is_err(), "{json}");
        }
        assert!(state("{}").is_err() && state("").is_err());
    }
}
