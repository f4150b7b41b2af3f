//! Top-n-sigma: keeps logits within n standard deviations of the best one.
//!
//! Logits look like a bell of noise with a few tokens far to the right of it; a distance
//! from the best in units of the bell's width does not depend on the temperature. Tang et
//! al. 2024, <https://arxiv.org/abs/2411.07641>.

/// Returns the lowest logit that is kept, over all that are not masked.
///
/// −∞ where `n` is off (0 or less). Sums are f64 in the order of the ids.
pub(crate) fn floor(logits: &[f32], n: f32) -> f64 {
    if n <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let kept = || {
        logits
            .iter()
            .filter(|x| x.is_finite())
            .map(|&x| f64::from(x))
    };
    let count = kept().count() as f64;
    let mean = kept().sum::<f64>() / count;
    let variance = kept().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let max = kept().fold(f64::NEG_INFINITY, f64::max);
    max - f64::from(n) * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    #[test]
    fn floor_is_n_deviations_below_the_best() {
        // Mean 3, deviations −2, −1, 0, 1, 2: the standard deviation is √2.
        let xs = [1.0, 2.0, f32::NEG_INFINITY, 3.0, 4.0, 5.0];
        let expected = 5.0 - 1.5 * 2f64.sqrt();
        assert!((floor(&xs, 1.5) - expected).abs() < 1e-12);
    }

    #[test]
    fn zero_or_less_is_off() {
        assert_eq!(floor(&[1.0, 2.0], 0.0), f64::NEG_INFINITY);
        assert_eq!(floor(&[1.0, 2.0], -1.0), f64::NEG_INFINITY);
    }

    #[test]
    fn equal_logits_all_stay() {
        assert_eq!(floor(&[2.5; 7], 1.0), 2.5);
    }

    proptest! {
        #[test]
        fn shifting_all_logits_shifts_the_floor(
            xs in prop::collection::vec(-9i8..9, 1..60), n in 0.1f32..4.0, by in -9i8..9,
        ) {
            let plain: Vec<f32> = xs.iter().map(|&x| f32::from(x)).collect();
            let moved: Vec<f32> = plain.iter().map(|x| x + f32::from(by)).collect();
            prop_assert!((floor(&plain, n) + f64::from(by) - floor(&moved, n)).abs() < 1e-9);
        }

        #[test]
        fn floor_never_exceeds_the_best(xs in logits(1..60), n in 0.001f32..4.0) {
            let max = xs.iter().copied().fold(f32::MIN, f32::max);
            prop_assert!(floor(&xs, n) <= f64::from(max));
        }

        #[test]
        fn larger_n_keeps_more(xs in logits(1..60), a in 0.1f32..4.0, b in 0.1f32..4.0) {
            prop_assert!(floor(&xs, a.max(b)) <= floor(&xs, a.min(b)));
        }
    }
}
