use super::support::*;
use serde_json::{Value, json};
use singularity_survey::standin::{Host, Repository, StandIn};
use singularity_survey::store::Store;
use std::path::PathBuf;
use std::process::Output;

/// A Hub, and a store beside it.
struct Shelf {
    world: World,
    folder: PathBuf,
}

/// What a run cost at the Hub.
#[derive(Debug, PartialEq)]
struct Cost {
    resolves: usize,
    listings: usize,
    ranges: usize,
}

impl Shelf {
    fn new(repositories: impl IntoIterator<Item = Repository>) -> Self {
        let builder = repositories.into_iter().fold(StandIn::builder(), |b, r| b.repository(r));
        let world = World::new(builder);
        let folder = world.home.path().join("store");
        Self { world, folder }
    }

    fn store(&self) -> Store {
        Store::at(&self.folder)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.world.hub.clear_log();
        let folder = self.folder.to_str().unwrap();
        self.world.command(args).env("SINGULARITY_SURVEY_STORE", folder).output().unwrap()
    }

    /// The verdict of a check, whatever it is, and its cost.
    fn check(&self, args: &[&str]) -> (Value, Cost) {
        let output = self.run(&[&["check", "--format", "json"], args].concat());
        let verdict = serde_json::from_slice(&output.stdout);
        (verdict.unwrap_or_else(|_| panic!("{}", text(&output.stderr))), self.cost())
    }

    fn cost(&self) -> Cost {
        let log = self.world.hub.log();
        let of = |part: &'static str| {
            log.iter().filter(move |r| r.host == Host::Hub && r.path().contains(part))
        };
        Cost {
            resolves: of("/resolve/").count(),
            listings: of("/revision/").count(),
            ranges: log.iter().filter(|r| r.range().is_some()).count(),
        }
    }

    /// Changes what is kept under keys that begin so.
    fn rewrite(&self, begin: &str, change: impl Fn(&mut Value)) {
        let keys = self.store().list().unwrap().into_iter().filter_map(|entry| entry.key);
        let keys: Vec<String> = keys.filter(|key| key.starts_with(begin)).collect();
        assert!(!keys.is_empty());
        for key in keys {
            let mut answer: Value = self.store().get(&key).unwrap();
            change(&mut answer);
            self.store().put(&key, &answer).unwrap();
        }
    }
}

/// A verdict without what differs from run to run.
fn lasting(mut verdict: Value) -> Value {
    for check in verdict["checks"].as_array_mut().unwrap() {
        for part in ["transfer", "basis"] {
            check.as_object_mut().unwrap().remove(part);
        }
    }
    verdict
}

fn basis(verdict: &Value) -> Vec<&str> {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().map(|check| check["basis"].as_str().unwrap()).collect()
}

const NOTHING: Cost = Cost { resolves: 1, listings: 0, ranges: 0 };

#[test]
fn a_model_that_has_not_changed_costs_one_resolve_and_no_weights() {
    for case in cases() {
        let shelf = Shelf::new([repository(&case)]);
        let model = format!("org/{case}");
        let (first, cost) = shelf.check(&[&model]);
        if first["checks"][0]["matrix"].is_null() {
            // What cannot be read is not kept.
            assert_eq!(shelf.store().list().unwrap(), [], "{case}");
            continue;
        }
        assert_eq!(basis(&first), ["read"], "{case}");
        assert!(cost.resolves <= 5, "{case}: {cost:?}");
        let (again, cost) = shelf.check(&[&model]);
        assert_eq!(cost, NOTHING, "{case}");
        assert_eq!(basis(&again), ["store"], "{case}");
        assert_eq!(lasting(again), lasting(first), "{case}");
    }
}

#[test]
fn a_commit_that_changed_no_file_of_the_models_costs_one_listing_more() {
    for case in ["untied", "two-shards"] {
        let shelf = Shelf::new([repository(case)]);
        let model = format!("org/{case}");
        let (first, _) = shelf.check(&[&model]);
        let moved = |kept: &mut Value| kept["commit"] = json!("0".repeat(40));
        shelf.rewrite("reports", moved);
        let (again, cost) = shelf.check(&[&model]);
        assert_eq!(cost, Cost { resolves: 1, listings: 1, ranges: 0 });
        assert_eq!(lasting(again), lasting(first));
        // The new commit is known then.
        assert_eq!(shelf.check(&[&model]).1, NOTHING);
    }
}

