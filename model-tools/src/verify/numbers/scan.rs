//! One tensor, weight by weight.
//!
//! A slab of rows is hashed while it comes into the cache, then its rows are dequantized and
//! looked at, so memory is read once. Nothing grows with the tensor but a few words per expert.

use xxhash_rust::xxh3::Xxh3;

use super::{
    scales::BlockLayout,
    spread::{PIECE_LEN, Spread, mean_square},
};
use crate::verify::tensors::FileTensor;

/// Bytes that are hashed and then looked at: they stay in the second cache meanwhile.
const SLAB_BYTES: usize = 128 << 10;

/// Weights that are dequantized at a time: a multiple of every block.
const PART_LEN: usize = 4 << 10;

/// What a tensor holds.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// XXH3 of all bytes, if all were read.
    pub(super) hash: Option<u128>,
    /// Weights that were looked at.
    pub(super) n_weights: u64,
    /// Weights that are NaN or infinite.
    pub(super) not_finite: Spots,
    /// Blocks whose scale is zero although their integers differ.
    pub(super) lost: Spots,
    /// Rows without a weight that is not zero, but for matrices that have no other.
    pub(super) zero_rows: Spots,
    /// Rows that were looked at, of all matrices.
    pub(super) n_rows_seen: u64,
    /// The middle root mean square of all pieces that are not zero.
    pub(super) median: Option<f64>,
    /// Each matrix: one, or those of the experts.
    pub(super) matrices: Vec<MatrixScan>,
}

/// Places of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spots {
    pub(super) count: u64,
    /// The first.
    pub(super) first: Spot,
}

/// A place in a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) matrix: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// What one matrix holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MatrixScan {
    /// The largest mean square of a piece, and where.
    pub(super) peak: f32,
    pub(super) peak_at: Spot,
    /// The sum of the mean squares of all pieces, and their number.
    sum: f64,
    n_pieces: u64,
    n_rows: u64,
    n_zero_rows: u64,
    first_zero_row: Spot,
}

impl MatrixScan {
    /// Returns the root mean square of all its weights.
    pub(super) fn size(&self) -> f64 {
        (self.sum / self.n_pieces.max(1) as f64).sqrt()
    }

    /// Returns whether it has rows and all weights are zero.
    pub(super) const fn is_zero(&self) -> bool {
        self.n_rows > 0 && self.n_zero_rows == self.n_rows
    }
}

impl Spots {
    fn add(&mut self, spot: Spot, count: u64) {
        if count > 0 && self.count == 0 {
            self.first = spot;
        }
        self.count += count;
    }
}

/// Looks at a tensor: at everything, or at about `sample` rows, evenly spread. `read` hears of
/// bytes as they are done, and ends the work by returning false.
pub(super) fn scan(
    tensor: &FileTensor<'_>,
    sample: Option<usize>,
    read: impl Fn(u64) -> bool,
) -> Option<Scan> {
    let mut scanner = Scanner::new(tensor);
    let n_rows = scanner.n_matrices * scanner.n_rows;
    let row_bytes = tensor.data.len().checked_div(n_rows).unwrap_or(0);
    if row_bytes == 0 {
        return Some(scanner.finish(sample.is_none().then(|| Xxh3::new().digest128())));
    }
    if let Some(sample) = sample {
        let step = n_rows.div_ceil(sample.max(1)).max(1);
        for row in (0..n_rows).step_by(step) {
            // Not always the same row of a matrix.
            let row = (row + row / step % step).min(n_rows - 1);
            scanner.row(row, &tensor.data[row * row_bytes..][..row_bytes]);
        }
        return read(tensor.data.len() as u64).then(|| scanner.finish(None));
    }
    let mut hasher = Xxh3::new();
    let rows_per_slab = (SLAB_BYTES / row_bytes).max(1);
    let mut row = 0;
    for slab in tensor.data.chunks(rows_per_slab * row_bytes) {
        hasher.update(slab);
        for bytes in slab.chunks_exact(row_bytes) {
            scanner.row(row, bytes);
            row += 1;
        }
        if !read(slab.len() as u64) {
            return None;
        }
    }
    Some(scanner.finish(Some(hasher.digest128())))
}

struct Scanner<'t, 'a> {
    tensor: &'t FileTensor<'a>,
    n_matrices: usize,
    n_rows: usize,
    layout: Option<BlockLayout>,
    weights: Vec<f32>,
    spread: Spread,
    n_weights: u64,
    not_finite: Spots,
    lost: Spots,
    matrices: Vec<MatrixScan>,
}

impl<'t, 'a> Scanner<'t, 'a> {
    fn new(tensor: &'t FileTensor<'a>) -> Self {
        let n_matrices = tensor.n_matrices();
        Self {
            tensor,
            n_matrices,
            n_rows: tensor.n_rows(),
            layout: tensor.ty.and_then(BlockLayout::of),
            weights: vec![0.0; PART_LEN],
            spread: Spread::new(),
            n_weights: 0,
            not_finite: Spots::default(),
            lost: Spots::default(),
            matrices: vec![MatrixScan::default(); n_matrices],
        }
    }

