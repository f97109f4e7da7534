//! The decision which tensor is read, with its reasons kept for the report.
//!
//! Comes in: the names of all tensors, the configuration, and the records of those few tensors
//! that [`Names::wanted`] names. Nothing is read here.

use super::config::Config;
use super::names::{self, Kind};
use crate::checkpoint::TensorRecord;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

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

/// A tensor that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What it is to the model.
    pub role: Role,
    /// Its name.
    pub tensor: String,
    /// Other tensors of the same module: scales, codes, and the like.
    pub companions: Vec<String>,
    /// Whether head and input embedding are one; `None` where nothing says.
    pub tied: Option<bool>,
    /// Why this tensor.
    pub reason: String,
}

/// The names in a checkpoint that matter for the decision.
#[derive(Debug, Clone, Default)]
pub struct Names {
    heads: Vec<Candidate>,
    embeddings: Vec<Candidate>,
    /// Parts that make a head or an embedding longer than its first tensor.
    extensions: Vec<String>,
    /// Heads of other tasks.
    others: Vec<String>,
    /// Whether rows of the head count a reduced vocabulary, as in EAGLE-3 drafts.
    reduced: bool,
    total: usize,
}

/// A module whose name says that it may be what is looked for.
#[derive(Debug, Clone)]
struct Candidate {
    stem: String,
    rank: usize,
    certain: bool,
    parts: Vec<String>,
}

/// Candidates kept. Each may lie in a shard of its own whose header is then read, and no model has
/// more than a few.
const CANDIDATES: usize = 32;

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
                None => found.note(name, stem),
            }
        }
        (found.heads, found.embeddings) = (best(heads), best(embeddings));
        found
    }

    fn note(&mut self, name: &str, stem: &str) {
        let last = stem.rsplit('.').next().unwrap_or(stem);
        match last {
            "additional_fc" | "additional_embedding" | "new_embedding" => {
                self.extensions.push(name.to_owned());
            }
            "score" | "classifier" | "v_head" | "rm_head" | "summary" | "codec_head"
            | "qa_outputs" | "lm_heads" | "codebooks_head"
                if self.others.len() < OTHERS =>
            {
                self.others.push(name.to_owned());
            }
            "d2t" | "t2d" => self.reduced = true,
            _ if stem.contains("lm_heads.") && self.others.len() < OTHERS => {
                self.others.push(name.to_owned());
            }
            _ => {}
        }
    }

    /// The tensors whose records [`locate`] needs for this role.
    pub fn wanted(&self, role: Role) -> Vec<&str> {
        let mut wanted: Vec<&str> = Vec::new();
        if role == Role::Unembedding {
            wanted.extend(self.heads.iter().flat_map(|c| c.parts.iter().map(String::as_str)));
        }
        let sure = self.heads.iter().any(|c| c.certain);
        if role == Role::Embedding || !sure {
            let best = self.embeddings.first();
            wanted.extend(best.into_iter().flat_map(|c| c.parts.iter().map(String::as_str)));
        }
        wanted
    }
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

