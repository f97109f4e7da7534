//! Step 7: what is learnt from rows. One file, one analysis, one finding.

mod digest;
mod duplicates;
mod equality;

pub use digest::Digest;
pub use duplicates::{Duplicates, Group, Grouping};
pub use equality::Equality;

use crate::error::Result;
use crate::rows::RowBlock;

/// Something that looks at every row of a matrix.
///
/// Contract: each row is shown exactly once, in any order, because several streams run at a time,
/// each with a fork of its own; [`finish`](Analysis::finish) is called once every row was shown
/// and every other fork was dropped. The finding never depends on the order of arrival.
pub trait Analysis: Send + Sized {
    /// What is known when all rows have been seen.
    type Finding;

    /// A part of this analysis for another stream.
    fn fork(&self) -> Self;

    /// Looks at a block of rows.
    fn block(&mut self, block: &RowBlock) -> Result<()>;

    /// What was learnt.
    fn finish(self) -> Result<Self::Finding>;
}
