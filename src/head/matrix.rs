//! The chosen tensor as rows of bytes; refuses by name what has none.

use super::candidates::Role;
use super::coding::{Numbers, coding};
use super::config::Quantisation;
use super::layout::{self, Layout, Module, Part};
use super::locate::Located;
use super::names::{self, Kind};
use super::told::Told;
use super::turned::turned;
use crate::checkpoint::{Dtype, TensorRecord};
use crate::error::{Error, Result};
use crate::quote;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// The most rows: 32 bytes are kept for each, before the first has come. The largest vocabularies
/// known have about a million.
const MAX_ROWS: u64 = 1 << 24;

/// The longest row: one row of each stream is held in memory. The widest heads known have 64 kB.
const MAX_ROW_BYTES: u64 = 16 << 20;

/// Rows of a matrix that lie one after another: a tensor, or the part of the matrix that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The tensor.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// The rows, counted in the whole matrix.
    pub rows: Range<u64>,
    /// Their bytes, counted from the start of the file.
    pub bytes: Range<u64>,
}

/// Rows of a stored head that were held against those of the input embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The input embedding's tensor.
    pub tensor: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that were equal.
    pub equal: u64,
}

/// A matrix whose rows are runs of bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// What it is to the model.
    pub role: Role,
    /// The tensor; the first, where there are several.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// Whether head and input embedding are one; `None` where nothing says.
    pub tied: Option<bool>,
    /// Why this tensor.
    pub reason: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Number of rows: ids of the vocabulary, padding included.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Bytes of a row, at least one.
    pub row_bytes: u64,
    /// Where the rows are: at least one span, in order, each beginning where the one before ends.
    pub spans: Vec<Span>,
    /// What a sample of its rows says, where a flag says that it is the input embedding too.
    pub sample: Option<Sample>,
    /// Tensors of one element beside codes: what multiplies all rows alike, and is not applied.
    pub scales: Vec<String>,
    /// How rows lie in several tensors side by side; the span is of them as if they lay in one file.
    pub layout: Option<Layout>,
    /// What a row's bytes stand for.
    pub numbers: Numbers,
}

