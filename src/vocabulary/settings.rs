//! What lies beside a vocabulary and says how it is used: `tokenizer_config.json`,
//! `added_tokens.json` and `special_tokens_map.json`.

use crate::error::{Error, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the files beside a vocabulary say.
#[derive(Default)]
pub(super) struct Settings {
    /// The class of the `transformers` library that reads it, without `Fast`.
    pub(super) class: Option<String>,
    /// Everything that `tokenizer_config.json` says.
    config: Value,
    /// The tokens that were added, by their ids.
    pub(super) added: BTreeMap<u32, Added>,
    /// Whether no other was: files of older releases do not tell.
    pub(super) complete: bool,
    /// What special tokens are by their roles, such as `eos_token`; `None` where there is none.
    roles: BTreeMap<String, Option<String>>,
}

/// A token that was added to a vocabulary, as tokenizers write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Added {
    pub(super) content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

impl Added {
    pub(super) fn new(content: &str, special: bool) -> Self {
        let normalized = !special;
        let (single_word, lstrip, rstrip) = (false, false, false);
        Self { content: content.to_owned(), single_word, lstrip, rstrip, normalized, special }
    }
}

impl Settings {
    /// Reads what there is of them: the configuration, added tokens, and roles of special ones.
    pub(super) fn read(
        config: Option<&[u8]>,
        added: Option<&[u8]>,
        roles: Option<&[u8]>,
    ) -> Result<Self> {
        let config: Value = parse("tokenizer_config.json", config)?;
        let decoder = config.get("added_tokens_decoder").filter(|all| !all.is_null()).cloned();
        let complete = decoder.is_some();
        let wrong = |e: serde_json::Error| {
            Error::format("tokenizer_config.json", format!("its added tokens cannot be read: {e}"))
        };
        let mut all: BTreeMap<u32, Added> =
            decoder.map(serde_json::from_value).transpose().map_err(wrong)?.unwrap_or_default();
        let mut by_role = roles_of(&config);
        by_role.append(&mut roles_of(&parse::<Value>("special_tokens_map.json", roles)?));
        let is_special = |content: &String| by_role.values().flatten().any(|one| one == content);
        for (content, id) in parse::<BTreeMap<String, u32>>("added_tokens.json", added)? {
            let token = Added::new(&content, is_special(&content));
            all.entry(id).or_insert(token);
        }
        let class = config["tokenizer_class"].as_str();
        let class = class.map(|class| class.trim_end_matches("Fast").to_owned());
        Ok(Self { class, config, added: all, complete, roles: by_role })
    }

    /// Whether a `tokenizer_config.json` holds the added tokens.
    pub(super) fn hold_added(config: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Config {
            added_tokens_decoder: Option<IgnoredAny>,
        }
        serde_json::from_slice(config)
            .is_ok_and(|config: Config| config.added_tokens_decoder.is_some())
    }

    /// What the configuration answers to a question with yes or no.
    pub(super) fn says(&self, key: &str) -> Option<bool> {
        self.config[key].as_bool()
    }

    /// The special token of a role, where one is named.
    pub(super) fn role(&self, role: &str) -> Option<&str> {
        self.roles.get(role)?.as_deref()
    }

    /// Special tokens: those with a role, and those that have one by default.
    pub(super) fn special<'a>(
        &'a self,
        defaults: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a str> {
        let defaults = defaults.iter().filter(|(role, _)| !self.roles.contains_key(*role));
        let told = self.roles.values().flatten().map(String::as_str);
        told.chain(defaults.map(|&(_, content)| content))
    }
}

/// A file's content, or the default where there is none.
fn parse<T: for<'de> Deserialize<'de> + Default>(file: &str, json: Option<&[u8]>) -> Result<T> {
    let Some(json) = json else { return Ok(T::default()) };
    serde_json::from_slice(json).map_err(|e| Error::format(file, format!("it cannot be read: {e}")))
}

/// The special tokens that a file names: `…_token`, and lists of more.
fn roles_of(file: &Value) -> BTreeMap<String, Option<String>> {
    let content = |value: &Value| {
        let content = value.as_str().or_else(|| value["content"].as_str());
        content.map(str::to_owned)
    };
    let mut roles = BTreeMap::new();
    for (key, value) in file.as_object().into_iter().flatten() {
        if key.ends_with("_token") && (value.is_null() || content(value).is_some()) {
            roles.insert(key.clone(), content(value));
        }
        if let ("additional_special_tokens" | "extra_special_tokens", Some(more)) =
            (key.as_str(), value.as_array())
        {
            let numbered = more.iter().enumerate();
            roles.extend(numbered.map(|(number, one)| (format!("{key} {number}"), content(one))));
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_tokens_are_told_by_newer_files_with_their_marks_and_by_older_ones_without() {
        let newer = br#"{"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": true,
            "added_tokens_decoder": {"9": {"content": "<x>", "special": true, "lstrip": true}}}"#;
        let settings = Settings::read(Some(newer), None, None).unwrap();
        assert_eq!(settings.class.as_deref(), Some("GPT2Tokenizer"));
        assert!(settings.complete && settings.added[&9].special);
        assert_eq!(settings.special(&[("eos_token", "<e>")]).collect::<Vec<_>>(), ["<e>"]);

        let older = (&br#"{"<y>": 5, "<z>": 7}"#[..], &br#"{"eos_token": {"content": "<z>"}}"#[..]);
        let settings = Settings::read(None, Some(older.0), Some(older.1)).unwrap();
        assert!(!settings.complete && !settings.added[&5].special && settings.added[&7].special);
        assert_eq!(settings.special(&[("eos_token", "<e>")]).collect::<Vec<_>>(), ["<z>"]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_its_file() {
        let wrong = Settings::read(Some(b"["), None, None).err().unwrap().to_string();
        assert!(wrong.contains("tokenizer_config.json"), "{wrong}");
        let wrong = Settings::read(None, Some(br#"{"a": -1}"#), None).err().unwrap().to_string();
        assert!(wrong.contains("added_tokens.json"), "{wrong}");
    }
}
