//! The report for a reader at a terminal of 80 columns.

use super::{GroupPart, ProbePart, Render, Report, Reports, numbers};
use crate::analysis::Equality;
use crate::head::Role;
use crate::quote;
use crate::resolve::{Origin, Place};
use crate::vocabulary::{Absent, Cause, Class, Token};
use std::io::{self, Write};

/// The width that everything but names and tokens keeps to.
const WIDTH: usize = 80;

/// Characters of a token that are shown; only entries made of long runs are longer.
const TOKEN: usize = 256;

/// Hex digits shown of a token that is no text.
const HEX: usize = 64;

/// What the seed's notebook prints, for one matrix after another.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Groups shown at most.
    pub max_groups: usize,
    /// Members shown of each group at most.
    pub max_tokens: usize,
    /// Whether headings and digests are set off by colour.
    pub color: bool,
}

impl Render for Text {
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()> {
        for (at, report) in reports.reports.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            self.head(report, out)?;
            self.figures(report, out)?;
            if let Some(classes) = &report.classes {
                numbers::classes(classes, report.profile.as_ref(), out)?;
            }
            if let Some(profile) = &report.profile {
                numbers::profile(profile, self.max_tokens, out)?;
            }
            if let Some(geometry) = &report.geometry {
                numbers::geometry(geometry, out)?;
            }
            self.groups(report, out)?;
            self.summary(report, out)?;
        }
        match &reports.cross {
            Some(cross) => numbers::cross(cross, self.max_tokens, out),
            None => Ok(()),
        }
    }
}

impl Text {
    fn head(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let matrix = &report.matrix;
        for (name, value) in origin(&report.model) {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "Tensor: {}", quote::short(&matrix.tensor))?;
        writeln!(out, "File: {}", quote::short(&matrix.file))?;
        wrapped("Chosen because: ", &quote::sentence(&matrix.reason), out)?;
        for warning in &report.warnings {
            wrapped("Warning: ", &quote::sentence(warning), out)?;
        }
        writeln!(out)?;
        let parameters = matrix.rows.saturating_mul(matrix.columns);
        let name = match matrix.role {
            Role::Unembedding => "Unembedding matrix",
            Role::Embedding => "Embedding matrix",
            Role::Tensor => "Matrix",
        };
        writeln!(out, "{name} shape: [{}, {}]", matrix.rows, matrix.columns)?;
        writeln!(out, "Vocabulary size: {}", count(matrix.rows))?;
        writeln!(out, "Hidden dimension: {}", count(matrix.columns))?;
        writeln!(out, "Total parameters: {}", count(parameters))?;
        writeln!(
            out,
            "Size: {} as stored ({}), {} as float32",
            size(matrix.bytes),
            quote::short(&matrix.dtype),
            size(parameters.saturating_mul(4))
        )?;
        match &report.tokenizer {
            // A list that may lack ids.
            Some(super::TokenizerPart { size, padding_rows: 0, file: Some(_) })
                if *size < matrix.rows =>
            {
                let size = count(*size);
                writeln!(
                    out,
                    "Tokenizer: a list of {size} tokens; which rows are padding is not known"
                )
            }
            Some(tokenizer) => writeln!(
                out,
                "Tokenizer: {} tokens, {} rows of padding past the last",
                count(tokenizer.size),
                count(tokenizer.padding_rows)
            ),
            None => writeln!(out, "Tokenizer: none"),
        }
    }

    fn figures(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let found = &report.duplicates;
        writeln!(out)?;
        writeln!(out, "Total tokens: {}", count(found.rows))?;
        writeln!(out, "Unique vectors: {}", count(found.distinct))?;
        writeln!(out, "Excess: {} (total - unique)", count(found.excess))?;
        writeln!(out, "Members: {} (tokens inside groups)", count(found.members))?;
        writeln!(out, "Uniqueness: {}", percent(found.distinct, found.rows))?;
        if found.equality == Equality::Values {
            writeln!(out, "Equality: by value (-0 equals +0, NaN equals nothing)")?;
        }
        let (Some(largest), Some(smallest), Some(mean), Some(median)) =
            (found.largest, found.smallest, found.mean, found.median)
        else {
            let unique = match found.equality {
                Equality::Bits => "Every token has a unique vector.",
                Equality::Values => "No two vectors are equal.",
            };
            return writeln!(out, "\nNo singularities found. {unique}");
        };
        writeln!(out)?;
        writeln!(out, "Singularity groups: {}", count(found.groups_total))?;
        writeln!(out, "Largest group: {} tokens", count(largest))?;
        writeln!(out, "Smallest group: {} tokens", count(smallest))?;
        writeln!(out, "Mean group size: {mean:.1} tokens")?;
        writeln!(out, "Median group size: {median:.1} tokens")?;
        writeln!(out, "\nGroup size distribution:")?;
        for bin in &found.histogram {
            writeln!(out, "  {:4} tokens: {:4} groups", bin.size, bin.groups)?;
        }
        Ok(())
    }

