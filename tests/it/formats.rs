use super::support::*;
use serde_json::Value;
use singularity_survey::report::Report;
use singularity_survey::standin::StandIn;
use std::collections::HashMap;
use std::process::Stdio;

fn lines(output: &[u8]) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kind(line: &Value) -> &str {
    line["type"].as_str().unwrap()
}

#[test]
fn a_json_report_reads_back_as_the_librarys_own() {
    let world = World::of("demo");
    let measured = world.run(&["org/demo", "--profile", "--format", "json"]);
    let output = world.run(&["org/demo", "--format", "json"]);
    for output in [&measured, &output] {
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap(), json(output));
    }
    let report = json(&output);
    let mut names: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "classes",
            "degenerate",
            "duplicates",
            "geometry",
            "matrix",
            "matrix_digest",
            "model",
            "probe",
            "profile",
            "schema",
            "tokenizer",
            "tool",
            "transfer",
            "warnings"
        ]
    );
    assert_eq!(
        (&report["schema"], &report["tool"]["name"]),
        (&1.into(), &"singularity-survey".into())
    );
}

#[test]
fn two_runs_differ_in_their_transfer_only() {
    let world = World::of("demo");
    let run = |connections: &str| {
        let mut report = world.scan(&["org/demo", "--connections", connections]);
        report["transfer"] = Value::Null;
        report
    };
    assert_eq!(run("1"), run("8"));
}

#[test]
fn lines_come_in_order_and_name_each_row_found_equal_once() {
    let world = World::of("many-groups");
    let output = world.run(&["org/many-groups", "--format", "jsonl"]);
    let lines = lines(&output.stdout);
    let expected = expected("many-groups");
    assert_eq!((kind(&lines[0]), kind(lines.last().unwrap())), ("start", "summary"));
    assert_eq!(lines[0]["matrix"]["tensor"], expected["matrix"]["tensor"]);
    let order: Vec<&str> = lines.iter().map(kind).collect();
    assert!(order.is_sorted_by_key(|kind| {
        ["start", "duplicate", "group", "summary"].iter().position(|k| k == kind)
    }));

    let of = |wanted: &'static str| lines.iter().filter(move |line| kind(line) == wanted);
    let groups: Vec<&Value> = of("group").collect();
    let expected_groups = expected["bits"]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), expected_groups.len());
    let mut group_of: HashMap<u64, usize> = HashMap::new();
    for (number, (group, expected)) in groups.iter().zip(expected_groups).enumerate() {
        assert_eq!(group["rows"], expected["rows"]);
        group_of.extend(
            group["rows"].as_array().unwrap().iter().map(|r| (r.as_u64().unwrap(), number)),
        );
    }
    let mut seen: Vec<u64> = of("duplicate")
        .map(|line| {
            let (row, same) = (line["row"].as_u64().unwrap(), line["same_as"].as_u64().unwrap());
            assert_eq!(group_of[&row], group_of[&same]);
            row
        })
        .collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), all as u64), (all, expected["bits"]["excess"].as_u64().unwrap()));
    let summary = lines.last().unwrap();
    assert_eq!(summary["duplicates"]["members"], expected["bits"]["members"]);
    assert_eq!(summary["matrix_digest"], expected["matrix_digest"]);
}

