//! From `f32` to blocks.
//!
//! The idea is the same for every type: a few candidates for the scale are tried round
//! the one that just covers the largest weight, each is judged after its best factor is
//! found by least squares, and the integers are chosen last, against the factors as they
//! are stored. Where a format stores integer scales, these are searched near their ideal
//! too and the common factor is fitted again afterwards. The measure is the squared error,
//! each weight counted by its importance where that is known.
//!
//! Sixteen sub-blocks are searched side by side, each in a lane of its own ([`batch`]), so
//! that their order of sums is that of the weights on every instruction set. The results
//! depend on nothing but the row: no function of the platform's mathematical library is
//! used.

mod affine;
mod batch;
mod formats;
mod half;
mod levels;
mod symmetric;

use std::ops::RangeInclusive;

use bytemuck::Pod;

use crate::{
    Isa, KernelError, QuantType,
    blocks::{
        BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
        BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    },
    lanes::{F32x16, LaneOp},
};

/// The largest half-precision number. Magnitudes beyond it have no factor in some quantized
/// format, so none but `MXFP4` accepts them.
const LARGEST: f32 = 65504.0;

/// Magnitudes below this vanish in every format with half-precision factors.
const SMALLEST: f32 = 1e-12;

/// Writes the blocks of a row of weights.
///
/// `row` may also be several rows of whole blocks at once. F32, F16, BF16, `Q8_0`,
/// `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q2_K` to `Q6_K`, `IQ4_NL`, `IQ4_XS` and `MXFP4` can
/// be written. A block of zeros becomes a block of zero bytes. [`Isa::quantize_row`] does
/// the same with an instruction set of choice.
///
/// ```
/// use quant_kernels::{QuantType, dequantize_row, quantize_row};
///
/// let row: Vec<f32> = (0..256).map(|i| i as f32 - 100.0).collect();
/// let mut blocks = [0; 144];
/// quantize_row(QuantType::Q4_K, &row, &mut blocks)?;
///
/// let mut back = [0.0; 256];
/// dequantize_row(QuantType::Q4_K, &blocks, &mut back);
/// assert!((back[7] - row[7]).abs() < 2.0);
/// # Ok::<(), quant_kernels::KernelError>(())
/// ```
///
/// # Errors
///
/// - [`KernelError::NoQuantizer`] if the type can only be read.
/// - [`KernelError::NotFinite`] for the first value that is infinite or NaN, or too large
///   for this type: what F16 or BF16 would round to infinity, and magnitudes beyond 65504
///   for all quantized types but `MXFP4`.
/// - [`KernelError::RowLength`] if the row is no whole number of blocks.
///
/// # Panics
///
/// Panics if `out` is not [`ty.row_bytes(row.len())`](QuantType::row_bytes) long.
pub fn quantize_row(ty: QuantType, row: &[f32], out: &mut [u8]) -> Result<(), KernelError> {
    Isa::detect().quantize_row(ty, row, None, out)
}

/// Writes the blocks of a row of weights, of which some matter more than others.
///
/// `importance` has a number for each weight: how much its squared error counts against that
/// of its neighbours in a block. For a product these are the mean squares of the activations
/// that the columns meet, as llama.cpp's importance matrices hold them. Only their proportions
/// matter; where all are zero, all count alike. No weight is given up altogether.
///
/// Floats, `Q8_0` and `MXFP4` have nothing to choose and pay no heed to it.
///
/// # Errors
///
/// As [`quantize_row`], and [`KernelError::Importance`] for the first importance that is
/// negative, infinite or NaN.
///
/// # Panics
///
/// As [`quantize_row`], and if `importance` is not as long as `row`.
pub fn quantize_row_weighted(
    ty: QuantType,
    row: &[f32],
    importance: &[f32],
    out: &mut [u8],
) -> Result<(), KernelError> {
    Isa::detect().quantize_row(ty, row, Some(importance), out)
}

impl Isa {
    /// Writes the blocks of a row as [`quantize_row`] and, if there are importances,
    /// [`quantize_row_weighted`] do: the same bytes with every instruction set.
    ///
    /// # Errors
    ///
    /// As [`quantize_row_weighted`].
    ///
    /// # Panics
    ///
    /// As [`quantize_row_weighted`].
    pub fn quantize_row(
        self,
        ty: QuantType,
        row: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), KernelError> {
        self.check(ty, row, importance)?;
        let expected = ty.row_bytes(row.len());
        assert_eq!(
            Some(out.len()),
            expected,
            "bytes of a {ty} row of {} weights",
            row.len()
        );
        match ty {
            QuantType::F32 => words(row, out, f32::to_le_bytes),
            QuantType::F16 => words(row, out, |w| ::half::f16::from_f32(w).to_le_bytes()),
            QuantType::BF16 => words(row, out, |w| ::half::bf16::from_f32(w).to_le_bytes()),
            QuantType::Q8_0 => self.write::<BlockQ8_0, 32>(row, None, out),
            QuantType::Q4_0 => self.write::<BlockQ4_0, 32>(row, importance, out),
            QuantType::Q4_1 => self.write::<BlockQ4_1, 32>(row, importance, out),
            QuantType::Q5_0 => self.write::<BlockQ5_0, 32>(row, importance, out),
            QuantType::Q5_1 => self.write::<BlockQ5_1, 32>(row, importance, out),
            QuantType::Q2_K => self.write::<BlockQ2K, 16>(row, importance, out),
            QuantType::Q3_K => self.write::<BlockQ3K, 16>(row, importance, out),
            QuantType::Q4_K => self.write::<BlockQ4K, 32>(row, importance, out),
            QuantType::Q5_K => self.write::<BlockQ5K, 32>(row, importance, out),
            QuantType::Q6_K => self.write::<BlockQ6K, 16>(row, importance, out),
            QuantType::IQ4_NL => self.write::<BlockIq4Nl, 32>(row, importance, out),
            QuantType::IQ4_XS => self.write::<BlockIq4Xs, 32>(row, importance, out),
            QuantType::MXFP4 => self.write::<BlockMxfp4, 32>(row, None, out),
            QuantType::IQ1_S
            | QuantType::IQ1_M
            | QuantType::IQ2_XXS
            | QuantType::IQ2_XS
            | QuantType::IQ2_S
            | QuantType::IQ3_XXS
            | QuantType::IQ3_S
            | QuantType::F8_E4M3 => return Err(KernelError::NoQuantizer { ty }),
        }
        Ok(())
    }

