//! What was found before: the reports of a model that has not changed, and what was found in a matrix
//! whose very bytes were read before, whichever model they were read for.

use super::place::{Place, config};
use super::{Found, Job, Placed, Prepared, Spent, Survey, TokenizerChoice};
use crate::analysis::{Grouping, Special};
use crate::error::Result;
use crate::head::{Matrix, Numbers};
use crate::observe::{Event, Observer};
use crate::report::{Reports, SCHEMA, Tool, Transfer};
use crate::resolve::{Content, ModelSpec, Snapshot};
use crate::source::ByteSource;
use crate::store::Store;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::Arc;

/// A model after a look at what was found before.
pub enum Looked {
    /// Nothing has changed since, and this was found.
    Kept(Box<Reports>),
    /// It has to be read.
    Unread(Box<Prepared>),
}

/// Where the reports of a model are kept once they are there.
pub(super) struct Keeper {
    store: Arc<Store>,
    key: String,
    snapshot: Arc<dyn Snapshot>,
}

/// The reports of a model, of one commit and of all others that have the same files.
#[derive(Serialize, Deserialize)]
struct OfModel {
    commit: String,
    files: Content,
    reports: Reports,
}

/// What was found in the bytes of a matrix, of whatever model.
#[derive(Serialize, Deserialize)]
pub(super) struct OfMatrix {
    found: Grouping,
    special: Option<Special>,
}

impl Survey {
    /// Looks up in this store what was found before, and keeps there what is found.
    pub fn keeping(self, store: Store) -> Self {
        Self { store: Some(Arc::new(store)), ..self }
    }

    /// The reports of a model that has not changed since they were kept, or the model, to be read.
    ///
    /// The first file that is asked for tells the commit. If that is another than before, the Hub's list
    /// tells whether the files that were read then have changed.
    pub async fn look(&self, job: &Job) -> Result<Looked> {
        let spent = Spent::until_now(self.client.get());
        let place = self.place(&job.model, job.file.as_deref())?;
        let Some((store, key)) = self.store.as_ref().zip(self.key(job, &place)) else {
            return self.prepare(job).await.map(|prepared| Looked::Unread(Box::new(prepared)));
        };
        let mut warnings = Vec::new();
        let config = config(&place, &mut |warning| warnings.push(warning)).await?;
        if let Some(reports) = same(store, &key, place.snapshot.as_ref()).await {
            return Ok(Looked::Kept(Box::new(self.again(reports, &place, spent))));
        }
        let keeper =
            Keeper { store: Arc::clone(store), key, snapshot: Arc::clone(&place.snapshot) };
        let mut prepared = self.prepare_at(job, &place, Some((config, warnings)), spent).await?;
        prepared.keeper = Some(keeper);
        Ok(Looked::Unread(Box::new(prepared)))
    }

    /// Everything that a model's reports depend on, but its files; `None` where they depend on more.
    fn key(&self, job: &Job, place: &Place) -> Option<String> {
        let ModelSpec::Hub { id, revision, .. } = &job.model else { return None };
        let tokenizer = match &job.tokenizer {
            TokenizerChoice::Own => "own",
            TokenizerChoice::None => "none",
            TokenizerChoice::Of(_) => return None,
        };
        let Tool { version, .. } = Tool::this();
        let Job { which, equality, min_size, classes, profile, degenerate, .. } = job;
        let named = cfg!(feature = "tokenizer");
        Some(format!(
            "reports of a model, schema {SCHEMA}, by version {version}\n\
             model {id} at {revision:?} of {}\n\
             files {:?} {:?}\nmatrix {which:?}\nequality {equality:?}\n\
             tokenizer {tokenizer} {named}\n\
             groups of {min_size}, classes {classes}, numbers {profile}, degenerate {degenerate}",
            self.hub.endpoint, place.folder, place.file
        ))
    }

    /// Reports that were kept, as this run's.
    fn again(&self, mut reports: Reports, place: &Place, spent: Spent) -> Reports {
        let mut transfer = spent.since(self.client.get());
        for report in &mut reports.reports {
            report.model = place.snapshot.origin();
            let checkpoint_bytes = report.transfer.checkpoint_bytes;
            report.transfer = Transfer { checkpoint_bytes, stored: true, ..transfer };
            // What was spent is the first one's.
            transfer = Transfer::default();
        }
        reports
    }
}

/// The reports that were kept, if the model's files are what they were.
async fn same(store: &Arc<Store>, key: &str, snapshot: &dyn Snapshot) -> Option<Reports> {
    let commit = snapshot.origin().commit?;
    let kept: OfModel = get(store, key).await?;
    if kept.commit != commit {
        let now = snapshot.contents().await?;
        let unchanged = |(file, id): (&String, &Option<String>)| match id {
            Some(_) => now.get(file) == Some(id),
            None => !now.contains_key(file),
        };
        if !kept.files.iter().all(unchanged) {
            return None;
        }
        let OfModel { files, reports, .. } = kept;
        let moved = OfModel { commit, files, reports };
        // Where that fails, the list is asked for again the next time.
        put(store, key, &moved).await.ok();
        return Some(moved.reports);
    }
    Some(kept.reports)
}