/// Decides which tensor plays `role`. `record` looks up the tensors that [`Names::wanted`] named;
/// `model` is for messages.
pub fn locate<'a>(
    role: Role,
    names: &Names,
    config: &Config,
    record: &dyn Fn(&str) -> Option<&'a TensorRecord>,
    model: &str,
) -> Result<Located> {
    let none = |why: String| Error::NoUnembedding { model: model.to_owned(), why };
    let head = best_head(names, config, record).map_err(none)?;
    let flag = config.effective_tie();
    match (role, head) {
        (Role::Embedding, head) => {
            let best = names.embeddings.first();
            let best = best.ok_or_else(|| none(what_there_is(names, "no input embedding")))?;
            let tied = if head.is_some() { Some(false) } else { flag.map(|flag| flag.tied) };
            let reason = "the input embedding was asked for".to_owned();
            best.located(role, names, tied, reason)
        }
        (_, Some(head)) => {
            let mut reason = format!("{} is stored", head.stem);
            if let Some(flag) = flag.filter(|flag| flag.tied) {
                reason += &format!(", which counts for more than {} = true", flag.source);
            }
            if names.reduced {
                let why = format!(
                    "{} is a draft's head over a reduced vocabulary, whose rows are no token ids",
                    head.stem
                );
                return Err(Error::Unreadable { tensor: head.stem.clone(), why });
            }
            head.located(role, names, Some(false), reason)
        }
        (_, None) => {
            let other_task = config.architectures().find(|name| has_no_head(name));
            let Some(embedding) = names.embeddings.first() else {
                return Err(none(what_there_is(names, "no head and no input embedding")));
            };
            let instead = format!(
                "the input embedding {} can be read with --matrix embedding",
                embedding.stem
            );
            if !names.others.is_empty() {
                let what = what_there_is(names, "no head is stored");
                return Err(none(format!("{what}; {instead}")));
            }
            if let Some(name) = other_task {
                return Err(none(format!("no head is stored, and {name} needs none; {instead}")));
            }
            let (tied, reason) = match flag {
                Some(flag) if flag.tied => {
                    let says = match flag.source.starts_with("the default") {
                        true => format!("ties by {}", flag.source),
                        false => format!("has {} = true", flag.source),
                    };
                    (Some(true), format!("no head is stored, and the configuration {says}"))
                }
                Some(flag) => {
                    return Err(none(format!(
                        "no head is stored, though {} = false says it is not tied; {instead}",
                        flag.source
                    )));
                }
                None => {
                    let why = "no head is stored, and nothing says whether it is tied: the input \
                               embedding is taken to be both";
                    (None, why.to_owned())
                }
            };
            embedding.located(Role::Unembedding, names, tied, reason)
        }
    }
}

/// The best head whose shape, where it is known, agrees with the vocabulary.
fn best_head<'n, 'a>(
    names: &'n Names,
    config: &Config,
    record: &dyn Fn(&str) -> Option<&'a TensorRecord>,
) -> Result<Option<&'n Candidate>, String> {
    let rows = |candidate: &Candidate| {
        let sides = |part: &String| record(part).map(|record| record.shape.clone());
        candidate.parts.iter().filter_map(sides).find(|shape| shape.len() == 2).map(|s| s[0])
    };
    let mut sizes = config.vocabulary();
    sizes.extend(names.embeddings.first().and_then(rows));
    // How well the rows fit: exactly, by padding or trimming, or not.
    let fit = |candidate: &Candidate| match rows(candidate) {
        Some(rows) if sizes.contains(&rows) => 0,
        Some(rows) if sizes.iter().any(|&v| near(rows, v)) => 1,
        _ => 2,
    };
    let mut heads: Vec<(usize, &Candidate)> = names
        .heads
        .iter()
        .map(|candidate| (fit(candidate), candidate))
        .filter(|(fit, candidate)| candidate.certain || *fit < 2)
        .collect();
    heads.sort_by_key(|(fit, candidate)| (*fit, candidate.rank, candidate.stem.len()));
    if let [(fit, a), (other, b), ..] = heads[..]
        && (fit, a.rank, a.stem.len()) == (other, b.rank, b.stem.len())
    {
        return Err(format!(
            "{} and {} could both be the head; name one with --tensor",
            a.stem, b.stem
        ));
    }
    Ok(heads.first().map(|(_, candidate)| *candidate))
}

/// Whether the class is one of those that predict no tokens: classifiers, reward models, and bare
/// encoders. A bare decoder's name proves nothing; language models are published under such.
fn has_no_head(class: &str) -> bool {
    let task = ["Classification", "RewardModel", "QuestionAnswering", "MultipleChoice"];
    let encoders = [
        "Bert",
        "Roberta",
        "XLMRoberta",
        "Camembert",
        "DistilBert",
        "Albert",
        "Electra",
        "Deberta",
        "MPNet",
        "ModernBert",
        "NomicBert",
        "MegatronBert",
    ];
    let bare = class.strip_suffix("Model").unwrap_or_default();
    task.iter().any(|task| class.contains(task)) || encoders.contains(&bare.trim_end_matches("V2"))
}

