//! What a user may type to name a model.

use crate::error::{Error, Result};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use std::path::{Path, PathBuf};

/// The site of the Hub, whatever endpoint is in use: its page URLs name models.
const SITE: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// A model as it was named, before anything is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSpec {
    /// A repository on the Hub.
    Hub {
        /// `org/name`, or one part for the oldest models.
        id: String,
        /// A branch, tag, commit or `refs/pr/N`.
        revision: Option<String>,
        /// A file, or a folder with a closing `/`, inside the repository.
        file: Option<String>,
    },
    /// One plain file.
    Url(Url),
    /// A local folder or file.
    Path(PathBuf),
}

impl ModelSpec {
    /// Reads what was typed. A path that exists wins over a name on the Hub; `endpoint` is the Hub
    /// in use, whose page URLs name models just as those of the Hub's own site do.
    ///
    /// ```
    /// use singularity_survey::resolve::ModelSpec;
    /// let endpoint = "https://huggingface.co".parse().unwrap();
    /// let spec = ModelSpec::parse("hf.co/openai-community/gpt2/tree/main", &endpoint).unwrap();
    /// assert!(matches!(spec, ModelSpec::Hub { id, .. } if id == "openai-community/gpt2"));
    /// ```
    pub fn parse(text: &str, endpoint: &Url) -> Result<Self> {
        Self::parse_with(text, endpoint, &|path| path.exists())
    }

