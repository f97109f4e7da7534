use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Action, Fault, Host, Nth, Repository, StandIn};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;

/// The verdict of a run that ended with this code.
fn verdict(output: &Output, code: i32) -> Value {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = ["pass", "fail", "undecided"][code as usize];
    assert_eq!(verdict["outcome"], name, "{verdict:#}");
    verdict
}

/// A folder with models and policies, in which checks are run.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A fixture under a name of its own, in place of what was there.
    fn put(&self, case: &str, name: &str) {
        let _ = fs::remove_dir_all(self.path(name));
        fs::create_dir(self.path(name)).unwrap();
        for entry in fs::read_dir(fixture(case)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), self.path(name).join(entry.file_name())).unwrap();
        }
    }

    /// A model of 130 rows of two F32, all different but for what is changed; the tokenizer has 128
    /// ids, of which the first two are special and all that matter here can be emitted.
    fn model(&self, name: &str, changes: &[(usize, [f32; 2])]) {
        let mut rows: Vec<[f32; 2]> = (0..130).map(|row| [row as f32 + 1.0, 0.5]).collect();
        changes.iter().for_each(|&(row, values)| rows[row] = values);
        let data: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let entry = json!({"dtype": "F32", "shape": [130, 2], "data_offsets": [0, data.len()]});
        let header = json!({"lm_head.weight": entry}).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.extend(data);
        fs::create_dir_all(self.path(name)).unwrap();
        self.write(&format!("{name}/model.safetensors"), file);
        let tokenizer = fixture("untied").join("tokenizer.json");
        fs::copy(tokenizer, self.path(name).join("tokenizer.json")).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        bare(&[&["check"], args].concat()).current_dir(self.0.path()).output().unwrap()
    }

    fn check(&self, code: i32, args: &[&str]) -> Value {
        verdict(&self.run(&[args, &["--format", "json"]].concat()), code)
    }

    /// A report of the kind that checks can be held against.
    fn scan(&self, model: &str, report: &str, args: &[&str]) {
        let output = format!("json:{report}");
        let args = [&["scan", model, "--quiet", "-o", &output], args].concat();
        assert!(bare(&args).current_dir(self.0.path()).output().unwrap().status.success());
    }
}

fn findings(verdict: &Value) -> Vec<(String, String, Value)> {
    let checks = verdict["checks"].as_array().unwrap().iter();
    let findings = checks.flat_map(|check| check["findings"].as_array().unwrap());
    findings
        .map(|f| {
            let text = |name: &str| f[name].as_str().unwrap().to_owned();
            (text("level"), text("rule"), f["rows"].clone())
        })
        .collect()
}

fn error(rule: &str, rows: &[u64]) -> (String, String, Value) {
    ("error".into(), rule.into(), json!(rows))
}

fn note(rule: &str, rows: &[u64]) -> (String, String, Value) {
    ("note".into(), rule.into(), json!(rows))
}

// --- Without a policy ---------------------------------------------------------

#[test]
fn a_model_passes_before_a_bad_resize_and_fails_after_it() {
    let desk = Desk::new();
    desk.put("resized-before", "before");
    desk.put("resized-after", "after");
    let passed = desk.run(&["before"]);
    assert_eq!((passed.status.code(), text(&passed.stderr)), (Some(0), ""));
    let failed = desk.run(&["after"]);
    assert_eq!((failed.status.code(), text(&failed.stderr)), (Some(1), ""));
    let said = text(&failed.stdout).replace("\n  ", " ");
    assert!(said.contains("error[emittable-in-group] after lm_head.weight: "), "{said}");
    assert!(said.contains("120 '<|im_start|>' (special)"), "{said}");

    let both = desk.check(1, &["before", "after"]);
    assert_eq!(findings(&both), [error("emittable-in-group", &[120, 121, 122, 123, 124, 125])]);
    assert_eq!([&both["checks"][0]["outcome"], &both["checks"][1]["outcome"]], ["pass", "fail"]);
    let figures = &both["checks"][1]["figures"];
    // Six of the eight new rows are no padding.
    assert_eq!(
        *figures,
        json!({"rows": 128, "allowed": 2, "members": 6, "excess": 6, "groups": 1})
    );
    assert_eq!(both["policy"], Value::Null);
}

#[test]
fn nan_rows_and_infinite_rows_are_always_a_defect() {
    let desk = Desk::new();
    desk.model("m", &[(3, [f32::NAN, 1.0]), (129, [f32::INFINITY, 1.0])]);
    assert_eq!(findings(&desk.check(1, &["m"])), [error("non-finite-rows", &[3, 129])]);
}

#[test]
fn zero_rows_and_padding_in_groups_are_none_without_a_policy() {
    let desk = Desk::new();
    desk.model("m", &[(3, [0.0; 2]), (128, [0.0; 2]), (129, [0.0; 2])]);
    assert_eq!(findings(&desk.check(0, &["m"])), []);
}

// --- The policy ---------------------------------------------------------------

/// For each rule a policy of nothing else, rows that break it, and what is found.
type Case = (&'static str, &'static str, Vec<(usize, [f32; 2])>, Vec<u64>);

