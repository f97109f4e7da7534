//! A verdict for a reader: a line for each finding, and one for each check. Lines are as long as they
//! are, so that each can be searched for and counted.

use super::{Level, Outcome, Verdict, words};
use crate::quote;
use std::io::{self, Write};

/// Colours, as terminals number them.
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

pub(super) fn render(verdict: &Verdict, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut entry = |label: &str, paint: u8, text: &str| match color {
        true => writeln!(out, "\u{1b}[1;{paint}m{label}\u{1b}[0m {text}"),
        false => writeln!(out, "{label} {text}"),
    };
    for check in &verdict.checks {
        let subject = words::subject(check);
        for warning in &check.warnings {
            entry("warning", YELLOW, &format!("{subject}: {}", quote::sentence(warning)))?;
        }
        for finding in &check.findings {
            let label = format!("{}[{}]", finding.level.name(), finding.rule);
            let paint = if finding.level == Level::Error { RED } else { CYAN };
            entry(&label, paint, &format!("{subject}: {}", words::finding(finding)))?;
        }
        for reason in words::undecided(check) {
            entry("undecided", YELLOW, &format!("{subject}: {reason}"))?;
        }
        let tally = match words::tally(check) {
            tally if tally.is_empty() => subject,
            tally => format!("{subject}: {tally}"),
        };
        entry(check.outcome.name(), paint(check.outcome), &tally)?;
    }
    if verdict.checks.len() != 1 {
        entry("verdict:", paint(verdict.outcome), &words::overall(verdict))?;
    }
    Ok(())
}

fn paint(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Pass => GREEN,
        Outcome::Fail => RED,
        Outcome::Undecided => YELLOW,
    }
}
