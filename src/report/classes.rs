//! What the members of a group, or all rows, are to their tokenizer: counts, and what they say.

use super::text::{count, plural};
use crate::analysis::Grouping;
use crate::vocabulary::{Class, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use unicode_script::{Script, UnicodeScript as _};

/// How many rows are of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// The class.
    pub class: Class,
    /// Its rows.
    pub rows: u64,
}

/// How many rows' texts are of one script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptCount {
    /// The script's name in Unicode; `Common` where a text has letters of none.
    pub script: String,
    /// Its rows.
    pub rows: u64,
}

/// The classes of all rows of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassesPart {
    /// A line for each class that has rows, in the order in which classes are tried.
    pub table: Vec<ClassLine>,
    /// The rows of each class, ascending.
    pub rows: BTreeMap<Class, Vec<u64>>,
}

/// One class, against the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLine {
    /// The class.
    pub class: Class,
    /// Its rows.
    pub rows: u64,
    /// Those that are in a group.
    pub in_groups: u64,
    /// Those that are not.
    pub alone: u64,
    /// Those of either kind whose every element is zero.
    #[serde(default)]
    pub zero: u64,
}

impl ClassesPart {
    /// Sorts the rows by class, and holds them against the groups and the rows that are zero.
    pub fn new(found: &Grouping, zero: &[u64], class: &dyn Fn(u64) -> Option<Class>) -> Self {
        let members: HashSet<u64> =
            found.groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
        let mut rows: BTreeMap<Class, Vec<u64>> = BTreeMap::new();
        for row in 0..found.rows {
            if let Some(class) = class(row) {
                rows.entry(class).or_default().push(row);
            }
        }
        let line = |(&class, rows): (&Class, &Vec<u64>)| {
            let in_groups = rows.iter().filter(|row| members.contains(row)).count() as u64;
            let zero = zero.iter().filter(|row| rows.binary_search(row).is_ok()).count() as u64;
            let rows = rows.len() as u64;
            ClassLine { class, rows, in_groups, alone: rows - in_groups, zero }
        };
        Self { table: rows.iter().map(line).collect(), rows }
    }
}

/// Whether the tokenizer can emit a token: then a model that cannot tell it from another has a
/// defect.
pub fn is_emittable(token: &Token) -> bool {
    match token.class {
        Some(Class::Reachable | Class::Special) => true,
        Some(Class::Fragment) => token.cause.buildable == Some(true),
        _ => false,
    }
}

/// The tokens by class: most first, then in the order of classes.
pub(super) fn by_class(tokens: &[Token]) -> Vec<ClassCount> {
    let mut counts: BTreeMap<Class, u64> = BTreeMap::new();
    for class in tokens.iter().filter_map(|token| token.class) {
        *counts.entry(class).or_default() += 1;
    }
    let mut counts: Vec<ClassCount> =
        counts.into_iter().map(|(class, rows)| ClassCount { class, rows }).collect();
    counts.sort_by_key(|count| (std::cmp::Reverse(count.rows), count.class));
    counts
}

/// The tokens that are texts by script: most first, then by name.
pub(super) fn by_script(tokens: &[Token]) -> Vec<ScriptCount> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let texts = tokens.iter().filter(|token| {
        token.bytes.is_none() && !matches!(token.class, Some(Class::NoToken | Class::Special))
    });
    for token in texts {
        let own = |script: &Script| !matches!(script, Script::Common | Script::Inherited);
        let script = token.text.chars().map(|c| c.script()).find(own).unwrap_or(Script::Common);
        *counts.entry(script.full_name()).or_default() += 1;
    }
    let mut counts: Vec<ScriptCount> = counts
        .into_iter()
        .map(|(script, rows)| ScriptCount { script: script.to_owned(), rows })
        .collect();
    counts.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.script.cmp(&b.script)));
    counts
}

/// A group in one line: `600 members: 571 split, 14 normalised, 13 fragment, 2 reachable`.
pub(super) fn reading(size: u64, classes: &[ClassCount]) -> String {
    let members = usize::try_from(size).unwrap_or(usize::MAX);
    let parts: Vec<String> =
        classes.iter().map(|c| format!("{} {}", count(c.rows), c.class.name())).collect();
    format!("{} {}: {}", count(size), plural(members, "member"), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Cause;

    fn token(row: u64, text: &str, class: Class) -> Token {
        let cause =
            Cause { buildable: (class == Class::Fragment).then_some(row == 0), ..Cause::default() };
        Token { row, text: text.into(), class: Some(class), cause, bytes: None }
    }

    #[test]
    fn a_group_reads_as_its_classes_and_scripts() {
        let tokens = [
            token(0, "ก", Class::Split),
            token(1, "1ข", Class::Split),
            token(2, "漢", Class::Reachable),
            token(3, "12", Class::Split),
            token(4, "<s>", Class::Special),
        ];
        let classes = by_class(&tokens);
        assert_eq!(reading(5, &classes), "5 members: 3 split, 1 special, 1 reachable");
        let scripts: Vec<_> = by_script(&tokens).into_iter().map(|s| (s.script, s.rows)).collect();
        assert_eq!(scripts, [("Thai".into(), 2), ("Common".into(), 1), ("Han".into(), 1)]);
    }

    #[test]
    fn what_can_be_emitted_is_told_from_what_cannot() {
        for (class, row, emittable) in [
            (Class::Reachable, 1, true),
            (Class::Special, 1, true),
            (Class::Fragment, 0, true),
            (Class::Fragment, 1, false),
            (Class::Split, 1, false),
            (Class::Normalised, 1, false),
            (Class::Unmerged, 1, false),
            (Class::NoToken, 1, false),
        ] {
            assert_eq!(is_emittable(&token(row, "x", class)), emittable, "{class:?}");
        }
    }
}