fn cases() -> Vec<Case> {
    let equal = |rows: &[usize]| rows.iter().map(|&row| (row, [7.5, 7.5])).collect::<Vec<_>>();
    let zero = |row| vec![(row, [0.0, -0.0])];
    let infinite = vec![(4, [0.5, f32::NEG_INFINITY])];
    let reachable = "[limits.class.reachable]\nmax-members";
    vec![
        ("forbid = ['emittable-in-group']", "emittable-in-group", equal(&[5, 9]), vec![5, 9]),
        ("forbid = ['special-in-group']", "special-in-group", equal(&[0, 128]), vec![0]),
        ("forbid = ['zero-rows']", "zero-rows", zero(7), vec![7]),
        ("forbid = ['non-finite-rows']", "non-finite-rows", infinite, vec![4]),
        ("forbid = ['emittable-zero']", "emittable-zero", zero(7), vec![7]),
        ("forbid = []\n[limits]\nmax-excess", "max-excess", equal(&[5, 9, 11]), vec![]),
        ("forbid = []\n[limits]\nmax-members", "max-members", equal(&[5, 9]), vec![]),
        ("forbid = []\n[limits]\nmax-groups", "max-groups", equal(&[5, 9]), vec![]),
        (reachable, "max-members", equal(&[5, 128]), vec![]),
    ]
}

#[test]
fn every_rule_finds_its_defect_where_it_is_asked_for_and_nowhere_else() {
    let limit = [("max-excess", 2), ("max-members", 2), ("max-groups", 1)];
    for (policy, rule, rows, found) in cases() {
        let desk = Desk::new();
        desk.model("m", &rows);
        let least = limit.iter().find(|(name, _)| *name == rule).map_or(0, |(_, least)| *least);
        let least = if policy.contains("class") { 1 } else { least };
        let is_limit = policy.contains("max-");
        let set = |limit: i32| {
            let text =
                if is_limit { format!("{policy} = {limit}\n") } else { format!("{policy}\n") };
            desk.write("singularity-survey.toml", text);
        };
        set(least - 1);
        let failed = desk.check(1, &["m"]);
        assert_eq!(findings(&failed), [error(rule, &found)], "{policy}");
        assert_eq!(failed["policy"], "singularity-survey.toml");
        let finding = &failed["checks"][0]["findings"][0];
        assert_eq!(finding["tokens"].as_array().unwrap().len(), found.len(), "{finding}");
        assert!(!finding["advice"].as_str().unwrap().is_empty());
        if is_limit {
            set(least);
            assert_eq!(findings(&desk.check(0, &["m"])), [], "{policy}");
        }
        desk.write("other.toml", "forbid = []");
        assert_eq!(findings(&desk.check(0, &["m", "--policy", "other.toml"])), [], "{policy}");
    }
}

#[test]
fn rows_that_are_allowed_are_not_blamed_and_are_company_all_the_same() {
    let desk = Desk::new();
    desk.model("m", &[(0, [7.5; 2]), (5, [7.5; 2]), (9, [7.5; 2]), (20, [0.0; 2])]);
    let all = "forbid = ['emittable-in-group', 'special-in-group', 'zero-rows']\n";
    let check = |code, allow: &str| {
        desk.write("p.toml", format!("{all}{allow}"));
        findings(&desk.check(code, &["m", "--policy", "p.toml"]))
    };
    assert_eq!(check(1, "").len(), 3);
    let reason = "reason = 'reserved for the next release'";
    for allow in [
        "[allow]\nids = ['0-9', 20]".to_owned(),
        format!("[[allow.rows]]\nids = [0, '5-9']\n{reason}\n[[allow.rows]]\nids = [20]\n{reason}"),
    ] {
        assert_eq!(check(0, &allow), []);
    }
    // One that is not allowed still equals the others.
    assert_eq!(check(1, "[allow]\nids = [0, 9, 20]"), [error("emittable-in-group", &[0, 5, 9])]);
}

#[test]
fn padding_is_allowed_unless_the_policy_says_otherwise() {
    let desk = Desk::new();
    desk.model("m", &[(128, [0.0; 2]), (129, [0.0; 2])]);
    desk.write("p.toml", "forbid = ['zero-rows']\n[limits]\nmax-groups = 0\n");
    assert_eq!(findings(&desk.check(0, &["m", "--policy", "p.toml"])), []);
    desk.write("p.toml", "forbid = ['zero-rows']\nlimits.max-groups = 0\nallow.padding = false\n");
    let found = findings(&desk.check(1, &["m", "--policy", "p.toml"]));
    assert_eq!(found, [error("zero-rows", &[128, 129]), error("max-groups", &[])]);
}

#[test]
fn no_allowance_covers_a_row_that_is_not_finite() {
    let desk = Desk::new();
    desk.model("m", &[(128, [f32::NAN; 2])]);
    desk.write("p.toml", "allow.ids = ['0-129']");
    let found = findings(&desk.check(1, &["m", "--policy", "p.toml"]));
    assert_eq!(found, [error("non-finite-rows", &[128])]);
}