impl Matrix {
    /// Takes the chosen tensor for rows, if it has any, and those that its rows go on in. `records`
    /// are theirs, each with the file's name, in order; `companion` looks up the other tensors of
    /// its module, which may hold a part of each row's value; `config` and `told` say how.
    pub fn new<'a>(
        located: Located,
        records: &[(String, &TensorRecord)],
        companion: &dyn Fn(&str) -> Option<&'a TensorRecord>,
        config: &Quantisation,
        told: &Told,
    ) -> Result<Self> {
        let unreadable = |why: String| Error::Unreadable { tensor: located.tensor.clone(), why };
        let [(file, record), ..] = records else {
            return Err(unreadable("no record of it was read".into()));
        };
        let layout = match located.role {
            Role::Tensor => None,
            _ => quantised(&located, record, companion, config, told).map_err(unreadable)?,
        };
        if let Some(layout) = layout {
            let coding = coding(&layout, config, told);
            let numbers =
                coding.map_or(Numbers::Unknown, |coding| Numbers::Coded(Arc::new(coding)));
            return Self::of_layout(located, file, record, layout, numbers);
        }
        let [rows, columns] = record.shape[..] else {
            let sides = record.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            return Err(unreadable(format!("its shape [{sides}] is not 2-D")));
        };
        if let Dtype::Unknown(name) = &record.dtype {
            return Err(unreadable(format!("its type {} is unknown", quote::name(name))));
        }
        if columns == 0 {
            return Err(unreadable("it has no columns".into()));
        }
        let Some(row_bytes) = record.dtype.bytes_of(columns) else {
            let why = format!("a row of {columns} {} is no whole number of bytes", record.dtype);
            return Err(unreadable(why));
        };
        if row_bytes > MAX_ROW_BYTES {
            let why = format!("a row has {row_bytes} bytes, more than {MAX_ROW_BYTES}");
            return Err(unreadable(why));
        }
        let mut spans: Vec<Span> = Vec::new();
        for (file, part) in records {
            if part.dtype != record.dtype || part.shape.len() != 2 || part.shape[1] != columns {
                let more = quote::name(&part.name);
                let why = format!("its rows go on in {more}, whose rows are of another kind");
                return Err(unreadable(why));
            }
            let first = spans.last().map_or(0, |span| span.rows.end);
            let end = first.saturating_add(part.shape[0]);
            if end > MAX_ROWS {
                return Err(unreadable(format!("it has {end} rows, more than {MAX_ROWS}")));
            }
            let (tensor, file, bytes) = (part.name.clone(), file.clone(), part.range.clone());
            spans.push(Span { tensor, file, rows: first..end, bytes });
        }
        let scale = |name: &&String| !is_float(&record.dtype) && name.contains("weight_scale");
        let scales: Vec<String> = located.companions.iter().filter(scale).cloned().collect();
        // Codes times one scale keep their order and their zeros; what else there is for all may not.
        let others = located.companions.len() - scales.len();
        let inert = located.companions.iter().filter(|name| layout::is_inert(layout::suffix(name)));
        let numbers = match is_float(&record.dtype) || others == inert.count() {
            true => record.dtype.clone().into(),
            false => Numbers::Unknown,
        };
        let Located { role, tensor, tied, mut reason, .. } = located;
        for span in &spans[1..] {
            reason += &format!("; its rows from {} on are {}", span.rows.start, span.tensor);
        }
        Ok(Self {
            scales,
            role,
            tensor,
            file: file.clone(),
            tied,
            reason,
            dtype: record.dtype.clone(),
            rows: spans.last().map_or(rows, |span| span.rows.end),
            columns,
            row_bytes,
            spans,
            sample: None,
            layout: None,
            numbers,
        })
    }

    /// A matrix whose rows lie in several tensors.
    fn of_layout(
        located: Located,
        file: &str,
        record: &TensorRecord,
        layout: Layout,
        numbers: Numbers,
    ) -> Result<Self> {
        let Located { role, tensor, more, tied, mut reason, .. } = located;
        let unreadable = |why: String| Error::Unreadable { tensor: tensor.clone(), why };
        if let [more, ..] = more.as_slice() {
            return Err(unreadable(format!("it is quantised, and its rows go on in {more}")));
        }
        let Layout { rows, columns, scheme, ref parts, ref turned, .. } = layout;
        let row_bytes = parts.iter().map(|part| part.share.width()).sum();
        if rows > MAX_ROWS {
            return Err(unreadable(format!("it has {rows} rows, more than {MAX_ROWS}")));
        }
        if row_bytes > MAX_ROW_BYTES {
            let why = format!("a row has {row_bytes} bytes, more than {MAX_ROW_BYTES}");
            return Err(unreadable(why));
        }
        if turned.iter().any(|packing| packing.line_bytes(rows) > MAX_ROW_BYTES) {
            return Err(unreadable(format!("its lines of {rows} tokens are too long")));
        }
        let of = |part: &Part| format!("{} bytes of {}", part.share.width(), part.tensor);
        let of: Vec<String> = parts.iter().map(of).collect();
        reason += &format!("; a row is {} ({scheme})", of.join(", "));
        let bytes = 0..rows * row_bytes;
        let span = Span { tensor: tensor.clone(), file: file.to_owned(), rows: 0..rows, bytes };
        Ok(Self {
            role,
            tensor,
            file: file.to_owned(),
            tied,
            reason,
            dtype: record.dtype.clone(),
            rows,
            columns,
            row_bytes,
            spans: vec![span],
            sample: None,
            scales: Vec::new(),
            layout: Some(layout),
            numbers,
        })
    }

    /// The rows cut where they go on in another place: the number of the span, the rows, and their
    /// bytes in its file.
    pub fn pieces(
        &self,
        rows: Range<u64>,
    ) -> impl Iterator<Item = (usize, Range<u64>, Range<u64>)> {
        self.spans.iter().enumerate().filter_map(move |(number, span)| {
            let start = rows.start.max(span.rows.start);
            let end = rows.end.min(span.rows.end);
            let byte = |row: u64| span.bytes.start + (row - span.rows.start) * self.row_bytes;
            (start < end).then(|| (number, start..end, byte(start)..byte(end)))
        })
    }

    /// Whether another matrix is the same bytes of the same file.
    pub fn is_one_with(&self, other: &Self) -> bool {
        let places = |matrix: &Self| -> Vec<(String, Range<u64>)> {
            matrix.spans.iter().map(|span| (span.file.clone(), span.bytes.clone())).collect()
        };
        let whole = self.layout.is_none() && other.layout.is_none() && self.rows > 0;
        whole && places(self) == places(other)
    }

    /// Adds what a sample of its rows says.
    pub fn sampled(&mut self, sample: Sample) {
        let Sample { rows, equal, .. } = sample;
        self.reason += &format!("; {equal} of {rows} sampled rows equal the embedding's");
        self.sample = Some(sample);
    }

    /// Bytes of all rows. What rows share counts for each.
    pub fn bytes(&self) -> u64 {
        self.rows * self.row_bytes
    }

    /// Bytes that are read for them.
    pub fn stored_bytes(&self) -> u64 {
        self.layout.as_ref().map_or_else(|| self.bytes(), Layout::bytes)
    }

    /// Tensors that are read side by side.
    pub fn strands(&self) -> usize {
        self.layout.as_ref().map_or(1, Layout::strands)
    }
}

