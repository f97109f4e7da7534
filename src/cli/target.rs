//! What is to be judged: models of the command line and of the policy.

use super::args::CheckArgs;
use singularity_survey::error::{Error, Result};
use singularity_survey::pipeline::{Job, TokenizerChoice, Which};
use singularity_survey::policy::{Entry, MAX_POLICY, Matrices, Policy, Rules};
use singularity_survey::quote;
use singularity_survey::report::Report;
use singularity_survey::resolve::{Hub, ModelSpec};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The policy of the working directory.
const POLICY: &str = "singularity-survey.toml";

/// A policy and where it lies.
#[derive(Default)]
pub(crate) struct Found {
    /// Its file, as it was named; without one the rules hold that hold for any model.
    pub(super) file: Option<PathBuf>,
    pub(super) policy: Policy,
}

impl Found {
    /// The policy that was named, or that of the working directory, or none.
    pub(super) fn new(args: &CheckArgs) -> Result<Self> {
        let file = match &args.policy {
            Some(named) => named.clone(),
            None if Path::new(POLICY).exists() => POLICY.into(),
            None => return Ok(Self::default()),
        };
        let name = file.display().to_string();
        let text = String::from_utf8(whole(&file, MAX_POLICY)?);
        let text =
            text.map_err(|_| Error::Format { file: name.clone(), what: "no UTF-8".into() })?;
        let mut policy = Policy::parse(&name, &text)?;
        for entry in &mut policy.models {
            entry.rules.strict_baseline |= args.strict_baseline;
            // A revision may be a part of the name.
            let (id, revision) = split(&entry.id);
            if let Some(revision) = revision.filter(|_| entry.revision.is_none()) {
                (entry.id, entry.revision) = (id.to_owned(), Some(revision.to_owned()));
            }
        }
        Ok(Self { file: Some(file), policy })
    }

    /// A path of the policy; a relative one is relative to its file.
    fn at(&self, path: &str) -> PathBuf {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(path)
    }

    /// A name of the policy: a path if there is something at it.
    fn name(&self, text: &str) -> String {
        let path = self.at(text);
        if path.exists() { path.display().to_string() } else { text.to_owned() }
    }

    /// What the command line names, or all that the policy does.
    pub(super) fn targets(&self, args: &CheckArgs) -> Result<Vec<Target>> {
        let targets: Vec<Target> = match args.models.as_slice() {
            [] => {
                let at = |entry: &Entry| Entry { id: self.name(&entry.id), ..entry.clone() };
                self.policy.models.iter().map(|entry| self.target(at(entry), args)).collect()
            }
            given => given.iter().flat_map(|model| self.of(model, args)).collect(),
        };
        if targets.is_empty() {
            let what = match &self.file {
                Some(file) => format!("{} lists no model; name one", file.display()),
                None => format!("no model is named, and there is no {POLICY} that lists some"),
            };
            return Err(Error::Usage { what });
        }
        if args.baseline.is_some() && targets.len() > 1 {
            let what = "--baseline is for one model; give each its own in the policy";
            return Err(Error::Usage { what: what.into() });
        }
        if let Some(target) = targets.iter().find(|target| target.baseline.is_none())
            && args.update_baseline
        {
            let what = format!("{}: no baseline to update; name it with --baseline", target.name);
            return Err(Error::Usage { what });
        }
        Ok(targets)
    }

    fn target(&self, entry: Entry, args: &CheckArgs) -> Target {
        let revision = entry.revision.as_ref().map_or(String::new(), |r| format!("@{r}"));
        let of_entry = || entry.tokenizer.as_ref().map(|text| self.name(text));
        Target {
            name: quote::redact(&format!("{}{revision}", entry.id)),
            baseline: self.baseline(&entry, args),
            tokenizer: args.tokenizer.clone().or_else(of_entry),
            entry,
        }
    }

