//! The weight types that can be multiplied, and the table of their sizes.
//!
//! Names and sizes follow ggml (`ggml_type`, `ggml-common.h`). A file may hold other
//! types; what they are called, and which numbers a file gives them, is the file format's
//! business.

use std::{fmt, str::FromStr};

use crate::KernelError;

/// A storage type of matrix weights.
///
/// Bits are those of a weight's own code, scales of a block come on top; for `IQ1` to
/// `IQ3`, whose weights share codes, they are the whole. The crate's documentation has a
/// table.
///
/// ```
/// use quant_kernels::QuantType;
///
/// let ty: QuantType = "q4_k".parse()?;
/// assert_eq!((ty.block_len(), ty.block_bytes()), (256, 144));
/// assert_eq!(ty.row_bytes(2048), Some(1152));
/// # Ok::<(), quant_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "the field writes Q4_K and IQ2_XXS")]
#[non_exhaustive]
pub enum QuantType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// 4 bits, one scale per 32.
    Q4_0,
    /// 4 bits, scale and minimum per 32.
    Q4_1,
    /// 5 bits, one scale per 32.
    Q5_0,
    /// 5 bits, scale and minimum per 32.
    Q5_1,
    /// 8 bits, one scale per 32.
    Q8_0,
    /// 2 bits, scale and minimum per 16.
    Q2_K,
    /// 3 bits, one scale per 16.
    Q3_K,
    /// 4 bits, scale and minimum per 32.
    Q4_K,
    /// 5 bits, scale and minimum per 32.
    Q5_K,
    /// 6 bits, one scale per 16.
    Q6_K,
    /// 1.56 bits, grid of eight ternary values.
    IQ1_S,
    /// 1.75 bits, grid of eight ternary values.
    IQ1_M,
    /// 2.06 bits, grid of eight magnitudes.
    IQ2_XXS,
    /// 2.31 bits, grid of eight magnitudes.
    IQ2_XS,
    /// 2.56 bits, grid of eight magnitudes.
    IQ2_S,
    /// 3.06 bits, grid of four magnitudes.
    IQ3_XXS,
    /// 3.44 bits, grid of four magnitudes.
    IQ3_S,
    /// 4 bits into a table of 16 values, one scale per 32.
    IQ4_NL,
    /// 4 bits into a table of 16 values, 6-bit scales per 32.
    IQ4_XS,
    /// 4-bit floats (E2M1), one power of two per 32.
    MXFP4,
    /// 8-bit floats (E4M3), whose scales lie beside the matrix: [`MatRef::with_scales`].
    ///
    /// [`MatRef::with_scales`]: crate::MatRef::with_scales
    F8_E4M3,
}

/// The form in which a product wants its activations; see [`QuantType::activation_form`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationForm {
    /// As they are, `f32`: for weights of F32, F16, BF16 and `F8_E4M3`.
    Float,
    /// `i8` with one `f32` scale per 32: for weights in blocks of 32.
    Q8Small,
    /// `i8` with one `f32` scale per 256: for weights in blocks of 256.
    Q8Super,
}

/// One row of the table: name, weights per block, bytes per block, activations.
struct Row(&'static str, usize, usize, ActivationForm);

impl QuantType {
    /// Every type whose bytes say all, in the order of the enum: those of GGUF files.
    /// `F8_E4M3`, which needs scales beside it, is not among them.
    pub const ALL: [Self; 23] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ1_S,
        Self::IQ1_M,
        Self::IQ2_XXS,
        Self::IQ2_XS,
        Self::IQ2_S,
        Self::IQ3_XXS,
        Self::IQ3_S,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    const fn row(self) -> Row {
        use ActivationForm::{Float, Q8Small, Q8Super};
        match self {
            Self::F32 => Row("F32", 1, 4, Float),
            Self::F16 => Row("F16", 1, 2, Float),
            Self::BF16 => Row("BF16", 1, 2, Float),
            Self::Q4_0 => Row("Q4_0", 32, 18, Q8Small),
            Self::Q4_1 => Row("Q4_1", 32, 20, Q8Small),
            Self::Q5_0 => Row("Q5_0", 32, 22, Q8Small),
            Self::Q5_1 => Row("Q5_1", 32, 24, Q8Small),
            Self::Q8_0 => Row("Q8_0", 32, 34, Q8Small),
            Self::Q2_K => Row("Q2_K", 256, 84, Q8Super),
            Self::Q3_K => Row("Q3_K", 256, 110, Q8Super),
            Self::Q4_K => Row("Q4_K", 256, 144, Q8Super),
            Self::Q5_K => Row("Q5_K", 256, 176, Q8Super),
            Self::Q6_K => Row("Q6_K", 256, 210, Q8Super),
            Self::IQ1_S => Row("IQ1_S", 256, 50, Q8Super),
            Self::IQ1_M => Row("IQ1_M", 256, 56, Q8Super),
            Self::IQ2_XXS => Row("IQ2_XXS", 256, 66, Q8Super),
            Self::IQ2_XS => Row("IQ2_XS", 256, 74, Q8Super),
            Self::IQ2_S => Row("IQ2_S", 256, 82, Q8Super),
            Self::IQ3_XXS => Row("IQ3_XXS", 256, 98, Q8Super),
            Self::IQ3_S => Row("IQ3_S", 256, 110, Q8Super),
            Self::IQ4_NL => Row("IQ4_NL", 32, 18, Q8Small),
            Self::IQ4_XS => Row("IQ4_XS", 256, 136, Q8Super),
            Self::MXFP4 => Row("MXFP4", 32, 17, Q8Small),
            Self::F8_E4M3 => Row("F8_E4M3", 1, 1, Float),
        }
    }

    /// Returns the name the field uses, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the number of weights in one block (1 for floats).
    pub const fn block_len(self) -> usize {
        self.row().1
    }

    /// Returns the bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.row().2
    }

    /// Returns the form of activations that products with this type read.
    pub const fn activation_form(self) -> ActivationForm {
        self.row().3
    }

    /// Returns the bytes of a row of `n_cols` weights, or `None` if the row is no whole
    /// number of blocks or too large to address.
    pub const fn row_bytes(self, n_cols: usize) -> Option<usize> {
        if !n_cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (n_cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for QuantType {
    type Err = KernelError;

    /// Reads a name such as `q4_k`, in either case.
    ///
    /// # Errors
    /// [`KernelError::UnknownType`] if there is no such name.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| KernelError::UnknownType {
                name: name.escape_default().to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_in_either_case() {
        for ty in QuantType::ALL {
            assert_eq!(ty.name().parse::<QuantType>().unwrap(), ty);
            assert_eq!(ty.name().to_lowercase().parse::<QuantType>().unwrap(), ty);
        }
        assert!("Q9_K".parse::<QuantType>().is_err());
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(QuantType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(QuantType::Q4_K.row_bytes(500), None);
        assert_eq!(QuantType::F32.row_bytes(usize::MAX), None);
    }
}