#[test]
fn a_policy_names_its_models_by_paths_from_where_it_lies() {
    let desk = Desk::new();
    fs::create_dir(desk.path("gate")).unwrap();
    desk.put("resized-after", "model");
    desk.put("untied", "untied");
    let policy = "
        [[model]]
        id = '../model'
        allow.ids = ['120-125']
        [[model]]
        id = '../untied'
        matrix = 'both'
        forbid = []
    ";
    desk.write("gate/p.toml", policy);
    let all = desk.check(0, &["--policy", "gate/p.toml"]);
    let tensors: Vec<&Value> =
        all["checks"].as_array().unwrap().iter().map(|c| &c["matrix"]["tensor"]).collect();
    assert_eq!(tensors, ["lm_head.weight", "lm_head.weight", "model.embed_tokens.weight"]);
    // A model of the command line goes by its entry, however it is named.
    let one = desk.check(0, &["./model", "--policy", "gate/p.toml"]);
    assert_eq!(one["checks"][0]["name"], "./model");
    desk.put("resized-after", "other");
    desk.check(1, &["other", "--policy", "gate/p.toml"]);
}

#[test]
fn a_policy_that_says_what_is_not_known_is_refused_with_what_was_meant() {
    let desk = Desk::new();
    desk.put("no-group", "m");
    for (policy, says) in [
        ("forbit = []", "p.toml: line 1: unknown field `forbit`"),
        ("\n[limits]\nmax-exces = 1", "line 3: unknown field `max-exces`"),
        ("forbid = ['zero-row']", "did you mean `zero-rows`?"),
        ("[[allow.rows]]\nids = [1]", "missing field `reason`"),
        ("[[allow.rows]]\nids = [1]\nreason = ' '", "a reason"),
        ("forbid = [\n", "line"),
        ("\u{0}\u{1b}[31m = 1", "line 1"),
    ] {
        desk.write("p.toml", policy);
        refused(&desk.run(&["m", "--policy", "p.toml"]), says);
    }
    desk.write("p.toml", [0xff, 0xfe]);
    refused(&desk.run(&["m", "--policy", "p.toml"]), "no UTF-8");
    desk.write("p.toml", " ".repeat(2 << 20));
    refused(&desk.run(&["m", "--policy", "p.toml"]), "longer than the 1048576 bytes");
    refused(&desk.run(&["m", "--policy", "none.toml"]), "none.toml");
}

#[test]
fn a_check_of_nothing_is_refused() {
    let desk = Desk::new();
    refused(&desk.run(&[]), "no model is named, and there is no singularity-survey.toml");
    desk.write("singularity-survey.toml", "forbid = []");
    refused(&desk.run(&[]), "singularity-survey.toml lists no model");
    refused(&desk.run(&["m", "--update-baseline"]), "no baseline to update");
    refused(&desk.run(&["m", "n", "--baseline", "b"]), "--baseline is for one model");
}

// --- The baseline -------------------------------------------------------------

/// A desk whose model was as the first changes say when its baseline was written, and is now as the
/// second do.
fn since(before: &[(usize, [f32; 2])], now: &[(usize, [f32; 2])]) -> Desk {
    let desk = Desk::new();
    desk.model("m", before);
    desk.check(0, &["m", "--baseline", "b.json", "--update-baseline"]);
    desk.model("m", now);
    desk
}

const A: [f32; 2] = [7.5, 7.5];
const B: [f32; 2] = [8.5, 8.5];

#[test]
fn what_became_of_groups_since_the_baseline_is_told_apart() {
    let group = [(5, A), (9, A), (12, A)];
    for (now, found) in [
        (vec![(5, A), (9, A), (12, A)], vec![]),
        (
            vec![(5, A), (9, A), (12, A), (30, B), (31, B)],
            vec![error("emittable-in-group", &[30, 31]), error("new-group", &[30, 31])],
        ),
        (
            vec![(5, A), (9, A), (12, A), (40, A), (129, A)],
            // Padding may join.
            vec![error("emittable-in-group", &[5, 9, 12, 40]), error("grown-group", &[40])],
        ),
        (vec![(5, A), (9, A)], vec![note("shrunk-group", &[12])]),
        (vec![], vec![note("vanished-group", &[5, 9, 12])]),
        (vec![(5, B), (9, B), (12, B)], vec![note("moved-group", &[5, 9, 12])]),
    ] {
        let desk = since(&group, &now);
        let is_error = found.iter().any(|(level, ..)| level == "error");
        let code = i32::from(is_error);
        assert_eq!(findings(&desk.check(code, &["m", "--baseline", "b.json"])), found);
        let strict = desk.check(
            i32::from(!found.is_empty()),
            &["m", "--baseline", "b.json", "--strict-baseline"],
        );
        assert!(findings(&strict).iter().all(|(level, ..)| level == "error"));
    }
}

#[test]
fn what_the_baseline_has_is_quiet_and_limits_hold_all_the_same() {
    let known = [(0, A), (5, A), (7, [0.0; 2]), (8, [f32::NAN; 2])];
    let desk = since(&known, &[&known[..], &[(20, [0.0, -0.0])]].concat());
    let rules =
        "forbid = ['emittable-in-group', 'special-in-group', 'zero-rows', 'non-finite-rows',
        'emittable-zero']\n";
    desk.write("p.toml", rules);
    let args = ["m", "--policy", "p.toml", "--baseline", "b.json"];
    // The only row that was not zero before.
    let found = [error("zero-rows", &[20]), error("emittable-zero", &[20])];
    assert_eq!(findings(&desk.check(1, &args)), found);
    desk.write("p.toml", format!("{rules}allow.ids = [20]\nlimits.max-members = 1"));
    assert_eq!(findings(&desk.check(1, &args)), [error("max-members", &[])]);
}

