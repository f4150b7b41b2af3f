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
    batch::{Batch, Importance, Trials, array, inverse, nearest, negative, per_super, totals},
    half::{halves, nonzero_halves},
};

/// How often the factors of a super-block are fitted to its integers.
const ROUNDS: usize = 2;

/// How long to search the line of a sub-block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// How far beyond the format's largest level the largest weight is mapped.
    trials: Trials,
    /// Repetitions of least squares with the best.
    repetitions: usize,
}

impl Effort {
    /// Leaves a seventh less error than the line that just covers the weights, in little more
    /// time than that takes.
    pub(super) const QUICK: Self = Self::new(0.9, 1, 0, 0);
    /// Leaves a fifth less error.
    pub(super) const LONG: Self = Self::new(0.6, 3, 0, 1);
    /// With fewer levels, a fortieth less than that; more would take off a hundredth.
    pub(super) const LONGER: Self = Self::new(0.5, 3, 1, 1);
    /// What is lost here, integer scales and minimums do not bring back.
    const LONGEST: Self = Self::new(0.2, 10, 5, 2);

    const fn new(step: f32, below: usize, above: usize, repetitions: usize) -> Self {
        Self {
            trials: Trials { step, below, above },
            repetitions,
        }
    }
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
pub(super) fn blocks<V: F32x16, P: Importance<V>, B>(
    batch: &Batch<'_, V, 32, P>,
    out: &mut [B],
    top: f32,
    effort: Effort,
    pack: impl Fn(F16Le, F16Le, &[u8; 32]) -> B,
) {
    let line = best_line(batch, top, None, effort).rounded();
    let line = line.or_zero(batch);
    let (scales, offsets) = (line.scale.to_f16(), line.offset.to_f16());
    let (inverse, offset) = (array(inverse(line.scale)), array(line.offset));
    for (s, out) in out.iter_mut().enumerate() {
        let codes = codes::<V, 32>(&batch.rows[s], inverse[s], offset[s], top);
        *out = pack(
            F16Le::from_bits(scales[s]),
            F16Le::from_bits(offsets[s]),
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
    let ideal = best_line(batch, top, Some(V::splat(0.0)), Effort::LONGEST);
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

    /// Returns zero in place of a line that half precision is too coarse for.
    #[inline(always)]
    fn or_zero<P: Importance<V>>(self, batch: &Batch<'_, V, 32, P>) -> Self {
        // Below this, halves have fewer digits.
        const NORMAL: f32 = 1.0 / 16384.0;
        if array(self.scale).iter().all(|scale| scale.abs() >= NORMAL) {
            return self;
        }
        let zero = Self::level(V::splat(0.0), self.top);
        let better = zero.if_less(batch.squares(), self.error(batch), self);
        better.if_less(self.scale, V::splat(NORMAL), self)
    }

    /// Returns Σp(x − scale · l − offset)².
    #[inline(always)]
    fn error<P: Importance<V>, const N: usize>(self, batch: &Batch<'_, V, N, P>) -> V {
        let (inverse, minus) = (inverse(self.scale), negative(self.scale));
        let mut sum = V::splat(0.0);
        for i in 0..N {
            let x = batch.x[i].sub(self.offset);
            let rest = nearest(x.mul(inverse), 0.0, self.top).mul_add(minus, x);
            sum = batch.p.weigh(i, rest).mul_add(rest, sum);
        }
        sum
    }

    /// Returns the best line through weights y whose levels l are known by their sums: Σp, Σpy,
    /// and Σpl, Σpl² and Σpyl.
    #[inline(always)]
    fn solved(self, n: V, sum_y: V, [l, ll, yl]: [V; 3], most: Option<V>) -> Self {
        let one = V::splat(1.0);
        let determinant = n.mul(ll).sub(l.mul(l));
        let per_determinant = one.div(determinant);
        let free = Self {
            scale: n.mul(yl).sub(sum_y.mul(l)).mul(per_determinant),
            offset: ll.mul(sum_y).sub(l.mul(yl)).mul(per_determinant),
            ..self
        };
        let Some(most) = most else { return free };
        let (zero, per_ll) = (V::splat(0.0), one.div(ll));
        // Where all levels are the same but zero.
        let through_zero = Self {
            scale: yl.mul(per_ll),
            offset: zero,
            ..self
        };
        let line = free.if_less(zero, determinant, through_zero);
        let bounded = Self {
            scale: yl.sub(most.mul(l)).mul(per_ll),
            offset: most,
            ..self
        };
        bounded.if_less(most, line.offset, line)
    }

    /// Returns Σpl, Σpl² and Σpyl of the levels l that weights `y` lead to.
    #[inline(always)]
    fn moments<P: Importance<V>, const N: usize>(self, y: &[V; N], p: &P) -> (V, V, V) {
        let inverse = inverse(self.scale);
        let (mut l, mut ll, mut yl) = (V::splat(0.0), V::splat(0.0), V::splat(0.0));
        for i in 0..N {
            let level = nearest(y[i].sub(self.offset).mul(inverse), 0.0, self.top);
            let weighted = p.weigh(i, level);
            l = l.add(weighted);
            ll = weighted.mul_add(level, ll);
            yl = weighted.mul_add(y[i], yl);
        }
        (l, ll, yl)
    }
}

/// Returns [`Line::moments`] of a line through zero, of which `y` is never below; without
/// `top` no weight leads beyond the highest level.
#[inline(always)]
fn moments<V: F32x16, P: Importance<V>, const N: usize>(
    y: &[V; N],
    p: &P,
    inverse: V,
    top: Option<f32>,
) -> (V, V, V) {
    let (mut l, mut ll, mut yl) = (V::splat(0.0), V::splat(0.0), V::splat(0.0));
    for i in 0..N {
        let level = y[i].mul(inverse);
        let level = match top {
            Some(top) => level.min(V::splat(top)).round(),
            None => level.round(),
        };
        let weighted = p.weigh(i, level);
        l = l.add(weighted);
        ll = weighted.mul_add(level, ll);
        yl = weighted.mul_add(y[i], yl);
    }
    (l, ll, yl)
}

#[inline(always)]
fn codes<V: F32x16, const N: usize>(x: &[f32; N], inverse: f32, offset: f32, top: f32) -> [u8; N] {
    let (inverse, offset) = (V::splat(inverse), V::splat(offset));
    let mut codes = [0; N];
    for (x, codes) in x.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        let code = V::load(x).sub(offset).mul(inverse);
        *codes = code.min(V::splat(top)).to_u8();
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
        let (l, ll, xl) = self.line(top).moments(&batch.x, &batch.p);
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

/// Searches scale and offset of sub-blocks, the offset at most `most` if there is a limit.
#[inline(always)]
fn best_line<V: F32x16, P: Importance<V>, const N: usize>(
    batch: &Batch<'_, V, N, P>,
    top: f32,
    most: Option<V>,
    effort: Effort,
) -> Line<V> {
    let (low, high) = batch.range();
    let base = match most {
        Some(most) => low.min(most),
        None => low,
    };
    let (mut y, mut n, mut sum_y) = (batch.x, V::splat(0.0), V::splat(0.0));
    for i in 0..N {
        y[i] = y[i].sub(base);
        n = n.add(batch.p.weigh(i, V::splat(1.0)));
        sum_y = sum_y.add(batch.p.weigh(i, y[i]));
    }
    let (per_span, most) = (inverse(high.sub(base)), most.map(|most| most.sub(base)));
    let zero = V::splat(0.0);
    let (mut explained, mut best) = (zero, Line::level(zero, top));
    let Effort {
        trials,
        repetitions,
    } = effort;
    for trial in 0..trials.count() + repetitions {
        let (l, ll, yl) = if trial < trials.count() {
            let inverse = per_span.mul(V::splat(top + trials.at(trial)));
            moments(&y, &batch.p, inverse, (trials.above > 0).then_some(top))
        } else {
            best.moments(&y, &batch.p)
        };
        let Line { scale, offset, .. } = best.solved(n, sum_y, [l, ll, yl], most);
        let linear = scale.mul_add(yl, offset.mul(sum_y));
        let square = scale.mul(scale.mul_add(ll, offset.add(offset).mul(l)));
        let gain = linear
            .add(linear)
            .sub(n.mul(offset).mul_add(offset, square));
        let to_beat = Trials::surpassing(explained);
        best = Line { scale, offset, top }.if_less(to_beat, gain, best);
        explained = to_beat.pick(gain, gain, explained);
    }
    Line {
        offset: base.add(best.offset),
        ..best
    }
}
