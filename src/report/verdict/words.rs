//! What renderings say alike. All that is returned is one line, safe to print.

use super::{Basis, Check, Finding, Level, Outcome, Verdict};
use crate::quote;
use crate::report::text::{count, size};

pub(super) use crate::report::text::some;

/// What was judged: the model, and the tensor if it is known.
pub(super) fn subject(check: &Check) -> String {
    let tensor = tensor(check).map_or(String::new(), |name| format!(" {name}"));
    format!("{}{tensor}", quote::short(&check.name))
}

pub(super) fn tensor(check: &Check) -> Option<String> {
    check.matrix.as_ref().map(|matrix| quote::short(&matrix.tensor))
}

/// How many findings there are of a level.
pub(super) fn how_many(check: &Check, level: Level) -> u64 {
    check.findings.iter().filter(|finding| finding.level == level).count() as u64
}

/// What was found, and what to do about it.
pub(super) fn finding(finding: &Finding) -> String {
    format!("{} {}", stopped(&finding.message), quote::sentence(&finding.advice))
}

/// A sentence with its full stop.
fn stopped(text: &str) -> String {
    let text = quote::sentence(text);
    let stop = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    text + stop
}

/// Why a check is not decided, a sentence each; nothing where it is.
pub(super) fn undecided(check: &Check) -> Vec<String> {
    match (check.outcome, check.undecided.as_slice()) {
        (Outcome::Undecided, []) => vec!["no reason is known".to_owned()],
        (_, reasons) => reasons.iter().map(|reason| quote::sentence(reason)).collect(),
    }
}

/// What a verdict on nothing says.
pub(super) const NOTHING: &str = "nothing was judged";

/// A check in one line: its findings, its figures, what it was judged from.
pub(super) fn tally(check: &Check) -> String {
    let mut parts = Vec::new();
    for level in [Level::Error, Level::Note] {
        match how_many(check, level) {
            0 => {}
            number => parts.push(some(number, level.name())),
        }
    }
    if parts.is_empty() && check.outcome == Outcome::Pass {
        parts.push("nothing against the policy".to_owned());
    }
    let mut parts = vec![parts.join(", ")];
    if let Some(figures) = check.figures {
        let allowed = match figures.allowed {
            0 => String::new(),
            allowed => format!("; {} allowed", some(allowed, "row")),
        };
        let members = format!("{} of {}", count(figures.members), some(figures.rows, "row"));
        parts.push(format!("{members} in {}{allowed}", some(figures.groups, "group")));
    }
    parts.extend(basis(check));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// Where what was judged came from, and what it cost.
fn basis(check: &Check) -> Vec<String> {
    let mut parts = Vec::new();
    match check.basis {
        Basis::Read => {}
        Basis::Store => parts.push("unchanged since it was read before".to_owned()),
        Basis::Replay => parts.push("by an earlier report".to_owned()),
    }
    if check.bytes_saved > 0 {
        let saved = size(check.bytes_saved);
        parts.push(format!("stopped early, {saved} of the matrix not read"));
    }
    let transfer = &check.transfer;
    if check.basis != Basis::Replay && transfer.requests > 0 {
        let requests = some(transfer.requests, "request");
        parts.push(format!("{} in {requests}, {:.1} s", size(transfer.bytes), transfer.seconds));
    }
    parts
}

/// The verdict in one line.
pub(super) fn overall(verdict: &Verdict) -> String {
    if verdict.checks.is_empty() {
        return NOTHING.to_owned();
    }
    let of = |outcome| verdict.checks.iter().filter(|check| check.outcome == outcome).count();
    let parts: Vec<String> = [Outcome::Fail, Outcome::Undecided, Outcome::Pass]
        .into_iter()
        .filter(|&outcome| of(outcome) > 0)
        .map(|outcome| format!("{} {}", count(of(outcome) as u64), outcome.name()))
        .collect();
    let checks = some(verdict.checks.len() as u64, "check");
    format!("{checks}: {}", parts.join(", "))
}
