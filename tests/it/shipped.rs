//! What is shipped for CI: the steps of the Action, run as GitHub's runner runs them, and the hook.

use crate::support::bare;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

fn yaml(name: &str) -> Yaml {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    YamlLoader::load_from_str(&fs::read_to_string(path).unwrap()).unwrap().remove(0)
}

fn steps() -> Vec<Yaml> {
    yaml("action.yml")["runs"]["steps"].as_vec().unwrap().clone()
}

fn step(name: &str) -> Yaml {
    steps().into_iter().find(|step| step["name"].as_str() == Some(name)).unwrap()
}

/// A job of GitHub's: what expressions stand for, and a folder to work in.
struct Job {
    folder: TempDir,
    values: BTreeMap<String, String>,
}

impl Job {
    /// With the inputs as they are when nothing is given.
    fn new() -> Self {
        let mut values = BTreeMap::new();
        for (name, input) in yaml("action.yml")["inputs"].as_hash().unwrap() {
            let default = input["default"].as_str().unwrap().to_owned();
            values.insert(format!("inputs.{}", name.as_str().unwrap()), default);
        }
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temp").display().to_string();
        for (name, value) in [
            ("github.action_path", env!("CARGO_MANIFEST_DIR")),
            ("github.server_url", "https://git.example"),
            ("github.action_repository", "org/survey"),
            ("runner.temp", &temporary),
        ] {
            values.insert(name.to_owned(), value.to_owned());
        }
        Self { folder, values }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that keeps its arguments, and what it sees of some variables, in `<name>.told`.
    fn program(&self, name: &str, then: &str) -> PathBuf {
        let path = self.path(name);
        let script = format!(
            "#!/usr/bin/env bash\nprintf '%s\\n' \"$@\" \"HF_TOKEN=${{HF_TOKEN-none}}\" \
             \"GITHUB_STEP_SUMMARY=${{GITHUB_STEP_SUMMARY-none}}\" >\"$0.told\"\n{then}\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn told(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(&format!("{name}.told"))).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What an expression stands for.
    fn value(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{ ") {
            let (name, after) = after.split_once(" }}").unwrap();
            out += before;
            out += self.values.get(name).unwrap_or_else(|| panic!("{name} is not known"));
            rest = after;
        }
        out + rest
    }

    /// Runs a step's script with its environment, and nothing of this machine's but the path.
    fn run(&self, step: &Yaml) -> Output {
        let script = self.path("script.sh");
        fs::write(&script, step["run"].as_str().unwrap()).unwrap();
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(&script);
        command.current_dir(self.folder.path()).env_clear().env("PATH", path);
        for (name, value) in step["env"].as_hash().unwrap() {
            command.env(name.as_str().unwrap(), self.value(value.as_str().unwrap()));
        }
        for name in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            command.env(name, self.path(name));
        }
        if let Some(binary) = self.values.get("SINGULARITY_SURVEY") {
            command.env("SINGULARITY_SURVEY", binary);
        }
        command.output().unwrap()
    }

    /// What steps have put out so far.
    fn outputs(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("GITHUB_OUTPUT")).unwrap_or_default();
        let pair = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        text.lines().map(pair).collect()
    }

    /// The step that checks, with a program in place of the binary; and what that was called with.
    fn check(self, then: &str) -> (Self, Output, Vec<String>) {
        let binary = self.program("survey", then).display().to_string();
        let job = self.set("steps.find.outputs.binary", &binary);
        let output = job.run(&step("Check"));
        let told = job.told("survey");
        (job, output, told)
    }
}

#[test]
fn nothing_reaches_a_shell_but_by_the_environment() {
    for step in steps() {
        assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{:?}", step["name"]);
    }
}

#[test]
fn every_input_and_output_is_described_and_used() {
    let action = yaml("action.yml");
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).unwrap();
    for (name, input) in action["inputs"].as_hash().unwrap() {
        let name = name.as_str().unwrap();
        assert!(input["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
        assert!(text.contains(&format!("${{{{ inputs.{name} }}}}")), "{name}");
    }
    for (name, output) in action["outputs"].as_hash().unwrap() {
        let value = format!("${{{{ steps.check.outputs.{} }}}}", name.as_str().unwrap());
        assert_eq!(output["value"].as_str(), Some(value.as_str()));
    }
}

#[test]
fn inputs_are_arguments_as_they_stand_whatever_a_shell_would_make_of_them() {
    let hostile = "a b\n\n$(touch pwned)\r\n`touch pwned`\"; touch pwned #\n--policy=x\n*";
    let (job, output, told) = Job::new()
        .set("inputs.models", hostile)
        .set("inputs.policy", "it's $HOME.toml")
        .set("inputs.baseline", "b; c")
        .set("inputs.args", "--max-wait\n60")
        .set("inputs.sarif", "out dir/a.sarif")
        .set("inputs.token", "hf_$x")
        .check("exit 0");
    assert!(output.status.success(), "{output:?}");
    let models = ["a b", "$(touch pwned)", "`touch pwned`\"; touch pwned #", "--policy=x", "*"];
    let mut expected = vec!["check", "--format", "github", "--policy", "it's $HOME.toml"];
    expected.extend(["--baseline", "b; c", "--output", "sarif:out dir/a.sarif"]);
    expected.extend(["--max-wait", "60", "--"]);
    expected.extend(models);
    assert_eq!(told[..expected.len()], expected);
    assert_eq!(told[expected.len()], "HF_TOKEN=hf_$x");
    assert!(!job.path("pwned").exists());
}

#[test]
fn what_is_not_given_is_no_argument() {
    let (job, _, told) = Job::new().check("exit 0");
    let summary = format!("GITHUB_STEP_SUMMARY={}", job.path("GITHUB_STEP_SUMMARY").display());
    assert_eq!(told, ["check", "--format", "github", "--", "HF_TOKEN=none", &summary]);
    let (_, _, told) = Job::new().set("inputs.summary", "false").check("exit 0");
    assert_eq!(told[5], "GITHUB_STEP_SUMMARY=none");
}

#[test]
fn the_step_ends_as_the_check_did_and_says_how() {
    for (code, outcome) in [(0, "pass"), (1, "fail"), (2, "undecided"), (130, "undecided")] {
        let job = Job::new().set("inputs.sarif", "a.sarif");
        let (job, output, _) = job.check(&format!("touch a.sarif; exit {code}"));
        assert_eq!(output.status.code(), Some(code));
        let outputs = job.outputs();
        assert_eq!((outputs["outcome"].as_str(), outputs["sarif"].as_str()), (outcome, "a.sarif"));
    }
}

/// The models before and after a bad resize, and the step that checks them with the real program.
fn real(model: &str) -> (Job, Output) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(model);
    let job = Job::new()
        .set("inputs.models", &model.display().to_string())
        .set("inputs.args", "--offline\n--output\njunit:out.xml")
        .set("inputs.sarif", "out.sarif")
        .set("steps.find.outputs.binary", env!("CARGO_BIN_EXE_singularity-survey"));
    let output = job.run(&step("Check"));
    (job, output)
}

#[test]
fn a_bad_resize_fails_the_step_with_annotations_a_summary_and_sarif() {
    let (job, output) = real("resized-after");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("::error title=singularity-survey%3A emittable-in-group::"));
    assert!(printed.lines().all(|line| line.starts_with("::")), "{printed}");
    let summary = fs::read_to_string(job.path("GITHUB_STEP_SUMMARY")).unwrap();
    assert!(summary.contains("**`emittable-in-group`**"), "{summary}");
    assert!(fs::read_to_string(job.path("out.sarif")).unwrap().contains("\"2.1.0\""));
    assert!(fs::read_to_string(job.path("out.xml")).unwrap().contains("<failure"));
    assert_eq!(job.outputs()["outcome"], "fail");

