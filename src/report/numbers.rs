//! The numbers of a report as tables of text, at most 80 columns wide.

use super::text::{count, named, plural, wrapped};
use super::{ClassesPart, CrossPart, GeometryPart, ProfilePart, State};
use crate::analysis::{Centre, Spread};
use std::io::{self, Write};

/// Lines of the drawn histogram.
const LINES: usize = 10;

/// The longest bar.
const BAR: f64 = 40.0;

/// Every class against the groups, and the middle norm of each where rows were measured.
pub(super) fn classes(
    part: &ClassesPart,
    profile: Option<&ProfilePart>,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "\nClasses of all rows:")?;
    write!(out, "  {:10}  {:>10}  {:>10}  {:>10}", "", "rows", "in groups", "alone")?;
    let median = if profile.is_some() { "  median norm" } else { "" };
    writeln!(out, "  {:>10}{median}", "all zero")?;
    for line in &part.table {
        let [rows, grouped, alone, zero] =
            [line.rows, line.in_groups, line.alone, line.zero].map(count);
        let name = line.class.name();
        write!(out, "  {name:10}  {rows:>10}  {grouped:>10}  {alone:>10}  {zero:>10}")?;
        let norms = profile.and_then(|p| p.classes.iter().find(|of| of.class == line.class));
        match norms {
            Some(of) => writeln!(out, "  {:>11}", number(of.norms.median))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Norms, rows that are special, and the mean of all.
pub(super) fn profile(part: &ProfilePart, most: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nNorms of the rows (L2):")?;
    if let Some(norms) = &part.norms {
        spread(&["min", "median", "mean", "max", "sd"], out)?;
        let values = [norms.min, norms.median, norms.mean, norms.max, norms.sd];
        figures("", &values, out)?;
    }
    if let Some(histogram) = &part.histogram {
        let per_line = histogram.bins.len().div_ceil(LINES).max(1);
        let width = (histogram.max - histogram.min) / histogram.bins.len().max(1) as f64;
        let lines: Vec<u64> = histogram
            .bins
            .chunks(per_line)
            .map(|bins| bins.iter().fold(0, |all: u64, &rows| all.saturating_add(rows)))
            .collect();
        let longest = lines.iter().copied().max().unwrap_or(0).max(1);
        for (at, &rows) in lines.iter().enumerate() {
            let from = histogram.min + (at * per_line) as f64 * width;
            // One row shows, however many the others are.
            let share = rows as f64 / longest as f64;
            let bar = ((share * BAR) as usize).max(usize::from(rows > 0));
            let line =
                format!("  from {:>11}  {:>11}  {}", number(from), count(rows), "#".repeat(bar));
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    let threshold = format!("Near zero (no element above {:e}): ", part.near_zero_threshold);
    for (name, rows) in [
        ("Zero rows: ", &part.zero),
        (threshold.as_str(), &part.near_zero),
        ("Rows with NaN: ", &part.nan),
        ("Rows with infinity: ", &part.infinite),
    ] {
        wrapped(name, &listed(rows, most), out)?;
    }
    match &part.centroid {
        Some(centroid) => {
            let reach = centroid.reach;
            let [l2, linf, l1] = [reach.l2, reach.linf, reach.l1].map(number);
            writeln!(out, "Mean of all rows (centroid): L2 {l2}, L\u{221e} {linf}, L1 {l1}")
        }
        None => writeln!(out, "Mean of all rows (centroid): none, no row is finite"),
    }
}

/// How far apart the groups' vectors are.
pub(super) fn geometry(part: &GeometryPart, out: &mut dyn Write) -> io::Result<()> {
    let found = &part.figures;
    let of = if found.groups == part.groups_total {
        format!("{} {}", count(found.groups), plural(found.groups as usize, "group"))
    } else {
        format!("{} of {} groups", count(found.groups), count(part.groups_total))
    };
    let pairs = plural(found.pairs as usize, "pair");
    writeln!(out, "\nVectors of {of}, {} {pairs}:", count(found.pairs))?;
    if found.l2.is_some() {
        spread(&["min", "median", "mean", "max"], out)?;
    }
    let names = [("L2", found.l2), ("L\u{221e}", found.linf), ("L\u{221e}, ulp", found.linf_ulp)];
    for (name, values) in names {
        if let Some(Spread { min, median, mean, max }) = values {
            figures(name, &[min, median, mean, max], out)?;
        }
    }
    for (name, Centre { l2, separation }) in
        [("by members", found.weighted), ("each once", found.plain)]
    {
        let apart = separation
            .map_or(String::new(), |far| format!(", {} from the mean of all rows", number(far)));
        writeln!(out, "  Mean, {name}: L2 {}{apart}", number(l2))?;
    }
    Ok(())
}

/// The group's length and place, where they are known.
pub(super) fn place(norm: Option<f64>, from_centroid: Option<f64>) -> Option<String> {
    let norm = format!("norm {}", number(norm?));
    let far = from_centroid.map(|far| format!(", {} from the mean of all rows", number(far)));
    Some(norm + &far.unwrap_or_default())
}

/// What rows are in the head and in the embedding.
pub(super) fn cross(part: &CrossPart, most: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nRows in the unembedding (down) and in the embedding (across):")?;
    write!(out, "  {:10}", "")?;
    State::ALL.iter().try_for_each(|state| write!(out, "  {:>10}", state.name()))?;
    writeln!(out)?;
    for head in State::ALL {
        write!(out, "  {:10}", head.name())?;
        let counts = State::ALL.map(|embedding| count(part.count(head, embedding)));
        counts.iter().try_for_each(|count| write!(out, "  {count:>10}"))?;
        writeln!(out)?;
    }
    if part.rows_in_one_only > 0 {
        writeln!(out, "  {} more rows are in one of the two only", count(part.rows_in_one_only))?;
    }
    for cell in part.cells.iter().filter(|cell| !cell.rows.is_empty()) {
        let (head, embedding) = (cell.unembedding.name(), cell.embedding.name());
        let rows = plural(cell.rows.len(), "row");
        let name = format!("\n{head} / {embedding}, {} {rows}: ", count(cell.count));
        let classes: Vec<String> = cell
            .classes
            .iter()
            .map(|of| format!("{} {}", count(of.rows), of.class.name()))
            .collect();
        match classes.is_empty() {
            true => wrapped(&name, &listed(&cell.rows, most), out)?,
            false => wrapped(&name, &classes.join(", "), out)?,
        }
        for token in cell.special.iter().take(most) {
            writeln!(out, "  Token {:6}: {}", token.row, named(token))?;
        }
        match cell.special.len().saturating_sub(most) {
            0 => {}
            more => writeln!(out, "  … and {} more special tokens", count(more as u64))?,
        }
    }
    Ok(())
}

/// Rows as a list that is cut.
fn listed(rows: &[u64], most: usize) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let mut shown: Vec<String> = rows.iter().take(most).map(u64::to_string).collect();
    match rows.len().saturating_sub(most) {
        0 => {}
        more => shown.push(format!("… and {} more", count(more as u64))),
    }
    let all =
        if rows.len() > 1 { format!("{}: ", count(rows.len() as u64)) } else { String::new() };
    all + &shown.join(", ")
}

fn spread(names: &[&str], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "  {:8}", "")?;
    names.iter().try_for_each(|name| write!(out, "  {name:>11}"))?;
    writeln!(out)
}

fn figures(name: &str, values: &[f64], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "  {name:8}")?;
    values.iter().try_for_each(|&value| write!(out, "  {:>11}", number(value)))?;
    writeln!(out)
}

/// A number of six digits, in at most eleven characters but for a sign or three digits of exponent.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&value.abs()) {
        return format!("{value:.4e}");
    }
    let decimals = 5 - value.abs().log10().floor() as i32;
    let text = format!("{value:.*}", decimals.max(1) as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.370916754, "0.370917"),
            (1.087283, "1.08728"),
            (600.0, "600"),
            (0.000123456789, "0.000123457"),
            (1.49e-8, "1.4900e-8"),
            (-2.5e300, "-2.5000e300"),
        ] {
            assert_eq!(number(value), text);
        }
        assert!(number(999_999.99).len() <= 11 && number(1.23e-5).len() <= 11);
    }

    #[test]
    fn a_list_of_rows_is_cut() {
        assert_eq!(listed(&[], 3), "none");
        assert_eq!(listed(&[7], 3), "7");
        assert_eq!(listed(&[1, 2, 3, 4], 2), "4: 1, 2, … and 2 more");
    }
}