/// Whether a head of so many rows may belong to a vocabulary of that size: padded by up to a few
/// thousand rows, or without some of the added tokens, and never by more than the half.
fn near(rows: u64, vocabulary: u64) -> bool {
    let padded = rows.saturating_sub(vocabulary);
    let missing = vocabulary.saturating_sub(rows);
    padded <= 4096.min(vocabulary) && missing <= 512.min(vocabulary / 2)
}

/// A message on what a checkpoint without a head has instead.
fn what_there_is(names: &Names, lacks: &str) -> String {
    match names.others.as_slice() {
        [] => format!("{lacks} is among its {} tensors", names.total),
        others => format!("{lacks}, but {}", others.join(", ")),
    }
}

impl Candidate {
    /// The choice of this candidate, unless its rows are spread over several tensors.
    fn located(
        &self,
        role: Role,
        names: &Names,
        tied: Option<bool>,
        reason: String,
    ) -> Result<Located> {
        // The extension of `a.b` is `a.b.additional_fc`, that of `a.embedding` is
        // `a.new_embedding`.
        let parent = self.stem.rsplit_once('.').map_or("", |(parent, _)| parent);
        let split = names.extensions.iter().find(|extension| {
            let stem = names::split(extension).0;
            stem.rsplit_once('.').is_some_and(|(of, last)| {
                of == self.stem || (last == "new_embedding" && of == parent)
            })
        });
        if let Some(extension) = split {
            let why = format!("its rows are split over it and {extension}");
            return Err(Error::Unreadable { tensor: self.parts[0].clone(), why });
        }
        let plain =
            |part: &&String| matches!(names::split(part).1, "" | ".weight" | ".base_layer.weight");
        let tensor = self.parts.iter().find(plain).unwrap_or(&self.parts[0]).clone();
        let companions = self.parts.iter().filter(|part| **part != tensor).cloned().collect();
        Ok(Located { role, tensor, companions, tied, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;

    fn decide(names: &[(&str, &[u64])], config: &str, role: Role) -> Result<Located> {
        let records: Vec<TensorRecord> = names
            .iter()
            .map(|(name, shape)| TensorRecord {
                name: (*name).to_owned(),
                dtype: Dtype::Bf16,
                shape: shape.to_vec(),
                range: 0..0,
            })
            .collect();
        let config = Config::parse(config.as_bytes()).unwrap();
        let found = Names::collect(names.iter().map(|(name, _)| *name));
        let wanted: Vec<String> = found.wanted(role).iter().map(|&n| n.to_owned()).collect();
        let record = |name: &str| {
            records.iter().find(|r| r.name == name && wanted.iter().any(|w| w == name))
        };
        locate(role, &found, &config, &record, "model")
    }

    const EMBED: (&str, &[u64]) = ("model.embed_tokens.weight", &[100, 8]);
    const HEAD: (&str, &[u64]) = ("lm_head.weight", &[100, 8]);
    const BLOCK: (&str, &[u64]) = ("model.layers.0.mlp.up_proj.weight", &[32, 8]);

    #[test]
    fn a_stored_head_beats_the_flag() {
        for flag in ["true", "false", "null"] {
            let config = format!(r#"{{"tie_word_embeddings":{flag}}}"#);
            let found = decide(&[EMBED, HEAD, BLOCK], &config, Role::Unembedding).unwrap();
            assert_eq!((found.tensor.as_str(), found.tied), ("lm_head.weight", Some(false)));
        }
    }

    #[test]
    fn without_a_head_the_flag_decides() {
        let of = |config: &str| decide(&[EMBED, BLOCK], config, Role::Unembedding);
        let tied = of(r#"{"tie_word_embeddings":true}"#).unwrap();
        assert_eq!((tied.tensor.as_str(), tied.tied), (EMBED.0, Some(true)));
        let open = of("{}").unwrap();
        assert_eq!((open.tensor.as_str(), open.tied), (EMBED.0, None));
        assert!(open.reason.contains("nothing says"));
        let refused = of(r#"{"tie_word_embeddings":false}"#).unwrap_err().to_string();
        assert!(refused.contains("--matrix embedding"), "{refused}");
    }

    #[test]
    fn a_bare_name_counts_only_where_its_rows_fit_the_vocabulary() {
        let classes: (&str, &[u64]) = ("head.weight", &[10, 8]);
        let found = decide(&[EMBED, classes], r#"{"model_type":"gpt2"}"#, Role::Unembedding);
        assert_eq!(found.unwrap().tensor, EMBED.0);
        let rows: (&str, &[u64]) = ("head.weight", &[100, 8]);
        let embed: (&str, &[u64]) = ("embed.weight", &[100, 8]);
        assert_eq!(decide(&[embed, rows], "{}", Role::Unembedding).unwrap().tensor, "head.weight");
    }

    #[test]
    fn models_of_other_tasks_are_refused_with_what_they_have() {
        let score: (&str, &[u64]) = ("score.weight", &[2, 8]);
        let config = r#"{"tie_word_embeddings":true}"#;
        let refused = decide(&[EMBED, score], config, Role::Unembedding).unwrap_err();
        assert!(refused.to_string().contains("score.weight"), "{refused}");
        let config = r#"{"architectures":["Qwen2ForSequenceClassification"]}"#;
        assert!(decide(&[EMBED], config, Role::Unembedding).is_err());
        let words: (&str, &[u64]) = ("embeddings.word_embeddings.weight", &[100, 8]);
        for (class, refused) in [("BertModel", true), ("BertForMaskedLM", false)] {
            let config = format!(r#"{{"architectures":["{class}"],"model_type":"bert"}}"#);
            let found = decide(&[words], &config, Role::Unembedding);
            assert_eq!(found.is_err(), refused, "{class}");
        }
        let bloom = r#"{"architectures":["BloomModel"],"model_type":"bloom"}"#;
        let words: (&str, &[u64]) = ("word_embeddings.weight", &[100, 8]);
        assert_eq!(decide(&[words], bloom, Role::Unembedding).unwrap().tied, Some(true));
        let codec: (&str, &[u64]) = ("encoder.conv.weight", &[2, 8, 3]);
        assert!(decide(&[codec], "{}", Role::Unembedding).is_err());
    }

    #[test]
    fn a_matrix_split_over_tensors_is_refused() {
        let more: (&str, &[u64]) = ("lm_head.additional_fc.weight", &[2, 8]);
        assert!(decide(&[EMBED, HEAD, more], "{}", Role::Unembedding).is_err());
        let first: (&str, &[u64]) = ("model.transformer.wte.embedding", &[90, 8]);
        let second: (&str, &[u64]) = ("model.transformer.wte.new_embedding", &[10, 8]);
        assert!(decide(&[first, second], "{}", Role::Embedding).is_err());
    }

    #[test]
    fn the_embedding_is_read_when_it_is_asked_for() {
        let found = decide(&[EMBED, HEAD], "{}", Role::Embedding).unwrap();
        assert_eq!((found.tensor.as_str(), found.tied), (EMBED.0, Some(false)));
    }

    #[test]
    fn the_better_fit_wins_over_the_better_rank() {
        let image: (&str, &[u64]) = ("lm_head.weight", &[16, 8]);
        let text: (&str, &[u64]) = ("language_model.lm_head.weight", &[100, 8]);
        let config = r#"{"text_config":{"vocab_size":100}}"#;
        let found = decide(&[image, text], config, Role::Unembedding).unwrap();
        assert_eq!(found.tensor, text.0);
    }
}
