use serde::Deserialize;
use serde_json::Value;
use singularity_survey::checkpoint::{Dtype, TensorRecord};
use singularity_survey::error::Result;
use singularity_survey::head::{Config, Located, Names, Role, locate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The tensors of a checkpoint, with their shapes.
type Tensors = BTreeMap<String, Vec<u64>>;

/// What one class of the library says of itself; see `fixtures/README.md`.
#[derive(Deserialize)]
struct Architecture {
    architecture: String,
    /// Why the library could not build it.
    failed: Option<String>,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    tensors: Tensors,
    /// Its head; several or none where there is no single one.
    #[serde(default)]
    head: Vec<String>,
    /// All names of its input embedding.
    #[serde(default)]
    embedding: Vec<String>,
    /// The tensors that are one with the head by default, and where every flag asks for it.
    tied: Option<Vec<String>>,
    tied_when_asked: Option<Vec<String>>,
    /// Under which other names the library stores some of the tensors.
    #[serde(default)]
    stored_as: BTreeMap<String, String>,
}

/// What a class does not say, or says otherwise, and why.
#[derive(Deserialize)]
struct Note {
    head: Option<Vec<String>>,
    embedding: Option<Vec<String>>,
    tied: Option<Vec<String>>,
    tied_when_asked: Option<Vec<String>>,
    why: String,
}

fn read(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// Every class that could be built, under the names that it gives its tensors and, where those
/// differ, once more under the names that it stores them under.
fn architectures() -> Vec<(String, Architecture)> {
    let mut notes: BTreeMap<String, Note> = serde_json::from_str(&read("notes.json")).unwrap();
    let mut used = BTreeSet::new();
    let mut all = Vec::new();
    for release in ["4.57.1", "5.23.0"] {
        for line in read(&format!("{release}.jsonl")).lines() {
            let mut row: Architecture = serde_json::from_str(line).unwrap();
            if row.failed.is_some() {
                continue;
            }
            if let Some(note) = notes.get_mut(&row.architecture) {
                assert!(!note.why.is_empty());
                row.head = note.head.clone().unwrap_or(row.head);
                row.embedding = note.embedding.clone().unwrap_or(row.embedding);
                row.tied = note.tied.clone().or(row.tied);
                row.tied_when_asked = note.tied_when_asked.clone().or(row.tied_when_asked);
                used.insert(row.architecture.clone());
            }
            if !row.stored_as.is_empty() {
                let renamed = row.renamed();
                all.push((format!("{release} {}, as stored", row.architecture), renamed));
            }
            all.push((format!("{release} {}", row.architecture), row));
        }
    }
    assert_eq!(used.len(), notes.len(), "a note is about no class: {used:?}");
    all
}

impl Architecture {
    fn renamed(&self) -> Self {
        let one = |name: &String| self.stored_as.get(name).unwrap_or(name).clone();
        let list = |names: &Vec<String>| names.iter().map(one).collect::<Vec<_>>();
        Self {
            architecture: self.architecture.clone(),
            failed: None,
            config: self.config.clone(),
            tensors: self.tensors.iter().map(|(name, shape)| (one(name), shape.clone())).collect(),
            head: list(&self.head),
            embedding: list(&self.embedding),
            tied: self.tied.as_ref().map(list),
            tied_when_asked: self.tied_when_asked.as_ref().map(list),
            stored_as: BTreeMap::new(),
        }
    }

    /// The checkpoints that a tied head leaves, each with the one table that it is: of tensors that
    /// are one, a single name is stored, and which of them is not the same everywhere.
    fn checkpoints_without_head<'a>(
        &'a self,
        one_with: &'a Option<Vec<String>>,
    ) -> impl Iterator<Item = (Tensors, &'a str)> {
        let aliases: Vec<&String> = one_with.iter().flatten().collect();
        aliases.clone().into_iter().map(move |kept| {
            let gone = |name: &String| {
                self.head.contains(name) || (name != kept && aliases.contains(&name))
            };
            let left = self.tensors.iter().filter(|(name, _)| !gone(name));
            (left.map(|(name, shape)| (name.clone(), shape.clone())).collect(), kept.as_str())
        })
    }
}

fn decide(tensors: &Tensors, config: &Value, role: Role) -> Result<Located> {
    let record = |(name, shape): (&String, &Vec<u64>)| TensorRecord {
        name: name.clone(),
        dtype: Dtype::Bf16,
        shape: shape.clone(),
        range: 0..0,
    };
    let records: BTreeMap<String, TensorRecord> =
        tensors.iter().map(|entry| (entry.0.clone(), record(entry))).collect();
    let config = Config::parse(config.to_string().as_bytes()).unwrap();
    let names = Names::collect(tensors.keys().map(String::as_str));
    let wanted: BTreeSet<&str> = names.wanted(role).into_iter().collect();
    // As in a checkpoint of many files: no record is known but those that were asked for.
    let record = |name: &str| records.get(name).filter(|_| wanted.contains(name));
    locate(role, &names, &config, &record, "model")
}

/// The tensor that is chosen; empty where the model is refused.
fn chosen(tensors: &Tensors, config: &Value, role: Role) -> String {
    decide(tensors, config, role).map_or_else(|_| String::new(), |located| located.tensor)
}

/// The configuration with the flag set at every level.
fn with_flags(config: &Value, tied: bool) -> Value {
    let mut config = config.clone();
    if let Some(object) = config.as_object_mut() {
        object.insert("tie_word_embeddings".into(), tied.into());
        for value in object.values_mut().filter(|value| value.is_object()) {
            *value = with_flags(value, tied);
        }
    }
    config
}

/// All that is chosen for an architecture in all states of its flags and with and without a stored
/// head, each beside what is right.
fn decisions(row: &Architecture) -> Vec<(String, String, Vec<String>)> {
    let mut all = Vec::new();
    let one = |name: &str| vec![name.to_owned()];
    let flags = |tied| with_flags(&row.config, tied);
    let role = Role::Unembedding;
    if let [head] = row.head.as_slice() {
        for (flag, config) in
            [("default", row.config.clone()), ("true", flags(true)), ("false", flags(false))]
        {
            let what = format!("a head is stored, flags {flag}");
            all.push((what, chosen(&row.tensors, &config, role), one(head)));
        }
        for (flag, config, aliases) in [
            ("default", row.config.clone(), &row.tied),
            ("true", flags(true), &row.tied),
            ("true", flags(true), &row.tied_when_asked),
        ] {
            for (tensors, table) in row.checkpoints_without_head(aliases) {
                let what = format!("{table} in place of the head, flags {flag}");
                all.push((what, chosen(&tensors, &config, role), one(table)));
            }
        }
    } else {
        let what = "no single head".to_owned();
        all.push((what, chosen(&row.tensors, &row.config, role), one("")));
    }
    if !row.embedding.is_empty() {
        let mut right = row.embedding.clone();
        right.extend(row.tied.iter().flatten().cloned());
        let found = chosen(&row.tensors, &row.config, Role::Embedding);
        all.push(("the embedding".to_owned(), found, right));
    }
    all
}

#[test]
fn the_head_of_every_architecture_is_found_and_no_other() {
    let all = architectures();
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|(name, row)| decisions(row).into_iter().map(move |decision| (name, decision)))
        .filter(|(_, (_, found, right))| !right.contains(found))
        .map(|(name, (what, found, right))| format!("{name}: {what}: {found:?}, not {right:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let classes: BTreeSet<&str> = all.iter().map(|(_, row)| row.architecture.as_str()).collect();
    assert!(classes.len() > 450, "{}", classes.len());
}

/// Families whose code is not the library's, or whose files keep names of their own: the head and the
/// input embedding of each. An empty head is always tied.
const FAMILIES: [(&str, &str, &str); 47] = [
    ("Mistral, consolidated", "output", "tok_embeddings"),
    ("Qwen 1", "lm_head", "transformer.wte"),
    ("Qwen VL, as first published", "lm_head", "model.embed_tokens"),
    ("Qwen VL", "lm_head", "model.language_model.embed_tokens"),
    ("Qwen VL, by MLX", "language_model.lm_head", "language_model.model.embed_tokens"),
    ("Qwen Omni", "thinker.lm_head", "thinker.model.embed_tokens"),
    ("Gemma, embedders", "", "embed_tokens"),
    ("Gemma 3 VLM", "", "language_model.model.embed_tokens"),
    ("Gemma 4, draft head of its own", "model.lm_head", "model.embed_tokens"),
    ("DeepSeek V4", "head", "embed"),
    ("DeepSeek VL2", "language.lm_head", "language.model.embed_tokens"),
    ("Kimi K2.5", "language_model.lm_head", "language_model.model.embed_tokens"),
    ("ChatGLM 2", "transformer.output_layer", "transformer.embedding.word_embeddings"),
    ("ChatGLM 1", "lm_head", "transformer.word_embeddings"),
    ("InternLM 2", "output", "model.tok_embeddings"),
    ("InternVL of InternLM", "language_model.output", "language_model.model.tok_embeddings"),
    ("InternVL of Qwen", "language_model.lm_head", "language_model.model.embed_tokens"),
    ("Bailing", "lm_head", "model.word_embeddings"),
    ("LLaDA 2", "model.lm_head", "model.word_embeddings"),
    ("MiniCPM-V", "llm.lm_head", "llm.model.embed_tokens"),
    ("Cohere Transcribe", "log_softmax.mlp.layer0", "transf_decoder._embedding.token_embedding"),
    ("Phi 1, as first published", "lm_head.linear", "transformer.embd.wte"),
    ("BLOOM, bare", "", "word_embeddings"),
    ("GPT-2, bare", "", "wte"),
    ("GPT-NeoX", "embed_out", "gpt_neox.embed_in"),
    ("OPT, bare", "", "decoder.embed_tokens"),
    ("OLMo 1, LLaDA", "model.transformer.ff_out", "model.transformer.wte"),
    ("Molmo 1", "model.transformer.ff_out", "model.transformer.wte.embedding"),
    (
        "Persimmon, by Adept",
        "language_model.word_embeddings_for_head",
        "language_model.embedding.word_embeddings",
    ),
    ("Nemotron Omni", "language_model.lm_head", "language_model.backbone.embeddings"),
    ("Florence, as first published", "language_model.lm_head", "language_model.model.shared"),
    ("Kosmos", "text_model.lm_head", "text_model.model.embed_tokens"),
    ("Mamba, as first published", "lm_head", "backbone.embedding"),
    ("RWKV 4", "head", "rwkv.embeddings"),
    ("RWKV, native", "head", "emb"),
    ("RWKV 7", "lm_head", "model.embeddings"),
    ("Grok 1", "", "transformer.in_out_embed"),
    ("OpenELM", "", "transformer.token_embeddings"),
    ("Talkie", "lm_head", "model.embed"),
    ("AFM 7", "", "model.embedding"),
    ("Inkling", "model.llm.unembed", "model.llm.embed"),
    ("HyperCLOVA X", "model.language_model.lm_head", "model.language_model.model.embed_tokens"),
    ("Moondream", "model.text_model.lm_head", "model.embed_tokens"),
    ("Alpamayo", "vlm.lm_head", "vlm.model.language_model.embed_tokens"),
    ("NeoBERT", "decoder", "encoder"),
    ("UltraBERT", "cls", "model.embed_tokens"),
    ("MADLAD", "lm_head", "decoder.embed_tokens"),
];

#[test]
fn the_heads_of_families_with_code_of_their_own_are_found() {
    for (family, head, embedding) in FAMILIES {
        let name = |stem: &str| match stem {
            "model.transformer.wte.embedding" => stem.to_owned(),
            stem => format!("{stem}.weight"),
        };
        let shape = vec![32_000, 64];
        let mut tensors: Tensors = BTreeMap::new();
        for (name, shape) in [
            (name(embedding), &shape),
            ("model.layers.0.mlp.up_proj.weight".to_owned(), &shape),
            ("model.norm.weight".to_owned(), &vec![64]),
            ("model.transformer.blocks.0.ff_out.weight".to_owned(), &shape),
        ] {
            tensors.insert(name, shape.clone());
        }
        let config = serde_json::json!({"tie_word_embeddings": true, "vocab_size": 32_000});
        let tied = chosen(&tensors, &config, Role::Unembedding);
        assert_eq!(tied, name(embedding), "{family}");
        if head.is_empty() {
            continue;
        }
        tensors.insert(name(head), shape);
        for tied in [true, false] {
            let config = with_flags(&config, tied);
            assert_eq!(chosen(&tensors, &config, Role::Unembedding), name(head), "{family}");
            assert_eq!(chosen(&tensors, &config, Role::Embedding), name(embedding), "{family}");
        }
    }
}

/// Tables of as many rows as the vocabulary has, or as many as a token's name may suggest.
const DECOYS: [&str; 24] = [
    "model.layers.61.shared_head.head.weight",
    "model.layers.61.embed_tokens.weight",
    "model.mtp.embed_tokens.weight",
    "mtp.lm_head.weight",
    "mtp.0.head.weight",
    "model.mtp_layers.0.lm_head.weight",
    "eagle.lm_head.weight",
    "medusa_head.0.weight",
    "model.embed_tokens_per_layer.weight",
    "model.language_model.embed_tokens_per_layer.weight",
    "model.ngram_embedding.shard_0.weight",
    "talker.codec_head.weight",
    "talker.model.embed_tokens.weight",
    "talker.code_predictor.lm_head.0.weight",
    "depth_decoder.lm_heads.0.weight",
    "gen_head.output_mlp_projector.weight",
    "lm_head.dense.weight",
    "lm_head.modules_to_save.weight",
    "lm_head.modules_to_save.default.weight",
    "base_model.model.lm_head.modules_to_save.weight",
    "model.embed_tokens.modules_to_save.default.weight",
    "embed_tokens.lora_embedding_A",
    "vision_tower.embeddings.word_embeddings.weight",
    "model.vision_model.head.weight",
];

#[test]
fn no_decoy_is_ever_chosen_and_none_changes_the_choice() {
    for (name, mut row) in architectures() {
        let right: Vec<String> = decisions(&row).into_iter().map(|(_, found, _)| found).collect();
        let shape = row.head.first().or(row.embedding.first()).map(|name| &row.tensors[name]);
        let shape = shape.filter(|shape| shape.len() == 2).cloned().unwrap_or(vec![1000, 8]);
        // A part of a head says that there is one, which would be right of no model without.
        for decoy in DECOYS.iter().filter(|decoy| row.head.len() == 1 || !decoy.contains("dense")) {
            row.tensors.entry((*decoy).to_owned()).or_insert_with(|| shape.clone());
        }
        let found: Vec<String> = decisions(&row).into_iter().map(|(_, found, _)| found).collect();
        assert_eq!(found, right, "{name}");
    }
}

#[test]
fn a_draft_over_a_reduced_vocabulary_is_refused() {
    for (_, mut row) in architectures() {
        row.tensors.insert("d2t".into(), vec![32_000]);
        if let [head] = row.head.as_slice() {
            let found = decide(&row.tensors, &row.config, Role::Unembedding);
            assert!(found.is_err(), "{head}");
        }
    }
}

#[test]
fn models_without_a_head_are_refused_with_what_they_have() {
    let said = |architecture: &str| {
        let all = architectures();
        let (_, row) = all.iter().rev().find(|(_, row)| row.architecture == architecture).unwrap();
        decide(&row.tensors, &row.config, Role::Unembedding).unwrap_err().to_string()
    };
    for (architecture, has) in [
        ("Qwen2ForSequenceClassification", "score.weight"),
        ("RobertaForSequenceClassification", "classifier.out_proj.weight"),
        ("BartForSequenceClassification", "classification_head.out_proj.weight"),
        ("ColPaliForRetrieval", "embedding_proj_layer.weight"),
        ("ElectraForPreTraining", "discriminator_predictions"),
        ("PI0ForConditionalGeneration", "action_out_proj.weight"),
        ("HiggsAudioV2ForConditionalGeneration", "audio_lm_head.weight"),
        ("MusicgenForConditionalGeneration", "decoder.lm_heads.0.weight"),
        ("CsmForConditionalGeneration", "depth_decoder.codebooks_head.weight"),
        ("BarkModel", "semantic.lm_head.weight"),
        ("DiaForConditionalGeneration", "logits_dense.weight"),
        ("SpeechT5ForTextToSpeech", "speech_decoder_postnet"),
    ] {
        let said = said(architecture);
        assert!(said.contains(has), "{architecture}: {said}");
    }
}
