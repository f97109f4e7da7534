//! The names of a checkpoint that may be the head's or the input embedding's, and how well each fits.

use super::config::Config;
use super::names::{self, Denied, Kind};
use crate::checkpoint::TensorRecord;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// What a matrix is to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The output head: one row per token that the model can predict.
    Unembedding,
    /// The input embedding.
    Embedding,
    /// A tensor that the user named.
    Tensor,
}

/// A name that looks like a head's or an input embedding's, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The name: a module's, where several tensors make one matrix.
    pub name: String,
    /// What it looks like.
    pub role: Role,
    /// Why it is not that; `null` for the one that is.
    pub excluded_by: Option<String>,
}

/// The names in a checkpoint that matter for the decision.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub(super) heads: Vec<Candidate>,
    pub(super) embeddings: Vec<Candidate>,
    /// Parts that make a head or an embedding longer than its first tensor.
    pub(super) extensions: Vec<String>,
    /// What looks like either and is none: by length, then by name.
    pub(super) decoys: BTreeSet<(usize, String, bool, Denied)>,
    /// Names that looked like something and are not kept.
    left_out: u64,
    /// Heads of other tasks.
    pub(super) others: BTreeSet<String>,
    /// Whether parts of a head are stored that are not its matrix, such as its bias: the matrix is
    /// then somewhere.
    pub(super) rest_of_head: bool,
    /// Tensors that are nearly a head, or parts of one, under names that are on no list: some of them.
    pub(super) unread: BTreeSet<String>,
    /// Whether rows of the head count a reduced vocabulary, as in EAGLE-3 drafts.
    pub(super) reduced: bool,
    /// Whether the model speaks in codes of sounds, so that no row is a token of text.
    pub(super) codes: bool,
    pub(super) total: usize,
}

/// A module whose name says that it may be what is looked for.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) stem: String,
    pub(super) rank: usize,
    pub(super) certain: bool,
    pub(super) parts: Vec<String>,
}

/// How the tokens of a candidate lie in its tensors.
enum Packing<'c> {
    /// Each is a row.
    Rows,
    /// Each is a column, of the scales in this tensor too.
    Columns(&'c str),
    /// They lie in one run, whatever its sides are.
    Flat,
}

impl Candidate {
    fn packing(&self) -> Packing<'_> {
        let part = |end: &str| self.parts.iter().find(|part| names::split(part).1 == end);
        if self.parts.iter().any(|part| names::split(part).1.starts_with(".weight.quant_state.")) {
            return Packing::Flat;
        }
        match (part(".qweight"), part(".weight"), part(".scales")) {
            (Some(_), None, Some(scales)) => Packing::Columns(scales),
            _ => Packing::Rows,
        }
    }
}

/// Candidates kept. Each may lie in a shard of its own whose header is then read, and no model has
/// more than a few.
const CANDIDATES: usize = 32;

/// Names kept of what looks like a candidate and is none.
const DECOYS: usize = 16;

/// Names kept of heads of other tasks, for messages.
const OTHERS: usize = 3;