#[test]
fn tokens_added_by_a_bad_resize_are_a_new_group() {
    let desk = Desk::new();
    desk.put("resized-before", "m");
    desk.write("p.toml", "forbid = []\n[[model]]\nid = 'm'\nbaseline = 'kept/b.json'");
    fs::create_dir(desk.path("kept")).unwrap();
    desk.check(0, &["--policy", "p.toml", "--update-baseline"]);
    desk.check(0, &["--policy", "p.toml"]);
    desk.put("resized-after", "m");
    let found = findings(&desk.check(1, &["--policy", "p.toml"]));
    assert_eq!(found, [error("new-group", &(120..128).collect::<Vec<_>>())]);
    desk.check(0, &["--policy", "p.toml", "--update-baseline"]);
    desk.check(0, &["--policy", "p.toml"]);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(desk.path("kept")).unwrap().count(), 1);
}

#[test]
fn a_baseline_that_is_none_of_this_matrix_decides_nothing() {
    let desk = Desk::new();
    desk.put("resized-before", "m");
    desk.scan("m", "good.json", &["--classes"]);
    let good: Value = serde_json::from_slice(&fs::read(desk.path("good.json")).unwrap()).unwrap();
    desk.check(0, &["m", "--baseline", "good.json"]);
    let change = |at: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(at).unwrap() = value;
        changed.to_string()
    };
    for (baseline, says) in [
        (change("/schema", json!(2)), "a report of schema 2; this program reads 1"),
        (change("/model/id", json!("org/other")), "a baseline of another model: of org/other"),
        (change("/model/source", json!("elsewhere")), "no report of a scan"),
        (change("/matrix/tensor", json!("x")), "no report of the tensor lm_head.weight"),
        (change("/duplicates/equality", json!("values")), "by another equality"),
        (change("/duplicates/groups_total", json!(1)), "damaged"),
        ("{".to_owned(), "no report of a scan"),
        ("{}".to_owned(), "it has no schema"),
        (json!({"schema": 1, "reports": []}).to_string(), "no report in it"),
    ] {
        desk.write("b.json", &baseline);
        let checks = desk.check(2, &["m", "--baseline", "b.json"])["checks"].clone();
        let why = checks[0]["undecided"][0].as_str().unwrap();
        assert!(why.contains("b.json") && why.contains(says), "{why}");
    }
    let why =
        desk.check(2, &["m", "--baseline", "none.json"])["checks"][0]["undecided"].to_string();
    assert!(why.contains("none.json"), "{why}");
}

// --- Fail fast ----------------------------------------------------------------

/// A policy that asks of no numbers: those of generated rows may be anything.
const GROUPS: &str = "forbid = ['emittable-in-group']";

/// The path of a policy.
fn policy(world: &World, text: &str) -> String {
    let path = world.home.path().join("p.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A model of a tied matrix far longer than what is on the way at a time, whose row `r` repeats row 0
/// where `r` is a multiple of `every`.
fn long(every: u64) -> World {
    let tokenizer = fs::read(fixture("untied").join("tokenizer.json")).unwrap();
    let model = generated("org/long", 60_000, 2048, every).file("tokenizer.json", tokenizer);
    World::new(StandIn::builder().repository(model).chunk(64 << 10))
}

#[test]
fn a_verdict_that_is_certain_ends_the_stream() {
    let world = long(3);
    let policy = policy(&world, GROUPS);
    let run = |more: &[&str]| {
        let args = ["check", "org/long", "--policy", &policy, "--connections", "2"];
        world.run(&[&args[..], more].concat())
    };
    let whole = verdict(&run(&["--format", "json"]), 1);
    let all = world.hub.bytes_sent();
    assert_eq!(whole["checks"][0]["bytes_saved"], 0);
    world.hub.clear_log();

    let stopped = verdict(&run(&["--fail-fast", "--format", "json"]), 1);
    let check = &stopped["checks"][0];
    assert_eq!(check["figures"], Value::Null);
    let finding = &check["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["level"]),
        (&json!("emittable-in-group"), &json!("error"))
    );
    let rows: Vec<u64> = serde_json::from_value(finding["rows"].clone()).unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row % 3 == 0), "{finding}");
    assert!(finding["message"].as_str().unwrap().starts_with("at least 2 tokens"), "{finding}");
    let (saved, bytes) = (check["bytes_saved"].as_u64().unwrap(), 60_000 * 2048);
    assert!(saved > bytes / 2 && saved < bytes, "{saved}");
    // What was saved was not sent, but for what is in buffers on its way.
    let sent = world.hub.bytes_sent();
    assert!(sent < all / 2, "{sent} of {all}");
    assert_eq!(check["rules"], json!([{"rule": "emittable-in-group", "outcome": "fail"}]));

    let said = run(&["--fail-fast"]);
    let said = text(&said.stdout).replace("\n  ", " ");
    assert!(said.contains("of the matrix not read"), "{said}");
}