#[test]
fn a_commit_that_changed_a_small_file_is_read_again_but_for_the_weights() {
    let shelf = Shelf::new([repository("untied")]);
    let (first, _) = shelf.check(&["org/untied"]);
    for (file, id) in [
        ("config.json", json!("1".repeat(40))),
        ("tokenizer.json", json!("1".repeat(40))),
        ("model.safetensors.index.json", json!("1".repeat(40))),
        // What was there, and was not when it was looked for.
        ("config.json", Value::Null),
    ] {
        shelf.rewrite("reports", |kept| {
            kept["commit"] = json!("0".repeat(40));
            kept["files"][file] = id.clone();
        });
        let (again, cost) = shelf.check(&["org/untied"]);
        assert_eq!(basis(&again), ["store"]);
        // The header alone.
        assert!(cost.resolves <= 5 && cost.ranges == 1, "{file}: {cost:?}");
        assert_eq!(lasting(again), lasting(first.clone()), "{file}");
    }
}

#[test]
fn other_weights_are_read() {
    let shelf = Shelf::new([repository("untied")]);
    let (_, whole) = shelf.check(&["org/untied"]);
    let other = "1".repeat(64);
    shelf.rewrite("reports", |kept| {
        kept["commit"] = json!("0".repeat(40));
        kept["files"]["model.safetensors"] = json!(other);
    });
    // As if the rows of other bytes had been kept.
    for entry in shelf.store().list().unwrap() {
        let key = entry.key.unwrap();
        if key.starts_with("rows") {
            let answer: Value = shelf.store().get(&key).unwrap();
            std::fs::remove_file(shelf.folder.join(entry.name)).unwrap();
            let (begin, _) = key.rsplit_once(' ').unwrap();
            shelf.store().put(&format!("{begin} {other}"), &answer).unwrap();
        }
    }
    let (again, cost) = shelf.check(&["org/untied"]);
    assert_eq!((basis(&again), cost.ranges), (vec!["read"], whole.ranges));
}

#[test]
fn two_repositories_that_share_a_shard_are_read_once() {
    let copy = |id: &str| {
        let mut copy = Repository::new(id);
        for entry in std::fs::read_dir(fixture("untied")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name != "expected.json" {
                copy = copy.file(name, std::fs::read(&path).unwrap());
            }
        }
        copy
    };
    let shelf = Shelf::new([copy("org/a"), copy("org/b")]);
    let (verdict, _) = shelf.check(&["org/a", "org/b"]);
    assert_eq!(basis(&verdict), ["read", "store"]);
    let [a, b] = [0, 1].map(|n| verdict["checks"][n]["figures"].clone());
    assert_eq!(a, b);
}

#[test]
fn both_matrices_are_kept_together() {
    let shelf = Shelf::new([repository("untied")]);
    let policy = shelf.world.home.path().join("both.toml");
    let text = "[[model]]\nid = \"org/untied\"\nmatrix = \"both\"\n";
    std::fs::write(&policy, text).unwrap();
    let args = ["--policy", policy.to_str().unwrap()];
    let (first, _) = shelf.check(&args);
    assert_eq!(basis(&first), ["read", "read"]);
    let (again, cost) = shelf.check(&args);
    assert_eq!((basis(&again), cost), (vec!["store", "store"], NOTHING));
    assert_eq!(lasting(again), lasting(first));
    // What was asked for is a part of the key.
    let (one, _) = shelf.check(&["org/untied"]);
    assert_eq!(basis(&one), ["store"]);
    assert_ne!(shelf.cost(), NOTHING);
}

#[test]
fn a_digest_that_is_weak_or_of_no_files_own_is_no_key() {
    // A plain server has ETags of its own.
    let world = World::new(StandIn::builder().plain().repository(repository("untied")));
    let folder = world.home.path().join("store");
    let shelf = Shelf { world, folder };
    let (first, cost) = shelf.check(&["org/untied"]);
    let (again, costs) = shelf.check(&["org/untied"]);
    assert_eq!((basis(&again), costs), (vec!["read"], cost));
    assert_eq!(lasting(again), lasting(first));
    assert!(
        shelf.store().list().unwrap().iter().all(|e| !e.key.as_ref().unwrap().starts_with("rows"))
    );
}