    fn parse_with(text: &str, endpoint: &Url, exists: &dyn Fn(&Path) -> bool) -> Result<Self> {
        let path = Path::new(text);
        if !text.is_empty() && exists(path) {
            return Ok(Self::Path(path.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("hf://") {
            return Self::parse_hf(text, rest);
        }
        let site_without_scheme =
            text.split_once('/').is_some_and(|(host, _)| SITE.contains(&host));
        if site_without_scheme {
            return Self::parse_with(&format!("https://{text}"), endpoint, exists);
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if scheme.as_ref().is_some_and(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
            return Err(usage(format!("{text}: only http, https and hf addresses are read")));
        }
        if scheme.is_some() {
            let url = Url::parse(text).map_err(|e| usage(format!("{text}: not a URL ({e})")))?;
            let on_hub = url.origin() == endpoint.origin()
                || url.host_str().is_some_and(|host| SITE.contains(&host));
            return match on_hub {
                true => Self::parse_page(text, &url, endpoint),
                false => Ok(Self::Url(url)),
            };
        }
        let looks_local = text.starts_with(['.', '/', '~', '\\'])
            || text.contains('\\')
            || text.ends_with('/')
            || [".safetensors", ".gguf", ".bin", ".pth"].iter().any(|end| text.ends_with(end));
        if looks_local {
            return Err(Error::NoSuchFile { file: text.to_owned() });
        }
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        Self::hub(text, id, revision, None)
    }

    /// `hf://[models/]org/name[@revision][/file]`, as `fsspec` reads it: a revision with a `/` is
    /// written encoded, but for `refs/pr/N` and `refs/convert/NAME`.
    fn parse_hf(text: &str, rest: &str) -> Result<Self> {
        if rest.contains('?') {
            return Err(usage(format!("{text}: an hf address has no query")));
        }
        let rest = rest.strip_prefix("models/").unwrap_or(rest);
        let (id, tail) = match rest.find('@') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        if let Some(tail) = tail {
            let parts: Vec<&str> = tail.split('/').collect();
            let (revision, file) = split_revision(&parts);
            return Self::hub(text, id, Some(&revision), file);
        }
        let mut parts = id.splitn(3, '/');
        let id: Vec<&str> = parts.by_ref().take(2).collect();
        let file = parts.next().filter(|file| !file.is_empty()).map(str::to_owned);
        Self::hub(text, &id.join("/"), None, file)
    }

    /// A page of the Hub's site.
    fn parse_page(text: &str, url: &Url, endpoint: &Url) -> Result<Self> {
        // A mirror may live below a path of its own.
        let base = endpoint.path().trim_end_matches('/');
        let path = match url.origin() == endpoint.origin() {
            true => url.path().strip_prefix(base).unwrap_or(url.path()),
            false => url.path(),
        };
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let verb = parts.iter().position(|p| ["tree", "blob", "resolve", "raw"].contains(p));
        let (id, tail) = match verb {
            Some(at @ 1..=2) => (&parts[..at], Some(&parts[at + 1..])),
            _ => (&parts[..], None),
        };
        let reserved = ["api", "datasets", "spaces", "models", "docs", "kernels"];
        if id.is_empty() || id.len() > 2 || reserved.contains(&id[0]) {
            return Err(usage(format!("{text}: not the page of a model")));
        }
        let id = decoded(&id.join("/"));
        let Some(tail) = tail.filter(|tail| !tail.is_empty()) else {
            return Self::hub(text, &id, None, None);
        };
        let (revision, file) = split_revision(tail);
        let file = file.map(|file| decoded(&file)).map(|file| match parts[verb.unwrap_or(0)] {
            "tree" if !file.ends_with('/') => file + "/",
            _ => file,
        });
        Self::hub(text, &id, Some(&revision), file)
    }

    fn hub(text: &str, id: &str, revision: Option<&str>, file: Option<String>) -> Result<Self> {
        if let Some(why) = id_problem(id) {
            return Err(usage(format!(
                "{text:?} names neither a model on the Hub ({why}) nor a local path that exists"
            )));
        }
        let revision = match revision {
            Some("") => return Err(usage(format!("{text:?} has no revision after the @"))),
            other => other.map(str::to_owned),
        };
        Ok(Self::Hub { id: id.to_owned(), revision, file })
    }
}

/// Takes the revision off the front of a path: one segment, decoded, or `refs/pr/N`.
fn split_revision(parts: &[&str]) -> (String, Option<String>) {
    let length = match parts {
        ["refs", "pr" | "convert", _, ..] => 3,
        _ => 1,
    };
    let (revision, file) = parts.split_at(length.min(parts.len()));
    let revision = percent_decode_str(&revision.join("/")).decode_utf8_lossy().into_owned();
    let file = file.join("/");
    (revision, (!file.is_empty()).then_some(file))
}

/// What keeps a text from being a repository's id, by the rules the official clients enforce.
fn id_problem(id: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let ends =
        |part: &str| part.is_empty() || part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
    if id.is_empty() || id.len() > 96 {
        Some("an id has 1 to 96 characters")
    } else if !id.chars().all(legal) {
        Some("an id holds letters, digits, '.', '_' and '-' only")
    } else if id.matches('/').count() > 1 {
        Some("an id is 'org/name' or 'name'")
    } else if id.split('/').any(ends) {
        Some("no part of an id is empty or has '-' or '.' at an end")
    } else if id.contains("--") || id.contains("..") || id.ends_with(".git") {
        Some("an id holds no '--' or '..' and does not end in '.git'")
    } else {
        None
    }
}

fn usage(what: String) -> Error {
    Error::Usage { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelSpec> {
        let endpoint = Url::parse("https://mirror.example/hub").unwrap();
        ModelSpec::parse_with(text, &endpoint, &|path| path.starts_with("here"))
    }

    fn hub(id: &str, revision: Option<&str>, file: Option<&str>) -> ModelSpec {
        ModelSpec::Hub {
            id: id.into(),
            revision: revision.map(Into::into),
            file: file.map(Into::into),
        }
    }

    #[test]
    fn every_form_of_a_hub_model_is_read() {
        for (text, spec) in [
            ("org/name", hub("org/name", None, None)),
            ("gpt2", hub("gpt2", None, None)),
            ("org/name@v1.0", hub("org/name", Some("v1.0"), None)),
            ("org/name@refs/pr/3", hub("org/name", Some("refs/pr/3"), None)),
            ("hf://org/name", hub("org/name", None, None)),
            ("hf://gpt2", hub("gpt2", None, None)),
            (
                "hf://models/org/name/a/b.safetensors",
                hub("org/name", None, Some("a/b.safetensors")),
            ),
            ("hf://org/name@dev/x", hub("org/name", Some("dev"), Some("x"))),
            ("hf://org/name@refs%2Fpr%2F1/x", hub("org/name", Some("refs/pr/1"), Some("x"))),
            ("hf://org/name@refs/pr/1/x", hub("org/name", Some("refs/pr/1"), Some("x"))),
            ("https://huggingface.co/org/name", hub("org/name", None, None)),
            ("https://huggingface.co/gpt2/", hub("gpt2", None, None)),
            ("http://hf.co/org/name/tree/main", hub("org/name", Some("main"), None)),
            (
                "hf.co/org/name/tree/main/text_encoder",
                hub("org/name", Some("main"), Some("text_encoder/")),
            ),
            (
                "huggingface.co/gpt2/blob/main/model.safetensors",
                hub("gpt2", Some("main"), Some("model.safetensors")),
            ),
            (
                "https://huggingface.co/o/n/resolve/refs%2Fpr%2F7/m%20x.safetensors?download=true",
                hub("o/n", Some("refs/pr/7"), Some("m x.safetensors")),
            ),
            ("https://mirror.example/hub/o/n/resolve/abc/f", hub("o/n", Some("abc"), Some("f"))),
        ] {
            assert_eq!(parse(text).unwrap(), spec, "{text}");
        }
    }

    #[test]
    fn a_path_that_exists_wins() {
        assert_eq!(parse("here/there").unwrap(), ModelSpec::Path("here/there".into()));
    }

    #[test]
    fn any_other_url_is_one_file() {
        let url = "https://example.org/m.safetensors?sig=1";
        assert_eq!(parse(url).unwrap(), ModelSpec::Url(Url::parse(url).unwrap()));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "a/b/c",
            "org/",
            "-x",
            "a b",
            "x.git",
            "a--b",
            "org/name@",
            "./none",
            "/none",
            "none.safetensors",
            "https://",
            "https://huggingface.co/datasets/a/b",
            "https://huggingface.co/",
            "hf://datasets/a/b/c@x",
            "..",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
