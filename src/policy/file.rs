//! A policy's file: TOML, in which nothing is unknown.
//!
//! Comes in: the file's text. Goes out: a [`Policy`], or what is wrong and in which line, with the
//! nearest name that there is.

use super::{Allow, Allowance, Entry, Ids, Limits, MAX_POLICY, Matrices, Policy, Rules};
use crate::error::{Error, Result};
use crate::quote;
use crate::report::Rule;
use crate::vocabulary::Class;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;

impl Policy {
    /// Reads a policy's text; `file` is its name, for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let wrong = |what: String| Error::Format { file: file.to_owned(), what };
        if text.len() as u64 > MAX_POLICY {
            return Err(wrong(format!(
                "longer than the {MAX_POLICY} bytes that a policy may have"
            )));
        }
        let parsed: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line(text, span.start));
            let message = error.message();
            let hint = suggestion(message);
            wrong(format!("line {line}: {}", quote::sentence(&format!("{message}{hint}"))))
        })?;
        let rules = parsed.over(&Rules::default());
        let models = parsed.model.iter().map(|model| model.entry(&rules)).collect();
        Ok(Self { rules, models })
    }
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// What was meant by a name that is not known: the nearest of those that are, which the message has
/// in backticks after it.
fn suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(typed) = names.next().filter(|_| message.starts_with("unknown ")) else {
        return String::new();
    };
    let near = |name: &&str| strsim::normalized_damerau_levenshtein(typed, name);
    let nearest = names.max_by(|a, b| near(a).total_cmp(&near(b)));
    let nearest = nearest.filter(|name| near(name) > 0.4);
    nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    forbid: Option<Vec<Forbidden>>,
    strict_baseline: Option<bool>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    allow: AllowTable,
    #[serde(default)]
    model: Vec<Model>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Model {
    id: String,
    revision: Option<String>,
    #[serde(default)]
    matrix: Matrices,
    tensor: Option<String>,
    file: Option<String>,
    tokenizer: Option<String>,
    baseline: Option<String>,
    forbid: Option<Vec<Forbidden>>,
    strict_baseline: Option<bool>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    allow: AllowTable,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsTable {
    max_excess: Option<u64>,
    max_members: Option<u64>,
    max_groups: Option<u64>,
    class: BTreeMap<Class, ClassLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ClassLimits {
    max_members: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct AllowTable {
    padding: Option<bool>,
    ids: Vec<Ids>,
    rows: Vec<Allowance>,
}

/// A rule that may be forbidden, by its name.
#[derive(Clone, Copy)]
struct Forbidden(Rule);

/// What one table says, over what holds without it.
struct Said<'a> {
    forbid: &'a Option<Vec<Forbidden>>,
    strict_baseline: Option<bool>,
    limits: &'a LimitsTable,
    allow: &'a AllowTable,
}

impl File {
    fn over(&self, rules: &Rules) -> Rules {
        let Self { forbid, strict_baseline, limits, allow, .. } = self;
        Said { forbid, strict_baseline: *strict_baseline, limits, allow }.over(rules)
    }
}

impl Model {
    fn entry(&self, rules: &Rules) -> Entry {
        let Self { forbid, strict_baseline, limits, allow, .. } = self;
        let said = Said { forbid, strict_baseline: *strict_baseline, limits, allow };
        Entry {
            id: self.id.clone(),
            revision: self.revision.clone(),
            matrix: self.matrix,
            tensor: self.tensor.clone(),
            file: self.file.clone(),
            tokenizer: self.tokenizer.clone(),
            baseline: self.baseline.clone(),
            rules: said.over(rules),
        }
    }
}

impl Said<'_> {
    /// `forbid` and each number replace; what is allowed adds up.
    fn over(&self, rules: &Rules) -> Rules {
        let (said, limits) = (self.limits, &rules.limits);
        let mut class = limits.class.clone();
        class.extend(said.class.iter().map(|(&class, limits)| (class, limits.max_members)));
        let forbid = self.forbid.as_ref().map(|forbid| forbid.iter().map(|one| one.0).collect());
        Rules {
            forbid: forbid.unwrap_or_else(|| rules.forbid.clone()),
            limits: Limits {
                max_excess: said.max_excess.or(limits.max_excess),
                max_members: said.max_members.or(limits.max_members),
                max_groups: said.max_groups.or(limits.max_groups),
                class,
            },
            allow: Allow {
                padding: self.allow.padding.unwrap_or(rules.allow.padding),
                ids: [rules.allow.ids.as_slice(), &self.allow.ids].concat(),
                rows: [rules.allow.rows.as_slice(), &self.allow.rows].concat(),
            },
            strict_baseline: self.strict_baseline.unwrap_or(rules.strict_baseline),
        }
    }
}

impl<'de> Deserialize<'de> for Forbidden {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const NAMES: [&str; 5] = {
            let mut names = [""; 5];
            let mut at = 0;
            while at < names.len() {
                names[at] = Rule::FORBIDDEN[at].name();
                at += 1;
            }
            names
        };
        let name = String::deserialize(from)?;
        let rule = Rule::FORBIDDEN.into_iter().find(|rule| rule.name() == name);
        rule.map(Self).ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(IdsVisitor)
    }
}