#[test]
fn a_scan_uses_the_store_when_asked_and_says_the_same() {
    let shelf = Shelf::new([repository("untied")]);
    let report = |args: &[&str]| {
        let output = shelf.run(&[&["org/untied", "--format", "json"], args].concat());
        let mut report = json(&output);
        let stored = report["transfer"]["stored"] == true;
        report.as_object_mut().unwrap().remove("transfer");
        (report, stored)
    };
    let (plain, _) = report(&[]);
    assert_eq!(shelf.store().list().unwrap(), [], "nobody asked");
    let asked = format!("--store={}", shelf.folder.display());
    assert_eq!(report(&[&asked]), (plain.clone(), false));
    assert_eq!(report(&["--store"]), (plain, true));
    assert_eq!(shelf.cost().ranges, 1, "the header");
    let (classes, stored) = report(&["--classes"]);
    assert!(!stored);
    // More was not measured then, and is now.
    assert_eq!(report(&["--classes", "--store"]), (classes.clone(), false));
    assert_eq!(report(&["--classes", "--store"]), (classes, true));
    let (profile, _) = report(&["--profile"]);
    assert_eq!(report(&["--profile", "--store"]), (profile, false), "norms are not kept");
    // Lines tell of the same rows.
    let lines = |args: &[&str]| {
        let output = shelf.run(&[&["org/untied", "--format", "jsonl"], args].concat());
        let mut lines: Vec<String> = text(&output.stdout)
            .lines()
            .filter(|l| l.contains("\"duplicate\""))
            .map(Into::into)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&["--store"]).len(), lines(&[]).len());
}

#[test]
fn damaged_entries_are_read_again_and_replaced() {
    let shelf = Shelf::new([repository("untied")]);
    let (first, whole) = shelf.check(&["org/untied"]);
    for damage in [&b""[..], b"x", b"singularity-survey store 2 ", &[0; 100]] {
        for entry in shelf.store().list().unwrap() {
            std::fs::write(shelf.folder.join(entry.name), damage).unwrap();
        }
        let (again, cost) = shelf.check(&["org/untied"]);
        assert_eq!((basis(&again), &cost), (vec!["read"], &whole));
        assert_eq!(lasting(again), lasting(first.clone()));
        assert_eq!(shelf.check(&["org/untied"]).1, NOTHING);
    }
}

#[test]
fn a_store_that_cannot_be_written_is_a_warning() {
    let shelf = Shelf::new([repository("untied")]);
    std::fs::write(&shelf.folder, "a file in its place").unwrap();
    let output = shelf.run(&["check", "org/untied"]);
    assert_ne!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let told = text(&output.stdout).matches("cannot be kept in").count();
    assert_eq!(told, 1, "{}", text(&output.stdout));
}

#[test]
fn several_processes_share_a_store() {
    let shelf = Shelf::new([repository("untied"), repository("two-shards")]);
    let (alone, _) = shelf.check(&["--no-store", "org/untied", "org/two-shards"]);
    assert_eq!(shelf.store().list().unwrap(), [], "--no-store");
    let runs: Vec<usize> = (0..24).collect();
    each(&runs, |_| {
        let folder = shelf.folder.to_str().unwrap();
        let args = ["check", "--format", "json", "--store", folder, "org/untied", "org/two-shards"];
        let output = shelf.world.run(&args);
        assert_eq!(
            lasting(serde_json::from_slice(&output.stdout).unwrap()),
            lasting(alone.clone())
        );
    });
    assert!(shelf.store().list().unwrap().iter().all(|entry| entry.key.is_some()));
    assert_eq!(shelf.check(&["org/untied"]).1, NOTHING);
}

#[test]
fn nothing_secret_is_kept() {
    let shelf = Shelf::new([repository("untied")]);
    let folder = shelf.folder.to_str().unwrap();
    let args = ["check", "org/untied", "--token", "hf_secret", "--store", folder];
    assert_ne!(shelf.world.run(&args).status.code(), Some(2));
    for entry in shelf.store().list().unwrap() {
        let content = std::fs::read_to_string(shelf.folder.join(entry.name)).unwrap();
        for secret in ["hf_secret", "Signature", "Expires", "X-Amz"] {
            assert!(!content.contains(secret), "{content}");
        }
    }
}

#[test]
fn what_is_kept_is_listed_and_pruned() {
    let shelf = Shelf::new([repository("untied")]);
    shelf.check(&["org/untied"]);
    let listed = shelf.run(&["store", "list"]);
    let text_of = text(&listed.stdout);
    assert_eq!(text_of.lines().count(), 2, "{text_of}");
    assert!(text_of.contains("model org/untied") && text_of.contains("SHA-256"), "{text_of}");
    let entries = json(&shelf.run(&["store", "list", "--json"]));
    assert_eq!(entries.as_array().unwrap().len(), 2);
    let pruned = shelf.run(&["store", "prune"]);
    assert!(text(&pruned.stdout).starts_with("0 entries pruned"));
    let pruned = shelf.run(&["store", "prune", "--older-than", "0"]);
    assert!(text(&pruned.stdout).starts_with("2 entries pruned"), "{}", text(&pruned.stdout));
    assert_eq!(shelf.store().list().unwrap(), []);
    assert_ne!(shelf.check(&["org/untied"]).1, NOTHING);
}
