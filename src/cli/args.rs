//! What may be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use singularity_survey::analysis::Equality;
use singularity_survey::report::{Format, VerdictFormat};
use singularity_survey::vocabulary::Class;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

/// Finds bit-for-bit identical rows in a language model's unembedding matrix, reading only the
/// bytes that matter.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) scan: ScanArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find the groups of identical rows (what a bare MODEL does too)
    Scan(ScanArgs),
    /// Read headers: which tensor, why, what else is like it, and what a scan would read
    Inspect(InspectArgs),
    /// Judge models by a policy and a baseline: exit code 0 pass, 1 fail, 2 not decided
    Check(CheckArgs),
    /// List or prune what checks have kept
    #[command(subcommand)]
    Store(StoreCommand),
    /// Scan a small model over HTTP from a stand-in Hub inside the process; needs no network
    Demo,
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// When two rows are equal: by stored bits, or by value (-0 equals +0, NaN equals nothing)
    #[arg(long, value_enum, default_value_t = By::Bits)]
    pub(crate) equality: By,

    /// The form of the report on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format_parser())]
    pub(crate) format: String,

    /// Write the report to a file too, as FORMAT:PATH (repeatable)
    #[arg(short, long = "output", value_name = "FORMAT:PATH")]
    pub(crate) output: Vec<OutputArg>,

    /// List only groups of at least so many rows; the figures describe all
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) min_size: u64,

    /// Show at most so many groups (text and Markdown)
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) max_groups: usize,

    /// Show at most so many members of each group (text and Markdown)
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) max_tokens: usize,

    /// Name rows by this tokenizer: a file, a folder or a model
    #[arg(long, value_name = "PATH|MODEL", conflicts_with = "no_tokenizer")]
    pub(crate) tokenizer: Option<String>,

    /// Do not name rows
    #[arg(long)]
    pub(crate) no_tokenizer: bool,

    /// Measure every row: norms, zero and NaN rows, the mean, where the groups lie; and class it
    #[arg(long)]
    pub(crate) profile: bool,

    /// Of a local file: look at the first bytes of each row, and read whole only those rows that
    /// this leaves in doubt. Same groups, no matrix digest
    #[arg(long, conflicts_with_all = ["profile", "classes", "class"])]
    pub(crate) probe: bool,

    /// Class every row, not the members of groups alone; needs a tokenizer
    #[arg(long, conflicts_with = "no_tokenizer")]
    pub(crate) classes: bool,

    /// Keep what is found in the store, and read no weights again that were
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub(crate) store: Option<Option<PathBuf>>,

    /// With --format ids: list the rows of this class in place of members (repeatable)
    #[arg(long = "class", value_name = "CLASS", value_parser = class_parser(),
          conflicts_with = "no_tokenizer")]
    pub(crate) class: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t = InspectFormat::Text)]
    pub(crate) format: InspectFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Models, as a scan takes them [default: those of the policy]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,

    /// The policy [default: singularity-survey.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Hold the model against this earlier JSON report
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,

    /// Write the new report over the baseline, and judge against it
    #[arg(long, conflicts_with_all = ["fail_fast", "init"])]
    pub(crate) update_baseline: bool,

    /// What the baseline has and the model has not is an error too
    #[arg(long)]
    pub(crate) strict_baseline: bool,

    /// Stop reading a matrix as soon as it is certain to fail
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// Write a commented policy that the models pass, to --policy or standard output
    #[arg(long, conflicts_with_all = ["baseline", "fail_fast", "output"])]
    pub(crate) init: bool,

    /// Judge this JSON report of an earlier scan, without any network (repeatable)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "init", "fail_fast", "update_baseline"])]
    pub(crate) replay: Vec<PathBuf>,

    /// Wait so long in all for servers that limit requests; then exit with code 2
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_wait: Option<u64>,

    /// Name rows by this tokenizer: a file, a folder or a model
    #[arg(long, value_name = "PATH|MODEL")]
    pub(crate) tokenizer: Option<String>,

    /// The form of the verdict on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = verdict_parser())]
    pub(crate) format: String,

    /// Write the verdict to a file too, as FORMAT:PATH (repeatable)
    #[arg(short, long = "output", value_name = "FORMAT:PATH")]
    pub(crate) output: Vec<OutputArg<VerdictFormat>>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Keep what is found in this folder, and read nothing again that was [default:
    /// $SINGULARITY_SURVEY_STORE, else a folder in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,

    /// Keep nothing, and read everything
    #[arg(long, conflicts_with = "store")]
    pub(crate) no_store: bool,
}

