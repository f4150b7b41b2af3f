//! Repeat, frequency and presence penalties on the tokens of a recent window.
//!
//! A token that occurs `count` times has its logit divided by `repeat` if it is positive
//! and multiplied otherwise (so that both move it down), and then loses
//! `count · frequency + presence`. The window is sorted into a scratch copy, where equal
//! tokens are runs: no table over the vocabulary, no hashing, and the same result in
//! whatever order the tokens came.

use crate::config::SamplerConfig;
use crate::stages::edit;

#[derive(Debug, Clone)]
pub(crate) struct Penalties {
    repeat: f64,
    frequency: f64,
    presence: f64,
    sorted: Vec<u32>,
}

impl Penalties {
    pub(crate) fn new(config: &SamplerConfig) -> Self {
        Self {
            repeat: f64::from(config.repeat_penalty),
            frequency: f64::from(config.frequency_penalty),
            presence: f64::from(config.presence_penalty),
            sorted: Vec::new(),
        }
    }

    pub(crate) fn is_neutral(&self) -> bool {
        self.repeat == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    /// Lowers the logits of the tokens in `window`; ids outside the vocabulary have none.
    pub(crate) fn apply(&mut self, logits: &mut [f32], window: &[u32]) {
        self.sorted.clear();
        self.sorted.extend_from_slice(window);
        self.sorted.sort_unstable();
        for run in self.sorted.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(run[0] as usize) else {
                continue;
            };
            let count = run.len() as f64;
            edit(logit, |x| {
                let scaled = if x > 0.0 {
                    x / self.repeat
                } else {
                    x * self.repeat
                };
                scaled - (count * self.frequency + self.presence)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    fn penalties(repeat: f64, frequency: f64, presence: f64) -> Penalties {
        Penalties {
            repeat,
            frequency,
            presence,
            sorted: Vec::new(),
        }
    }

    #[test]
    fn repeat_penalty_moves_both_signs_down() {
        let mut xs = [2.0, -2.0, 3.0];
        penalties(2.0, 0.0, 0.0).apply(&mut xs, &[0, 1, 1]);
        assert_eq!(xs, [1.0, -4.0, 3.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let mut xs = [5.0, 5.0, 5.0];
        penalties(1.0, 0.5, 1.0).apply(&mut xs, &[1, 0, 1, 1]);
        assert_eq!(xs, [3.5, 2.5, 5.0]);
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_no_matter() {
        let mut xs = [5.0];
        penalties(1.0, 0.5, 1.0).apply(&mut xs, &[7, u32::MAX]);
        assert_eq!(xs, [5.0]);
    }

    #[test]
    fn neutral_is_told_from_the_three_numbers() {
        assert!(Penalties::new(&SamplerConfig::default()).is_neutral());
        for p in [
            penalties(1.1, 0.0, 0.0),
            penalties(1.0, 0.1, 0.0),
            penalties(1.0, 0.0, -0.1),
        ] {
            assert!(!p.is_neutral());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_counting_token_by_token(
            xs in logits(1..20),
            window in prop::collection::vec(0u32..20, 0..60),
            repeat in 0.5f64..2.0, frequency in -1.0f64..1.0, presence in -1.0f64..1.0,
        ) {
            let mut edited = xs.clone();
            penalties(repeat, frequency, presence).apply(&mut edited, &window);
            for (id, (&before, &after)) in xs.iter().zip(&edited).enumerate() {
                let count = window.iter().filter(|&&t| t as usize == id).count();
                let x = f64::from(before);
                let scaled = x * if x > 0.0 { 1.0 / repeat } else { repeat };
                let expected = scaled - frequency * count as f64 - presence;
                let expected = if count == 0 { before } else { expected as f32 };
                let same = after == expected;
                prop_assert!(same || (after - expected).abs() <= expected.abs() * 1e-6);
            }
        }

        #[test]
        fn order_of_the_window_does_not_matter(
            xs in logits(1..20), mut window in prop::collection::vec(0u32..20, 0..60),
        ) {
            let (mut forward, mut backward) = (xs.clone(), xs);
            let mut p = penalties(1.3, 0.2, 0.4);
            p.apply(&mut forward, &window);
            window.reverse();
            p.apply(&mut backward, &window);
            prop_assert_eq!(forward, backward);
        }
    }
}
