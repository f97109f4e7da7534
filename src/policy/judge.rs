//! A report held against a policy and a baseline.

use super::baseline::{Change, without};
use super::case::{Case, Company, Of, Says, listed};
use super::replay::listed_in_full;
use super::{Baseline, Rules};
use crate::quote;
use crate::report::{
    Basis, Check, DegeneratePart, Figures, Finding, GroupPart, Judged, Level, Outcome, Report,
    Rule, is_emittable, some,
};
use crate::vocabulary::{Class, Token};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Judges a report. `name` is the model as it was asked for.
pub fn judge(
    name: &str,
    report: &Report,
    rules: &Rules,
    baseline: Option<&Baseline>,
    basis: Basis,
) -> Check {
    let case = Case::new(rules, baseline, &report.model, &report.matrix, report.tokenizer.as_ref());
    let mut court = Court { case: &case, findings: Vec::new(), open: BTreeMap::new() };
    let mut figures = None;
    if listed_in_full(report) {
        let groups = &report.duplicates.groups;
        let companies: Vec<Company> = groups.iter().map(|group| company(&case, group)).collect();
        groups.iter().zip(&companies).for_each(|(group, company)| court.group(group, company));
        figures = Some(court.limits(report.matrix.rows, groups, &companies));
        if let Some(baseline) = baseline {
            baseline.changes(groups).into_iter().for_each(|change| court.change(change));
        }
    } else {
        Rule::ALL.iter().filter(|rule| !OF_ROWS.contains(rule)).for_each(|&rule| {
            court.leave(rule, Why::Listing);
        });
    }
    match &report.degenerate {
        Some(degenerate) => court.degenerate(degenerate, report),
        None => OF_ROWS.into_iter().for_each(|rule| court.leave(rule, Why::Degenerate)),
    }
    let Court { mut findings, open, .. } = court;
    findings.sort_by_key(|finding| (finding.level, finding.rule, finding.rows.first().copied()));
    let undecided: BTreeSet<Why> = open.values().flatten().copied().collect();
    let undecided: Vec<String> = undecided
        .into_iter()
        .map(|why| {
            let of = open.iter().filter(|(_, whys)| whys.contains(&why));
            why.sentence(&of.map(|(rule, _)| rule.name()).collect::<Vec<_>>(), &report.warnings)
        })
        .collect();
    let failed: BTreeSet<Rule> =
        findings.iter().filter(|f| f.level == Level::Error).map(|f| f.rule).collect();
    let of_rule = |&rule: &Rule| {
        let outcome = match (open.contains_key(&rule), failed.contains(&rule)) {
            (_, true) => Outcome::Fail,
            (true, _) => Outcome::Undecided,
            _ => Outcome::Pass,
        };
        Judged { rule, outcome }
    };
    Check {
        name: name.to_owned(),
        outcome: match (undecided.is_empty(), failed.is_empty()) {
            (false, _) => Outcome::Undecided,
            (true, false) => Outcome::Fail,
            (true, true) => Outcome::Pass,
        },
        model: Some(report.model.clone()),
        matrix: Some(report.matrix.clone()),
        figures,
        rules: Rule::ALL.iter().filter(|&&rule| case.asks(rule)).map(of_rule).collect(),
        findings,
        undecided,
        warnings: report.warnings.clone(),
        basis,
        bytes_saved: 0,
        transfer: report.transfer,
    }
}

/// The rules about single rows.
const OF_ROWS: [Rule; 3] = [Rule::ZeroRows, Rule::NonFiniteRows, Rule::EmittableZero];

/// Why a rule could not be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Tokenizer,
    Broken,
    Padding,
    Degenerate,
    Listing,
}

