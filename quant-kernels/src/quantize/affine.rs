//! Formats whose weights are a scale times a small integer plus an offset:
//! `w = d · l + m`.
//!
//! For given integers l the best scale and offset solve two linear equations, and the
//! error they leave follows from five sums, so again one pass judges a candidate:
//!
//! ```text
//! y = x - min(x)                                   so that no sum cancels
//! for t in -10..=10
//!     l = round(y · (top + t / 10) / max(y)),  0 ≤ l ≤ top
//!     (d, m) = least squares of y = d · l + m
//!     keep the pair that explains most of Σy²
//! ```
//!
//! All sums count each weight by its importance.
//!
//! The K types store the offset as an unsigned minimum that is subtracted, so there m ≤
//! 0, and scales and minimums are integers times two half-precision factors. Both
//! integers of a sub-block are the best of nine pairs round their ideal; after that the
//! two factors are fitted to all 256 weights, the integers are chosen once more, and the
//! better of both states stays.

use crate::blocks::F16Le;

use super::{
    SMALLEST, Subs,
    lanes::{Moments, moments, nearest_within, range, squared_error, sum, weighted_sum},
    symmetric::{inverse, nonzero_half},
};

/// A super-block with minimums; `S` sub-blocks.
#[derive(Debug)]
pub(super) struct AffineSuper<const S: usize> {
    pub(super) d: F16Le,
    pub(super) dmin: F16Le,
    pub(super) scales: [u8; S],
    pub(super) mins: [u8; S],
    pub(super) codes: [u8; 256],
}

/// `w = scale · l + offset`, l from 0 to `top`.
#[derive(Clone, Copy, Debug)]
struct Line {
    scale: f32,
    offset: f32,
    top: f32,
}

/// Chooses scale, offset and codes from 0 to `top` of a block with factors of its own.
pub(super) fn block(x: &[f32; 32], importance: &[f32; 32], top: f32) -> (F16Le, F16Le, [u8; 32]) {
    let (low, high) = range(x);
    let plain = Line {
        scale: (high - low) / top,
        offset: low,
        top,
    }
    .rounded();
    let searched = best_line(x, importance, top, f32::INFINITY).rounded();
    // Where half precision is too coarse for either, zero is the better choice.
    let zero = Line {
        scale: 0.0,
        offset: 0.0,
        top,
    };
    let best = plain
        .better_of(searched, x, importance)
        .better_of(zero, x, importance);
    (
        F16Le::from_f32(best.scale),
        F16Le::from_f32(best.offset),
        best.codes(x),
    )
}

/// Chooses factors, integer scales and minimums up to `top_scale`, and codes up to `top`.
pub(super) fn super_block<const N: usize, const S: usize>(
    x: &[f32; 256],
    importance: &[f32; 256],
    top: f32,
    top_scale: f32,
) -> AffineSuper<S> {
    let subs = Subs::<N, S>::new(x, importance);
    let ideal: [Line; S] = std::array::from_fn(|s| best_line(&subs.x[s], &subs.p[s], top, 0.0));
    let scale = ideal.iter().fold(0.0, |most, line| line.scale.max(most));
    let min = ideal
        .iter()
        .fold(0.0, |most, line| (-line.offset).max(most));
    let d = nonzero_half(scale / top_scale);
    let dmin = nonzero_half(min / top_scale);

    let first = Fit::new(&subs, &ideal, d, dmin, top_scale);
    let (d, dmin) = first.refit(&subs, top);
    let second = Fit::new(&subs, &ideal, d, dmin, top_scale);
    let best = if second.error < first.error {
        second
    } else {
        first
    };

    let mut codes = [0; 256];
    for s in 0..S {
        codes[N * s..N * (s + 1)].copy_from_slice(&best.line(s, top).codes(&subs.x[s]));
    }
    let Fit {
        d,
        dmin,
        scales,
        mins,
        ..
    } = best;
    AffineSuper {
        d,
        dmin,
        scales,
        mins,
        codes,
    }
}

impl Line {
    /// Returns the line with scale and offset as half precision stores them.
    fn rounded(self) -> Self {
        Self {
            scale: F16Le::from_f32(self.scale).to_f32(),
            offset: F16Le::from_f32(self.offset).to_f32(),
            top: self.top,
        }
    }

    /// Returns the function from a weight to its level.
    #[inline]
    fn level(self) -> impl Fn(f32) -> f32 {
        let Self { scale, offset, top } = self;
        let inverse = inverse(scale);
        move |w| nearest_within((w - offset) * inverse, 0.0, top)
    }

    #[inline]
    fn error<const N: usize>(self, x: &[f32; N], importance: &[f32; N]) -> f32 {
        let level = self.level();
        squared_error(x, importance, |w| self.scale * level(w) + self.offset)
    }

    /// Returns the line that leaves less error, `self` on ties.
    fn better_of<const N: usize>(self, other: Self, x: &[f32; N], importance: &[f32; N]) -> Self {
        if other.error(x, importance) < self.error(x, importance) {
            other
        } else {
            self
        }
    }

