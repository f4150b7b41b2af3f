//! Locally typical sampling: keeps the tokens that surprise as much as expected.
//!
//! Tokens are taken in order of `|−ln p − H|`, H being the entropy, until their mass
//! exceeds p. Meister et al. 2022, <https://arxiv.org/abs/2202.00666>. With the drop
//! `d = best logit − logit` and the mass Z of the weights, −ln p is `d + ln Z` and H is
//! `mean d + ln Z`: the logarithm cancels, and the deviation is exactly `|d − mean d|`.

use crate::candidates::Candidates;

/// Keeps the most typical candidates whose mass exceeds `p`, at least `min_keep`.
pub(crate) fn apply(candidates: &mut Candidates, p: f32, min_keep: usize) {
    if p >= 1.0 {
        return;
    }
    let best = candidates.as_slice()[0].logit;
    let mean_drop = candidates.mean_drop();
    let wanted = f64::from(p) * candidates.mass();
    candidates.keep_first_by(
        |c| ((best - c.logit) - mean_drop).abs(),
        |list| {
            let mut sum = 0.0;
            let exceeds = |weight: f64| {
                sum += weight;
                sum > wanted
            };
            let position = list.iter().map(|c| c.weight).position(exceeds);
            position.map_or(list.len(), |i| (i + 1).max(min_keep))
        },
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{candidates, ids, logits, probabilities};

    #[test]
    fn near_the_entropy_wins_over_the_most_probable() {
        // H = 1.36 nats; surprises are 0.51, 1.61, 2.30, 2.30.
        let xs = [0.6f32.ln(), 0.2f32.ln(), 0.1f32.ln(), 0.1f32.ln()];
        let mut c = candidates(&xs);
        apply(&mut c, 0.1, 0);
        assert_eq!(ids(&c), [1]);
        let mut c = candidates(&xs);
        apply(&mut c, 0.5, 0);
        assert_eq!(ids(&c), [0, 1]);
    }

    #[test]
    fn equal_logits_keep_the_lowest_ids() {
        let mut c = candidates(&[0.0; 10]);
        apply(&mut c, 0.35, 0);
        assert_eq!(ids(&c), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn keeps_the_smallest_typical_set_above_p(
            xs in logits(1..60), p in 0.0f32..1.0, min_keep in 0usize..5,
        ) {
            let all = candidates(&xs);
            let probs = probabilities(&all);
            let entropy: f64 = probs.iter().filter(|&&q| q > 0.0).map(|q| -q * q.ln()).sum();
            let best = all.as_slice()[0].logit;
            let surprise = |i: usize| best - all.as_slice()[i].logit - probs[0].ln();
            let deviation = |i: usize| (surprise(i) - entropy).abs();
            let mut kept = candidates(&xs);
            apply(&mut kept, p, min_keep);
            let kept = ids(&kept);
            let is_kept = |i: &usize| kept.contains(&all.as_slice()[*i].id);
            let (inside, outside): (Vec<_>, Vec<_>) = (0..all.len()).partition(is_kept);

            let mass: f64 = inside.iter().map(|&i| probs[i]).sum();
            let p = f64::from(p);
            prop_assert!(mass > p - 1e-12);
            let worst = inside.iter().map(|&i| deviation(i)).fold(0.0, f64::max);
            let tolerance = 1e-9 * (1.0 + worst);
            for &i in &outside {
                prop_assert!(deviation(i) >= worst - tolerance);
            }
            if inside.len() > min_keep.max(1) {
                let last = inside.iter().copied().filter(|&i| deviation(i) >= worst - tolerance);
                let spared = last.map(|i| probs[i]).fold(0.0, f64::max);
                prop_assert!(mass - spared <= p + 1e-9);
            }
            prop_assert!(inside.len() >= min_keep.min(all.len()));
        }
    }
}