impl Why {
    fn sentence(self, rules: &[&str], warnings: &[String]) -> String {
        let rules = rules.join(", ");
        let reason = warnings.iter().find(|warning| warning.contains("rows have no names"));
        let reason =
            reason.map_or(String::new(), |reason| format!(" ({})", quote::sentence(reason)));
        match self {
            Self::Tokenizer => {
                format!("{rules}: not decided without a tokenizer{reason}; name one for the model")
            }
            Self::Broken => format!(
                "{rules}: not decided, because the classes of rows in question are not known (what \
                 names them is a list, or the tokenizer breaks on their tokens); name another for \
                 the model"
            ),
            Self::Padding => format!(
                "{rules}: not decided, because without a tokenizer nothing tells which rows are \
                 padding{reason}; name one for the model, or do not allow padding"
            ),
            Self::Degenerate
                if warnings.iter().any(|warning| warning.contains("are quantised")) =>
            {
                format!(
                    "{rules}: not decided, because the rows are quantised, and none is measured; \
                     leave {} out of forbid for this model",
                    if rules.contains(',') { "them" } else { "it" }
                )
            }
            Self::Degenerate => format!(
                "{rules}: not decided, because the report does not say which rows are zero or not \
                 finite; scan with --classes or --profile"
            ),
            Self::Listing => format!(
                "{rules}: not decided, because the report does not list all groups; scan with \
                 --min-size 2"
            ),
        }
    }
}

/// What is known of a group's members, all of them.
fn company(case: &Case<'_>, group: &GroupPart) -> Company {
    let mut company = Company::default();
    for (at, &row) in group.rows.iter().enumerate() {
        company.add(case, row, group.tokens.get(at));
    }
    company
}

struct Court<'a> {
    case: &'a Case<'a>,
    findings: Vec<Finding>,
    /// The rules that cannot be decided.
    open: BTreeMap<Rule, BTreeSet<Why>>,
}

