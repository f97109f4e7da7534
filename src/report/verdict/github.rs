//! A verdict as annotations of GitHub Actions, which its runner reads from standard output.
//!
//! Ten of a kind are kept of what a step prints, so there is one for each rule, not for each finding.
//! Every line is a command and begins with `::`: nothing that strangers wrote begins one.

use super::{Finding, Level, Rule, Verdict, words};
use crate::quote;
use crate::report::text::count;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Annotations of one kind that are kept of a step.
const KEPT: usize = 10;

/// Findings, or reasons, that one annotation lists.
const LISTED: usize = 5;

/// One annotation: its title, and what it says, line by line.
struct Annotation {
    title: &'static str,
    lines: Vec<String>,
}

pub(super) fn render(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    let mut undecided: Vec<String> = verdict
        .checks
        .iter()
        .flat_map(|check| {
            let subject = words::subject(check);
            words::undecided(check).into_iter().map(move |reason| format!("{subject}: {reason}"))
        })
        .collect();
    if verdict.checks.is_empty() {
        undecided.push(words::NOTHING.to_owned());
    }
    let mut errors: Vec<Annotation> = listed("not decided", undecided).into_iter().collect();
    errors.extend(by_rule(verdict, Level::Error));
    let warnings = verdict.checks.iter().flat_map(|check| {
        let subject = words::subject(check);
        check.warnings.iter().map(move |text| format!("{subject}: {}", quote::sentence(text)))
    });
    write(verdict, "error", errors, out)?;
    let warnings = listed("warnings", warnings.collect()).into_iter().collect();
    write(verdict, "warning", warnings, out)?;
    write(verdict, "notice", by_rule(verdict, Level::Note), out)
}

/// An annotation for each rule that found something.
fn by_rule(verdict: &Verdict, level: Level) -> Vec<Annotation> {
    let mut rules: BTreeMap<Rule, (Vec<String>, &Finding)> = BTreeMap::new();
    for check in &verdict.checks {
        for finding in check.findings.iter().filter(|finding| finding.level == level) {
            let line = format!("{}: {}", words::subject(check), quote::sentence(&finding.message));
            rules.entry(finding.rule).or_insert((Vec::new(), finding)).0.push(line);
        }
    }
    let annotation = |(rule, (lines, first)): (Rule, (Vec<String>, &Finding))| {
        let mut annotation = listed(rule.name(), lines)?;
        annotation.lines.push(quote::sentence(&first.advice));
        Some(annotation)
    };
    rules.into_iter().filter_map(annotation).collect()
}

/// An annotation of some lines, the first of them in full.
fn listed(title: &'static str, mut lines: Vec<String>) -> Option<Annotation> {
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    if more > 0 {
        lines.push(format!("… and {} more", count(more as u64)));
    }
    (!lines.is_empty()).then_some(Annotation { title, lines })
}

/// Writes annotations of a kind. Where there are more than are kept, the last tells of the others.
fn write(
    verdict: &Verdict,
    kind: &str,
    mut annotations: Vec<Annotation>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if annotations.len() > KEPT {
        let others = annotations.split_off(KEPT - 1);
        let lines = others.into_iter().map(|other| format!("{}: {}", other.title, other.lines[0]));
        annotations.push(Annotation { title: "other rules", lines: lines.collect() });
    }
    let name = &verdict.tool.name;
    for Annotation { title, lines } in annotations {
        let title = property(&format!("{}: {title}", quote::short(name)));
        writeln!(out, "::{kind} title={title}::{}", data(&lines.join("\n")))?;
    }
    Ok(())
}

/// Text as the runner wants it behind `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text as the runner wants it in a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
