//! One matrix before its judge: what is asked of it, which of its rows are excused, and how a finding
//! is put.

use super::allow::Allowed;
use super::{Baseline, Rules};
use crate::analysis::Digest;
use crate::report::{Finding, Level, MatrixPart, Rule, TokenizerPart, called, count, is_emittable};
use crate::resolve::Origin;
use crate::vocabulary::{Class, Token};
use std::collections::BTreeSet;

/// What is asked of one matrix.
pub struct Case<'a> {
    pub(super) rules: &'a Rules,
    pub(super) allowed: Allowed,
    pub(super) baseline: Option<&'a Baseline>,
    /// Whether there is a tokenizer.
    pub(super) named: bool,
    model: &'a str,
    tensor: &'a str,
}

impl<'a> Case<'a> {
    /// A matrix, and the rules that it is held against.
    pub fn new(
        rules: &'a Rules,
        baseline: Option<&'a Baseline>,
        model: &'a Origin,
        matrix: &'a MatrixPart,
        tokenizer: Option<&TokenizerPart>,
    ) -> Self {
        Self {
            rules,
            allowed: Allowed::new(&rules.allow, matrix, tokenizer),
            baseline,
            named: tokenizer.is_some(),
            model: &model.id,
            tensor: &matrix.tensor,
        }
    }

    /// Whether the policy asks about a rule.
    pub(super) fn asks(&self, rule: Rule) -> bool {
        let limits = &self.rules.limits;
        match rule {
            Rule::MaxExcess => limits.max_excess.is_some(),
            Rule::MaxMembers => limits.max_members.is_some() || !limits.class.is_empty(),
            Rule::MaxGroups => limits.max_groups.is_some(),
            rule if Rule::OF_BASELINE.contains(&rule) => self.baseline.is_some(),
            rule => self.rules.forbid.contains(&rule),
        }
    }

    /// Whether rows may be padding that nothing tells from others.
    pub(super) fn padding_unknown(&self) -> bool {
        self.rules.allow.padding && !self.named
    }

    /// Whether a tokenizer would make a difference that is not there.
    pub fn lacks_tokenizer(&self) -> bool {
        const NEED: [Rule; 3] = [Rule::EmittableInGroup, Rule::SpecialInGroup, Rule::EmittableZero];
        let classes = !self.rules.limits.class.is_empty();
        !self.named
            && (self.rules.allow.padding || classes || NEED.iter().any(|&rule| self.asks(rule)))
    }

    /// A finding about rows; `of` tells apart what else would be the same finding.
    pub(super) fn finding(&self, rule: Rule, level: Level, message: String, of: Of<'_>) -> Finding {
        /// Rows that tell a finding from others: all would change whenever one joins.
        const TELLING: usize = 8;
        let first: Vec<String> = of.rows.iter().take(TELLING).map(u64::to_string).collect();
        let key = [self.model, self.tensor, rule.name(), of.key, &first.join(",")].join("\0");
        let mut fingerprint = Digest::of(key.as_bytes()).to_string();
        fingerprint.truncate(32);
        Finding {
            rule,
            level,
            message,
            advice: rule.advice().to_owned(),
            rows: of.rows,
            tokens: of.tokens,
            digest: of.digest,
            fingerprint,
        }
    }

    /// The same about named rows.
    pub(super) fn of_tokens(&self, rule: Rule, what: String, tokens: &[Token]) -> Finding {
        let rows: Vec<u64> = tokens.iter().map(|token| token.row).collect();
        let message = format!("{what}: {}", listed(&rows, tokens));
        let of = Of { rows, tokens: tokens.to_vec(), ..Of::default() };
        self.finding(rule, Level::Error, message, of)
    }
}

/// What a finding is about.
#[derive(Default)]
pub(super) struct Of<'a> {
    pub(super) key: &'a str,
    pub(super) rows: Vec<u64>,
    pub(super) tokens: Vec<Token>,
    pub(super) digest: Option<Digest>,
}

/// A few of some rows, by name where they have one.
pub(super) fn listed(rows: &[u64], tokens: &[Token]) -> String {
    const SHOWN: usize = 5;
    let name = |row: &u64| match tokens.iter().find(|token| token.row == *row) {
        Some(token) => called(token),
        None => row.to_string(),
    };
    let mut shown: Vec<String> = rows.iter().take(SHOWN).map(name).collect();
    if let Some(more) = rows.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        shown.push(format!("{} more", count(more as u64)));
    }
    shown.join(", ")
}

/// The members of one group, as far as they were seen.
#[derive(Default)]
pub(super) struct Company {
    /// All of them.
    pub(super) size: usize,
    /// Those that are not allowed.
    pub(super) blamed: usize,
    /// Those that can be emitted, in the order they were seen.
    pub(super) emittable: Vec<Token>,
    emittable_blamed: bool,
    emittable_homes: Homes,
    /// The special ones that are not allowed.
    pub(super) special: Vec<Token>,
    special_homes: Homes,
    /// Those of which nothing tells what they are, and whether one of them is not allowed.
    pub(super) unknown: usize,
    unknown_blamed: bool,
    /// Where in the baseline those are from that are not allowed.
    pub(super) homes: Homes,
}

/// What a rule says of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Unknown,
    Found,
}

