//! The names under which checkpoints store their head and their input embedding, as data.
//!
//! Patterns match a whole *stem*: a tensor's name without the suffix that says which part of a
//! module it is. They were gathered from the module names of 362 classes of `transformers` 5.23
//! and from the name maps of llama.cpp, vLLM and mlx-lm; the numbered ranks order them from the
//! certain to the rare.

use super::patterns::Patterns;
use std::sync::LazyLock;

/// Output heads, best first.
const HEADS: [&str; 14] = [
    r"lm_head",
    r"(?:language_model|model\.language_model|model|text_model|model\.text_model|thinker|llm|llm\.model|llama_model|language|text|vlm|decoder|(?:rag\.)?generator)\.lm_head",
    r"(?:language_model\.)?output",
    r"(?:(?:transformer|model)\.)?output_layer",
    r"embed_out",
    r"head",
    r"(?:model\.)?transformer\.ff_out",
    r"(?:.*\.)?unembed",
    r"proj_out",
    r"lm_head\.out_proj",
    r"lm_head\.linear|(?:language_model\.)?word_embeddings_for_head",
    r"(?:.*\.)?(?:cls\.predictions\.decoder|lm_head\.decoder|predictions\.decoder|generator_lm_head|vocab_projector|pred_layer\.proj|lm_loss|mlm_head(?:\.decoder)?|head\.decoder)|cls",
    r"decoder|(?:(?:model\.)?decoder\.)?output_projection|log_softmax\.mlp\.layer0|text_decoder_postnet\.lm_head",
    r"model\.language_model\.lm_head",
];

/// Heads whose names say so by themselves; the others are shared with classifiers and projectors
/// and count only where their rows fit the vocabulary.
const CERTAIN_HEADS: [usize; 6] = [0, 1, 4, 9, 10, 13];

/// Heads whose names no other task's share, so that one whose rows do not fit the vocabulary is not passed
/// over in silence.
pub(super) const OUTPUTS: [usize; 2] = [2, 3];

/// Input embeddings, best first; where a model has an encoder and a decoder, the decoder's.
const EMBEDDINGS: [&str; 22] = [
    r"model\.embed_tokens",
    r"language_model\.model\.embed_tokens",
    r"model\.language_model\.embed_tokens",
    r"model\.language_model\.model\.embed_tokens",
    r"thinker\.model\.embed_tokens",
    r"model\.text_model\.embed_tokens",
    r"llm\.model\.embed_tokens",
    r"model\.decoder\.embed_tokens",
    r"model\.shared|shared|model\.language_model\.shared",
    r"decoder\.embed_tokens",
    r"embed_tokens",
    r"tok_embeddings|model\.tok_embeddings|language_model\.model\.tok_embeddings",
    r"transformer\.wte|wte|model\.transformer\.wte|transformer\.embd\.wte",
    r"(?:transformer\.|model\.)?word_embeddings|(?:transformer\.)?embedding\.word_embeddings",
    r"gpt_neox\.embed_in",
    r"backbone\.embeddings?|model\.embeddings?|rwkv\.embeddings|emb|embed|model\.embed|model\.llm\.embed",
    r"transformer\.token_embeddings|transformer\.in_out_embed",
    // In GGUF files.
    r"token_embd",
    r"model\.embeddings\.tok_embeddings|(?:.*\.)?embeddings\.word_embeddings",
    r"transformer\.(?:tokens_embed|word_embedding|w|embeddings)",
    r"(?:.*\.)?(?:embed_tokens|tok_embeddings|shared|wte|word_embeddings|embed_in|emb|embed|token_embeddings|in_out_embed|tokens_embed|word_embedding|token_embedding|input_embedding)",
    r"encoder|(?:.*\.)?backbone\.embeddings?|(?:.*\.)?model\.(?:language_model\.)?embeddings?|(?:.*\.)?wte\.embedding",
];

