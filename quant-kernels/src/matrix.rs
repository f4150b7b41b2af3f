//! Views of matrices whose shapes are checked once, when the view is made.

use std::{fmt, ops::Range};

use crate::{KernelError, QuantType, dequantize_row, float8::scaled};

/// Rows, and columns, that share a scale beside an `F8_E4M3` matrix.
pub const SCALE_BLOCK: usize = 128;

/// A weight matrix `[n_rows, n_cols]`, row-major, borrowed from the model's bytes.
///
/// The bytes may start anywhere; no alignment is asked for. A copy is a few words.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    ty: QuantType,
    n_rows: usize,
    n_cols: usize,
    row_bytes: usize,
    bytes: &'a [u8],
    scales: Option<Scales<'a>>,
}

/// The scales of a matrix, one per square of [`SCALE_BLOCK`] rows and columns; those at the
/// edges may be smaller.
#[derive(Clone, Copy)]
struct Scales<'a> {
    /// F32 or BF16, row-major.
    bytes: &'a [u8],
    is_f32: bool,
    /// Scales of a row.
    n_cols: usize,
    /// Place of the view's first row in the matrix that the scales belong to.
    first_row: usize,
}

/// The scales of one row.
#[derive(Clone, Copy)]
pub(crate) struct RowScales<'a> {
    /// Empty where all are 1.
    bytes: &'a [u8],
    is_f32: bool,
}

impl RowScales<'_> {
    /// All scales are 1.
    pub(crate) const ONES: Self = Self {
        bytes: &[],
        is_f32: false,
    };

    /// Returns the scale of a block of columns.
    #[inline(always)]
    pub(crate) fn of(self, block: usize) -> f32 {
        if self.is_f32 {
            f32::from_le_bytes(self.bytes.as_chunks::<4>().0[block])
        } else if let Some(&[low, high]) = self.bytes.as_chunks::<2>().0.get(block) {
            f32::from_le_bytes([0, 0, low, high])
        } else {
            1.0
        }
    }
}

impl fmt::Debug for MatRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatRef({} [{}, {}])", self.ty, self.n_rows, self.n_cols)
    }
}

impl<'a> MatRef<'a> {
    /// Makes a view of `bytes`, the blocks of row 0, then of row 1, and so on.
    ///
    /// # Errors
    /// [`KernelError::RowLength`] if a row is no whole number of blocks,
    /// [`KernelError::MatrixSize`] if the bytes are not exactly the matrix.
    pub fn new(
        ty: QuantType,
        n_rows: usize,
        n_cols: usize,
        bytes: &'a [u8],
    ) -> Result<Self, KernelError> {
        let row_bytes = ty.row_bytes(n_cols).ok_or(KernelError::RowLength {
            ty,
            block_len: ty.block_len(),
            n_cols,
        })?;
        if row_bytes.checked_mul(n_rows) != Some(bytes.len()) {
            return Err(KernelError::MatrixSize {
                ty,
                n_rows,
                n_cols,
                expected: row_bytes as u128 * n_rows as u128,
                found: bytes.len(),
            });
        }
        Ok(Self {
            ty,
            n_rows,
            n_cols,
            row_bytes,
            bytes,
            scales: None,
        })
    }

    /// Puts scales beside an `F8_E4M3` matrix: `scales` of F32 or BF16, one per square of
    /// [`SCALE_BLOCK`] rows and columns, row-major. Without them all are 1.
    ///
    /// # Errors
    /// [`KernelError::Scales`] for other types, [`KernelError::MatrixSize`] if the bytes are
    /// not exactly the scales.
    pub fn with_scales(self, ty: QuantType, scales: &'a [u8]) -> Result<Self, KernelError> {
        let (is_f32, is_bf16) = (ty == QuantType::F32, ty == QuantType::BF16);
        if self.ty != QuantType::F8_E4M3 || !(is_f32 || is_bf16) {
            return Err(KernelError::Scales {
                ty: self.ty,
                scales: ty,
            });
        }
        let n_cols = self.n_cols.div_ceil(SCALE_BLOCK);
        Self::new(ty, self.n_rows.div_ceil(SCALE_BLOCK), n_cols, scales)?;
        let scales = Scales {
            bytes: scales,
            is_f32,
            n_cols,
            first_row: 0,
        };
        Ok(Self {
            scales: Some(scales),
            ..self
        })
    }

    /// Returns the type of the weights.
    pub fn ty(&self) -> QuantType {
        self.ty
    }

