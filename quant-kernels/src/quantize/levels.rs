//! The values that codes without an offset stand for, in units of the scale.

use crate::blocks::{IQ4_VALUES, MXFP4_VALUES};

use super::lanes::nearest_within;

/// A set of levels: small integers, evenly spaced or from a table.
pub(super) trait Levels {
    /// The lowest level, which has the largest magnitude.
    const LOW: f32;
    /// How far, relative to covering the largest weight exactly, the search varies the
    /// scale.
    const SPREAD: f32;

    /// Returns the level nearest to `y`.
    fn round(y: f32) -> f32;

    /// Returns the code of a level.
    fn code(level: f32) -> u8;
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

impl<const N: i32> Levels for Linear<N> {
    const LOW: f32 = -N as f32;
    const SPREAD: f32 = 0.9 / N as f32;

    #[inline]
    fn round(y: f32) -> f32 {
        nearest_within(y, -N as f32, (N - 1) as f32)
    }

    #[inline]
    fn code(level: f32) -> u8 {
        (level as i32 + N) as u8
    }
}

impl Levels for Iq4 {
    const LOW: f32 = IQ4_VALUES[0] as f32;
    const SPREAD: f32 = 0.1;

    #[inline]
    fn round(y: f32) -> f32 {
        nearest_of(y, &IQ4_VALUES)
    }

    #[inline]
    fn code(level: f32) -> u8 {
        IQ4_VALUES
            .iter()
            .map(|&value| u8::from(level > f32::from(value)))
            .sum()
    }
}

impl Levels for E2m1 {
    const LOW: f32 = -12.0;
    const SPREAD: f32 = 0.0;

    #[inline]
    fn round(y: f32) -> f32 {
        let magnitudes = MXFP4_VALUES
            .first_chunk::<8>()
            .expect("there are sixteen values");
        nearest_of(y.abs(), magnitudes).copysign(y)
    }

    #[inline]
    fn code(level: f32) -> u8 {
        let magnitude: u8 = (0..8)
            .map(|code| u8::from(level.abs() > f32::from(MXFP4_VALUES[code])))
            .sum();
        magnitude + if level < 0.0 { 8 } else { 0 }
    }
}

/// Returns the entry of an ascending table nearest to `y`: the sum of all steps whose
/// middle lies below, which needs no search and vectorises.
#[inline]
fn nearest_of<const K: usize>(y: f32, values: &[i8; K]) -> f32 {
    let mut level = f32::from(values[0]);
    for k in 1..K {
        let (below, above) = (f32::from(values[k - 1]), f32::from(values[k]));
        level += if y >= 0.5 * (below + above) {
            above - below
        } else {
            0.0
        };
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the distance to every level.
    fn check<L: Levels>(values: &[i8]) {
        for step in -600..600 {
            let y = step as f32 * 0.25 + 0.01;
            let level = L::round(y);
            let best = values
                .iter()
                .map(|&v| (f32::from(v) - y).abs())
                .fold(f32::MAX, f32::min);
            assert!((level - y).abs() <= best, "{y} -> {level}");
            assert_eq!(f32::from(values[usize::from(L::code(level))]), level);
        }
    }

    #[test]
    fn rounding_finds_the_nearest_level_and_its_code() {
        check::<Linear<4>>(&[-4, -3, -2, -1, 0, 1, 2, 3]);
        check::<Iq4>(&IQ4_VALUES);
        check::<E2m1>(&MXFP4_VALUES);
    }
}
