//! Untrusted text made safe to show: tokens, tensor and file names, messages of servers.
//!
//! What counts as printable is Python's rule for `str.isprintable`: everything but the general
//! categories Cc, Cf, Cs, Co, Cn, Zl, Zp and Zs, with the plain space allowed.

use regex::Regex;
use std::fmt::Write as _;
use std::sync::LazyLock;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a character may reach a terminal as it is.
pub fn is_printable(c: char) -> bool {
    use GeneralCategory as G;
    c == ' '
        || !matches!(
            c.general_category(),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::SpaceSeparator
        )
}

/// Whether JSON output writes the character as `\u…`: controls, format characters and the two
/// separators, which are legal in JSON but act on terminals, editors and JavaScript.
pub fn is_json_escaped(c: char) -> bool {
    use GeneralCategory as G;
    matches!(
        c.general_category(),
        G::Control | G::Format | G::LineSeparator | G::ParagraphSeparator
    )
}

/// The text as Python's `repr` writes it: in single quotes, or in double quotes where it holds
/// single quotes only; what is not printable becomes `\n`, `\x1b`, `\u200b` or `\U000e0001`.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => push_printable(&mut out, c),
        }
    }
    out.push(quote);
    out
}

/// The text on one line without quotes: what is not printable is escaped, the rest kept.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_printable(&mut out, c));
    out
}

/// At most `limit` characters of the text on one line, white space folded: for messages of servers.
pub fn excerpt(text: &str, limit: usize) -> String {
    let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = folded.chars();
    let mut out = printable(&chars.by_ref().take(limit).collect::<String>());
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// What a sentence or a line has room for of one name, in characters.
const NAME: usize = 200;

/// The longest sentence, in characters: one about a few names.
const SENTENCE: usize = 1000;

/// A name from a file as [`repr`] writes it, cut where it is too long for a sentence.
pub fn name(text: &str) -> String {
    cut(text, NAME, repr)
}

/// [`printable`] text, cut where it is too long for a line.
pub fn short(text: &str) -> String {
    cut(text, NAME, printable)
}

/// A sentence that may quote names: [`printable`], and cut where it is no sentence any more.
pub fn sentence(text: &str) -> String {
    cut(text, SENTENCE, printable)
}

/// The text without what opens doors, as it may have been typed into the wrong place: tokens, users
/// and passwords in front of hosts, and queries, where links are signed.
pub fn redact(text: &str) -> String {
    static SECRETS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let rule =
            |pattern: &str| Regex::new(pattern).unwrap_or_else(|e| unreachable!("{pattern}: {e}"));
        [
            (rule(r"\bhf_[A-Za-z0-9_]{6,}"), "hf_…"),
            (rule(r"(:/{1,2})[^\s/@]+@"), "$1…@"),
            (rule(r"[^\s/@:=]+:[^\s/@]+@"), "…@"),
            (rule(r#"\?[^\s?"'<>]*=[^\s"'<>]*"#), "?…"),
        ]
    });
    SECRETS.iter().fold(text.to_owned(), |text, (secret, shown)| {
        secret.replace_all(&text, *shown).into_owned()
    })
}

fn cut(text: &str, room: usize, write: fn(&str) -> String) -> String {
    match text.char_indices().nth(room) {
        None => write(text),
        Some((at, _)) => format!("{}… ({} bytes)", write(&text[..at]), text.len()),
    }
}

fn push_printable(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_printable(c) => out.push(c),
        c => {
            // Writing to a String cannot fail.
            let _ = match c as u32 {
                n @ 0..=0xff => write!(out, "\\x{n:02x}"),
                n @ 0x100..=0xffff => write!(out, "\\u{n:04x}"),
                n => write!(out, "\\U{n:08x}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_doors_is_not_shown() {
        for (typed, shown) in [
            ("hf_abcdefghij", "hf_…"),
            ("--offline=hf_abcdefghij'", "--offline=hf_…'"),
            ("https://user:secret@host:99999/m", "https://…@host:99999/m"),
            ("https://secret@host/m", "https://…@host/m"),
            ("https:/user:secret@host/m", "https:/…@host/m"),
            ("user:secret@host/m", "…@host/m"),
            ("127.0.0.1:9/m?X-Amz-Signature=secret&a=b x", "127.0.0.1:9/m?… x"),
            ("\"hf://a/b?y=secret\" names", "\"hf://a/b?…\" names"),
            ("org/name@refs/pr/1", "org/name@refs/pr/1"),
            ("what? no = sign", "what? no = sign"),
            ("http://[bad/m", "http://[bad/m"),
        ] {
            assert_eq!(redact(typed), shown);
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let long = "ü\n".repeat(500_000);
        for shown in [name(&long), short(&long)] {
            assert!(shown.ends_with("… (1500000 bytes)") && shown.chars().count() < 700, "{shown}");
        }
        assert_eq!((name("a b"), short("a\tb")), ("'a b'".into(), "a\\tb".into()));
    }

    #[test]
    fn text_is_quoted_as_python_quotes_it() {
        // Right-hand sides printed by CPython 3.11.
        for (text, quoted) in [
            ("", "''"),
            ("plain", "'plain'"),
            ("it's", "\"it's\""),
            ("it's \"both\"", "'it\\'s \"both\"'"),
            ("back\\slash", "'back\\\\slash'"),
            ("a\n\r\t\u{1b}[31m", "'a\\n\\r\\t\\x1b[31m'"),
            ("\u{a0}\u{ad}\u{200b}\u{2028}", "'\\xa0\\xad\\u200b\\u2028'"),
            ("\u{e0001}\u{f0000}", "'\\U000e0001\\U000f0000'"),
            ("１０ ที่ �", "'１０ ที่ �'"),
        ] {
            assert_eq!(repr(text), quoted);
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(" <html>\n  <b>no\u{7}</b>", 10), "<html> <b>…");
        assert_eq!(excerpt("short", 10), "short");
    }
}
