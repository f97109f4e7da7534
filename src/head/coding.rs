//! What the bytes of a quantised row stand for, where the scheme leaves no doubt.
//!
//! A row's numbers are its codes, less their zero points, times their scales, plus their biases, times
//! one factor for all; the formulas are the schemes' own. Of a scheme with a choice that nothing
//! written tells nothing is said.

use super::config::Quantisation;
use super::layout::{
    BITSANDBYTES_4, BITSANDBYTES_8, COMPRESSED_TENSORS, FINE_GRAINED, Layout, MLX_AFFINE,
    MLX_MICROSCALING, MODELOPT, MXFP4, NVFP4, PACKED, Part, TORCHAO, is_inert, suffix,
};
use super::told::Told;
use super::turned;
use crate::checkpoint::{Block, Dtype};
use std::ops::Range;
use std::sync::Arc;

/// What a row's bytes stand for.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Its elements, one after another.
    Plain(Dtype),
    /// Blocks of codes, with the scales they share.
    Blocks(Block),
    /// Codes, then what gives them their values.
    Coded(Arc<Coding>),
    /// What is not known for certain.
    Unknown,
}

impl From<&Dtype> for Numbers {
    fn from(dtype: &Dtype) -> Self {
        dtype.clone().into()
    }
}

impl From<Dtype> for Numbers {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Block(block) => Self::Blocks(block),
            dtype => Self::Plain(dtype),
        }
    }
}

impl Numbers {
    /// Bytes of a row of so many columns; `None` if there is no such row.
    pub fn row_bytes(&self, columns: u64) -> Option<u64> {
        match self {
            Self::Plain(dtype) => dtype.bytes_of(columns),
            Self::Blocks(block) => Dtype::Block(*block).bytes_of(columns),
            Self::Coded(coding) => {
                (coding.columns as u64 == columns).then_some(coding.row_bytes as u64)
            }
            Self::Unknown => None,
        }
    }
}

/// How a row's codes, and what lies behind them, make numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Coding {
    /// How many numbers.
    pub columns: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The bytes of the codes.
    pub bytes: Range<usize>,
    /// What a code is.
    pub codes: Codes,
    /// What is taken from codes.
    pub zeros: Option<Run>,
    /// What they are multiplied by.
    pub scales: Option<Scales>,
    /// What is added then.
    pub biases: Option<Run>,
    /// What all are multiplied by.
    pub factor: f64,
}

/// What codes stand for by themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Codes {
    /// Elements of a type; of less than a byte, the first in the lowest bits.
    Elements(Dtype),
    /// Whole numbers of so many bits, the first in the lowest; what they are less this.
    Whole {
        /// At most eight.
        bits: u32,
        /// The number that the code 0 is below zero.
        below: i32,
    },
    /// The same, as many in each word of 32 bits as have room in it.
    InWords {
        /// At most eight.
        bits: u32,
        /// The number that the code 0 is below zero.
        below: i32,
    },
    /// Places in a table, two a byte, the first in the highest bits.
    Table(Vec<f64>),
}

/// Numbers that each hold for several columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Their bytes in the row.
    pub bytes: Range<usize>,
    /// Their type.
    pub dtype: Dtype,
    /// How much the stored number is above the one that counts.
    pub above: f64,
    /// The columns of each.
    pub groups: Groups,
}

/// Which columns share a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Groups {
    /// So many that follow one another; the last group may have fewer.
    Each(usize),
    /// Those of which the list says the same.
    Listed(Arc<[u32]>),
}

impl Groups {
    /// Groups that a list tells: each of so many columns is in one of so many groups, and each group has
    /// some. Where one has none, what the list says is not meant: some files have one of nothing but zeros.
    pub(super) fn listed(list: Vec<u32>, columns: usize, count: usize) -> Option<Self> {
        // As many groups as a header claims are more than there is memory for.
        if list.len() != columns || count > columns {
            return None;
        }
        let mut seen = vec![false; count];
        for &group in &list {
            *seen.get_mut(group as usize)? = true;
        }
        seen.into_iter().all(|seen| seen).then(|| Self::Listed(list.into()))
    }

