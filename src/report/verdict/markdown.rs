//! A verdict for a comment on a pull request, or for the summary of a step.
//!
//! What strangers wrote stands in code spans, where it mentions nobody and links nothing. A page is
//! cut, and says so, before it is longer than the place it is for.

use super::{Check, Finding, Level, Verdict, words};
use crate::quote;
use crate::report::markdown::{cell, code, code_cell};
use crate::report::text::count;
use std::io::{self, Write};

/// The longest comment that GitHub takes, in characters; bytes are never fewer.
const COMMENT_ROOM: usize = 65_536;

/// The longest summary of a step that GitHub shows, in bytes.
pub const SUMMARY_ROOM: usize = 1 << 20;

/// Findings of one rule that are listed: so that one rule does not use up the page.
const SHOWN: usize = 20;

/// By this a job finds its earlier comment.
const MARK: &str = "<!-- singularity-survey -->\n";

/// How a page ends that was cut.
const CUT: &str = "\nThere is more than a page has room for; the verdict as JSON has all of it.\n";

pub(super) fn render(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(page(verdict, COMMENT_ROOM).as_bytes())
}

/// The verdict as a page for `GITHUB_STEP_SUMMARY`, of at most `room` bytes; nothing where even its
/// head has no room. A summary that is longer than [`SUMMARY_ROOM`], with what the step wrote before
/// it, is not shown at all.
pub fn summary(verdict: &Verdict, room: usize) -> String {
    page(verdict, room)
}

fn page(verdict: &Verdict, room: usize) -> String {
    let mut page = Page { text: String::new(), room: room.saturating_sub(CUT.len()), cut: false };
    let overall = words::overall(verdict);
    page.add(&format!("{MARK}### Identical rows: {}\n\n{overall}\n", verdict.outcome.name()));
    if !verdict.checks.is_empty() {
        page.add(
            "\n| model | tensor | verdict | errors | notes | members | groups |\n\
             |---|---|---|---:|---:|---:|---:|\n",
        );
    }
    verdict.checks.iter().for_each(|check| page.add(&row(check)));
    verdict.checks.iter().for_each(|check| section(check, &mut page));
    page.end()
}

/// A check as a row of the table.
fn row(check: &Check) -> String {
    let figure = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), count);
    let cells = [
        code_cell(&quote::short(&check.name)),
        words::tensor(check).map_or_else(|| "–".to_owned(), |name| code_cell(&name)),
        check.outcome.name().to_owned(),
        count(words::how_many(check, Level::Error)),
        count(words::how_many(check, Level::Note)),
        figure(check.figures.map(|figures| figures.members)),
        figure(check.figures.map(|figures| figures.groups)),
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// What there is to say of a check beyond its row.
fn section(check: &Check, page: &mut Page) {
    let undecided = words::undecided(check);
    if undecided.is_empty() && check.findings.is_empty() && check.warnings.is_empty() {
        return;
    }
    page.add(&format!("\n#### {}\n", code(&words::subject(check))));
    for reason in undecided {
        page.add(&format!("\n**undecided**: {}\n", code(&reason)));
    }
    let kind = |finding: &Finding| (finding.level, finding.rule);
    for findings in check.findings.chunk_by(|a, b| kind(a) == kind(b) && a.advice == b.advice) {
        of_rule(findings, page);
    }
    for warning in &check.warnings {
        page.add(&format!("\n**warning**: {}\n", code(warning)));
    }
}

/// The findings of one rule, which have one advice.
fn of_rule(findings: &[Finding], page: &mut Page) {
    let Some(first) = findings.first() else { return };
    let (level, rule) = (words::some(findings.len() as u64, first.level.name()), first.rule);
    let (why, advice) = (cell(rule.why()), advice(first));
    page.add(&format!("\n**`{rule}`**, {level}. {why} {advice}\n\n"));
    for finding in findings.iter().take(SHOWN) {
        page.add(&format!("- {}\n", code(&finding.message)));
    }
    if let Some(more) = findings.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        page.add(&format!("- … and {} more\n", count(more as u64)));
    }
}

/// What to do, as the rule says it, or as a stranger may have written it.
fn advice(finding: &Finding) -> String {
    let of_rule = finding.rule.advice();
    if finding.advice == of_rule { cell(of_rule) } else { code(&finding.advice) }
}

/// Text that does not grow past its room.
struct Page {
    text: String,
    room: usize,
    cut: bool,
}

impl Page {
    /// Adds what is whole by itself, if it fits. Nothing follows where something was left out.
    fn add(&mut self, block: &str) {
        self.cut |= self.text.len() + block.len() > self.room;
        if !self.cut {
            self.text.push_str(block);
        }
    }

    fn end(mut self) -> String {
        if self.cut && !self.text.is_empty() {
            self.text.push_str(CUT);
        }
        self.text
    }
}
