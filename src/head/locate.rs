//! The decision which tensor is read, with its reasons kept for the report.
//!
//! Comes in: the names of all tensors, the configuration, and the records of those few tensors
//! that [`Names::wanted`] names. Nothing is read here.

use super::candidates::{Candidate, Fit, Names, Role, Weighed, weigh};
use super::config::Config;
use super::names;
use crate::checkpoint::TensorRecord;
use crate::error::{Error, Result};
use crate::quote;

/// A tensor that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What it is to the model.
    pub role: Role,
    /// Its name.
    pub tensor: String,
    /// Tensors that hold further rows, in order: the matrix goes on in them.
    pub more: Vec<String>,
    /// Other tensors of the same module: scales, codes, and the like.
    pub companions: Vec<String>,
    /// Whether head and input embedding are one; `None` where nothing says.
    pub tied: Option<bool>,
    /// Why this tensor.
    pub reason: String,
    /// The input embedding that a flag says is the same as this stored head. Only rows can tell.
    pub twin: Option<Box<Located>>,
}

impl Located {
    /// A tensor that the user named.
    pub fn named(tensor: &str) -> Self {
        Self {
            role: Role::Tensor,
            tensor: tensor.to_owned(),
            more: Vec::new(),
            companions: Vec::new(),
            tied: None,
            reason: "it was named".to_owned(),
            twin: None,
        }
    }

    /// The module that the tensor is of.
    pub fn module(&self) -> &str {
        names::split(&self.tensor).0
    }

    /// Takes in tensors of its module whose names are on no list: where it is quantised, they may
    /// decide what a row stands for.
    pub fn adopt<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let (module, known) = (self.module().to_owned(), self.parts());
        let own = |name: &&str| {
            let part = name.strip_prefix(&module).and_then(|part| {
                part.strip_prefix(names::WRAPPED).unwrap_or(part).strip_prefix('.')
            });
            let part = part.unwrap_or("bias");
            let inner = part.contains('.') && !part.starts_with("weight");
            !inner && part != "bias" && !known.contains(name)
        };
        let strange: Vec<String> = names.filter(own).map(str::to_owned).collect();
        self.companions.extend(strange);
    }

    /// All tensors whose records are needed.
    pub fn parts(&self) -> Vec<&str> {
        let rows = [&self.tensor].into_iter().chain(&self.more);
        let own = rows.chain(&self.companions).map(String::as_str);
        own.chain(self.twin.iter().flat_map(|twin| twin.parts())).collect()
    }
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
    match (role, head) {
        // Of tensors that are one any of their names may be the stored one.
        (Role::Embedding, Some(head)) if names.embeddings.is_empty() && says_tied(config) => {
            let head = head.candidate;
            let reason = format!("{} is stored, and the configuration ties the two", head.stem);
            head.located(role, names, Some(true), reason)
        }
        (Role::Embedding, head) => {
            let best = names.embeddings.first();
            let best = best.ok_or_else(|| none(what_there_is(names, "no input embedding")))?;
            let flag = config.effective_tie();
            let tied = if head.is_some() { Some(false) } else { flag.map(|flag| flag.tied) };
            best.located(role, names, tied, "the input embedding was asked for".to_owned())
        }
        (_, Some(head)) => stored_head(head, names, config, &none),
        (_, None) => no_head(names, config, &none),
    }
}