    /// The group of a column.
    pub fn of(&self, column: usize) -> usize {
        match self {
            Self::Each(each) => column / each,
            Self::Listed(list) => list.get(column).map_or(usize::MAX, |&group| group as usize),
        }
    }

    /// How many groups so many columns have.
    fn count(&self, columns: usize) -> usize {
        match self {
            Self::Each(each) => columns.div_ceil(*each),
            Self::Listed(list) => list.iter().max().map_or(0, |&last| last as usize + 1),
        }
    }
}

/// Scales of codes.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// As they are.
    Plain(Run),
    /// Quantised once more: places in a table, times numbers of their own, plus one.
    Nested {
        /// A byte for each of them.
        bytes: Range<usize>,
        /// What the bytes stand for.
        table: Vec<f64>,
        /// What these are multiplied by, one for each.
        by: Run,
        /// What is added then.
        offset: f64,
        /// Columns of each.
        each: usize,
    },
}

/// A part of a row: where it lies in it.
struct Placed<'a> {
    part: &'a Part,
    bytes: Range<usize>,
}

impl Placed<'_> {
    /// Its numbers, of so many columns each.
    fn run(&self, dtype: Dtype, each: usize) -> Option<Run> {
        let bits = usize::try_from(dtype.bits()?).ok()?;
        // What is narrower than a byte is never a scale, and whole columns are never without one.
        let fits = each > 0 && bits.is_multiple_of(8) && self.bytes.len().is_multiple_of(bits / 8);
        let groups = Groups::Each(each);
        fits.then(|| Run { bytes: self.bytes.clone(), dtype, above: 0.0, groups })
    }

    /// The same, its columns shared out evenly, or in groups of the size that is configured.
    fn even(&self, dtype: Dtype, columns: usize, group: Option<usize>) -> Option<Run> {
        let size = usize::try_from(dtype.bits()? / 8).ok()?;
        let count = self.bytes.len().checked_div(size)?;
        let even = columns.checked_div(count).filter(|each| each * count == columns);
        let each = match group {
            Some(group) if count > 1 => group,
            _ => even?,
        };
        self.run(dtype, each)
    }

    /// The same, of groups that may be listed.
    fn grouped(
        &self,
        dtype: Dtype,
        columns: usize,
        group: Option<usize>,
        list: Option<&[u32]>,
    ) -> Option<Run> {
        let size = usize::try_from(dtype.bits()? / 8).ok()?;
        match list {
            Some(list) if self.bytes.len() > size => {
                let count = self.bytes.len().checked_div(size)?;
                let groups = Groups::listed(list.to_vec(), columns, count)?;
                Some(Run { groups, ..self.run(dtype, 1)? })
            }
            _ => self.even(dtype, columns, group),
        }
    }
}

