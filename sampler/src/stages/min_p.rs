//! Min-p: keeps candidates with at least a share of the best one's probability.
//!
//! Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>. The weights are that share.

use crate::candidates::Candidates;

/// Keeps exactly the candidates with probability `≥ p · max`, but at least `min_keep`.
pub(crate) fn apply(candidates: &mut Candidates, p: f32, min_keep: usize) {
    if p <= 0.0 {
        return;
    }
    let list = candidates.as_slice();
    let n = list.partition_point(|c| c.weight >= f64::from(p));
    candidates.truncate(n.max(min_keep));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{candidates, ids, logits, probabilities};

    #[test]
    fn one_keeps_all_that_tie_with_the_best() {
        let mut c = candidates(&[1.0, 3.0, 2.0, 3.0]);
        apply(&mut c, 1.0, 0);
        assert_eq!(ids(&c), [1, 3]);
    }

    #[test]
    fn zero_is_off() {
        let mut c = candidates(&[-1e30, 1e30]);
        apply(&mut c, 0.0, 0);
        assert_eq!(ids(&c), [1, 0]);
    }

    proptest! {
        #[test]
        fn keeps_exactly_those_above_the_share(
            xs in logits(1..60), p in 0.001f32..1.0, min_keep in 0usize..5,
        ) {
            let all = candidates(&xs);
            let probs = probabilities(&all);
            let mut kept = candidates(&xs);
            apply(&mut kept, p, min_keep);
            let n = kept.len();
            prop_assert_eq!(&ids(&kept)[..], &ids(&all)[..n]);
            prop_assert!(n >= min_keep.min(all.len()));
            let floor = f64::from(p) * probs[0];
            for (i, &q) in probs.iter().enumerate() {
                if i < n && i >= min_keep {
                    prop_assert!(q >= floor * (1.0 - 1e-12));
                } else if i >= n {
                    prop_assert!(q < floor * (1.0 + 1e-12));
                }
            }
        }
    }
}
