//! Formats whose weights are a scale times a level: `w = d · level`.
//!
//! The search tries scales near the one that maps the largest weight to the outermost
//! level. For given levels l the best scale is Σxl / Σl², and it takes (Σxl)² / Σl² off
//! the squared error, so one pass judges a candidate. All sums count each weight by its
//! importance:
//!
//! ```text
//! for every trial
//!     l = round(x · trial / extreme(x))
//!     keep the l with the largest (Σxl)² / Σl²
//! scale = Σxl / Σl²
//! ```
//!
//! A super-block then stores its scales as integers times a half-precision factor. Each
//! integer is the best of three round its ideal; after that the factor is fitted to all
//! 256 weights and the integers, and the better of both factors stays.

use crate::{blocks::F16Le, lanes::F32x16};

use super::{
    batch::{Batch, Importance, Trials, array, inverse, nearest, negative, per_super, totals},
    half::{halves, nonzero_halves},
    levels::Levels,
};

/// Writes blocks with a scale of their own.
#[inline(always)]
pub(super) fn blocks<V: F32x16, L: Levels, P: Importance<V>, B>(
    batch: &Batch<'_, V, 32, P>,
    out: &mut [B],
    pack: impl Fn(F16Le, &[u8; 32]) -> B,
) {
    let d = halves(best_scale::<V, L, P, 32>(batch));
    let (d, inverse) = (d.to_f16(), array(inverse(d)));
    for (s, out) in out.iter_mut().enumerate() {
        let codes = codes::<V, L, 32>(&batch.rows[s], inverse[s]);
        *out = pack(F16Le::from_bits(d[s]), &codes);
    }
}

/// Writes super-blocks of `S` sub-blocks; their integer scales are from `low_scale` to
/// `-low_scale - 1`.
#[inline(always)]
pub(super) fn super_blocks<V: F32x16, L: Levels, B, const N: usize, const S: usize>(
    batch: &Batch<'_, V, N>,
    out: &mut [B],
    low_scale: f32,
    pack: impl Fn(F16Le, &[i8; S], &[u8; 256]) -> B,
) {
    let ideal = best_scale::<V, L, _, N>(batch);
    let largest = per_super::<V, S>(ideal, |scales| {
        let larger = |a: f32, b: f32| if b.abs() > a.abs() { b } else { a };
        scales.iter().copied().fold(0.0, larger)
    });
    let d = nonzero_halves(largest.div(V::splat(low_scale)));
    let scale = integers::<V, L, N>(batch, ideal, d, low_scale);
    let d = better_factor::<V, L, N, S>(batch, d, scale);

    let inverse = array(inverse(d.mul(scale)));
    let (d, scale) = (array(d), array(scale));
    for (idx, out) in out.iter_mut().enumerate() {
        let mut integers = [0; S];
        let mut all = [0; 256];
        for (s, codes) in all.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            let lane = S * idx + s;
            integers[s] = scale[lane] as i8;
            *codes = self::codes::<V, L, N>(&batch.rows[lane], inverse[lane]);
        }
        *out = pack(F16Le::from_f32(d[S * idx]), &integers, &all);
    }
}

/// Returns Σp(x − scale · level)².
#[inline(always)]
pub(super) fn error<V: F32x16, L: Levels, P: Importance<V>, const N: usize>(
    batch: &Batch<'_, V, N, P>,
    scale: V,
) -> V {
    let (inverse, minus) = (inverse(scale), negative(scale));
    let mut sum = V::splat(0.0);
    for i in 0..N {
        let level = L::round(batch.x[i].mul(inverse));
        let rest = level.mul_add(minus, batch.x[i]);
        sum = batch.p.weigh(i, rest).mul_add(rest, sum);
    }
    sum
}

/// Returns the codes of the levels nearest to `x · inverse`.
#[inline(always)]
pub(super) fn codes<V: F32x16, L: Levels, const N: usize>(x: &[f32; N], inverse: f32) -> [u8; N] {
    let inverse = V::splat(inverse);
    let mut codes = [0; N];
    for (x, codes) in x.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        *codes = L::codes(V::load(x), inverse);
    }
    codes
}

/// Returns Σpxl and Σpl² of the levels l that weights round to.
#[inline(always)]
fn moments<V: F32x16, L: Levels, P: Importance<V>, const N: usize>(
    batch: &Batch<'_, V, N, P>,
    inverse: V,
) -> (V, V) {
    let (mut xl, mut ll) = (V::splat(0.0), V::splat(0.0));
    for i in 0..N {
        let level = L::round(batch.x[i].mul(inverse));
        let weighted = batch.p.weigh(i, level);
        xl = weighted.mul_add(batch.x[i], xl);
        ll = weighted.mul_add(level, ll);
    }
    (xl, ll)
}

/// Searches the scales of sub-blocks; 0 where all weights vanish.
#[inline(always)]
fn best_scale<V: F32x16, L: Levels, P: Importance<V>, const N: usize>(
    batch: &Batch<'_, V, N, P>,
) -> V {
    let per_weight = inverse(batch.extreme());
    let (mut gain, mut best) = (V::splat(0.0), V::splat(0.0));
    for trial in 0..L::TRIALS.count() {
        let outermost = V::splat(L::LOW - L::TRIALS.at(trial));
        let (xl, ll) = moments::<V, L, P, N>(batch, per_weight.mul(outermost));
        // Not a number where all levels are zero, and so never better.
        let scale = xl.div(ll);
        let of_trial = xl.mul(scale);
        let to_beat = Trials::surpassing(gain);
        best = to_beat.pick(of_trial, scale, best);
        gain = to_beat.pick(of_trial, of_trial, gain);
    }
    best
}

/// Chooses the integer scales for given factors.
#[inline(always)]
fn integers<V: F32x16, L: Levels, const N: usize>(
    batch: &Batch<'_, V, N>,
    ideal: V,
    d: V,
    low: f32,
) -> V {
    let centre = nearest(ideal.mul(inverse(d)), low, -low - 1.0);
    let (mut least, mut best) = (V::splat(f32::INFINITY), centre);
    for offset in [0.0, -1.0, 1.0] {
        let scale = nearest(centre.add(V::splat(offset)), low, -low - 1.0);
        let error = error::<V, L, _, N>(batch, d.mul(scale));
        best = error.pick(least, scale, best);
        least = error.min(least);
    }
    best
}

/// Fits the factors to the integer scales and the levels they lead to, if that is better.
#[inline(always)]
fn better_factor<V: F32x16, L: Levels, const N: usize, const S: usize>(
    batch: &Batch<'_, V, N>,
    d: V,
    scale: V,
) -> V {
    let (xl, ll) = moments::<V, L, _, N>(batch, inverse(d.mul(scale)));
    let xl = totals::<V, S>(scale.mul(xl));
    let ll = totals::<V, S>(scale.mul(scale).mul(ll));
    let fitted = nonzero_halves(xl.div(ll));
    let before = totals::<V, S>(error::<V, L, _, N>(batch, d.mul(scale)));
    let after = totals::<V, S>(error::<V, L, _, N>(batch, fitted.mul(scale)));
    after.pick(before, fitted, d)
}
