//! Names for rows: the tokenizer is fetched and parsed while the matrix is read.

use super::place::Place;
use super::{Job, Survey, TokenizerChoice};
use crate::error::{Error, Result};
use crate::observe::{Event, Observer};
use crate::report::TokenizerPart;
use crate::resolve::{ModelSpec, Snapshot};
use crate::vocabulary::{Class, MAX_TOKENIZER, Token, Vocabulary};
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

/// A vocabulary on its way, shared by all matrices of a model.
pub(super) struct Naming {
    coming: Mutex<Option<JoinHandle<Result<Loaded>>>>,
    loaded: OnceCell<Loaded>,
}

/// What came of it; a warning says why there is none.
#[derive(Clone)]
pub(super) struct Loaded {
    vocabulary: Option<Arc<Vocabulary>>,
    warning: Option<String>,
}

/// A vocabulary that has come.
pub(super) struct Names(Arc<Vocabulary>);

impl Names {
    pub(super) fn part(&self, rows: u64) -> TokenizerPart {
        TokenizerPart { size: self.0.size(), padding_rows: self.0.padding_rows(rows) }
    }

    /// The class of each of so many rows; a second's work for the largest vocabularies, done beside
    /// the runtime by so many threads.
    pub(super) async fn classes(&self, rows: u64, threads: NonZeroUsize) -> Vec<Option<Class>> {
        let share = rows.div_ceil(threads.get() as u64).max(1);
        let parts: Vec<_> = (0..rows)
            .step_by(usize::try_from(share).unwrap_or(usize::MAX))
            .map(|first| {
                let vocabulary = Arc::clone(&self.0);
                let class = move |row| vocabulary.classify(row).map(|(class, _)| class);
                tokio::task::spawn_blocking(move || {
                    (first..rows.min(first + share)).map(class).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for part in parts {
            // A panic is caught inside, so that there is a class for every row that has one.
            all.append(&mut part.await.unwrap_or_default());
        }
        all
    }

    pub(super) fn namer(&self) -> impl Fn(u64) -> Token + use<> {
        let vocabulary = Arc::clone(&self.0);
        move |row| vocabulary.token(row)
    }
}

impl Naming {
    /// Starts to fetch what the job asks for.
    pub(super) fn start(survey: &Survey, job: &Job, place: &Place) -> Result<Self> {
        let own = |folder: &str| format!("{folder}tokenizer.json");
        let task = match &job.tokenizer {
            TokenizerChoice::None => None,
            TokenizerChoice::Own => Some((Arc::clone(&place.snapshot), own(&place.folder), false)),
            TokenizerChoice::Of(model) => {
                let other = survey.place(model, None)?;
                // A local file is the tokenizer itself, whatever its name.
                let file = match (model, &other.file) {
                    (ModelSpec::Path(_) | ModelSpec::Url(_), Some(file)) => file.clone(),
                    (_, Some(file)) if file.ends_with(".json") => format!("{}{file}", other.folder),
                    _ => own(&other.folder),
                };
                Some((other.snapshot, file, true))
            }
        };
        let coming = task.map(|(snapshot, file, asked)| tokio::spawn(load(snapshot, file, asked)));
        Ok(Self { coming: Mutex::new(coming), loaded: OnceCell::new() })
    }

    /// Waits for the vocabulary; without one, a warning says why.
    pub(super) async fn vocabulary(
        &self,
        warnings: &mut Vec<String>,
        observer: &dyn Observer,
    ) -> Result<Option<Names>> {
        let first = !self.loaded.initialized();
        let loaded = self
            .loaded
            .get_or_try_init(|| async {
                match self.coming.lock().await.take() {
                    None => Ok(Loaded { vocabulary: None, warning: None }),
                    Some(task) => task.await.unwrap_or_else(|_| {
                        let warning = "the tokenizer cannot be read: its reader failed".into();
                        Ok(Loaded { vocabulary: None, warning: Some(warning) })
                    }),
                }
            })
            .await?;
        if let Some(warning) = &loaded.warning {
            if first {
                observer.event(&Event::Warning { message: warning });
            }
            warnings.push(warning.clone());
        }
        Ok(loaded.vocabulary.clone().map(Names))
    }
}

/// Fetches and parses. A model's own tokenizer is a help, so that its absence or a fault of it is
/// a warning; one that was asked for must exist. A file that changed is an error in any case.
async fn load(snapshot: Arc<dyn Snapshot>, file: String, asked: bool) -> Result<Loaded> {
    let without = |warning: String| Ok(Loaded { vocabulary: None, warning: Some(warning) });
    let json = match snapshot.read(&file, MAX_TOKENIZER).await {
        Ok(Some(json)) => json,
        Ok(None) if asked => {
            let id = snapshot.origin().id;
            let file = if id.ends_with(&file) { id } else { format!("{id}/{file}") };
            return Err(Error::NoSuchFile { file });
        }
        Ok(None) => return without(format!("there is no {file}, so rows have no names")),
        Err(error @ Error::Changed { .. }) => return Err(error),
        Err(error) if asked => return Err(error),
        Err(error) => return without(format!("rows have no names: {error}")),
    };
    let parse = move || Vocabulary::parse(&file, &json);
    match tokio::task::spawn_blocking(parse).await {
        Ok(Ok(vocabulary)) => Ok(Loaded { vocabulary: Some(Arc::new(vocabulary)), warning: None }),
        Ok(Err(error)) => without(format!("rows have no names: {error}")),
        Err(_) => without("rows have no names: the tokenizer cannot be read".into()),
    }
}