/// A head is stored: it is the unembedding, whatever a flag says.
fn stored_head(
    head: Weighed<'_>,
    names: &Names,
    config: &Config,
    none: &dyn Fn(String) -> Error,
) -> Result<Located> {
    let Weighed { candidate: head, fit, rows, transposed } = head;
    if names.codes {
        let what = format!("the rows of {} are codes of sounds; no head of texts", head.stem);
        return Err(none(what_there_is(names, &what)));
    }
    if names.reduced {
        let why = "it is a draft's head over a reduced vocabulary, whose rows are no token ids";
        return Err(Error::Unreadable { tensor: head.stem.clone(), why: why.to_owned() });
    }
    if transposed {
        let why =
            "it has as many columns as the vocabulary has entries, so that its rows are no tokens";
        return Err(Error::Unreadable { tensor: head.stem.clone(), why: why.to_owned() });
    }
    let size = config.vocabulary().first().copied();
    if let (Fit::No, Some(rows), Some(size)) = (fit, rows, size)
        && rows < size / 2
    {
        return Err(none(format!(
            "{} has {rows} rows, which are no vocabulary of {size}, but the classes of another task",
            head.stem
        )));
    }
    let mut reason = format!("{} is stored", head.stem);
    if let Some(class) = config.architectures().find(|class| has_no_head(class)) {
        reason += &format!(", for which {class} has no use");
    }
    // Its name is certain, and yet a reader should know: aligners keep a classifier under it.
    if let (Fit::No, Some(rows), Some(size)) = (fit, rows, size) {
        reason += &format!(", though its {rows} rows do not fit a vocabulary of {size}");
    }
    let flag = config.effective_tie().filter(|flag| flag.tied);
    let further = names.further_columns().map_or_else(String::new, |name| {
        format!("; {name} holds further columns of its rows, which are not read")
    });
    let bias = names.bias_of(&head.stem).map_or_else(String::new, |name| {
        format!("; {name} is added to the scores of its rows, and not compared")
    });
    let beside = further + &bias;
    let Some(twin) = names.embeddings.first() else {
        let tied = flag.is_some();
        return head.located(Role::Unembedding, names, Some(tied), reason + &beside);
    };
    if let Some(flag) = &flag {
        reason += &format!(", which counts for more than {} = true", flag.source);
    }
    let mut located = head.located(Role::Unembedding, names, Some(false), reason + &beside)?;
    if flag.is_some() {
        let twin = twin.located(Role::Embedding, names, None, String::new()).ok();
        // Rows that go on in other tensors have no single tensor to be held against.
        let single = |twin: &Located| located.more.is_empty() && twin.more.is_empty();
        located.twin = twin.filter(single).map(Box::new);
    }
    Ok(located)
}

fn says_tied(config: &Config) -> bool {
    config.effective_tie().is_some_and(|flag| flag.tied)
}

/// No head is stored: the input embedding is the unembedding, unless something says otherwise.
fn no_head(names: &Names, config: &Config, none: &dyn Fn(String) -> Error) -> Result<Located> {
    // What may be a head is no reason to read another matrix in its place.
    if let Some(part) = names.unread.first() {
        return Err(match names::head_around(part) {
            Some(head) => {
                let why = rowless(names.unread.iter());
                Error::Unreadable { tensor: head.to_owned(), why }
            }
            None => {
                let parts: Vec<&str> = names.unread.iter().map(String::as_str).collect();
                let parts = parts.join(", ");
                none(format!("no head is stored under a known name, and {parts} may be one"))
            }
        });
    }
    let mut misfits = names.heads.iter().map(|head| (head.rank, &head.stem));
    if let Some((_, stem)) = misfits.clone().find(|(rank, _)| names::OUTPUTS.contains(rank)) {
        let why = "its sides are not those of a table of this vocabulary".to_owned();
        return Err(Error::Unreadable { tensor: stem.clone(), why });
    }
    let lacks = match misfits.next() {
        None => "no head is stored".to_owned(),
        Some((_, stem)) => format!("no head is stored ({stem} does not fit the vocabulary)"),
    };
    let Some(embedding) = names.embeddings.first() else {
        return Err(none(what_there_is(names, "no head and no input embedding")));
    };
    let instead =
        format!("the input embedding {} can be read with --matrix embedding", embedding.stem);
    // Where the rest of a language model's head is there, another task's stands beside it.
    if !names.others.is_empty() && !names.rest_of_head {
        let what = what_there_is(names, &lacks);
        return Err(none(format!("{what}; {instead}")));
    }
    // Of a GGUF file the names decide, as they do for llama.cpp, whatever lies beside it.
    let gguf = embedding.stem == "token_embd";
    if let Some(name) = config.architectures().find(|name| has_no_head(name) && !gguf) {
        return Err(none(format!("{lacks}, and {name} needs none; {instead}")));
    }
    let flag = config.effective_tie();
    // Levels that contradict each other: a head that is not tied would be stored.
    let other = config.text_flags().into_iter().find(|flag| flag.tied);
    let (tied, reason) = match (flag, other) {
        (_, _) if gguf => {
            (Some(true), "no output.weight is stored, which ties it to token_embd".to_owned())
        }
        (Some(flag), _) if flag.tied => {
            let says = match flag.source.starts_with("the ") {
                true => format!("ties by {}", flag.source),
                false => format!("has {} = true", flag.source),
            };
            (Some(true), format!("{lacks}, and the configuration {says}"))
        }
        (Some(flag), Some(other)) => {
            let why = format!(
                "{lacks}, and the configuration has {} = true, though {} = false",
                other.source, flag.source
            );
            (Some(true), why)
        }
        (Some(flag), None) => {
            return Err(none(format!(
                "{lacks}, though {} = false says it is not tied; {instead}",
                flag.source
            )));
        }
        (None, _) if names::is_encoder(&embedding.stem) => {
            return Err(none(format!("{lacks}, and no decoder has a table; {instead}")));
        }
        (None, _) => {
            let why = format!(
                "{lacks}, and nothing says whether it is tied: the input embedding is taken to be both"
            );
            (None, why)
        }
    };
    let columns = names.further_columns().map_or_else(String::new, |name| {
        format!("; {name} holds further columns of the head's rows, which are not read")
    });
    embedding.located(Role::Unembedding, names, tied, reason + &columns)
}

