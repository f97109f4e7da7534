//! Step 9: one model of the result, many renderings.
//!
//! A [`Report`] is plain data, the same in memory and in JSON, and deterministic but for its
//! `transfer` part. Renderings know nothing of how it came about.

mod classes;
mod profile;
mod cross;
mod degenerate;
mod csv;
mod ids;
mod inspection;
mod json;
pub mod jsonl;
mod markdown;
mod numbers;
mod text;
mod verdict;

use crate::analysis::{Digest, Equality, Group, Grouping, RowProfile};
use crate::head::{Considered, Layout, Matrix, Part, Role, Sample, Span};
use crate::resolve::Origin;
use crate::vocabulary::Token;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::str::FromStr;

pub use classes::{ClassCount, ClassLine, ClassesPart, ScriptCount, is_emittable};
pub use cross::{Cell, CrossPart, State, States};
pub use csv::Csv;
pub use degenerate::DegeneratePart;
pub use ids::Ids;
pub use inspection::inspection;
pub use json::{Json, pretty};
pub use markdown::Markdown;
pub use profile::{CentroidPart, ClassNorms, GeometryPart, ProfilePart};
pub use text::{Text, called, count, size, some};
pub use verdict::{
    Basis, Check, Figures, Finding, Judged, Level, Outcome, Rule, SUMMARY_ROOM, Verdict,
    VerdictFormat, summary,
};

/// The version of the JSON form; it changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What was found in one matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// What made the report.
    pub tool: Tool,
    /// What the reader should know, a sentence each.
    pub warnings: Vec<String>,
    /// Where the model was read from.
    pub model: Origin,
    /// The matrix.
    pub matrix: MatrixPart,
    /// The tokenizer, if there is one.
    pub tokenizer: Option<TokenizerPart>,
    /// The groups of equal rows.
    pub duplicates: DuplicatesPart,
    /// The classes of all rows, where they were asked for.
    #[serde(default)]
    pub classes: Option<ClassesPart>,
    /// The numbers of all rows, where they were asked for, as the next.
    #[serde(default)]
    pub profile: Option<ProfilePart>,
    /// The rows that are zero or not finite, where classes, numbers or they themselves were asked for.
    #[serde(default)]
    pub degenerate: Option<DegeneratePart>,
    /// Where the groups' vectors lie; `null` too where there is no group, or none that is finite.
    #[serde(default)]
    pub geometry: Option<GeometryPart>,
    /// BLAKE3 over the digests of all rows' stored bytes, in row order; `null` if not all were read.
    pub matrix_digest: Option<Digest>,
    /// What was read, where rows were probed and not all read whole.
    #[serde(default)]
    pub probe: Option<ProbePart>,
    /// What it cost.
    pub transfer: Transfer,
}

/// What was found in the matrices of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// The version of this form.
    pub schema: u32,
    /// A report for each matrix, in the order they were asked for.
    pub reports: Vec<Report>,
    /// Head and input embedding side by side, where both were read.
    #[serde(default)]
    pub cross: Option<CrossPart>,
}

impl From<Vec<Report>> for Reports {
    fn from(reports: Vec<Report>) -> Self {
        Self { schema: SCHEMA, reports, cross: None }
    }
}

/// The program that made a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// The matrix whose rows were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixPart {
    /// What it is to the model.
    pub role: Role,
    /// The tensor's name.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// Whether head and input embedding are one; `null` where nothing says.
    pub tied: Option<bool>,
    /// Why this tensor.
    pub reason: String,
    /// The type of its elements, as the header names it.
    pub dtype: String,
    /// Rows: ids of the vocabulary, padding included.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Bytes of the matrix.
    pub bytes: u64,
    /// The tensors that hold the rows, in order, where they are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<SpanPart>,
    /// How a quantised row lies in several tensors side by side, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutPart>,
    /// What a few rows say, where a flag says that a stored head is the input embedding too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// What a row of a quantised matrix is: the bytes that were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutPart {
    /// The scheme that writes such tensors.
    pub scheme: String,
    /// Where a row's bytes come from, in order.
    pub parts: Vec<StrandPart>,
    /// Tensors of the module that say nothing about one row, and were not read.
    pub left_out: Vec<String>,
}