    fn groups(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let found = &report.duplicates;
        for (number, group) in (1..).zip(&found.groups).take(self.max_groups) {
            let title = format!(
                "Group {number}/{}: {} tokens sharing the vector {}",
                found.groups_total,
                count(group.size),
                group.digest.short()
            );
            writeln!(out, "\n{}", self.bold(&title))?;
            writeln!(out, "{}", "-".repeat(WIDTH))?;
            if let Some(warning) = emittable(group) {
                let mut text = Vec::new();
                wrapped("  ", &warning, &mut text)?;
                writeln!(out, "{}", self.bold(String::from_utf8_lossy(&text).trim_end()))?;
            }
            if let Some(reading) = group.reading() {
                wrapped("  ", &reading, out)?;
            }
            if let Some(place) = numbers::place(group.norm, group.centroid_distance) {
                writeln!(out, "  {place}")?;
            }
            self.members(group, out)?;
        }
        match found.groups.len().saturating_sub(self.max_groups) {
            0 => {}
            more => writeln!(out, "\n… and {} more {}", count(more as u64), plural(more, "group"))?,
        }
        match found.groups_total.saturating_sub(found.groups.len() as u64) {
            0 => Ok(()),
            less => writeln!(out, "\n… and {} of fewer tokens than are listed", count(less)),
        }
    }

    fn members(&self, group: &GroupPart, out: &mut dyn Write) -> io::Result<()> {
        for (at, row) in group.rows.iter().take(self.max_tokens).enumerate() {
            match group.tokens.get(at) {
                Some(token) => writeln!(out, "  Token {row:6}: {}", named(token))?,
                None => writeln!(out, "  Token {row:6}")?,
            }
        }
        match group.rows.len().saturating_sub(self.max_tokens) {
            0 => Ok(()),
            more => writeln!(out, "  … and {} more {}", count(more as u64), plural(more, "token")),
        }
    }

    fn summary(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let found = &report.duplicates;
        let rule = "=".repeat(WIDTH);
        writeln!(out, "\n{rule}\n{}\n{rule}", self.bold("SUMMARY"))?;
        writeln!(out, "Model: {}", quote::short(&report.model.id))?;
        writeln!(out, "Vocabulary size: {}", count(found.rows))?;
        writeln!(out, "Unique vectors: {}", count(found.distinct))?;
        let share = percent(found.excess, found.rows);
        writeln!(out, "Excess: {} ({share})", count(found.excess))?;
        match found.largest {
            Some(largest) => {
                let share = percent(found.members, found.rows);
                writeln!(out, "Members: {} ({share})", count(found.members))?;
                writeln!(out, "Singularity groups: {}", count(found.groups_total))?;
                writeln!(out, "Largest singularity: {} tokens", count(largest))?;
                let ratio = found.rows as f64 / found.distinct.max(1) as f64;
                writeln!(out, "Deduplication ratio: {ratio:.2}x")?;
            }
            None => writeln!(out, "No singularities detected.")?,
        }
        match (report.matrix_digest, report.probe) {
            (Some(digest), _) => writeln!(out, "Matrix digest: {digest}")?,
            (None, Some(probe)) => wrapped("Probed: ", &probed(&probe), out)?,
            (None, None) => writeln!(out, "Matrix digest: none")?,
        }
        let transfer = &report.transfer;
        if transfer.requests > 0 {
            write!(
                out,
                "Transferred: {} in {} requests and {:.1} s",
                size(transfer.bytes),
                count(transfer.requests),
                transfer.seconds
            )?;
            match transfer.checkpoint_bytes {
                Some(bytes) => writeln!(out, "; all weights are {}", size(bytes))?,
                None => writeln!(out)?,
            }
        }
        writeln!(out, "{rule}")
    }

