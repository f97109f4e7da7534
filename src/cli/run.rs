//! From arguments to reports.

use super::args::{InspectArgs, InspectFormat, MatrixArg, ModelArgs, ScanArgs};
use super::output::{OutputFile, STDOUT};
use super::progress::{Progress, Told};
use super::store::with_named;
use super::stream::{Line, Stream};
use super::{advice, environment};
use singularity_survey::error::{Error, Result};
use singularity_survey::observe::{Event, Observer};
use singularity_survey::pipeline::{Job, Survey, TokenizerChoice, Which};
use singularity_survey::report::{
    Csv, Format, Ids, Json, Markdown, MatrixPart, Render, Reports, Text, inspection, pretty,
};
use singularity_survey::resolve::{Hub, ModelSpec};
use singularity_survey::source::Options;
use singularity_survey::vocabulary::Class;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

/// Several observers as one.
pub(super) struct All(pub(super) Vec<Arc<dyn Observer>>);

impl Observer for All {
    fn event(&self, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.event(event));
    }
}

/// Scans the model and writes every report that was asked for.
pub(crate) async fn scan(args: &ScanArgs) -> Result<()> {
    let hub = environment::hub(&args.model.run)?;
    scan_on(args, hub, environment::http()).await.map(drop)
}

/// Scans a model on this Hub.
pub(crate) async fn scan_on(args: &ScanArgs, hub: Hub, mut http: Options) -> Result<Reports> {
    let format: Format = args.format.parse().map_err(|what| Error::Usage { what })?;
    let job = job(args, &hub)?;
    // Opened first: a report that cannot be written is known before anything is read.
    let files = OutputFile::create_all(&args.output)?;
    let (lines, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.format == Format::Jsonl);

    let progress = Arc::new(Progress::new(Told {
        quiet: args.model.run.quiet,
        verbose: args.model.run.verbose,
        warnings: !matches!(format, Format::Text | Format::Markdown),
        bar: !environment::no_bars(),
    }));
    let mut observers: Vec<Arc<dyn Observer>> = vec![progress.clone()];
    let on_stdout = format == Format::Jsonl;
    let stream = match on_stdout || !lines.is_empty() {
        true => Some(Stream::start(on_stdout, &lines, files.is_empty())?),
        false => None,
    };
    if let Some(stream) = &stream {
        observers.push(Arc::new(stream.observer()));
    }
    http.observer = Arc::new(All(observers));

    let survey = with_named(Survey::new(hub, http), args.store.as_ref())?;
    let reports = match &stream {
        None => reports(&survey, &job, None).await,
        Some(stream) => tokio::select! {
            reports = reports(&survey, &job, Some(stream)) => reports,
            () = stream.broken() => Ok(Vec::new().into()),
        },
    };
    progress.clear();
    // The survey holds the observers, and with them the stream's senders.
    drop(survey);
    let reports = match (reports, stream) {
        (Ok(reports), None) => reports,
        (Ok(reports), Some(stream)) => {
            stream.finish()?;
            lines.into_iter().try_for_each(OutputFile::finish)?;
            reports
        }
        (Err(error), stream) => {
            if let Some(stream) = stream {
                stream.send(Line::Error(advice::sentence(&error)));
                // The first failure is the one to tell.
                let _ = stream.finish();
            }
            return Err(error);
        }
    };

    // Files first, so that a full disk leaves nothing on standard output.
    for mut file in files {
        let mut text = Vec::new();
        render(file.format, args, &reports, false, &mut text).map_err(|e| file.failed(e))?;
        file.write_all(&text).map_err(|e| file.failed(e))?;
        file.finish()?;
    }
    if !on_stdout {
        let color = io::stdout().is_terminal() && !environment::no_color();
        to_stdout(|out| render(format, args, &reports, color, out))?;
    }
    Ok(reports)
}

async fn reports(survey: &Survey, job: &Job, stream: Option<&Stream>) -> Result<Reports> {
    let prepared = survey.prepare(job).await?;
    let mut reports = Vec::new();
    for (number, matrix) in prepared.matrices().enumerate() {
        if let Some(stream) = stream {
            let start = (prepared.origin().clone(), MatrixPart::from(matrix));
            stream.send(Line::Start(Box::new(start)));
        }
        let report = prepared.scan(number).await?;
        if let Some(stream) = stream {
            stream.send(Line::Finish(Box::new(report.clone())));
        }
        reports.push(report);
    }
    let cross = prepared.cross().await?;
    if let (Some(stream), Some(cross)) = (stream, &cross) {
        stream.send(Line::Cross(Box::new(cross.clone())));
    }
    Ok(Reports { cross, ..Reports::from(reports) })
}