    let (job, output) = real("resized-before");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    assert_eq!(job.outputs()["outcome"], "pass");

    let (job, output) = real("no-such-model");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(job.outputs()["outcome"], "undecided");
}

#[test]
fn the_sources_behind_the_ref_are_built_once_for_each_state() {
    let job = Job::new();
    job.program("cargo", "exit 0");
    assert!(job.run(&step("Find the sources")).status.success());
    let found = job.outputs();
    assert_eq!(found["key"].len(), 40);
    let job = job.set("steps.find.outputs.root", &found["root"]);
    assert!(job.run(&step("Build")).status.success());
    let told = job.told("cargo");
    let expected = ["install", "--locked", "--no-track", "--root", &found["root"], "--path"];
    assert_eq!(
        (&told[..6], told[6].as_str()),
        (&expected.map(str::to_owned)[..], env!("CARGO_MANIFEST_DIR"))
    );

    let job = Job::new().set("inputs.version", "v1 $(touch pwned)");
    job.program("cargo", "exit 0");
    assert!(job.run(&step("Find the sources")).status.success());
    assert_ne!(job.outputs()["key"], found["key"]);
    let job = job.set("steps.find.outputs.root", &found["root"]);
    assert!(job.run(&step("Build")).status.success());
    let from = ["--git", "https://git.example/org/survey", "--rev", "v1 $(touch pwned)"];
    assert_eq!(job.told("cargo")[5..9], from);
    assert!(!job.path("pwned").exists());
}

#[test]
fn a_binary_that_is_there_already_is_taken_and_nothing_is_built() {
    let job = Job::new().set("SINGULARITY_SURVEY", "/opt/survey");
    assert!(job.run(&step("Find the sources")).status.success());
    let found = job.outputs();
    assert_eq!(found.get("binary").map(String::as_str), Some("/opt/survey"));
    assert!(!found.contains_key("key"));
    for name in ["Look into the cache", "Build"] {
        assert!(step(name)["if"].as_str().unwrap().starts_with("steps.find.outputs.key != ''"));
    }
}

#[test]
fn the_hook_is_the_program_and_runs_where_models_or_policies_change() {
    let hook = yaml(".pre-commit-hooks.yaml")[0].clone();
    assert_eq!(hook["entry"].as_str(), Some("singularity-survey check"));
    assert_eq!(hook["pass_filenames"].as_bool(), Some(false));
    let mut entry = hook["entry"].as_str().unwrap().split(' ').skip(1);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/resized-before");
    let folder = tempfile::tempdir().unwrap();
    let policy = format!("[[model]]\nid = {:?}\n", model.display().to_string());
    fs::write(folder.path().join("singularity-survey.toml"), policy).unwrap();
    let ran = bare(&[entry.next().unwrap()]).current_dir(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let files = regex::Regex::new(hook["files"].as_str().unwrap()).unwrap();
    for name in ["m/model.safetensors", "singularity-survey.toml", "m/model.safetensors.index.json"]
    {
        assert!(files.is_match(name), "{name}");
    }
    assert!(!files.is_match("README.md") && !files.is_match("my-singularity-survey.toml"));
}