/// What the rows of a layout stand for; `told` are the contents of the module's small tensors.
pub(super) fn coding(layout: &Layout, config: &Quantisation, told: &Told) -> Option<Coding> {
    if !layout.turned.is_empty() {
        return turned::coding(layout, config, told);
    }
    // Columns in groups of their own order.
    let ordered = layout.left_out.iter().any(|name| name.ends_with("g_idx"));
    let list = match ordered {
        true if layout.scheme == PACKED => Some(told.groups()?),
        true => return None,
        false => None,
    };
    // What is one number for all rows has a place in the formula, or a meaning that is not known.
    let factor = match layout.scheme {
        NVFP4 => ".weight_global_scale",
        MODELOPT if layout.parts.first()?.dtype == Dtype::U8 => ".weight_scale_2",
        _ => "",
    };
    let left_out = layout.left_out.iter().map(|name| suffix(name));
    if left_out.into_iter().any(|name| !is_inert(name) && name != factor) {
        return None;
    }
    let mut end = 0;
    let placed: Vec<Placed<'_>> = layout
        .parts
        .iter()
        .map(|part| {
            let start = end;
            end += usize::try_from(part.share.width()).ok()?;
            Some(Placed { part, bytes: start..end })
        })
        .collect::<Option<_>>()?;
    let (codes, others) = placed.split_first()?;
    let columns = usize::try_from(layout.columns).ok()?;
    let find = |ends: &[&str]| {
        others.iter().find(|one| ends.iter().any(|end| suffix(&one.part.tensor).ends_with(end)))
    };
    let of = |placed: &Placed<'_>| placed.part.dtype.clone();
    let scales = find(&["scale", "scales", "scale_inv", ".SCB", ".absmax"]);
    let zeros = find(&["zero_point"]);
    let biases = find(&[".biases"]);
    // What is not named here has a meaning of its own.
    let known = [scales, zeros, biases].into_iter().flatten().count();
    let whole = |kind: Codes| Coding {
        columns,
        row_bytes: end,
        bytes: codes.bytes.clone(),
        codes: kind,
        zeros: None,
        scales: None,
        biases: None,
        factor: 1.0,
    };
    let bits = config.bits.and_then(|bits| u32::try_from(bits).ok());
    let bits = bits.filter(|bits| (1..=8).contains(bits));
    let is = |placed: Option<&Placed<'_>>, dtype: Dtype| placed.is_some_and(|one| of(one) == dtype);
    let fp4 = |each: usize, scale: Dtype, factor: f64| {
        let scales = scales?.run(scale, each)?;
        let whole = whole(Codes::Elements(Dtype::F4));
        Some(Coding { scales: Some(Scales::Plain(scales)), factor, ..whole })
    };
    let group = config.group_size.and_then(|size| usize::try_from(size).ok());
    let even =
        |placed: Option<&Placed<'_>>| placed?.grouped(of(placed?), columns, group, list.as_deref());
    let coding = match layout.scheme {
        MLX_AFFINE => Coding {
            scales: Some(Scales::Plain(even(scales)?)),
            biases: Some(even(biases)?),
            ..whole(Codes::Whole { bits: bits?, below: 0 })
        },
        MLX_MICROSCALING => {
            let (codes, scale, each) = match config.mode.as_deref()? {
                "mxfp4" => (Dtype::F4, Dtype::F8E8M0, 32),
                "mxfp8" => (Dtype::F8E4M3, Dtype::F8E8M0, 32),
                "nvfp4" => (Dtype::F4, Dtype::F8E4M3, 16),
                _ => return None,
            };
            let scales = Some(Scales::Plain(scales?.run(scale, each)?));
            Coding { scales, ..whole(Codes::Elements(codes)) }
        }
        NVFP4 if is(scales, Dtype::F8E4M3) => fp4(16, Dtype::F8E4M3, 1.0 / told.number(factor)?)?,
        MXFP4 if is(scales, Dtype::U8) => fp4(32, Dtype::F8E8M0, 1.0)?,
        MODELOPT if is(Some(codes), Dtype::U8) && is(scales, Dtype::F8E4M3) => {
            fp4(16, Dtype::F8E4M3, told.number(factor)?)?
        }
        PACKED => {
            let below = 1 << (bits? - 1);
            let codes = packed(bits?, below, columns, codes.bytes.len())?;
            let zeros = match zeros {
                // Fields, like codes: above what they stand for, by as much.
                Some(zeros) if zeros.part.share.is_own() => Some(even(Some(zeros))?),
                Some(zeros) => {
                    let above = f64::from(below);
                    Some(Run {
                        above,
                        ..zeros.grouped(Dtype::U8, columns, group, list.as_deref())?
                    })
                }
                None => None,
            };
            let scales = Some(Scales::Plain(even(scales)?));
            Coding { zeros, scales, ..whole(codes) }
        }
        COMPRESSED_TENSORS | MODELOPT | FINE_GRAINED | TORCHAO => {
            let dtype = of(codes);
            if !matches!(dtype, Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2) {
                return None;
            }
            let scales = match scales?.part.share.is_own() {
                true => even(scales)?,
                false => scales?.run(of(scales?), usize::try_from(config.block_columns?).ok()?)?,
            };
            let zeros = match zeros {
                Some(zeros) => Some(even(Some(zeros))?),
                None => None,
            };
            let scales = Some(Scales::Plain(scales));
            Coding { zeros, scales, ..whole(Codes::Elements(dtype)) }
        }
        BITSANDBYTES_8 => {
            let scales = Some(Scales::Plain(even(scales)?));
            Coding { scales, factor: 1.0 / 127.0, ..whole(Codes::Elements(Dtype::I8)) }
        }
        BITSANDBYTES_4 => {
            let table = told.numbers(".quant_map").filter(|table| table.len() == 16)?;
            let scales = match others {
                [absmax] => Scales::Plain(even(Some(absmax))?),
                [absmax, by] => Scales::Nested {
                    bytes: absmax.bytes.clone(),
                    table: told.numbers(".nested_quant_map").filter(|table| table.len() == 256)?,
                    by: by.run(of(by), 1)?,
                    offset: told.state()?.nested_offset?,
                    each: columns / absmax.bytes.len(),
                },
                _ => return None,
            };
            return Some(Coding { scales: Some(scales), ..whole(Codes::Table(table)) });
        }
        _ => return None,
    };
    (known == others.len() && coding.is_whole()).then_some(coding)
}

