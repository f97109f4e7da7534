//! What the small tensors of a quantised module say of all its rows.

use crate::checkpoint::{Dtype, TensorRecord};
use crate::quote;
use serde::Deserialize;

/// The contents of a module's small tensors, as far as they are needed.
#[derive(Debug, Default)]
pub struct Told {
    tensors: Vec<(String, Dtype, Vec<u8>)>,
    state: Option<QuantState>,
}

/// What a bitsandbytes module says of itself, in a tensor of JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct QuantState {
    pub(super) shape: Vec<u64>,
    pub(super) blocksize: u64,
    pub(super) nested_blocksize: Option<u64>,
    pub(super) nested_offset: Option<f64>,
}

/// How the names of tensors with a [`QuantState`] go on behind that of the codes.
const STATE: &str = ".quant_state.bitsandbytes__";

impl Told {
    /// The longest tensor that is read: the groups of 65,536 inputs.
    pub const MAX: u64 = 256 << 10;

    /// Whether a tensor of that name has to be read.
    pub fn wants(name: &str) -> bool {
        const NAMES: [&str; 6] = [
            "g_idx",
            ".weight_shape",
            ".weight_global_scale",
            ".weight_scale_2",
            ".weight.quant_map",
            ".weight.nested_quant_map",
        ];
        name.contains(STATE) || NAMES.iter().any(|end| name.ends_with(end))
    }

    /// Takes in what was read of one.
    pub fn add(&mut self, record: &TensorRecord, bytes: &[u8]) -> Result<(), String> {
        if record.name.contains(STATE) {
            let state = serde_json::from_slice(bytes);
            let wrong = |e| format!("{} tells no state of codes ({e})", quote::name(&record.name));
            self.state = Some(state.map_err(wrong)?);
        }
        self.tensors.push((record.name.clone(), record.dtype.clone(), bytes.to_vec()));
        Ok(())
    }

    pub(super) fn state(&self) -> Option<&QuantState> {
        self.state.as_ref()
    }

    /// The numbers of the tensor whose name ends so.
    pub(super) fn numbers(&self, end: &str) -> Option<Vec<f64>> {
        let (_, dtype, bytes) = self.tensors.iter().find(|(name, ..)| name.ends_with(end))?;
        (*dtype == Dtype::F32).then(|| {
            let (elements, _) = bytes.as_chunks();
            elements.iter().map(|&element| f64::from(f32::from_le_bytes(element))).collect()
        })
    }

    /// Its number, if it is a single one.
    pub(super) fn number(&self, end: &str) -> Option<f64> {
        match self.numbers(end)?[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// The group of each input; `None` where it is not told or is no group's number.
    pub(super) fn groups(&self) -> Option<Vec<u32>> {
        let (_, dtype, bytes) = self.tensors.iter().find(|(name, ..)| name.ends_with("g_idx"))?;
        if *dtype != Dtype::I32 {
            return None;
        }
        let groups = bytes.as_chunks().0.iter().map(|&group| i32::from_le_bytes(group));
        groups.map(|group| u32::try_from(group).ok()).collect()
    }

    /// Rows and columns, as compressed-tensors writes them beside packed codes.
    pub(super) fn shape(&self) -> Option<[u64; 2]> {
        let (_, dtype, bytes) =
            self.tensors.iter().find(|(name, ..)| name.ends_with(".weight_shape"))?;
        let sides: Vec<i64> = match dtype {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            Dtype::I32 => {
                bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()
            }
            _ => return None,
        };
        let sides: Vec<u64> =
            sides.into_iter().map(u64::try_from).collect::<Result<_, _>>().ok()?;
        sides.try_into().ok()
    }
}
