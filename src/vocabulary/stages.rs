//! A token judged by the tokenizer's own stages: added tokens, normaliser, pre-tokeniser, model.
//!
//! Comes in: a tokenizer, an id. Goes out: its class, and its cause. A blind round trip would call
//! every byte fragment unreachable and could not say why anything else is; here each stage is asked
//! by itself. A text is put in the context that its spelling asks for: behind a guard where the
//! tokenizer puts a space in front of every text, and behind some initial piece where the entry
//! continues a word.

use super::classes::{Cause, Class, is_possible};
use super::spelling::{Spelling, Unspelled};
use std::collections::HashSet;
use tokenizers::{Model as _, Normalizer as _, PreTokenizer as _};
use tokenizers::{
    ModelWrapper, NormalizedString, OffsetReferential, OffsetType, PreTokenizedString, Tokenizer,
};

/// Texts to put in front of a token: what one of them does to it another does not. The first are
/// punctuation, which pre-tokenisers keep apart from letters.
const GUARDS: [&str; 10] = ["«", "»", "(", "\"", "1", "\n", "é", "я", "中", "x"];

/// Characters that may be the beginning of a word that an entry continues.
const BEGINNINGS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZαβγδεζηθабвгджзиклмнאבגדהابتثกขค";

/// What judging needs to know of a tokenizer as a whole.
pub(super) struct Stages {
    /// Whether a space is put in front of every text.
    prepends: bool,
    /// Usable guards, with what they are encoded as.
    guards: Vec<(String, Vec<u32>)>,
    /// Beginnings of words, likewise; empty where no entry continues one.
    beginnings: Vec<(String, Vec<u32>)>,
    /// The bytes of characters that the vocabulary has no entry for.
    uncovered: HashSet<u8>,
    /// The model without the short cut past its merges, where it takes one.
    merging: Option<ModelWrapper>,
}

impl Stages {
    pub(super) fn new(tokenizer: &Tokenizer, spelling: &Spelling) -> Self {
        let encoded = |text: &str| encode(tokenizer, text).map(|ids| (text.to_owned(), ids));
        let prepends = pieces(tokenizer, "x")
            .is_some_and(|pieces| pieces.first().is_some_and(|p| spelling.starts_with_space(p)));
        let guards = GUARDS.iter().filter_map(|guard| encoded(guard)).collect();
        let beginnings = match spelling.continues() {
            true => {
                BEGINNINGS.chars().filter_map(|c| encoded(c.encode_utf8(&mut [0; 4]))).collect()
            }
            false => Vec::new(),
        };
        let (fallback, merging) = match tokenizer.get_model() {
            ModelWrapper::BPE(bpe) if bpe.ignore_merges => {
                let mut merging = bpe.clone();
                merging.ignore_merges = false;
                (bpe.byte_fallback, Some(ModelWrapper::BPE(merging)))
            }
            ModelWrapper::BPE(bpe) => (bpe.byte_fallback, None),
            ModelWrapper::Unigram(unigram) => (unigram.byte_fallback(), None),
            _ => (false, None),
        };
        let uncovered = if fallback { uncovered(tokenizer) } else { HashSet::new() };
        Self { prepends, guards, beginnings, uncovered, merging }
    }

    /// The class of an entry of the vocabulary that is no added token.
    pub(super) fn judge(
        &self,
        tokenizer: &Tokenizer,
        spelling: &Spelling,
        id: u32,
        entry: &str,
    ) -> (Class, Cause) {
        let text = match spelling.unspell(entry) {
            Unspelled::Bytes(bytes) => return self.fragment(tokenizer, id, entry, &bytes),
            Unspelled::Text(text) => text,
        };
        let continues = spelling.is_continuation(entry);
        let contexts: &[(String, Vec<u32>)] = match (continues, self.prepends) {
            (true, _) => &self.beginnings,
            (_, true) => &self.guards,
            _ => &[],
        };
        let alone = contexts.is_empty();
        if alone && encode(tokenizer, &text).is_some_and(|ids| ids == [id]) {
            return (Class::Reachable, Cause::default());
        }
        // A space that is put in front anyway need not be written at the beginning of a text.
        if self.prepends
            && let Some(first) = text.strip_prefix(' ')
            && encode(tokenizer, first).is_some_and(|ids| ids == [id])
        {
            return (Class::Reachable, Cause::default());
        }
        let behind = |(guard, ids): &(String, Vec<u32>)| {
            let all = encode(tokenizer, &format!("{guard}{text}"))?;
            let rest = all.strip_prefix(ids.as_slice())?;
            Some(rest == [id])
        };
        if contexts.iter().any(|context| behind(context) == Some(true)) {
            return (Class::Reachable, Cause::default());
        }
        let guard = contexts.first().map_or("", |(guard, _)| guard.as_str());
        self.unreachable(tokenizer, spelling, guard, &text)
    }

