//! The tensor types of ggml: numbers, names and block sizes.
//!
//! The table follows ggml's `ggml.h` and `ggml-common.h`. It names everything a file may
//! hold, also what nobody multiplies; a type is bytes here and nothing more.

use std::fmt;

/// A storage type of tensors, called as ggml calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "the field writes Q4_K and IQ2_XXS")]
#[non_exhaustive]
#[repr(u32)]
pub enum GgmlType {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE half precision.
    F16 = 1,
    /// 4 bits, one scale per 32.
    Q4_0 = 2,
    /// 4 bits, scale and minimum per 32.
    Q4_1 = 3,
    /// 5 bits, one scale per 32.
    Q5_0 = 6,
    /// 5 bits, scale and minimum per 32.
    Q5_1 = 7,
    /// 8 bits, one scale per 32.
    Q8_0 = 8,
    /// 8 bits, scale and sum per 32; activations, not found in files.
    Q8_1 = 9,
    /// 2 bits, scale and minimum per 16.
    Q2_K = 10,
    /// 3 bits, one scale per 16.
    Q3_K = 11,
    /// 4 bits, scale and minimum per 32.
    Q4_K = 12,
    /// 5 bits, scale and minimum per 32.
    Q5_K = 13,
    /// 6 bits, one scale per 16.
    Q6_K = 14,
    /// 8 bits, one scale per 256 and sums; activations, not found in files.
    Q8_K = 15,
    /// 2.06 bits, grid of eight magnitudes.
    IQ2_XXS = 16,
    /// 2.31 bits, grid of eight magnitudes.
    IQ2_XS = 17,
    /// 3.06 bits, grid of four magnitudes.
    IQ3_XXS = 18,
    /// 1.56 bits, grid of eight ternary values.
    IQ1_S = 19,
    /// 4 bits into a table of 16 values, one scale per 32.
    IQ4_NL = 20,
    /// 3.44 bits, grid of four magnitudes.
    IQ3_S = 21,
    /// 2.56 bits, grid of eight magnitudes.
    IQ2_S = 22,
    /// 4 bits into a table of 16 values, 6-bit scales per 32.
    IQ4_XS = 23,
    /// Signed bytes.
    I8 = 24,
    /// Signed 16-bit integers.
    I16 = 25,
    /// Signed 32-bit integers.
    I32 = 26,
    /// Signed 64-bit integers.
    I64 = 27,
    /// IEEE double precision.
    F64 = 28,
    /// 1.75 bits, grid of eight ternary values.
    IQ1_M = 29,
    /// The upper half of a single.
    BF16 = 30,
    /// Ternary values, five to a byte.
    TQ1_0 = 34,
    /// Ternary values, four to a byte.
    TQ2_0 = 35,
    /// 4-bit floats (E2M1), one power of two per 32.
    MXFP4 = 39,
    /// 4-bit floats (E2M1), one 8-bit float per 16.
    NVFP4 = 40,
    /// Signs, one scale per 128.
    Q1_0 = 41,
    /// 2 bits, one scale per 64.
    Q2_0 = 42,
}

