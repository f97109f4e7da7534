//! A first policy, from what is in the models now.

use super::args::{CheckArgs, OutputArg};
use super::check::Desk;
use super::output::OutputFile;
use super::run;
use super::target::Found;
use singularity_survey::error::{Error, Result};
use singularity_survey::policy::draft;
use std::io::Write as _;

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
            models.push((target.entry, reports));
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
