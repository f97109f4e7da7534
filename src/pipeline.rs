//! The steps as calls, one under another.
//!
//! [`Survey::prepare`] goes as far as headers go; [`Prepared::scan`] reads a matrix. In between a
//! caller knows what will be read and what it will cost.

use crate::analysis::{Equality, Grouping, RowProfile, Special};
use crate::checkpoint::{Checkpoint, Chosen};
use crate::error::{Error, Result};
use crate::head::{Config, Considered, Layout, Matrix, Part, Role, TieFlag};
use crate::observe::{Event, Observer};
use crate::report::{
    ClassesPart, Cost, CrossPart, DegeneratePart, DuplicatesPart, GeometryPart, Inspection,
    MatrixPart, ProbePart, ProfilePart, Report, SCHEMA, States, TokenizerPart, Tool, Transfer,
};
use crate::resolve::{Hub, ModelSpec, Origin};
use crate::scan::{Plan, segments};
use crate::source::{ByteSource, Client, Options};
use crate::store::Store;
use futures::future::{Either, select};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

#[cfg(feature = "tokenizer")]
use crate::vocabulary::Class;
use crate::vocabulary::Token;

#[cfg(feature = "tokenizer")]
mod naming;
mod chosen;
mod kept;
mod place;
mod read;
mod sample;
use chosen::{choose, matrix};
use kept::Keeper;
pub use kept::Looked;
#[cfg(feature = "tokenizer")]
use naming::Naming;
use place::{Place, config};

/// Which matrices of a model are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// The output head.
    #[default]
    Unembedding,
    /// The input embedding.
    Embedding,
    /// The output head and, where they are not one, the input embedding.
    Both,
    /// The tensor of this name.
    Tensor(String),
}

/// Where the names of rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TokenizerChoice {
    /// The `tokenizer.json` beside the model's weights.
    #[default]
    Own,
    /// Another model's, or a file.
    Of(ModelSpec),
    /// Nowhere: rows have no names.
    None,
}

/// What is to be done with one model.
#[derive(Debug, Clone)]
pub struct Job {
    /// The model.
    pub model: ModelSpec,
    /// A weights file, or a folder with a closing `/`, inside the repository.
    pub file: Option<String>,
    /// The matrices.
    pub which: Which,
    /// When two rows are equal.
    pub equality: Equality,
    /// Groups of fewer rows are counted, not listed.
    pub min_size: u64,
    /// Streams at a time over a network, at most.
    pub connections: NonZeroUsize,
    /// Streams at a time of a local file, one for each thread that is to hash.
    pub threads: NonZeroUsize,
    /// Where the names of rows come from.
    pub tokenizer: TokenizerChoice,
    /// Whether every row is classed, and not the members of groups alone; without a tokenizer that
    /// is an error.
    pub classes: bool,
    /// Whether rows of a local file are told apart by their first bytes, and those alone read whole
    /// that this leaves in doubt. Then there is no matrix digest.
    pub probe: bool,
    /// Whether the numbers of every row are reported, and its class where there is a tokenizer.
    pub profile: bool,
    /// Whether the rows are reported that are zero or not finite; classes and numbers of all rows
    /// include them.
    pub degenerate: bool,
}

impl Job {
    /// The usual job for a model: its unembedding, by stored bytes, over eight streams.
    pub fn new(model: ModelSpec) -> Self {
        Self {
            model,
            file: None,
            which: Which::default(),
            equality: Equality::default(),
            min_size: 0,
            connections: NonZeroUsize::MIN.saturating_add(7),
            threads: NonZeroUsize::MIN.saturating_add(1),
            tokenizer: TokenizerChoice::default(),
            classes: false,
            profile: false,
            degenerate: false,
            probe: false,
        }
    }
}

/// Where models are read from, and who is told.
pub struct Survey {
    hub: Hub,
    options: Options,
    observer: Arc<dyn Observer>,
    client: OnceLock<Client>,
    store: Option<Arc<Store>>,
}