#[test]
fn a_verdict_that_is_not_certain_before_the_end_is_that_of_the_whole() {
    let world = long(70_000);
    let policy = policy(&world, GROUPS);
    let args = ["check", "org/long", "--policy", &policy, "--format", "json", "--fail-fast"];
    let check = verdict(&world.run(&args), 0)["checks"][0].clone();
    assert_eq!((&check["bytes_saved"], &check["figures"]["rows"]), (&json!(0), &json!(60_000)));
}

#[test]
fn without_the_tokenizer_that_a_rule_wants_all_is_read() {
    let model = generated("org/long", 20_000, 512, 3);
    let world = World::new(StandIn::builder().repository(model));
    let args = ["check", "org/long", "--format", "json", "--fail-fast"];
    let check = verdict(&world.run(&args), 2)["checks"][0].clone();
    assert_eq!(check["figures"]["rows"], 20_000);
    let why = check["undecided"][0].as_str().unwrap();
    assert!(why.starts_with("emittable-in-group: not decided without a tokenizer"), "{why}");
}

#[test]
fn a_limit_without_padding_needs_no_tokenizer_to_be_exceeded() {
    let model = generated("org/long", 60_000, 2048, 3);
    let world = World::new(StandIn::builder().repository(model).chunk(64 << 10));
    let policy = policy(&world, "forbid = []\nlimits.max-excess = 9\nallow.padding = false");
    let args = ["check", "org/long", "--policy", &policy, "--format", "json", "--fail-fast"];
    let check = verdict(&world.run(&args), 1)["checks"][0].clone();
    assert!(check["bytes_saved"].as_u64().unwrap() > 0);
    assert!(check["findings"][0]["message"].as_str().unwrap().contains("at least 10 rows"));
    assert_eq!(findings(&json!({"checks": [check]})), [error("max-excess", &[])]);
}

#[test]
fn a_local_file_is_left_at_the_first_row_that_decides() {
    let desk = Desk::new();
    desk.model("m", &[(3, [f32::NAN; 2]), (7, [0.0; 2])]);
    desk.write("p.toml", "forbid = ['zero-rows']");
    let found = findings(&desk.check(1, &["m", "--fail-fast"]));
    assert_eq!(found, [error("non-finite-rows", &[3])]);
    let found = findings(&desk.check(1, &["m", "--fail-fast", "--policy", "p.toml"]));
    assert_eq!(found, [error("zero-rows", &[7])]);
}

// --- What could not be decided ------------------------------------------------

#[test]
fn a_rule_that_wants_a_tokenizer_is_not_decided_without_one() {
    let desk = Desk::new();
    desk.put("no-tokenizer", "m");
    desk.put("broken-tokenizer", "n");
    for (policy, code) in [
        ("forbid = ['emittable-in-group']", 2),
        ("forbid = ['special-in-group']", 2),
        // No row is zero, so that none can be emitted.
        ("forbid = ['emittable-zero', 'zero-rows', 'non-finite-rows']", 0),
        ("forbid = []\nlimits.class.reachable.max-members = 2", 2),
        ("forbid = []\nlimits.class.reachable.max-members = 5", 0),
        ("forbid = []\nlimits.max-groups = 1", 2),
        ("forbid = []\nlimits.max-groups = 1\nallow.padding = false", 1),
        ("forbid = []\nlimits.max-groups = 2", 0),
    ] {
        desk.write("p.toml", policy);
        for model in ["m", "n"] {
            let found = desk.check(code, &[model, "--policy", "p.toml"]);
            let undecided = found["checks"][0]["undecided"].as_array().unwrap();
            assert_eq!(undecided.len(), usize::from(code == 2), "{policy}: {undecided:?}");
        }
    }
    // A model without any group has nothing that a tokenizer would tell.
    desk.put("no-group", "m");
    desk.check(0, &["m"]);
    // Another's tokenizer may be named.
    desk.put("no-tokenizer", "m");
    let tokenizer = fixture("untied").join("tokenizer.json");
    desk.check(1, &["m", "--tokenizer", tokenizer.to_str().unwrap()]);
}

#[test]
fn a_failure_to_read_is_undecided_and_does_not_stop_the_others() {
    let desk = Desk::new();
    desk.put("resized-before", "good");
    desk.put("resized-after", "bad");
    desk.put("hqq", "packed");
    let found = desk.check(2, &["packed", "./none", "bad", "good"]);
    let outcomes: Vec<&Value> =
        found["checks"].as_array().unwrap().iter().map(|check| &check["outcome"]).collect();
    assert_eq!(outcomes, ["undecided", "undecided", "fail", "pass"]);
    assert!(found["checks"][1]["undecided"][0].as_str().unwrap().contains("./none"), "{found}");
}

