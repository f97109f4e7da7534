//! `Content-Range`, parsed and held against what was asked (RFC 9110, section 14.4).

use crate::quote;
use std::ops::Range;

/// What a `Content-Range` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes a-b/total`, as a half-open range; the total may be `*`.
    Bytes { range: Range<u64>, total: Option<u64> },
    /// `bytes */total`: nothing of the range exists.
    Unsatisfied { total: u64 },
}

impl ContentRange {
    /// Parses the header's value; `None` for anything but a well-formed byte range.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (span, total) = rest.trim().split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        if span.trim() == "*" {
            return Some(Self::Unsatisfied { total: total? });
        }
        let (first, last) = span.trim().split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let end = last.checked_add(1)?;
        (first <= last && total.is_none_or(|total| end <= total))
            .then_some(Self::Bytes { range: first..end, total })
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The end of what a 206 brings of `asked`, or what is wrong with it. The start and the total must
/// be exactly as asked and known; the end may be lower, and the rest is then asked for again.
pub(crate) fn check(header: Option<&str>, asked: &Range<u64>, size: u64) -> Result<u64, String> {
    let header = header.ok_or("a partial answer came without Content-Range")?;
    let (range, total) = match ContentRange::parse(header) {
        Some(ContentRange::Bytes { range, total })
            if range.start == asked.start && range.end <= asked.end =>
        {
            (range, total)
        }
        _ => {
            return Err(format!(
                "bytes {}-{} were asked for, and Content-Range is {}",
                asked.start,
                asked.end - 1,
                quote::excerpt(header, 80)
            ));
        }
    };
    match total {
        Some(total) if total != size => {
            Err(format!("the file has {size} bytes, this answer says {total}"))
        }
        _ => Ok(range.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_headers_parse() {
        let bytes = |range, total| Some(ContentRange::Bytes { range, total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), bytes(0..1, Some(1)));
        assert_eq!(ContentRange::parse("Bytes 5-9/*"), bytes(5..10, None));
        let unsatisfied = Some(ContentRange::Unsatisfied { total: 177 });
        assert_eq!(ContentRange::parse("bytes */177"), unsatisfied);
    }

    #[test]
    fn malformed_headers_do_not() {
        for value in [
            "",
            "bytes",
            "bytes 1-0/5",
            "bytes 0-5/5",
            "bytes +0-1/5",
            "bytes */*",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
            "bytes -1/2",
        ] {
            assert_eq!(ContentRange::parse(value), None, "{value}");
        }
    }

    #[test]
    fn an_answer_must_start_where_it_was_asked_and_may_end_earlier() {
        let asked = 10..20;
        assert_eq!(check(Some("bytes 10-19/100"), &asked, 100), Ok(20));
        assert_eq!(check(Some("bytes 10-14/100"), &asked, 100), Ok(15));
        assert_eq!(check(Some("bytes 10-19/*"), &asked, 100), Ok(20));
        for wrong in [None, Some("bytes 0-19/100"), Some("bytes 10-20/100"), Some("bytes 10-19/99")]
        {
            assert!(check(wrong, &asked, 100).is_err(), "{wrong:?}");
        }
    }
}
