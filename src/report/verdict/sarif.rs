//! A verdict as SARIF 2.1.0, in what of it GitHub's code scanning reads.
//!
//! Code scanning wants each result at a line of a file. A row has none, so the place is the first line
//! of the policy that named the model. Without one it is the weights file of a model that lies in a
//! folder, and for others the policy that would name it: relative to the working directory, and the
//! same from run to run, or alerts would be closed and opened anew.

use super::{Check, Finding, Level, Outcome, Rule, Verdict, words};
use crate::analysis::Digest;
use crate::quote;
use crate::report::pretty;
use crate::resolve::Place;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use std::io::{self, Write};

/// Results that code scanning shows of a run; the gravest come first.
const RESULTS: usize = 5_000;

/// Rows that are named of one finding: of a large group all would be megabytes.
const ROWS: usize = 20;

/// The policy where none is named: where one would be looked for.
const POLICY: &str = "singularity-survey.toml";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    invocations: [Invocation; 1],
    results: Vec<Found>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
struct Driver {
    name: String,
    version: String,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    short_description: Text,
    full_description: Text,
    help: Text,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Text,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    rule_id: &'static str,
    rule_index: Option<usize>,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: Fingerprints,
    properties: Properties,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
    logical_locations: Vec<Logical>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Serialize)]
struct Artifact {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    name: String,
    fully_qualified_name: String,
    kind: &'static str,
}

/// The first is the name that code scanning knows. All results stand at the same line, so without it
/// they would be one alert.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprints {
    primary_location_line_hash: String,
    #[serde(rename = "singularitySurvey/v1")]
    own: String,
}

#[derive(Serialize)]
struct Properties {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// How many rows it is about.
    rows: usize,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

impl Text {
    /// `](` makes a link of what stands before it, also in plain text. A token may be just that.
    fn new(text: &str) -> Self {
        Self { text: text.replace("](", "] (") }
    }
}

pub(super) fn render(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    let mut found: Vec<(&Check, &Finding)> = verdict
        .checks
        .iter()
        .flat_map(|check| check.findings.iter().map(move |finding| (check, finding)))
        .collect();
    // The order within a level is kept.
    found.sort_by_key(|(_, finding)| finding.level);
    let left_out = found.len().saturating_sub(RESULTS);
    found.truncate(RESULTS);
    let log = Log {
        schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: verdict.tool.name.clone(),
                    version: verdict.tool.version.clone(),
                    rules: Rule::ALL.iter().map(|&rule| descriptor(rule)).collect(),
                },
            },
            invocations: [Invocation {
                execution_successful: verdict.outcome != Outcome::Undecided,
                tool_execution_notifications: notifications(verdict, left_out),
            }],
            results: found.into_iter().map(|(check, f)| result(verdict, check, f)).collect(),
        }],
    };
    pretty(&log, out)
}

fn descriptor(rule: Rule) -> Descriptor {
    Descriptor {
        id: rule.name(),
        short_description: Text::new(rule.why()),
        full_description: Text::new(rule.why()),
        help: Text::new(&format!("{} {}", rule.why(), rule.advice())),
    }
}

fn notifications(verdict: &Verdict, left_out: usize) -> Vec<Notification> {
    let mut all = Vec::new();
    let mut tell = |level, text: &str| all.push(Notification { level, message: Text::new(text) });
    for check in &verdict.checks {
        let subject = words::subject(check);
        for reason in words::undecided(check) {
            tell("error", &format!("{subject}: {reason}"));
        }
        for warning in &check.warnings {
            tell("warning", &format!("{subject}: {}", quote::sentence(warning)));
        }
    }
    if verdict.checks.is_empty() {
        tell("error", words::NOTHING);
    }
    if left_out > 0 {
        let number = words::some(left_out as u64, "finding");
        tell("warning", &format!("{number} more are left out here; the verdict as JSON has all"));
    }
    all
}

fn result(verdict: &Verdict, check: &Check, finding: &Finding) -> Found {
    Found {
        rule_id: finding.rule.name(),
        rule_index: Rule::ALL.iter().position(|&rule| rule == finding.rule),
        level: match finding.level {
            Level::Error => "error",
            Level::Note => "note",
        },
        message: Text::new(&format!("{}: {}", words::subject(check), words::finding(finding))),
        locations: [Location {
            physical_location: Physical {
                artifact_location: Artifact { uri: uri(&place(verdict, check)) },
                region: Region { start_line: 1 },
            },
            logical_locations: logical(check, finding),
        }],
        partial_fingerprints: Fingerprints {
            primary_location_line_hash: quote::short(&finding.fingerprint),
            own: quote::short(&finding.fingerprint),
        },
        properties: Properties {
            model: quote::short(&check.name),
            commit: check.model.as_ref().and_then(|model| model.commit.clone()),
            tensor: words::tensor(check),
            digest: finding.digest,
            rows: finding.rows.len(),
        },
    }
}

/// The tensor, and the first rows of it that the finding is about.
fn logical(check: &Check, finding: &Finding) -> Vec<Logical> {
    let model = quote::short(&check.name);
    let Some(tensor) = words::tensor(check) else { return Vec::new() };
    let row = |row: &u64| Logical {
        name: row.to_string(),
        fully_qualified_name: format!("{model}/{tensor}[{row}]"),
        kind: "row",
    };
    let rows = finding.rows.iter().take(ROWS).map(row);
    let whole = Logical {
        fully_qualified_name: format!("{model}/{tensor}"),
        name: tensor.clone(),
        kind: "tensor",
    };
    std::iter::once(whole).chain(rows).collect()
}

/// The file that a finding is shown at.
fn place(verdict: &Verdict, check: &Check) -> String {
    if let Some(policy) = &verdict.policy {
        return policy.clone();
    }
    let lies = |place| check.model.as_ref().filter(|model| model.source == place);
    match (lies(Place::Directory), lies(Place::File), &check.matrix) {
        (Some(folder), _, Some(matrix)) => format!("{}/{}", folder.id, matrix.file),
        (_, Some(file), _) => file.id.clone(),
        _ => POLICY.to_owned(),
    }
}

/// A path as a URI: relative where the path is, and in any case not empty.
fn uri(path: &str) -> String {
    const SEGMENT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let absolute = path.starts_with('/');
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !matches!(*segment, "" | "."))
        .map(|segment| utf8_percent_encode(segment, SEGMENT).to_string())
        .collect();
    match (segments.join("/"), absolute) {
        (path, _) if path.is_empty() => POLICY.to_owned(),
        (path, true) => format!("file:///{path}"),
        (path, false) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri_that_no_scheme_is_read_into() {
        for (path, shown) in [
            ("policy.toml", "policy.toml"),
            ("./models//a b/policy.toml", "models/a%20b/policy.toml"),
            ("../policy.toml", "../policy.toml"),
            ("/srv/policy.toml", "file:///srv/policy.toml"),
            ("javascript:alert(1)", "javascript%3Aalert%281%29"),
            ("ü\n%", "%C3%BC%0A%25"),
            ("", POLICY),
            ("./", POLICY),
        ] {
            assert_eq!(uri(path), shown);
        }
    }
}
