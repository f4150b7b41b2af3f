//! How far rows are from what they should be, and how far rounding may bring them.
//!
//! # The bounds
//!
//! Each step of the reference gets what the same step of the fast pass got, to the bit, and
//! rounds its activations to the same `i8`. What is left is the arithmetic of `f32`. A sum of
//! `n` terms in sixteen lanes has a relative error of about `u·√(n/16)`, `u = 2⁻²⁴`, if
//! roundings are independent and terms do not cancel. [`sum_error`] gives it 32 times as much
//! room, for cancellation: `2·10⁻⁵` for rows of 2,048, where a wrong kernel is off by `10⁻³`
//! or more.
//!
//! Three steps turn small errors into larger ones, and say by how much: a softmax multiplies a
//! relative error of its scores by their size, a norm one of a value that is small beside
//! those it was added to, and `silu` one of a large negative gate.

use moe_model::ReferenceRows;

/// Half the distance of `f32` numbers near one.
pub(super) const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// Returns the relative error that a sum of `n` products may have.
pub(super) fn sum_error(n: usize) -> f64 {
    32.0 * UNIT * (n as f64 / 16.0).sqrt().max(1.0)
}

/// How far some rows are from what they should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distance {
    /// The largest relative L2 distance of a row, or of what was measured in it.
    pub(super) relative: f64,
    /// The smallest cosine of a row and what it should be.
    pub(super) cosine: f64,
    /// The largest difference of two numbers.
    pub(super) largest: f64,
    /// The largest share of its bound that a row takes; above one it has left it.
    pub(super) share: f64,
    /// The row with that share.
    pub(super) row: usize,
    /// The relative distance and bound of that row.
    pub(super) worst: (f64, f64),
}

impl Distance {
    /// Of no rows.
    pub(super) const NONE: Self = Self {
        relative: 0.0,
        cosine: 1.0,
        largest: 0.0,
        share: 0.0,
        row: 0,
        worst: (0.0, 0.0),
    };

    /// Measures rows. `bound` gives the L2 distance that a row may have.
    pub(super) fn of(
        found: &ReferenceRows,
        expected: &ReferenceRows,
        bound: impl Fn(usize) -> f64,
    ) -> Self {
        let mut all = Self::NONE;
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            all.add(row, found, expected, bound(row));
        }
        if found.len() != expected.len() {
            all.share = f64::NAN;
        }
        all
    }

    /// Whether all rows are within their bounds; NaN is not.
    pub(super) fn is_good(&self) -> bool {
        self.share <= 1.0
    }

    /// Takes the worse of each.
    pub(super) fn join(&mut self, other: &Self) {
        self.relative = larger(self.relative, other.relative);
        self.cosine = -larger(-self.cosine, -other.cosine);
        self.largest = larger(self.largest, other.largest);
        if larger(self.share, other.share).to_bits() != self.share.to_bits() {
            (self.share, self.row, self.worst) = (other.share, other.row, other.worst);
        }
    }

    fn add(&mut self, row: usize, found: &[f64], expected: &[f64], bound: f64) {
        let difference = found.iter().zip(expected).map(|(a, b)| a - b);
        let largest = difference.clone().map(f64::abs).fold(0.0, larger);
        let distance = length(difference);
        let (size, size_found) = (norm(expected), norm(found));
        let dot: f64 = found.iter().zip(expected).map(|(a, b)| a * b).sum();
        let ratio = |x: f64, y: f64| if x == 0.0 { 0.0 } else { x / y };
        let cosine = if size == 0.0 && size_found == 0.0 {
            1.0
        } else {
            ratio(dot, size * size_found)
        };
        self.join(&Self {
            relative: ratio(distance, size),
            cosine,
            largest,
            share: ratio(distance, bound),
            row,
            worst: (ratio(distance, size), ratio(bound, size)),
        });
    }
}

/// Returns the L2 norm.
pub(super) fn norm(row: &[f64]) -> f64 {
    length(row.iter().copied())
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// The larger of two, where NaN is larger than anything.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_is_named_with_its_distance() {
        let found = vec![vec![1.0, 2.0], vec![1.0, 2.2], vec![3.0, 4.0]];
        let expected = vec![vec![1.0, 2.0], vec![1.0, 2.0], vec![3.0, 4.1]];
        let distance = Distance::of(&found, &expected, |_| 0.15);
        assert_eq!(distance.row, 1);
        assert!((distance.relative - 0.2 / 5f64.sqrt()).abs() < 1e-12);
        assert!((distance.largest - 0.2).abs() < 1e-12);
        assert!((distance.share - 0.2 / 0.15).abs() < 1e-12);
        assert!(!distance.is_good());
        assert!(distance.cosine < 1.0 && distance.cosine > 0.99);
    }

    #[test]
    fn nan_is_never_good() {
        let distance = Distance::of(&vec![vec![f64::NAN]], &vec![vec![1.0]], |_| 1.0);
        assert!(!distance.is_good());
        let mut joined = Distance::NONE;
        joined.join(&distance);
        joined.join(&Distance::NONE);
        assert!(!joined.is_good());
    }

    #[test]
    fn equal_rows_of_zeros_are_good() {
        let zeros = vec![vec![0.0; 3]];
        let distance = Distance::of(&zeros, &zeros, |_| 0.0);
        assert!(distance.is_good());
        assert_eq!((distance.relative, distance.cosine), (0.0, 1.0));
    }
}