struct IdsVisitor;

impl de::Visitor<'_> for IdsVisitor {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id, as 7, or a range of ids, as \"5-9\"")
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Ids, E> {
        let id = u64::try_from(id);
        id.map(|id| Ids::new(id, id)).map_err(|_| E::custom("an id is not negative"))
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Ids, E> {
        Ok(Ids::new(id, id))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ids, E> {
        Ids::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Policy::parse("p.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_policy_is_that_of_no_policy() {
        assert_eq!(Policy::parse("p.toml", "").unwrap(), Policy::default());
    }

    #[test]
    fn a_model_replaces_rules_and_numbers_and_adds_to_what_is_allowed() {
        let text = r#"
            forbid = ["zero-rows"]
            [limits]
            max-groups = 3
            max-excess = 9
            [limits.class.reachable]
            max-members = 5
            [allow]
            padding = false
            ids = ["5-9", 12]
            [[model]]
            id = "org/m"
            matrix = "both"
            limits = { max-groups = 4 }
            allow = { rows = [{ ids = [1], reason = "kept for later" }] }
            [[model]]
            id = "./here"
            forbid = []
            strict-baseline = true
        "#;
        let policy = Policy::parse("p.toml", text).unwrap();
        let [one, other] = &policy.models[..] else { panic!("{policy:?}") };
        assert_eq!(one.rules.forbid, [Rule::ZeroRows]);
        let limits = &one.rules.limits;
        assert_eq!(
            (limits.max_groups, limits.max_excess, limits.max_members),
            (Some(4), Some(9), None)
        );
        assert_eq!(limits.class[&Class::Reachable], 5);
        assert_eq!((one.matrix, one.rules.allow.padding), (Matrices::Both, false));
        assert_eq!(one.rules.allow.ids, [Ids::new(5, 9), Ids::new(12, 12)]);
        assert_eq!(one.rules.allow.rows[0].reason, "kept for later");
        assert!(other.rules.forbid.is_empty() && other.rules.strict_baseline);
        assert_eq!(other.rules.limits.max_groups, Some(3));
    }

    #[test]
    fn what_is_unknown_is_an_error_in_its_line_with_what_was_meant() {
        for (text, line, meant) in [
            ("forbit = []", 1, "forbid"),
            ("\nforbid = [\"emitable-in-group\"]", 2, "emittable-in-group"),
            ("[limits]\nmax-exces = 1", 2, "max-excess"),
            ("[limits.class.reachabel]\nmax-members = 1", 1, "reachable"),
            ("[limits.class.special]\nmax-member = 1", 2, "max-members"),
            ("[allow]\npaddings = true", 2, "padding"),
            ("[[allow.rows]]\nids = []\nreasons = ''", 3, "reason"),
            ("[[model]]\nid = 'x'\nbase-line = 'x'", 3, "baseline"),
            ("[[models]]\nid = 'x'", 1, "model"),
            ("[[model]]\nid = 'x'\nmatrix = 'embeding'", 3, "embedding"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(&format!("p.toml: line {line}: unknown ")), "{said}");
            assert!(said.ends_with(&format!("; did you mean `{meant}`?")), "{said}");
        }
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_an_error() {
        for (text, says) in [
            ("[[model]]\nrevision = 'x'", "missing field `id`"),
            ("[[allow.rows]]\nids = [1]", "missing field `reason`"),
            ("[allow]\nids = ['9-5']", "a range of ids"),
            ("[allow]\nids = [-1]", "an id is not negative"),
            ("[limits]\nmax-excess = -1", "line 2"),
            ("forbid = ['max-excess']", "unknown variant"),
            ("forbid = [", "line 1"),
        ] {
            let said = refused(text);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_policy_that_is_too_long_is_not_parsed() {
        assert!(refused(&" ".repeat((1 << 20) + 1)).contains("longer than"));
    }
}
