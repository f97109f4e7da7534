//! Modules of which a token is a column: GPTQ and AWQ.
//!
//! A tensor is there a run of lines, each with a part of every token: codes that follow one another along
//! the inputs (GPTQ), or one code of each token, side by side in words (AWQ, and zero points). As
//! [GPTQModel](https://github.com/ModelCloud/GPTQModel) and [AutoAWQ](https://github.com/casper-hansen/AutoAWQ)
//! pack them.

use super::coding::{Codes, Coding, Groups, Run, Scales};
use super::config::Quantisation;
use super::layout::{Layout, Part, part, suffix};
use super::told::Told;
use crate::checkpoint::{Dtype, TensorRecord};
use crate::quote;
use crate::source::Share;

const GPTQ: &str = "GPTQ";
const AWQ: &str = "AWQ";

/// How a line holds a part of every token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Words of 32 bits, one token's after another's, of so many rows of words; codes lie in them one
    /// behind the other, the first in the lowest bits.
    Down {
        /// Bits of a code.
        bits: u32,
    },
    /// A code of each token, side by side, the first in the lowest bits.
    Across {
        /// Bits of a code.
        bits: u32,
        /// Whether of eight tokens the even ones stand before the odd ones.
        mixed: bool,
    },
    /// An element of each token.
    Plain {
        /// Its bytes.
        size: usize,
    },
}

impl Packing {
    /// Bytes of a line.
    pub fn line_bytes(self, tokens: u64) -> u64 {
        match self {
            Self::Down { bits } => tokens * 4 * u64::from(words(bits)),
            Self::Across { bits, .. } => (tokens * u64::from(bits)).div_ceil(32) * 4,
            Self::Plain { size } => tokens * size as u64,
        }
    }

    /// The largest code; nothing where there are none.
    pub fn largest(self) -> Option<u8> {
        match self {
            Self::Down { bits } | Self::Across { bits, .. } => Some(u8::MAX >> (8 - bits)),
            Self::Plain { .. } => None,
        }
    }

    /// Bytes that a line adds to a token, a code being one.
    pub fn width(self) -> usize {
        match self {
            Self::Down { bits } => (32 * words(bits) / bits) as usize,
            Self::Across { .. } => 1,
            Self::Plain { size } => size,
        }
    }

    /// Writes what a line adds to a token, of so many; of less room, the beginning.
    pub fn put(self, line: &[u8], token: usize, tokens: usize, out: &mut [u8]) {
        let word = |at: usize| match line.get(at * 4..at * 4 + 4) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        };
        match self {
            Self::Down { bits } if words(bits) == 1 => {
                let (mut codes, mask) = (word(token), (1 << bits) - 1);
                for out in out {
                    *out = (codes & mask) as u8;
                    codes >>= bits;
                }
            }
            Self::Down { bits } => {
                // The words of a token stand one below another.
                let wide = |at: u32| u128::from(word(at as usize * tokens + token)) << (32 * at);
                let mut codes = (0..words(bits)).fold(0, |codes, at| codes | wide(at));
                for out in out {
                    *out = (codes & ((1 << bits) - 1)) as u8;
                    codes >>= bits;
                }
            }
            Self::Across { bits, mixed } => {
                let place = match mixed {
                    true => token / 8 * 8 + token % 2 * 4 + token % 8 / 2,
                    false => token,
                };
                let bit = place * bits as usize;
                let byte = |at: usize| u32::from(line.get(at).copied().unwrap_or(0));
                let codes = (byte(bit / 8) | byte(bit / 8 + 1) << 8) >> (bit % 8);
                // A line has one of each; to fill what is one byte long would be a call.
                if let Some(out) = out.first_mut() {
                    *out = (codes & ((1 << bits) - 1)) as u8;
                }
            }
            Self::Plain { size } => {
                let element = line.get(token * size..).unwrap_or_default();
                out.iter_mut().zip(element).for_each(|(out, &byte)| *out = byte);
            }
        }
    }
}