    fn bold(&self, text: &str) -> String {
        if self.color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Where a model was read from, as lines of a name and a value.
pub(super) fn origin(model: &Origin) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Model", quote::short(&model.id))];
    let from = match model.source {
        Place::Hub => "the Hub",
        Place::Url => "one file behind a URL",
        Place::Directory => "a local folder",
        Place::File => "a local file",
    };
    lines.push(("Read from", from.to_owned()));
    if let Some(revision) = &model.revision {
        let commit = match &model.commit {
            Some(commit) if commit == revision => String::new(),
            Some(commit) => format!(" (commit {})", quote::short(commit)),
            None => " (the server names no commit)".to_owned(),
        };
        lines.push(("Revision", format!("{}{commit}", quote::short(revision))));
    }
    lines
}

/// A token's text and what else is known of it.
pub(super) fn named(token: &Token) -> String {
    match (token.class, token.cause.absent) {
        (Some(Class::NoToken), Some(Absent::Hole)) => {
            "no token (a hole in the tokenizer's ids)".into()
        }
        (Some(Class::NoToken), _) => "no token (past the tokenizer's last id)".into(),
        (None, _) if token.text.is_empty() && token.bytes.is_none() => "unknown".into(),
        (class, _) => {
            let mut text = cut(quote::repr(&token.text));
            if let Some(bytes) = &token.bytes {
                let (shown, rest) = bytes.split_at_checked(HEX).unwrap_or((bytes, ""));
                let more = if rest.is_empty() { "" } else { "…" };
                text += &format!(" (bytes {}{more})", quote::printable(shown));
            }
            if let Some(cause) = class.and_then(|class| cause(class, &token.cause)) {
                text += &format!(" ({cause})");
            }
            text
        }
    }
}

/// Why a token is as it is, in a few words; nothing where its text says it all.
fn cause(class: Class, cause: &Cause) -> Option<String> {
    Some(match class {
        Class::Special => "special".to_owned(),
        Class::Fragment if cause.possible == Some(false) => "in no text".to_owned(),
        Class::Normalised => {
            let becomes = cause.becomes.as_ref()?;
            format!("normalised to {}", cut(quote::repr(becomes)))
        }
        Class::Split => format!("split in {}", cause.pieces.as_ref()?.len()),
        Class::Unmerged => {
            let tokens = cause.ids.as_ref()?.len();
            format!("unmerged: {tokens} other {}", plural(tokens, "token"))
        }
        _ => return None,
    })
}

fn cut(text: String) -> String {
    match text.chars().count() > TOKEN {
        true => text.chars().take(TOKEN).collect::<String>() + "…",
        false => text,
    }
}

/// What a probe read, and what it cannot say.
pub(super) fn probed(probe: &ProbePart) -> String {
    let rows = plural(usize::try_from(probe.rows_read).unwrap_or(usize::MAX), "row");
    let (prefix, read) = (count(probe.prefix_bytes), count(probe.rows_read));
    format!("{prefix} bytes of each row, and {read} {rows} whole; so there is no matrix digest")
}

/// A row's id, its token and its class, in a few words.
pub fn called(token: &Token) -> String {
    let Token { row, text, .. } = token;
    match token.class {
        Some(Class::NoToken) => format!("{row} (no token)"),
        Some(class) => format!("{row} {} ({})", quote::name(text), class.name()),
        None => format!("{row} {}", quote::name(text)),
    }
}

/// The members that the tokenizer can emit, where there are any: the first of them by name.
pub(super) fn emittable(group: &GroupPart) -> Option<String> {
    const SHOWN: usize = 5;
    if group.emittable.is_empty() {
        return None;
    }
    let names = group.tokens.iter().filter(|token| group.emittable.contains(&token.row));
    let mut shown: Vec<String> = names.take(SHOWN).map(called).collect();
    let more = group.emittable.len() - shown.len();
    if more > 0 {
        shown.push(format!("{} more", count(more as u64)));
    }
    Some(format!("CAN BE EMITTED: {}", shown.join(", ")))
}

/// Text after a label, wrapped between words and indented.
pub(super) fn wrapped(label: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{label}")?;
    let mut column = label.chars().count();
    for (at, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            write!(out, "\n  {word}")?;
            column = 2 + length;
        } else {
            let space = if at > 0 { " " } else { "" };
            write!(out, "{space}{word}")?;
            column += space.len() + length;
        }
    }
    writeln!(out)
}

/// A number with a comma between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the decimal units that storage is sold in.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match UNITS.iter().find(|&&(_, unit)| bytes as f64 >= unit) {
        Some((name, unit)) => format!("{:.2} {name}", bytes as f64 / unit),
        None => format!("{bytes} bytes"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.2}%", 100.0 * part as f64 / whole as f64) }
}

/// A number and its noun.
pub fn some(number: u64, noun: &str) -> String {
    format!("{} {}", count(number), plural(usize::try_from(number).unwrap_or(usize::MAX), noun))
}

pub(super) fn plural(number: usize, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(151_936), "151,936");
        assert_eq!(count(311_164_928), "311,164,928");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(622_329_856), "622.33 MB");
        assert_eq!(size(1_244_659_712), "1.24 GB");
        assert_eq!(percent(149_784, 151_936), "98.58%");
    }

    #[test]
    fn bytes_that_are_no_hex_digits_do_not_act_on_a_terminal() {
        let bytes = Some("\u{1b}[31m\u{202e}".to_owned());
        let token =
            Token { row: 0, text: "�".into(), class: None, cause: Default::default(), bytes };
        assert_eq!(named(&token), "'�' (bytes \\x1b[31m\\u202e)");
    }

    #[test]
    fn long_text_is_wrapped_between_words() {
        let mut out = Vec::new();
        wrapped("Label: ", &"word ".repeat(30), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(text.matches("word").count(), 30);
    }
}
