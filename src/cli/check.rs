//! The gate: models read one after another, or earlier reports, and a verdict on all.

use super::args::{CheckArgs, OutputArg};
use super::output::OutputFile;
use super::progress::{Progress, Told};
use super::run::{self, All};
use super::store::with_store;
use super::target::{Found, Target, whole};
use super::{advice, environment, init};
use singularity_survey::analysis::Equality;
use singularity_survey::error::{Error, Result};
use singularity_survey::observe::{Event, Observer};
use singularity_survey::pipeline::{Job, Looked, Prepared, Survey};
use singularity_survey::policy::{Baseline, Case, Live, MAX_REPORT, Sight, judge, read, stopped};
use singularity_survey::report::{
    Basis, Check, Finding, Json, MatrixPart, Outcome, Render as _, Report, Reports, SUMMARY_ROOM,
    Transfer, Verdict, VerdictFormat, summary,
};
use singularity_survey::resolve::{Hub, Origin};
use singularity_survey::source::Options;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Judges what was asked for, and writes the verdict.
pub(crate) async fn check(args: &CheckArgs) -> Result<Outcome> {
    let (hub, http) = (environment::hub(&args.run)?, environment::http());
    match args.init {
        true => init::init(args, &Desk::new(args, hub, http)).await.map(|()| Outcome::Pass),
        false => check_on(args, Found::new(args)?, hub, http).await,
    }
}

/// Judges models on this Hub, by this policy.
pub(crate) async fn check_on(
    args: &CheckArgs,
    found: Found,
    hub: Hub,
    http: Options,
) -> Result<Outcome> {
    let format: VerdictFormat = args.format.parse().map_err(|what| Error::Usage { what })?;
    // Opened first: a verdict that cannot be written is known before anything is read.
    let files = OutputFile::create_all(&args.output)?;
    let checks = match args.replay.is_empty() {
        false => replayed(args, &found)?,
        true => {
            let targets = found.targets(args)?;
            let desk = Desk::new(args, hub, http);
            let mut checks = Vec::new();
            for target in &targets {
                checks.extend(desk.check(target).await?);
            }
            desk.clear();
            checks
        }
    };
    let policy = found.file.map(|file| file.display().to_string());
    let verdict = Verdict::new(policy, checks);
    write(&verdict, format, files)?;
    Ok(verdict.outcome)
}

/// Where models are read, all with one client.
pub(super) struct Desk<'a> {
    args: &'a CheckArgs,
    hub: Hub,
    survey: Survey,
    progress: Arc<Progress>,
}

impl<'a> Desk<'a> {
    fn new(args: &'a CheckArgs, hub: Hub, mut http: Options) -> Self {
        let progress = Arc::new(Progress::new(Told {
            quiet: args.run.quiet,
            verbose: args.run.verbose,
            warnings: false,
            bar: !environment::no_bars(),
        }));
        http.observer = progress.clone();
        if let Some(seconds) = args.max_wait {
            http.policy.longest_wait = Duration::from_secs(seconds);
            http.policy.waits = http.policy.longest_wait;
        }
        let survey = with_store(Survey::new(hub.clone(), http), &args.store);
        Self { args, survey, hub, progress }
    }

    /// The checks of one model. What cannot be read is a check that was not decided.
    async fn check(&self, target: &Target) -> Result<Vec<Check>> {
        let job = target.job(self.args, &self.hub);
        if self.args.update_baseline {
            return match async { self.reports(&job?).await }.await {
                Ok(reports) => self.update(target, &reports),
                Err(error) => Ok(vec![undecided(&target.name, &error)]),
            };
        }
        let mut prepared = match async { self.survey.look(&job?).await }.await {
            Ok(Looked::Kept(reports)) => {
                let judged = reports.reports.iter().map(|report| self.kept(target, report));
                return Ok(judged.collect());
            }
            Ok(Looked::Unread(prepared)) => *prepared,
            Err(error) => return Ok(vec![undecided(&target.name, &error)]),
        };
        let parts: Vec<MatrixPart> = prepared.matrices().map(MatrixPart::from).collect();
        let (mut checks, mut reports) = (Vec::new(), Vec::new());
        for (number, part) in parts.into_iter().enumerate() {
            let check = self.matrix(target, &mut prepared, number, &part, &mut reports).await;
            checks.push(check.unwrap_or_else(|error| Check {
                model: Some(prepared.origin().clone()),
                matrix: Some(part),
                warnings: prepared.warnings().to_vec(),
                transfer: prepared.transfer(),
                ..undecided(&target.name, &error)
            }));
        }
        // What was stopped or failed is not known.
        if reports.len() == checks.len() {
            let warning = prepared.keep(&Reports::from(reports)).await;
            let told = |check: &Check| check.warnings.last() == warning.as_ref();
            if let Some(check) = checks.last_mut().filter(|check| !told(check)) {
                check.warnings.extend(warning.clone());
            }
        }
        Ok(checks)
    }