/// What one tensor adds to each row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandPart {
    /// The tensor's name.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// The type of its elements.
    pub dtype: String,
    /// Bytes that it adds to each row.
    pub row_bytes: u64,
    /// Whether these are the row's own, and not shared by several rows.
    pub own: bool,
}

impl From<&Layout> for LayoutPart {
    fn from(layout: &Layout) -> Self {
        let part = |part: &Part| StrandPart {
            tensor: part.tensor.clone(),
            file: part.file.clone(),
            dtype: part.dtype.name().to_owned(),
            row_bytes: part.share.width(),
            own: part.share.is_own(),
        };
        Self {
            scheme: layout.scheme.to_owned(),
            parts: layout.parts.iter().map(part).collect(),
            left_out: layout.left_out.clone(),
        }
    }
}

/// The rows of a matrix that one tensor holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanPart {
    /// The tensor's name.
    pub tensor: String,
    /// The file that holds it.
    pub file: String,
    /// Its first row, and the first behind it.
    pub rows: [u64; 2],
    /// Its first byte in the file, and the first behind it.
    pub byte_range: [u64; 2],
}

impl From<&Span> for SpanPart {
    fn from(span: &Span) -> Self {
        Self {
            tensor: span.tensor.clone(),
            file: span.file.clone(),
            rows: [span.rows.start, span.rows.end],
            byte_range: [span.bytes.start, span.bytes.end],
        }
    }
}

impl From<&Matrix> for MatrixPart {
    fn from(matrix: &Matrix) -> Self {
        Self {
            role: matrix.role,
            tensor: matrix.tensor.clone(),
            file: matrix.file.clone(),
            tied: matrix.tied,
            reason: matrix.reason.clone(),
            dtype: matrix.dtype.name().to_owned(),
            rows: matrix.rows,
            columns: matrix.columns,
            row_bytes: matrix.row_bytes,
            bytes: matrix.stored_bytes(),
            parts: match matrix.spans.as_slice() {
                [_] => Vec::new(),
                spans => spans.iter().map(SpanPart::from).collect(),
            },
            layout: matrix.layout.as_ref().map(LayoutPart::from),
            sample: matrix.sample.clone(),
        }
    }
}

/// The tokenizer that named the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerPart {
    /// How many ids it has.
    pub size: u64,
    /// Rows past its last id, where its files tell which is the last.
    pub padding_rows: u64,
    /// The file it was read from; absent where that is a `tokenizer.json`, or the weights' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// How rows were told apart without reading all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePart {
    /// Bytes of each row that were looked at first.
    pub prefix_bytes: u64,
    /// Rows that were then read whole, because another has the same prefix.
    pub rows_read: u64,
}

/// The groups of equal rows. The figures describe the whole matrix; the list may leave out small
/// groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DuplicatesPart {
    /// When two rows count as equal.
    pub equality: Equality,
    /// Rows of the matrix.
    pub rows: u64,
    /// Different row values.
    pub distinct: u64,
    /// rows − distinct = members − groups.
    pub excess: u64,
    /// Rows inside groups.
    pub members: u64,
    /// How many groups there are.
    pub groups_total: u64,
    /// Members of the largest group; `null` without groups, as the next three.
    pub largest: Option<u64>,
    /// Members of the smallest group.
    pub smallest: Option<u64>,
    /// Mean of the groups' sizes.
    pub mean: Option<f64>,
    /// Median of the groups' sizes: the mean of the middle two.
    pub median: Option<f64>,
    /// How many groups there are of each size, ascending.
    pub histogram: Vec<Bin>,
    /// Size descending, then by first row.
    pub groups: Vec<GroupPart>,
}