impl Survey {
    /// A survey over this Hub. Nothing is sent, and no client built, before a model needs it.
    pub fn new(hub: Hub, options: Options) -> Self {
        let observer = Arc::clone(&options.observer);
        Self { hub, options, observer, client: OnceLock::new(), store: None }
    }

    /// Goes from a model's name to its matrices, reading nothing but headers and small files; and a
    /// few rows, where a flag says of a stored head that it is the input embedding.
    pub async fn prepare(&self, job: &Job) -> Result<Prepared> {
        let spent = Spent::until_now(self.client.get());
        let place = self.place(&job.model, job.file.as_deref())?;
        self.prepare_at(job, &place, None, spent).await
    }

    /// The same of a place whose configuration may be known already, with the warnings about it.
    async fn prepare_at(
        &self,
        job: &Job,
        place: &Place,
        known: Option<(Config, Vec<String>)>,
        spent: Spent,
    ) -> Result<Prepared> {
        let warnings = Mutex::new(Vec::new());
        let warn = |message: String| {
            self.observer.event(&Event::Warning { message: &message });
            warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        };

        // The first answer pins the revision for all that follow.
        let mut of_config = |message| warn(message);
        let config = async {
            match known {
                None => config(place, &mut of_config).await,
                Some((config, told)) => {
                    told.into_iter().for_each(of_config);
                    Ok(config)
                }
            }
        };
        let files = async {
            #[cfg(feature = "tokenizer")]
            let naming = Naming::start(self, job, place)?;
            #[cfg(not(feature = "tokenizer"))]
            let naming = ();
            let chosen = Chosen {
                folder: &place.folder,
                file: place.file.as_deref(),
                tensor: matches!(job.which, Which::Tensor(_)),
            };
            let snapshot = Arc::clone(&place.snapshot);
            let checkpoint =
                Checkpoint::find(snapshot, chosen, &mut |message| warn(message)).await?;
            Ok((naming, checkpoint))
        };
        let pinned = place.snapshot.pinned();
        let (config, (naming, mut checkpoint)) = after(pinned, config, files).await?;
        #[cfg(not(feature = "tokenizer"))]
        let () = naming;
        let model = place.snapshot.origin().id;
        let (located, candidates) = {
            let observer = self.observer.as_ref();
            choose(&job.which, &mut checkpoint, &config, &model, observer).await?
        };
        #[cfg(feature = "tokenizer")]
        let naming = naming.or_listed(checkpoint.take_entries());

        let mut matrices = Vec::new();
        for located in located {
            let connections = job.connections.get();
            matrices.push(matrix(located, &checkpoint, &config, &place.folder, connections).await?);
        }
        Ok(Prepared {
            origin: place.snapshot.origin(),
            matrices,
            tie_flags: config.tie_flags(),
            candidates,
            warnings: warnings.into_inner().unwrap_or_else(PoisonError::into_inner),
            checkpoint_bytes: checkpoint.total_bytes(),
            equality: job.equality,
            min_size: job.min_size,
            classes: job.classes,
            profile: job.profile,
            degenerate: job.degenerate || job.profile || job.classes,
            store: self.store.clone(),
            keeper: None,
            probe: job.probe,
            states: Mutex::default(),
            connections: job.connections,
            threads: job.threads,
            observer: Arc::clone(&self.observer),
            client: self.client.get().cloned(),
            spent: Mutex::new(spent),
            #[cfg(feature = "tokenizer")]
            naming,
        })
    }

