//! A line of JSON for each event, while the scan runs.
//!
//! `start`, then `duplicate` for each row found equal to one seen before it, then a `group` line
//! for each group in the final order and one `summary`; after the summaries of head and embedding a
//! `cross`; or an `error` line, and never a `summary`.

use super::json::line;
use super::{
    ClassesPart, CrossPart, DegeneratePart, DuplicatesPart, GeometryPart, GroupPart, MatrixPart,
    ProbePart, ProfilePart, Report, SCHEMA, TokenizerPart, Tool, Transfer,
};
use crate::analysis::Digest;
use crate::resolve::Origin;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Start { schema: u32, tool: Tool, model: &'a Origin, matrix: &'a MatrixPart },
    Duplicate { row: u64, same_as: u64 },
    Group(&'a GroupPart),
    Summary(Box<Summary<'a>>),
    Cross(&'a CrossPart),
    Error { message: &'a str },
}

#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    warnings: &'a [String],
    tokenizer: Option<&'a TokenizerPart>,
    duplicates: DuplicatesPart,
    classes: Option<&'a ClassesPart>,
    profile: Option<&'a ProfilePart>,
    degenerate: Option<&'a DegeneratePart>,
    geometry: Option<GeometryPart>,
    matrix_digest: Option<Digest>,
    probe: Option<ProbePart>,
    transfer: Transfer,
}

/// The line that names the matrix, before its rows are read.
pub fn start(model: &Origin, matrix: &MatrixPart, out: &mut dyn Write) -> io::Result<()> {
    line(&Line::Start { schema: SCHEMA, tool: Tool::this(), model, matrix }, out)
}

/// The line of a row that equals one seen before it.
pub fn duplicate(row: u64, same_as: u64, out: &mut dyn Write) -> io::Result<()> {
    line(&Line::Duplicate { row, same_as }, out)
}

/// The lines that close a matrix: its groups, and a summary whose `duplicates` holds the figures
/// without the groups.
pub fn finish(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for group in &report.duplicates.groups {
        line(&Line::Group(group), out)?;
    }
    let duplicates = DuplicatesPart { groups: Vec::new(), ..report.duplicates.clone() };
    let summary = Summary {
        schema: SCHEMA,
        warnings: &report.warnings,
        tokenizer: report.tokenizer.as_ref(),
        duplicates,
        classes: report.classes.as_ref(),
        profile: report.profile.as_ref(),
        degenerate: report.degenerate.as_ref(),
        geometry: report.geometry,
        matrix_digest: report.matrix_digest,
        probe: report.probe,
        transfer: report.transfer,
    };
    line(&Line::Summary(Box::new(summary)), out)
}

/// The line that holds head and input embedding against each other, after both summaries.
pub fn cross(cross: &CrossPart, out: &mut dyn Write) -> io::Result<()> {
    line(&Line::Cross(cross), out)
}

/// The line that says why there is no summary.
pub fn error(message: &str, out: &mut dyn Write) -> io::Result<()> {
    line(&Line::Error { message }, out)
}