impl Court<'_> {
    /// Leaves a rule undecided, if it is asked about.
    fn leave(&mut self, rule: Rule, why: Why) {
        if self.case.asks(rule) {
            self.open.entry(rule).or_default().insert(why);
        }
    }

    fn leave_unnamed(&mut self, rule: Rule) {
        self.leave(rule, if self.case.named { Why::Broken } else { Why::Tokenizer });
    }

    /// Takes a finding that holds unless the rows are padding, of which nothing tells.
    fn unless_padding(&mut self, finding: Finding) {
        match self.case.padding_unknown() {
            true => self.leave(finding.rule, Why::Padding),
            false => self.findings.push(finding),
        }
    }

    fn group(&mut self, group: &GroupPart, company: &Company) {
        for (rule, says) in [
            (Rule::EmittableInGroup, company.emittable_in_group()),
            (Rule::SpecialInGroup, company.special_in_group()),
        ] {
            match says {
                Says::Found if self.case.asks(rule) => {
                    let finding = company.finding(self.case, rule);
                    self.findings.push(Finding { digest: Some(group.digest), ..finding });
                }
                Says::Unknown => self.leave_unnamed(rule),
                _ => {}
            }
        }
    }

    fn limits(&mut self, rows: u64, groups: &[GroupPart], companies: &[Company]) -> Figures {
        let mut figures = Figures { rows, ..Figures::default() };
        let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
        let mut unknown = 0;
        for (group, company) in groups.iter().zip(companies) {
            figures.count(company);
            unknown += company.unknown as u64;
            let blamed = |token: &&Token| !self.case.allowed.has(token.row);
            for class in group.tokens.iter().filter(blamed).filter_map(|token| token.class) {
                *classes.entry(class).or_default() += 1;
            }
        }
        for finding in over(self.case, &figures) {
            self.unless_padding(finding);
        }
        for (&class, &limit) in &self.case.rules.limits.class {
            let found = classes.get(&class).copied().unwrap_or_default();
            if found > limit {
                self.findings.push(over_class(self.case, class, found, limit));
            } else if found + unknown > limit {
                self.leave_unnamed(Rule::MaxMembers);
            }
        }
        figures
    }

    fn degenerate(&mut self, degenerate: &DegeneratePart, report: &Report) {
        let members = report.duplicates.groups.iter().flat_map(|group| &group.tokens);
        let names: HashMap<u64, &Token> =
            members.chain(&degenerate.tokens).map(|token| (token.row, token)).collect();
        let named = |rows: &[u64]| -> Vec<Token> {
            rows.iter().filter_map(|row| names.get(row).map(|&token| token.clone())).collect()
        };
        let zero: Vec<u64> =
            degenerate.zero.iter().copied().filter(|&row| blames_zero(self.case, row)).collect();
        if self.case.asks(Rule::ZeroRows) && !zero.is_empty() {
            let finding = zero_rows(self.case, zero.clone(), named(&zero));
            self.unless_padding(finding);
        }
        let emittable: Vec<Token> = named(&zero).into_iter().filter(is_emittable).collect();
        if self.case.asks(Rule::EmittableZero) && !emittable.is_empty() {
            self.findings.push(emittable_zero(self.case, &emittable));
        }
        if zero.iter().any(|row| names.get(row).is_none_or(|token| token.class.is_none())) {
            self.leave_unnamed(Rule::EmittableZero);
        }
        let mut rows = degenerate.non_finite();
        rows.retain(|&row| blames_non_finite(self.case, row));
        if self.case.asks(Rule::NonFiniteRows) && !rows.is_empty() {
            self.findings.push(non_finite(self.case, rows.clone(), named(&rows)));
        }
    }

    /// What became of a group since the baseline.
    fn change(&mut self, change: Change<'_>) {
        match change {
            Change::New(group) => {
                let rows = self.blamed(&group.rows);
                if !rows.is_empty() {
                    let what = format!("{} newly identical", some(group.rows.len() as u64, "row"));
                    let finding = self.of(Rule::NewGroup, what, group.rows.clone(), group);
                    self.unless_padding(finding);
                }
            }
            Change::Matched(before, now) => self.matched(before, now),
            Change::Split(group) => {
                let what = format!(
                    "{} that were in a larger group of the baseline have a vector of their own",
                    some(group.rows.len() as u64, "row")
                );
                let finding = self.of(Rule::MovedGroup, what, group.rows.clone(), group);
                self.note(finding);
            }
            Change::Gone(group) => {
                let what = format!("no more a group: {}", some(group.rows.len() as u64, "row"));
                let finding = self.of(Rule::VanishedGroup, what, group.rows.clone(), group);
                self.note(finding);
            }
        }
    }

    fn matched(&mut self, before: &GroupPart, now: &GroupPart) {
        let gained = without(&now.rows, &before.rows);
        let lost = without(&before.rows, &now.rows);
        let blamed = self.blamed(&gained);
        let of = some(before.rows.len() as u64, "row");
        if !blamed.is_empty() {
            let what = format!("{} more in a group of {of}", some(blamed.len() as u64, "row"));
            let finding = self.of(Rule::GrownGroup, what, blamed, now);
            self.unless_padding(finding);
        }
        if !lost.is_empty() {
            let what = format!("{} fewer in a group of {of}", some(lost.len() as u64, "row"));
            // Their names are with the group that they were in.
            let finding = self.of(Rule::ShrunkGroup, what, lost, before);
            self.note(finding);
        }
        if before.digest != now.digest && before.rows == now.rows {
            let what = format!("another vector, the same {of}");
            let finding = self.of(Rule::MovedGroup, what, now.rows.clone(), now);
            self.note(finding);
        }
    }

    fn blamed(&self, rows: &[u64]) -> Vec<u64> {
        rows.iter().copied().filter(|&row| !self.case.allowed.has(row)).collect()
    }

    /// A finding about some rows of a group.
    fn of(&self, rule: Rule, what: String, rows: Vec<u64>, group: &GroupPart) -> Finding {
        of_group(self.case, rule, &what, rows, group)
    }

    /// Takes what is gone: a note, unless the policy is strict.
    fn note(&mut self, finding: Finding) {
        let strict = self.case.rules.strict_baseline;
        let level = if strict { Level::Error } else { Level::Note };
        self.findings.push(Finding { level, ..finding });
    }
}

fn of_group(case: &Case<'_>, rule: Rule, what: &str, rows: Vec<u64>, group: &GroupPart) -> Finding {
    let of = |token: &&Token| rows.binary_search(&token.row).is_ok();
    let tokens: Vec<Token> = group.tokens.iter().filter(of).cloned().collect();
    let message = format!("{what}: {}", listed(&rows, &tokens));
    let digest = Some(group.digest);
    case.finding(rule, Level::Error, message, Of { rows, tokens, digest, ..Of::default() })
}

impl Company {
    /// What a rule found in the group.
    pub(super) fn finding(&self, case: &Case<'_>, rule: Rule) -> Finding {
        let (what, tokens) = match rule {
            Rule::SpecialInGroup => (
                format!(
                    "{} in a group of {}",
                    some(self.special.len() as u64, "special token"),
                    self.size
                ),
                &self.special,
            ),
            _ => (
                format!(
                    "{} that can be emitted share a vector",
                    some(self.emittable.len() as u64, "token")
                ),
                &self.emittable,
            ),
        };
        let mut tokens = tokens.clone();
        tokens.sort_by_key(|token| token.row);
        case.of_tokens(rule, what, &tokens)
    }
}