impl Company {
    /// One more member; `token` is what is known of it.
    pub(super) fn add(&mut self, case: &Case<'_>, row: u64, token: Option<&Token>) {
        let home = case.baseline.and_then(|baseline| baseline.home(row));
        let blamed = !case.allowed.has(row);
        self.size += 1;
        if blamed {
            self.blamed += 1;
            self.homes.add(home);
        }
        let Some((token, class)) = token.and_then(|token| Some((token, token.class?))) else {
            self.unknown += 1;
            self.unknown_blamed |= blamed;
            return;
        };
        if is_emittable(token) {
            self.emittable.push(token.clone());
            self.emittable_blamed |= blamed;
            self.emittable_homes.add(home);
        }
        if class == Class::Special && blamed {
            self.special.push(token.clone());
            self.special_homes.add(home);
        }
    }

    /// Whether two members can be emitted, of which not both are allowed.
    pub(super) fn emittable_in_group(&self) -> Says {
        if self.emittable.len() > 1 && self.emittable_blamed && !self.emittable_homes.were_one() {
            return Says::Found;
        }
        let may = self.emittable.len() + self.unknown > 1
            && (self.emittable_blamed || self.unknown_blamed);
        if self.unknown > 0 && may { Says::Unknown } else { Says::Nothing }
    }

    /// Whether a special token is a member.
    pub(super) fn special_in_group(&self) -> Says {
        match (self.special.is_empty(), self.unknown_blamed) {
            (false, _) if !self.special_homes.were_one() => Says::Found,
            (_, true) => Says::Unknown,
            _ => Says::Nothing,
        }
    }

    /// Rows beyond the first of this value, and beyond those that are allowed.
    pub(super) fn excess(&self) -> usize {
        if self.blamed == self.size { self.size.saturating_sub(1) } else { self.blamed }
    }
}

/// The groups of a baseline that some rows were in.
#[derive(Default)]
pub(super) struct Homes(BTreeSet<Option<usize>>);

impl Homes {
    fn add(&mut self, home: Option<usize>) {
        self.0.insert(home);
    }

    /// Whether they were all in one.
    pub(super) fn were_one(&self) -> bool {
        self.0.len() == 1 && !self.0.contains(&None)
    }

    /// Whether any was in one.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Reports for tests, from the values of rows and the classes of tokens.

    use super::*;
    use crate::analysis::{Equality, Group, Grouping};
    use crate::head::Role;
    use crate::report::{DegeneratePart, DuplicatesPart, Report, SCHEMA, Tool, Transfer};
    use crate::resolve::Place;
    use crate::vocabulary::{Absent, Cause};
    use std::collections::BTreeMap;

    pub(in crate::policy) fn origin() -> Origin {
        Origin { id: "org/m".into(), source: Place::Hub, revision: None, commit: None }
    }

    pub(in crate::policy) fn matrix(rows: u64) -> MatrixPart {
        MatrixPart {
            role: Role::Unembedding,
            tensor: "lm_head.weight".into(),
            file: "model.safetensors".into(),
            tied: Some(false),
            reason: String::new(),
            dtype: "BF16".into(),
            rows,
            columns: 2,
            row_bytes: 4,
            bytes: 4 * rows,
            parts: Vec::new(),
            layout: None,
            sample: None,
        }
    }

    /// A token of a class, by a number; the last is past the tokenizer's end.
    pub(in crate::policy) fn token(row: u64, class: u8) -> Token {
        let class = match class {
            0 | 1 => Class::Reachable,
            2 => Class::Special,
            3 => Class::Split,
            _ => Class::NoToken,
        };
        let absent = (class == Class::NoToken).then_some(Absent::Past);
        let cause = Cause { absent, ..Cause::default() };
        Token { row, text: format!("t{row}"), class: Some(class), cause, bytes: None }
    }

    /// A report on rows of these values, where 0 is a zero row and 9 holds a NaN. `classes` end with
    /// what is padding; none is no tokenizer.
    pub(in crate::policy) fn report(values: &[u8], classes: &[u8]) -> Report {
        let rows = values.len() as u64;
        let mut by_value: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for (row, &value) in (0..).zip(values) {
            by_value.entry(value).or_default().push(row);
        }
        let groups = by_value.into_iter().filter(|(_, rows)| rows.len() > 1);
        let mut groups: Vec<Group> =
            groups.map(|(value, rows)| Group { digest: Digest::of(&[value]), rows }).collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.rows.len()), group.rows[0]));
        let found = Grouping { rows, groups, matrix_digest: None };
        let namer = |row: u64| token(row, classes[row as usize]);
        let token = (!classes.is_empty()).then_some(&namer as &dyn Fn(u64) -> Token);
        let of = |wanted: u8| (0..rows).filter(|&row| values[row as usize] == wanted).collect();
        let degenerate = DegeneratePart {
            zero: of(0),
            nan: of(9),
            infinite: Vec::new(),
            tokens: token.map_or(Vec::new(), |token| (0..rows).map(token).collect()),
        };
        let padding_rows = classes.iter().rev().take_while(|&&class| class > 3).count() as u64;
        Report {
            schema: SCHEMA,
            tool: Tool::this(),
            warnings: Vec::new(),
            model: origin(),
            matrix: matrix(rows),
            tokenizer: token.map(|_| TokenizerPart {
                size: rows - padding_rows,
                padding_rows,
                file: None,
            }),
            duplicates: DuplicatesPart::new(&found, Equality::Bits, 0, token),
            classes: None,
            profile: None,
            degenerate: Some(degenerate),
            geometry: None,
            matrix_digest: None,
            probe: None,
            transfer: Transfer::default(),
        }
    }
}
