//! Fixtures and their expected results, the stand-in Hub, the binary.

use serde_json::Value;
use singularity_survey::error::Result;
use singularity_survey::observe::Silent;
use singularity_survey::pipeline::{Job, Survey};
use singularity_survey::report::Report;
use singularity_survey::resolve::{Hub, ModelSpec};
use singularity_survey::source::{Clock, Options, Secret};
use singularity_survey::standin::{Builder, Repository, StandIn};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The folder of a fixture.
pub fn fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(case)
}

/// The names of all fixtures.
pub fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(fixture("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    names
}

/// What the outside oracle says of a fixture.
pub fn expected(case: &str) -> Value {
    let text = std::fs::read(fixture(case).join("expected.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A fixture as a repository `org/<case>`, without what the Hub would not hold.
pub fn repository(case: &str) -> Repository {
    let mut repository = Repository::new(&format!("org/{case}"));
    for entry in std::fs::read_dir(fixture(case)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "expected.json" {
            repository = repository.file(name, std::fs::read(&path).unwrap());
        }
    }
    repository
}

/// A stand-in Hub, and a home without any other state of the Hub's tools.
pub struct World {
    pub runtime: Runtime,
    pub hub: StandIn,
    pub home: TempDir,
}

impl World {
    pub fn new(builder: Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let hub = runtime.block_on(builder.token("hf_secret").start()).unwrap();
        Self { runtime, hub, home: tempfile::tempdir().unwrap() }
    }

    /// A Hub with one fixture.
    pub fn of(case: &str) -> Self {
        Self::new(StandIn::builder().repository(repository(case)))
    }

    /// The binary, with the stand-in as its Hub.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_HOME", self.home.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The one JSON report of a scan that must succeed.
    pub fn scan(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--format", "json"]);
        json(&self.run(&all))
    }

    /// A scan by the library, with a clock that does not sleep; and the waits that were asked for.
    pub fn survey(&self, model: &str, connections: usize) -> (Result<Report>, Vec<Duration>) {
        self.survey_with(model, connections, |_| {})
    }

    pub fn survey_with(
        &self,
        model: &str,
        connections: usize,
        change: impl FnOnce(&mut Options),
    ) -> (Result<Report>, Vec<Duration>) {
        let clock = Arc::new(Impatient::default());
        let mut options =
            Options { clock: clock.clone(), observer: Arc::new(Silent), ..Options::default() };
        change(&mut options);
        let hub = Hub {
            endpoint: self.hub.endpoint().parse().unwrap(),
            token: Secret::new("hf_secret"),
            cache: None,
            offline: false,
        };
        let mut job = Job::new(ModelSpec::parse(model, &hub.endpoint).unwrap());
        job.connections = connections.try_into().unwrap();
        let report = self.runtime.block_on(async {
            let prepared = Survey::new(hub, options).prepare(&job).await?;
            prepared.scan(0).await
        });
        let waits = clock.waits.lock().unwrap().clone();
        (report, waits)
    }
}

/// The binary, with nothing of this machine's environment that it would read.
pub fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_singularity-survey"));
    command.args(args).env_clear().env("SINGULARITY_SURVEY_STORE", "");
    for name in ["PATH", "HOME", "SYSTEMROOT", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// The JSON that a successful run printed.
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A run that must refuse: exit code 2, nothing on standard output, one line that holds `says`.
pub fn refused(output: &Output, says: &str) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("error: ") && errors.contains(says), "{says:?} not in {errors}");
}

/// Holds a report against what the oracle says.
pub fn agree(report: &Value, expected: &Value, equality: &str, context: &str) {
    let found = &report["duplicates"];
    for (name, value) in expected["matrix"].as_object().unwrap() {
        assert_eq!(&report["matrix"][name], value, "{context}: matrix.{name}");
    }
    for (name, value) in expected[equality].as_object().unwrap() {
        match (name.as_str(), value.as_f64()) {
            ("groups", _) => groups(&found["groups"], value, &expected["tokens"], context),
            (_, Some(number)) => {
                let close = found[name].as_f64().is_some_and(|f| (f - number).abs() < 1e-9);
                assert!(close, "{context}: {name}: {} is not {number}", found[name]);
            }
            _ => assert_eq!(&found[name], value, "{context}: {name}"),
        }
    }
    assert_eq!(report["matrix_digest"], expected["matrix_digest"], "{context}");
}

fn groups(found: &Value, expected: &Value, tokens: &Value, context: &str) {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len(), "{context}: groups");
    for (found, expected) in found.iter().zip(expected) {
        for name in ["size", "digest", "rows"] {
            assert_eq!(found[name], expected[name], "{context}: {name}");
        }
        for token in found["tokens"].as_array().unwrap() {
            let expected = &tokens[token["row"].to_string()];
            assert_eq!(token["text"], expected["text"], "{context}: {token}");
            assert_eq!(token.get("class"), expected.get("class"), "{context}: {token}");
        }
    }
}

/// What the clock on the wall says in all tests: 9 September 2001.
pub fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// A clock that notes each wait and does not wait, and that may run fast.
#[derive(Default)]
pub struct Impatient {
    pub waits: Mutex<Vec<Duration>>,
    /// How far it has moved each time it is looked at.
    pub stride: Duration,
    pub looks: AtomicU32,
}

impl Clock for Impatient {
    fn now(&self) -> Instant {
        Instant::now() + self.stride * self.looks.fetch_add(1, Relaxed)
    }

    fn wall(&self) -> SystemTime {
        wall()
    }

    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        self.waits.lock().unwrap().push(duration);
        Box::pin(tokio::task::yield_now())
    }

    fn random(&self) -> f64 {
        0.0
    }
}

/// A safetensors file of one matrix of generated rows, and the place of its first byte: row `r`
/// repeats row 0 where `r` is a multiple of `every`.
fn matrix_file(name: &str, rows: u64, row_bytes: u64, every: u64) -> (Vec<u8>, Row) {
    let (columns, end) = (row_bytes / 2, rows * row_bytes);
    let entry = serde_json::json!({"dtype": "BF16", "shape": [rows, columns],
        "data_offsets": [0, end]});
    let mut header = serde_json::json!({ name: entry }).to_string();
    header += &" ".repeat((8 - header.len() % 8) % 8);
    let mut prefix = (header.len() as u64).to_le_bytes().to_vec();
    prefix.extend(header.bytes());
    let pattern: Vec<u8> = (0..row_bytes).map(|column| column as u8).collect();
    let row = move |row: u64| {
        let row = if row.is_multiple_of(every) { 0 } else { row };
        let mut bytes = pattern.clone();
        let number = row.to_le_bytes();
        let length = number.len().min(bytes.len());
        bytes[..length].copy_from_slice(&number[..length]);
        bytes
    };
    (prefix, Box::new(row))
}

/// The length of such a file.
pub fn file_size(name: &str, rows: u64, row_bytes: u64) -> u64 {
    matrix_file(name, rows, row_bytes, 1).0.len() as u64 + rows * row_bytes
}

type Row = Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// Adds such a file to a repository, made as it is read, so that it may be of any size.
fn generate(repository: Repository, path: &str, name: &str, size: [u64; 3]) -> Repository {
    let [rows, row_bytes, every] = size;
    let (prefix, row) = matrix_file(name, rows, row_bytes, every);
    let start = prefix.len() as u64;
    repository.generated(path, start + rows * row_bytes, move |from, length| {
        let to = from + length as u64;
        let mut bytes = Vec::with_capacity(length + row_bytes as usize);
        if from < start {
            bytes.extend_from_slice(&prefix[from as usize..to.min(start) as usize]);
        }
        let mut at = from.max(start);
        while at < to {
            let (number, within) = ((at - start) / row_bytes, (at - start) % row_bytes);
            let wanted = (to - at).min(row_bytes - within);
            bytes.extend_from_slice(&row(number)[within as usize..(within + wanted) as usize]);
            at += wanted;
        }
        bytes.into()
    })
}

/// A checkpoint of one tied matrix of generated rows, as an LFS file of any size: row `r` repeats
/// row 0 where `r` is a multiple of `every`.
pub fn generated(id: &str, rows: u64, row_bytes: u64, every: u64) -> Repository {
    let repository = Repository::new(id).file("config.json", r#"{"tie_word_embeddings": true}"#);
    let (path, name) = ("model.safetensors", "model.embed_tokens.weight");
    generate(repository, path, name, [rows, row_bytes, every])
}

/// The same matrix as a head of its own, in the second of two shards.
pub fn generated_shards(id: &str, rows: u64, row_bytes: u64, every: u64) -> Repository {
    let shard = |number: u32| format!("model-0000{number}-of-00002.safetensors");
    let map = serde_json::json!({"metadata": {}, "weight_map": {
        "model.embed_tokens.weight": shard(1), "lm_head.weight": shard(2)}});
    let repository = Repository::new(id)
        .file("config.json", r#"{"tie_word_embeddings": false}"#)
        .file("model.safetensors.index.json", map.to_string());
    let repository =
        generate(repository, &shard(1), "model.embed_tokens.weight", [rows, row_bytes, 7]);
    generate(repository, &shard(2), "lm_head.weight", [rows, row_bytes, every])
}

/// Runs a check on each case, several at a time: most of them wait.
pub fn each<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    check(case);
                }
            });
        }
    });
}