/// The best head whose shape, where it is known, agrees with the vocabulary.
fn best_head<'n, 'a>(
    names: &'n Names,
    config: &Config,
    record: &dyn Fn(&str) -> Option<&'a TensorRecord>,
) -> Result<Option<Weighed<'n>>, String> {
    let mut heads = weigh(names, config, record);
    heads.retain(|head| head.candidate.certain || head.fit < Fit::No);
    if let [a, b, ..] = heads[..]
        && a.order() == b.order()
    {
        return Err(format!(
            "{} and {} could both be the head; name one with --tensor",
            a.candidate.stem, b.candidate.stem
        ));
    }
    Ok(heads.first().copied())
}

/// Whether the class is one of those that predict no tokens: classifiers, reward models, and bare
/// encoders. A bare decoder's name proves nothing; language models are published under such.
fn has_no_head(class: &str) -> bool {
    let task = [
        "Classification",
        "RewardModel",
        "QuestionAnswering",
        "MultipleChoice",
        "NextSentencePrediction",
        "ForRetrieval",
        "ColBERT",
    ];
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
        "Esm",
        "Longformer",
        "CLIP",
        "CLIPText",
        "Siglip",
        "SiglipText",
        "Clap",
        "ClapText",
        "XLMRobertaLoRA",
        "NVEmbed",
        "LlamaBi",
        "New",
    ];
    let bare = class.strip_suffix("Model").unwrap_or(class);
    task.iter().any(|task| class.contains(task))
        || class.ends_with("EncoderModel")
        || encoders.contains(&bare.trim_end_matches("V2"))
}

/// Why parts of a module hold no rows.
fn rowless<'a>(parts: impl Iterator<Item = &'a String> + Clone) -> String {
    let ends = |part: &String| names::ROWLESS.iter().find(|(end, _)| part.ends_with(end));
    match parts.clone().find_map(ends) {
        Some((_, scheme)) => format!("it is stored by {scheme}, whose codes are not its rows"),
        None => {
            let parts: Vec<String> = parts.map(|part| quote::name(part)).collect();
            format!("none of its parts is known to hold its rows ({})", parts.join(", "))
        }
    }
}

/// A message on what a checkpoint without a head has instead.
fn what_there_is(names: &Names, lacks: &str) -> String {
    if !names.others.is_empty() {
        let others: Vec<&str> = names.others.iter().map(String::as_str).collect();
        return format!("{lacks}, but {}", others.join(", "));
    }
    match names.decoys.iter().find(|(_, _, head, _)| *head) {
        None => format!("{lacks} is among its {} tensors", names.total),
        Some((_, name, _, denied)) => {
            format!(
                "{lacks} is among its {} tensors; {name} is none: {}",
                names.total,
                denied.why()
            )
        }
    }
}

