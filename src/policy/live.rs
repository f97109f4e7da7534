//! A verdict while rows come: certain as soon as one thing is found that no later row can undo.
//!
//! Rules only ever count up, so that what they find of some rows they find of all. Without a tokenizer
//! that a rule needs nothing is certain before the end.

use super::case::{Case, Company, Of, Says, listed};
use super::judge::{
    blames_non_finite, blames_zero, emittable_zero, non_finite, over, over_class, zero_rows,
};
use crate::report::{
    Basis, Check, Figures, Finding, Judged, Level, MatrixPart, Outcome, Rule, Transfer,
    is_emittable, some,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::case::samples::{matrix, origin, report, token};
    use crate::policy::{Allow, Baseline, Ids, Limits, Rules, judge};
    use proptest::prelude::*;

    /// What is seen of rows that come in this order.
    fn sights(values: &[u8], order: &[usize]) -> Vec<Sight> {
        let mut first: HashMap<u8, usize> = HashMap::new();
        let mut sights = Vec::new();
        for &row in order {
            let same_as = *first.entry(values[row]).or_insert(row);
            if same_as != row {
                sights.push(Sight::Equal { row: row as u64, same_as: same_as as u64 });
            }
            match values[row] {
                0 => sights.push(Sight::Zero(row as u64)),
                9 => sights.push(Sight::NonFinite(row as u64)),
                _ => {}
            }
        }
        sights
    }

    fn rules(forbid: Vec<Rule>, limits: [Option<u64>; 4], ids: &[u64]) -> Rules {
        let [max_excess, max_members, max_groups, class] = limits;
        let class = class.map(|limit| (Class::Reachable, limit)).into_iter().collect();
        Rules {
            forbid,
            limits: Limits { max_excess, max_members, max_groups, class },
            allow: Allow { ids: Ids::of(ids), ..Allow::default() },
            strict_baseline: false,
        }
    }

    proptest! {
        /// In whatever order rows come; with a baseline, a group that is new may show only at the end.
        #[test]
        fn a_verdict_is_certain_if_the_whole_fails_and_never_otherwise(
            rows in prop::collection::vec((0u8..10, 0u8..5, any::<u32>()), 1..14),
            before in prop::option::of(prop::collection::vec(0u8..10, 0..14)),
            forbid in prop::sample::subsequence(Rule::FORBIDDEN.to_vec(), 0..=5),
            limits in prop::array::uniform4(prop::option::of(0u64..4)),
            ids in prop::collection::btree_set(0u64..14, 0..4),
        ) {
            let values: Vec<u8> = rows.iter().map(|row| row.0).collect();
            let classes: Vec<u8> = rows.iter().map(|row| row.1).collect();
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by_key(|&row| rows[row].2);
            let ids: Vec<u64> = ids.into_iter().collect();
            let rules = rules(forbid, limits, &ids);
            let baseline = before.map(|values| Baseline::new(&report(&values, &[])));
            let baseline = baseline.as_ref();
            let report = report(&values, &classes);

            let matrix = matrix(values.len() as u64);
            let model = origin();
            let case = Case::new(&rules, baseline, &model, &matrix, report.tokenizer.as_ref());
            let namer = |row: u64| token(row, classes[row as usize]);
            let mut live = Live::new(&case, Some(&namer)).unwrap();
            let certain = sights(&values, &order).into_iter().find_map(|sight| live.saw(sight));
            let whole = judge("m", &report, &rules, baseline, Basis::Read);
            match &certain {
                Some(_) => prop_assert_eq!(whole.outcome, Outcome::Fail, "{:?}", certain),
                None if baseline.is_none() => prop_assert_eq!(whole.outcome, Outcome::Pass),
                None => {
                    // What is left is certain only when all rows have come.
                    let late = [Rule::NewGroup, Rule::GrownGroup];
                    let errors = |f: &&Finding| f.level == Level::Error;
                    prop_assert!(whole.findings.iter().filter(errors).all(|f| late.contains(&f.rule)));
                }
            }
        }
    }

    #[test]
    fn nothing_is_certain_while_a_rule_wants_a_tokenizer_that_is_not_there() {
        let certain = |forbid: &[Rule], padding: bool| {
            let allow = Allow { padding, ..Allow::default() };
            let rules = Rules { forbid: forbid.to_vec(), allow, ..Rules::default() };
            let (model, matrix) = (origin(), matrix(9));
            let case = Case::new(&rules, None, &model, &matrix, None);
            Live::new(&case, None).is_some_and(|mut live| live.saw(Sight::NonFinite(3)).is_some())
        };
        assert!(certain(&[Rule::NonFiniteRows], false));
        assert!(!certain(&[Rule::NonFiniteRows], true));
        assert!(!certain(&[Rule::NonFiniteRows, Rule::EmittableInGroup], false));
    }
}