/// How rows lie in the tensors of a quantised module; `None` where the tensor's own bytes are its
/// rows, and why not where it has none.
///
/// A companion of a single element scales the whole tensor and cannot tell two rows apart. Where a
/// plain float matrix stands beside the remains of a packed one, the plain one is the matrix.
fn quantised<'a>(
    located: &Located,
    record: &TensorRecord,
    companion: &dyn Fn(&str) -> Option<&'a TensorRecord>,
    config: &Quantisation,
    told: &Told,
) -> Result<Option<Layout>, String> {
    let ends = |suffix: &str| located.tensor.ends_with(suffix);
    let has = |suffix: &str| located.companions.iter().any(|name| name.ends_with(suffix));
    if has(".qweight") && !is_float(&record.dtype) {
        return Err(
            "it is packed by GPTQ or AWQ, and codes of another kind stand beside".to_owned()
        );
    }
    // bitsandbytes may keep its codes in elements of any type; beside what it has left over of a
    // plain matrix, that has the matrix's own sides.
    let packed = told.state().is_some_and(|state| state.shape != record.shape);
    if is_float(&record.dtype) && !packed {
        return Ok(None);
    }
    let mut others = Vec::new();
    for name in &located.companions {
        let unread = || format!("it is quantised, and nothing is known of {}", quote::name(name));
        others.push(companion(name).ok_or_else(unread)?);
    }
    if ends(".qweight") {
        if is_embedding(&located.tensor) {
            // GPTQModel packs an embedding the other way: several tokens in a word.
            return Err(
                "it is an input embedding packed by GPTQ, with tokens side by side in words, \
                        which is not read"
                    .to_owned(),
            );
        }
        return turned(record, &others, config).map(Some);
    }
    layout::layout(&Module { codes: record, others, config: config.clone(), told })
        .map_err(|why| format!("it is quantised, and {why}; --tensor compares its codes alone"))
}

/// Whether a tensor's name is that of an input embedding, and not of a head.
fn is_embedding(tensor: &str) -> bool {
    let stem = names::split(tensor).0;
    matches!(names::kind(tensor, stem), Some(Kind::Embedding { .. }))
}

