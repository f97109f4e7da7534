//! What is kept, listed and pruned.

use super::args::{StoreArgs, StoreCommand};
use super::{environment, run};
use singularity_survey::error::{Error, Result};
use singularity_survey::pipeline::Survey;
use singularity_survey::quote;
use singularity_survey::report::{count, pretty, size};
use singularity_survey::store::{Entry, Store};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The survey, with the store that was asked for.
pub(super) fn with_store(survey: Survey, args: &StoreArgs) -> Survey {
    let folder = match (args.no_store, &args.store) {
        (true, _) => None,
        (false, Some(folder)) => Some(folder.clone()),
        (false, None) => environment::store(),
    };
    match folder {
        Some(folder) => survey.keeping(Store::at(folder)),
        None => survey,
    }
}

/// The survey, with the store of that folder or of its usual place.
pub(super) fn with_named(survey: Survey, asked: Option<&Option<PathBuf>>) -> Result<Survey> {
    match asked {
        None => Ok(survey),
        Some(folder) => Ok(survey.keeping(named(folder.clone())?)),
    }
}

fn named(folder: Option<PathBuf>) -> Result<Store> {
    let folder = folder.or_else(environment::store).ok_or_else(|| Error::Usage {
        what: "there is no folder for the store; name one with --store".to_owned(),
    })?;
    Ok(Store::at(folder))
}

/// Lists or prunes.
pub(crate) fn command(command: &StoreCommand) -> Result<()> {
    match command {
        StoreCommand::List { store, json } => {
            let store = named(store.clone())?;
            let entries = store.list().map_err(|source| failed(&store, "list", source))?;
            run::to_stdout(|out| match json {
                true => pretty(&entries, out),
                false => entries.iter().try_for_each(|entry| line(entry, out)),
            })
        }
        StoreCommand::Prune { store, older_than, max_size } => {
            let store = named(store.clone())?;
            let days = |days: &u32| Duration::from_secs(u64::from(*days) * 24 * 3600);
            let oldest =
                older_than.as_ref().and_then(|age| SystemTime::now().checked_sub(days(age)));
            let pruned =
                store.prune(oldest, *max_size).map_err(|source| failed(&store, "prune", source))?;
            run::to_stdout(|out| {
                writeln!(out, "{} entries pruned, {}", count(pruned.entries), size(pruned.bytes))
            })
        }
    }
}

/// An entry on one line: when it was written, its length, and its key.
fn line(entry: &Entry, out: &mut dyn Write) -> std::io::Result<()> {
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.written);
    let days = when.elapsed().unwrap_or_default().as_secs() / (24 * 3600);
    let key = entry.key.as_deref().unwrap_or("damaged, or of another version");
    let key = key.replace('\n', "; ");
    writeln!(out, "{days:>4} d  {:>10}  {}", size(entry.bytes), quote::sentence(&key))
}

fn failed(store: &Store, doing: &'static str, source: std::io::Error) -> Error {
    Error::Io { path: store.folder().to_owned(), doing, source }
}