/// How many groups have one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// The size.
    pub size: u64,
    /// Groups of that size.
    pub groups: u64,
}

/// One group of equal rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPart {
    /// How many members it has.
    pub size: u64,
    /// BLAKE3 of a member's bytes; under equality of values with −0 rewritten as +0.
    pub digest: Digest,
    /// The members, ascending.
    pub rows: Vec<u64>,
    /// What the members are called; empty without a tokenizer, as the next three.
    pub tokens: Vec<Token>,
    /// The members that the tokenizer can emit. Where there are two, the model cannot tell them
    /// apart.
    #[serde(default)]
    pub emittable: Vec<u64>,
    /// The members by class: most first.
    #[serde(default)]
    pub classes: Vec<ClassCount>,
    /// The members that are texts by script: most first.
    #[serde(default)]
    pub scripts: Vec<ScriptCount>,
    /// The L2 norm of the vector they share, where rows were measured and it is finite.
    #[serde(default)]
    pub norm: Option<f64>,
    /// How far that vector is from the mean of all rows, in L2; of the largest groups only, as many
    /// as the geometry is of.
    #[serde(default)]
    pub centroid_distance: Option<f64>,
}

impl GroupPart {
    fn new(group: &Group, token: Option<&dyn Fn(u64) -> Token>) -> Self {
        let named =
            |token: &dyn Fn(u64) -> Token| group.rows.iter().map(|&row| token(row)).collect();
        let tokens: Vec<Token> = token.map(named).unwrap_or_default();
        Self {
            size: group.rows.len() as u64,
            digest: group.digest,
            rows: group.rows.clone(),
            emittable: tokens.iter().filter(|t| is_emittable(t)).map(|t| t.row).collect(),
            classes: classes::by_class(&tokens),
            scripts: classes::by_script(&tokens),
            tokens,
            norm: None,
            centroid_distance: None,
        }
    }

    /// The group in one line, where its members have classes.
    pub fn reading(&self) -> Option<String> {
        (!self.classes.is_empty()).then(|| classes::reading(self.size, &self.classes))
    }
}

/// What a run cost. The only part of a report that differs between two runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// HTTP requests sent.
    pub requests: u64,
    /// Body bytes received over HTTP.
    pub bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Bytes of all weights of the checkpoint, where an index or the only file tells.
    #[serde(default)]
    pub checkpoint_bytes: Option<u64>,
    /// Whether the rows were read in an earlier run, and what was found was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

impl DuplicatesPart {
    /// The finding with its figures; groups of fewer than `min_size` rows are counted, not listed.
    /// `token` names a row, where there is a tokenizer.
    pub fn new(
        found: &Grouping,
        equality: Equality,
        min_size: u64,
        token: Option<&dyn Fn(u64) -> Token>,
    ) -> Self {
        // Ascending, as the histogram wants them.
        let sizes: Vec<u64> = found.groups.iter().rev().map(|g| g.rows.len() as u64).collect();
        let middle = |at: usize| sizes.get(at).map_or(0.0, |&size| size as f64);
        let some = (!sizes.is_empty()).then_some(sizes.len());
        Self {
            equality,
            rows: found.rows,
            distinct: found.distinct(),
            excess: found.excess(),
            members: found.members(),
            groups_total: sizes.len() as u64,
            largest: sizes.last().copied(),
            smallest: sizes.first().copied(),
            mean: some.map(|n| found.members() as f64 / n as f64),
            median: some.map(|n| (middle((n - 1) / 2) + middle(n / 2)) / 2.0),
            histogram: sizes
                .chunk_by(|a, b| a == b)
                .map(|bin| Bin { size: bin[0], groups: bin.len() as u64 })
                .collect(),
            groups: found
                .groups
                .iter()
                .filter(|group| group.rows.len() as u64 >= min_size)
                .map(|group| GroupPart::new(group, token))
                .collect(),
        }
    }

