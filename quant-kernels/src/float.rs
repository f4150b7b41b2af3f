//! Products with float weights: F32, F16, BF16.
//!
//! The activations stay `f32`. Sixteen lanes by element index modulo 16, one fused
//! multiply-add per element, folded 16 → 8 → 4 → 2 → 1 ([`crate::lanes`]). A tile of rows
//! and tokens shares its loads; every row and token keeps a sum of its own, so the tile's
//! shape cannot be seen in the result.

use std::marker::PhantomData;

use bytemuck::AnyBitPattern;

use crate::{
    lanes::{F32x16, LaneOp},
    pool::TileMut,
    product::Strip,
};

/// A float type of weights.
pub(crate) trait FloatWeight: Copy {
    /// The bytes of a weight, without alignment.
    type Bytes: AnyBitPattern;
    /// Loads sixteen weights.
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L;
    /// Reads one weight.
    fn get(x: &Self::Bytes) -> f32;
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
    #[inline(always)]
    fn load<L: F32x16>(x: &[Self::Bytes; 16]) -> L {
        L::load_bf16(&bytemuck::must_cast(*x))
    }
    #[inline(always)]
    fn get(x: &Self::Bytes) -> f32 {
        half::bf16::from_le_bytes(*x).to_f32()
    }
}

/// Rows and tokens of a tile.
const TILE: usize = 4;

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
        for row in (0..n_rows).step_by(TILE) {
            // Beyond the last row the tile repeats it and drops the result.
            let rows = std::array::from_fn(|i| strip.blocks::<F::Bytes>((row + i).min(n_rows - 1)));
            let live_rows = TILE.min(n_rows - row);
            let mut token = 0;
            while token < n_tokens {
                if n_tokens - token >= TILE {
                    let x = std::array::from_fn(|i| strip.x.float_row(strip.x_row(token + i)));
                    let sums = tile::<L, F, TILE>(rows, x);
                    put(&sums, token, row, live_rows, out);
                    token += TILE;
                } else {
                    let sums = tile::<L, F, 1>(rows, [strip.x.float_row(strip.x_row(token))]);
                    put(&sums, token, row, live_rows, out);
                    token += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn put(sums: &[[f32; TILE]], token: usize, row: usize, live: usize, out: &mut TileMut<'_>) {
    for (i, sums) in sums.iter().enumerate() {
        out.row(token + i)[row..row + live].copy_from_slice(&sums[..live]);
    }
}

/// Returns `[token][row]` dot products.
#[inline(always)]
fn tile<L: F32x16, F: FloatWeight, const N: usize>(
    rows: [&[F::Bytes]; TILE],
    x: [&[f32]; N],
) -> [[f32; TILE]; N] {
    // Plain loops: a closure would not take on the instruction set of this function.
    let mut sums = [[L::splat(0.0); TILE]; N];
    let rows_of = rows.map(|row| row.as_chunks::<16>());
    let x_of = x.map(|x| x.as_chunks::<16>());
    for i in 0..x_of[0].0.len() {
        let mut w = [L::splat(0.0); TILE];
        for r in 0..TILE {
            w[r] = F::load(&rows_of[r].0[i]);
        }
        for t in 0..N {
            let x = L::load(&x_of[t].0[i]);
            for r in 0..TILE {
                sums[t][r] = w[r].mul_add(x, sums[t][r]);
            }
        }
    }
    let rest = x_of[0].1.len();
    if rest > 0 {
        for r in 0..TILE {
            let mut w = [0.0; 16];
            for (w, bytes) in w.iter_mut().zip(rows_of[r].1) {
                *w = F::get(bytes);
            }
            for t in 0..N {
                let x = L::load_partial(x_of[t].1, 0.0);
                sums[t][r] = L::load(&w).mul_add(x, sums[t][r]).first(rest, sums[t][r]);
            }
        }
    }
    let mut totals = [[0.0; TILE]; N];
    for t in 0..N {
        for r in 0..TILE {
            totals[t][r] = sums[t][r].sum();
        }
    }
    totals
}