impl Candidate {
    /// The choice of this candidate, with the tensors that its rows go on in.
    fn located(
        &self,
        role: Role,
        names: &Names,
        tied: Option<bool>,
        reason: String,
    ) -> Result<Located> {
        let plain = |part: &&String| matches!(names::split(part).1, "" | ".weight");
        // Of a quantised module, the codes.
        let codes = |part: &&String| {
            let part = names::split(part).1;
            names::holds_rows(part) || part == ".qweight"
        };
        let find = self.parts.iter().find(plain).or_else(|| self.parts.iter().find(codes));
        let Some(tensor) = find.cloned() else {
            let own = |part: &&String| names::head_around(part) == Some(&self.stem);
            let unread = names.unread.iter().filter(own);
            let why = rowless(self.parts.iter().chain(unread));
            return Err(Error::Unreadable { tensor: self.stem.clone(), why });
        };
        let companions = self.parts.iter().filter(|part| **part != tensor).cloned().collect();
        // The extension of `a.b` is `a.b.additional_fc`, that of `a.embedding` is
        // `a.new_embedding`. Ids past the first part's rows are the second's, in these families.
        let parent = self.stem.rsplit_once('.').map_or("", |(parent, _)| parent);
        let extends = |extension: &&String| {
            let stem = names::split(extension).0;
            stem.rsplit_once('.').is_some_and(|(of, last)| {
                of == self.stem || (last == "new_embedding" && of == parent)
            })
        };
        let more: Vec<String> = names.extensions.iter().filter(extends).cloned().collect();
        let uncertain = match more.as_slice() {
            [] => None,
            [one] if role == Role::Unembedding && one.contains("new_embedding") => {
                Some(format!("nothing says whether the rows of {one} are of the head too"))
            }
            [_] => None,
            [one, two, ..] => Some(format!("its rows go on in both {one} and {two}")),
        };
        if let Some(why) = uncertain {
            return Err(Error::Unreadable { tensor, why });
        }
        Ok(Located { role, tensor, more, companions, tied, reason, twin: None })
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
    fn what_may_be_a_head_is_never_passed_over_for_the_embedding() {
        let config = r#"{"tie_word_embeddings":true,"vocab_size":100}"#;
        let of = |names: &[(&str, &[u64])]| decide(names, config, Role::Unembedding);
        // Wrapped models are the models they were.
        for wrapper in ["module", "_orig_mod", "base_model.model", "module._fsdp_wrapped_module"] {
            let (head, embedding) = (
                format!("{wrapper}.lm_head.weight"),
                format!("{wrapper}.model.embed_tokens.weight"),
            );
            let found = of(&[(&head, &[100, 8]), (&embedding, &[100, 8])]).unwrap();
            assert_eq!((found.tensor, found.tied), (head, Some(false)));
            assert_eq!(of(&[(&embedding, &[100, 8])]).unwrap().tied, Some(true));
        }
        // Schemes without rows, by name; and what is on no list.
        for (part, says) in [
            ("lm_head.trellis", "EXL3"),
            ("lm_head.q_weight", "EXL2"),
            ("lm_head.indices", "VPTQ"),
            ("lm_head.Qidxs", "QuIP#"),
            ("lm_head.B", "Marlin"),
            ("lm_head.bitmask", "sparse"),
            ("lm_head.W_q", "HQQ"),
            ("lm_head.codes", "AQLM"),
            ("lm_head.weight_scale", "none of its parts"),
            ("lm_head.original_module.weight", "none of its parts"),
            ("inner.lm_head.weight", "inner.lm_head.weight"),
            ("output.weight", "its sides"),
        ] {
            let refused = of(&[EMBED, (part, &[7, 8])]).unwrap_err().to_string();
            assert!(refused.contains(says), "{part}: {refused}");
        }
        // A head of few rows, and one that lies on its side.
        let refused = |shape| of(&[EMBED, ("lm_head.weight", shape)]).unwrap_err().to_string();
        assert!(refused(&[2, 8]).contains("another task"));
        assert!(refused(&[8, 100]).contains("columns"));
        let odd: (&str, &[u64]) = ("head.weight", &[7, 8]);
        assert!(of(&[EMBED, odd]).unwrap().reason.contains("head does not fit"));
    }

    #[test]
    fn a_packed_head_is_measured_by_its_tokens() {
        let config = r#"{"vocab_size":100}"#;
        let gptq: [(&str, &[u64]); 4] = [
            EMBED,
            ("output.qweight", &[1, 100]),
            ("output.scales", &[1, 100]),
            ("output.qzeros", &[1, 13]),
        ];
        let four_bits: [(&str, &[u64]); 3] = [
            EMBED,
            ("output.weight", &[400, 1]),
            ("output.weight.quant_state.bitsandbytes__nf4", &[90]),
        ];
        for names in [&gptq[..], &four_bits] {
            let found = decide(names, config, Role::Unembedding).unwrap();
            assert_eq!((found.module(), found.reason.as_str()), ("output", "output is stored"));
        }
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
    fn a_matrix_may_go_on_in_another_tensor() {
        let more: (&str, &[u64]) = ("lm_head.additional_fc.weight", &[2, 8]);
        let found = decide(&[EMBED, HEAD, more], "{}", Role::Unembedding).unwrap();
        assert_eq!((found.tensor.as_str(), &found.more[..]), (HEAD.0, &[more.0.to_owned()][..]));
        let first: (&str, &[u64]) = ("model.transformer.wte.embedding", &[90, 8]);
        let second: (&str, &[u64]) = ("model.transformer.wte.new_embedding", &[10, 8]);
        let found = decide(&[first, second], "{}", Role::Embedding).unwrap();
        assert_eq!((found.tensor.as_str(), &found.more[..]), (first.0, &[second.0.to_owned()][..]));
        // As a head its extent is not known.
        assert!(decide(&[first, second], "{}", Role::Unembedding).is_err());
    }

    #[test]
    fn the_embedding_is_read_when_it_is_asked_for() {
        let found = decide(&[EMBED, HEAD], "{}", Role::Embedding).unwrap();
        assert_eq!((found.tensor.as_str(), found.tied), (EMBED.0, Some(false)));
    }

    #[test]
    fn of_two_that_are_one_the_head_may_be_the_one_that_is_stored() {
        for role in [Role::Unembedding, Role::Embedding] {
            let found = decide(&[HEAD], r#"{"tie_word_embeddings":true}"#, role).unwrap();
            assert_eq!((found.tensor.as_str(), found.tied), (HEAD.0, Some(true)));
        }
        assert!(decide(&[HEAD], r#"{"tie_word_embeddings":false}"#, Role::Embedding).is_err());
    }

    #[test]
    fn where_levels_contradict_each_other_a_missing_head_is_tied() {
        let config = r#"{"tie_word_embeddings":true,"text_config":{"tie_word_embeddings":false}}"#;
        let found = decide(&[EMBED], config, Role::Unembedding).unwrap();
        assert_eq!(found.tied, Some(true));
        assert!(found.reason.contains("though text_config.tie_word_embeddings = false"));
    }

    #[test]
    fn what_a_reader_should_know_of_a_head_is_in_its_reason() {
        let of = |names: &[(&str, &[u64])], config: &str| {
            decide(names, config, Role::Unembedding).unwrap().reason
        };
        let odd = of(&[HEAD], r#"{"vocab_size":40}"#);
        assert!(odd.contains("100 rows do not fit a vocabulary of 40"), "{odd}");
        assert_eq!(of(&[HEAD], r#"{"vocab_size":100}"#), "lm_head is stored");
        assert_eq!(of(&[HEAD], "{}"), "lm_head is stored");
        // MobileBERT's head is as wide as two tensors, the second of them transposed.
        let table: (&str, &[u64]) = ("mobilebert.embeddings.word_embeddings.weight", &[100, 8]);
        let head: (&str, &[u64]) = ("cls.predictions.decoder.weight", &[100, 8]);
        let more: (&str, &[u64]) = ("cls.predictions.dense.weight", &[24, 100]);
        let wide = of(&[table, head, more], r#"{"tie_word_embeddings":false}"#);
        assert!(wide.contains("cls.predictions.dense.weight holds further columns"), "{wide}");
        let tied = of(&[table, more], r#"{"tie_word_embeddings":true}"#);
        assert!(tied.contains("holds further columns"), "{tied}");
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
