//! The members' ids, for masks and lists of other tools.

use super::{Render, Report};
use std::io::{self, Write};

/// The ids of all listed members, ascending, one a line; of several reports, each once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids;

impl Render for Ids {
    fn render(&self, reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
        let groups = reports.iter().flat_map(|report| &report.duplicates.groups);
        let mut ids: Vec<u64> = groups.flat_map(|group| group.rows.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))
    }
}