/// What is never the head or the text decoder's embedding, anywhere in a full name.
const DENIED: [(Denied, &str); 9] = [
    // Before the names of other modalities, for these are a model's own heads.
    (Denied::Task, r"^(?:audio_lm_head|speech_decoder_postnet)\.|(?:^|\.)codebooks_head(?:\.|$)"),
    (Denied::Block, r"(?:^|\.)(?:layers|h|blocks|block|layer|decoder_layer)\.[0-9]+\."),
    (Denied::Draft, r"(?:^|\.)(?:mtp|mtp_layers|nextn|eagle|draft|medusa_head)(?:\.|$)"),
    (
        Denied::Elsewhere,
        r"(?:^|\.)(?:vision[0-9A-Za-z_]*|visual|vit|image[0-9A-Za-z_]*|sam_model|qwen2_model|vpm|audio[0-9A-Za-z_]*|speech(?:_[0-9A-Za-z_]+)?|apm|tts|talker|token2wav|code2wav|code_predictor|codec|depth_decoder|depformer|mimi|gen_head|gen_vision[0-9A-Za-z_]*|vqmodel|question_encoder|multi_modal_projector|mm_projector|projector|qformer|patcher|dit|gemma_expert|action_expert|conditioners|t2u_model|vocoder)(?:\.|$)",
    ),
    (
        Denied::Table,
        r"embed_tokens_per_layer|ngram_embedding|embed_positions|(?:^|\.)wpe(?:\.|$)|position_embeddings|token_type_embeddings|embedding_norm|word_embeddings_layernorm|embed_norm|embed_tokens_extend|embed_audio_tokens|lora_embedding",
    ),
    (
        Denied::Part,
        r"lm_head\.(?:dense|layer_norm|ln|bias)(?:\.|$)|(?:^|\.)predictions\.(?:transform|dense|bias|LayerNorm)(?:\.|$)|generator_predictions|vocab_transform|final_logits_bias|altup_unembed|hc_head",
    ),
    (
        Denied::Task,
        r"(?:^|\.)(?:score|classifier|classification_head|pre_classifier|sop_classifier|regression_head|v_head|value_head|rm_head|reward_head|qa_outputs|qa_classifier|logits_proj|sequence_summary|discriminator_predictions|splinter_qass|embedding_proj_layer|custom_text_proj|action_out_proj|codec_head|codebooks_head|lm_heads|audio_lm_head|logits_dense|eos_head|duration_predictor|speech_decoder_postnet)(?:\.|$)",
    ),
    (Denied::Adapter, r"\.modules_to_save\.|\.lora_magnitude_vector"),
    (Denied::Bias, r"\.bias$"),
];

/// Why a name is never the head or the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denied {
    /// In a numbered block, as the layers that predict more tokens ahead.
    Block,
    /// In a draft, whose tables are not the model's.
    Draft,
    /// In an encoder of images or sounds, or in another model beside the text decoder.
    Elsewhere,
    /// A table of something else than the vocabulary's tokens.
    Table,
    /// A part of a head.
    Part,
    /// A classifier's head, a reward model's, a codec's.
    Task,
    /// An adapter's copy: it replaces the model's own when it is merged.
    Adapter,
    /// A vector.
    Bias,
    /// On no list.
    Unknown,
}

impl Denied {
    /// The reason, for a reader.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Block => "it is inside a numbered block",
            Self::Draft => "it belongs to a draft",
            Self::Elsewhere => "it belongs to another modality or another model beside this one",
            Self::Table => "it is no table of tokens",
            Self::Part => "it is a part of a head, not its matrix",
            Self::Task => "it is the head of another task",
            Self::Adapter => "it is an adapter's",
            Self::Bias => "it is a bias",
            Self::Unknown => "its name is on no list; --tensor reads it",
        }
    }
}

