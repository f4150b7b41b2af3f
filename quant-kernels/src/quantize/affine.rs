//! Formats whose weights are a scale times a small integer plus an offset:
//! `w = d · l + m`.
//!
//! For given integers l the best scale and offset solve two linear equations, and the
//! error they leave follows from five sums, so again one pass judges a candidate:
//!
//! ```text
//! y = x - min(x)                                   so that no sum cancels
//! for every trial
//!     l = round(y · (top + trial) / max(y)),  0 ≤ l ≤ top
//!     (d, m) = least squares of y = d · l + m
//!     keep the pair that explains most of Σy²
//! from the best pair: the l that it leads to, and least squares once or twice more
//! ```
//!
//! All sums count each weight by its importance.
//!
//! The K types store the offset as an unsigned minimum that is subtracted, so there m ≤
//! 0, and scales and minimums are integers times two half-precision factors. Both
//! integers of a sub-block are the best of nine pairs round their ideal; after that the
//! two factors are fitted to all 256 weights and the integers are chosen once more, as
//! long as it gets better.

use crate::{blocks::F16Le, lanes::F32x16};

use super::{
    batch::{Batch, Trials, array, bytes, inverse, nearest, negative, per_super, totals},
    half::{halves, nonzero_halves},
};

/// How often the factors of a super-block are fitted to its integers.
const ROUNDS: usize = 2;

/// How long to search the line of a sub-block.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// How far beyond the format's largest level the largest weight is mapped.
    trials: Trials,
    /// Repetitions of least squares with the best.
    repetitions: usize,
}

/// What a super-block stores beside its codes.
#[derive(Debug)]
pub(super) struct Factors<const S: usize> {
    pub(super) d: F16Le,
    pub(super) dmin: F16Le,
    pub(super) scales: [u8; S],
    pub(super) mins: [u8; S],
}

/// `w = scale · l + offset`, l from 0 to `top`.
#[derive(Clone, Copy)]
struct Line<V> {
    scale: V,
    offset: V,
    top: f32,
}

/// Writes blocks with factors of their own and codes up to `top`.
#[inline(always)]
pub(super) fn blocks<V: F32x16, B>(
    batch: &Batch<'_, V, 32>,
    out: &mut [B],
    top: f32,
    pack: impl Fn(F16Le, F16Le, &[u8; 32]) -> B,
) {
    // More would take off a hundredth of the error.
    const EFFORT: Effort = Effort {
        trials: Trials {
            step: 0.5,
            below: 3,
            above: 1,
        },
        repetitions: 1,
    };
    let line = best_line(batch, top, V::splat(f32::INFINITY), EFFORT).rounded();
    // Where half precision is too coarse, zero is the better choice.
    let zero = Line::level(V::splat(0.0), top);
    let best = zero.if_less(batch.squares(), line.error(batch), line);
    let [scales, offsets, inverse] = [best.scale, best.offset, inverse(best.scale)].map(array);
    for (s, out) in out.iter_mut().enumerate() {
        let codes = codes::<V, 32>(&batch.rows[s], inverse[s], offsets[s], top);
        *out = pack(
            F16Le::from_f32(scales[s]),
            F16Le::from_f32(offsets[s]),
            &codes,
        );
    }
}

/// Writes super-blocks of `S` sub-blocks, with codes up to `top`, and integer scales and
/// minimums up to `top_scale`.
#[inline(always)]
pub(super) fn super_blocks<V: F32x16, B, const N: usize, const S: usize>(
    batch: &Batch<'_, V, N>,
    out: &mut [B],
    top: f32,
    top_scale: f32,
    pack: impl Fn(&Factors<S>, &[u8; 256]) -> B,
) {
    const EFFORT: Effort = Effort {
        trials: Trials {
            step: 0.2,
            below: 10,
            above: 5,
        },
        repetitions: 2,
    };
    let ideal = best_line(batch, top, V::splat(0.0), EFFORT);
    let d = covering::<V, S>(ideal.scale, top_scale);
    let dmin = covering::<V, S>(negative(ideal.offset), top_scale);
    let mut best = Fit::new::<N>(batch, ideal, d, dmin, top_scale);
    for _ in 0..ROUNDS {
        let (d, dmin) = best.fitted::<N, S>(batch, top);
        let next = Fit::new::<N>(batch, ideal, d, dmin, top_scale);
        best = best.better_of::<S>(next);
    }

    let Line { scale, offset, .. } = best.line(top);
    let [inverse, offset] = [inverse(scale), offset].map(array);
    let [d, dmin, scales, mins] = [best.d, best.dmin, best.scale, best.min].map(array);
    for (idx, out) in out.iter_mut().enumerate() {
        let mut factors = Factors {
            d: F16Le::from_f32(d[S * idx]),
            dmin: F16Le::from_f32(dmin[S * idx]),
            scales: [0; S],
            mins: [0; S],
        };
        let mut all = [0; 256];
        for (s, codes) in all.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            let lane = S * idx + s;
            factors.scales[s] = scales[lane] as u8;
            factors.mins[s] = mins[lane] as u8;
            *codes = self::codes::<V, N>(&batch.rows[lane], inverse[lane], offset[lane], top);
        }
        *out = pack(&factors, &all);
    }
}

