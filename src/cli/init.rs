//! A first policy, from what is in the models now.

use super::args::{CheckArgs, OutputArg};
use super::check::Desk;
use super::output::OutputFile;
use super::run;
use super::target::Found;
use singularity_survey::error::{Error, Result};
use singularity_survey::policy::{Entry, draft};
use std::io::Write as _;
use std::path::Path;

/// Scans the models and writes a policy that they pass.
pub(super) async fn init(args: &CheckArgs, desk: &Desk<'_>) -> Result<()> {
    if let Some(path) = args.policy.as_deref().filter(|path| path.exists()) {
        let what = format!("{} exists already; remove it, or name another", path.display());
        return Err(Error::Usage { what });
    }
    let mut models = Vec::new();
    if !args.models.is_empty() {
        for target in Found::default().targets(args)? {
            let reports = desk.reports(&target.job(args, desk.hub())?).await?;
            let id = beside(&target.entry.id, args.policy.as_deref());
            models.push((Entry { id, ..target.entry }, reports));
        }
    }
    desk.clear();
    let text = draft(&models);
    match &args.policy {
        None => run::to_stdout(|out| out.write_all(text.as_bytes())),
        Some(path) => {
            let mut file = OutputFile::create(&OutputArg { format: (), path: path.clone() })?;
            file.write_all(text.as_bytes()).map_err(|e| file.failed(e))?;
            file.finish()
        }
    }
}

/// A model's name as the policy has to write it: a path that leads to it from the policy's folder.
fn beside(id: &str, policy: Option<&Path>) -> String {
    let folder = policy.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match (folder, std::fs::canonicalize(id)) {
        (Some(_), Ok(path)) => path.display().to_string(),
        _ => id.to_owned(),
    }
}