/// What looks like a head, then what looks like an embedding: names that a reader would ask about.
const LOOKS: [&str; 2] = [
    r"(?:^|\.)(?:[0-9A-Za-z_]*lm_heads?|shared_head|codec_head|codebooks_head|unembed|embed_out|output_layer|output_projection|score|classifier|classification_head|v_head|rm_head|reward_head|qa_outputs|embedding_proj_layer|discriminator_predictions|splinter_qass|action_out_proj|logits_proj|logits_dense|eos_head|duration_predictor|speech_decoder_postnet|[0-9A-Za-z_]*predictions|vocab_transform|final_logits_bias)(?:\.|$)",
    r"(?:^|\.)(?:embed_tokens[0-9A-Za-z_]*|tok_embeddings|word_embeddings|wte|embed_in|token_embeddings?)(?:\.|$)",
];

/// Suffixes that say which part of a module a tensor is; the longest that fits counts.
const SUFFIXES: [&str; 35] = [
    ".weight.quant_state.bitsandbytes__nf4",
    ".weight.quant_state.bitsandbytes__fp4",
    ".weight.nested_quant_map",
    ".modules_to_save.weight",
    ".weight.nested_absmax",
    ".weight_global_scale",
    ".weight_zero_point",
    "._weight_zero_point",
    ".weight.quant_map",
    ".weight_scale_inv",
    ".input_global_scale",
    ".weight_packed",
    ".weight_scale_2",
    ".weight.absmax",
    ".lora_A.weight",
    ".lora_B.weight",
    ".weight_format",
    ".weight_g_idx",
    ".weight_qdata",
    ".weight_scale",
    ".weight_shape",
    "._weight_qdata",
    "._weight_scale",
    ".input_scale",
    ".codebooks",
    ".qweight",
    ".weight",
    ".qzeros",
    ".scales",
    ".biases",
    ".codes",
    ".g_idx",
    ".meta",
    ".SCB",
    ".W_q",
];

/// Parts by which schemes are known that store a head, and no row of it as bytes of its own.
pub(super) const ROWLESS: [(&str, &str); 11] = [
    (".W_q", "HQQ"),
    (".codes", "AQLM or a like scheme"),
    (".lora_A.weight", "a LoRA adapter"),
    (".lora_B.weight", "a LoRA adapter"),
    (".trellis", "EXL3"),
    (".q_weight", "EXL2"),
    (".indices", "VPTQ"),
    (".Qidxs", "QuIP#"),
    (".dense_weights", "SpQR"),
    (".bitmask", "compressed-tensors with sparse weights"),
    (".B", "Marlin"),
];

static HEAD_PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::whole(&HEADS));
static EMBEDDING_PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::whole(&EMBEDDINGS));
static DENIED_PATTERNS: LazyLock<Patterns> =
    LazyLock::new(|| Patterns::new(DENIED.map(|(_, pattern)| pattern)));
static LOOKS_PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(LOOKS));

/// What a name says a tensor may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An output head, by its rank; `certain` if the name alone suffices.
    Head { rank: usize, certain: bool },
    /// An input embedding, by its rank.
    Embedding { rank: usize },
    /// What looks like a head, or else like an embedding, and is none.
    Decoy { head: bool, denied: Denied },
}

/// Splits a name into its module's stem and the part that the tensor is. A module that an adapter has
/// wrapped is still the same.
pub(super) fn split(name: &str) -> (&str, &str) {
    let suffix = SUFFIXES.iter().find(|suffix| name.ends_with(*suffix)).copied().unwrap_or("");
    let (stem, suffix) = name.split_at(name.len() - suffix.len());
    (stem.strip_suffix(WRAPPED).unwrap_or(stem), suffix)
}

/// What the name of a module goes on with that an adapter has wrapped.
pub(super) const WRAPPED: &str = ".base_layer";

/// Whether a part of a module holds a row, or its codes, for each token.
pub(super) fn holds_rows(part: &str) -> bool {
    matches!(part, "" | ".weight" | ".weight_packed" | "._weight_qdata" | ".weight_qdata")
}

