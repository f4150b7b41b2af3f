//! Views of matrices whose shapes are checked once, when the view is made.

use std::{fmt, ops::Range};

use crate::{KernelError, QuantType, dequantize_row};

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
        Self {
            n_rows: range.len(),
            bytes,
            ..*self
        }
    }

    /// Returns the bytes of one row: whole blocks.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_bytes(&self, row_idx: usize) -> &'a [u8] {
        &self.bytes[row_idx * self.row_bytes..(row_idx + 1) * self.row_bytes]
    }

    /// Writes the `n_cols` weights of one row as floats, as [`dequantize_row`] does.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not `n_cols` long.
    pub fn dequantize_row(&self, row_idx: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_cols, "dequantize_row: output length");
        dequantize_row(self.ty, self.row_bytes(row_idx), out);
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
    fn rows_are_views_of_the_same_bytes() {
        let bytes: Vec<u8> = (0..48).collect();
        let mat = MatRef::new(QuantType::F32, 4, 3, &bytes).unwrap();
        assert_eq!(mat.rows(1..3).bytes(), &bytes[12..36]);
        assert_eq!(mat.row_bytes(3), &bytes[36..]);
    }
}