    /// Checks the length of the row, its values, and their importance.
    fn check(
        self,
        ty: QuantType,
        row: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<(), KernelError> {
        if ty.row_bytes(row.len()).is_none() {
            return Err(KernelError::RowLength {
                ty,
                block_len: ty.block_len(),
                n_cols: row.len(),
            });
        }
        if let Some(values) = importance {
            assert_eq!(values.len(), row.len(), "importance of each weight");
            let range = 0.0..=f32::MAX;
            if let Some(idx) = self.run(Outside { values, range }) {
                return Err(KernelError::Importance { idx });
            }
        }
        let limit = match ty {
            QuantType::F32 | QuantType::MXFP4 => f32::MAX,
            // From half a step beyond the largest number on they round to infinity.
            QuantType::F16 => 65520f32.next_down(),
            QuantType::BF16 => f32::from_bits(0x7f7f_7fff),
            _ => LARGEST,
        };
        match self.run(Outside {
            values: row,
            range: -limit..=limit,
        }) {
            Some(idx) => Err(KernelError::NotFinite { idx }),
            None => Ok(()),
        }
    }

    fn write<B: Format<N>, const N: usize>(
        self,
        row: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) {
        self.run(Blocks::<B, N> {
            subs: row.as_chunks().0,
            importance,
            out: bytemuck::cast_slice_mut(out),
        });
    }
}

/// Finds the first value that is not within a range.
struct Outside<'a> {
    values: &'a [f32],
    range: RangeInclusive<f32>,
}

impl LaneOp for Outside<'_> {
    type Output = Option<usize>;
    #[inline(always)]
    fn run<V: F32x16>(self) -> Option<usize> {
        // Without a way out a loop takes many values at a time.
        let all_within = |chunk: &[f32]| {
            let mut all = true;
            for value in chunk {
                all &= (*self.range.start() <= *value) & (*value <= *self.range.end());
            }
            all
        };
        let chunks = self.values.chunks(64);
        let start = 64 * chunks.take_while(|chunk| all_within(chunk)).count();
        let start = start.min(self.values.len());
        let mut values = self.values[start..].iter();
        values
            .position(|value| !self.range.contains(value))
            .map(|idx| start + idx)
    }
}

/// Writes `N` bytes a weight.
fn words<const N: usize>(row: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (w, out) in row.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = bytes(*w);
    }
}

/// A format that is written sixteen sub-blocks of `N` weights at a time.
trait Format<const N: usize>: Pod {
    /// Sub-blocks of a block.
    const SUBS: usize;

    /// Writes the blocks of sixteen sub-blocks, or the first of them.
    fn write<V: F32x16>(x: &[[f32; N]; 16], p: Option<&[[f32; N]; 16]>, out: &mut [Self]);
}

/// Blocks to write.
struct Blocks<'a, B, const N: usize> {
    subs: &'a [[f32; N]],
    importance: Option<&'a [f32]>,
    out: &'a mut [B],
}

impl<B: Format<N>, const N: usize> LaneOp for Blocks<'_, B, N> {
    type Output = ();
    #[inline(always)]
    fn run<V: F32x16>(self) {
        let (mut part, mut importance) = ([[0.0; N]; 16], [[1.0; N]; 16]);
        let outs = self.out.chunks_mut(16 / B::SUBS);
        for (idx, (subs, out)) in self.subs.chunks(16).zip(outs).enumerate() {
            let rows = subs.as_array().unwrap_or_else(|| {
                part[..subs.len()].copy_from_slice(subs);
                &part
            });
            if let Some(all) = self.importance {
                let flat = importance[..subs.len()].as_flattened_mut();
                flat.copy_from_slice(&all[16 * N * idx..][..flat.len()]);
                flat.chunks_mut(N * B::SUBS).for_each(put_in_proportion);
            }
            B::write::<V>(rows, self.importance.map(|_| &importance), out);
            for (x, out) in subs.chunks(B::SUBS).zip(out) {
                if x.as_flattened().iter().all(|w| w.abs() < SMALLEST) {
                    *out = B::zeroed();
                }
            }
        }
    }
}

/// Scales to a mean of one, and lifts what is small a little: a weight that does not matter
/// at all would be lost, and sub-blocks of such weights leave the search nothing to go by.
/// Where all are alike, all become one.
fn put_in_proportion(importance: &mut [f32]) {
    const LEAST: f32 = 1e-3;
    let most = importance.iter().copied().fold(0.0, f32::max);
    if most == 0.0 {
        return importance.fill(1.0);
    }
    // First against the largest, since a sum might overflow.
    importance.iter_mut().for_each(|p| *p /= most);
    let mean = importance.iter().sum::<f32>() / importance.len() as f32;
    for p in importance {
        *p = (*p / mean + LEAST) / (1.0 + LEAST);
    }
}
