//! A first policy, from what is in the models now.

use super::args::{CheckArgs, OutputArg};
use super::check::Desk;
use super::output::OutputFile;
use super::run;
use super::target::Found;
use singularity_survey::error::{Error, Result};
use singularity_survey::policy::{Entry, draft};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

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
            let beside = |name: &str| beside(name, args.policy.as_deref());
            let tokenizer = args.tokenizer.as_deref().map(beside);
            let id = beside(&target.entry.id);
            models.push((Entry { id, tokenizer, ..target.entry }, reports));
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

/// A name as the policy has to write it: of what is local, the path that leads there from its folder.
fn beside(name: &str, policy: Option<&Path>) -> String {
    let folder = policy.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    match folder.and_then(place).zip(place(Path::new(name))) {
        Some((from, to)) => relative(&from, &to).display().to_string(),
        None => name.to_owned(),
    }
}

fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    [Component::CurDir].into_iter().chain(up).chain(to.components().skip(shared)).collect()
}