    /// Why a text is not encoded as its token: the first stage that parts with it.
    fn unreachable(
        &self,
        tokenizer: &Tokenizer,
        spelling: &Spelling,
        guard: &str,
        text: &str,
    ) -> (Class, Cause) {
        let guarded = format!("{guard}{text}");
        let all = encode(tokenizer, &guarded).unwrap_or_default();
        let own = encode(tokenizer, guard).unwrap_or_default();
        let ids = Some(match all.strip_prefix(own.as_slice()) {
            Some(rest) => rest.to_vec(),
            None => all,
        });
        let normal = normalise(tokenizer, &guarded);
        let becomes = spelling.plain_normal(&normal);
        let becomes =
            becomes.strip_prefix(' ').filter(|_| !guarded.starts_with(' ')).unwrap_or(&becomes);
        if becomes != guarded && !(spelling.prefixes_space() && becomes == guarded.trim_start()) {
            let becomes = becomes.strip_prefix(guard).unwrap_or(becomes).to_owned();
            return (Class::Normalised, Cause { becomes: Some(becomes), ids, ..Cause::default() });
        }
        let mut cut = pieces(tokenizer, &guarded).unwrap_or_default();
        let before = if guard.is_empty() {
            Vec::new()
        } else {
            pieces(tokenizer, guard).unwrap_or_default()
        };
        if !before.is_empty() && cut.starts_with(&before) {
            cut.drain(..before.len());
        }
        if cut.len() > 1 {
            let pieces = cut.iter().map(|piece| spelling.plain(piece)).collect();
            return (Class::Split, Cause { pieces: Some(pieces), ids, ..Cause::default() });
        }
        (Class::Unmerged, Cause { ids, ..Cause::default() })
    }

    fn fragment(
        &self,
        tokenizer: &Tokenizer,
        id: u32,
        entry: &str,
        bytes: &[u8],
    ) -> (Class, Cause) {
        let model = self.merging.as_ref().unwrap_or(tokenizer.get_model());
        let built = || {
            let tokens = model.tokenize(entry).ok();
            tokens.is_some_and(|tokens| matches!(tokens.as_slice(), [one] if one.id == id))
        };
        let possible = is_possible(bytes);
        // A byte that stands for itself is used where no entry covers its character.
        let fallback = entry.starts_with("<0x") && entry.len() == 6;
        let buildable = match bytes {
            [byte] if fallback => self.uncovered.contains(byte),
            _ => built(),
        };
        let buildable = Some(possible && buildable);
        (Class::Fragment, Cause { possible: Some(possible), buildable, ..Cause::default() })
    }
}

/// The bytes of all characters that the vocabulary has no entry for.
fn uncovered(tokenizer: &Tokenizer) -> HashSet<u8> {
    let mut bytes = HashSet::new();
    let mut buffer = [0; 4];
    for c in (0x80..=0x10_ffff_u32).filter_map(char::from_u32) {
        let text: &str = c.encode_utf8(&mut buffer);
        if text.bytes().any(|byte| !bytes.contains(&byte))
            && tokenizer.get_model().token_to_id(text).is_none()
        {
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// The ids of a text, without what is put around whole texts.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Option<Vec<u32>> {
    let encoding = tokenizer.encode_fast(text, false).ok()?;
    Some(encoding.get_ids().to_vec())
}

fn normalise(tokenizer: &Tokenizer, text: &str) -> String {
    let mut normal = NormalizedString::from(text);
    match tokenizer.get_normalizer() {
        Some(normaliser) if normaliser.normalize(&mut normal).is_ok() => normal.get().to_owned(),
        _ => text.to_owned(),
    }
}

/// The pieces that normaliser and pre-tokeniser make of a text.
fn pieces(tokenizer: &Tokenizer, text: &str) -> Option<Vec<String>> {
    let mut cut = PreTokenizedString::from(normalise(tokenizer, text));
    if let Some(pre) = tokenizer.get_pre_tokenizer() {
        pre.pre_tokenize(&mut cut).ok()?;
    }
    let splits = cut.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Some(splits.into_iter().map(|(piece, ..)| piece.to_owned()).collect())
}
