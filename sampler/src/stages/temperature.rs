//! Temperature: sharpens or flattens what the truncations left.
//!
//! Dynamic temperature moves within `temp ± range` with the normalised entropy of the
//! candidates: where the model is sure it is cooled, where it hesitates it is heated. From
//! koboldcpp (kalomaze, 2023), behaviour as in llama.cpp's `temp-ext`.

use crate::candidates::Candidates;

/// Divides the logits by `temp` (above 0), or by a temperature that follows the entropy
/// if `range` is above 0.
pub(crate) fn apply(candidates: &mut Candidates, temp: f32, range: f32, exponent: f32) {
    if range <= 0.0 {
        candidates.rescale(f64::from(temp));
    } else if candidates.len() > 1 {
        let (temp, range) = (f64::from(temp), f64::from(range));
        let (low, high) = ((temp - range).max(0.0), temp + range);
        let bent = libm::pow(normalised_entropy(candidates), f64::from(exponent));
        match low + (high - low) * bent {
            dynamic if dynamic > 0.0 => candidates.rescale(dynamic),
            _ => candidates.truncate(1),
        }
    }
}

/// Returns the entropy as a share of the largest that so many candidates can have.
fn normalised_entropy(candidates: &Candidates) -> f64 {
    let entropy = candidates.mean_drop() + libm::log(candidates.mass());
    (entropy / libm::log(candidates.len() as f64)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{candidates, ids, logits, probabilities};

    fn effective_temp(xs: &[f32], temp: f32, range: f32, exponent: f32) -> f64 {
        let before = candidates(xs);
        let mut after = candidates(xs);
        apply(&mut after, temp, range, exponent);
        before.as_slice()[0].logit / after.as_slice()[0].logit
    }

    #[test]
    fn full_entropy_is_hot() {
        assert!((effective_temp(&[2.0; 8], 0.75, 0.5, 1.0) - 1.25).abs() < 1e-12);
    }

    #[test]
    fn no_entropy_is_cold() {
        assert!((effective_temp(&[900.0, 0.0], 0.75, 0.5, 1.0) - 0.25).abs() < 1e-12);
        let mut c = candidates(&[900.0, 0.0]);
        apply(&mut c, 0.5, 0.5, 1.0);
        assert_eq!(ids(&c), [0]);
    }

    #[test]
    fn exponent_bends_the_way() {
        // Half of four candidates share the mass: the normalised entropy is 1/2.
        let xs = [900.0, 900.0, 1.0, 1.0];
        assert!((effective_temp(&xs, 1.0, 1.0, 1.0) - 1.0).abs() < 1e-9);
        assert!((effective_temp(&xs, 1.0, 1.0, 2.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn range_ends_at_zero() {
        let xs = [900.0, 900.0, 1.0, 1.0];
        assert!((effective_temp(&xs, 0.5, 1.0, 1.0) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn smallest_temperature_does_not_overflow() {
        let mut c = candidates(&[f32::MAX, f32::MIN]);
        apply(&mut c, f32::from_bits(1), 0.0, 1.0);
        assert_eq!(c.mass(), 1.0);
    }

    proptest! {
        #[test]
        fn probabilities_are_raised_to_the_inverse(
            xs in prop::collection::vec(-5.0f32..5.0, 1..40), temp in 0.2f32..4.0,
        ) {
            let mut c = candidates(&xs);
            let raised: Vec<f64> =
                probabilities(&c).iter().map(|p| p.powf(1.0 / f64::from(temp))).collect();
            let total: f64 = raised.iter().sum();
            apply(&mut c, temp, 0.0, 1.0);
            for (found, r) in probabilities(&c).into_iter().zip(raised) {
                prop_assert!((found - r / total).abs() < 1e-9);
            }
        }

        #[test]
        fn order_stays_and_dynamic_temperature_stays_in_range(
            xs in logits(1..40), temp in 0.1f32..2.0, range in 0.0f32..2.0, exponent in 0.0f32..3.0,
        ) {
            let before = candidates(&xs);
            let mut after = candidates(&xs);
            apply(&mut after, temp, range, exponent);
            prop_assert_eq!(&ids(&before)[..after.len()], &ids(&after)[..]);
            let (first, last) = (before.as_slice()[0], before.as_slice()[before.len() - 1]);
            let scaled = after.drop(&after.as_slice()[after.len() - 1]);
            if before.len() > 1 && after.len() == before.len() && scaled > 0.0 {
                let used = (first.logit - last.logit) / scaled;
                let (temp, range) = (f64::from(temp), f64::from(range));
                prop_assert!(used > (temp - range) - 1e-6 && used < temp + range + 1e-6);
            }
        }
    }
}
