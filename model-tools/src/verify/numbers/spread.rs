//! How large the weights of a tensor are, piece by piece, and which pieces stand out.
//!
//! A piece is 32 weights next to each other. Single weights of a trained model may be a hundred
//! times as large as others; the mean square of 32 is not, so what stands out is rather a
//! scale that is wrong than a weight that matters. Means are counted by their size in steps of
//! an eighth of a power of two, which is enough to find the middle without keeping them.

/// Weights of a piece.
pub(super) const PIECE_LEN: usize = 32;

/// Bits of an `f32` that tell sizes apart: sign, exponent and three bits behind.
const SHIFT: u32 = 20;

/// Sizes that are told apart.
const N_SIZES: usize = 1 << (31 - SHIFT);

/// Mean squares of the pieces of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    counts: Vec<u64>,
}

impl Spread {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; N_SIZES],
        }
    }

    /// Adds the mean square of a piece: finite and not below zero.
    pub(super) fn add(&mut self, mean_square: f32) {
        self.counts[(mean_square.to_bits() >> SHIFT) as usize % N_SIZES] += 1;
    }

    /// Returns the middle one of the roots of mean squares, to a twentieth of its size; zero
    /// pieces do not count. `None` if all are zero.
    pub(super) fn median(&self) -> Option<f64> {
        let n: u64 = self.counts[1..].iter().sum();
        let mut below = 0;
        for (size, count) in self.counts.iter().enumerate().skip(1) {
            below += count;
            if 2 * below >= n && n > 0 {
                // The middle of the step.
                let bits = (size as u32) << SHIFT | 1 << (SHIFT - 1);
                return Some(f64::from(f32::from_bits(bits)).sqrt());
            }
        }
        None
    }
}

/// Returns the mean square of some weights: NaN or infinite if one of them is, and if their
/// squares are too large for an `f32`.
pub(super) fn mean_square(weights: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (eights, rest) = weights.as_chunks::<8>();
    for eight in eights {
        for i in 0..8 {
            lanes[i] += eight[i] * eight[i];
        }
    }
    let rest: f32 = rest.iter().map(|weight| weight * weight).sum();
    (lanes.iter().sum::<f32>() + rest) / weights.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_to_a_twentieth_and_zeros_do_not_count() {
        let mut spread = Spread::new();
        for _ in 0..100 {
            spread.add(0.0);
        }
        assert_eq!(spread.median(), None);
        for (root, n) in [(1e-6, 30), (0.02, 41), (5.0, 30)] {
            for _ in 0..n {
                spread.add(root * root);
            }
        }
        let median = spread.median().unwrap();
        assert!((median / 0.02 - 1.0).abs() < 0.05, "{median}");
    }

    #[test]
    fn every_finite_mean_has_a_place() {
        let mut spread = Spread::new();
        for mean in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1.0, f32::MAX] {
            spread.add(mean);
        }
        assert_eq!(spread.counts.iter().sum::<u64>(), 5);
    }

    #[test]
    fn one_weight_that_is_no_number_shows_in_the_mean() {
        for len in [1, 7, 8, 31, 32] {
            let mut weights = vec![0.5; len];
            assert_eq!(mean_square(&weights), 0.25);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                weights[len - 1] = bad;
                assert!(!mean_square(&weights).is_finite(), "{bad} of {len}");
            }
        }
    }
}