    /// A model of the command line: by the policy's entries for it, if there are any.
    fn of(&self, model: &str, args: &CheckArgs) -> Vec<Target> {
        let (id, revision) = split(model);
        let mut entries: Vec<&Entry> =
            self.policy.models.iter().filter(|entry| self.names(entry, id)).collect();
        if entries.iter().any(|entry| entry.revision.as_deref() == revision) {
            entries.retain(|entry| entry.revision.as_deref() == revision);
        }
        let plain = Entry { id: id.to_owned(), rules: self.rules(args), ..Entry::default() };
        if entries.is_empty() {
            entries.push(&plain);
        }
        let named = |entry: &Entry| Entry {
            id: id.to_owned(),
            revision: revision.map(str::to_owned).or_else(|| entry.revision.clone()),
            ..entry.clone()
        };
        entries.into_iter().map(|entry| self.target(named(entry), args)).collect()
    }

    /// Whether an entry is of this model.
    fn names(&self, entry: &Entry, id: &str) -> bool {
        let place = |path: &Path| std::fs::canonicalize(path).ok();
        match place(&self.at(&entry.id)) {
            Some(path) => place(Path::new(id)).is_some_and(|given| given == path),
            None => entry.id == id,
        }
    }

    fn rules(&self, args: &CheckArgs) -> Rules {
        let rules = self.policy.rules.clone();
        let strict_baseline = rules.strict_baseline || args.strict_baseline;
        Rules { strict_baseline, ..rules }
    }

    /// The rules and the baseline of an earlier report.
    pub(super) fn of_report(&self, report: &Report, args: &CheckArgs) -> (Rules, Option<PathBuf>) {
        let is_of = |entry: &&Entry| {
            let same = |given: &Option<String>| given.is_none() || *given == report.model.revision;
            let id = &report.model.id;
            let tensor = entry.tensor.as_ref().is_none_or(|name| *name == report.matrix.tensor);
            (entry.id == *id || self.names(entry, id)) && same(&entry.revision) && tensor
        };
        match self.policy.models.iter().find(is_of) {
            Some(entry) => (entry.rules.clone(), self.baseline(entry, args)),
            None => (self.rules(args), args.baseline.clone()),
        }
    }

    fn baseline(&self, entry: &Entry, args: &CheckArgs) -> Option<PathBuf> {
        args.baseline.clone().or_else(|| Some(self.at(entry.baseline.as_ref()?)))
    }
}

/// A Hub's model and its revision; a path has none.
fn split(model: &str) -> (&str, Option<&str>) {
    match model.split_once('@') {
        Some((id, revision)) if is_id(id) && !Path::new(model).exists() => (id, Some(revision)),
        _ => (model, None),
    }
}

/// Whether a text may name a repository: no address does.
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
}

/// One model to be judged.
pub(super) struct Target {
    /// The model as it was asked for.
    pub(super) name: String,
    pub(super) entry: Entry,
    pub(super) baseline: Option<PathBuf>,
    tokenizer: Option<String>,
}

impl Target {
    /// What is to be done with it.
    pub(super) fn job(&self, args: &CheckArgs, hub: &Hub) -> Result<Job> {
        let entry = &self.entry;
        let mut model = ModelSpec::parse(&entry.id, &hub.endpoint)?;
        match (&mut model, &entry.revision) {
            (ModelSpec::Hub { revision, .. }, Some(named)) => *revision = Some(named.clone()),
            (_, Some(_)) => {
                let what = format!("{}: a revision is for models on the Hub", self.name);
                return Err(Error::Usage { what });
            }
            (_, None) => {}
        }
        let mut job = Job::new(model);
        job.file = entry.file.clone();
        job.which = match (&entry.tensor, entry.matrix) {
            (Some(tensor), _) => Which::Tensor(tensor.clone()),
            (None, Matrices::Unembedding) => Which::Unembedding,
            (None, Matrices::Embedding) => Which::Embedding,
            (None, Matrices::Both) => Which::Both,
        };
        if let Some(tokenizer) = &self.tokenizer {
            job.tokenizer = TokenizerChoice::Of(ModelSpec::parse(tokenizer, &hub.endpoint)?);
        }
        job.degenerate = true;
        job.connections = args.run.connections;
        job.threads = args.run.threads();
        Ok(job)
    }
}

/// A file of at most so many bytes.
pub(super) fn whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |doing| move |source| Error::Io { path: path.to_owned(), doing, source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("open"))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() as u64 > limit {
        let what = format!("longer than the {limit} bytes that such a file may have");
        return Err(Error::Format { file: path.display().to_string(), what });
    }
    Ok(bytes)
}