impl Prepared {
    /// Keeps what was found in all matrices, if the model was looked for in a store; says why not,
    /// where that fails.
    pub async fn keep(&self, reports: &Reports) -> Option<String> {
        let Keeper { store, key, snapshot } = self.keeper.as_ref()?;
        let (commit, files) = (snapshot.origin().commit?, snapshot.asked_for()?);
        let content = OfModel { commit, files, reports: reports.clone() };
        kept(store, put(store, key, &content).await)
    }

    /// What was found in these bytes before; `None` where it was not, or where more is asked for.
    pub(super) async fn found_before(
        &self,
        matrix: &Matrix,
        sources: &[Arc<dyn ByteSource>],
        measured: bool,
    ) -> Option<Found> {
        let store = self.store.as_ref()?;
        if self.profile {
            return None;
        }
        let key = self.key_of(matrix, sources)?;
        let OfMatrix { found, special } = get(store, &key).await?;
        if found.rows != matrix.rows || measured && special.is_none() {
            return None;
        }
        tell(&found, self.observer.as_ref());
        Some(Found {
            found,
            special,
            profile: None,
            placed: Placed::default(),
            probe: None,
            stored: true,
            warning: None,
        })
    }

    /// Keeps what was found in these bytes; says why not, where that fails.
    pub(super) async fn keep_found(
        &self,
        matrix: &Matrix,
        sources: &[Arc<dyn ByteSource>],
        found: &Found,
    ) -> Option<String> {
        let store = self.store.as_ref()?;
        let key = self.key_of(matrix, sources)?;
        let content = OfMatrix { found: found.found.clone(), special: found.special.clone() };
        kept(store, put(store, &key, &content).await)
    }

    /// What identifies a matrix's bytes, and how they were compared; `None` unless the Hub tells the
    /// digest of each file.
    fn key_of(&self, matrix: &Matrix, sources: &[Arc<dyn ByteSource>]) -> Option<String> {
        let Matrix { dtype, rows, columns, row_bytes, .. } = matrix;
        let mut key = format!(
            "rows of a matrix, schema {SCHEMA}\n{rows} rows of {columns} {dtype:?}, {row_bytes} bytes \
             each\nequality {:?}",
            self.equality
        );
        // What codes stand for is told by more than the type.
        if !matches!(matrix.numbers, Numbers::Plain(_)) {
            write!(key, "\nnumbers {:?}", matrix.numbers).ok()?;
        }
        let turned = matrix.layout.iter().filter(|layout| !layout.turned.is_empty());
        let parts = turned.flat_map(|layout| layout.parts.iter().zip(&layout.turned));
        let mut places: Vec<_> = matrix.spans.iter().map(|s| (&s.tensor, &s.bytes, None)).collect();
        let columns: Vec<_> = parts.map(|(p, how)| (&p.tensor, &p.bytes, Some(how))).collect();
        if !columns.is_empty() {
            places = columns;
        }
        for ((tensor, bytes, packing), source) in places.into_iter().zip(sources) {
            if let Some(packing) = packing {
                write!(key, "\n{packing:?}").ok()?;
            }
            let sha256 = source.sha256()?;
            write!(key, "\n{tensor:?}, bytes {bytes:?} of the file with SHA-256 {sha256}").ok()?;
        }
        Some(key)
    }
}

fn kept(store: &Store, kept: std::io::Result<()>) -> Option<String> {
    let folder = store.folder().display();
    kept.err().map(|error| format!("what was found cannot be kept in {folder}: {error}"))
}

/// Tells of rows as if they came.
pub(super) fn tell(found: &Grouping, observer: &dyn Observer) {
    for group in &found.groups {
        for &row in &group.rows[1..] {
            observer.event(&Event::Duplicate { row, same_as: group.rows[0] });
        }
    }
    observer.event(&Event::Done);
}

async fn get<T: DeserializeOwned + Send + 'static>(store: &Arc<Store>, key: &str) -> Option<T> {
    let (store, key) = (Arc::clone(store), key.to_owned());
    tokio::task::spawn_blocking(move || store.get(&key)).await.ok()?
}

async fn put<T: Serialize>(store: &Arc<Store>, key: &str, answer: &T) -> std::io::Result<()> {
    // Written out here, so that what is kept need not be copied to be sent to another thread.
    let (store, key, answer) =
        (Arc::clone(store), key.to_owned(), serde_json::value::to_raw_value(answer)?);
    tokio::task::spawn_blocking(move || store.put(&key, &answer)).await?
}
