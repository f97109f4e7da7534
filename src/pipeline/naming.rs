//! Names for rows: the tokenizer is fetched and parsed while the matrix is read.

use super::place::Place;
use super::{Job, Survey, TokenizerChoice};
use crate::checkpoint::Entries;
use crate::error::{Error, Result};
use crate::head::MAX_CONFIG;
use crate::observe::{Event, Observer};
use crate::report::TokenizerPart;
use crate::resolve::{ModelSpec, Snapshot};
use crate::vocabulary::{BESIDE, Beside, Class, FILES, Form, Listed, Named, Token};
use bytes::Bytes;
use std::collections::VecDeque;
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
    listed: Option<Names>,
    /// Whether it is the model's own that was asked for.
    own: bool,
}

/// What came of it; a warning says why there is none.
#[derive(Clone)]
pub(super) struct Loaded {
    names: Option<Names>,
    warning: Option<String>,
    /// Whether there is one that cannot be read.
    is_broken: bool,
}

impl Loaded {
    fn without(warning: Option<String>, is_broken: bool) -> Self {
        Self { names: None, warning, is_broken }
    }
}

/// A vocabulary that has come, and the file it came from, where that is no `tokenizer.json` and not
/// the weights' own.
#[derive(Clone)]
pub(super) struct Names {
    named: Arc<Named>,
    file: Option<String>,
}

impl Names {
    pub(super) fn part(&self, rows: u64) -> TokenizerPart {
        let (size, padding_rows) = (self.named.size(), self.named.padding_rows(rows));
        TokenizerPart { size, padding_rows, file: self.file.clone() }
    }

    /// Whether it is a list, which says of few rows what they are.
    pub(super) fn is_list(&self) -> bool {
        matches!(*self.named, Named::Listed(_))
    }

    /// What a reader should know who takes what it says of so many rows for the model's own.
    pub(super) fn doubts(&self, rows: u64) -> Option<String> {
        let size = self.named.size();
        if size > rows {
            return Some(format!(
                "the tokenizer has {size} tokens, and the matrix {rows} rows: it may be another model's"
            ));
        }
        self.is_list().then(|| {
            "what names the rows is a list and no tokenizer: the classes of most rows are not known"
                .to_owned()
        })
    }

    /// The class of each of so many rows; a second's work for the largest vocabularies, done beside
    /// the runtime by so many threads.
    pub(super) async fn classes(&self, rows: u64, threads: NonZeroUsize) -> Vec<Option<Class>> {
        let share = rows.div_ceil(threads.get() as u64).max(1);
        let parts: Vec<_> = (0..rows)
            .step_by(usize::try_from(share).unwrap_or(usize::MAX))
            .map(|first| {
                let named = Arc::clone(&self.named);
                let class = move |row| named.classify(row).map(|(class, _)| class);
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
        let named = Arc::clone(&self.named);
        move |row| named.token(row)
    }
}

impl Naming {
    /// Starts to fetch what the job asks for.
    pub(super) fn start(survey: &Survey, job: &Job, place: &Place) -> Result<Self> {
        let wanted = match &job.tokenizer {
            TokenizerChoice::None => None,
            TokenizerChoice::Own => {
                // Such a file has a vocabulary of its own.
                let gguf = place.file.as_ref().is_some_and(|file| file.ends_with(".gguf"));
                let files = if gguf { &FILES[..1] } else { &FILES };
                Some(Wanted::any(&place.snapshot, &place.folder, files, false))
            }
            TokenizerChoice::Of(model) => {
                let Place { snapshot, folder, file } = survey.place(model, None)?;
                // A local file is the tokenizer itself, whatever its name.
                let local = matches!(model, ModelSpec::Path(_) | ModelSpec::Url(_));
                let own = file.filter(|file| {
                    local || file.ends_with(".json") || Form::of(file) != Form::Json
                });
                let files = own.as_ref().map_or(FILES.to_vec(), |file| vec![file.as_str()]);
                Some(Wanted::any(&snapshot, &folder, &files, true))
            }
        };
        let coming = wanted.map(|wanted| tokio::spawn(load(wanted)));
        let own = job.tokenizer == TokenizerChoice::Own;
        Ok(Self { coming: Mutex::new(coming), loaded: OnceCell::new(), listed: None, own })
    }

    /// Names rows by the vocabulary in a header, if there is no tokenizer beside it.
    pub(super) fn or_listed(self, entries: Option<Entries>) -> Self {
        let entries = entries.filter(|_| self.own);
        let named = |entries| Arc::new(Named::Listed(Listed::of_metadata(entries)));
        let listed = entries.map(|entries| Names { named: named(entries), file: None });
        Self { listed, ..self }
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
                    None => Ok(Loaded::without(None, false)),
                    Some(task) => task.await.unwrap_or_else(|_| {
                        let warning = "the tokenizer cannot be read: its reader failed".into();
                        Ok(Loaded::without(Some(warning), true))
                    }),
                }
            })
            .await?;
        // Only a whole tokenizer says more than the vocabulary in the weights' own file.
        let whole = loaded.names.as_ref().filter(|names| self.listed.is_none() || !names.is_list());
        if let (None, Some(listed)) = (whole, &self.listed) {
            if let Some(warning) = loaded.warning.as_ref().filter(|_| loaded.is_broken) {
                if first {
                    observer.event(&Event::Warning { message: warning });
                }
                warnings.push(warning.clone());
            }
            return Ok(Some(listed.clone()));
        }
        if let Some(warning) = &loaded.warning {
            if first {
                observer.event(&Event::Warning { message: warning });
            }
            warnings.push(warning.clone());
        }
        Ok(loaded.names.clone())
    }
}