/// Returns the factors that take the largest value of each super-block to `top`.
#[inline(always)]
fn covering<V: F32x16, const S: usize>(values: V, top: f32) -> V {
    let largest = per_super::<V, S>(values, |lanes| lanes.iter().copied().fold(0.0, f32::max));
    nonzero_halves(largest.div(V::splat(top)))
}

impl<V: F32x16> Line<V> {
    /// Returns the line that is `offset` everywhere.
    #[inline(always)]
    fn level(offset: V, top: f32) -> Self {
        Self {
            scale: V::splat(0.0),
            offset,
            top,
        }
    }

    /// Returns the line with scale and offset as half precision stores them.
    #[inline(always)]
    fn rounded(self) -> Self {
        Self {
            scale: halves(self.scale),
            offset: halves(self.offset),
            ..self
        }
    }

    /// Returns `self` where `a < b`, and `other` elsewhere.
    #[inline(always)]
    fn if_less(self, a: V, b: V, other: Self) -> Self {
        Self {
            scale: a.pick(b, self.scale, other.scale),
            offset: a.pick(b, self.offset, other.offset),
            ..self
        }
    }

    /// Returns Σp(x − scale · l − offset)².
    #[inline(always)]
    fn error<const N: usize>(self, batch: &Batch<'_, V, N>) -> V {
        let inverse = inverse(self.scale);
        let mut sum = V::splat(0.0);
        for i in 0..N {
            let x = batch.x[i].sub(self.offset);
            let rest = x.sub(self.scale.mul(nearest(x.mul(inverse), 0.0, self.top)));
            sum = sum.add(batch.p[i].mul(rest.mul(rest)));
        }
        sum
    }

    /// Returns Σpl, Σpl² and Σpyl of the levels l that weights lead to, where y are the
    /// weights and the offset of the line counted from `base`.
    #[inline(always)]
    fn moments<const N: usize>(self, batch: &Batch<'_, V, N>, base: V) -> (V, V, V) {
        let inverse = inverse(self.scale);
        let (mut l, mut ll, mut yl) = (V::splat(0.0), V::splat(0.0), V::splat(0.0));
        for i in 0..N {
            let y = batch.x[i].sub(base);
            let level = nearest(y.sub(self.offset).mul(inverse), 0.0, self.top);
            let weighted = batch.p[i].mul(level);
            l = l.add(weighted);
            ll = ll.add(weighted.mul(level));
            yl = yl.add(weighted.mul(y));
        }
        (l, ll, yl)
    }
}

#[inline(always)]
fn codes<V: F32x16, const N: usize>(x: &[f32; N], inverse: f32, offset: f32, top: f32) -> [u8; N] {
    let (inverse, offset) = (V::splat(inverse), V::splat(offset));
    let mut codes = [0; N];
    for (x, codes) in x.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        *codes = bytes(nearest(V::load(x).sub(offset).mul(inverse), 0.0, top));
    }
    codes
}

/// Factors and integers of super-blocks, and the squared error they leave in sub-blocks.
#[derive(Clone, Copy)]
struct Fit<V> {
    d: V,
    dmin: V,
    scale: V,
    min: V,
    error: V,
}

impl<V: F32x16> Fit<V> {
    /// Chooses the integers for given factors.
    #[inline(always)]
    fn new<const N: usize>(
        batch: &Batch<'_, V, N>,
        ideal: Line<V>,
        d: V,
        dmin: V,
        top_scale: f32,
    ) -> Self {
        let scale = nearest(ideal.scale.mul(inverse(d)), 0.0, top_scale);
        let min = nearest(negative(ideal.offset).mul(inverse(dmin)), 0.0, top_scale);
        let mut best = Self {
            d,
            dmin,
            scale: V::splat(0.0),
            min: V::splat(0.0),
            error: batch.squares(),
        };
        for i in [0.0, -1.0, 1.0] {
            for j in [0.0, -1.0, 1.0] {
                let scale = nearest(scale.add(V::splat(i)), 0.0, top_scale);
                let min = nearest(min.add(V::splat(j)), 0.0, top_scale);
                let line = Line {
                    scale: d.mul(scale),
                    offset: negative(dmin.mul(min)),
                    top: ideal.top,
                };
                let error = line.error(batch);
                best.scale = error.pick(best.error, scale, best.scale);
                best.min = error.pick(best.error, min, best.min);
                best.error = error.min(best.error);
            }
        }
        best
    }