impl Figures {
    /// Adds a group.
    pub(super) fn count(&mut self, company: &Company) {
        self.allowed += (company.size - company.blamed) as u64;
        self.members += company.blamed as u64;
        self.excess += company.excess() as u64;
        self.groups += u64::from(company.blamed > 0);
    }
}

/// The limits that are exceeded.
pub(super) fn over(case: &Case<'_>, figures: &Figures) -> Vec<Finding> {
    let limits = &case.rules.limits;
    let found = [
        (
            Rule::MaxExcess,
            figures.excess,
            limits.max_excess,
            "row",
            " beyond the first of its value",
        ),
        (Rule::MaxMembers, figures.members, limits.max_members, "row", " in groups"),
        (Rule::MaxGroups, figures.groups, limits.max_groups, "group", ""),
    ];
    let over = found.into_iter().filter_map(|(rule, found, limit, noun, what)| {
        let limit = limit.filter(|&limit| found > limit)?;
        let message = format!("{}{what}, where {limit} may be", some(found, noun));
        Some(case.finding(rule, Level::Error, message, Of::default()))
    });
    over.collect()
}

/// A limit of a class that is exceeded.
pub(super) fn over_class(case: &Case<'_>, class: Class, found: u64, limit: u64) -> Finding {
    let rows = some(found, &format!("{} row", class.name()));
    let message = format!("{rows} in groups, where {limit} may be");
    let of = Of { key: class.name(), ..Of::default() };
    case.finding(Rule::MaxMembers, Level::Error, message, of)
}

/// Whether a zero row is neither allowed nor in the baseline.
pub(super) fn blames_zero(case: &Case<'_>, row: u64) -> bool {
    !case.allowed.has(row) && case.baseline.is_none_or(|baseline| !baseline.zero.contains(&row))
}

/// Whether a row with a NaN or an infinity is not in the baseline. None is allowed: one is enough to
/// spoil all probabilities.
pub(super) fn blames_non_finite(case: &Case<'_>, row: u64) -> bool {
    case.baseline.is_none_or(|baseline| !baseline.non_finite.contains(&row))
}

pub(super) fn zero_rows(case: &Case<'_>, rows: Vec<u64>, tokens: Vec<Token>) -> Finding {
    of_rows(case, Rule::ZeroRows, "zero throughout", rows, tokens)
}

pub(super) fn non_finite(case: &Case<'_>, rows: Vec<u64>, tokens: Vec<Token>) -> Finding {
    of_rows(case, Rule::NonFiniteRows, "with a NaN or an infinity", rows, tokens)
}

pub(super) fn emittable_zero(case: &Case<'_>, tokens: &[Token]) -> Finding {
    let what =
        format!("{} that can be emitted, zero throughout", some(tokens.len() as u64, "token"));
    case.of_tokens(Rule::EmittableZero, what, tokens)
}