impl Packing {
    /// Writes the codes that a line adds to all tokens, so many to each: those of the first input, then
    /// those of the next.
    pub fn spread(self, line: &[u8], tokens: usize, count: usize, codes: &mut [u8]) {
        let inputs = codes.chunks_exact_mut(tokens.max(1)).take(count);
        match self {
            Self::Down { bits } if words(bits) == 1 => {
                let (words, mask) = (line.as_chunks().0, (1 << bits) - 1);
                for (shift, codes) in (0..).step_by(bits as usize).zip(inputs) {
                    for (code, &word) in codes.iter_mut().zip(words) {
                        *code = (u32::from_le_bytes(word) >> shift & mask) as u8;
                    }
                }
            }
            _ => {
                let mut of_token = [0; 32];
                let of_token = &mut of_token[..count];
                for token in 0..tokens {
                    self.put(line, token, tokens, of_token);
                    for (input, &code) in of_token.iter().enumerate() {
                        codes[input * tokens + token] = code;
                    }
                }
            }
        }
    }
}

/// Rows of words that together hold whole codes.
fn words(bits: u32) -> u32 {
    if bits == 3 { 3 } else { 1 }
}

/// The layout of a module whose tokens are columns.
pub(super) fn turned(
    codes: &TensorRecord,
    others: &[&TensorRecord],
    config: &Quantisation,
) -> Result<Layout, String> {
    let find = |end: &str| others.iter().find(|other| suffix(&other.name) == end).copied();
    let odd = |record: &TensorRecord, inputs: u64, tokens: u64| {
        let name = quote::name(&record.name);
        Err(format!(
            "{name}, of {} {:?}, is none of {tokens} tokens and {inputs} inputs",
            record.dtype, record.shape
        ))
    };
    let named = |what: &str| format!("it is packed by GPTQ or AWQ, and has no {what}");
    let scales = find(".scales").ok_or_else(|| named(".scales"))?;
    let zeros = find(".qzeros");
    let ([lines, wide], [groups, tokens]) = (sides(codes)?, sides(scales)?);
    let countable = |side: u64| side > 0 && u32::try_from(side).is_ok();
    if !countable(tokens) || !countable(lines) || groups == 0 || codes.dtype != Dtype::I32 {
        return odd(codes, 0, tokens);
    }
    // A module may have bits of its own, which its zero points tell.
    let words_of_zeros = zeros.map(sides).transpose()?.map(|[_, words]| words);
    let fits = |bits: &u32| {
        let line = Packing::Across { bits: *bits, mixed: false }.line_bytes(tokens);
        words_of_zeros.is_none_or(|words| words.checked_mul(4) == Some(line))
    };
    let said_bits = config.bits.and_then(|bits| u32::try_from(bits).ok());
    let fitting = || [2, 3, 4, 8].into_iter().filter(fits);
    let only = fitting().next().filter(|_| fitting().count() == 1);
    let bits = match said_bits.filter(fits).or(only) {
        Some(bits @ (2 | 3 | 4 | 8)) => bits,
        Some(bits) => {
            return Err(format!("it is packed by GPTQ or AWQ in {bits} bits, which is not read"));
        }
        None => {
            return Err(
                "it is packed by GPTQ or AWQ, and nothing says of how many bits its codes \
                        are"
                .to_owned(),
            );
        }
    };
    let (method, format) = (config.method.as_deref(), config.version.as_deref());
    let across = Packing::Across { bits, mixed: true };
    let (scheme, packing, inputs) = if wide == tokens && method != Some("awq") {
        if !matches!(format, None | Some("gptq" | "gptq_v2")) {
            return Err(format!("it is packed by GPTQ in the format {}", said(format)));
        }
        let packing = Packing::Down { bits };
        let room = lines / u64::from(words(bits)) * packing.width() as u64;
        // The last words may have room for more than there is.
        let inputs = match find(".g_idx").map(|order| order.shape.as_slice()) {
            Some(&[inputs]) => inputs,
            _ => room,
        };
        if !lines.is_multiple_of(words(bits).into())
            || inputs > room
            || room - inputs >= packing.width() as u64
        {
            return odd(codes, inputs, tokens);
        }
        (GPTQ, packing, inputs)
    } else if bits == 4 && across.line_bytes(tokens) == wide * 4 && method != Some("gptq") {
        if !matches!(format.map(str::to_ascii_lowercase).as_deref(), None | Some("gemm")) {
            return Err(format!("it is packed by AWQ in the version {}", said(format)));
        }
        (AWQ, across, lines)
    } else {
        return Err(format!(
            "it is packed by {}, and its codes {:?} are of no such shape for {tokens} tokens of {bits} bits",
            method.map_or("GPTQ or AWQ".into(), quote::name),
            codes.shape
        ));
    };
    let Some(size) = scales.dtype.bits().map(|bits| (bits / 8) as usize).filter(|&size| size > 0)
    else {
        return odd(scales, inputs, tokens);
    };
    let own = |record: &TensorRecord, width: u64| part(record, Share::Own { width });
    let mut parts = vec![own(codes, inputs), own(scales, groups * size as u64)];
    let mut packings = vec![packing, Packing::Plain { size }];
    if let Some(zeros) = zeros {
        let packing = Packing::Across { bits, mixed: scheme == AWQ };
        let [lines, words] = sides(zeros)?;
        if lines != groups || words * 4 != packing.line_bytes(tokens) || zeros.dtype != Dtype::I32 {
            return odd(zeros, inputs, tokens);
        }
        parts.push(own(zeros, groups));
        packings.push(packing);
    }
    let mut left_out = Vec::new();
    for other in others {
        match suffix(&other.name) {
            ".g_idx" => left_out.push(other.name.clone()),
            ".scales" | ".qzeros" => {}
            _ => {
                let name = quote::name(&other.name);
                return Err(format!("it is packed by {scheme}, and nothing is known of {name}"));
            }
        }
    }
    Ok(Layout { scheme, rows: tokens, columns: inputs, parts, left_out, turned: packings })
}