impl GgmlType {
    /// All types, by ascending number.
    pub const ALL: [Self; 35] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q8_1,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::Q8_K,
        Self::IQ2_XXS,
        Self::IQ2_XS,
        Self::IQ3_XXS,
        Self::IQ1_S,
        Self::IQ4_NL,
        Self::IQ3_S,
        Self::IQ2_S,
        Self::IQ4_XS,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F64,
        Self::IQ1_M,
        Self::BF16,
        Self::TQ1_0,
        Self::TQ2_0,
        Self::MXFP4,
        Self::NVFP4,
        Self::Q1_0,
        Self::Q2_0,
    ];

    /// Returns the number that stands for the type in a file.
    #[must_use]
    pub const fn tag(self) -> u32 {
        self as u32
    }

    /// Returns the type that a number in a file stands for.
    ///
    /// ```
    /// use gguf_format::GgmlType;
    ///
    /// assert_eq!(GgmlType::from_tag(12), Some(GgmlType::Q4_K));
    /// assert_eq!(GgmlType::from_tag(4), None);
    /// assert_eq!(GgmlType::removed_name(4), Some("Q4_2"));
    /// ```
    #[must_use]
    pub fn from_tag(tag: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.tag() == tag)
    }

    /// Returns the name of a type that ggml has removed, by its number.
    #[must_use]
    pub const fn removed_name(tag: u32) -> Option<&'static str> {
        Some(match tag {
            4 => "Q4_2",
            5 => "Q4_3",
            31 => "Q4_0_4_4",
            32 => "Q4_0_4_8",
            33 => "Q4_0_8_8",
            36 => "IQ4_NL_4_4",
            37 => "IQ4_NL_4_8",
            38 => "IQ4_NL_8_8",
            _ => return None,
        })
    }

    /// Returns the type of a name, in capitals or not.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Returns the name, as in `Q4_K`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.layout().0
    }

    /// Returns how many weights a block holds; 1 where there are no blocks.
    #[must_use]
    pub const fn block_len(self) -> u64 {
        self.layout().1
    }

    /// Returns how many bytes a block takes.
    #[must_use]
    pub const fn block_bytes(self) -> u64 {
        self.layout().2
    }

    /// Name, weights per block, bytes per block.
    const fn layout(self) -> (&'static str, u64, u64) {
        match self {
            Self::F32 => ("F32", 1, 4),
            Self::F16 => ("F16", 1, 2),
            Self::Q4_0 => ("Q4_0", 32, 18),
            Self::Q4_1 => ("Q4_1", 32, 20),
            Self::Q5_0 => ("Q5_0", 32, 22),
            Self::Q5_1 => ("Q5_1", 32, 24),
            Self::Q8_0 => ("Q8_0", 32, 34),
            Self::Q8_1 => ("Q8_1", 32, 36),
            Self::Q2_K => ("Q2_K", 256, 84),
            Self::Q3_K => ("Q3_K", 256, 110),
            Self::Q4_K => ("Q4_K", 256, 144),
            Self::Q5_K => ("Q5_K", 256, 176),
            Self::Q6_K => ("Q6_K", 256, 210),
            Self::Q8_K => ("Q8_K", 256, 292),
            Self::IQ2_XXS => ("IQ2_XXS", 256, 66),
            Self::IQ2_XS => ("IQ2_XS", 256, 74),
            Self::IQ3_XXS => ("IQ3_XXS", 256, 98),
            Self::IQ1_S => ("IQ1_S", 256, 50),
            Self::IQ4_NL => ("IQ4_NL", 32, 18),
            Self::IQ3_S => ("IQ3_S", 256, 110),
            Self::IQ2_S => ("IQ2_S", 256, 82),
            Self::IQ4_XS => ("IQ4_XS", 256, 136),
            Self::I8 => ("I8", 1, 1),
            Self::I16 => ("I16", 1, 2),
            Self::I32 => ("I32", 1, 4),
            Self::I64 => ("I64", 1, 8),
            Self::F64 => ("F64", 1, 8),
            Self::IQ1_M => ("IQ1_M", 256, 56),
            Self::BF16 => ("BF16", 1, 2),
            Self::TQ1_0 => ("TQ1_0", 256, 54),
            Self::TQ2_0 => ("TQ2_0", 256, 66),
            Self::MXFP4 => ("MXFP4", 32, 17),
            Self::NVFP4 => ("NVFP4", 64, 36),
            Self::Q1_0 => ("Q1_0", 128, 18),
            Self::Q2_0 => ("Q2_0", 64, 18),
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_up_to_the_last_is_a_type_or_a_removed_one() {
        for tag in 0..=42 {
            let known = GgmlType::from_tag(tag).is_some();
            let removed = GgmlType::removed_name(tag).is_some();
            assert!(known != removed, "type {tag}");
        }
        assert_eq!(GgmlType::from_tag(43), None);
        assert_eq!(GgmlType::removed_name(43), None);
    }

    #[test]
    fn names_are_those_of_the_variants_and_lead_back() {
        for ty in GgmlType::ALL {
            assert_eq!(format!("{ty:?}"), ty.name());
            assert_eq!(GgmlType::from_name(&ty.name().to_lowercase()), Some(ty));
            assert_eq!(GgmlType::from_tag(ty.tag()), Some(ty));
        }
    }
}
