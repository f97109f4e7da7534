//! Sets of patterns of which the first that matches counts.
//!
//! A run looks at some hundred names, so that to build the patterns is most of the work: as bytes, and
//! without the literal searchers that long texts would be worth, they take a tenth of the time.

use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, PatternSet};

/// Patterns, the best first.
pub(super) struct Patterns(Regex);

impl Patterns {
    /// Patterns that match anywhere in a text.
    pub(super) fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let config = Config::new()
            .match_kind(MatchKind::All)
            .which_captures(WhichCaptures::None)
            .utf8_empty(false)
            .auto_prefilter(false);
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let patterns: Vec<String> = patterns.into_iter().map(|p| p.as_ref().to_owned()).collect();
        let regex = Regex::builder().configure(config).syntax(syntax).build_many(&patterns);
        Self(regex.unwrap_or_else(|e| unreachable!("{e}")))
    }

    /// Patterns that match a whole text.
    pub(super) fn whole(patterns: &[&str]) -> Self {
        Self::new(patterns.iter().map(|pattern| format!("^(?:{pattern})$")))
    }

    /// The numbers of the patterns that match, ascending.
    pub(super) fn matches(&self, text: &str) -> impl Iterator<Item = usize> + use<> {
        let mut found = PatternSet::new(self.0.pattern_len());
        self.0.which_overlapping_matches(&Input::new(text), &mut found);
        let found: Vec<usize> = found.iter().map(|pattern| pattern.as_usize()).collect();
        found.into_iter()
    }

    /// The number of the first that matches.
    pub(super) fn best(&self, text: &str) -> Option<usize> {
        self.matches(text).next()
    }
}
