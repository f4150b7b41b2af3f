//! Logit bias: the caller's own thumb on the scale.

use crate::stages::edit;

/// Adds each bias to the logit of its token; −∞ masks the token. The ids are in range.
pub(crate) fn apply(logits: &mut [f32], biases: &[(u32, f32)]) {
    for &(token, bias) in biases {
        let logit = &mut logits[token as usize];
        if bias == f32::NEG_INFINITY && logit.is_finite() {
            *logit = bias;
        } else {
            edit(logit, |x| x + f64::from(bias));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    #[test]
    fn minus_infinity_masks_for_good() {
        let mut xs = [1.0, 2.0];
        apply(&mut xs, &[(1, f32::NEG_INFINITY), (1, 50.0)]);
        assert_eq!(xs, [1.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn biases_of_one_token_add_up() {
        let mut xs = [1.0, 2.0];
        apply(&mut xs, &[(0, 0.5), (0, 0.25)]);
        assert_eq!(xs, [1.75, 2.0]);
    }

    #[test]
    fn invalid_logits_stay_visible() {
        let mut xs = [f32::NAN, f32::INFINITY];
        apply(&mut xs, &[(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)]);
        assert!(xs[0].is_nan());
        assert_eq!(xs[1], f32::INFINITY);
    }

    proptest! {
        #[test]
        fn only_the_named_tokens_move(
            xs in logits(1..50), at in any::<prop::sample::Index>(), bias in -9.0f32..9.0,
        ) {
            let at = at.index(xs.len());
            let mut edited = xs.clone();
            apply(&mut edited, &[(at as u32, bias)]);
            for (i, (&before, &after)) in xs.iter().zip(&edited).enumerate() {
                let expected = if i == at { before + bias } else { before };
                prop_assert_eq!(after, expected, "token {}", i);
            }
        }
    }
}
