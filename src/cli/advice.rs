//! An error as one sentence with what to do next.

use singularity_survey::error::Error;
use singularity_survey::quote;
use std::time::{Duration, SystemTime};

/// What happened, where, and what to do about it, safe to print.
pub(crate) fn sentence(error: &Error) -> String {
    let next = match error {
        Error::NoSuchRepository { authenticated: false, .. } => {
            "check the name, or pass a token with --token or HF_TOKEN"
        }
        Error::NoSuchRepository { .. } => "check the name and what the token may read",
        Error::AccessDenied { authenticated: false, .. } => {
            "ask for access on the model's page, then pass a token with --token or HF_TOKEN"
        }
        Error::AccessDenied { .. } => {
            "check that the token is valid and that access was granted on the model's page"
        }
        Error::NoSuchRevision { .. } => "name a branch, tag or full commit that exists",
        Error::NoSuchFile { .. } => "check the path",
        Error::Offline { .. } => "run once without --offline and HF_HUB_OFFLINE",
        Error::NoWeights { .. } => "safetensors, GGUF and PyTorch weights are read",
        Error::NoUnembedding { .. } | Error::Unreadable { .. } => {
            "inspect --verbose tells what else was considered; --tensor reads any by its name"
        }
        Error::RangesIgnored { .. } => {
            "download the file and scan it locally, or use a server that answers ranges"
        }
        Error::RateLimited { wait: Some(seconds), .. } => &format!(
            "try again after {}, or pass a token, which has its own limit",
            after(*seconds)
        ),
        Error::RateLimited { .. } => "wait and try again, or pass a token, which has its own limit",
        Error::Network { what, .. } if what.contains("UnknownIssuer") => {
            "name the certificate of whoever signed the server's in SSL_CERT_FILE"
        }
        Error::Network { .. } => "check the connection and try again",
        Error::Changed { .. } => "run it again, on the Hub with --revision naming a full commit",
        Error::BadAnswer { .. } => "try again later, or check the address with --verbose",
        _ => "",
    };
    let mut text = quote::sentence(&quote::redact(&error.to_string()));
    let said =
        text.contains("--matrix embedding") || text.contains("--tensor") || text.contains("--file");
    if !next.is_empty() && !said {
        text = format!("{text}; {next}");
    }
    text
}

/// The time so many seconds from now.
fn after(seconds: u64) -> String {
    /// What a year has; no date is far away.
    const MOST: u64 = 366 * 86_400;
    let time = SystemTime::now() + Duration::from_secs(seconds.min(MOST));
    httpdate::fmt_http_date(time)
}

/// A mistake in the arguments, as one sentence.
pub(crate) fn mistake(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // The paragraphs after the first repeat the usage and give tips.
    let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let said = first.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}; see --help", quote::sentence(&quote::redact(&said)))
}