    fn client(&self) -> Result<Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Client::new(self.options.clone())?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

/// What two steps bring, of which the second begins as soon as it may, or the first has ended.
async fn after<A, B>(
    may: impl Future<Output = ()> + Unpin,
    first: impl Future<Output = Result<A>>,
    second: impl Future<Output = Result<B>>,
) -> Result<(A, B)> {
    let mut first = pin!(first);
    match select(first.as_mut(), may).await {
        Either::Left((first, _)) => Ok((first?, second.await?)),
        Either::Right(_) => futures::try_join!(first, second),
    }
}

/// A model whose matrices are known and whose weights have not been read.
pub struct Prepared {
    origin: Origin,
    /// Each with the sources of its spans.
    matrices: Vec<(Matrix, Vec<Arc<dyn ByteSource>>)>,
    tie_flags: Vec<TieFlag>,
    /// What looked like one of the matrices, and how much of that is left out.
    candidates: (Vec<Considered>, u64),
    warnings: Vec<String>,
    checkpoint_bytes: Option<u64>,
    equality: Equality,
    min_size: u64,
    classes: bool,
    profile: bool,
    degenerate: bool,
    probe: bool,
    store: Option<Arc<Store>>,
    keeper: Option<Keeper>,
    states: Mutex<BTreeMap<Role, States>>,
    connections: NonZeroUsize,
    threads: NonZeroUsize,
    observer: Arc<dyn Observer>,
    client: Option<Client>,
    spent: Mutex<Spent>,
    #[cfg(feature = "tokenizer")]
    naming: Naming,
}

/// Says what a row is called.
pub type Namer = Box<dyn Fn(u64) -> Token + Send + Sync>;

/// What was found in one matrix.
struct Found {
    found: Grouping,
    special: Option<Special>,
    profile: Option<RowProfile>,
    placed: Placed,
    probe: Option<ProbePart>,
    /// Whether it was found before, and nothing read.
    stored: bool,
    /// Why it cannot be kept.
    warning: Option<String>,
}

/// Where the groups' vectors lie.
#[derive(Default)]
struct Placed {
    geometry: Option<GeometryPart>,
    /// Of the largest groups, in their order.
    from_centroid: Vec<Option<f64>>,
}

/// What has been put to the account of earlier reports.
struct Spent {
    requests: u64,
    bytes: u64,
    since: Instant,
}

impl Spent {
    fn until_now(client: Option<&Client>) -> Self {
        let (requests, bytes) = client.map_or((0, 0), |c| (c.requests(), c.bytes()));
        Self { requests, bytes, since: Instant::now() }
    }

    /// What was spent since.
    fn since(&self, client: Option<&Client>) -> Transfer {
        let now = Self::until_now(client);
        Transfer {
            requests: now.requests - self.requests,
            bytes: now.bytes - self.bytes,
            seconds: (now.since - self.since).as_secs_f64(),
            ..Transfer::default()
        }
    }
}

impl Prepared {
    /// Where the model was read from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the reader should know, a sentence each; a scan may add to it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Tells this observer what happens from now on, in place of the survey's.
    pub fn tell(&mut self, observer: Arc<dyn Observer>) {
        self.observer = observer;
    }

    /// What names the rows of a matrix of so many, once it has come; `None` without a tokenizer.
    pub async fn namer(&self, rows: u64) -> Result<Option<(TokenizerPart, Namer)>> {
        #[cfg(feature = "tokenizer")]
        {
            let observer = self.observer.as_ref();
            let vocabulary = self.naming.vocabulary(&mut Vec::new(), observer).await?;
            Ok(vocabulary.map(|names| (names.part(rows), Box::new(names.namer()) as Namer)))
        }
        #[cfg(not(feature = "tokenizer"))]
        {
            let _ = rows;
            Ok(None)
        }
    }

    /// The matrices, in the order they were asked for.
    pub fn matrices(&self) -> impl ExactSizeIterator<Item = &Matrix> {
        self.matrices.iter().map(|(matrix, _)| matrix)
    }