    /// Returns the lines of the sub-blocks.
    #[inline(always)]
    fn line(&self, top: f32) -> Line<V> {
        Line {
            scale: self.d.mul(self.scale),
            offset: negative(self.dmin.mul(self.min)),
            top,
        }
    }

    /// Returns whichever leaves less error in a super-block.
    #[inline(always)]
    fn better_of<const S: usize>(self, other: Self) -> Self {
        let (own, others) = (totals::<V, S>(self.error), totals::<V, S>(other.error));
        Self {
            d: others.pick(own, other.d, self.d),
            dmin: others.pick(own, other.dmin, self.dmin),
            scale: others.pick(own, other.scale, self.scale),
            min: others.pick(own, other.min, self.min),
            error: others.pick(own, other.error, self.error),
        }
    }

    /// Returns the best factors for the integers and the levels they lead to: least
    /// squares of `x = d · a − dmin · b` over all weights, a = scale · l and b = min.
    #[inline(always)]
    fn fitted<const N: usize, const S: usize>(&self, batch: &Batch<'_, V, N>, top: f32) -> (V, V) {
        let (scale, min) = (self.scale, self.min);
        let (l, ll, xl) = self.line(top).moments(batch, V::splat(0.0));
        let (sum_p, sum_x) = batch.sums(V::splat(0.0));
        let aa = totals::<V, S>(scale.mul(scale).mul(ll));
        let ab = totals::<V, S>(scale.mul(min).mul(l));
        let bb = totals::<V, S>(min.mul(min).mul(sum_p));
        let xa = totals::<V, S>(scale.mul(xl));
        let xb = totals::<V, S>(min.mul(sum_x));
        let zero = V::splat(0.0);
        let determinant = aa.mul(bb).sub(ab.mul(ab));
        let d = xa.mul(bb).sub(xb.mul(ab)).div(determinant);
        let dmin = xa.mul(ab).sub(xb.mul(aa)).div(determinant);
        // Where no weight is below zero, or no integer is, there is one factor to find.
        let d = zero.pick(determinant, d, xa.div(aa));
        let dmin = zero.pick(determinant, dmin, zero);
        (
            nonzero_halves(d.zero_below(zero, d)),
            nonzero_halves(dmin.zero_below(zero, dmin)),
        )
    }
}

/// Searches scale and offset of sub-blocks, the offset at most `most`.
#[inline(always)]
fn best_line<V: F32x16, const N: usize>(
    batch: &Batch<'_, V, N>,
    top: f32,
    most: V,
    effort: Effort,
) -> Line<V> {
    let (low, high) = batch.range();
    let base = low.min(most);
    let (span, most) = (high.sub(base), most.sub(base));
    let (n, sum_y) = batch.sums(base);
    let zero = V::splat(0.0);
    let (mut explained, mut best) = (zero, Line::level(zero, top));
    let n_trials = effort.trials.count();
    for trial in 0..n_trials + effort.repetitions {
        let guess = if trial < n_trials {
            Line {
                scale: span.div(V::splat(top + effort.trials.at(trial))),
                ..Line::level(zero, top)
            }
        } else {
            best
        };
        let (l, ll, yl) = guess.moments(batch, base);
        let determinant = n.mul(ll).sub(l.mul(l));
        let solved = Line {
            scale: n.mul(yl).sub(sum_y.mul(l)).div(determinant),
            offset: ll.mul(sum_y).sub(l.mul(yl)).div(determinant),
            top,
        };
        let without = Line {
            scale: yl.div(ll),
            offset: zero,
            top,
        };
        let line = solved.if_less(zero, determinant, without);
        let bounded = Line {
            scale: yl.sub(most.mul(l)).div(ll),
            offset: most,
            top,
        };
        let Line { scale, offset, .. } = bounded.if_less(most, line.offset, line);
        let linear = scale.mul(yl).add(offset.mul(sum_y));
        let square = scale.mul(scale.mul(ll).add(offset.add(offset).mul(l)));
        let gain = linear
            .add(linear)
            .sub(square.add(n.mul(offset.mul(offset))));
        let to_beat = Trials::surpassing(explained);
        best = Line { scale, offset, top }.if_less(to_beat, gain, best);
        explained = to_beat.pick(gain, gain, explained);
    }
    Line {
        offset: base.add(best.offset),
        ..best
    }
}
