//! What a gate says of models: plain data, with renderings of its own.
//!
//! A [`Verdict`] holds a [`Check`] for each matrix that was to be judged, and each check its
//! [`Finding`]s. Judging is not done here.

mod words;
mod text;
mod markdown;
mod sarif;
mod junit;
mod github;

use super::{MatrixPart, Tool, Transfer, pretty};
use crate::analysis::Digest;
use crate::resolve::Origin;
use crate::vocabulary::Token;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

pub use markdown::{SUMMARY_ROOM, summary};

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was read, and nothing is against the policy.
    Pass,
    /// Something is against the policy.
    Fail,
    /// Something could not be decided: not read, or not judged. Neither good nor bad.
    Undecided,
}

/// The verdict on everything that was to be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The version of this form, as that of reports.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// The gravest outcome of the checks: what could not be decided outweighs what failed.
    pub outcome: Outcome,
    /// The policy's file as it was named; `null` for the rules that hold without one.
    pub policy: Option<String>,
    /// A check for each matrix, in the order of the policy.
    pub checks: Vec<Check>,
}

/// One matrix, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The model as it was asked for, its revision included.
    pub name: String,
    /// What came out.
    pub outcome: Outcome,
    /// Where the model was read from; `null` if it was not found.
    pub model: Option<Origin>,
    /// The matrix; `null` if it was not found.
    pub matrix: Option<MatrixPart>,
    /// What the rules counted; `null` if the matrix was not read to its end.
    pub figures: Option<Figures>,
    /// Every rule that was asked about, in the order of [`Rule::ALL`].
    pub rules: Vec<Judged>,
    /// What is against the policy, and what else is to be noted: the gravest first, then by rule, then
    /// by first row.
    pub findings: Vec<Finding>,
    /// Why there is no decision, a sentence each.
    pub undecided: Vec<String>,
    /// What the reader should know, a sentence each.
    pub warnings: Vec<String>,
    /// Where what was judged came from.
    pub basis: Basis,
    /// Bytes of the matrix that were left unread because the verdict was certain without them.
    pub bytes_saved: u64,
    /// What it cost.
    pub transfer: Transfer,
}

/// Where what was judged came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The matrix was read.
    Read,
    /// The same bytes had been read before, and what was found was kept.
    Store,
    /// An earlier report.
    Replay,
}

/// What limits are held against: the matrix without the rows that the policy allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Rows of the matrix, all of them.
    pub rows: u64,
    /// Rows that the policy allows to be in groups.
    pub allowed: u64,
    /// Other rows inside groups.
    pub members: u64,
    /// Other rows that equal a row before them, or an allowed one.
    pub excess: u64,
    /// Groups that have another row than allowed ones.
    pub groups: u64,
}

/// What one rule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The rule.
    pub rule: Rule,
    /// What came out.
    pub outcome: Outcome,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is against the policy.
    Error,
    /// It is worth knowing.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How grave it is.
    pub level: Level,
    /// What was found, in one sentence; tokens in it are quoted, safe to print.
    pub message: String,
    /// What to do about it, in one sentence.
    pub advice: String,
    /// The rows it is about, ascending; empty where it is about a figure.
    pub rows: Vec<u64>,
    /// What they are called; empty without a tokenizer.
    pub tokens: Vec<Token>,
    /// The digest of the vector they share, where they are a group.
    pub digest: Option<Digest>,
    /// What stays the same from run to run while the finding does: model, tensor, rule and first rows.
    pub fingerprint: String,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal $why:literal $advice:literal)*) => {
        /// What a policy may ask about. The name in policies, verdicts and documents is that of
        /// [`name`](Rule::name).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Rule {
            $($(#[$doc])* #[serde(rename = $name)] $rule,)*
        }

        impl Rule {
            /// All, in the order in which they are told.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// Why what it finds is a defect, in one sentence.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$rule => $why,)* }
            }

            /// What to do about it, in one sentence.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$rule => $advice,)* }
            }
        }
    };
}

