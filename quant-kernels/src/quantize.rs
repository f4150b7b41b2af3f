//! From `f32` to blocks.
//!
//! The idea is the same for every type: a few candidates for the scale are tried round
//! the one that just covers the largest weight, each is judged after its best factor is
//! found by least squares, and the integers are chosen last, against the factors as they
//! are stored. Where a format stores integer scales, these are searched near their ideal
//! too and the common factor is fitted again afterwards. The measure is the squared error,
//! each weight counted by its importance where that is known.
//!
//! The results depend on nothing but the row: every sum has a fixed order, and no
//! function of the platform's mathematical library is used.

mod affine;
mod lanes;
mod levels;
mod symmetric;

use bytemuck::Pod;

use self::{
    lanes::{extreme, nearest_within},
    levels::{E2m1, Iq4, Linear},
    symmetric::inverse,
};
use crate::{
    KernelError, QuantType,
    blocks::{
        BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
        BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, F16Le, half_power,
    },
};

/// Magnitudes beyond this have no half-precision factor in some format, so none accepts
/// them.
const LARGEST: f32 = 65504.0;

/// Magnitudes below this vanish in every format with half-precision factors.
const SMALLEST: f32 = 1e-12;

/// Writes the blocks of a row of weights.
///
/// `row` may also be several rows of whole blocks at once. F32, F16, BF16, `Q8_0`,
/// `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q2_K` to `Q6_K`, `IQ4_NL`, `IQ4_XS` and `MXFP4` can
/// be written. A block of zeros becomes a block of zero bytes.
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
    quantize(ty, row, None, out)
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
    assert_eq!(importance.len(), row.len(), "importance of each weight");
    match importance
        .iter()
        .position(|p| !(0.0..f32::INFINITY).contains(p))
    {
        Some(idx) => Err(KernelError::Importance { idx }),
        None => quantize(ty, row, Some(importance), out),
    }
}

fn quantize(
    ty: QuantType,
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), KernelError> {
    let n_cols = row.len();
    let expected = ty.row_bytes(n_cols).ok_or(KernelError::RowLength {
        ty,
        block_len: ty.block_len(),
        n_cols,
    })?;
    assert_eq!(
        out.len(),
        expected,
        "bytes of a {ty} row of {n_cols} weights"
    );
    check_range(ty, row)?;
    match ty {
        QuantType::F32 => words(row, out, f32::to_le_bytes),
        QuantType::F16 => words(row, out, |w| half::f16::from_f32(w).to_le_bytes()),
        QuantType::BF16 => words(row, out, |w| half::bf16::from_f32(w).to_le_bytes()),
        QuantType::Q8_0 => blocks(row, None, out, |x, _| q8_0(x)),
        QuantType::Q4_0 => blocks(row, importance, out, q4_0),
        QuantType::Q4_1 => blocks(row, importance, out, q4_1),
        QuantType::Q5_0 => blocks(row, importance, out, q5_0),
        QuantType::Q5_1 => blocks(row, importance, out, q5_1),
        QuantType::Q2_K => blocks(row, importance, out, q2_k),
        QuantType::Q3_K => blocks(row, importance, out, q3_k),
        QuantType::Q4_K => blocks(row, importance, out, q4_k),
        QuantType::Q5_K => blocks(row, importance, out, q5_k),
        QuantType::Q6_K => blocks(row, importance, out, q6_k),
        QuantType::IQ4_NL => blocks(row, importance, out, iq4_nl),
        QuantType::IQ4_XS => blocks(row, importance, out, iq4_xs),
        QuantType::MXFP4 => blocks(row, None, out, |x, _| mxfp4(x)),
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

/// Checks that every value is finite in `ty`.
fn check_range(ty: QuantType, row: &[f32]) -> Result<(), KernelError> {
    let fits = |w: f32| match ty {
        QuantType::F32 | QuantType::MXFP4 => w.is_finite(),
        QuantType::F16 => half::f16::from_f32(w).is_finite(),
        QuantType::BF16 => half::bf16::from_f32(w).is_finite(),
        _ => w.abs() <= LARGEST,
    };
    match row.iter().position(|&w| !fits(w)) {
        Some(idx) => Err(KernelError::NotFinite { idx }),
        None => Ok(()),
    }
}

/// Writes `N` bytes a weight.
fn words<const N: usize>(row: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (w, out) in row.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = bytes(*w);
    }
}

/// Writes blocks of `N` weights; a block that would vanish becomes zero bytes.
fn blocks<B: Pod, const N: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    block: impl Fn(&[f32; N], &[f32; N]) -> B,
) {
    let out: &mut [B] = bytemuck::cast_slice_mut(out);
    let importance = importance.map(|importance| importance.as_chunks::<N>().0);
    for (idx, (x, out)) in row.as_chunks::<N>().0.iter().zip(out).enumerate() {
        let vanishes = x.iter().all(|w| w.abs() < SMALLEST);
        *out = match importance {
            _ if vanishes => B::zeroed(),
            Some(importance) => block(x, &in_proportion(&importance[idx])),
            None => block(x, &[1.0; N]),
        };
    }
}