    /// Returns the number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Returns the number of columns, in weights.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Returns the bytes of all rows.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the rows of `range` as a matrix of their own: one expert, one head, one
    /// strip.
    ///
    /// # Panics
    /// If the range is not within the rows.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Self {
        let bytes = &self.bytes[range.start * self.row_bytes..range.end * self.row_bytes];
        let scales = self.scales.map(|scales| Scales {
            first_row: scales.first_row + range.start,
            ..scales
        });
        Self {
            n_rows: range.len(),
            bytes,
            scales,
            ..*self
        }
    }

    /// Returns the scales of one row.
    pub(crate) fn row_scales(&self, row_idx: usize) -> RowScales<'a> {
        let Some(scales) = self.scales else {
            return RowScales::ONES;
        };
        let n_bytes = scales.n_cols * if scales.is_f32 { 4 } else { 2 };
        let start = (scales.first_row + row_idx) / SCALE_BLOCK * n_bytes;
        RowScales {
            bytes: &scales.bytes[start..start + n_bytes],
            is_f32: scales.is_f32,
        }
    }

    /// Returns the bytes of one row: whole blocks.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_bytes(&self, row_idx: usize) -> &'a [u8] {
        &self.bytes[row_idx * self.row_bytes..(row_idx + 1) * self.row_bytes]
    }

    /// Writes the `n_cols` weights of one row as floats, as [`dequantize_row`] does, times
    /// their scales.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not `n_cols` long.
    pub fn dequantize_row(&self, row_idx: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_cols, "dequantize_row: output length");
        dequantize_row(self.ty, self.row_bytes(row_idx), out);
        if self.scales.is_some() {
            let scales = self.row_scales(row_idx);
            for (block, weights) in out.chunks_mut(SCALE_BLOCK).enumerate() {
                let scale = scales.of(block);
                for weight in weights {
                    *weight = scaled(*weight, scale);
                }
            }
        }
    }
}

/// A matrix of floats `[n_rows, n_cols]`, row-major, to be written.
#[derive(Debug)]
pub struct MatMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) n_cols: usize,
}

impl<'a> MatMut<'a> {
    /// Makes a view of rows of `n_cols` floats.
    ///
    /// # Panics
    /// If `n_cols` is zero or `data` is no whole number of rows.
    pub fn new(data: &'a mut [f32], n_cols: usize) -> Self {
        assert!(
            n_cols > 0 && data.len().is_multiple_of(n_cols),
            "{} floats are no rows of {n_cols}",
            data.len()
        );
        Self { data, n_cols }
    }

    /// Returns the number of rows.
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.n_cols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked_when_the_view_is_made() {
        let bytes = [0u8; 288];
        assert!(MatRef::new(QuantType::Q4_K, 2, 256, &bytes).is_ok());
        assert_eq!(
            MatRef::new(QuantType::Q4_K, 2, 255, &bytes)
                .unwrap_err()
                .to_string(),
            "Q4_K rows are multiples of 256 weights, found 255"
        );
        assert_eq!(
            MatRef::new(QuantType::Q4_K, 3, 256, &bytes)
                .unwrap_err()
                .to_string(),
            "Q4_K [3, 256] takes 432 bytes, found 288"
        );
        assert!(MatRef::new(QuantType::F32, usize::MAX, usize::MAX / 4, &bytes).is_err());
    }

    #[test]
    fn scales_are_checked_when_they_are_put_beside() {
        let (bytes, scales) = ([0x38; 300 * 130], [0; 24]);
        let mat = MatRef::new(QuantType::F8_E4M3, 300, 130, &bytes).unwrap();
        assert!(mat.with_scales(QuantType::F32, &scales).is_ok());
        assert!(mat.with_scales(QuantType::BF16, &scales[..12]).is_ok());
        assert_eq!(
            mat.with_scales(QuantType::F32, &scales[4..])
                .unwrap_err()
                .to_string(),
            "F32 [3, 2] takes 24 bytes, found 20"
        );
        let says = "F8_E4M3 weights with scales of F16: expected F8_E4M3 with F32 or BF16";
        let error = mat.with_scales(QuantType::F16, &scales[..12]).unwrap_err();
        assert_eq!(error.to_string(), says);
        let other = MatRef::new(QuantType::F32, 1, 1, &bytes[..4]).unwrap();
        assert!(other.with_scales(QuantType::F32, &scales[..4]).is_err());
    }

    /// 0x38 is one.
    #[test]
    fn a_weight_is_multiplied_by_the_scale_of_its_square() {
        let bytes = [0x38; 300 * 130];
        let scales = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let scales: Vec<u8> = scales
            .iter()
            .flat_map(|scale| scale.to_le_bytes())
            .collect();
        let mat = MatRef::new(QuantType::F8_E4M3, 300, 130, &bytes).unwrap();
        let mat = mat.with_scales(QuantType::F32, &scales).unwrap();
        let ends = |mat: MatRef<'_>, row| {
            let mut weights = [0.0; 130];
            mat.dequantize_row(row, &mut weights);
            [weights[0], weights[127], weights[128], weights[129]]
        };
        assert_eq!(ends(mat, 127), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(ends(mat, 128), [3.0, 3.0, 4.0, 4.0]);
        assert_eq!(
            ends(mat.rows(100..260).rows(100..160), 56),
            [5.0, 5.0, 6.0, 6.0]
        );
    }

    #[test]
    fn rows_are_views_of_the_same_bytes() {
        let bytes: Vec<u8> = (0..48).collect();
        let mat = MatRef::new(QuantType::F32, 4, 3, &bytes).unwrap();
        assert_eq!(mat.rows(1..3).bytes(), &bytes[12..36]);
        assert_eq!(mat.row_bytes(3), &bytes[36..]);
    }
}