#[test]
fn a_network_that_fails_is_never_a_finding() {
    let broken = |path: &str, action: Action| Fault::hub(path, Nth::Every, action);
    let cdn = |action: Action| Fault {
        on: Host::Cdn,
        path_end: String::new(),
        ranged: true,
        nth: Nth::Every,
        action,
    };
    for fault in [
        broken("/config.json", Action::status(500, "")),
        broken("/model.safetensors", Action::status(403, "")),
        broken("/tokenizer.json", Action::status(500, "")),
        cdn(Action::status(404, "")),
    ] {
        let model = repository("resized-after");
        let world = World::new(StandIn::builder().repository(model).fault(fault));
        let args = ["check", "org/resized-after", "--format", "json", "--max-wait", "0"];
        let found = verdict(&world.run(&args), 2);
        assert_eq!(findings(&found), []);
    }
}

// --- Replay -------------------------------------------------------------------

#[test]
fn an_earlier_report_is_judged_as_its_scan_would_be_and_without_any_network() {
    let world = World::new(StandIn::builder().repository(repository("resized-after")));
    let report = world.home.path().join("r.json");
    let output = format!("json:{}", report.display());
    assert!(world.run(&["org/resized-after", "--classes", "-o", &output]).status.success());
    let read = verdict(&world.run(&["check", "org/resized-after", "--format", "json"]), 1);
    world.hub.clear_log();
    let report = report.to_str().unwrap();
    let replayed = verdict(&world.run(&["check", "--replay", report, "--format", "json"]), 1);
    assert_eq!(world.hub.log().len(), 0);
    let (read, replayed) = (&read["checks"][0], &replayed["checks"][0]);
    for name in ["findings", "figures", "rules", "outcome", "model", "matrix"] {
        assert_eq!(read[name], replayed[name], "{name}");
    }
    assert_eq!([&read["basis"], &replayed["basis"]], ["read", "replay"]);
    let twice = ["check", "--replay", report, "--replay", report, "--format", "json"];
    assert_eq!(verdict(&world.run(&twice), 1)["checks"].as_array().unwrap().len(), 2);
}

#[test]
fn reports_of_both_matrices_are_judged_by_their_entry() {
    let desk = Desk::new();
    desk.put("untied", "m");
    desk.scan("m", "r.json", &["--matrix", "both", "--profile"]);
    let replay = |code| desk.check(code, &["--replay", "r.json", "--policy", "p.toml"]);
    desk.write("p.toml", "forbid = []\n[[model]]\nid = 'm'\nlimits.max-groups = 1");
    let found = replay(1);
    let outcomes = [&found["checks"][0]["outcome"], &found["checks"][1]["outcome"]];
    assert_eq!(outcomes, ["fail", "pass"]);
    desk.scan("m", "b.json", &["--matrix", "both", "--profile"]);
    desk.write("p.toml", "[[model]]\nid = 'm'\nbaseline = 'b.json'");
    replay(0);
}

#[test]
fn a_report_that_does_not_say_enough_decides_nothing_and_says_what_would() {
    let desk = Desk::new();
    desk.put("padded-vocabulary", "m");
    for (args, says) in [
        (&[][..], "scan with --classes or --profile"),
        (&["--classes", "--min-size", "9"], "scan with --min-size 2"),
        (&["--classes", "--min-size", "9"], "does not list all groups"),
        (&["--no-tokenizer", "--profile"], "without a tokenizer"),
    ] {
        desk.scan("m", "r.json", args);
        let found = desk.check(2, &["--replay", "r.json"]);
        assert!(found["checks"][0]["undecided"].to_string().contains(says), "{found:#}");
    }
}

#[test]
fn a_damaged_report_is_refused() {
    let desk = Desk::new();
    desk.put("resized-after", "m");
    desk.scan("m", "r.json", &["--classes"]);
    let good: Value = serde_json::from_slice(&fs::read(desk.path("r.json")).unwrap()).unwrap();
    let group = "/duplicates/groups/0";
    for (at, value) in [
        ("/matrix/rows", json!(100)),
        ("/duplicates/members", json!(9)),
        (&format!("{group}/size"), json!(9)),
        (&format!("{group}/rows/0"), json!(121)),
        (&format!("{group}/rows/7"), json!(u64::MAX)),
        (&format!("{group}/tokens/0/row"), json!(7)),
        (&format!("{group}/digest"), json!("xyz")),
        ("/degenerate/zero", json!([500])),
        ("/degenerate/nan", json!([5, 4])),
        ("/schema", json!("1")),
        ("/schema", json!(2)),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(at).unwrap() = value;
        desk.write("d.json", changed.to_string());
        refused(&desk.run(&["--replay", "d.json"]), "d.json: ");
    }
}

// --- Init ---------------------------------------------------------------------

#[test]
fn a_policy_that_init_writes_is_passed_by_the_model_it_was_written_for() {
    let desk = Desk::new();
    let mut passed = 0;
    for case in super::support::cases() {
        if expected(&case).get("error").is_some() || case == "lone-shard" {
            continue;
        }
        desk.put(&case, "m");
        let _ = fs::remove_file(desk.path("p.toml"));
        let written = desk.run(&["--init", "m", "--policy", "p.toml"]);
        assert!(written.status.success(), "{case}: {}", text(&written.stderr));
        desk.check(0, &["--policy", "p.toml"]);
        desk.check(0, &["m", "--policy", "p.toml"]);
        passed += 1;
    }
    assert!(passed > 30, "{passed}");
}

