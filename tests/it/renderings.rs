//! The forms of a verdict: each accepted by what reads it, whatever strangers wrote.
//!
//! `RENDERINGS=write cargo test --test it renderings` writes the fixtures anew;
//! `fixtures/check_renderings.py` then has other programs read them.

use jsonschema::Validator;
use proptest::prelude::*;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};
use singularity_survey::analysis::Digest;
use singularity_survey::head::Role;
use singularity_survey::report::{
    Basis, Check, Figures, Finding, Judged, Level, MatrixPart, Outcome, Rule, SUMMARY_ROOM,
    Transfer, Verdict, VerdictFormat, summary,
};
use singularity_survey::resolve::{Origin, Place};
use singularity_survey::vocabulary::Token;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What acts on terminals, pages, XML, commands and links.
const HOSTILE: &str = "a\n::error::b\u{1b}[31m]]></failure>&amp;|`x``y`%0A\u{202e}](https://x.example)\
                       @someone #1 <img src=x>\u{0}\u{feff}\u{fffe}##[group]";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/renderings")
}

fn rendered(verdict: &Verdict, format: VerdictFormat) -> String {
    let mut out = Vec::new();
    format.render(verdict, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn finding(rule: Rule, level: Level, rows: &[u64]) -> Finding {
    let text = |row: u64| Token {
        row,
        text: format!("tok{row}"),
        class: None,
        cause: Default::default(),
        bytes: None,
    };
    let names: Vec<String> = rows.iter().map(|row| format!("{row} 'tok{row}'")).collect();
    Finding {
        rule,
        level,
        message: format!("{} in question: {}", names.len(), names.join(", ")),
        advice: rule.advice().to_owned(),
        rows: rows.to_vec(),
        tokens: rows.iter().map(|&row| text(row)).collect(),
        digest: rows.first().map(|row| Digest::of(&row.to_le_bytes())),
        fingerprint: format!("{:0>32}", format!("{rule}{rows:?}").len()),
    }
}

fn check(name: &str, outcome: Outcome) -> Check {
    Check {
        name: name.to_owned(),
        outcome,
        model: Some(Origin {
            id: name.to_owned(),
            source: Place::Hub,
            revision: Some("main".to_owned()),
            commit: Some("c4c6db0e63fd99cd294a9818f59d6869bd02590d".to_owned()),
        }),
        matrix: Some(MatrixPart {
            role: Role::Unembedding,
            tensor: "lm_head.weight".to_owned(),
            file: "model.safetensors".to_owned(),
            tied: Some(false),
            reason: "its name is that of a head".to_owned(),
            dtype: "BF16".to_owned(),
            rows: 151_936,
            columns: 2_048,
            row_bytes: 4_096,
            bytes: 622_329_856,
            parts: Vec::new(),
            layout: None,
            sample: None,
        }),
        figures: Some(Figures { rows: 151_936, allowed: 271, members: 12, excess: 9, groups: 3 }),
        rules: Vec::new(),
        findings: Vec::new(),
        undecided: Vec::new(),
        warnings: Vec::new(),
        basis: Basis::Read,
        bytes_saved: 0,
        transfer: Transfer {
            requests: 53,
            bytes: 622_430_240,
            seconds: 3.25,
            checkpoint_bytes: None,
            stored: false,
        },
    }
}

fn judged(rule: Rule, outcome: Outcome) -> Judged {
    Judged { rule, outcome }
}

fn every_rule() -> Verdict {
    let mut check = check("org/name@v2", Outcome::Fail);
    for (at, &rule) in Rule::ALL.iter().enumerate() {
        let first = 10 * at as u64;
        let last = Rule::ALL.len() - at <= 3;
        let (level, outcome) =
            if last { (Level::Note, Outcome::Pass) } else { (Level::Error, Outcome::Fail) };
        check.rules.push(judged(rule, outcome));
        check.findings.push(finding(rule, level, &[first, first + 1, first + 4]));
    }
    Verdict::new(Some("policies/models.toml".to_owned()), vec![check])
}

fn hostile_with(text: &str) -> Verdict {
    let mut hostile = check(text, Outcome::Undecided);
    if let Some(matrix) = &mut hostile.matrix {
        matrix.tensor = text.to_owned();
    }
    let mut found = finding(Rule::EmittableInGroup, Level::Error, &[1, 2]);
    found.message = format!("2 rows: 1 {text}");
    found.advice = text.to_owned();
    found.fingerprint = text.to_owned();
    found.tokens[0].text = text.to_owned();
    hostile.rules = vec![
        judged(Rule::EmittableInGroup, Outcome::Fail),
        judged(Rule::SpecialInGroup, Outcome::Undecided),
    ];
    hostile.findings = vec![found.clone(), Finding { level: Level::Note, ..found }];
    hostile.undecided = vec![text.to_owned()];
    hostile.warnings = vec![text.to_owned()];
    Verdict::new(Some(text.to_owned()), vec![hostile])
}

fn nothing_found() -> Verdict {
    let mut local = check("models/small", Outcome::Pass);
    local.basis = Basis::Store;
    local.transfer = Transfer { requests: 1, ..Transfer::default() };
    local.rules = vec![
        judged(Rule::EmittableInGroup, Outcome::Pass),
        judged(Rule::NonFiniteRows, Outcome::Pass),
    ];
    Verdict::new(None, vec![local])
}

/// One that was stopped, one that could not be read, one of an earlier report, one that lacks names.
fn undecided() -> Verdict {
    let mut stopped = check("models/small", Outcome::Fail);
    if let Some(model) = &mut stopped.model {
        model.source = Place::Directory;
    }
    stopped.figures = None;
    stopped.bytes_saved = 520_000_000;
    stopped.rules = vec![
        judged(Rule::EmittableInGroup, Outcome::Undecided),
        judged(Rule::NonFiniteRows, Outcome::Fail),
    ];
    stopped.findings = vec![finding(Rule::NonFiniteRows, Level::Error, &[7])];
    let mut away = check("org/away", Outcome::Undecided);
    (away.model, away.matrix, away.figures) = (None, None, None);
    away.undecided = vec!["the Hub asks to wait 300 s; try again at 12:05".to_owned()];
    let mut earlier = check("org/earlier", Outcome::Pass);
    earlier.basis = Basis::Replay;
    earlier.rules = vec![judged(Rule::NonFiniteRows, Outcome::Pass)];
    earlier.warnings = vec!["the tokenizer has more ids than there are rows".to_owned()];
    let mut unnamed = check("org/unnamed", Outcome::Undecided);
    unnamed.rules = vec![
        judged(Rule::EmittableInGroup, Outcome::Undecided),
        judged(Rule::NonFiniteRows, Outcome::Pass),
    ];
    unnamed.undecided =
        vec!["emittable-in-group: not decided without a tokenizer; name one".to_owned()];
    Verdict::new(None, vec![stopped, away, earlier, unnamed])
}

fn many(findings: u64) -> Verdict {
    let mut check = check("org/name", Outcome::Fail);
    check.findings = (0..findings)
        .map(|n| finding(Rule::EmittableInGroup, Level::Error, &[2 * n, 2 * n + 1]))
        .collect();
    Verdict::new(None, vec![check])
}

fn cases() -> Vec<(&'static str, Verdict)> {
    vec![
        ("every-rule", every_rule()),
        ("hostile", hostile_with(HOSTILE)),
        ("nothing-found", nothing_found()),
        ("nothing-judged", Verdict::new(None, Vec::new())),
        ("undecided", undecided()),
    ]
}

#[test]
fn every_form_is_as_in_the_fixtures() {
    for (case, verdict) in cases() {
        for (name, format) in VerdictFormat::ALL {
            let path = folder().join(format!("{case}.{name}"));
            let text = rendered(&verdict, format);
            if std::env::var_os("RENDERINGS").is_some_and(|value| value == "write") {
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(text, kept, "{}", path.display());
        }
    }
}

#[test]
fn json_is_all_of_a_verdict() {
    for (case, verdict) in cases() {
        let read: Verdict = serde_json::from_str(&rendered(&verdict, VerdictFormat::Json)).unwrap();
        assert_eq!(read, verdict, "{case}");
    }
}

// SARIF.

static SARIF: LazyLock<Validator> = LazyLock::new(|| {
    let text = std::fs::read_to_string(folder().join("sarif-2.1.0.schema.json")).unwrap();
    // One pattern, of languages, has a bracket too many, which only lax readers of patterns accept.
    let schema = serde_json::from_str(&text.replace("{2}]?$", "{2}?$")).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

fn sarif(verdict: &Verdict) -> Value {
    let log: Value = serde_json::from_str(&rendered(verdict, VerdictFormat::Sarif)).unwrap();
    let faults: Vec<String> = SARIF.iter_errors(&log).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    log["runs"][0].clone()
}

#[test]
fn the_official_schema_accepts_sarif_and_refuses_what_is_none() {
    for (_, verdict) in cases() {
        sarif(&verdict);
    }
    assert!(!SARIF.is_valid(&json!({"version": "2.1.0", "runs": [{"results": []}]})));
}

#[test]
fn a_result_has_a_place_a_rule_and_a_fingerprint_of_its_own() {
    let (run, verdict) = (sarif(&every_rule()), every_rule());
    for (result, finding) in
        run["results"].as_array().unwrap().iter().zip(&verdict.checks[0].findings)
    {
        let at = &result["locations"][0];
        assert_eq!(at["physicalLocation"]["artifactLocation"]["uri"], "policies/models.toml");
        assert_eq!(at["logicalLocations"][0]["fullyQualifiedName"], "org/name@v2/lm_head.weight");
        assert_eq!(at["logicalLocations"][2]["name"], finding.rows[1].to_string());
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        let rule = &run["tool"]["driver"]["rules"][index];
        assert_eq!(
            (&rule["id"], rule["id"].as_str()),
            (&result["ruleId"], Some(finding.rule.name()))
        );
        assert!(rule["help"]["text"].as_str().unwrap().contains(finding.rule.advice()));
        let print = &result["partialFingerprints"]["primaryLocationLineHash"];
        assert_eq!(print, &finding.fingerprint);
    }
}

#[test]
fn without_a_policy_a_result_stands_at_a_path_that_stays_the_same() {
    let run = sarif(&undecided());
    let uri = |at: usize| {
        run["results"][at]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].clone()
    };
    assert_eq!(uri(0), "models/small/model.safetensors");
    let run = sarif(&many(1));
    let at = &run["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(at["artifactLocation"]["uri"], "singularity-survey.toml");
}

#[test]
fn what_is_undecided_is_no_success_and_is_told_in_notifications() {
    let run = sarif(&undecided());
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let told = invocation["toolExecutionNotifications"].as_array().unwrap();
    let levels: Vec<&str> = told.iter().map(|told| told["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warning", "error"]);
    assert_eq!(sarif(&every_rule())["invocations"][0]["executionSuccessful"], true);
    assert_eq!(sarif(&Verdict::new(None, vec![]))["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn code_scanning_gets_as_many_results_as_it_shows_errors_first() {
    let mut verdict = many(10_000);
    let note = finding(Rule::ShrunkGroup, Level::Note, &[1]);
    verdict.checks[0].findings.insert(0, note);
    let run = sarif(&verdict);
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 5_000);
    assert!(results.iter().all(|result| result["level"] == "error"));
    let told = &run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
    assert!(told.as_str().unwrap().starts_with("5,001 findings more"), "{told}");
    // Uploads may have ten megabytes, compressed.
    assert!(rendered(&verdict, VerdictFormat::Sarif).len() < 10_000_000);
}

// JUnit.

/// The elements of a document, each with its attributes; fails where it is no XML.
fn elements(xml: &str) -> Vec<(String, Vec<(String, String)>)> {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(legal));
    let attributes = |element: &BytesStart<'_>| {
        let text = |name: &str| name.to_owned();
        let pair = |a: quick_xml::events::attributes::Attribute<'_>| {
            let value = quick_xml::escape::unescape(&a.value).unwrap();
            (text(a.key.as_ref()), value.into_owned())
        };
        (text(element.name().as_ref()), element.attributes().map(|a| pair(a.unwrap())).collect())
    };
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => found.push(attributes(&element)),
            Event::Text(text) => assert!(!text.contains("]]>")),
            Event::Eof => return found,
            _ => {}
        }
    }
}

fn count_of(elements: &[(String, Vec<(String, String)>)], name: &str) -> usize {
    elements.iter().filter(|(element, _)| element == name).count()
}

#[test]
fn junit_has_a_suite_for_each_check_and_a_case_for_each_rule() {
    for (case, verdict) in cases() {
        let found = elements(&rendered(&verdict, VerdictFormat::Junit));
        assert_eq!(count_of(&found, "testsuite"), verdict.checks.len().max(1), "{case}");
        let of = |name: &str, key: &str| -> usize {
            let suites = found.iter().filter(|(element, _)| element == name);
            let value = |(_, of): &(String, Vec<(String, String)>)| {
                of.iter().find(|(known, _)| known == key).map(|(_, value)| value.parse::<usize>())
            };
            suites.map(|suite| value(suite).unwrap().unwrap()).sum()
        };
        for (key, element) in [("tests", "testcase"), ("failures", "failure"), ("errors", "error")]
        {
            let there = count_of(&found, element);
            assert_eq!(
                (of("testsuite", key), of("testsuites", key)),
                (there, there),
                "{case} {key}"
            );
        }
        assert_eq!(of("testsuite", "skipped"), count_of(&found, "skipped"), "{case}");
        let red = count_of(&found, "failure") + count_of(&found, "error");
        assert_eq!(red == 0, verdict.outcome == Outcome::Pass, "{case}");
    }
    let found = elements(&rendered(&every_rule(), VerdictFormat::Junit));
    assert_eq!(count_of(&found, "testcase"), Rule::ALL.len());
    assert_eq!((count_of(&found, "failure"), count_of(&found, "system-out")), (10, 3));
}

// Pages, annotations, text.

#[test]
fn a_page_has_room_for_ten_thousand_findings_or_says_that_it_has_not() {
    let verdict = many(10_000);
    let page = rendered(&verdict, VerdictFormat::Markdown);
    assert!(page.len() < 65_536 && page.contains("… and 9,980 more"), "{page}");
    let checks = (0..2_000).flat_map(|_| many(30).checks).collect();
    let verdict = Verdict::new(None, checks);
    for room in [65_536, SUMMARY_ROOM] {
        let page = summary(&verdict, room);
        assert!(page.len() <= room && page.len() > room - 2_000);
        assert!(page.ends_with("the verdict as JSON has all of it.\n"));
    }
    assert_eq!(summary(&verdict, 10), "");
}

#[test]
fn there_are_ten_annotations_of_a_kind_and_one_of_a_rule() {
    let mut verdict = every_rule();
    verdict.checks.extend(many(10_000).checks);
    verdict.checks[0].findings.iter_mut().for_each(|finding| finding.level = Level::Error);
    verdict.checks[0].undecided.push("not read".to_owned());
    let text = rendered(&verdict, VerdictFormat::Github);
    assert_eq!(text.lines().count(), 10);
    assert!(text.lines().all(|line| line.starts_with("::error title=")));
    assert!(text.contains("… and 9,996 more"), "{text}");
    assert!(Rule::ALL.iter().all(|rule| text.contains(rule.name())));
}

#[test]
fn annotations_are_escaped_as_the_runner_reads_them() {
    let verdict = hostile_with("50%, a:b");
    let text = rendered(&verdict, VerdictFormat::Github);
    assert!(
        text.contains("title=singularity-survey%3A emittable-in-group::50%25, a:b 50%25, a:b:")
    );
    assert!(text.contains("%0A"), "{text}");
}

#[test]
fn text_has_a_line_for_each_finding_and_colour_adds_nothing_else() {
    let colors = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    for verdict in [every_rule(), undecided(), nothing_found()] {
        let text = rendered(&verdict, VerdictFormat::Text);
        let findings: usize = verdict.checks.iter().map(|check| check.findings.len()).sum();
        let of = |line: &&str| line.starts_with("error[") || line.starts_with("note[");
        assert_eq!(text.lines().filter(of).count(), findings, "{text}");
        let mut colored = Vec::new();
        VerdictFormat::Text.render(&verdict, true, &mut colored).unwrap();
        let colored = String::from_utf8(colored).unwrap();
        assert!(colored.contains("\u{1b}[1;3"));
        let plain = colors.replace_all(&colored, "");
        assert_eq!(plain, text);
    }
    let text = rendered(&many(10_000), VerdictFormat::Text);
    assert_eq!(text.lines().filter(|line| line.starts_with("error[")).count(), 10_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_strangers_wrote_every_form_is_whole(
        text in prop_oneof![any::<String>(), "[\\PC\\n\\x00-\\x1f|`%<>&\\]\\[()@:]{0,300}"],
    ) {
        let verdict = hostile_with(&text);
        for (name, format) in VerdictFormat::ALL {
            let text = rendered(&verdict, format);
            let acts = |c: char| c != '\n' && !singularity_survey::quote::is_printable(c)
                && (format != VerdictFormat::Json || c.is_control());
            prop_assert!(!text.contains(acts), "{}: {:?}", name, text);
        }
        sarif(&verdict);
        let found = elements(&rendered(&verdict, VerdictFormat::Junit));
        prop_assert_eq!(count_of(&found, "testcase"), 2);
        let annotations = rendered(&verdict, VerdictFormat::Github);
        prop_assert!(annotations.lines().all(|line| line.starts_with("::")));
        prop_assert_eq!(annotations.lines().count(), 4);
    }
}