    fn codes<const N: usize>(self, x: &[f32; N]) -> [u8; N] {
        let level = self.level();
        x.map(|w| level(w) as u8)
    }
}

/// Factors and integers of a super-block, and the squared error they leave.
struct Fit<const S: usize> {
    d: F16Le,
    dmin: F16Le,
    scales: [u8; S],
    mins: [u8; S],
    error: f32,
}

impl<const S: usize> Fit<S> {
    /// Chooses the integers for given factors.
    fn new<const N: usize>(
        subs: &Subs<'_, N, S>,
        ideal: &[Line; S],
        d: F16Le,
        dmin: F16Le,
        top_scale: f32,
    ) -> Self {
        let mut fit = Self {
            d,
            dmin,
            scales: [0; S],
            mins: [0; S],
            error: 0.0,
        };
        let (d, dmin) = (d.to_f32(), dmin.to_f32());
        for s in 0..S {
            let top = ideal[s].top;
            let scale = nearest_within(ideal[s].scale * inverse(d), 0.0, top_scale);
            let min = nearest_within(-ideal[s].offset * inverse(dmin), 0.0, top_scale);
            let mut best = (squared_error(&subs.x[s], &subs.p[s], |_| 0.0), 0.0, 0.0);
            for i in [0.0, -1.0, 1.0] {
                for j in [0.0, -1.0, 1.0] {
                    let scale = (scale + i).clamp(0.0, top_scale);
                    let min = (min + j).clamp(0.0, top_scale);
                    let line = Line {
                        scale: d * scale,
                        offset: -dmin * min,
                        top,
                    };
                    let error = line.error(&subs.x[s], &subs.p[s]);
                    best = if error < best.0 {
                        (error, scale, min)
                    } else {
                        best
                    };
                }
            }
            fit.error += best.0;
            fit.scales[s] = best.1 as u8;
            fit.mins[s] = best.2 as u8;
        }
        fit
    }

    /// Returns the line of a sub-block.
    fn line(&self, s: usize, top: f32) -> Line {
        Line {
            scale: self.d.to_f32() * f32::from(self.scales[s]),
            offset: -self.dmin.to_f32() * f32::from(self.mins[s]),
            top,
        }
    }

    /// Returns the best factors for the integers and the levels they lead to: least
    /// squares of `x = d · a − dmin · b` over all weights, a = scale · l and b = min.
    fn refit<const N: usize>(&self, subs: &Subs<'_, N, S>, top: f32) -> (F16Le, F16Le) {
        let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0.0f64, 0.0, 0.0, 0.0, 0.0);
        for s in 0..S {
            let (x, p) = (&subs.x[s], &subs.p[s]);
            let sums = moments(x, p, self.line(s, top).level());
            let (scale, min) = (f64::from(self.scales[s]), f64::from(self.mins[s]));
            aa += scale * scale * f64::from(sums.ll);
            ab += scale * min * f64::from(sums.l);
            bb += min * min * f64::from(sum(p));
            xa += scale * f64::from(sums.xl);
            xb += min * f64::from(weighted_sum(x, p));
        }
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = if determinant > 0.0 {
            (
                (xa * bb - xb * ab) / determinant,
                (xa * ab - xb * aa) / determinant,
            )
        } else if aa > 0.0 {
            (xa / aa, 0.0)
        } else {
            return (self.d, self.dmin);
        };
        if d > 0.0 && dmin >= 0.0 {
            (nonzero_half(d as f32), nonzero_half(dmin as f32))
        } else {
            (self.d, self.dmin)
        }
    }
}

/// Searches scale and offset of one sub-block, the offset at most `most`.
fn best_line<const N: usize>(x: &[f32; N], importance: &[f32; N], top: f32, most: f32) -> Line {
    let (low, high) = range(x);
    let base = low.min(most);
    let span = high - base;
    let mut best = Line {
        scale: 0.0,
        offset: base,
        top,
    };
    if span < SMALLEST {
        return best;
    }
    let mut y = *x;
    for y in &mut y {
        *y -= base;
    }
    let (n, sum_y) = (sum(importance), weighted_sum(&y, importance));
    let mut explained = 0.0;
    for trial in -10..=10 {
        let shifted = Line {
            scale: span / (top + 0.1 * trial as f32),
            offset: 0.0,
            top,
        };
        let Moments { l, ll, xl: yl } = moments(&y, importance, shifted.level());
        let determinant = n * ll - l * l;
        let (mut scale, mut offset) = (yl / ll, 0.0);
        if determinant > 0.0 {
            scale = (n * yl - sum_y * l) / determinant;
            offset = (ll * sum_y - l * yl) / determinant;
            if base + offset > most {
                offset = most - base;
                scale = (yl - offset * l) / ll;
            }
        }
        let gain = 2.0 * (scale * yl + offset * sum_y)
            - (scale * scale * ll + 2.0 * scale * offset * l + n * offset * offset);
        if gain > explained {
            explained = gain;
            best = Line {
                scale,
                offset: base + offset,
                top,
            };
        }
    }
    best
}