/// What a token's codes, scales and zero points stand for; nothing where it is not certain.
///
/// A number is a code less its zero point, times its scale. GPTQ's first format keeps zero points less
/// one, as
/// [AutoGPTQ](https://github.com/AutoGPTQ/AutoGPTQ/pull/640) found to be a mistake when there were
/// others; the second, which came with the word that tells them apart, as they are.
pub(super) fn coding(layout: &Layout, config: &Quantisation, told: &Told) -> Option<Coding> {
    // Without zero points nothing says what they would be.
    let [codes, scales, zeros] = layout.parts.as_slice() else { return None };
    let (method, format) = (config.method.as_deref(), config.version.as_deref());
    let above = match (layout.scheme, method, format) {
        (AWQ, ..) | (GPTQ, _, Some("gptq_v2")) => 0.0,
        (GPTQ, _, Some("gptq")) | (GPTQ, Some("gptq"), None) => -1.0,
        _ => return None,
    };
    let width = |part: &Part| usize::try_from(part.share.width()).ok();
    let (columns, count) = (width(codes)?, width(zeros)?);
    let groups = match told.groups() {
        Some(list) => Groups::listed(list, columns, count)?,
        None if layout.left_out.is_empty() => Groups::Each(even(columns, count, config)?),
        None => return None,
    };
    let (scales_end, end) = (columns + width(scales)?, columns + width(scales)? + count);
    let run = |bytes, dtype, above| Run { bytes, dtype, above, groups: groups.clone() };
    let coding = Coding {
        columns,
        row_bytes: end,
        bytes: 0..columns,
        codes: Codes::Elements(Dtype::U8),
        zeros: Some(run(scales_end..end, Dtype::U8, above)),
        scales: Some(Scales::Plain(run(columns..scales_end, scales.dtype.clone(), 0.0))),
        biases: None,
        factor: 1.0,
    };
    coding.is_whole().then_some(coding)
}

/// Inputs of each of so many groups.
fn even(columns: usize, count: usize, config: &Quantisation) -> Option<usize> {
    let told = config.group_size.and_then(|size| usize::try_from(size).ok());
    match told.filter(|_| count > 1) {
        Some(each) => (each > 0 && columns.div_ceil(each) == count).then_some(each),
        None => columns.checked_div(count).filter(|each| each * count == columns),
    }
}

