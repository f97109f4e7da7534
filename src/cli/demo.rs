//! A complete scan without any network: a stand-in Hub starts on loopback, and the scan runs
//! against it over HTTP through the same code as against the real Hub.

use super::args::{Cli, Command};
use super::target::Found;
use super::{check, run};
use clap::Parser as _;
use singularity_survey::error::{Error, Result};
use singularity_survey::report::{count, size};
use singularity_survey::resolve::Hub;
use singularity_survey::source::Options;
use singularity_survey::standin::{Builder, Host, Repository, StandIn};

/// The name under which the stand-in serves the model.
const MODEL: &str = "demo/dead-vocabulary";

/// The model's files: a small model that was trained until its dead vocabulary had become one.
const FILES: [File; 5] = [
    ("config.json", include_bytes!("../../fixtures/models/demo/config.json")),
    (
        "model.safetensors.index.json",
        include_bytes!("../../fixtures/models/demo/model.safetensors.index.json"),
    ),
    (
        "model-00001-of-00002.safetensors",
        include_bytes!("../../fixtures/models/demo/model-00001-of-00002.safetensors"),
    ),
    (
        "model-00002-of-00002.safetensors",
        include_bytes!("../../fixtures/models/demo/model-00002-of-00002.safetensors"),
    ),
    ("tokenizer.json", include_bytes!("../../fixtures/models/demo/tokenizer.json")),
];

/// A file's name and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! resized {
    ($case:literal) => {{
        macro_rules! file {
            ($name:literal) => {
                (
                    $name,
                    include_bytes!(concat!("../../fixtures/models/resized-", $case, "/", $name)),
                )
            };
        }
        [file!("config.json"), file!("model.safetensors"), file!("tokenizer.json")]
    }};
}

/// A small model before and after tokens were added to it, and its matrix resized without training.
const RESIZED: [(&str, [File; 3]); 2] =
    [("demo/before-resize", resized!("before")), ("demo/after-resize", resized!("after"))];

fn repository(name: &str, files: &[File]) -> Repository {
    files.iter().fold(Repository::new(name), |model, &(name, bytes)| model.file(name, bytes))
}

/// Serves the model, scans it, and says what went over the wire; then shows the gate.
pub(crate) async fn demo() -> Result<()> {
    let model = repository(MODEL, &FILES);
    let whole = model.size();
    let resized = RESIZED.iter().map(|(name, files)| repository(name, files));
    let hub = resized
        .fold(StandIn::builder().repository(model), Builder::repository)
        .start()
        .await
        .map_err(|source| Error::Io { path: "127.0.0.1".into(), doing: "listen", source })?;
    let endpoint = hub
        .endpoint()
        .parse()
        .map_err(|_| Error::Usage { what: "the stand-in has no address".into() })?;
    let at = Hub { endpoint, token: None, cache: None, offline: false };
    let cli = Cli::try_parse_from(["", MODEL, "--classes", "--max-tokens", "6"])
        .map_err(|e| Error::Usage { what: e.to_string() })?;
    // No proxy stands between a process and itself.
    run::scan_on(&cli.scan, at.clone(), Options::default()).await?;

    let log = hub.log();
    let of = |host| log.iter().filter(|request| request.host == host).count() as u64;
    run::to_stdout(|out| {
        writeln!(
            out,
            "Served by a stand-in Hub inside this process: {} of the repository's\n\
             {}, in {} requests to the Hub and {} to its CDN.",
            size(hub.bytes_sent()),
            size(whole),
            count(of(Host::Hub)),
            count(of(Host::Cdn)),
        )
    })?;
    gate(at).await?;
    run::to_stdout(|out| writeln!(out, "\nA real model: singularity-survey Qwen/Qwen2.5-0.5B"))
}

/// Checks the model that was resized, before and after.
async fn gate(at: Hub) -> Result<()> {
    let [before, after] = RESIZED.map(|(name, _)| name);
    run::to_stdout(|out| writeln!(out, "\n$ singularity-survey check {before} {after}"))?;
    let cli = Cli::try_parse_from(["", "check", "--no-store", before, after])
        .map_err(|e| Error::Usage { what: e.to_string() })?;
    if let Some(Command::Check(args)) = &cli.command {
        // It is there to fail.
        check::check_on(args, Found::default(), at, Options::default()).await?;
    }
    Ok(())
}
