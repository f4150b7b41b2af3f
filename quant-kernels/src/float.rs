//! Products with float weights: F32, F16, BF16, and E4M3 in `float8.rs`.
//!
//! The activations stay `f32`. Sixteen lanes by element index modulo 16, one fused
//! multiply-add per element, folded 16 → 8 → 4 → 2 → 1 ([`crate::lanes`]). A tile of rows
//! and tokens shares its loads; every row and token keeps a sum of its own, so the tile's
//! shape cannot be seen in the result.

use std::marker::PhantomData;

use bytemuck::AnyBitPattern;

use crate::{
    lanes::{F32x16, LaneOp},
    matrix::MatRef,
    pool::TileMut,
    product::Strip,
};

/// A float type of weights.
pub(crate) trait FloatWeight: Copy {
    /// The bytes of a weight, without alignment.
    type Bytes: AnyBitPattern;
    /// The scales of a row, if they lie beside it.
    type Scales<'a>: Copy;
    /// Returns the scales of a row.
    fn scales(w: MatRef<'_>, row: usize) -> Self::Scales<'_>;
    /// Loads sixteen weights.
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L;
    /// Reads one weight.
    fn get(x: &Self::Bytes) -> f32;
    /// Multiplies the sixteen weights of a chunk of the row by their scale.
    #[inline(always)]
    fn scale<L: F32x16>(w: L, scales: Self::Scales<'_>, chunk: usize) -> L {
        let _ = (scales, chunk);
        w
    }
}

/// IEEE single precision.
#[derive(Clone, Copy)]
pub(crate) struct F32;
/// IEEE half precision.
#[derive(Clone, Copy)]
pub(crate) struct F16;
/// Upper half of a single.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl FloatWeight for F32 {
    type Bytes = [u8; 4];
    type Scales<'a> = ();
    #[inline(always)]
    fn scales(_: MatRef<'_>, _: usize) {}
    #[inline(always)]
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L {
        L::load(&bytemuck::must_cast(*x))
    }
    #[inline(always)]
    fn get(x: &Self::Bytes) -> f32 {
        f32::from_le_bytes(*x)
    }
}

impl FloatWeight for F16 {
    type Bytes = [u8; 2];
    type Scales<'a> = ();
    #[inline(always)]
    fn scales(_: MatRef<'_>, _: usize) {}
    #[inline(always)]
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L {
        L::load_f16(&bytemuck::must_cast(*x))
    }
    #[inline(always)]
    fn get(x: &Self::Bytes) -> f32 {
        half::f16::from_le_bytes(*x).to_f32()
    }
}

impl FloatWeight for Bf16 {
    type Bytes = [u8; 2];
    type Scales<'a> = ();
    #[inline(always)]
    fn scales(_: MatRef<'_>, _: usize) {}
    #[inline(always)]
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L {
        L::load_bf16(&bytemuck::must_cast(*x))
    }
    #[inline(always)]
    fn get(x: &Self::Bytes) -> f32 {
        half::bf16::from_le_bytes(*x).to_f32()
    }
}

/// Rows of a tile, and most tokens.
const TILE: usize = 4;

/// Tokens that stay in the second cache while all rows of a strip pass: eight kilobytes each
/// at a width of 2,048.
const NEAR_TOKENS: usize = 32;

/// A strip of a matrix of floats.
pub(crate) struct FloatStrip<'a, 't, F> {
    strip: Strip<'a>,
    out: &'a mut TileMut<'t>,
    weight: PhantomData<F>,
}

impl<'a, 't, F> FloatStrip<'a, 't, F> {
    pub(crate) fn new(strip: Strip<'a>, out: &'a mut TileMut<'t>) -> Self {
        Self {
            strip,
            out,
            weight: PhantomData,
        }
    }
}

impl<F: FloatWeight> LaneOp for FloatStrip<'_, '_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let Self { strip, out, .. } = self;
        let (n_rows, n_tokens) = (strip.w.n_rows(), strip.x_rows.len());
        if n_tokens == 1 {
            return streams::<L, F>(strip, out);
        }
        for start in (0..n_tokens).step_by(NEAR_TOKENS) {
            let end = n_tokens.min(start + NEAR_TOKENS);
            for row in (0..n_rows).step_by(TILE) {
                let mut token = start;
                while token < end {
                    let left = end - token;
                    token += if L::SUMS >= TILE * TILE && left >= TILE {
                        rows::<L, F, TILE, TILE>(strip, row, token, out)
                    } else if L::SUMS < TILE * TILE && left >= 2 {
                        rows::<L, F, 2, 2>(strip, row, token, out)
                    } else {
                        rows::<L, F, TILE, 1>(strip, row, token, out)
                    };
                }
            }
        }
    }
}

/// Multiplies all rows with one token: [`TILE`] streams of rows, each in a part of memory of
/// its own, which the processor follows by itself; neighbouring rows at once it does not.
#[inline(always)]
fn streams<L: F32x16, F: FloatWeight>(strip: Strip<'_>, out: &mut TileMut<'_>) {
    let n_rows = strip.w.n_rows();
    let x = [strip.x.float_row(strip.x_row(0))];
    let out = out.row(0);
    let len = n_rows.div_ceil(TILE);
    for row in 0..len {
        // Beyond the last row a stream repeats it.
        let places: [usize; TILE] = std::array::from_fn(|r| (r * len + row).min(n_rows - 1));
        let w = places.map(|place| strip.blocks::<F::Bytes>(place));
        let scales = places.map(|place| F::scales(strip.w, place));
        let [sums] = tile::<L, F, TILE, 1>(w, scales, x);
        for (place, sum) in places.into_iter().zip(sums) {
            out[place] = sum;
        }
    }
}

/// Multiplies [`TILE`] rows with `N` tokens, `R` rows at once, and returns `N`.
#[inline(always)]
fn rows<L: F32x16, F: FloatWeight, const R: usize, const N: usize>(
    strip: Strip<'_>,
    first: usize,
    token: usize,
    out: &mut TileMut<'_>,
) -> usize {
    let n_rows = strip.w.n_rows();
    let x = std::array::from_fn(|t| strip.x.float_row(strip.x_row(token + t)));
    for row in (first..n_rows.min(first + TILE)).step_by(R) {
        // Beyond the last row the tile repeats it and drops the result.
        let w = std::array::from_fn(|r| strip.blocks::<F::Bytes>((row + r).min(n_rows - 1)));
        let scales = std::array::from_fn(|r| F::scales(strip.w, (row + r).min(n_rows - 1)));
        let live = R.min(n_rows - row);
        for (t, sums) in tile::<L, F, R, N>(w, scales, x).iter().enumerate() {
            out.row(token + t)[row..row + live].copy_from_slice(&sums[..live]);
        }
    }
    N
}

/// Returns `[token][row]` dot products.
#[inline(always)]
fn tile<L: F32x16, F: FloatWeight, const R: usize, const N: usize>(
    rows: [&[F::Bytes]; R],
    scales: [F::Scales<'_>; R],
    x: [&[f32]; N],
) -> [[f32; R]; N] {
    // Plain loops: a closure would not take on the instruction set of this function.
    let mut sums = [[L::splat(0.0); R]; N];
    let rows_of = rows.map(|row| row.as_chunks::<16>());
    let x_of = x.map(|x| x.as_chunks::<16>());
    // One length for all, so that the loop checks no bounds.
    let len = x_of[0].0.len();
    let whole_rows = rows_of.map(|row| &row.0[..len]);
    let whole_x = x_of.map(|x| &x.0[..len]);
    for i in 0..len {
        let mut w = [L::splat(0.0); R];
        for r in 0..R {
            w[r] = F::scale(F::load(&whole_rows[r][i]), scales[r], i);
        }
        for t in 0..N {
            let x = L::load(&whole_x[t][i]);
            for r in 0..R {
                sums[t][r] = w[r].mul_add(x, sums[t][r]);
            }
        }
    }
    let rest = x_of[0].1.len();
    if rest > 0 {
        for r in 0..R {
            let mut w = [0.0; 16];
            for (w, bytes) in w.iter_mut().zip(rows_of[r].1) {
                *w = F::get(bytes);
            }
            let w = F::scale(L::load(&w), scales[r], len);
            for t in 0..N {
                let x = L::load_partial(x_of[t].1, 0.0);
                sums[t][r] = w.mul_add(x, sums[t][r]).first(rest, sums[t][r]);
            }
        }
    }
    let mut totals = [[0.0; R]; N];
    for t in 0..N {
        for r in 0..R {
            totals[t][r] = sums[t][r].sum();
        }
    }
    totals
}