    /// Looks at a row, counted through all matrices.
    fn row(&mut self, row: usize, bytes: &[u8]) {
        let Some(ty) = self.tensor.ty else { return };
        let n_cols = self.tensor.n_cols();
        let spot = |column| Spot {
            matrix: row / self.n_rows,
            row: row % self.n_rows,
            column,
        };
        let matrix = &mut self.matrices[row / self.n_rows];
        let part_bytes = PART_LEN / ty.block_len() * ty.block_bytes();
        let mut is_zero = true;
        for (part_idx, part) in bytes.chunks(part_bytes).enumerate() {
            let start = part_idx * PART_LEN;
            let weights = &mut self.weights[..PART_LEN.min(n_cols - start)];
            quant_kernels::dequantize_row(ty, part, weights);
            for (idx, piece) in weights.chunks(PIECE_LEN).enumerate() {
                let column = start + idx * PIECE_LEN;
                let mut mean = mean_square(piece);
                if !mean.is_finite() {
                    let mut bad = piece.iter().enumerate().filter(|(_, w)| !w.is_finite());
                    if let Some((idx, _)) = bad.next() {
                        let n = 1 + bad.count() as u64;
                        self.not_finite.add(spot(column + idx), n);
                        is_zero = false;
                        continue;
                    }
                    mean = f32::MAX;
                }
                // Squares of the tiniest weights are zero.
                is_zero &= mean == 0.0 && piece.iter().all(|&weight| weight == 0.0);
                self.spread.add(mean);
                matrix.sum += f64::from(mean);
                matrix.n_pieces += 1;
                if mean > matrix.peak {
                    (matrix.peak, matrix.peak_at) = (mean, spot(column));
                }
            }
            if let Some(layout) = &self.layout {
                for block in layout.lost(part) {
                    self.lost.add(spot(start + block * ty.block_len()), 1);
                }
            }
        }
        self.n_weights += n_cols as u64;
        matrix.n_rows += 1;
        if is_zero {
            if matrix.n_zero_rows == 0 {
                matrix.first_zero_row = spot(0);
            }
            matrix.n_zero_rows += 1;
        }
    }

    fn finish(self, hash: Option<u128>) -> Scan {
        let mut zero_rows = Spots::default();
        for matrix in self.matrices.iter().filter(|matrix| !matrix.is_zero()) {
            zero_rows.add(matrix.first_zero_row, matrix.n_zero_rows);
        }
        Scan {
            hash,
            n_weights: self.n_weights,
            not_finite: self.not_finite,
            lost: self.lost,
            zero_rows,
            n_rows_seen: self.matrices.iter().map(|matrix| matrix.n_rows).sum(),
            median: self.spread.median(),
            matrices: self.matrices,
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_kernels::QuantType;

    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    fn tensor<'a>(shape: &[u64], data: &'a [u8]) -> FileTensor<'a> {
        FileTensor {
            name: "t",
            ty_name: "F32".to_owned(),
            ty: Some(QuantType::F32),
            shape: shape.to_vec(),
            data,
        }
    }

    #[test]
    fn places_are_those_of_expert_row_and_column() {
        let mut values = vec![0.5; 3 * 2 * 70];
        values[140 + 70 + 69] = f32::NAN;
        values[140 + 70 + 68] = f32::INFINITY;
        values[2 * 140 + 33] = 9.0;
        values[..70].fill(0.0);
        let data = floats(&values);
        let found = scan(&tensor(&[3, 2, 70], &data), None, |_| true).unwrap();
        let spot = |matrix, row, column| Spot {
            matrix,
            row,
            column,
        };
        assert_eq!(found.not_finite.count, 2);
        assert_eq!(found.not_finite.first, spot(1, 1, 68));
        assert_eq!(
            (found.zero_rows.count, found.zero_rows.first),
            (1, spot(0, 0, 0))
        );
        assert_eq!(found.matrices[2].peak_at, spot(2, 0, 32));
        assert_eq!((found.n_weights, found.n_rows_seen), (420, 6));
        assert!(!found.matrices[0].is_zero());
    }

    #[test]
    fn the_hash_is_that_of_the_bytes_and_only_of_all() {
        let data = floats(&vec![0.25; 3 * SLAB_BYTES / 4 + 16]);
        let tensor = tensor(&[1, 3 * SLAB_BYTES as u64 / 4 + 16], &data);
        let whole = scan(&tensor, None, |_| true).unwrap();
        assert_eq!(whole.hash, Some(xxhash_rust::xxh3::xxh3_128(&data)));
        let sampled = scan(&tensor, Some(4), |_| true).unwrap();
        assert_eq!(sampled.hash, None);
    }

    #[test]
    fn samples_are_spread_over_all_matrices() {
        let data = floats(&vec![0.25; 16 * 8 * 32]);
        let found = scan(&tensor(&[16, 8, 32], &data), Some(32), |_| true).unwrap();
        assert_eq!(found.n_rows_seen, 32);
        assert!(found.matrices.iter().all(|matrix| matrix.n_rows == 2));
    }

    #[test]
    fn a_tensor_without_bytes_is_no_reason_to_fail() {
        for shape in [&[0, 4][..], &[0, 4, 4], &[4, 0, 4], &[4, 4, 0], &[0]] {
            let found = scan(&tensor(shape, &[]), None, |_| true).unwrap();
            assert_eq!(found.n_weights, 0);
            assert_eq!(
                found.matrices.len(),
                if shape.first() == Some(&4) { 4 } else { 1 }
            );
            assert!(found.matrices.iter().all(|matrix| !matrix.is_zero()));
        }
    }

    #[test]
    fn whoever_listens_can_end_it() {
        let data = floats(&[1.0; 64]);
        assert!(scan(&tensor(&[2, 32], &data), None, |_| false).is_none());
    }
}
