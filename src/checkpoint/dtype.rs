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
    /// A name that the format does not define: such tensors are listed, never read.
    Unknown(String),
}

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

    /// Bits of one element; `None` for an unknown type.
    pub fn bits(&self) -> Option<u64> {
        TABLE.iter().find(|(dtype, ..)| dtype == self).map(|&(.., bits)| bits)
    }

    /// The name as a header writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(name) => name,
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
