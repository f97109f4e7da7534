//! Where a model's files are, and the configuration that lies beside its weights.

use super::Survey;
use crate::error::{Error, Result};
use crate::head::{Config, MAX_CONFIG};
use crate::resolve::{Directory, HubSnapshot, ModelSpec, SingleUrl, Snapshot};
use crate::source::SafeUrl;
use std::sync::Arc;

/// Where the parts of a model are.
pub(super) struct Place {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) folder: String,
    pub(super) file: Option<String>,
}

impl Survey {
    /// Where a model's files are. `file` is a part of the repository, in place of one that the
    /// model's name holds.
    pub(super) fn place(&self, model: &ModelSpec, file: Option<&str>) -> Result<Place> {
        let (snapshot, inside): (Arc<dyn Snapshot>, Option<String>) = match model {
            ModelSpec::Hub { id, revision, file } => {
                let hub = self.hub.clone();
                let at = HubSnapshot::new(hub, id.clone(), revision.clone(), || self.client())?;
                (Arc::new(at), file.clone())
            }
            ModelSpec::Url(url) if self.hub.offline => {
                return Err(Error::Offline { what: SafeUrl(url).to_string() });
            }
            ModelSpec::Url(url) => {
                let at = SingleUrl::new(self.client()?, url.clone());
                let file = at.file().to_owned();
                (Arc::new(at), Some(file))
            }
            ModelSpec::Path(path) if path.is_dir() => (Arc::new(Directory::new(path)), None),
            ModelSpec::Path(path) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                (Arc::new(Directory::around(path)), name)
            }
        };
        let (folder, file) = match (model, file, inside) {
            (ModelSpec::Hub { .. }, None, Some(inside)) => split(&inside)?,
            // A local file or a URL is the file itself, whatever its name.
            (_, None, inside) => (String::new(), inside),
            (_, Some(file), _) => split(file)?,
        };
        Ok(Place { snapshot, folder, file })
    }
}

/// Splits a path inside a repository into a folder and a file. What does not end like a weights
/// file or an index is a folder.
fn split(inside: &str) -> Result<(String, Option<String>)> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !inside.trim_end_matches('/').split('/').all(plain) || inside.contains('\\') {
        let what = format!("{inside:?} is no path inside a repository");
        return Err(Error::Usage { what });
    }
    let is_file =
        !inside.ends_with('/') && inside.rsplit('/').next().is_some_and(|last| last.contains('.'));
    if !is_file {
        return Ok((inside.trim_end_matches('/').to_owned() + "/", None));
    }
    Ok(match inside.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), Some(file.to_owned())),
        None => (String::new(), Some(inside.to_owned())),
    })
}

/// The configuration beside the weights; an empty one where there is none.
pub(super) async fn config(place: &Place, warn: &mut (dyn FnMut(String) + Send)) -> Result<Config> {
    let file = format!("{}config.json", place.folder);
    match place.snapshot.read(&file, MAX_CONFIG).await {
        Ok(Some(json)) => Config::parse(&json),
        Ok(None) => Ok(Config::default()),
        Err(Error::Offline { .. }) => {
            warn(format!(
                "{file} is not in the local cache; nothing says whether the head is tied"
            ));
            Ok(Config::default())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_repository_is_a_folder_or_a_file() {
        let file = |name: &str| Some(name.to_owned());
        assert_eq!(split("text_encoder/").unwrap(), ("text_encoder/".into(), None));
        assert_eq!(split("text_encoder").unwrap(), ("text_encoder/".into(), None));
        assert_eq!(split("a/m.safetensors").unwrap(), ("a/".into(), file("m.safetensors")));
        assert_eq!(split("m.safetensors").unwrap(), (String::new(), file("m.safetensors")));
        for wrong in ["", "/", "/a", "../a", "a/../b", "a//b", "a\\b"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