#[test]
fn a_failure_ends_the_lines_with_an_error_and_no_summary() {
    let world = World::of("classifier");
    let output = world.run(&["org/classifier", "--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    let lines = lines(&output.stdout);
    assert_eq!(lines.iter().map(kind).collect::<Vec<_>>(), ["error"]);
    assert!(lines[0]["message"].as_str().unwrap().contains("score.weight"));
}

#[test]
fn csv_has_a_line_for_each_member() {
    let world = World::of("demo");
    let output = world.run(&["org/demo", "--format", "csv"]);
    let all = text(&output.stdout);
    let expected = expected("demo");
    assert_eq!(all.lines().next(), Some("matrix,group,size,digest,row,text,class"));
    assert_eq!(all.lines().count() as u64 - 1, expected["bits"]["members"].as_u64().unwrap());
    let first = &expected["bits"]["groups"][0];
    let row = &first["rows"][0];
    let start = format!(
        "model.embed_tokens.weight,1,{},{},{row},",
        first["size"],
        first["digest"].as_str().unwrap()
    );
    assert!(all.lines().nth(1).unwrap().starts_with(&start), "{all}");
    assert!(all.lines().all(|line| line.split(',').count() >= 7));
}

#[test]
fn ids_are_the_members() {
    let world = World::of("many-groups");
    let output = world.run(&["org/many-groups", "--format", "ids"]);
    let ids: Vec<u64> = text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
    let expected = expected("many-groups");
    let groups = expected["bits"]["groups"].as_array().unwrap();
    let mut members: Vec<u64> = groups
        .iter()
        .flat_map(|g| g["rows"].as_array().unwrap())
        .map(|r| r.as_u64().unwrap())
        .collect();
    members.sort_unstable();
    assert_eq!(ids, members);
}

#[test]
fn the_text_report_has_the_figures_and_keeps_to_80_columns() {
    let world = World::of("demo");
    let output = world.run(&["org/demo"]);
    let shown = text(&output.stdout);
    let found = &expected("demo")["bits"];
    for line in [
        format!("Excess: {} (total - unique)", found["excess"]),
        format!("Members: {} (tokens inside groups)", found["members"]),
        format!("Largest group: {} tokens", found["largest"]),
        format!("Singularity groups: {}", found["groups_total"]),
    ] {
        assert!(shown.lines().any(|l| l == line), "{line:?} not in {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    assert_eq!(text(&output.stderr), "");
    let none = world.run(&[fixture("no-group").to_str().unwrap()]);
    assert!(text(&none.stdout).contains("No singularities found"));
}

#[test]
fn listings_are_cut_where_they_are_told_to_be() {
    let world = World::of("demo");
    let shown =
        world.run(&["org/demo", "--max-groups", "2", "--max-tokens", "3", "--min-size", "5"]);
    let shown = text(&shown.stdout);
    assert_eq!(shown.matches("Group ").count() - shown.matches("Group size").count(), 2);
    let found = &expected("demo")["bits"];
    let groups = found["groups"].as_array().unwrap();
    let size = |group: &Value| group["size"].as_u64().unwrap();
    let large = groups.iter().filter(|group| size(group) >= 5).count();
    assert!(large > 2 && large < groups.len());
    let more = [
        format!("… and {} more tokens", size(&groups[0]) - 3),
        format!("… and {} more groups", large - 2),
    ];
    assert!(more.iter().all(|more| shown.contains(more)), "{shown}");
    let listed = world.scan(&["org/demo", "--min-size", "5"]);
    assert_eq!(listed["duplicates"]["groups"].as_array().unwrap().len(), large);
    assert_eq!(listed["duplicates"]["groups_total"], found["groups_total"]);
    let members = world.scan(&["org/demo", "--max-tokens", "1"]);
    assert_eq!(members["duplicates"]["groups"][0]["rows"], groups[0]["rows"]);
}

#[test]
fn markdown_has_a_section_for_each_group() {
    let world = World::of("demo");
    let output = world.run(&["org/demo", "--format", "markdown"]);
    let page = text(&output.stdout);
    assert!(page.starts_with("## Identical rows of `org/demo`\n"));
    let found = &expected("demo")["bits"];
    assert_eq!(page.matches("\n### Group ").count() as u64, found["groups_total"]);
    assert!(page.contains(&format!("| Excess | {} |", found["excess"])));
}

#[test]
fn every_form_goes_to_files_beside_standard_output() {
    let world = World::of("demo");
    let folder = tempfile::tempdir().unwrap();
    let forms = ["text", "json", "jsonl", "csv", "markdown", "ids"];
    let path = |form: &str| folder.path().join(form);
    let outputs: Vec<String> = forms.map(|form| format!("{form}:{}", path(form).display())).into();
    let mut args = vec!["org/demo", "--format", "ids"];
    args.extend(outputs.iter().flat_map(|output| ["-o", output]));
    std::fs::write(path("json"), "old").unwrap();
    let output = world.run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(path("ids")).unwrap(), output.stdout);
    let report: Report = serde_json::from_slice(&std::fs::read(path("json")).unwrap()).unwrap();
    assert_eq!(report.duplicates.groups_total, expected("demo")["bits"]["groups_total"]);
    assert_eq!(kind(lines(&std::fs::read(path("jsonl")).unwrap()).last().unwrap()), "summary");
    for form in ["text", "csv", "markdown"] {
        assert_eq!(std::fs::read(path(form)).unwrap(), {
            let mut stdout = world.run(&["org/demo", "--format", form]).stdout;
            // Seconds differ from run to run.
            if form == "text" {
                stdout = std::fs::read(path(form)).unwrap();
            }
            stdout
        });
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), forms.len());
}

#[test]
fn a_failed_run_leaves_files_as_they_were() {
    let world = World::of("classifier");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    std::fs::write(&path, "old").unwrap();
    refused(&world.run(&["org/classifier", "-o", &format!("json:{}", path.display())]), "score");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new(StandIn::builder().repository(generated("org/m", 60_000, 64, 2)));
    for format in ["jsonl", "json", "ids"] {
        let mut child = world
            .command(&["org/m", "-q", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{format}");
    }
}

#[test]
fn completions_and_the_manual_are_printed() {
    // Where bash looks a subcommand up, it is called as where it was told.
    let script = bare(&["completions", "bash"]).output().unwrap();
    let script = text(&script.stdout);
    assert!(script.contains("cmd=\"singularity__survey__subcmd__check\""), "{script}");
    assert!(script.contains("singularity__survey__subcmd__check)"), "{script}");
    assert!(!script.contains("singularity__subcmd__survey"), "{script}");
    for args in [&["completions", "bash"][..], &["completions", "zsh"], &["man"]] {
        let output = bare(args).output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("max"), "{args:?}");
    }
}