fn sides(record: &TensorRecord) -> Result<[u64; 2], String> {
    let sides = record.shape.as_slice().try_into();
    sides.map_err(|_| format!("{} has the shape {:?}", quote::name(&record.name), record.shape))
}

fn said(format: Option<&str>) -> String {
    format!("{}, which is not read", quote::name(format.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(packing: Packing, line: &[u8], tokens: usize) -> Vec<Vec<u8>> {
        let of = |token| {
            let mut out = vec![0; packing.width()];
            packing.put(line, token, tokens, &mut out);
            out
        };
        (0..tokens).map(of).collect()
    }

    #[test]
    fn codes_below_each_other_are_taken_from_the_lowest_bits() {
        let line: Vec<u8> =
            [0x8765_4321u32, 0xffff_fff0].into_iter().flat_map(u32::to_le_bytes).collect();
        let four = put(Packing::Down { bits: 4 }, &line, 2);
        assert_eq!(four, [[1, 2, 3, 4, 5, 6, 7, 8], [0, 15, 15, 15, 15, 15, 15, 15]]);
        assert_eq!(put(Packing::Down { bits: 8 }, &line, 2)[0], [0x21, 0x43, 0x65, 0x87]);
        assert_eq!(put(Packing::Down { bits: 2 }, &line, 2)[0][..4], [1, 0, 2, 0]);
        // Three words hold 32 codes of three bits; the second token's are all seven.
        let codes: u128 = (0..32).map(|at| (at % 8) << (3 * at)).sum();
        let words = [0, 32, 64].map(|shift| [(codes >> shift) as u32, u32::MAX]);
        let line: Vec<u8> = words.concat().into_iter().flat_map(u32::to_le_bytes).collect();
        let three = put(Packing::Down { bits: 3 }, &line, 2);
        assert_eq!(three[0], (0..32).map(|at| at % 8).collect::<Vec<u8>>());
        assert_eq!(three[1], [7; 32]);
    }

    #[test]
    fn codes_beside_each_other_are_in_order_or_mixed() {
        let line = 0x7654_3210u32.to_le_bytes();
        let flat = |packing| put(packing, &line, 8).concat();
        assert_eq!(flat(Packing::Across { bits: 4, mixed: false }), [0, 1, 2, 3, 4, 5, 6, 7]);
        // The tokens of the fields, from the lowest: 0, 2, 4, 6, 1, 3, 5, 7.
        assert_eq!(flat(Packing::Across { bits: 4, mixed: true }), [0, 4, 1, 5, 2, 6, 3, 7]);
        let line = (0..10u32).map(|at| (at % 8) << (3 * at)).sum::<u32>().to_le_bytes();
        let three = put(Packing::Across { bits: 3, mixed: false }, &line, 10).concat();
        assert_eq!(three, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
        assert_eq!(put(Packing::Plain { size: 2 }, &line, 2).concat(), line);
    }

    #[test]
    fn lines_hold_whole_words() {
        assert_eq!(Packing::Down { bits: 3 }.line_bytes(10), 120);
        assert_eq!(Packing::Across { bits: 3, mixed: false }.line_bytes(10), 4);
        assert_eq!(Packing::Across { bits: 3, mixed: false }.line_bytes(11), 8);
        assert_eq!(Packing::Plain { size: 2 }.line_bytes(10), 20);
    }

    #[test]
    fn groups_are_listed_where_each_column_has_one_and_each_has_a_column() {
        let of = |list: &[u32], count| Groups::listed(list.to_vec(), 4, count);
        assert_eq!(of(&[1, 0, 1, 0], 2), Some(Groups::Listed([1, 0, 1, 0].into())));
        assert_eq!(of(&[0, 0, 0, 0], 2), None);
        assert_eq!(of(&[0, 1, 2, 0], 2), None);
        assert_eq!(of(&[0, 1, 0], 2), None);
        // No memory is claimed for as many as a header may tell of.
        assert_eq!(of(&[0, 1, 0, 1], usize::MAX), None);
    }
}