    /// Adds to each group how long its vector is and, as far as is known, how far from the mean.
    pub fn measured(mut self, profile: &RowProfile, from_centroid: &[Option<f64>]) -> Self {
        // The groups left out are the smallest, which come last.
        for (at, group) in self.groups.iter_mut().enumerate() {
            let norm = group.rows.first().and_then(|&row| profile.norms.get(row as usize));
            group.norm = norm.copied().filter(|norm| norm.is_finite());
            group.centroid_distance = from_centroid.get(at).copied().flatten();
        }
        self
    }
}

/// What a scan would read, from headers alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The version of this form.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// What the reader should know, a sentence each.
    pub warnings: Vec<String>,
    /// Where the model was read from.
    pub model: Origin,
    /// The matrix.
    pub matrix: MatrixPart,
    /// The matrix's first byte in its file, and the first byte behind it.
    pub byte_range: [u64; 2],
    /// Every tie flag that the configuration holds, with its path.
    pub tie_flags: Vec<(String, bool)>,
    /// The names that look like a head's or an input embedding's, and what came of each.
    #[serde(default)]
    pub candidates: Vec<Considered>,
    /// How many such names are not listed.
    #[serde(default)]
    pub candidates_left_out: u64,
    /// What a scan would cost.
    pub cost: Cost,
    /// What the inspection cost.
    pub transfer: Transfer,
}

/// What a scan would read beyond what an inspection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of the matrix.
    pub bytes: u64,
    /// Range requests for them, when nothing breaks.
    pub requests: u64,
    /// Streams at a time.
    pub connections: u64,
}

/// A rendering of reports.
pub trait Render {
    /// Writes the reports, one after another, in the order they are given.
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()>;
}

/// The forms in which a report can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a reader at a terminal.
    Text,
    /// The whole report.
    Json,
    /// A line for each event, while the scan runs.
    Jsonl,
    /// A line for each member.
    Csv,
    /// For a page or a comment.
    Markdown,
    /// The members' ids alone.
    Ids,
}

impl Format {
    /// Every form, by its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("csv", Self::Csv),
        ("markdown", Self::Markdown),
        ("ids", Self::Ids),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        by_name(&Self::ALL, name)
    }
}

fn by_name<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T, String> {
    let known = all.iter().find(|(known, _)| *known == name);
    known.map(|&(_, format)| format).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&(name, _)| name).collect();
        format!("not one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Group;

    fn part(sizes: &[u64], min_size: u64) -> DuplicatesPart {
        let mut next = 0;
        let mut group = |&size: &u64| {
            let rows = (next..next + size).collect();
            next += size;
            Group { digest: Digest::of(b"x"), rows }
        };
        let groups: Vec<Group> = sizes.iter().map(&mut group).collect();
        let found = Grouping { rows: 100, groups, matrix_digest: None };
        DuplicatesPart::new(&found, Equality::Bits, min_size, None)
    }

    #[test]
    fn figures_are_those_of_the_groups() {
        let found = part(&[9, 4, 2, 2], 0);
        assert_eq!((found.members, found.excess, found.distinct), (17, 13, 87));
        assert_eq!((found.largest, found.smallest), (Some(9), Some(2)));
        assert_eq!((found.mean, found.median), (Some(4.25), Some(3.0)));
        let bins: Vec<_> = found.histogram.iter().map(|b| (b.size, b.groups)).collect();
        assert_eq!(bins, [(2, 2), (4, 1), (9, 1)]);
        assert_eq!(part(&[9, 4, 2], 0).median, Some(4.0));
    }

    #[test]
    fn without_groups_there_are_no_figures_of_them() {
        let found = part(&[], 0);
        assert_eq!((found.largest, found.mean, found.median), (None, None, None));
        assert_eq!((found.distinct, found.excess), (100, 0));
    }

    #[test]
    fn small_groups_are_counted_though_not_listed() {
        let found = part(&[9, 4, 2, 2], 3);
        assert_eq!((found.groups.len(), found.groups_total, found.members), (2, 4, 17));
    }
}