    /// The check of a matrix that has not changed since it was read.
    fn kept(&self, target: &Target, report: &Report) -> Check {
        let baseline = target.baseline.as_deref();
        let baseline = baseline.map(|path| of_file(path, &report.model, &report.matrix));
        match baseline.transpose() {
            Ok(baseline) => {
                let rules = &target.entry.rules;
                judge(&target.name, report, rules, baseline.as_ref(), Basis::Store)
            }
            Err(error) => undecided(&target.name, &error),
        }
    }

    async fn matrix(
        &self,
        target: &Target,
        prepared: &mut Prepared,
        number: usize,
        part: &MatrixPart,
        reports: &mut Vec<Report>,
    ) -> Result<Check> {
        let baseline = target.baseline.as_deref();
        let baseline = baseline.map(|path| of_file(path, prepared.origin(), part)).transpose()?;
        let baseline = baseline.as_ref();
        let report = match self.args.fail_fast {
            false => prepared.scan(number).await?,
            true => match self.race(target, prepared, number, part, baseline).await? {
                Ended::Whole(report) => *report,
                Ended::Stopped(check) => return Ok(*check),
            },
        };
        let basis = if report.transfer.stored { Basis::Store } else { Basis::Read };
        let mut check = judge(&target.name, &report, &target.entry.rules, baseline, basis);
        if self.args.fail_fast {
            let (rules, tokenizer) = (&target.entry.rules, report.tokenizer.as_ref());
            let case = Case::new(rules, baseline, prepared.origin(), part, tokenizer);
            let failed = check.rules.iter().any(|rule| rule.outcome == Outcome::Fail);
            // Whether a failure ended the stream, or came with its end, must not decide.
            if failed && !case.lacks_tokenizer() {
                check.outcome = Outcome::Fail;
            }
        }
        reports.push(report);
        Ok(check)
    }

    /// Reads a matrix until its verdict is certain.
    async fn race(
        &self,
        target: &Target,
        prepared: &mut Prepared,
        number: usize,
        part: &MatrixPart,
        baseline: Option<&Baseline>,
    ) -> Result<Ended> {
        let (watch, sights) = Watch::new();
        prepared.tell(Arc::new(All(vec![self.progress.clone(), watch.clone()])));
        let prepared = &*prepared;
        let certain = async {
            let namer = prepared.namer(part.rows).await?;
            let (tokenizer, token) = namer.unzip();
            let rules = &target.entry.rules;
            let case = Case::new(rules, baseline, prepared.origin(), part, tokenizer.as_ref());
            let token = token.as_ref().map(|token| token.as_ref() as &dyn Fn(u64) -> _);
            let finding = first(Live::new(&case, token), sights).await;
            Ok::<_, Error>(stopped(&target.name, &case, prepared.origin(), part, finding))
        };
        tokio::select! {
            biased;
            report = prepared.scan(number) => Ok(Ended::Whole(Box::new(report?))),
            check = certain => {
                let mut check = check?;
                check.warnings = prepared.warnings().to_vec();
                check.bytes_saved = part.bytes.saturating_sub(watch.received.load(Relaxed));
                check.transfer = prepared.transfer();
                self.clear();
                Ok(Ended::Stopped(Box::new(check)))
            }
        }
    }

    /// Writes a model's baseline, and judges against it.
    fn update(&self, target: &Target, reports: &[Report]) -> Result<Vec<Check>> {
        let Some(path) = &target.baseline else { return Ok(Vec::new()) };
        write_baseline(path, reports)?;
        let against = |report: &Report| {
            let baseline = of_file(path, &report.model, &report.matrix)?;
            let rules = &target.entry.rules;
            Ok(judge(&target.name, report, rules, Some(&baseline), Basis::Read))
        };
        reports.iter().map(against).collect()
    }

    /// Everything that is found in one model.
    pub(super) async fn reports(&self, job: &Job) -> Result<Vec<Report>> {
        let prepared = self.survey.prepare(job).await?;
        let mut reports = Vec::new();
        for number in 0..prepared.matrices().len() {
            reports.push(prepared.scan(number).await?);
        }
        Ok(reports)
    }

