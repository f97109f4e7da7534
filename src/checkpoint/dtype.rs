//! The element types of the safetensors format.

use std::fmt;

/// An element type, as a header names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the format's own
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    F8E8M0,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    I64,
    U64,
    F64,
    C64,
    F4,
    F6E2M3,
    F6E3M2,
    /// Elements that are stored in blocks, a number of bytes for a number of elements.
    Block(Block),
    /// A name that the format does not define: such tensors are listed, never read.
    Unknown(String),
}

/// Elements of a row that are stored together, with the scales they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The type's name.
    pub name: &'static str,
    /// Elements of a block.
    pub elements: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// The types of ggml that have blocks, by their numbers in GGUF files (`ggml.h`).
const BLOCKS: [(u32, Block); 27] = [
    (2, Block { name: "Q4_0", elements: 32, bytes: 18 }),
    (3, Block { name: "Q4_1", elements: 32, bytes: 20 }),
    (6, Block { name: "Q5_0", elements: 32, bytes: 22 }),
    (7, Block { name: "Q5_1", elements: 32, bytes: 24 }),
    (8, Block { name: "Q8_0", elements: 32, bytes: 34 }),
    (9, Block { name: "Q8_1", elements: 32, bytes: 40 }),
    (10, Block { name: "Q2_K", elements: 256, bytes: 84 }),
    (11, Block { name: "Q3_K", elements: 256, bytes: 110 }),
    (12, Block { name: "Q4_K", elements: 256, bytes: 144 }),
    (13, Block { name: "Q5_K", elements: 256, bytes: 176 }),
    (14, Block { name: "Q6_K", elements: 256, bytes: 210 }),
    (15, Block { name: "Q8_K", elements: 256, bytes: 292 }),
    (16, Block { name: "IQ2_XXS", elements: 256, bytes: 66 }),
    (17, Block { name: "IQ2_XS", elements: 256, bytes: 74 }),
    (18, Block { name: "IQ3_XXS", elements: 256, bytes: 98 }),
    (19, Block { name: "IQ1_S", elements: 256, bytes: 50 }),
    (20, Block { name: "IQ4_NL", elements: 32, bytes: 18 }),
    (21, Block { name: "IQ3_S", elements: 256, bytes: 110 }),
    (22, Block { name: "IQ2_S", elements: 256, bytes: 82 }),
    (23, Block { name: "IQ4_XS", elements: 256, bytes: 136 }),
    (29, Block { name: "IQ1_M", elements: 256, bytes: 56 }),
    (34, Block { name: "TQ1_0", elements: 256, bytes: 54 }),
    (35, Block { name: "TQ2_0", elements: 256, bytes: 66 }),
    (39, Block { name: "MXFP4", elements: 32, bytes: 17 }),
    (40, Block { name: "NVFP4", elements: 64, bytes: 36 }),
    (41, Block { name: "Q1_0", elements: 128, bytes: 18 }),
    (42, Block { name: "Q2_0", elements: 64, bytes: 18 }),
];

/// The type that PrismML's branch of llama.cpp had under that number before: of twice the length.
const WIDE: (u32, Block) = (42, Block { name: "Q2_0", elements: 128, bytes: 34 });

/// Every defined type: its name in a header, and its size in bits.
const TABLE: [(Dtype, &str, u64); 22] = [
    (Dtype::Bool, "BOOL", 8),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8),
    (Dtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::Bf16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::C64, "C64", 64),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
];

impl Dtype {
    /// The type of that name; unknown names are kept.
    pub fn parse(name: &str) -> Self {
        let known = TABLE.iter().find(|(_, known, _)| *known == name);
        known.map_or_else(|| Self::Unknown(name.to_owned()), |(dtype, ..)| dtype.clone())
    }

    /// The same as the branch has it whose files cannot be told by anything but their lengths; `None`
    /// where it is no other.
    pub(super) fn of_ggml_branch(number: u32) -> Option<Self> {
        (number == WIDE.0).then_some(Self::Block(WIDE.1))
    }

    /// The type of that number in a GGUF file; unknown ones are kept.
    pub fn of_ggml(number: u32) -> Self {
        match number {
            0 => Self::F32,
            1 => Self::F16,
            24 => Self::I8,
            25 => Self::I16,
            26 => Self::I32,
            27 => Self::I64,
            28 => Self::F64,
            30 => Self::Bf16,
            _ => match BLOCKS.iter().find(|(known, _)| *known == number) {
                Some((_, block)) => Self::Block(*block),
                None => Self::Unknown(format!("ggml type {number}")),
            },
        }
    }

    /// Bytes of so many elements in a row; `None` if these are no whole number of bytes or blocks, or
    /// the type is unknown.
    pub fn bytes_of(&self, elements: u64) -> Option<u64> {
        let (bytes, elements) = match self {
            Self::Block(block) if elements.is_multiple_of(block.elements) => {
                (block.bytes, elements / block.elements)
            }
            Self::Block(_) => return None,
            _ => {
                let bits = elements.checked_mul(self.bits()?)?;
                return bits.is_multiple_of(8).then_some(bits / 8);
            }
        };
        elements.checked_mul(bytes)
    }

    /// Bits of one element; `None` for an unknown type, and where elements are stored in blocks.
    pub fn bits(&self) -> Option<u64> {
        TABLE.iter().find(|(dtype, ..)| dtype == self).map(|&(.., bits)| bits)
    }

    /// The name as a header writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(name) => name,
            Self::Block(block) => block.name,
            known => {
                TABLE.iter().find(|(dtype, ..)| dtype == known).map_or("", |&(_, name, _)| name)
            }
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