fn of_rows(case: &Case<'_>, rule: Rule, what: &str, rows: Vec<u64>, tokens: Vec<Token>) -> Finding {
    let message = format!("{} {what}: {}", some(rows.len() as u64, "row"), listed(&rows, &tokens));
    case.finding(rule, Level::Error, message, Of { rows, tokens, ..Of::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::case::samples::{report, token};
    use crate::policy::{Allow, Ids, Limits};
    use proptest::prelude::*;

    fn all_rules(ids: &[u64], limit: u64) -> Rules {
        Rules {
            forbid: Rule::FORBIDDEN.to_vec(),
            limits: Limits {
                max_excess: Some(limit),
                max_members: Some(limit),
                max_groups: Some(limit),
                class: [(Class::Reachable, limit)].into(),
            },
            allow: Allow { ids: Ids::of(ids), ..Allow::default() },
            strict_baseline: false,
        }
    }

    /// The rules that are broken, by looking at every row and every pair of rows.
    fn naive(values: &[u8], classes: &[u8], ids: &[u64], limit: u64) -> BTreeSet<Rule> {
        let rows = 0..values.len();
        let padding = classes.iter().rev().take_while(|&&class| class > 3).count();
        let allowed = |row: usize| ids.contains(&(row as u64)) || row >= values.len() - padding;
        let equal = |a: usize, b: usize| a != b && values[a] == values[b];
        let emittable = |row: usize| classes[row] < 3;
        let in_group = |row: usize| rows.clone().any(|other| equal(row, other));
        let count =
            |holds: &dyn Fn(usize) -> bool| rows.clone().filter(|&r| holds(r)).count() as u64;
        let member = |row: usize| in_group(row) && !allowed(row);
        // The first of its value that is not allowed, of a value that no allowed row has.
        let spared = |row: usize| {
            rows.clone().all(|other| !equal(row, other) || !allowed(other) && row < other)
        };
        let leads = |row: usize| {
            member(row)
                && rows.clone().all(|other| !equal(row, other) || allowed(other) || row < other)
        };
        let broken = [
            (
                Rule::EmittableInGroup,
                rows.clone().any(|a| {
                    let with = |b| equal(a, b) && emittable(b);
                    emittable(a) && !allowed(a) && rows.clone().any(with)
                }),
            ),
            (Rule::SpecialInGroup, rows.clone().any(|row| classes[row] == 2 && member(row))),
            (Rule::ZeroRows, rows.clone().any(|row| values[row] == 0 && !allowed(row))),
            (Rule::NonFiniteRows, values.contains(&9)),
            (
                Rule::EmittableZero,
                rows.clone().any(|row| values[row] == 0 && emittable(row) && !allowed(row)),
            ),
            (Rule::MaxExcess, count(&|row| member(row) && !spared(row)) > limit),
            (
                Rule::MaxMembers,
                count(&member) > limit || count(&|row| member(row) && classes[row] < 2) > limit,
            ),
            (Rule::MaxGroups, count(&leads) > limit),
        ];
        broken.into_iter().filter(|(_, broken)| *broken).map(|(rule, _)| rule).collect()
    }

    fn errors(check: &Check) -> BTreeSet<Rule> {
        let errors = check.findings.iter().filter(|finding| finding.level == Level::Error);
        errors.map(|finding| finding.rule).collect()
    }

    /// Values of rows, and as many classes.
    fn rows() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        prop::collection::vec((0u8..10, 0u8..5), 0..14).prop_map(|rows| rows.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn a_rule_is_broken_where_looking_at_every_pair_of_rows_says_so(
            (values, classes) in rows(),
            ids in prop::collection::btree_set(0u64..14, 0..4),
            limit in 0u64..4,
        ) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let report = report(&values, &classes);
            let check = judge("m", &report, &all_rules(&ids, limit), None, Basis::Read);
            // Of no rows there is no tokenizer either.
            prop_assume!(!values.is_empty());
            prop_assert_eq!(errors(&check), naive(&values, &classes, &ids, limit));
            let failed = check.rules.iter().filter(|rule| rule.outcome == Outcome::Fail);
            prop_assert_eq!(failed.map(|rule| rule.rule).collect::<BTreeSet<_>>(), errors(&check));
            prop_assert_eq!(check.outcome == Outcome::Fail, !errors(&check).is_empty());
            prop_assert!(check.undecided.is_empty());
        }

        #[test]
        fn a_report_that_is_its_own_baseline_passes_whatever_is_forbidden(
            (values, classes) in rows(),
        ) {
            let report = report(&values, &classes);
            let rules = Rules { limits: Limits::default(), strict_baseline: true, ..all_rules(&[], 0) };
            let baseline = Baseline::new(&report);
            let check = judge("m", &report, &rules, Some(&baseline), Basis::Read);
            prop_assert_eq!(check.findings, []);
        }

        #[test]
        fn without_a_tokenizer_nothing_is_said_that_one_would_deny(
            (values, classes) in rows(),
            limit in 0u64..4,
        ) {
            let rules = all_rules(&[], limit);
            let blind = judge("m", &report(&values, &[]), &rules, None, Basis::Read);
            let sighted = judge("m", &report(&values, &classes), &rules, None, Basis::Read);
            for (blind, sighted) in blind.rules.iter().zip(&sighted.rules) {
                let agree = blind.outcome == Outcome::Undecided || blind.outcome == sighted.outcome;
                prop_assert!(agree, "{:?} {:?}", blind, sighted);
            }
        }
    }

    #[test]
    fn what_became_of_a_group_is_an_error_where_rows_were_gained_and_else_a_note() {
        let classes = [3; 8];
        for (before, now, expected) in [
            ([1, 1, 2, 3, 4, 5, 6, 7], [1, 1, 2, 3, 4, 5, 6, 7], vec![]),
            (
                [1, 1, 2, 3, 4, 5, 6, 7],
                [1, 1, 2, 2, 4, 5, 6, 7],
                vec![(Rule::NewGroup, vec![2, 3])],
            ),
            ([1, 1, 2, 3, 4, 5, 6, 7], [1, 1, 1, 3, 4, 5, 6, 7], vec![(Rule::GrownGroup, vec![2])]),
            (
                [1, 1, 1, 3, 4, 5, 6, 7],
                [1, 1, 2, 3, 4, 5, 6, 7],
                vec![(Rule::ShrunkGroup, vec![2])],
            ),
            (
                [1, 1, 2, 3, 4, 5, 6, 7],
                [1, 8, 2, 3, 4, 5, 6, 7],
                vec![(Rule::VanishedGroup, vec![0, 1])],
            ),
            (
                [1, 1, 2, 3, 4, 5, 6, 7],
                [8, 8, 2, 3, 4, 5, 6, 7],
                vec![(Rule::MovedGroup, vec![0, 1])],
            ),
            // Another vector, and one row for another.
            (
                [1, 1, 1, 3, 4, 5, 6, 7],
                [8, 8, 2, 8, 4, 5, 6, 7],
                vec![(Rule::GrownGroup, vec![3]), (Rule::ShrunkGroup, vec![2])],
            ),
            // One group has become two: no row is newly equal to another.
            (
                [1, 1, 1, 1, 4, 5, 6, 7],
                [1, 1, 8, 8, 4, 5, 6, 7],
                vec![(Rule::ShrunkGroup, vec![2, 3]), (Rule::MovedGroup, vec![2, 3])],
            ),
        ] {
            let baseline = Baseline::new(&report(&before, &classes));
            for strict_baseline in [false, true] {
                let rules = Rules { forbid: Vec::new(), strict_baseline, ..Rules::default() };
                let report = report(&now, &classes);
                let check = judge("m", &report, &rules, Some(&baseline), Basis::Read);
                let found: Vec<(Rule, Vec<u64>)> =
                    check.findings.iter().map(|f| (f.rule, f.rows.clone())).collect();
                assert_eq!(found, expected, "{before:?} {now:?}");
                for finding in &check.findings {
                    let gained = matches!(finding.rule, Rule::NewGroup | Rule::GrownGroup);
                    assert_eq!(finding.level == Level::Error, gained || strict_baseline);
                }
            }
        }
    }

    #[test]
    fn a_fingerprint_stays_while_a_finding_does() {
        let check = |values: &[u8]| {
            let classes = vec![0; values.len()];
            judge("m", &report(values, &classes), &Rules::default(), None, Basis::Read)
        };
        let print = |values: &[u8]| check(values).findings[0].fingerprint.clone();
        assert_eq!(print(&[1, 1, 2]), print(&[5, 5, 9 - 1]));
        assert_ne!(print(&[1, 1, 2]), print(&[1, 2, 2]));
        // Of one rule, each class has a finding of its own.
        let limits = Limits {
            class: [(Class::Reachable, 0), (Class::Special, 0)].into(),
            ..Limits::default()
        };
        let rules = Rules { forbid: Vec::new(), limits, ..Rules::default() };
        let found = judge("m", &report(&[1, 1], &[0, 2]), &rules, None, Basis::Read).findings;
        assert_eq!(found.len(), 2);
        assert_ne!(found[0].fingerprint, found[1].fingerprint);
    }

    #[test]
    fn a_token_on_which_the_tokenizer_breaks_leaves_what_hangs_on_it_undecided() {
        let mut report = report(&[1, 1, 2, 2], &[0, 0, 3, 3]);
        for group in &mut report.duplicates.groups {
            group.tokens[0] = Token { class: None, ..token(group.rows[0], 0) };
        }
        let check = judge("m", &report, &Rules::default(), None, Basis::Read);
        assert_eq!(check.outcome, Outcome::Undecided);
        assert!(check.undecided[0].contains("the tokenizer breaks"), "{check:?}");
    }
}
