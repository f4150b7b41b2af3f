//! Top-p (nucleus): keeps the fewest candidates that together reach a probability.
//!
//! Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>.

use crate::candidates::Candidates;

/// Keeps the shortest head of the list with a mass of at least `p`, at least `min_keep`.
pub(crate) fn apply(candidates: &mut Candidates, p: f32, min_keep: usize) {
    if p >= 1.0 {
        return;
    }
    let wanted = f64::from(p) * candidates.mass();
    let mut sum = 0.0;
    let reaches = |weight: f64| {
        sum += weight;
        sum >= wanted
    };
    let list = candidates.as_slice();
    if let Some(last) = list.iter().map(|c| c.weight).position(reaches) {
        candidates.truncate((last + 1).max(min_keep));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{candidates, ids, logits, probabilities};

    #[test]
    fn reaching_p_exactly_is_enough() {
        let mut c = candidates(&[0.0; 4]);
        apply(&mut c, 0.5, 0);
        assert_eq!(ids(&c), [0, 1]);
    }

    #[test]
    fn zero_keeps_the_best_and_one_keeps_all() {
        let mut c = candidates(&[1.0, 3.0, 2.0]);
        apply(&mut c, 1.0, 0);
        assert_eq!(ids(&c), [1, 2, 0]);
        apply(&mut c, 0.0, 0);
        assert_eq!(ids(&c), [1]);
    }

    proptest! {
        #[test]
        fn keeps_the_smallest_prefix_with_mass_p(
            xs in logits(1..60), p in 0.0f32..1.0, min_keep in 0usize..5,
        ) {
            let all = candidates(&xs);
            let probs = probabilities(&all);
            let mut kept = candidates(&xs);
            apply(&mut kept, p, min_keep);
            let n = kept.len();
            let p = f64::from(p);
            prop_assert_eq!(&ids(&kept)[..], &ids(&all)[..n]);
            prop_assert!(probs[..n].iter().sum::<f64>() >= p - 1e-12);
            prop_assert!(n >= min_keep.min(all.len()));
            if n > min_keep.max(1) {
                prop_assert!(probs[..n - 1].iter().sum::<f64>() < p + 1e-12);
            }
        }
    }
}
