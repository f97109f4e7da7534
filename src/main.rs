//! The command-line tool. Exit codes: 0 done, 1 a gate that the user set found something, 2 it
//! could not be decided, 130 interrupted. A closed pipe is a quiet success.

mod cli;

use clap::{CommandFactory as _, Parser as _};
use cli::args::{Cli, Command, ModelArgs};
use cli::{advice, demo, run};
use singularity_survey::error::{Error, Result};
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

const TROUBLE: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, mistakes to standard error; clap knows which.
            let _ = error.print();
            return if error.use_stderr() { TROUBLE.into() } else { ExitCode::SUCCESS };
        }
    };
    match execute(&cli) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => INTERRUPTED.into(),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", advice::sentence(&error));
            TROUBLE.into()
        }
    }
}

enum Ended {
    Done,
    Interrupted,
}

fn execute(cli: &Cli) -> Result<Ended> {
    match &cli.command {
        None => on_runtime(Some(&cli.scan.model), run::scan(&cli.scan)),
        Some(Command::Scan(args)) => on_runtime(Some(&args.model), run::scan(args)),
        Some(Command::Inspect(args)) => on_runtime(Some(&args.model), run::inspect(args)),
        Some(Command::Demo) => on_runtime(None, demo::demo()),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            let name = env!("CARGO_PKG_NAME");
            clap_complete::generate(*shell, &mut Cli::command(), name, &mut script);
            run::to_stdout(|out| out.write_all(&script)).map(|()| Ended::Done)
        }
        Some(Command::Man) => {
            let page = clap_mangen::Man::new(Cli::command());
            run::to_stdout(|out| page.render(&mut &mut *out)).map(|()| Ended::Done)
        }
    }
}

/// Runs to the end or to an interrupt; what is half written is removed on the way out.
fn on_runtime(args: Option<&ModelArgs>, work: impl Future<Output = Result<()>>) -> Result<Ended> {
    // More threads than a few do not hash faster than a network or a disk delivers.
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(4);
    let threads = args.and_then(|args| args.threads).map_or_else(cores, NonZeroUsize::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|source| Error::Io { path: "threads".into(), doing: "start", source })?;
    let ended = runtime.block_on(async {
        tokio::select! {
            done = work => done.map(|()| Ended::Done),
            _ = tokio::signal::ctrl_c() => Ok(Ended::Interrupted),
        }
    });
    // A read that still blocks must not hold up the end.
    runtime.shutdown_background();
    ended
}
