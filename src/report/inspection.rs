//! An inspection for a reader at a terminal.

use super::Inspection;
use super::text::{count, origin, size, wrapped};
use crate::head::Role;
use crate::quote;
use std::io::{self, Write};

/// Writes inspections as text, one after another.
pub fn inspection(inspections: &[Inspection], out: &mut dyn Write) -> io::Result<()> {
    for (at, found) in inspections.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let matrix = &found.matrix;
        let [start, end] = found.byte_range;
        for (name, value) in origin(&found.model) {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "Tensor: {}", quote::short(&matrix.tensor))?;
        writeln!(out, "File: {}", quote::short(&matrix.file))?;
        wrapped("Chosen because: ", &quote::sentence(&matrix.reason), out)?;
        let tied = match matrix.tied {
            Some(true) => "yes",
            Some(false) => "no",
            None => "nothing says",
        };
        writeln!(out, "Tied to the input embedding: {tied}")?;
        match found.tie_flags.as_slice() {
            [] => writeln!(out, "Tie flags: none")?,
            flags => {
                let flags: Vec<String> =
                    flags.iter().map(|(path, tied)| format!("{path} = {tied}")).collect();
                wrapped("Tie flags: ", &quote::sentence(&flags.join(", ")), out)?;
            }
        }
        candidates(found, out)?;
        for warning in &found.warnings {
            wrapped("Warning: ", &quote::sentence(warning), out)?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "Shape: [{}, {}] {}",
            matrix.rows,
            matrix.columns,
            quote::short(&matrix.dtype)
        )?;
        writeln!(out, "Row: {} bytes", count(matrix.row_bytes))?;
        writeln!(out, "Bytes of the file: {start} to {end}")?;
        writeln!(
            out,
            "A scan would read: {} in {} {} over {} {}",
            size(found.cost.bytes),
            count(found.cost.requests),
            if found.cost.requests == 1 { "range" } else { "ranges" },
            found.cost.connections,
            if found.cost.connections == 1 { "connection" } else { "connections" },
        )?;
    }
    Ok(())
}

/// Names shown of those that look like a head's, and as many of those like an embedding's.
const SHOWN: usize = 12;

/// What came of each name that looks like one of the two matrices.
fn candidates(found: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    let mut left_out = found.candidates_left_out;
    for (role, title) in [(Role::Unembedding, "head"), (Role::Embedding, "input embedding")] {
        let list: Vec<_> = found.candidates.iter().filter(|one| one.role == role).collect();
        left_out += list.len().saturating_sub(SHOWN) as u64;
        if list.is_empty() {
            continue;
        }
        writeln!(out, "Names like that of the {title}:")?;
        for one in list.into_iter().take(SHOWN) {
            let verdict = match &one.excluded_by {
                None => format!("this is the {title}"),
                Some(why) => format!("not the {title}: {why}"),
            };
            let line = format!("{} - {verdict}", quote::short(&one.name));
            wrapped("  ", &quote::sentence(&line), out)?;
        }
    }
    match left_out {
        0 => Ok(()),
        more => writeln!(out, "  and {} more such names", count(more)),
    }
}