    /// What scans would read.
    pub fn inspect(&self) -> Vec<Inspection> {
        let one = |(matrix, sources): &(Matrix, Vec<Arc<dyn ByteSource>>)| {
            let plan = self.plan(matrix, sources);
            let parts = matrix.layout.as_ref().map_or(&[][..], |layout| &layout.parts);
            let first = parts.first().map_or(&matrix.spans[0].bytes, |part| &part.bytes);
            let shared = parts.len().saturating_sub(matrix.strands()) as u64;
            Inspection {
                schema: SCHEMA,
                tool: Tool::this(),
                warnings: self.warnings.clone(),
                model: self.origin.clone(),
                matrix: MatrixPart::from(matrix),
                byte_range: [first.start, first.end],
                tie_flags: self.tie_flags.iter().map(|f| (f.source.clone(), f.tied)).collect(),
                candidates: self.candidates.0.clone(),
                candidates_left_out: self.candidates.1,
                cost: match turned(matrix) {
                    None => Cost {
                        bytes: matrix.stored_bytes(),
                        requests: plan.requests() * matrix.strands() as u64 + shared,
                        connections: (plan.streams() * matrix.strands()) as u64,
                    },
                    Some(layout) => {
                        let requests = |part: &Part| segments(&part.bytes).count() as u64;
                        let requests: u64 = layout.parts.iter().map(requests).sum();
                        let connections = requests.min(self.connections.get() as u64);
                        Cost { bytes: matrix.stored_bytes(), requests, connections }
                    }
                },
                transfer: self.transfer(),
            }
        };
        self.matrices.iter().map(one).collect()
    }

    /// Reads the matrix of that number and reports on its rows.
    pub async fn scan(&self, number: usize) -> Result<Report> {
        let (matrix, _) = self
            .matrices
            .get(number)
            .ok_or_else(|| Error::Usage { what: format!("there is no matrix {number}") })?;
        self.observer.event(&Event::Matrix {
            tensor: &matrix.tensor,
            file: &matrix.file,
            rows: matrix.rows,
            bytes: matrix.bytes(),
        });
        let mut warnings = self.warnings.clone();
        let found = async {
            match self.probe {
                true => self.probe(number).await,
                false => self.read(number).await,
            }
        };
        #[cfg(feature = "tokenizer")]
        let (found, (vocabulary, classes)) = {
            // Rows are classed while they come.
            let named = self.named(matrix.rows, &mut warnings);
            futures::try_join!(found, named)?
        };
        #[cfg(not(feature = "tokenizer"))]
        let found = found.await?;
        #[cfg(feature = "tokenizer")]
        if let Some(vocabulary) = &vocabulary {
            let asked = self.classes || self.profile;
            if let Some(message) =
                vocabulary.doubts(matrix.rows).filter(|_| asked || !vocabulary.is_list())
            {
                self.observer.event(&Event::Warning { message: &message });
                warnings.push(message);
            }
        }
        let Found { found, special, profile, placed, probe, stored, warning } = found;
        if let Some(message) = warning {
            self.observer.event(&Event::Warning { message: &message });
            warnings.push(message);
        }
        let shown = profile.as_ref().filter(|_| self.profile);
        let zero = special.as_ref().map_or(&[][..], |special| &special.zero);
        if self.matrices.len() > 1 {
            let states = States::new(&found, zero);
            self.states().insert(matrix.role, states);
        }

        if special.is_none() && !self.probe && (self.degenerate || self.matrices.len() > 1) {
            let message = "the rows are quantised in a way whose values are not known: none is measured, \
                           and which of them are zero or not finite is not known";
            self.observer.event(&Event::Warning { message });
            warnings.push(message.to_owned());
        }
        if shown.is_some() && !matrix.scales.is_empty() {
            let scales = matrix.scales.join(", ");
            let message =
                format!("norms are of the stored codes, to which {scales} is not applied");
            self.observer.event(&Event::Warning { message: &message });
            warnings.push(message);
        }
        #[cfg(feature = "tokenizer")]
        let (tokenizer, token) = match &vocabulary {
            Some(vocabulary) => (Some(vocabulary.part(matrix.rows)), Some(vocabulary.namer())),
            None => (None, None),
        };
        #[cfg(feature = "tokenizer")]
        let classes = classes.map(|classes| {
            ClassesPart::new(&found, zero, &|row| classes.get(row as usize).copied().flatten())
        });
        #[cfg(not(feature = "tokenizer"))]
        let (tokenizer, token, classes) = match self.classes {
            true => return Err(no_classes()),
            false => (None, None::<fn(u64) -> Token>, None),
        };
        let token = token.as_ref().map(|token| token as &dyn Fn(u64) -> _);
        let mut duplicates = DuplicatesPart::new(&found, self.equality, self.min_size, token);
        if let Some(profile) = shown {
            duplicates = duplicates.measured(profile, &placed.from_centroid);
        }
        let degenerate = special
            .as_ref()
            .filter(|_| self.degenerate)
            .map(|special| DegeneratePart::new(special, &found, token));
        let by_class = classes.as_ref().map(|part: &ClassesPart| &part.rows);
        Ok(Report {
            schema: SCHEMA,
            tool: Tool::this(),
            warnings: std::mem::take(&mut warnings),
            model: self.origin.clone(),
            matrix: MatrixPart::from(matrix),
            tokenizer,
            duplicates,
            profile: shown.map(|profile| ProfilePart::new(profile, by_class)),
            degenerate,
            geometry: placed.geometry,
            classes,
            matrix_digest: found.matrix_digest,
            probe,
            transfer: Transfer { stored, ..self.transfer() },
        })
    }

