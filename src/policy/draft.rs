//! A policy for models as they are: with limits that they keep, and with what they hold in comments.

use super::{Entry, Ids, Matrices, Rules, judge};
use crate::quote;
use crate::report::{Basis, Check, GroupPart, Outcome, Report, Rule, count, some};
use crate::vocabulary::Class;
use std::fmt::Write as _;

/// Groups that comments tell of.
const SHOWN: usize = 40;

/// The text of a policy file for these models, each with its reports.
pub fn draft(models: &[(Entry, Vec<Report>)]) -> String {
    let mut text = HEAD.to_owned();
    if models.is_empty() {
        text += EXAMPLE;
    }
    for (entry, reports) in models {
        // What is written into a string cannot fail.
        let _ = model(&mut text, entry, reports);
    }
    text
}

const HEAD: &str = "\
# What `singularity-survey check` accepts. docs/check.md tells of every rule and its reason.
# What stands in front of the first [[model]] holds for every model, unless the model says otherwise.

# Nothing of this may be found. The others are special-in-group, zero-rows and emittable-zero.
forbid = [\"emittable-in-group\", \"non-finite-rows\"]

[allow]
# Rows past the tokenizer's last id may be in groups, or zero.
padding = true
";

const EXAMPLE: &str = "
# [[model]]
# id = \"org/name\"             # anything that a scan takes; relative paths are relative to this file
# revision = \"main\"
# baseline = \"baseline.json\"  # an earlier report; `check --update-baseline` writes it
";

fn model(text: &mut String, entry: &Entry, reports: &[Report]) -> std::fmt::Result {
    writeln!(text, "\n[[model]]\nid = {}", quoted(&entry.id))?;
    for (key, value) in [
        ("revision", &entry.revision),
        ("tensor", &entry.tensor),
        ("file", &entry.file),
        ("tokenizer", &entry.tokenizer),
    ] {
        if let Some(value) = value {
            writeln!(text, "{key} = {}", quoted(value))?;
        }
    }
    match entry.matrix {
        Matrices::Unembedding => {}
        Matrices::Embedding => writeln!(text, "matrix = \"embedding\"")?,
        Matrices::Both => writeln!(text, "matrix = \"both\"")?,
    }
    rules(text, reports)?;
    writeln!(text, "\n[model.limits]")?;
    writeln!(
        text,
        "# What there is now. Lower them as rows are mended; without a line there is no limit."
    )?;
    let plain = Rules { forbid: Vec::new(), ..Rules::default() };
    let checks: Vec<Check> =
        reports.iter().map(|report| judge("", report, &plain, None, Basis::Read)).collect();
    let most = |figure: fn(&crate::report::Figures) -> u64| {
        checks.iter().filter_map(|check| check.figures.as_ref()).map(figure).max().unwrap_or(0)
    };
    // Without a tokenizer nothing tells rows from padding, which limits leave out.
    let hint = if reports.iter().all(|r| r.tokenizer.is_some()) { "" } else { "# " };
    writeln!(text, "{hint}max-groups = {}", most(|figures| figures.groups))?;
    writeln!(text, "{hint}max-members = {}", most(|figures| figures.members))?;
    writeln!(text, "{hint}max-excess = {}", most(|figures| figures.excess))?;
    class_limits(text, reports)?;
    reports.iter().try_for_each(|report| groups(text, report))
}

/// What may be forbidden, each rule that the model keeps, and the others as comments.
fn rules(text: &mut String, reports: &[Report]) -> std::fmt::Result {
    writeln!(text, "forbid = [")?;
    for rule in Rule::FORBIDDEN {
        let one = Rules { forbid: vec![rule], ..Rules::default() };
        let checks = reports.iter().map(|report| judge("", report, &one, None, Basis::Read));
        let worst = checks.max_by_key(|check| check.outcome);
        let says = worst.as_ref().map(|check| (check.outcome, check.findings.len()));
        match says {
            None | Some((Outcome::Pass, _)) => writeln!(text, "    \"{rule}\",")?,
            Some((Outcome::Fail, n)) => {
                writeln!(text, "    # \"{rule}\",  # {} now", some(n as u64, "finding"))?;
            }
            Some((Outcome::Undecided, _)) => {
                writeln!(text, "    # \"{rule}\",  # cannot be decided now")?;
            }
        }
    }
    writeln!(text, "]")
}

fn class_limits(text: &mut String, reports: &[Report]) -> std::fmt::Result {
    if reports.iter().any(|report| report.tokenizer.is_none()) {
        return Ok(());
    }
    for class in [Class::Reachable, Class::Special] {
        let of = |report: &Report| {
            let tokens = report.duplicates.groups.iter().flat_map(|group| &group.tokens);
            tokens.filter(|token| token.class.is_none() || token.class == Some(class)).count()
        };
        let most = reports.iter().map(of).max().unwrap_or(0);
        writeln!(text, "[model.limits.class.{}]\nmax-members = {most}", class.name())?;
    }
    Ok(())
}

/// The groups, and what could be allowed.
fn groups(text: &mut String, report: &Report) -> std::fmt::Result {
    let found = &report.duplicates;
    writeln!(
        text,
        "\n# {}: {}, {} of {} rows",
        quote::short(&report.matrix.tensor),
        some(found.groups_total, "group"),
        count(found.members),
        count(found.rows)
    )?;
    for group in found.groups.iter().take(SHOWN) {
        let reading = group.reading().unwrap_or_else(|| format!("{} members", count(group.size)));
        writeln!(text, "#   {}: {reading}", group.digest.short())?;
    }
    if let Some(more) = found.groups.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        writeln!(text, "#   … and {} more", count(more as u64))?;
    }
    if !found.groups.is_empty() {
        writeln!(text, "# To accept rows for good, give them with the reason, as:")?;
        for group in found.groups.iter().take(3) {
            writeln!(text, "# [[model.allow.rows]]")?;
            writeln!(text, "# ids = [{}]", ids(group))?;
            writeln!(text, "# reason = \"…\"  # of {}", group.digest.short())?;
        }
    }
    Ok(())
}

fn ids(group: &GroupPart) -> String {
    /// Ranges in one comment.
    const MOST: usize = 12;
    let ranges = Ids::of(&group.rows);
    let mut shown: Vec<String> = ranges.iter().take(MOST).map(Ids::to_string).collect();
    if ranges.len() > MOST {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}
