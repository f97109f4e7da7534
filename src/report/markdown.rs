//! The report for a page or a comment.

use super::text::{count, emittable, named, origin, plural, probed, size};
use super::{Render, Report, Reports, numbers};
use crate::quote;
use std::io::{self, Write};

/// GitHub's Markdown: a table of figures, then a section for each group.
#[derive(Debug, Clone, Copy)]
pub struct Markdown {
    /// Groups shown at most.
    pub max_groups: usize,
    /// Members shown of each group at most.
    pub max_tokens: usize,
}

impl Render for Markdown {
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()> {
        for (at, report) in reports.reports.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            self.figures(report, out)?;
            self.numbers(report, out)?;
            self.groups(report, out)?;
        }
        match &reports.cross {
            Some(cross) => fenced(out, |out| numbers::cross(cross, self.max_tokens, out)),
            None => Ok(()),
        }
    }
}

impl Markdown {
    fn figures(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let (matrix, found) = (&report.matrix, &report.duplicates);
        writeln!(out, "## Identical rows of {}\n", code(&report.model.id))?;
        writeln!(out, "| | |\n|---|---|")?;
        let mut row = |name: &str, value: &str| writeln!(out, "| {name} | {value} |");
        for (name, value) in origin(&report.model).into_iter().skip(1) {
            row(name, &cell(&value))?;
        }
        row("Tensor", &format!("{} in {}", code_cell(&matrix.tensor), code_cell(&matrix.file)))?;
        row("Chosen because", &cell(&matrix.reason))?;
        let shape = format!(
            "{} × {}, {}, {}",
            count(matrix.rows),
            count(matrix.columns),
            cell(&matrix.dtype),
            size(matrix.bytes)
        );
        row("Shape", &shape)?;
        row("Unique vectors", &count(found.distinct))?;
        row("Excess", &count(found.excess))?;
        row("Members", &count(found.members))?;
        row("Groups", &count(found.groups_total))?;
        if let (Some(largest), Some(mean), Some(median)) = (found.largest, found.mean, found.median)
        {
            let sizes = format!("{}, {mean:.1}, {median:.1}", count(largest));
            row("Largest, mean, median", &sizes)?;
        }
        match (report.matrix_digest, report.probe) {
            (Some(digest), _) => row("Matrix digest", &code(&digest.to_string()))?,
            (None, Some(probe)) => row("Probed", &probed(&probe))?,
            (None, None) => {}
        }
        for warning in &report.warnings {
            writeln!(out, "\n> **Warning:** {}", cell(warning))?;
        }
        if found.groups_total == 0 {
            writeln!(out, "\nNo singularities found. Every token has a unique vector.")?;
        }
        Ok(())
    }

    fn numbers(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        if let Some(classes) = &report.classes {
            fenced(out, |out| numbers::classes(classes, report.profile.as_ref(), out))?;
        }
        if let Some(profile) = &report.profile {
            fenced(out, |out| numbers::profile(profile, self.max_tokens, out))?;
        }
        match &report.geometry {
            Some(geometry) => fenced(out, |out| numbers::geometry(geometry, out)),
            None => Ok(()),
        }
    }

    fn groups(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let found = &report.duplicates;
        for (number, group) in (1..).zip(&found.groups).take(self.max_groups) {
            writeln!(
                out,
                "\n### Group {number}/{}: {} tokens, `{}`\n",
                found.groups_total,
                count(group.size),
                group.digest.short()
            )?;
            if let Some(warning) = emittable(group) {
                writeln!(out, "**{}**\n", cell(&warning))?;
            }
            if let Some(reading) = group.reading() {
                writeln!(out, "{}\n", cell(&reading))?;
            }
            if let Some(place) = numbers::place(group.norm, group.centroid_distance) {
                writeln!(out, "{}\n", cell(&place))?;
            }
            let members = group.rows.iter().take(self.max_tokens).enumerate();
            let shown: Vec<String> = members
                .map(|(at, row)| match group.tokens.get(at) {
                    Some(token) => format!("- {row}: {}", code(&named(token))),
                    None => format!("- {row}"),
                })
                .collect();
            writeln!(out, "{}", shown.join("\n"))?;
            match group.rows.len().saturating_sub(self.max_tokens) {
                0 => {}
                more => {
                    writeln!(out, "- … and {} more {}", count(more as u64), plural(more, "token"))?
                }
            }
        }
        match found.groups.len().saturating_sub(self.max_groups) {
            0 => Ok(()),
            more => writeln!(out, "\n… and {} more {}", count(more as u64), plural(more, "group")),
        }
    }
}

/// A table of text as it is. What strangers wrote in it cannot end the fence, which is longer than
/// any run of backticks in it.
fn fenced(
    out: &mut dyn Write,
    table: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = Vec::new();
    table(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    writeln!(out, "\n{fence}text\n{}\n{fence}", text.trim_matches('\n'))
}

/// A code span in a table, where a bare bar would end the cell even so.
pub(super) fn code_cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// A code span: its fence is longer than any run of backticks inside.
pub(super) fn code(text: &str) -> String {
    let text = quote::sentence(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Plain text that Markdown and HTML leave alone.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in quote::sentence(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_acts_on_the_page() {
        assert_eq!(code("a`b``c"), "``` a`b``c ```");
        assert_eq!((code("a|b"), code_cell("a|b")), ("`a|b`".into(), "`a\\|b`".into()));
        assert_eq!(cell("<b>*x*|"), "&lt;b>\\*x\\*\\|");
    }
}