/// A vocabulary that is to be fetched.
struct Wanted {
    snapshot: Arc<dyn Snapshot>,
    folder: String,
    /// Its names, of which the first that is there counts.
    files: Vec<String>,
    /// Whether it was asked for.
    asked: bool,
}

impl Wanted {
    fn any(snapshot: &Arc<dyn Snapshot>, folder: &str, files: &[&str], asked: bool) -> Self {
        let files = files.iter().map(|file| format!("{folder}{file}")).collect();
        Self { snapshot: Arc::clone(snapshot), folder: folder.to_owned(), files, asked }
    }

    /// The first file that is there, with what lies beside it. What the cache does not know of, another
    /// file may stand in for.
    async fn read(&self) -> Result<Option<(String, Bytes, Beside)>> {
        let mut beside = BESIDE.map(|name| format!("{}{name}", self.folder)).to_vec();
        let (mut told, mut unknown) = (false, None);
        let mut files = VecDeque::from(self.files.clone());
        while let Some(file) = files.pop_front() {
            match self.snapshot.read(&file, Form::of(&file).limit()).await {
                Ok(Some(bytes)) => {
                    if Form::of(&file) == Form::Json {
                        return Ok(Some((file, bytes, Beside::default())));
                    }
                    if !told {
                        beside = self.snapshot.possible(beside).await;
                    }
                    let beside = self.beside(Form::of(&file), &beside).await?;
                    return Ok(Some((file, bytes, beside)));
                }
                Ok(None) => {}
                Err(error @ Error::Offline { .. }) => unknown = unknown.or(Some(error)),
                Err(error) => return Err(error),
            }
            if !told && !files.is_empty() {
                // Few models have any of the others.
                let others = files.drain(..).chain(beside.iter().cloned()).collect();
                let others = self.snapshot.possible(others).await;
                beside.retain(|file| others.contains(file));
                files = others.into_iter().filter(|file| self.files.contains(file)).collect();
                told = true;
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    /// What lies beside it; of newer files the configuration tells what older ones have apart.
    async fn beside(&self, form: Form, possible: &[String]) -> Result<Beside> {
        let read = async |name: &str, limit| {
            let file = format!("{}{name}", self.folder);
            match possible.contains(&file) {
                true => self.snapshot.read(&file, limit).await,
                false => Ok(None),
            }
        };
        let [merges, config, added, special] = BESIDE;
        let mut beside = Beside::default();
        if form == Form::Pairs {
            beside.merges = read(merges, form.limit()).await?;
        }
        beside.config = read(config, MAX_CONFIG).await?;
        if !beside.tells_all() {
            beside.added = read(added, MAX_CONFIG).await?;
            beside.special = read(special, MAX_CONFIG).await?;
        }
        Ok(beside)
    }
}

/// Fetches and parses. A model's own tokenizer is a help, so that its absence or a fault of it is
/// a warning; one that was asked for must exist. A file that changed is an error in any case.
async fn load(wanted: Wanted) -> Result<Loaded> {
    let without = |warning: String| Ok(Loaded::without(Some(warning), true));
    let (file, bytes, beside) = match wanted.read().await {
        Ok(Some(found)) => found,
        Ok(None) if wanted.asked => {
            let (id, file) = (wanted.snapshot.origin().id, &wanted.files[0]);
            let file = if id.ends_with(file) { id } else { format!("{id}/{file}") };
            return Err(Error::NoSuchFile { file });
        }
        Ok(None) => {
            let warning = format!("there is no {}, so rows have no names", wanted.files[0]);
            return Ok(Loaded::without(Some(warning), false));
        }
        Err(error @ Error::Changed { .. }) => return Err(error),
        Err(error) if wanted.asked => return Err(error),
        Err(error) => return without(format!("rows have no names: {error}")),
    };
    let read = move || (Named::read(&file, &bytes, &beside), file);
    match tokio::task::spawn_blocking(read).await {
        Ok((Ok(named), file)) => {
            // Of the ordinary file nothing need be said.
            let file = Some(file).filter(|file| Form::of(file) != Form::Json);
            let names = Names { named: Arc::new(named), file };
            Ok(Loaded { names: Some(names), warning: None, is_broken: false })
        }
        Ok((Err(error), _)) => without(format!("rows have no names: {error}")),
        Err(_) => without("rows have no names: the tokenizer cannot be read".into()),
    }
}