/// Scales to a mean of one, and lifts what is small a little: a weight that does not matter
/// at all would be lost, and sub-blocks of such weights leave the search nothing to go by.
/// Where all are alike, all become one.
fn in_proportion<const N: usize>(importance: &[f32; N]) -> [f32; N] {
    const LEAST: f32 = 1e-3;
    let (_, most) = lanes::range(importance);
    if most == 0.0 {
        return [1.0; N];
    }
    // First against the largest, since a sum might overflow.
    let relative = importance.map(|p| p / most);
    let mean = lanes::sum(&relative) / N as f32;
    relative.map(|p| (p / mean + LEAST) / (1.0 + LEAST))
}

/// A super-block as `S` sub-blocks: weights, and their importance.
struct Subs<'a, const N: usize, const S: usize> {
    x: &'a [[f32; N]; S],
    p: &'a [[f32; N]; S],
}

impl<'a, const N: usize, const S: usize> Subs<'a, N, S> {
    fn new(x: &'a [f32; 256], importance: &'a [f32; 256]) -> Self {
        let cut = |all: &'a [f32; 256]| all.as_chunks().0.try_into().expect("N · S is 256");
        Self {
            x: cut(x),
            p: cut(importance),
        }
    }
}

/// The largest weight becomes ±127; there is nothing to gain from a search at eight bits.
fn q8_0(x: &[f32; 32]) -> BlockQ8_0 {
    let d = F16Le::from_f32(extreme(x).abs() / 127.0);
    let inverse = inverse(d.to_f32());
    let qs = x.map(|w| (nearest_within(w * inverse, -127.0, 127.0) as i8).cast_unsigned());
    BlockQ8_0 { d, qs }
}

fn q4_0(x: &[f32; 32], p: &[f32; 32]) -> BlockQ4_0 {
    let (d, codes) = symmetric::block::<Linear<8>, 32>(x, p);
    BlockQ4_0::pack(d, &codes)
}

fn q4_1(x: &[f32; 32], p: &[f32; 32]) -> BlockQ4_1 {
    let (d, m, codes) = affine::block(x, p, 15.0);
    BlockQ4_1::pack(d, m, &codes)
}

fn q5_0(x: &[f32; 32], p: &[f32; 32]) -> BlockQ5_0 {
    let (d, codes) = symmetric::block::<Linear<16>, 32>(x, p);
    BlockQ5_0::pack(d, &codes)
}

fn q5_1(x: &[f32; 32], p: &[f32; 32]) -> BlockQ5_1 {
    let (d, m, codes) = affine::block(x, p, 31.0);
    BlockQ5_1::pack(d, m, &codes)
}

fn q2_k(x: &[f32; 256], p: &[f32; 256]) -> BlockQ2K {
    let fit = affine::super_block::<16, 16>(x, p, 3.0, 15.0);
    BlockQ2K::pack(fit.d, fit.dmin, &fit.scales, &fit.mins, &fit.codes)
}

fn q3_k(x: &[f32; 256], p: &[f32; 256]) -> BlockQ3K {
    let fit = symmetric::super_block::<Linear<4>, 16, 16>(x, p, -32);
    BlockQ3K::pack(fit.d, &fit.scales, &fit.codes)
}

fn q4_k(x: &[f32; 256], p: &[f32; 256]) -> BlockQ4K {
    let fit = affine::super_block::<32, 8>(x, p, 15.0, 63.0);
    BlockQ4K::pack(fit.d, fit.dmin, &fit.scales, &fit.mins, &fit.codes)
}

fn q5_k(x: &[f32; 256], p: &[f32; 256]) -> BlockQ5K {
    let fit = affine::super_block::<32, 8>(x, p, 31.0, 63.0);
    BlockQ5K::pack(fit.d, fit.dmin, &fit.scales, &fit.mins, &fit.codes)
}

fn q6_k(x: &[f32; 256], p: &[f32; 256]) -> BlockQ6K {
    let fit = symmetric::super_block::<Linear<32>, 16, 16>(x, p, -128);
    BlockQ6K::pack(fit.d, &fit.scales, &fit.codes)
}

fn iq4_nl(x: &[f32; 32], p: &[f32; 32]) -> BlockIq4Nl {
    let (d, codes) = symmetric::block::<Iq4, 32>(x, p);
    BlockIq4Nl::pack(d, &codes)
}

fn iq4_xs(x: &[f32; 256], p: &[f32; 256]) -> BlockIq4Xs {
    let fit = symmetric::super_block::<Iq4, 32, 8>(x, p, -32);
    BlockIq4Xs::pack(fit.d, &fit.scales, &fit.codes)
}

/// The best of three exponents: the one that takes the largest weight into the top
/// binade, and its neighbours, since 6 is the largest value and a weight may be almost 8.
fn mxfp4(x: &[f32; 32]) -> BlockMxfp4 {
    let exponent = extreme(x).abs().to_bits() >> 23;
    let centre = exponent.saturating_sub(2);
    // Where the squares of the errors overflow, the middle one stays.
    let mut best = (f32::INFINITY, centre.min(254) as u8);
    for e in [centre, centre + 1, centre.saturating_sub(1)] {
        let e = e.min(254) as u8;
        let error = symmetric::error::<E2m1, 32>(x, &[1.0; 32], half_power(e));
        best = if error < best.0 { (error, e) } else { best };
    }
    BlockMxfp4::pack(best.1, &symmetric::codes::<E2m1, 32>(x, half_power(best.1)))
}