#[test]
fn init_tells_of_every_group_and_proposes_without_accepting() {
    let desk = Desk::new();
    desk.put("resized-after", "m");
    let written = desk.run(&["--init", "m"]);
    let policy = text(&written.stdout);
    for says in [
        "id = \"m\"",
        "# \"emittable-in-group\",  # 1 finding now",
        "    \"zero-rows\",",
        "max-members = 6",
        "8 members: 6 special, 2 no-token",
        "# ids = [\"120-127\"]",
    ] {
        assert!(policy.contains(says), "{says}: {policy}");
    }
    // A policy that is there is not written over.
    desk.write("p.toml", "forbid = []");
    refused(&desk.run(&["--init", "m", "--policy", "p.toml"]), "p.toml exists already");
    // Without a model there is a beginning all the same.
    let empty = desk.run(&["--init", "--policy", "empty.toml"]);
    assert!(empty.status.success());
    desk.check(1, &["m", "--policy", "empty.toml"]);
    // In another folder, a model's path still leads to it.
    fs::create_dir(desk.path("gate")).unwrap();
    assert!(desk.run(&["--init", "m", "--policy", "gate/p.toml"]).status.success());
    let policy = fs::read_to_string(desk.path("gate/p.toml")).unwrap();
    assert!(policy.contains("id = \"./../m\""), "{policy}");
    desk.check(0, &["--policy", "gate/p.toml"]);
    // A tokenizer that was named is named in it too.
    desk.put("no-tokenizer", "n");
    let init = ["--init", "n", "--policy", "gate/n.toml", "--tokenizer", "m/tokenizer.json"];
    assert!(desk.run(&init).status.success());
    desk.check(0, &["--policy", "gate/n.toml"]);
}

// --- Where verdicts go --------------------------------------------------------

#[test]
fn verdicts_go_to_several_files_at_once_in_any_form() {
    let desk = Desk::new();
    desk.put("resized-after", "m");
    let forms = ["text", "json", "markdown", "sarif", "junit", "github"];
    let outputs: Vec<String> = forms.iter().map(|form| format!("{form}:v.{form}")).collect();
    let mut args = vec!["m", "--quiet"];
    outputs.iter().for_each(|output| args.extend(["-o", output]));
    let run = desk.run(&args);
    assert_eq!(run.status.code(), Some(1));
    for form in forms {
        let printed = desk.run(&["m", "--format", form]);
        let written = fs::read(desk.path(&format!("v.{form}"))).unwrap();
        assert!(!written.is_empty());
        if form == "text" {
            assert_eq!(text(&written), text(&run.stdout));
        }
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(1), ""), "{form}");
    }
    refused(&desk.run(&["m", "-o", "csv:x"]), "csv");
}

