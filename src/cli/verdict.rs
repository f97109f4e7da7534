//! The forms of a verdict, and where they go.

use super::{environment, run};
use crate::cli::output::OutputFile;
use singularity_survey::error::{Error, Result};
use singularity_survey::report::{Level, Verdict, pretty};
use std::io::{self, IsTerminal as _, Write};
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerdictFormat {
    Text,
    Json,
}

impl VerdictFormat {
    pub(crate) const ALL: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

impl FromStr for VerdictFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|&(_, format)| format).ok_or_else(|| "not a form of a verdict".to_owned())
    }
}

/// Writes a verdict to its files, and then to standard output.
pub(super) fn write(
    verdict: &Verdict,
    format: VerdictFormat,
    files: Vec<OutputFile<VerdictFormat>>,
) -> Result<()> {
    for mut file in files {
        let mut text = Vec::new();
        render(file.format, verdict, false, &mut text).map_err(|e| file.failed(e))?;
        file.write_all(&text).map_err(|e| file.failed(e))?;
        file.finish()?;
    }
    let color = io::stdout().is_terminal() && !environment::no_color();
    match run::to_stdout(|out| render(format, verdict, color, out)) {
        // A reader that goes away takes nothing from the verdict, which the exit code tells.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn render(
    format: VerdictFormat,
    verdict: &Verdict,
    _color: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format == VerdictFormat::Json {
        return pretty(verdict, out);
    }
    for check in &verdict.checks {
        let tensor = check.matrix.as_ref().map_or(String::new(), |m| format!(" {}", m.tensor));
        for finding in &check.findings {
            let level = if finding.level == Level::Error { "error" } else { "note" };
            let (rule, name) = (finding.rule, &check.name);
            writeln!(
                out,
                "{level}[{rule}] {name}{tensor}: {}; {}",
                finding.message, finding.advice
            )?;
        }
        for why in &check.undecided {
            writeln!(out, "undecided {}: {why}", check.name)?;
        }
        writeln!(out, "{}: {}", check.name, check.outcome.name())?;
        if check.bytes_saved > 0 {
            writeln!(out, "stopped early: {} bytes were not read", check.bytes_saved)?;
        }
    }
    Ok(())
}
