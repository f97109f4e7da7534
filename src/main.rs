//! The command-line tool. Exit codes: 0 done, 1 a gate that the user set found something, 2 it
//! could not be decided, 130 interrupted (143 and 129 for the other signals that end it). A closed
//! pipe is a quiet success.

mod cli;

use clap::{CommandFactory as _, Parser as _};
use cli::args::{Cli, Command, ModelArgs, RunArgs};
use cli::output::STDOUT;
use cli::{advice, check, demo, interrupt, memory, run, store};
use singularity_survey::error::{Error, Result};
use singularity_survey::report::Outcome;
use singularity_survey::vocabulary;
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process::ExitCode;

const FOUND: u8 = 1;
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(panicked));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return trouble(&advice::mistake(&error)),
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    memory::give_back(names_rows(&cli));
    match execute(&cli) {
        Ok(outcome) => match outcome {
            Outcome::Pass => ExitCode::SUCCESS,
            Outcome::Fail => FOUND.into(),
            Outcome::Undecided => TROUBLE.into(),
        },
        Err(Error::Io { path, source, .. })
            if path == Path::new(STDOUT) && source.kind() == io::ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => trouble(&advice::sentence(&error)),
    }
}

/// Whether a tokenizer may be loaded.
fn names_rows(cli: &Cli) -> bool {
    match &cli.command {
        None => !cli.scan.no_tokenizer,
        Some(Command::Scan(args)) => !args.no_tokenizer,
        Some(Command::Inspect(_) | Command::Store(_)) => false,
        _ => true,
    }
}

fn trouble(sentence: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {sentence}");
    TROUBLE.into()
}

/// A fault of the program itself: one sentence, and no trace that could hold what was read. A panic
/// that a file provoked, and that is caught, is told of where it is caught.
fn panicked(info: &PanicHookInfo<'_>) {
    if !vocabulary::is_guarded() {
        let at = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let _ = writeln!(io::stderr(), "error: the program itself failed{at}; please report it");
    }
}

/// Does what was asked. What is no gate passes when it is done.
fn execute(cli: &Cli) -> Result<Outcome> {
    match &cli.command {
        None => of_model(&cli.scan.model, run::scan(&cli.scan)),
        Some(Command::Scan(args)) => of_model(&args.model, run::scan(args)),
        Some(Command::Inspect(args)) => of_model(&args.model, run::inspect(args)),
        Some(Command::Check(args)) => {
            on_runtime(Some(&args.run), args.run.connections.get() == 1, check::check(args))
        }
        Some(Command::Store(command)) => done(store::command(command)),
        Some(Command::Demo) => done(on_runtime(None, false, demo::demo())),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            let name = env!("CARGO_PKG_NAME");
            clap_complete::generate(*shell, &mut Cli::command(), name, &mut script);
            // For bash, a name with a hyphen is written in one way where a command is told, and in
            // another where it is looked up, so that no subcommand is completed.
            let script = String::from_utf8_lossy(&script)
                .replace("singularity__subcmd__survey", "singularity__survey");
            done(run::to_stdout(|out| out.write_all(script.as_bytes())))
        }
        Some(Command::Man) => {
            let page = clap_mangen::Man::new(Cli::command());
            done(run::to_stdout(|out| page.render(&mut &mut *out)))
        }
    }
}

fn done(ended: Result<()>) -> Result<Outcome> {
    ended.map(|()| Outcome::Pass)
}

fn of_model(args: &ModelArgs, work: impl Future<Output = Result<()>>) -> Result<Outcome> {
    let local = args.model.as_ref().is_some_and(|model| Path::new(model).exists());
    done(on_runtime(Some(&args.run), args.run.connections.get() == 1 && !local, work))
}

/// Runs to the end, or to the signal that ends the process. A single connection, `alone`, is read
/// fastest where nothing is handed from thread to thread; of a local file the threads are the streams.
fn on_runtime<T>(
    args: Option<&RunArgs>,
    alone: bool,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let threads = args.map_or(2, |args| args.threads().get());
    let mut runtime = match alone {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|source| Error::Io { path: "threads".into(), doing: "start", source })?;
    let ended = runtime.block_on(async {
        interrupt::listen()?;
        work.await
    });
    // A read that still blocks must not hold up the end.
    runtime.shutdown_background();
    ended
}
