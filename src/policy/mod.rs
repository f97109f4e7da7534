//! What a gate accepts: a policy, an earlier report, and what both make of a new one.
//!
//! A [`Policy`] says which models are judged by which [`Rules`]. [`judge()`] holds a
//! [`Report`](crate::report::Report) against them, and against a [`Baseline`] where there is one; the
//! answer is a [`Check`](crate::report::Check). [`Live`] does so while rows come. Nothing here reads,
//! fetches or prints.

mod allow;
mod baseline;
mod case;
mod draft;
#[cfg(feature = "policy")]
mod file;
mod judge;
mod live;
mod replay;

pub use allow::{Allow, Allowance, Ids};
pub use baseline::Baseline;
pub use case::Case;
pub use draft::draft;
pub use judge::judge;
pub use live::{Live, Sight, stopped};
pub use replay::{MAX_REPORT, read};

use crate::report::Rule;
use crate::vocabulary::Class;
use std::collections::BTreeMap;

/// The longest policy that is read, in bytes.
pub const MAX_POLICY: u64 = 1 << 20;

/// Which models are judged, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// What holds for models that have no entry.
    pub rules: Rules,
    /// The models, in the order of the file.
    pub models: Vec<Entry>,
}

/// What is asked of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The rules of which nothing may be found.
    pub forbid: Vec<Rule>,
    /// What may not be exceeded.
    pub limits: Limits,
    /// The rows that may be in groups, or zero.
    pub allow: Allow,
    /// Whether what a baseline has and the matrix has not is an error.
    pub strict_baseline: bool,
}

/// Without a policy: what is a defect in any model.
impl Default for Rules {
    fn default() -> Self {
        Self {
            forbid: vec![Rule::EmittableInGroup, Rule::NonFiniteRows],
            limits: Limits::default(),
            allow: Allow::default(),
            strict_baseline: false,
        }
    }
}

/// What may not be exceeded; `None` is no limit. Allowed rows do not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Rows that equal another before them.
    pub max_excess: Option<u64>,
    /// Rows inside groups.
    pub max_members: Option<u64>,
    /// Groups.
    pub max_groups: Option<u64>,
    /// Rows of a class inside groups.
    pub class: BTreeMap<Class, u64>,
}

/// One model of a policy. What is not `None` is as an option of the command line would have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The model, as a user may type it; a relative path is relative to the policy's file.
    pub id: String,
    /// Its revision.
    pub revision: Option<String>,
    /// Which matrices.
    pub matrix: Matrices,
    /// A tensor in their place.
    pub tensor: Option<String>,
    /// A weights file or folder inside the repository.
    pub file: Option<String>,
    /// What names its rows.
    pub tokenizer: Option<String>,
    /// An earlier report, relative to the policy's file.
    pub baseline: Option<String>,
    /// What is asked of it.
    pub rules: Rules,
}

/// Which matrices of a model are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "policy", derive(serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Matrices {
    /// The output head.
    #[default]
    Unembedding,
    /// The input embedding.
    Embedding,
    /// Both.
    Both,
}

impl Rule {
    /// The rules that a policy may forbid.
    pub const FORBIDDEN: [Self; 5] = [
        Self::EmittableInGroup,
        Self::SpecialInGroup,
        Self::ZeroRows,
        Self::NonFiniteRows,
        Self::EmittableZero,
    ];

    /// The rules that a baseline brings with it.
    pub const OF_BASELINE: [Self; 5] = [
        Self::NewGroup,
        Self::GrownGroup,
        Self::ShrunkGroup,
        Self::VanishedGroup,
        Self::MovedGroup,
    ];
}
