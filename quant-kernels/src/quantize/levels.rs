//! The values that codes without an offset stand for, in units of the scale.

use crate::{
    blocks::{IQ4_VALUES, MXFP4_VALUES},
    lanes::F32x16,
};

use super::batch::{Trials, nearest, negative};

/// A set of levels: small integers, evenly spaced or from a table.
pub(super) trait Levels {
    /// The lowest level, which has the largest magnitude.
    const LOW: f32;
    /// How far beyond [`Levels::LOW`] the search maps the largest weight.
    const TRIALS: Trials;

    /// Returns the levels nearest to `y`.
    fn round<V: F32x16>(y: V) -> V;

    /// Returns the codes of the levels nearest to `x · inverse`.
    fn codes<V: F32x16>(x: V, inverse: V) -> [u8; 16];
}

/// The integers −N to N − 1, coded from 0 up.
#[derive(Debug)]
pub(super) struct Linear<const N: i32>;

/// The table of `IQ4_NL` and `IQ4_XS`.
#[derive(Debug)]
pub(super) struct Iq4;

/// Twice the values of the 4-bit float E2M1.
#[derive(Debug)]
pub(super) struct E2m1;

const fn trials(step: f32, below: usize, above: usize) -> Trials {
    Trials { step, below, above }
}

impl<const N: i32> Levels for Linear<N> {
    const LOW: f32 = -N as f32;
    // The finer the levels, the less is lost where the largest weight is clipped. A block of
    // 4 or 5 bits has a scale for itself, and gains little from more trials.
    const TRIALS: Trials = match N {
        ..=4 => trials(0.27, 5, 3),
        5..=8 => trials(0.4, 2, 1),
        9..=16 => trials(0.6, 3, 1),
        _ => trials(0.4, 9, 2),
    };

    #[inline(always)]
    fn round<V: F32x16>(y: V) -> V {
        nearest(y, -N as f32, (N - 1) as f32)
    }

    #[inline(always)]
    fn codes<V: F32x16>(x: V, inverse: V) -> [u8; 16] {
        let code = x.mul_add(inverse, V::splat(N as f32));
        code.min(V::splat((2 * N - 1) as f32)).to_u8()
    }
}

impl Levels for Iq4 {
    const LOW: f32 = IQ4_VALUES[0] as f32;
    const TRIALS: Trials = trials(5.5, 9, 2);

    #[inline(always)]
    fn round<V: F32x16>(y: V) -> V {
        climb(y, &IQ4_VALUES, f32::from(IQ4_VALUES[0]), None)
    }

    #[inline(always)]
    fn codes<V: F32x16>(x: V, inverse: V) -> [u8; 16] {
        climb(x.mul(inverse), &IQ4_VALUES, 0.0, Some(1.0)).to_u8()
    }
}

/// The magnitudes of [`E2m1`].
fn magnitudes() -> &'static [i8; 8] {
    MXFP4_VALUES
        .first_chunk()
        .expect("there are sixteen values")
}

impl Levels for E2m1 {
    const LOW: f32 = -12.0;
    const TRIALS: Trials = trials(0.0, 0, 0);

    #[inline(always)]
    fn round<V: F32x16>(y: V) -> V {
        let level = climb(y.max(negative(y)), magnitudes(), 0.0, None);
        y.pick(V::splat(0.0), negative(level), level)
    }

    #[inline(always)]
    fn codes<V: F32x16>(x: V, inverse: V) -> [u8; 16] {
        let y = x.mul(inverse);
        let code = climb(y.max(negative(y)), magnitudes(), 0.0, Some(1.0));
        // Zero has no sign.
        let code = negative(V::splat(0.5)).pick(y, code, code.add(V::splat(8.0)));
        code.to_u8()
    }
}

/// Adds up all steps of an ascending table whose middle is not above `y`, or as often what
/// each is `worth`: without a search and without branches.
#[inline(always)]
fn climb<V: F32x16, const K: usize>(y: V, values: &[i8; K], start: f32, worth: Option<f32>) -> V {
    let mut sum = V::splat(start);
    for k in 1..K {
        let (below, above) = (f32::from(values[k - 1]), f32::from(values[k]));
        let middle = V::splat(0.5 * (below + above));
        sum = sum.add(y.zero_below(middle, V::splat(worth.unwrap_or(above - below))));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{super::batch::array, *};
    use crate::lanes::Scalar16;

    /// Compares with the distance to every level.
    fn check<L: Levels>(values: &[i8]) {
        for step in -600..600 {
            let y = step as f32 * 0.25 + 0.01;
            let lanes = Scalar16::splat(y);
            let level = array(L::round(lanes))[7];
            let code = L::codes(lanes, Scalar16::splat(1.0))[7];
            let best = values
                .iter()
                .map(|&v| (f32::from(v) - y).abs())
                .fold(f32::MAX, f32::min);
            assert!((level - y).abs() <= best, "{y} -> {level}");
            assert_eq!(f32::from(values[code as usize]), level, "{y}");
        }
    }

    #[test]
    fn rounding_finds_the_nearest_level_and_its_code() {
        check::<Linear<4>>(&[-4, -3, -2, -1, 0, 1, 2, 3]);
        check::<Iq4>(&IQ4_VALUES);
        check::<E2m1>(&MXFP4_VALUES);
    }
}
