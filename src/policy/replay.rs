//! Earlier reports, read with suspicion: as JSON writes them, one or several, and sound.

use crate::error::{Error, Result};
use crate::report::{Report, Reports, SCHEMA};
use serde_json::Value;

/// The longest file of reports that is read, in bytes: one with the numbers of every row has some ten
/// bytes a row and number.
pub const MAX_REPORT: u64 = 256 << 20;

/// The reports of a file that `scan --format json` wrote.
pub fn read(file: &str, json: &[u8]) -> Result<Vec<Report>> {
    let wrong = |what: String| Error::Format { file: file.to_owned(), what };
    let unread = |e: serde_json::Error| wrong(format!("no report of a scan: {e}"));
    // The version first: of another one nothing else can be relied upon.
    let value: Value = serde_json::from_slice(json).map_err(unread)?;
    match value.get("schema").map(Value::as_u64) {
        Some(Some(schema)) if schema == u64::from(SCHEMA) => {}
        Some(Some(schema)) => {
            return Err(wrong(format!("a report of schema {schema}; this program reads {SCHEMA}")));
        }
        _ => return Err(wrong("no report of a scan: it has no schema".to_owned())),
    }
    let reports = match value.get("reports").is_some() {
        true => serde_json::from_value::<Reports>(value).map_err(unread)?.reports,
        false => vec![serde_json::from_value(value).map_err(unread)?],
    };
    if reports.is_empty() {
        return Err(wrong("there is no report in it".to_owned()));
    }
    for report in &reports {
        sound(report).map_err(|what| wrong(format!("a damaged report: {what}")))?;
    }
    Ok(reports)
}

/// Whether all groups are listed, and not the larger ones alone.
pub(super) fn listed_in_full(report: &Report) -> bool {
    report.duplicates.groups.len() as u64 == report.duplicates.groups_total
}

/// What a report says twice must agree, and rows must be rows of the matrix, each in one group.
fn sound(report: &Report) -> Result<(), &'static str> {
    let (rows, found) = (report.matrix.rows, &report.duplicates);
    let ascend = |list: &[u64]| {
        list.windows(2).all(|pair| pair[0] < pair[1]) && list.last().is_none_or(|&row| row < rows)
    };
    let mut seen = std::collections::HashSet::new();
    let mut digests = std::collections::HashSet::new();
    for group in &found.groups {
        if group.rows.len() < 2 || group.size != group.rows.len() as u64 {
            return Err("a group's size is not the number of its rows");
        }
        if !ascend(&group.rows) || !group.rows.iter().all(|&row| seen.insert(row)) {
            return Err("rows of a group are out of order, past the matrix or in two groups");
        }
        if !digests.insert(group.digest) {
            return Err("two groups have one digest");
        }
        let named = group.tokens.iter().map(|token| token.row);
        if !group.tokens.is_empty() && !named.eq(group.rows.iter().copied()) {
            return Err("a group's tokens are not those of its rows");
        }
    }
    let listed = (found.groups.len() as u64, seen.len() as u64);
    let all = (found.groups_total, found.members);
    if listed.0 > all.0 || listed.1 > all.1 || (listed.0 == all.0) != (listed.1 == all.1) {
        return Err("its groups are not as many as it says");
    }
    let degenerate = report.degenerate.as_ref();
    if degenerate.is_some_and(|d| ![&d.zero, &d.nan, &d.infinite].into_iter().all(|l| ascend(l))) {
        return Err("its zero or non-finite rows are out of order or past the matrix");
    }
    Ok(())
}
