//! An earlier report, and what has become of its groups.
//!
//! Groups are matched first by the digest of their vector, then by the largest overlap of members
//! among what is left, each at most once.

use super::replay::listed_in_full;
use crate::analysis::Equality;
use crate::error::{Error, Result};
use crate::report::{GroupPart, MatrixPart, Report};
use crate::resolve::{Origin, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

/// An earlier report of the same matrix.
#[derive(Debug, Clone)]
pub struct Baseline {
    groups: Vec<GroupPart>,
    /// The group that a row was in.
    home: HashMap<u64, usize>,
    /// Rows that were zero, and rows that were not finite, as far as that was told.
    pub(super) zero: HashSet<u64>,
    pub(super) non_finite: HashSet<u64>,
}

impl Baseline {
    /// The report that is of this matrix, out of those of one file.
    pub fn find(
        file: &str,
        reports: &[Report],
        model: &Origin,
        matrix: &MatrixPart,
        equality: Equality,
    ) -> Result<Self> {
        let refuse = |what: String| Error::Format { file: file.to_owned(), what };
        if let Some(other) = reports.iter().find(|report| !is_same(&report.model, model)) {
            let (other, this) = (&other.model.id, &model.id);
            return Err(refuse(format!("a baseline of another model: of {other}, not {this}")));
        }
        let of_tensor = |report: &&Report| report.matrix.tensor == matrix.tensor;
        let report = reports.iter().find(of_tensor).ok_or_else(|| {
            refuse(format!("the baseline has no report of the tensor {}", matrix.tensor))
        })?;
        if report.duplicates.equality != equality {
            return Err(refuse("the baseline compares rows by another equality".to_owned()));
        }
        if !listed_in_full(report) {
            return Err(refuse("the baseline does not list all of its groups".to_owned()));
        }
        Ok(Self::new(report))
    }

    pub(super) fn new(report: &Report) -> Self {
        let groups = report.duplicates.groups.clone();
        let home = (0..)
            .zip(&groups)
            .flat_map(|(at, group)| group.rows.iter().map(move |&row| (row, at)))
            .collect();
        let degenerate = report.degenerate.clone().unwrap_or_default();
        let non_finite = degenerate.non_finite().into_iter().collect();
        Self { groups, home, zero: degenerate.zero.into_iter().collect(), non_finite }
    }

    /// The number of the group that a row was in.
    pub(super) fn home(&self, row: u64) -> Option<usize> {
        self.home.get(&row).copied()
    }

    /// What became of each group, in the order of the new ones, and then of those that are gone.
    pub(super) fn changes<'a>(&'a self, now: &'a [GroupPart]) -> Vec<Change<'a>> {
        let pairs = self.pairs(now);
        let after = now.iter().zip(&pairs).map(|(group, &before)| match before {
            Some(before) => Change::Matched(&self.groups[before], group),
            None if self.were_one(group) => Change::Split(group),
            None => Change::New(group),
        });
        let found: HashSet<usize> = pairs.iter().flatten().copied().collect();
        let gone = (0..self.groups.len()).filter(|at| !found.contains(at));
        after.chain(gone.map(|at| Change::Gone(&self.groups[at]))).collect()
    }

    fn were_one(&self, group: &GroupPart) -> bool {
        let homes: BTreeSet<Option<usize>> = group.rows.iter().map(|&row| self.home(row)).collect();
        homes.len() == 1 && !homes.contains(&None)
    }

    /// For each new group the old one that it is.
    fn pairs(&self, now: &[GroupPart]) -> Vec<Option<usize>> {
        let by_digest: HashMap<_, usize> =
            self.groups.iter().zip(0..).map(|(group, at)| (group.digest, at)).collect();
        let mut pairs: Vec<Option<usize>> =
            now.iter().map(|group| by_digest.get(&group.digest).copied()).collect();
        let mut taken: HashSet<usize> = pairs.iter().flatten().copied().collect();
        // The largest overlap first; among equals the earlier new group, then the earlier old one.
        let mut overlaps = BTreeSet::new();
        for (at, group) in now.iter().enumerate().filter(|&(at, _)| pairs[at].is_none()) {
            let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
            for home in group.rows.iter().filter_map(|&row| self.home(row)) {
                *counts.entry(home).or_default() += 1;
            }
            let of = |(home, count)| (std::cmp::Reverse(count), at, home);
            overlaps.extend(counts.into_iter().map(of));
        }
        for (_, at, home) in overlaps {
            if pairs[at].is_none() && taken.insert(home) {
                pairs[at] = Some(home);
            }
        }
        pairs
    }
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change<'a> {
    /// It was, and is.
    Matched(&'a GroupPart, &'a GroupPart),
    /// All of its rows were in one group, which is another one now.
    Split(&'a GroupPart),
    /// Its rows were not all equal.
    New(&'a GroupPart),
    /// It is no more.
    Gone(&'a GroupPart),
}

/// The rows of one group that another does not have. Both ascend.
pub(super) fn without(rows: &[u64], other: &[u64]) -> Vec<u64> {
    rows.iter().copied().filter(|row| other.binary_search(row).is_err()).collect()
}

/// Whether two reports are of one model. A folder's or a file's place differs from machine to machine,
/// so that its name decides; where it has none, as `.`, nothing tells.
fn is_same(one: &Origin, other: &Origin) -> bool {
    let local = |origin: &Origin| matches!(origin.source, Place::Directory | Place::File);
    if !local(one) || !local(other) {
        return one.id == other.id;
    }
    let name = |origin: &Origin| Path::new(&origin.id).file_name().map(ToOwned::to_owned);
    name(one).zip(name(other)).is_none_or(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::case::samples::{origin, report};
    use proptest::prelude::*;

    /// Pairs by looking at all of them again and again.
    fn naive(before: &[GroupPart], now: &[GroupPart]) -> Vec<Option<usize>> {
        let mut pairs = vec![None; now.len()];
        for (at, group) in now.iter().enumerate() {
            pairs[at] = before.iter().position(|old| old.digest == group.digest);
        }
        loop {
            let mut best: Option<(usize, usize, usize)> = None;
            for (at, group) in now.iter().enumerate().filter(|&(at, _)| pairs[at].is_none()) {
                for (old, rows) in before.iter().enumerate().map(|(old, g)| (old, &g.rows)) {
                    let overlap = group.rows.iter().filter(|row| rows.contains(row)).count();
                    let taken = pairs.contains(&Some(old));
                    if overlap > 0 && !taken && best.is_none_or(|(most, ..)| overlap > most) {
                        best = Some((overlap, at, old));
                    }
                }
            }
            match best {
                Some((_, at, old)) => pairs[at] = Some(old),
                None => return pairs,
            }
        }
    }

    proptest! {
        #[test]
        fn groups_are_matched_by_digest_and_then_by_the_largest_overlap(
            before in prop::collection::vec(0u8..6, 0..16),
            now in prop::collection::vec(3u8..9, 0..16),
        ) {
            let (before, now) = (report(&before, &[]), report(&now, &[]));
            let baseline = Baseline::new(&before);
            let (old, new) = (&before.duplicates.groups, &now.duplicates.groups);
            prop_assert_eq!(baseline.pairs(new), naive(old, new));

            // Every group of either is told of once.
            let changes = baseline.changes(new);
            let olds = changes.iter().filter(|c| matches!(c, Change::Matched(..) | Change::Gone(_)));
            prop_assert_eq!(olds.count(), old.len());
            let news = changes.iter().filter(|c| !matches!(c, Change::Gone(_)));
            prop_assert_eq!(news.count(), new.len());
            for change in changes {
                if let Change::New(group) = change {
                    let were_one = |old: &GroupPart| group.rows.iter().all(|r| old.rows.contains(r));
                    prop_assert!(!old.iter().any(were_one));
                }
            }
        }
    }

    #[test]
    fn nothing_has_changed_since_the_same_report() {
        let report = report(&[1, 1, 2, 2, 2, 3], &[]);
        let baseline = Baseline::new(&report);
        for change in baseline.changes(&report.duplicates.groups) {
            assert!(matches!(change, Change::Matched(before, now) if before == now));
        }
    }

    #[test]
    fn a_baseline_of_anything_else_is_refused() {
        let now = report(&[1, 1], &[]);
        let find = |reports: &[Report]| {
            Baseline::find("b.json", reports, &origin(), &now.matrix, Equality::Bits)
        };
        assert!(find(std::slice::from_ref(&now)).is_ok());
        let changed = |change: fn(&mut Report)| {
            let mut other = now.clone();
            change(&mut other);
            find(&[other]).unwrap_err().to_string()
        };
        for (said, says) in [
            (
                changed(|r| r.model.id = "org/other".into()),
                "another model: of org/other, not org/m",
            ),
            (changed(|r| r.matrix.tensor = "x".into()), "no report of the tensor lm_head.weight"),
            (changed(|r| r.duplicates.equality = Equality::Values), "another equality"),
            (changed(|r| r.duplicates.groups.clear()), "not list all of its groups"),
        ] {
            assert!(said.starts_with("b.json: ") && said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_local_model_is_known_by_its_name_wherever_it_lies() {
        let at = |id: &str| Origin { id: id.into(), source: Place::Directory, ..origin() };
        assert!(is_same(&at("/ci/build/model"), &at("./out/model/")));
        assert!(is_same(&at("."), &at("/ci/build/model")));
        assert!(!is_same(&at("out/model-a"), &at("out/model-b")));
        assert!(!is_same(&at("org/m"), &Origin { id: "other/m".into(), ..origin() }));
    }
}
