//! A verdict while rows come: certain as soon as one thing is found that no later row can undo.
//!
//! Rules only ever count up, so that what they find of some rows they find of all. Without a tokenizer
//! that a rule needs nothing is certain before the end.

use super::case::{Case, Company, Of, Says, listed, some};
use super::judge::{
    blames_non_finite, blames_zero, emittable_zero, non_finite, over, over_class, zero_rows,
};
use crate::report::{
    Basis, Check, Figures, Finding, Judged, Level, MatrixPart, Outcome, Rule, Transfer,
    is_emittable,
};
use crate::resolve::Origin;
use crate::vocabulary::{Class, Token};
use std::collections::{BTreeMap, HashMap};

/// What is seen of a row while it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It equals the first that came with its value.
    Equal {
        /// The row.
        row: u64,
        /// The first.
        same_as: u64,
    },
    /// It is zero throughout.
    Zero(u64),
    /// It holds a NaN or an infinity.
    NonFinite(u64),
}

/// The groups as far as they are known.
pub struct Live<'a> {
    case: &'a Case<'a>,
    token: Option<&'a dyn Fn(u64) -> Token>,
    /// By the first row that came.
    groups: HashMap<u64, Company>,
    figures: Figures,
    classes: BTreeMap<Class, u64>,
}

impl<'a> Live<'a> {
    /// Nothing is seen yet. `None` if nothing can be certain before all rows have come.
    pub fn new(case: &'a Case<'a>, token: Option<&'a dyn Fn(u64) -> Token>) -> Option<Self> {
        (!case.lacks_tokenizer()).then(|| Self {
            case,
            token,
            groups: HashMap::new(),
            figures: Figures::default(),
            classes: BTreeMap::new(),
        })
    }

    /// One more sight; what it makes certain.
    pub fn saw(&mut self, sight: Sight) -> Option<Finding> {
        let found = match sight {
            Sight::Equal { row, same_as } => {
                // The first of a value is known as a member by its first equal.
                let first = match self.groups.contains_key(&same_as) {
                    true => None,
                    false => self.joins(same_as, same_as),
                };
                first.or_else(|| self.joins(same_as, row))
            }
            Sight::Zero(row) => self.zero(row),
            Sight::NonFinite(row) => {
                let found =
                    self.case.asks(Rule::NonFiniteRows) && blames_non_finite(self.case, row);
                found.then(|| non_finite(self.case, vec![row], self.named(row)))
            }
        };
        found.map(|finding| Finding { message: format!("at least {}", finding.message), ..finding })
    }

    fn named(&self, row: u64) -> Vec<Token> {
        self.token.map(|token| token(row)).into_iter().collect()
    }

    fn zero(&self, row: u64) -> Option<Finding> {
        if !blames_zero(self.case, row) {
            return None;
        }
        if self.case.asks(Rule::ZeroRows) {
            return Some(zero_rows(self.case, vec![row], self.named(row)));
        }
        let token = self.named(row).into_iter().next().filter(is_emittable)?;
        self.case.asks(Rule::EmittableZero).then(|| emittable_zero(self.case, &[token]))
    }

    /// A row is a member of the group that begins with `first`.
    fn joins(&mut self, first: u64, row: u64) -> Option<Finding> {
        let token = self.token.map(|token| token(row));
        let case = self.case;
        let group = self.groups.entry(first).or_default();
        let before = (group.size, group.blamed, group.excess());
        group.add(case, row, token.as_ref());
        self.figures.members += (group.blamed - before.1) as u64;
        self.figures.groups += u64::from(before.1 == 0 && group.blamed > 0);
        self.figures.excess += (group.excess() - before.2) as u64;
        let complete = group.size > 1;
        let of_group = [
            (Rule::EmittableInGroup, group.emittable_in_group()),
            (Rule::SpecialInGroup, group.special_in_group()),
        ]
        .into_iter()
        .find(|&(rule, says)| complete && says == Says::Found && case.asks(rule))
        .map(|(rule, _)| group.finding(case, rule));
        let changed = self.changed(first, row, token.as_ref()).filter(|_| complete);
        let class = self.count_class(token.and_then(|token| token.class), row);
        let limits = || over(case, &self.figures).into_iter().next();
        of_group.or(changed).or(class).or_else(limits)
    }

    /// Rows that the baseline does not have in one group.
    fn changed(&self, first: u64, row: u64, token: Option<&Token>) -> Option<Finding> {
        self.case.baseline?;
        let homes = &self.groups.get(&first)?.homes;
        if homes.is_empty() || homes.were_one() {
            return None;
        }
        let rule = if homes.any() { Rule::GrownGroup } else { Rule::NewGroup };
        let mut rows = vec![first, row];
        rows.sort_unstable();
        let tokens: Vec<Token> = self.named(first).into_iter().chain(token.cloned()).collect();
        let message = format!("{} newly identical: {}", some(2, "row"), listed(&rows, &tokens));
        let of = Of { rows, tokens, ..Of::default() };
        Some(self.case.finding(rule, Level::Error, message, of))
    }

    fn count_class(&mut self, class: Option<Class>, row: u64) -> Option<Finding> {
        let class = class.filter(|_| !self.case.allowed.has(row))?;
        let &limit = self.case.rules.limits.class.get(&class)?;
        let found = self.classes.entry(class).or_default();
        *found += 1;
        (*found > limit).then(|| over_class(self.case, class, *found, limit))
    }
}

/// The check of a matrix that was not read to its end, because this was found.
pub fn stopped(
    name: &str,
    case: &Case<'_>,
    model: &Origin,
    matrix: &MatrixPart,
    finding: Finding,
) -> Check {
    let of_rule = |&rule: &Rule| Judged {
        rule,
        outcome: if rule == finding.rule { Outcome::Fail } else { Outcome::Undecided },
    };
    Check {
        name: name.to_owned(),
        outcome: Outcome::Fail,
        model: Some(model.clone()),
        matrix: Some(matrix.clone()),
        figures: None,
        rules: Rule::ALL.iter().filter(|&&rule| case.asks(rule)).map(of_rule).collect(),
        findings: vec![finding],
        undecided: Vec::new(),
        warnings: Vec::new(),
        basis: Basis::Read,
        bytes_saved: 0,
        transfer: Transfer::default(),
    }
}
