//! XTC ("exclude top choices"): now and then removes all but the last good choice.
//!
//! With a probability, every candidate that reaches the threshold is removed except the
//! least probable of them, so the text leaves the beaten track without losing its sense.
//! Method by p-e-w (oobabooga/text-generation-webui, 2024), behaviour as in llama.cpp.

use crate::candidates::Candidates;
use crate::rng::Rng;

/// Removes the top choices if a draw says so and at least `min_keep` candidates are left.
///
/// Takes one random number if the stage is on and there is a choice, otherwise none. Two
/// candidates cannot both exceed 0.5, so a threshold above it is off.
pub(crate) fn apply(
    candidates: &mut Candidates,
    probability: f32,
    threshold: f32,
    min_keep: usize,
    rng: &mut Rng,
) {
    if probability <= 0.0 || threshold > 0.5 || candidates.len() < 2 {
        return;
    }
    if rng.uniform() >= f64::from(probability) {
        return;
    }
    let floor = f64::from(threshold) * candidates.mass();
    let n_top = candidates.as_slice().partition_point(|c| c.weight >= floor);
    let n_removed = n_top.saturating_sub(1);
    if candidates.len() - n_removed >= min_keep {
        candidates.remove_head(n_removed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;
    use crate::testing::{candidates, ids, logits, probabilities};

    fn xtc(xs: &[f32], probability: f32, threshold: f32, min_keep: usize) -> Vec<u32> {
        let mut c = candidates(xs);
        apply(&mut c, probability, threshold, min_keep, &mut Rng::new(1));
        ids(&c)
    }

    #[test]
    fn all_top_choices_but_the_last_go() {
        let xs = [0.4f32.ln(), 0.3f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
        assert_eq!(xtc(&xs, 1.0, 0.15, 0), [2, 3]);
        assert_eq!(xtc(&xs, 1.0, 0.35, 0), [0, 1, 2, 3]);
        assert_eq!(xtc(&xs, 1.0, 0.15, 2), [2, 3]);
        assert_eq!(xtc(&xs, 1.0, 0.15, 3), [0, 1, 2, 3]);
        assert_eq!(xtc(&xs, 1.0, 0.0, 0), [3]);
        assert_eq!(xtc(&xs, 1.0, 0.6, 0), [0, 1, 2, 3]);
        assert_eq!(xtc(&xs, 0.0, 0.15, 0), [0, 1, 2, 3]);
    }

    #[test]
    fn happens_as_often_as_asked() {
        let mut rng = Rng::new(3);
        let mut n_applied = 0;
        for _ in 0..10_000 {
            let mut c = candidates(&[0.0, 0.0]);
            apply(&mut c, 0.3, 0.1, 0, &mut rng);
            n_applied += u32::from(c.len() == 1);
        }
        // Three standard deviations are 137.
        assert!((2863..=3137).contains(&n_applied), "{n_applied}");
    }

    #[test]
    fn takes_no_random_number_when_there_is_no_choice() {
        let mut rng = Rng::new(5);
        apply(&mut candidates(&[1.0]), 1.0, 0.1, 0, &mut rng);
        apply(&mut candidates(&[1.0, 2.0]), 0.0, 0.1, 0, &mut rng);
        assert_eq!(rng, Rng::new(5));
    }

    proptest! {
        #[test]
        fn keeps_the_last_top_choice_and_all_below(xs in logits(2..60), t in 0.001f32..0.5) {
            let all = candidates(&xs);
            let probs = probabilities(&all);
            let kept = xtc(&xs, 1.0, t, 0);
            let n_removed = all.len() - kept.len();
            prop_assert_eq!(&kept[..], &ids(&all)[n_removed..]);
            let t = f64::from(t);
            if n_removed > 0 {
                prop_assert!(probs[n_removed] >= t - 1e-12);
            }
            if let Some(&next) = probs.get(n_removed + 1) {
                prop_assert!(next < t + 1e-12);
            }
        }
    }
}