impl Names {
    /// Sorts out the names of all tensors.
    pub fn collect<'a>(all: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        let (mut heads, mut embeddings) = (Modules::new(), Modules::new());
        for name in all {
            found.total += 1;
            let (stem, _) = names::split(name);
            match names::kind(name, stem) {
                Some(Kind::Head { rank, certain }) => {
                    push(&mut heads, stem, rank, certain, name);
                }
                Some(Kind::Embedding { rank }) => {
                    push(&mut embeddings, stem, rank, true, name);
                }
                Some(Kind::Decoy { head, denied }) => found.decoy(name, stem, head, denied),
                None => {
                    found.note(name, stem);
                }
            }
        }
        found.left_out += (heads.len().saturating_sub(CANDIDATES)
            + embeddings.len().saturating_sub(CANDIDATES)) as u64;
        (found.heads, found.embeddings) = (best(heads), best(embeddings));
        found
    }

    fn decoy(&mut self, name: &str, stem: &str, head: bool, denied: Denied) {
        match denied {
            Denied::Part => self.rest_of_head = true,
            Denied::Task => {
                self.codes |= stem.split('.').any(|part| part == "codebooks_head");
                keep_first(&mut self.others, name.to_owned(), OTHERS);
            }
            // An extension's own name is on no list: its module's is.
            Denied::Unknown if !self.note(name, stem) && names::may_be_head(name, stem) => {
                keep_first(&mut self.unread, name.to_owned(), OTHERS);
            }
            _ => {}
        }
        if self.extensions.last().is_none_or(|extension| extension != name) {
            let decoy = (name.len(), name.to_owned(), head, denied);
            self.left_out += u64::from(!keep_first(&mut self.decoys, decoy, DECOYS));
        }
    }

    /// Takes note of what belongs to a head or an embedding by its last part; whether it does.
    fn note(&mut self, name: &str, stem: &str) -> bool {
        match stem.rsplit('.').next().unwrap_or(stem) {
            "additional_fc" | "additional_embedding" | "new_embedding"
                if self.extensions.len() < CANDIDATES =>
            {
                self.extensions.push(name.to_owned());
            }
            // A draft that comes with a model has these inside of a module of its own.
            "d2t" | "t2d" if !stem.trim_start_matches("model.").contains('.') => {
                self.reduced = true
            }
            _ => return false,
        }
        true
    }

    /// The tensor that makes every row of a MobileBERT's head longer. It is stored by columns.
    pub(super) fn further_columns(&self) -> Option<&str> {
        let mut names = self.decoys.iter().map(|(_, name, ..)| name.as_str());
        names.find(|name| *name == "cls.predictions.dense.weight")
    }

    /// The vector that is added to a head's scores.
    pub(super) fn bias_of(&self, stem: &str) -> Option<&str> {
        let bias = format!("{stem}.bias");
        let mut names = self.decoys.iter().map(|(_, name, ..)| name.as_str());
        names.find(|name| *name == bias)
    }

    /// The tensors whose records [`locate`](super::locate()) needs for this role.
    pub fn wanted(&self, role: Role) -> Vec<&str> {
        let mut wanted: Vec<&str> = Vec::new();
        let sure = self.heads.iter().any(|c| c.certain);
        if role == Role::Unembedding || !sure {
            wanted.extend(self.heads.iter().flat_map(|c| c.parts.iter().map(String::as_str)));
        }
        if role == Role::Embedding || !sure {
            let best = self.embeddings.first();
            wanted.extend(best.into_iter().flat_map(|c| c.parts.iter().map(String::as_str)));
        }
        wanted
    }

    /// What came of every name that looks like a head's or an input embedding's, the best first,
    /// and how many there are beside these. `record` is as for [`locate`](super::locate()).
    pub fn verdicts<'a>(
        &self,
        config: &Config,
        record: &dyn Fn(&str) -> Option<&'a TensorRecord>,
    ) -> (Vec<Considered>, u64) {
        let mut verdicts = Vec::new();
        let mut winner: Option<&str> = None;
        for Weighed { candidate, fit, rows, .. } in weigh(self, config, record) {
            let excluded_by = match (rows, winner) {
                _ if !candidate.certain && fit == Fit::No => Some(match rows {
                    Some(rows) => format!("its {rows} rows do not fit the vocabulary"),
                    None => "it has no rows that could be held against the vocabulary".to_owned(),
                }),
                (_, Some(winner)) => Some(format!("{winner} goes before it")),
                _ => None,
            };
            if excluded_by.is_none() {
                winner = Some(&candidate.stem);
            }
            let name = candidate.stem.clone();
            verdicts.push(Considered { name, role: Role::Unembedding, excluded_by });
        }
        for (at, candidate) in self.embeddings.iter().enumerate() {
            let excluded_by =
                (at > 0).then(|| format!("{} goes before it", self.embeddings[0].stem));
            let name = candidate.stem.clone();
            verdicts.push(Considered { name, role: Role::Embedding, excluded_by });
        }
        verdicts.extend(self.decoys.iter().map(|(_, name, head, denied)| Considered {
            name: name.clone(),
            role: if *head { Role::Unembedding } else { Role::Embedding },
            excluded_by: Some(denied.why().to_owned()),
        }));
        (verdicts, self.left_out)
    }
}

/// Keeps the first so many of a growing set; `false` if one had to go.
fn keep_first<T: Ord>(set: &mut BTreeSet<T>, item: T, most: usize) -> bool {
    !set.insert(item) || set.len() <= most || set.pop_last().is_none()
}

