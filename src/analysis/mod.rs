//! Step 7: what is learnt from rows. One file, one analysis, one finding.

mod columns;
mod digest;
mod duplicates;
mod first;
mod equality;
mod probe;
mod element;
mod blocks;
mod grids;
mod coded;
mod spread;
mod whole;
mod profile;
mod geometry;

pub use columns::{Gather, InColumns, Lines};
pub use digest::{Digest, InStep};
pub use duplicates::{Copies, Duplicates, Group, Grouping};
pub use element::is_readable;
pub use equality::{Equality, UNKNOWN_VALUES};
pub use geometry::{Centre, Geometry, MAX_VECTORS};
pub use probe::{PREFIX, Prefixes, Suspects};
pub use profile::{Histogram, NEAR_ZERO, NormSummary, Profile, Reach, RowProfile, Special};
pub use spread::Spread;

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

/// An analysis that is not made where it is not asked for.
impl<A: Analysis> Analysis for Option<A> {
    type Finding = Option<A::Finding>;

    fn fork(&self) -> Self {
        self.as_ref().map(A::fork)
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        self.as_mut().map_or(Ok(()), |analysis| analysis.block(block))
    }

    fn finish(self) -> Result<Self::Finding> {
        self.map(A::finish).transpose()
    }
}

/// Two analyses in one pass; each sees every block.
pub struct Both<A, B>(pub A, pub B);

impl<A: Analysis, B: Analysis> Analysis for Both<A, B> {
    type Finding = (A::Finding, B::Finding);

    fn fork(&self) -> Self {
        Self(self.0.fork(), self.1.fork())
    }

    fn block(&mut self, block: &RowBlock) -> Result<()> {
        self.0.block(block)?;
        self.1.block(block)
    }

    fn finish(self) -> Result<Self::Finding> {
        Ok((self.0.finish()?, self.1.finish()?))
    }
}