/// Whether elements are values by themselves, not codes that a scale turns into values.
fn is_float(dtype: &Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 | Dtype::C64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Quantisation {
        Quantisation::default()
    }

    fn matrix(dtype: Dtype, shape: &[u64], parts: &[(&str, &[u64])]) -> Result<Matrix> {
        let of = |name: &str, dtype: &Dtype, shape: &[u64]| TensorRecord {
            name: name.to_owned(),
            dtype: dtype.clone(),
            shape: shape.to_vec(),
            range: 8..8 + shape.iter().product::<u64>() * dtype.bits().unwrap_or(8) / 8,
        };
        let companions: Vec<_> = parts.iter().map(|(n, s)| of(n, &Dtype::F32, s)).collect();
        let located = Located {
            role: Role::Unembedding,
            tensor: "lm_head.weight".into(),
            companions: parts.iter().map(|(name, _)| (*name).to_owned()).collect(),
            tied: None,
            reason: String::new(),
            more: Vec::new(),
            twin: None,
        };
        let record = of("lm_head.weight", &dtype, shape);
        let companion = |name: &str| companions.iter().find(|r| r.name == name);
        Matrix::new(located, &[("f".to_owned(), &record)], &companion, &config(), &Told::default())
    }

    #[test]
    fn rows_are_counted_in_bytes() {
        let found = matrix(Dtype::F6E2M3, &[5, 8], &[]).unwrap();
        assert_eq!((found.rows, found.columns, found.row_bytes), (5, 8, 6));
    }

    #[test]
    fn what_has_no_rows_is_refused() {
        for (dtype, shape) in [
            (Dtype::Bf16, &[4, 8, 8][..]),
            (Dtype::Bf16, &[8]),
            (Dtype::Bf16, &[4, 0]),
            (Dtype::F4, &[2, 3]),
            (Dtype::Unknown("NEW".into()), &[2, 2]),
        ] {
            assert!(matrix(dtype, shape, &[]).is_err());
        }
    }

    #[test]
    fn a_companion_of_more_elements_than_can_be_counted_is_not_a_single_one() {
        // The product is 1, counted modulo 2^64.
        let sides = [0xcccc_cccc_cccc_cccd, 5];
        let located = Located {
            role: Role::Unembedding,
            tensor: "lm_head.weight".into(),
            companions: vec!["lm_head.weight_scale".into()],
            tied: None,
            reason: String::new(),
            more: Vec::new(),
            twin: None,
        };
        let record = |name: &str, dtype: Dtype, shape: &[u64]| TensorRecord {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            range: 8..40,
        };
        let scale = record("lm_head.weight_scale", Dtype::Unknown("NEW".into()), &sides);
        let codes = record("lm_head.weight", Dtype::F8E4M3, &[4, 8]);
        let records = [("f".to_owned(), &codes)];
        assert!(
            Matrix::new(located, &records, &|_| Some(&scale), &config(), &Told::default()).is_err()
        );
    }

    #[test]
    fn scales_of_rows_are_parts_of_them_and_a_single_one_is_not() {
        let scales = ("lm_head.weight_scale", &[4u64, 1][..]);
        let whole = ("lm_head.weight_scale", &[1u64][..]);
        let odd = ("lm_head.weight_scale", &[3u64, 1][..]);
        let found = matrix(Dtype::F8E4M3, &[4, 8], &[scales]).unwrap();
        assert_eq!((found.rows, found.columns, found.row_bytes), (4, 8, 12));
        assert!(matrix(Dtype::F8E4M3, &[4, 8], &[odd]).is_err());
        let found = matrix(Dtype::F8E4M3, &[4, 8], &[whole]).unwrap();
        assert_eq!(found.scales, ["lm_head.weight_scale"]);
        let dead = ("lm_head.qweight", &[4u64, 1][..]);
        assert!(matrix(Dtype::Bf16, &[4, 8], &[dead]).is_ok());
        assert!(matrix(Dtype::I32, &[4, 8], &[dead]).is_err());
    }

    #[test]
    fn values_are_not_known_where_one_number_for_all_has_no_place() {
        let scale = ("lm_head.weight_scale", &[1u64][..]);
        let zero = ("lm_head.weight_zero_point", &[1u64][..]);
        let strange = ("lm_head.weight_multiplier", &[1u64][..]);
        let input = ("lm_head.input_scale", &[1u64][..]);
        let numbers = |parts: &[_]| matrix(Dtype::I8, &[4, 8], parts).unwrap().numbers;
        assert_eq!(numbers(&[scale, input]), Numbers::Plain(Dtype::I8));
        assert_eq!(numbers(&[scale, zero]), Numbers::Unknown);
        assert_eq!(numbers(&[scale, strange]), Numbers::Unknown);
    }

    #[test]
    fn rows_that_go_on_in_another_tensor_are_one_matrix() {
        let record = |name: &str, dtype: Dtype, shape: &[u64], start: u64| TensorRecord {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            range: start..start + shape.iter().product::<u64>() * 2,
        };
        let located =
            Located { more: vec!["b".into()], role: Role::Unembedding, ..Located::named("a") };
        let first = record("a", Dtype::Bf16, &[10, 4], 100);
        let of = |second: &TensorRecord| {
            let records = [("f".to_owned(), &first), ("g".to_owned(), second)];
            Matrix::new(located.clone(), &records, &|_| None, &config(), &Told::default())
        };
        let found = of(&record("b", Dtype::Bf16, &[3, 4], 8)).unwrap();
        assert_eq!((found.rows, found.bytes()), (13, 104));
        let pieces: Vec<_> = found.pieces(9..12).collect();
        assert_eq!(pieces, [(0, 9..10, 172..180), (1, 10..12, 8..24)]);
        assert_eq!(found.pieces(10..13).count(), 1);
        for (dtype, shape) in [(Dtype::F16, [3, 4]), (Dtype::Bf16, [3, 5])] {
            assert!(of(&record("b", dtype, &shape, 8)).is_err());
        }
    }
}