/// How so many bytes hold so many codes: compressed-tensors 0.12 has as many in a word as it has room for, in
/// 0.20 they lie one behind the other. Of some widths that is the same, of others the number of words tells.
fn packed(bits: u32, below: i32, columns: usize, bytes: usize) -> Option<Codes> {
    let words = bytes / 4;
    let dense = columns.checked_mul(bits as usize)?.div_ceil(32) == words;
    let in_words = columns.div_ceil(32 / bits as usize) == words;
    match (dense, in_words) {
        (true, false) => Some(Codes::Whole { bits, below }),
        (true, true) if bits.is_power_of_two() => Some(Codes::Whole { bits, below }),
        (false, true) => Some(Codes::InWords { bits, below }),
        _ => None,
    }
}

impl Coding {
    /// Whether there is a code, a scale and all else for each column, and nothing beyond.
    pub(super) fn is_whole(&self) -> bool {
        // The last word of whole numbers may have room for more.
        let (bits, room) = match &self.codes {
            Codes::Elements(dtype) => (dtype.bits().unwrap_or(0) as usize, 8),
            Codes::Whole { bits, .. } => (*bits as usize, 32),
            Codes::InWords { bits, .. } => (*bits as usize, usize::MAX),
            Codes::Table(_) => (4, 8),
        };
        let is_float = |run: &Run| {
            use Dtype::{Bf16, F8E4M3, F8E8M0, F16, F32};
            matches!(run.dtype, Bf16 | F16 | F32 | F8E4M3 | F8E8M0)
        };
        let enough = |run: &Run| {
            let size = run.dtype.bits().unwrap_or(0) as usize / 8;
            size > 0 && run.bytes.len() == run.groups.count(self.columns) * size
        };
        let left =
            self.columns.checked_mul(bits).and_then(|all| (self.bytes.len() * 8).checked_sub(all));
        let scales = match &self.scales {
            Some(Scales::Plain(run)) => enough(run) && is_float(run),
            Some(Scales::Nested { .. }) | None => true,
        };
        left.is_some_and(|left| left < room)
            && scales
            && self.zeros.as_ref().is_none_or(enough)
            && self.biases.as_ref().is_none_or(enough)
    }
}