    /// Takes the progress off the terminal.
    pub(super) fn clear(&self) {
        self.progress.clear();
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// How the reading of a matrix ended.
enum Ended {
    Whole(Box<Report>),
    Stopped(Box<Check>),
}

/// The first thing that makes a verdict certain; if nothing does, there is no end.
async fn first(live: Option<Live<'_>>, mut sights: UnboundedReceiver<Sight>) -> Finding {
    if let Some(mut live) = live {
        while let Some(sight) = sights.recv().await {
            if let Some(finding) = live.saw(sight) {
                return finding;
            }
        }
    }
    std::future::pending().await
}

/// Hands on what is seen of rows.
struct Watch {
    sights: UnboundedSender<Sight>,
    received: AtomicU64,
}

impl Watch {
    fn new() -> (Arc<Self>, UnboundedReceiver<Sight>) {
        let (sights, seen) = unbounded_channel();
        (Arc::new(Self { sights, received: AtomicU64::new(0) }), seen)
    }
}

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) {
        let sight = match *event {
            Event::Duplicate { row, same_as } => Sight::Equal { row, same_as },
            Event::Zero { row } => Sight::Zero(row),
            Event::NonFinite { row } => Sight::NonFinite(row),
            Event::Received { bytes } => {
                self.received.fetch_add(bytes, Relaxed);
                return;
            }
            _ => return,
        };
        // Whoever listened may be content.
        let _ = self.sights.send(sight);
    }
}

/// Judges earlier reports.
fn replayed(args: &CheckArgs, found: &Found) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for path in &args.replay {
        for report in &reports(path)? {
            let revision =
                report.model.revision.as_ref().map_or(String::new(), |r| format!("@{r}"));
            let name = format!("{}{revision}", report.model.id);
            let (rules, baseline) = found.of_report(report, args);
            let baseline = baseline.map(|path| of_file(&path, &report.model, &report.matrix));
            checks.push(match baseline.transpose() {
                Ok(b) => judge(&name, report, &rules, b.as_ref(), Basis::Replay),
                Err(error) => undecided(&name, &error),
            });
        }
    }
    Ok(checks)
}

/// The reports of a file.
fn reports(path: &Path) -> Result<Vec<Report>> {
    read(&path.display().to_string(), &whole(path, MAX_REPORT)?)
}

/// The baseline of a matrix. Rows are compared by their stored bits.
fn of_file(path: &Path, model: &Origin, matrix: &MatrixPart) -> Result<Baseline> {
    let file = path.display().to_string();
    Baseline::find(&file, &reports(path)?, model, matrix, Equality::Bits)
}

/// Writes reports to the place of a baseline, whole or not at all.
fn write_baseline(path: &Path, reports: &[Report]) -> Result<()> {
    let mut file = OutputFile::create(&OutputArg { format: (), path: path.to_owned() })?;
    let mut text = Vec::new();
    Json::default()
        .render(&Reports::from(reports.to_vec()), &mut text)
        .and_then(|()| file.write_all(&text))
        .map_err(|e| file.failed(e))?;
    file.finish()
}

/// The check of what could not be read.
fn undecided(name: &str, error: &Error) -> Check {
    Check {
        name: name.to_owned(),
        outcome: Outcome::Undecided,
        model: None,
        matrix: None,
        figures: None,
        rules: Vec::new(),
        findings: Vec::new(),
        undecided: vec![advice::sentence(error)],
        warnings: Vec::new(),
        basis: Basis::Read,
        bytes_saved: 0,
        transfer: Transfer::default(),
    }
}

/// Writes a verdict to its files, and then to standard output.
fn write(
    verdict: &Verdict,
    format: VerdictFormat,
    files: Vec<OutputFile<VerdictFormat>>,
) -> Result<()> {
    for mut file in files {
        let mut text = Vec::new();
        file.format.render(verdict, false, &mut text).map_err(|e| file.failed(e))?;
        file.write_all(&text).map_err(|e| file.failed(e))?;
        file.finish()?;
    }
    if let Some(path) = environment::step_summary().filter(|_| format == VerdictFormat::Github) {
        add_summary(&path, verdict).map_err(|source| Error::Io { path, doing: "write", source })?;
    }
    let color = io::stdout().is_terminal() && !environment::no_color();
    match run::to_stdout(|out| format.render(verdict, color, out)) {
        // A reader that goes away takes nothing from the verdict, which the exit code tells.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Adds the verdict to what the step has written to its summary, as far as there is room.
fn add_summary(path: &Path, verdict: &Verdict) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let written = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(summary(verdict, SUMMARY_ROOM.saturating_sub(written)).as_bytes())
}