/// What stands before the names of a model that something has wrapped: data-parallel training,
/// compilation, sharding, an adapter.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model."];

/// A name without what its model was wrapped in.
fn unwrapped(mut name: &str) -> &str {
    while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = inner;
    }
    name
}

/// Modules that a head may lie in, one inside of another; names may be as long as a header.
const DEPTH: usize = 16;

/// The head, of a certain name, inside of whose module a name lies.
pub(super) fn head_around(name: &str) -> Option<&str> {
    let certain =
        |stem: &&str| HEAD_PATTERNS.matches(unwrapped(stem)).any(|at| CERTAIN_HEADS.contains(&at));
    name.match_indices('.').take(DEPTH).map(|(at, _)| &name[..at]).find(certain)
}

/// Whether a name that is on no list is nearly a head's, or a part of one: a model that has it is not
/// without a head.
pub(super) fn may_be_head(name: &str, stem: &str) -> bool {
    let last = stem.rsplit('.').next().unwrap_or(stem);
    matches!(last, "lm_head" | "embed_out" | "unembed" | "output_layer")
        || head_around(name).is_some()
}

/// The parts that nearly all names of most models are made of, beside numbers. No pattern of a head, of an
/// embedding or of what looks like one matches a name that has no other.
const USUAL: [&str; 24] = [
    "model",
    "language_model",
    "layers",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "q_norm",
    "k_norm",
    "mlp",
    "gate_proj",
    "up_proj",
    "down_proj",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "norm",
    "bias",
    "experts",
    "shared_expert",
    "shared_experts",
    "gate",
];

/// What the stem of a tensor may be; `None` for everything else in a checkpoint.
pub(super) fn kind(name: &str, stem: &str) -> Option<Kind> {
    usual(name, stem).unwrap_or_else(|| by_patterns(name, stem))
}

