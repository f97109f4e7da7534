//! A verdict as JUnit's XML: a suite for each check, a case for each rule.
//!
//! A rule that found something is a failure; one that could not be decided is an error. Where a check
//! stopped early because it was certain to fail, the rules that were left undecided are skipped.

use super::{Check, Level, Outcome, Rule, Verdict, words};
use crate::quote;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use std::io::{self, Write};

type Xml<'a> = Writer<&'a mut dyn Write>;

pub(super) fn render(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    let mut suites: Vec<Suite> = verdict.checks.iter().map(Suite::new).collect();
    if suites.is_empty() {
        let cases = vec![Case::undecided("check", words::NOTHING.to_owned())];
        suites.push(Suite { name: verdict.tool.name.clone(), seconds: 0.0, cases });
    }
    let mut xml = Writer::new_with_indent(out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let sum = |of| suites.iter().map(|suite| suite.count(of)).sum::<usize>().to_string();
    xml.create_element("testsuites")
        .with_attribute(("name", quote::short(&verdict.tool.name).as_str()))
        .with_attribute(("tests", sum(ANY).as_str()))
        .with_attribute(("failures", sum(FAILURE).as_str()))
        .with_attribute(("errors", sum(ERROR).as_str()))
        .write_inner_content(|xml| suites.iter().try_for_each(|suite| suite.write(xml)))?;
    writeln!(xml.get_mut())
}

const ANY: fn(&Case) -> bool = |_| true;
const FAILURE: fn(&Case) -> bool = |case| matches!(case.end, End::Failure(_));
const ERROR: fn(&Case) -> bool = |case| matches!(case.end, End::Error(_));
const SKIPPED: fn(&Case) -> bool = |case| matches!(case.end, End::Skipped);

struct Suite {
    name: String,
    seconds: f64,
    cases: Vec<Case>,
}

/// How a rule ended, and what there is to say of it.
struct Case {
    name: &'static str,
    end: End,
    notes: String,
}

enum End {
    Pass,
    /// Lines of findings.
    Failure(String),
    /// Lines of reasons.
    Error(String),
    Skipped,
}

impl Suite {
    fn new(check: &Check) -> Self {
        let reasons = words::undecided(check).join("\n");
        let mut cases: Vec<Case> =
            Rule::ALL.iter().filter_map(|&rule| Case::new(check, rule, &reasons)).collect();
        // What could not be read was not judged by any rule.
        if !reasons.is_empty() && !cases.iter().any(ERROR) {
            cases.push(Case::undecided("check", reasons));
        }
        Self { name: words::subject(check), seconds: check.transfer.seconds, cases }
    }

    fn count(&self, of: fn(&Case) -> bool) -> usize {
        self.cases.iter().filter(|case| of(case)).count()
    }

    fn write(&self, xml: &mut Xml<'_>) -> io::Result<()> {
        let count = |of| self.count(of).to_string();
        xml.create_element("testsuite")
            .with_attribute(("name", self.name.as_str()))
            .with_attribute(("tests", count(ANY).as_str()))
            .with_attribute(("failures", count(FAILURE).as_str()))
            .with_attribute(("errors", count(ERROR).as_str()))
            .with_attribute(("skipped", count(SKIPPED).as_str()))
            .with_attribute(("time", format!("{:.3}", self.seconds).as_str()))
            .write_inner_content(|xml| self.cases.iter().try_for_each(|c| c.write(&self.name, xml)))
            .map(drop)
    }
}

impl Case {
    /// A rule that was asked about, or that found something.
    fn new(check: &Check, rule: Rule, reasons: &str) -> Option<Self> {
        let lines = |level| {
            let of = check.findings.iter().filter(|f| f.rule == rule && f.level == level);
            of.map(words::finding).collect::<Vec<_>>().join("\n")
        };
        let (errors, notes) = (lines(Level::Error), lines(Level::Note));
        let judged = check.rules.iter().find(|judged| judged.rule == rule);
        if judged.is_none() && errors.is_empty() && notes.is_empty() {
            return None;
        }
        let open = judged.is_some_and(|judged| judged.outcome == Outcome::Undecided);
        let end = match (open, check.outcome) {
            _ if !errors.is_empty() => End::Failure(errors),
            (true, Outcome::Undecided) => End::Error(reasons.to_owned()),
            (true, _) => End::Skipped,
            (false, _) => End::Pass,
        };
        Some(Self { name: rule.name(), end, notes })
    }

    fn undecided(name: &'static str, reasons: String) -> Self {
        Self { name, end: End::Error(reasons), notes: String::new() }
    }

    fn write(&self, suite: &str, xml: &mut Xml<'_>) -> io::Result<()> {
        let case = xml
            .create_element("testcase")
            .with_attribute(("name", self.name))
            .with_attribute(("classname", suite));
        if matches!(self.end, End::Pass) && self.notes.is_empty() {
            return case.write_empty().map(drop);
        }
        case.write_inner_content(|xml| {
            match &self.end {
                End::Pass => {}
                End::Failure(lines) => ended(xml, "failure", self.name, lines)?,
                End::Error(lines) => ended(xml, "error", "undecided", lines)?,
                End::Skipped => text(xml, "skipped", "the check was certain to fail without it")?,
            }
            if self.notes.is_empty() { Ok(()) } else { text(xml, "system-out", &self.notes) }
        })
        .map(drop)
    }
}

/// A failure or an error: its first line as the message, all of them inside.
fn ended(xml: &mut Xml<'_>, name: &str, kind: &str, lines: &str) -> io::Result<()> {
    let first = lines.lines().next().unwrap_or_default();
    xml.create_element(name)
        .with_attribute(("type", kind))
        .with_attribute(("message", first))
        .write_text_content(BytesText::new(lines))
        .map(drop)
}

fn text(xml: &mut Xml<'_>, name: &str, text: &str) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(text)).map(drop)
}