/// What is done with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List what is kept
    List {
        /// The store [default: as for check]
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,

        /// List as JSON
        #[arg(long)]
        json: bool,
    },
    /// Throw away what is damaged or of another version, and what is too old or too much
    Prune {
        /// The store [default: as for check]
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,

        /// What was written more than so many days ago; 0 is everything
        #[arg(long, value_name = "DAYS")]
        older_than: Option<u32>,

        /// The oldest, until so many bytes are left
        #[arg(long, value_name = "BYTES")]
        max_size: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// org/name[@revision], hf://…, a page of the Hub, a local folder or weights file, a URL
    // Required by clap, and absent only where a subcommand stands in its place.
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) model: Option<String>,

    /// A branch, tag, commit or refs/pr/N
    #[arg(long, value_name = "R")]
    pub(crate) revision: Option<String>,

    /// A weights file or folder inside the repository, as text_encoder/ or model.fp16.safetensors
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,

    /// Read the tensor of this name in place of the head
    #[arg(long, value_name = "NAME", conflicts_with = "matrix")]
    pub(crate) tensor: Option<String>,

    /// Which matrix to read
    #[arg(long, value_enum, default_value_t = MatrixArg::Unembedding)]
    pub(crate) matrix: MatrixArg,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// How a run reads, and what it tells.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Connections at a time, at most; fewer are used where more bring nothing
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) connections: NonZeroUsize,

    /// Threads that hash rows [default: one for each core, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,

    /// The Hub's address [default: $HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// The access token [default: $HF_TOKEN, else the one that was stored at login]
    #[arg(long, value_name = "T")]
    pub(crate) token: Option<String>,

    /// Use the local Hub cache only
    #[arg(long)]
    pub(crate) offline: bool,

    /// Say nothing but the report and errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell each request
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl RunArgs {
    /// How many threads hash: more than a few do not hash faster than a network or a disk delivers.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let given = self.threads.and_then(|threads| NonZeroUsize::new(threads.into()));
        given.unwrap_or_else(|| cores().min(NonZeroUsize::MIN.saturating_add(3)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixArg {
    Unembedding,
    Embedding,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Bits,
    Values,
}

impl From<By> for Equality {
    fn from(by: By) -> Self {
        match by {
            By::Bits => Self::Bits,
            By::Values => Self::Values,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Text,
    Json,
}

/// A form and the file that it goes to.
#[derive(Debug, Clone)]
pub(crate) struct OutputArg<F = Format> {
    pub(crate) format: F,
    pub(crate) path: PathBuf,
}

impl<F: FromStr<Err = String>> FromStr for OutputArg<F> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = text.split_once(':').ok_or("not of the form FORMAT:PATH")?;
        if path.is_empty() {
            return Err("the path is empty".into());
        }
        Ok(Self { format: format.parse()?, path: path.into() })
    }
}

/// The names of the classes, likewise.
fn class_parser() -> clap::builder::PossibleValuesParser {
    Class::ALL.map(Class::name).into()
}

/// The names of the verdict's forms, likewise.
fn verdict_parser() -> clap::builder::PossibleValuesParser {
    VerdictFormat::ALL.map(|(name, _)| name).into()
}

/// The names of the report's forms, so that help and completions list them.
fn format_parser() -> clap::builder::PossibleValuesParser {
    Format::ALL.map(|(name, _)| name).into()
}