    /// The tokenizer, and the class of each row where all are to be classed.
    #[cfg(feature = "tokenizer")]
    async fn named(
        &self,
        rows: u64,
        warnings: &mut Vec<String>,
    ) -> Result<(Option<naming::Names>, Option<Vec<Option<Class>>>)> {
        let vocabulary = self.naming.vocabulary(warnings, self.observer.as_ref()).await?;
        let classes = match &vocabulary {
            Some(vocabulary) if self.classes || self.profile => {
                Some(vocabulary.classes(rows, self.threads).await)
            }
            None if self.classes => return Err(no_classes()),
            _ => None,
        };
        Ok((vocabulary, classes))
    }

    /// What the rows are in one matrix and in the other, once both were scanned; `None` where the
    /// model has but one.
    pub async fn cross(&self) -> Result<Option<CrossPart>> {
        let namer = self.namer(0).await?;
        let token = namer.as_ref().map(|(_, namer)| namer.as_ref() as &dyn Fn(u64) -> _);
        let states = self.states();
        let both = states.get(&Role::Unembedding).zip(states.get(&Role::Embedding));
        Ok(both.map(|(head, embedding)| CrossPart::new(head, embedding, token)))
    }

    fn plan(&self, matrix: &Matrix, sources: &[Arc<dyn ByteSource>]) -> Plan {
        let streams = match is_local(sources) {
            true => self.threads,
            // Each stream of rows takes a connection for each of their tensors.
            false => {
                let streams = self.connections.get() / matrix.strands();
                NonZeroUsize::new(streams).unwrap_or(NonZeroUsize::MIN)
            }
        };
        Plan::new(matrix, streams)
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Role, States>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was spent since the last report.
    pub fn transfer(&self) -> Transfer {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client.as_ref();
        let transfer = spent.since(client);
        *spent = Spent::until_now(client);
        Transfer { checkpoint_bytes: self.checkpoint_bytes, ..transfer }
    }
}

/// The layout of a matrix whose tokens are columns.
fn turned(matrix: &Matrix) -> Option<&Layout> {
    matrix.layout.as_ref().filter(|layout| !layout.turned.is_empty())
}

/// Whether no part of a matrix comes over a network.
fn is_local(sources: &[Arc<dyn ByteSource>]) -> bool {
    sources.iter().all(|source| source.is_local())
}

fn no_classes() -> Error {
    Error::Usage { what: "rows have classes only where there is a tokenizer".to_owned() }
}
