//! A line for each member of each group (RFC 4180).

use super::{Render, Reports};
use crate::quote;
use std::borrow::Cow;
use std::io::{self, Write};

/// Comma-separated values: `matrix,group,size,digest,row,text,class`, the text quoted like
/// Python's `repr`; groups are numbered from 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Csv;

impl Render for Csv {
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "matrix,group,size,digest,row,text,class")?;
        for report in &reports.reports {
            let tensor = quote::printable(&report.matrix.tensor);
            let matrix = field(&tensor);
            for (number, group) in (1..).zip(&report.duplicates.groups) {
                for (at, row) in group.rows.iter().enumerate() {
                    let token = group.tokens.get(at);
                    let text = token.map(|token| quote::repr(&token.text)).unwrap_or_default();
                    let class = token.and_then(|t| t.class).map_or("", |class| class.name());
                    writeln!(
                        out,
                        "{matrix},{number},{},{},{row},{},{class}",
                        group.size,
                        group.digest,
                        field(&text)
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// A field, in double quotes where it needs them. What a spreadsheet would take for a formula gets
/// an apostrophe before it, which spreadsheets take for "this is text".
fn field(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return field(&format!("'{text}")).into_owned().into();
    }
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        assert_eq!(field("plain"), "plain");
        assert_eq!(field("=1+1"), "'=1+1");
        assert_eq!(field("@a,b"), "\"'@a,b\"");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