rules! {
    /// Two or more emittable tokens in one group.
    EmittableInGroup "emittable-in-group"
        "The model gives tokens of one group the same probability whatever the text, so it cannot tell them apart."
        "Train these rows, or copy them from the weights before the vocabulary was resized."
    /// A special token in a group with any other row.
    SpecialInGroup "special-in-group"
        "A special token whose row equals another's was never trained: the model emits it as often as that other."
        "Train the special token's row, or initialise it with noise or the mean of other rows."
    /// A row that is zero throughout.
    ZeroRows "zero-rows"
        "The logit of a zero row is zero for every text, which in many models is above that of most tokens."
        "Initialise the rows, or mask their ids when sampling."
    /// A row with a NaN or an infinity.
    NonFiniteRows "non-finite-rows"
        "A NaN or an infinity in one row makes the probabilities of all tokens NaN."
        "Do not publish this checkpoint; go back to one before the numbers diverged."
    /// An emittable token whose row is zero.
    EmittableZero "emittable-zero"
        "A token that the tokenizer emits has no weights of its own."
        "Train the row, or copy it from the weights before the vocabulary was resized."
    /// More excess than allowed.
    MaxExcess "max-excess"
        "More rows repeat another row than the policy allows."
        "Look at the groups with a scan, then mend the rows or raise the limit."
    /// More members than allowed.
    MaxMembers "max-members"
        "More rows are in groups than the policy allows."
        "Look at the groups with a scan, then mend the rows or raise the limit."
    /// More groups than allowed.
    MaxGroups "max-groups"
        "There are more groups of identical rows than the policy allows."
        "Look at the groups with a scan, then mend the rows or raise the limit."
    /// A group that the baseline does not have.
    NewGroup "new-group"
        "Rows are identical that were not in the baseline."
        "Find out what made them equal, or accept them with --update-baseline."
    /// A group with rows that are not in the baseline's.
    GrownGroup "grown-group"
        "Rows have joined a group of identical rows since the baseline."
        "Find out what made them equal, or accept them with --update-baseline."
    /// A group that has lost rows since the baseline.
    ShrunkGroup "shrunk-group"
        "Rows have left a group of identical rows since the baseline."
        "Nothing is wrong; --update-baseline records it."
    /// A group of the baseline that is no more.
    VanishedGroup "vanished-group"
        "A group of identical rows of the baseline is gone."
        "Nothing is wrong; --update-baseline records it."
    /// A group with the same members and another vector.
    MovedGroup "moved-group"
        "The rows of a group have another value than in the baseline, still the same for all."
        "Nothing is wrong; --update-baseline records it."
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Verdict {
    /// The verdict that these checks make together.
    pub fn new(policy: Option<String>, checks: Vec<Check>) -> Self {
        let outcome = checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Undecided);
        Self { schema: super::SCHEMA, tool: Tool::this(), outcome, policy, checks }
    }
}

impl Outcome {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Undecided => "undecided",
        }
    }
}

impl Level {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Note => "note",
        }
    }
}

/// The forms in which a verdict can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictFormat {
    /// For a reader at a terminal.
    Text,
    /// All of it.
    Json,
    /// For a comment on a pull request; not longer than one may be.
    Markdown,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit's XML, which most CI systems read.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
}

impl VerdictFormat {
    /// Every form, by its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("markdown", Self::Markdown),
        ("sarif", Self::Sarif),
        ("junit", Self::Junit),
        ("github", Self::Github),
    ];

    /// Writes the verdict; `color` is for text alone.
    pub fn render(self, verdict: &Verdict, color: bool, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Text => text::render(verdict, color, out),
            Self::Json => pretty(verdict, out),
            Self::Markdown => markdown::render(verdict, out),
            Self::Sarif => sarif::render(verdict, out),
            Self::Junit => junit::render(verdict, out),
            Self::Github => github::render(verdict, out),
        }
    }
}

impl FromStr for VerdictFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        super::by_name(&Self::ALL, name)
    }
}
