//! The members' ids, for masks and lists of other tools.

use super::{Render, Reports};
use crate::vocabulary::Class;
use std::io::{self, Write};

/// The ids of all listed members, or of all rows of some classes, ascending, one a line; of several
/// reports, each once.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// The classes; none means the members of groups.
    pub classes: Vec<Class>,
}

impl Render for Ids {
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()> {
        let mut ids: Vec<u64> = if self.classes.is_empty() {
            let groups = reports.reports.iter().flat_map(|report| &report.duplicates.groups);
            groups.flat_map(|group| group.rows.iter().copied()).collect()
        } else {
            let parts = reports.reports.iter().filter_map(|report| report.classes.as_ref());
            let rows = parts.flat_map(|part| self.classes.iter().filter_map(|c| part.rows.get(c)));
            rows.flatten().copied().collect()
        };
        ids.sort_unstable();
        ids.dedup();
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))
    }
}