/// The same of the names that most models have. To build the patterns takes longer than all else that is
/// done before rows are read, and most models can do without.
fn usual(name: &str, stem: &str) -> Option<Option<Kind>> {
    let is_usual = |part: &str| {
        USUAL.contains(&part) || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    match name {
        "lm_head.weight" => Some(Some(Kind::Head { rank: 0, certain: true })),
        "model.embed_tokens.weight" => Some(Some(Kind::Embedding { rank: 0 })),
        _ if stem.split('.').all(is_usual) => Some(None),
        _ => None,
    }
}

fn by_patterns(name: &str, stem: &str) -> Option<Kind> {
    let stem = unwrapped(stem);
    let listed = match HEAD_PATTERNS.best(stem) {
        Some(rank) => Some(Kind::Head { rank, certain: CERTAIN_HEADS.contains(&rank) }),
        None => EMBEDDING_PATTERNS
            .best(stem)
            .map(|rank| Kind::Embedding { rank: rank + ENCODER * usize::from(is_encoder(stem)) }),
    };
    // Only names that look like something are held against the long deny list.
    let head = match listed {
        Some(kind) => matches!(kind, Kind::Head { .. }),
        None => LOOKS_PATTERNS.best(stem)? == 0,
    };
    match DENIED_PATTERNS.best(name) {
        Some(at) => Some(Kind::Decoy { head, denied: DENIED[at].0 }),
        None => listed.or(Some(Kind::Decoy { head, denied: Denied::Unknown })),
    }
}

/// What is added to the rank of an encoder's embedding: a decoder's is before every one of them.
const ENCODER: usize = 100;

/// Whether a table is an encoder's: where a decoder shares it, it may be stored under this name.
pub(super) fn is_encoder(stem: &str) -> bool {
    stem.split('.').any(|part| part == "encoder" || part == "text_encoder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<Kind> {
        kind(name, split(name).0)
    }

    #[test]
    fn heads_are_known_by_their_names() {
        for name in [
            "lm_head.weight",
            "lm_head.qweight",
            "lm_head.weight_packed",
            "language_model.lm_head.weight",
            "model.language_model.lm_head.weight",
            "thinker.lm_head.weight",
            "llm.lm_head.weight",
            "output.weight",
            "language_model.output.weight",
            "transformer.output_layer.weight",
            "embed_out.weight",
            "head.weight",
            "model.transformer.ff_out.weight",
            "model.llm.unembed.weight",
            "proj_out.weight",
            "lm_head.out_proj.weight",
            "cls.predictions.decoder.weight",
            "lm_head.decoder.weight",
            "decoder.weight",
        ] {
            assert!(matches!(of(name), Some(Kind::Head { .. })), "{name}");
        }
    }

    #[test]
    fn embeddings_are_known_by_their_names() {
        for name in [
            "model.embed_tokens.weight",
            "language_model.model.embed_tokens.weight",
            "model.language_model.embed_tokens.weight",
            "wte.weight",
            "transformer.wte.weight",
            "word_embeddings.weight",
            "gpt_neox.embed_in.weight",
            "shared.weight",
            "model.decoder.embed_tokens.weight",
            "backbone.embedding.weight",
            "tok_embeddings.weight",
            "bert.embeddings.word_embeddings.weight",
            "model.transformer.wte.embedding",
            "emb.weight",
        ] {
            assert!(matches!(of(name), Some(Kind::Embedding { .. })), "{name}");
        }
    }

    #[test]
    fn a_name_as_long_as_a_header_is_looked_at_in_no_time() {
        let wrapped = "module.".repeat(1 << 20) + "lm_head.weight";
        assert!(matches!(of(&wrapped), Some(Kind::Head { .. })));
        let deep = format!("lm_head{}.unknown", ".x".repeat(1 << 18));
        assert_eq!(head_around(&deep), Some("lm_head"));
        let deep = format!("x{}.lm_head.unknown", ".x".repeat(1 << 18));
        assert_eq!(head_around(&deep), None);
    }

    #[test]
    fn usual_names_are_what_the_patterns_say() {
        for name in ["lm_head.weight", "model.embed_tokens.weight"] {
            let stem = split(name).0;
            assert_eq!(usual(name, stem), Some(by_patterns(name, stem)), "{name}");
        }
        assert_eq!(usual("model.lm_head.weight", "model.lm_head"), None);
        assert_eq!(usual("a..b", "a..b"), None);
        // The last part decides, whatever is before it.
        let parts: Vec<&str> = USUAL.into_iter().chain(["0", "17"]).collect();
        for first in &parts {
            for second in &parts {
                for third in &parts {
                    for name in [
                        format!("{first}.{second}.{third}"),
                        format!("{first}.{second}"),
                        (*first).to_owned(),
                    ] {
                        assert_eq!(usual(&name, &name), Some(None), "{name}");
                        assert_eq!(by_patterns(&name, &name), None, "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn decoys_are_neither() {
        for name in [
            "model.layers.61.shared_head.head.weight",
            "model.layers.61.embed_tokens.weight",
            "mtp.lm_head.weight",
            "model.mtp.embed_tokens.weight",
            "talker.codec_head.weight",
            "talker.model.embed_tokens.weight",
            "lm_head.dense.weight",
            "lm_head.bias",
            "final_logits_bias",
            "model.embed_tokens_per_layer.weight",
            "encoder.layer.0.attention.output.dense.weight",
            "model.transformer.blocks.3.ff_out.weight",
            "score.weight",
            "vision_tower.embeddings.word_embeddings.weight",
            "transformer.wpe.weight",
            "word_embeddings_layernorm.weight",
            "medusa_head.0.weight",
        ] {
            assert!(matches!(of(name), None | Some(Kind::Decoy { .. })), "{name}");
        }
    }
}
