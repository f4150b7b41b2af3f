//! Formats whose weights are a scale times a level: `w = d · level`.
//!
//! The search tries scales near the one that maps the largest weight to the outermost
//! level. For given levels l the best scale is Σxl / Σl², and it takes (Σxl)² / Σl² off
//! the squared error, so one pass judges a candidate. All sums count each weight by its
//! importance:
//!
//! ```text
//! for t in -9..=9, for either outermost level
//!     l = round(x / trial(t))
//!     keep the l with the largest (Σxl)² / Σl²
//! scale = Σxl / Σl²
//! ```
//!
//! A super-block then stores its scales as integers times a half-precision factor. Each
//! integer is the best of three round its ideal; after that the factor is fitted to all
//! 256 weights, the integers are chosen once more, and the better of both states stays.

use crate::blocks::F16Le;

use super::{
    SMALLEST, Subs,
    lanes::{Moments, extreme, moments, nearest_within, squared_error},
    levels::Levels,
};

/// Scales tried on each side of the plain one.
const TRIALS: i32 = 9;

/// A super-block without minimums; `S` sub-blocks.
#[derive(Debug)]
pub(super) struct SymmetricSuper<const S: usize> {
    pub(super) d: F16Le,
    pub(super) scales: [i8; S],
    pub(super) codes: [u8; 256],
}

/// Chooses scale and codes of a block with a scale of its own.
pub(super) fn block<L: Levels, const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
) -> (F16Le, [u8; N]) {
    let plain = F16Le::from_f32(extreme(x) / L::LOW);
    let searched = F16Le::from_f32(best_scale::<L, N>(x, importance));
    let error = |d: F16Le| error::<L, N>(x, importance, d.to_f32());
    let better = error(searched) < error(plain);
    let d = if better { searched } else { plain };
    (d, codes::<L, N>(x, d.to_f32()))
}

/// Chooses factor, integer scales from `low_scale` to `-low_scale - 1`, and codes.
pub(super) fn super_block<L: Levels, const N: usize, const S: usize>(
    x: &[f32; 256],
    importance: &[f32; 256],
    low_scale: i8,
) -> SymmetricSuper<S> {
    let subs = Subs::<N, S>::new(x, importance);
    let ideal: [f32; S] = std::array::from_fn(|s| best_scale::<L, N>(&subs.x[s], &subs.p[s]));
    let mut largest = 0.0f32;
    for scale in ideal {
        largest = if scale.abs() > largest.abs() {
            scale
        } else {
            largest
        };
    }
    let first = Fit::new::<L, N>(
        &subs,
        &ideal,
        nonzero_half(largest / f32::from(low_scale)),
        low_scale,
    );
    let refitted = first.refit::<L, N>(&subs);
    let second = Fit::new::<L, N>(&subs, &ideal, refitted, low_scale);
    let best = if second.error < first.error {
        second
    } else {
        first
    };

    let mut codes = [0; 256];
    for s in 0..S {
        let scale = best.d.to_f32() * f32::from(best.scales[s]);
        codes[N * s..N * (s + 1)].copy_from_slice(&self::codes::<L, N>(&subs.x[s], scale));
    }
    SymmetricSuper {
        d: best.d,
        scales: best.scales,
        codes,
    }
}

/// Rounds to half precision, but to the smallest subnormal rather than to zero: integer
/// scales can still make something of it.
pub(super) fn nonzero_half(value: f32) -> F16Le {
    const SMALLEST_HALF: f32 = 1.0 / 16_777_216.0;
    if value.abs() < SMALLEST_HALF && value != 0.0 {
        F16Le::from_f32(SMALLEST_HALF.copysign(value))
    } else {
        F16Le::from_f32(value)
    }
}

/// Returns Σp(x − scale · level)².
#[inline]
pub(super) fn error<L: Levels, const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    scale: f32,
) -> f32 {
    let inverse = inverse(scale);
    squared_error(x, importance, |w| scale * L::round(w * inverse))
}

/// Returns the codes of the nearest levels.
pub(super) fn codes<L: Levels, const N: usize>(x: &[f32; N], scale: f32) -> [u8; N] {
    let inverse = inverse(scale);
    x.map(|w| L::code(L::round(w * inverse)))
}

/// Factor and integer scales of a super-block, and the squared error they leave.
struct Fit<const S: usize> {
    d: F16Le,
    scales: [i8; S],
    error: f32,
}

impl<const S: usize> Fit<S> {
    /// Chooses the integer scales for a given factor.
    fn new<L: Levels, const N: usize>(
        subs: &Subs<'_, N, S>,
        ideal: &[f32; S],
        d: F16Le,
        low_scale: i8,
    ) -> Self {
        let mut fit = Self {
            d,
            scales: [0; S],
            error: 0.0,
        };
        let (d, low) = (d.to_f32(), f32::from(low_scale));
        for s in 0..S {
            let centre = nearest_within(ideal[s] * inverse(d), low, -low - 1.0);
            let mut best = (f32::INFINITY, 0.0);
            for offset in [0.0, -1.0, 1.0] {
                let scale = (centre + offset).clamp(low, -low - 1.0);
                let error = error::<L, N>(&subs.x[s], &subs.p[s], d * scale);
                best = if error < best.0 { (error, scale) } else { best };
            }
            fit.error += best.0;
            fit.scales[s] = best.1 as i8;
        }
        fit
    }

    /// Returns the best factor for the integer scales and the levels they lead to.
    fn refit<L: Levels, const N: usize>(&self, subs: &Subs<'_, N, S>) -> F16Le {
        let (mut xl, mut ll) = (0.0f32, 0.0f32);
        for s in 0..S {
            let scale = f32::from(self.scales[s]);
            let inverse = inverse(self.d.to_f32() * scale);
            let sums = moments(&subs.x[s], &subs.p[s], |w| L::round(w * inverse));
            xl += scale * sums.xl;
            ll += scale * scale * sums.ll;
        }
        if ll > 0.0 {
            nonzero_half(xl / ll)
        } else {
            self.d
        }
    }
}

/// Searches the scale of one sub-block; 0 if all weights vanish.
fn best_scale<L: Levels, const N: usize>(x: &[f32; N], importance: &[f32; N]) -> f32 {
    let largest = extreme(x);
    if largest.abs() < SMALLEST {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    for trial in 0..=2 * TRIALS {
        // 0, -1, 1, -2, 2, …: the plain scale comes first and wins ties.
        let step = if trial % 2 == 0 {
            trial / 2
        } else {
            -(trial + 1) / 2
        };
        let stretch = 1.0 + L::SPREAD * step as f32 / TRIALS as f32;
        let inverse = stretch * L::LOW / largest;
        let Moments { xl, ll, .. } = moments(x, importance, |w| L::round(w * inverse));
        if ll > 0.0 && xl * xl > best.0 * ll {
            best = (xl * xl / ll, xl / ll);
        }
    }
    best.1
}

#[inline]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