/// Reads headers, and says what a scan would read.
pub(crate) async fn inspect(args: &InspectArgs) -> Result<()> {
    let hub = environment::hub(&args.model.run)?;
    let mut job = model_job(&args.model, &hub)?;
    job.tokenizer = TokenizerChoice::None;
    let mut http = environment::http();
    http.observer = Arc::new(Progress::new(Told {
        quiet: args.model.run.quiet,
        verbose: args.model.run.verbose,
        warnings: false,
        bar: false,
    }));
    let found = Survey::new(hub, http).prepare(&job).await?.inspect();
    to_stdout(|out| match (args.format, found.as_slice()) {
        (InspectFormat::Text, found) => inspection(found, out),
        (InspectFormat::Json, [found]) if args.model.matrix != MatrixArg::Both => {
            pretty(found, out)
        }
        (InspectFormat::Json, found) => {
            pretty(&serde_json::json!({"schema": 1, "reports": found}), out)
        }
    })
}

fn job(args: &ScanArgs, hub: &Hub) -> Result<Job> {
    let mut job = model_job(&args.model, hub)?;
    job.equality = args.equality.into();
    job.min_size = args.min_size;
    job.probe = args.probe;
    job.profile = args.profile;
    job.classes = args.classes || !args.class.is_empty();
    job.tokenizer = match (&args.tokenizer, args.no_tokenizer) {
        (_, true) => TokenizerChoice::None,
        (None, _) => TokenizerChoice::Own,
        (Some(text), _) => TokenizerChoice::Of(ModelSpec::parse(text, &hub.endpoint)?),
    };
    Ok(job)
}

fn model_job(args: &ModelArgs, hub: &Hub) -> Result<Job> {
    let mut model = ModelSpec::parse(args.model.as_deref().unwrap_or_default(), &hub.endpoint)?;
    match (&mut model, &args.revision) {
        (_, Some(given)) if given.is_empty() => {
            return Err(Error::Usage { what: "--revision is empty".to_owned() });
        }
        (_, None) => {}
        (ModelSpec::Hub { revision, .. }, Some(given)) => {
            if revision.as_ref().is_some_and(|named| named != given) {
                let what = "the model's name and --revision give different revisions";
                return Err(Error::Usage { what: what.into() });
            }
            *revision = Some(given.clone());
        }
        (_, Some(_)) => {
            let what = "--revision is for models on the Hub";
            return Err(Error::Usage { what: what.into() });
        }
    }
    let mut job = Job::new(model);
    job.file = args.file.clone();
    job.which = match (&args.tensor, args.matrix) {
        (Some(tensor), _) => Which::Tensor(tensor.clone()),
        (None, MatrixArg::Unembedding) => Which::Unembedding,
        (None, MatrixArg::Embedding) => Which::Embedding,
        (None, MatrixArg::Both) => Which::Both,
    };
    job.connections = args.run.connections;
    job.threads = args.run.threads();
    Ok(job)
}

fn render(
    format: Format,
    args: &ScanArgs,
    reports: &Reports,
    color: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (max_groups, max_tokens) = (args.max_groups, args.max_tokens);
    match format {
        Format::Text => Text { max_groups, max_tokens, color }.render(reports, out),
        Format::Json => Json { several: args.model.matrix == MatrixArg::Both }.render(reports, out),
        Format::Csv => Csv.render(reports, out),
        Format::Markdown => Markdown { max_groups, max_tokens }.render(reports, out),
        Format::Ids => {
            let asked = |class: &Class| args.class.iter().any(|name| name == class.name());
            Ids { classes: Class::ALL.into_iter().filter(asked).collect() }.render(reports, out)
        }
        // Written while the scan ran.
        Format::Jsonl => Ok(()),
    }
}

/// Writes to standard output in one go.
pub(crate) fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(|source| Error::Io {
        path: STDOUT.into(),
        doing: "write to it",
        source,
    })
}
