//! The model types whose head is tied where their configuration does not say.
//!
//! The default of each configuration class of the `transformers` library, releases 4.57.1 and
//! 5.23.0; types on which the two disagree are left out, because then nothing says.

/// Whether the library ties the head of this model type by default.
pub(super) fn ties_by_default(model_type: &str) -> bool {
    TIED.binary_search(&model_type).is_ok()
}

/// Whether the library ties the head of this model type whatever its configuration says.
pub(super) fn always_ties(model_type: &str) -> bool {
    matches!(model_type, "fsmt" | "t5" | "mt5" | "umt5" | "longt5" | "udop" | "pop2piano")
}

/// Sorted, for the search.
#[rustfmt::skip]
const TIED: &[&str] = &[
    "albert", "aya_vision", "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus",
    "biogpt", "blenderbot", "blenderbot-small", "blip_text_model", "bloom", "camembert",
    "canary", "cohere", "cohere2", "cohere2_moe", "cohere2_vision", "cohere_compass_text",
    "convbert", "cpmant", "ctrl", "data2vec-text", "deberta", "deberta-v2", "diffusion_gemma",
    "diffusion_gemma_text", "distilbert", "electra", "ernie", "ernie4_5", "ernie4_5_moe",
    "ernie4_5_vl_moe", "ernie4_5_vl_moe_text", "ernie_m", "esm", "falcon", "falcon_mamba",
    "flaubert", "florence2", "fnet", "fun_asr_nano", "funnel", "gemma", "gemma2", "gemma3",
    "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified",
    "gemma4_unified_assistant", "gemma4_unified_text", "glmasr", "got_ocr2", "gpt-sw3", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox_japanese", "gptsan-japanese", "granite_docling",
    "granite_docling_text", "granite_speech_plus", "granite_swa", "gte", "hunyuan_vl",
    "hunyuan_vl_text", "hyperclovax_vision_v2", "ibert", "jetmoe", "jina_embeddings_v3",
    "kosmos-2", "kosmos-2.5", "kosmos_2_5_text_model", "kosmos_2_text_model", "layoutlm", "led",
    "lfm2", "lfm2_moe", "lfm2_vl", "lfm3", "lfm3_vl", "lighton_ocr", "longformer", "longt5",
    "luke", "m2m_100", "mamba", "marian", "mbart", "megatron-bert", "minicpm3", "minicpm_ocr",
    "mobilebert", "modernbert", "modernbert-decoder", "moonshine", "moss_transcribe_diarize",
    "mpnet", "mpt", "mra", "mvp", "neomme", "nezha", "nllb-moe", "nomic_bert", "nystromformer",
    "openai-gpt", "opt", "paddleocr_vl", "paddleocr_vl_text", "paligemma", "pegasus",
    "pegasus_x", "plbart", "pop2piano", "prophetnet", "qdqbert", "qwen2_5_omni_text",
    "qwen3_asr", "realm", "recurrent_gemma", "retribert", "roberta", "roberta-prelayernorm",
    "roc_bert", "roformer", "seamless_m4t", "seamless_m4t_v2", "shieldgemma2", "smollm3",
    "speech_to_text", "speech_to_text_2", "speecht5", "squeezebert", "starcoder2",
    "switch_transformers", "t5", "t5_gemma_module", "t5gemma", "t5gemma2", "t5gemma2_decoder",
    "t5gemma2_encoder", "t5gemma2_text", "transfo-xl", "trocr", "udop", "umt5", "vaultgemma",
    "visual_bert", "voxtral_realtime", "whisper", "xglm", "xlm", "xlm-prophetnet", "xlm-roberta",
    "xlm-roberta-xl", "xlnet", "xmod", "yoso", "youtu", "zamba", "zamba2", "zaya",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(TIED.is_sorted());
        assert!(ties_by_default("gemma2") && !ties_by_default("llama"));
    }
}
