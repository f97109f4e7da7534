//! Names for rows: the tokenizer is fetched and parsed while the matrix is read.

use super::place::Place;
use super::{Job, Survey, TokenizerChoice};
use crate::checkpoint::Entries;
use crate::error::{Error, Result};
use crate::observe::{Event, Observer};
use crate::report::TokenizerPart;
use crate::resolve::{ModelSpec, Snapshot};
use crate::vocabulary::{Class, Listed, MAX_TOKENIZER, Token, Vocabulary};
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

/// A vocabulary on its way, shared by all matrices of a model.
pub(super) struct Naming {
    coming: Mutex<Option<JoinHandle<Result<Loaded>>>>,
    loaded: OnceCell<Loaded>,
    /// What names rows where there is no tokenizer.
    listed: Option<Arc<Listed>>,
    /// Whether it is the model's own that was asked for.
    own: bool,
}

/// What came of it; a warning says why there is none.
#[derive(Clone)]
pub(super) struct Loaded {
    vocabulary: Option<Arc<Vocabulary>>,
    warning: Option<String>,
}

/// A vocabulary that has come.
#[derive(Clone)]
pub(super) enum Names {
    Tokenizer(Arc<Vocabulary>),
    Listed(Arc<Listed>),
}

impl Names {
    pub(super) fn part(&self, rows: u64) -> TokenizerPart {
        match self {
            Self::Tokenizer(all) => {
                TokenizerPart { size: all.size(), padding_rows: all.padding_rows(rows) }
            }
            Self::Listed(all) => {
                TokenizerPart { size: all.size(), padding_rows: rows.saturating_sub(all.size()) }
            }
        }
    }

    fn classify(&self, row: u64) -> Option<Class> {
        let classed = match self {
            Self::Tokenizer(all) => all.classify(row),
            Self::Listed(all) => all.classify(row),
        };
        classed.map(|(class, _)| class)
    }

    /// The class of each of so many rows; a second's work for the largest vocabularies, done beside
    /// the runtime by so many threads.
    pub(super) async fn classes(&self, rows: u64, threads: NonZeroUsize) -> Vec<Option<Class>> {
        let share = rows.div_ceil(threads.get() as u64).max(1);
        let parts: Vec<_> = (0..rows)
            .step_by(usize::try_from(share).unwrap_or(usize::MAX))
            .map(|first| {
                let names = self.clone();
                let class = move |row| names.classify(row);
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
        let names = self.clone();
        move |row| match &names {
            Self::Tokenizer(all) => all.token(row),
            Self::Listed(all) => all.token(row),
        }
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
        let own = job.tokenizer == TokenizerChoice::Own;
        Ok(Self { coming: Mutex::new(coming), loaded: OnceCell::new(), listed: None, own })
    }

    /// Names rows by the vocabulary in a header, if there is no tokenizer beside it.
    pub(super) fn or_listed(self, entries: Option<Entries>) -> Self {
        let entries = entries.filter(|_| self.own);
        Self { listed: entries.map(|entries| Arc::new(Listed::new(entries))), ..self }
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
        if let (None, Some(listed)) = (&loaded.vocabulary, &self.listed) {
            return Ok(Some(Names::Listed(Arc::clone(listed))));
        }
        if let Some(warning) = &loaded.warning {
            if first {
                observer.event(&Event::Warning { message: warning });
            }
            warnings.push(warning.clone());
        }
        Ok(loaded.vocabulary.clone().map(Names::Tokenizer))
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
