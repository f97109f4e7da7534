//! The environment, read once and handed to the library as values: the variables of the Hub's own
//! tools and of curl. An empty variable counts as unset.

use super::args::RunArgs;
use singularity_survey::error::{Error, Result};
use singularity_survey::resolve::{ENDPOINT, Hub};
use singularity_survey::source::{Options, Proxies, Secret};
use std::env;
use std::path::PathBuf;
use std::time::Duration;

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The first variable of these that is set.
fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variable(name))
}

/// What the Hub's tools take for true: `1`, `ON`, `YES` or `TRUE`, in any case, not trimmed.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| word.eq_ignore_ascii_case(value))
}

fn path(name: &str) -> Option<PathBuf> {
    let value = variable(name)?;
    Some(match shellexpand::full(&value) {
        Ok(expanded) => PathBuf::from(expanded.as_ref()),
        Err(_) => PathBuf::from(value),
    })
}

/// The longest file that is taken for a stored token, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// Where the Hub's tools keep their state.
fn home() -> Option<PathBuf> {
    path("HF_HOME").or_else(|| {
        let caches = path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")))?;
        Some(caches.join("huggingface"))
    })
}

/// The token: given, from a variable, or stored by the Hub's own login.
fn token(given: Option<&str>) -> Result<Option<Secret>> {
    if let Some(given) = given {
        let what = "the token of --token cannot be sent: it is empty or holds control characters";
        return Secret::new(given).map(Some).ok_or(Error::Usage { what: what.into() });
    }
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return Ok(None);
    }
    let from_variable = first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]);
    if let Some(secret) = from_variable.as_deref().and_then(Secret::new) {
        return Ok(Some(secret));
    }
    let file = path("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")));
    // A pipe or a device would be waited for; a token is short.
    let stored = file.filter(|file| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_TOKEN)
    });
    let stored = stored.and_then(|file| std::fs::read_to_string(file).ok());
    Ok(stored.as_deref().and_then(Secret::new))
}

/// The Hub that the options and the environment name.
pub(crate) fn hub(args: &RunArgs) -> Result<Hub> {
    let given = args.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
    let text = given.unwrap_or_else(|| ENDPOINT.to_owned());
    let endpoint = Hub::endpoint(&text)?;
    let offline = first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]);
    let cache = path("HF_HUB_CACHE")
        .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(home()?.join("hub")));
    Ok(Hub {
        endpoint,
        token: token(args.token.as_deref())?,
        cache,
        offline: args.offline || offline.is_some_and(|value| is_true(&value)),
    })
}

/// How HTTP is spoken.
pub(crate) fn http() -> Options {
    let mut options = Options::default();
    if let Some(origin) = variable("HF_HUB_USER_AGENT_ORIGIN") {
        let printable: String = origin.chars().filter(char::is_ascii_graphic).collect();
        options.user_agent = format!("{}; origin/{printable}", options.user_agent);
    }
    // Upper-case HTTP_PROXY is read as the Hub's own client does, though a CGI script's caller
    // could set it: this is no CGI script.
    options.proxies = Proxies {
        http: first(&["http_proxy", "HTTP_PROXY"]),
        https: first(&["https_proxy", "HTTPS_PROXY"]),
        all: first(&["all_proxy", "ALL_PROXY"]),
        no_proxy: first(&["no_proxy", "NO_PROXY"]),
    };
    let seconds = |name: &str| {
        let seconds = variable(name)?.parse::<u64>().ok().filter(|&seconds| seconds > 0)?;
        Some(Duration::from_secs(seconds))
    };
    if let Some(time) = seconds("HF_HUB_ETAG_TIMEOUT") {
        options.policy.headers = time;
    }
    if let Some(time) = seconds("HF_HUB_DOWNLOAD_TIMEOUT") {
        options.policy.idle = time;
    }
    options
}

/// Where a step of GitHub Actions writes its summary.
pub(crate) fn step_summary() -> Option<PathBuf> {
    variable("GITHUB_STEP_SUMMARY").map(PathBuf::from)
}

/// Whether bars are unwanted.
pub(crate) fn no_bars() -> bool {
    variable("HF_HUB_DISABLE_PROGRESS_BARS").is_some_and(|value| is_true(&value))
}

/// Whether colour is unwanted.
pub(crate) fn no_color() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb")
}

/// Where checks keep what they find, unless an empty variable says that they should not.
pub(crate) fn store() -> Option<PathBuf> {
    match env::var_os("SINGULARITY_SURVEY_STORE") {
        Some(folder) if folder.is_empty() => None,
        Some(folder) => Some(folder.into()),
        None => Some(dirs::cache_dir()?.join(env!("CARGO_PKG_NAME"))),
    }
}