#[test]
fn annotations_come_with_a_summary_that_is_added_to_what_the_step_has_written() {
    let desk = Desk::new();
    desk.put("resized-after", "m");
    desk.write("summary.md", "before\n");
    let run = |format: &str| {
        let mut command = bare(&["check", "m", "--format", format]);
        command.env("GITHUB_STEP_SUMMARY", desk.path("summary.md"));
        let output = command.current_dir(desk.path(".")).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        (output, fs::read_to_string(desk.path("summary.md")).unwrap())
    };
    let (output, summary) = run("github");
    assert!(text(&output.stdout).starts_with("::"), "{}", text(&output.stdout));
    assert!(summary.starts_with("before\n") && summary.contains("emittable-in-group"));
    // No other form does that.
    assert_eq!(run("text").1, summary);
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_does_not_turn_a_failure_into_a_success() {
    let desk = Desk::new();
    desk.put("resized-after", "m");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = bare(&["check", "m"]);
    let status = command.current_dir(desk.path(".")).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

// --- Citizenship --------------------------------------------------------------

fn resolves(world: &World) -> usize {
    let log = world.hub.log();
    log.iter().filter(|r| r.host == Host::Hub && r.path().contains("/resolve/")).count()
}

#[test]
fn a_check_that_reads_takes_five_resolves_at_most() {
    for (case, most) in [("tied", 4), ("two-shards", 5)] {
        let world = World::of(case);
        world.run(&["check", &format!("org/{case}")]);
        assert_eq!(resolves(&world), most);
        world.hub.clear_log();
        world.run(&["check", &format!("org/{case}"), "--fail-fast"]);
        assert!(resolves(&world) <= most);
    }
}

#[test]
fn each_check_says_what_it_cost_itself() {
    let (one, other) = (repository("tied"), repository("two-shards"));
    let world = World::new(StandIn::builder().repository(one).repository(other));
    let run = world.run(&["check", "org/tied", "org/two-shards", "--format", "json"]);
    let checks = verdict(&run, 1)["checks"].clone();
    let cost = |name: &str| -> Vec<u64> {
        let checks = checks.as_array().unwrap().iter();
        checks.map(|check| check["transfer"][name].as_u64().unwrap()).collect()
    };
    let log = world.hub.log();
    assert_eq!(cost("requests").iter().sum::<u64>(), log.len() as u64);
    // Of the second model alone.
    let second = |r: &&singularity_survey::standin::Request| r.path().contains("two-shards");
    assert!(cost("requests")[1] >= log.iter().filter(second).count() as u64);
    assert!(cost("requests")[0] > 3 && cost("bytes")[0] > 0);
}

/// Models and a quota of requests that is used up before all are read.
fn limited(quota: u64, window: u64) -> World {
    let model = |name: &str| {
        let name = format!("org/{name}");
        let read = |file: &str| fs::read(fixture("resized-before").join(file)).unwrap();
        ["config.json", "model.safetensors", "tokenizer.json"]
            .iter()
            .fold(Repository::new(&name), |model, file| model.file(file, read(file)))
    };
    let builder = StandIn::builder().repository(model("a")).repository(model("b"));
    World::new(builder.quota(quota, Duration::from_secs(window)))
}

#[test]
fn a_limit_that_is_used_up_is_waited_for_before_the_next_model() {
    // What one model takes, so that the next begins with nothing left.
    let world = limited(1000, 300);
    world.run(&["check", "org/a"]);
    let one = world.hub.log().iter().filter(|r| r.host == Host::Hub).count() as u64;
    let world = limited(one, 3);
    let run = world.run(&["check", "org/a", "org/b", "--format", "json", "--max-wait", "9"]);
    verdict(&run, 0);
    let refused = world.hub.log().iter().filter(|r| r.status == 429).count();
    assert_eq!(refused, 0);
}

#[test]
fn a_limit_that_lasts_too_long_is_undecided_with_the_time_to_try_again() {
    let world = limited(1000, 300);
    world.run(&["check", "org/a"]);
    let one = world.hub.log().iter().filter(|r| r.host == Host::Hub).count() as u64;
    let world = limited(one, 300);
    let args = ["check", "org/a", "org/b", "org/b", "--format", "json", "--max-wait", "5"];
    let found = verdict(&world.run(&args), 2);
    assert_eq!(found["checks"][0]["outcome"], "pass");
    for check in &found["checks"].as_array().unwrap()[1..] {
        let why = check["undecided"][0].as_str().unwrap();
        assert!(why.contains("rate limit reached") && why.contains("try again after "), "{why}");
        assert!(why.contains(" GMT"), "{why}");
    }
    // Nothing is asked while it would be refused.
    assert_eq!(world.hub.log().iter().filter(|r| r.host == Host::Hub).count() as u64, one);
}

// --- The schema ---------------------------------------------------------------

fn schema() -> jsonschema::Validator {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn the_schema_takes_what_the_program_takes_and_refuses_what_it_refuses() {
    let schema = schema();
    for (policy, good) in [
        ("", true),
        ("forbid = []", true),
        ("forbid = ['zero-rows', 'emittable-zero']\nstrict-baseline = true", true),
        ("[limits]\nmax-excess = 0\nmax-members = 1\nmax-groups = 2", true),
        ("[limits.class.no-token]\nmax-members = 1", true),
        ("[allow]\npadding = false\nids = [1, '2-3', '4']", true),
        ("[[allow.rows]]\nids = [1]\nreason = 'x'", true),
        ("[[model]]\nid = 'a/b'\nrevision = 'v1'\nmatrix = 'both'\nbaseline = 'b.json'", true),
        ("[[model]]\nid = 'a'\ntensor = 't'\nfile = 'f'\ntokenizer = 'x'\nforbid = []", true),
        ("[[model]]\nid = 'a'\nlimits.max-excess = 1\nallow.padding = true", true),
        ("forbit = []", false),
        ("forbid = ['max-excess']", false),
        ("forbid = 'zero-rows'", false),
        ("[limits]\nmax-excess = -1", false),
        ("[limits]\nmax-excess = 1.5", false),
        ("[limits.class.unheard]\nmax-members = 1", false),
        ("[limits.class.special]", false),
        ("[allow]\nids = ['a']", false),
        ("[allow]\nids = [-1]", false),
        ("[[allow.rows]]\nids = [1]", false),
        ("[[allow.rows]]\nids = [1]\nreason = ''", false),
        ("[[model]]\nrevision = 'x'", false),
        ("[[model]]\nid = 'a'\nmatrix = 'head'", false),
        ("[model]\nid = 'a'", false),
    ] {
        let value: Value = toml::from_str(policy).unwrap();
        assert_eq!(schema.is_valid(&value), good, "schema: {policy}");
        let parsed = singularity_survey::policy::Policy::parse("p.toml", policy);
        assert_eq!(parsed.is_ok(), good, "program: {policy}: {parsed:?}");
    }
}

#[test]
fn what_init_writes_and_the_guide_shows_is_as_the_schema_says() {
    let desk = Desk::new();
    desk.put("demo", "m");
    let written = desk.run(&["--init", "m"]);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let guide = fs::read_to_string(guide).unwrap();
    let shown = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut policies = vec![text(&written.stdout)];
    policies.extend(shown);
    assert!(policies.len() > 3);
    for policy in policies {
        let value: Value = toml::from_str(policy).unwrap();
        assert!(schema().is_valid(&value), "{policy}");
        singularity_survey::policy::Policy::parse("p.toml", policy).unwrap();
    }
}