/// Candidates by their stems.
type Modules = HashMap<String, Candidate>;

fn push(found: &mut Modules, stem: &str, rank: usize, certain: bool, name: &str) {
    match found.get_mut(stem) {
        Some(candidate) => candidate.parts.push(name.to_owned()),
        None => {
            let parts = vec![name.to_owned()];
            let candidate = Candidate { stem: stem.to_owned(), rank, certain, parts };
            found.insert(stem.to_owned(), candidate);
        }
    }
}

/// The candidates in the order of their rank: of many, those that could be chosen.
fn best(found: Modules) -> Vec<Candidate> {
    let mut list: Vec<Candidate> = found.into_values().collect();
    list.sort_by(|a, b| (a.rank, a.stem.len(), &a.stem).cmp(&(b.rank, b.stem.len(), &b.stem)));
    list.truncate(CANDIDATES);
    list
}

/// How well the rows of a head fit the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Exact,
    /// By padding or trimming.
    Near,
    No,
}

/// A head, with what its shape says.
#[derive(Clone, Copy)]
pub(super) struct Weighed<'n> {
    pub(super) fit: Fit,
    pub(super) candidate: &'n Candidate,
    /// `None` where the sides of its tensors do not tell.
    pub(super) rows: Option<u64>,
    /// Whether it has as many columns as the vocabulary has entries, and another number of rows.
    pub(super) transposed: bool,
}

impl Weighed<'_> {
    /// What decides between two; equal for two that nothing tells apart.
    pub(super) fn order(&self) -> (bool, Fit, usize, usize) {
        let out = !self.candidate.certain && self.fit == Fit::No;
        (out, self.fit, self.candidate.rank, self.candidate.stem.len())
    }
}

/// The heads, best first; last those whose names are shared with other things and whose rows do not
/// fit.
pub(super) fn weigh<'n, 'a>(
    names: &'n Names,
    config: &Config,
    record: &dyn Fn(&str) -> Option<&'a TensorRecord>,
) -> Vec<Weighed<'n>> {
    let sides = |candidate: &Candidate| match candidate.packing() {
        Packing::Rows => {
            let parts =
                candidate.parts.iter().filter(|part| names::holds_rows(names::split(part).1));
            let shapes = parts.filter_map(|part| record(part));
            shapes.map(|record| record.shape.as_slice()).find_map(|shape| shape.try_into().ok())
        }
        // Scales have a column for each token.
        Packing::Columns(scales) => {
            let shape: [u64; 2] = record(scales)?.shape.as_slice().try_into().ok()?;
            Some([shape[1], shape[0]])
        }
        Packing::Flat => None,
    };
    let mut sizes = config.vocabulary();
    sizes.extend(names.embeddings.first().and_then(sides).map(|[rows, _]| rows));
    let weighed = |candidate: &'n Candidate| {
        let sides: Option<[u64; 2]> = sides(candidate);
        let rows = sides.map(|[rows, _]| rows);
        let fit = match rows {
            Some(rows) if sizes.contains(&rows) => Fit::Exact,
            Some(rows) if sizes.iter().any(|&v| near(rows, v)) => Fit::Near,
            // Codes in one run: what is packed so is no classifier.
            None if matches!(candidate.packing(), Packing::Flat) => Fit::Near,
            _ => Fit::No,
        };
        let plain = matches!(candidate.packing(), Packing::Rows);
        let transposed =
            plain && fit == Fit::No && sides.is_some_and(|[_, columns]| sizes.contains(&columns));
        Weighed { fit, candidate, rows, transposed }
    };
    let mut heads: Vec<Weighed<'n>> = names.heads.iter().map(weighed).collect();
    heads.sort_by_key(Weighed::order);
    heads
}

/// Whether a head of so many rows may belong to a vocabulary of that size: padded by up to a few
/// thousand rows, or without some of the added tokens, and never by more than the half.
fn near(rows: u64, vocabulary: u64) -> bool {
    let padded = rows.saturating_sub(vocabulary);
    let missing = vocabulary.saturating_sub(rows);
    padded <= 4096.min(vocabulary) && missing <= 512.min(vocabulary / 2)
}
