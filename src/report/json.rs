//! The whole report as JSON.

use super::{Render, Reports};
use crate::quote;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io::{self, Write};

/// The whole report, indented.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json {
    /// Whether the reports stand in one object with a list, even if there is but one: so that the
    /// form follows from what was asked for, not from what was found.
    pub several: bool,
}

impl Render for Json {
    fn render(&self, reports: &Reports, out: &mut dyn Write) -> io::Result<()> {
        match reports.reports.as_slice() {
            [report] if !self.several => pretty(report, out),
            _ => pretty(reports, out),
        }
    }
}

/// Any value as indented JSON, escaped for terminals, with a closing line break.
pub fn pretty(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let formatter = Escaping(PrettyFormatter::new());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, formatter))?;
    out.write_all(b"\n")
}

/// Any value as JSON on one line, escaped for terminals, with a closing line break.
pub(super) fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let formatter = Escaping(serde_json::ser::CompactFormatter);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, formatter))?;
    out.write_all(b"\n")
}

/// A formatter that writes controls, format characters and line separators as `\u…`.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| quote::is_json_escaped(c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Transfer;

    #[test]
    fn a_number_that_is_read_and_written_again_keeps_its_last_digit() {
        let transfer = Transfer { seconds: 0.023058430092136935, ..Transfer::default() };
        let mut out = Vec::new();
        pretty(&transfer, &mut out).unwrap();
        assert_eq!(serde_json::from_slice::<Transfer>(&out).unwrap(), transfer);
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_reads_back() {
        let text = "a\u{1b}[31m\u{200b}\u{2028}\u{e0001}\u{85}\"\\ที่ �";
        let mut out = Vec::new();
        line(&text, &mut out).unwrap();
        let written = String::from_utf8(out).unwrap();
        let escaped = "\"a\\u001b[31m\\u200b\\u2028\\udb40\\udc01\\u0085\\\"\\\\ที่ �\"\n";
        assert_eq!(written, escaped);
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }
}
