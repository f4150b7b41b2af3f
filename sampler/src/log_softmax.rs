//! Log probabilities under the model itself, before any sampling stage.
//!
//! Perplexity and the log probabilities an API reports need these numbers; a chain's own
//! candidates tell only what is left after truncation. The normaliser is summed once, in
//! f64 and in the order of the ids.

use crate::argmax;
use crate::candidates::TokenLogprob;
use crate::error::SamplerError;
use crate::stages::top_k;

/// Logits with the normaliser that turns them into log probabilities.
#[derive(Debug, Clone, Copy)]
pub struct LogSoftmax<'a> {
    logits: &'a [f32],
    max: f64,
    /// `ln Σ exp(logit − max)`
    log_mass: f64,
}

impl<'a> LogSoftmax<'a> {
    /// Computes the normaliser of `logits`, of which −∞ has probability 0.
    ///
    /// # Errors
    ///
    /// Those of [`argmax()`].
    pub fn new(logits: &'a [f32]) -> Result<Self, SamplerError> {
        let best = argmax(logits)?;
        let max = f64::from(logits[best as usize]);
        let mass: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - max)).sum();
        let log_mass = libm::log(mass);
        Ok(Self {
            logits,
            max,
            log_mass,
        })
    }

    /// Returns the log probability of a token, `None` outside the vocabulary.
    #[must_use]
    pub fn logprob(&self, token: u32) -> Option<f64> {
        let logit = *self.logits.get(token as usize)?;
        Some(f64::from(logit) - self.max - self.log_mass)
    }

    /// Returns the `n` most probable tokens, best first, ties by lowest id; fewer if more
    /// of the vocabulary is masked.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<TokenLogprob> {
        let mut keys = Vec::new();
        let selected = top_k::select(self.logits, n.max(1), f64::NEG_INFINITY, &mut keys);
        debug_assert!(selected.is_ok(), "the logits were checked by `new`");
        keys.truncate(n);
        let ids = keys.into_iter().map(|key| key.id());
        ids.filter_map(|id| self.logprob(id).map(|logprob| TokenLogprob { id, logprob }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    #[test]
    fn tokens_outside_the_vocabulary_have_no_logprob() {
        let logits = [1.0, 2.0];
        assert_eq!(LogSoftmax::new(&logits).unwrap().logprob(2), None);
    }

    #[test]
    fn masked_tokens_have_probability_zero() {
        let logits = [1.0, f32::NEG_INFINITY];
        let table = LogSoftmax::new(&logits).unwrap();
        assert_eq!(table.logprob(0), Some(0.0));
        assert_eq!(table.logprob(1), Some(f64::NEG_INFINITY));
        assert_eq!(table.top(5).len(), 1);
    }

    #[test]
    fn invalid_logits_are_errors() {
        let error = LogSoftmax::new(&[0.0, f32::NAN]).unwrap_err();
        assert_eq!(error, SamplerError::NanLogit { token: 1 });
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one(xs in logits(1..300)) {
            let table = LogSoftmax::new(&xs).unwrap();
            let sum: f64 = (0..xs.len() as u32).map(|id| table.logprob(id).unwrap().exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-12);
        }

        #[test]
        fn top_is_the_head_of_the_sorted_vocabulary(xs in logits(1..300), n in 0usize..40) {
            let mut order: Vec<u32> = (0..xs.len() as u32).collect();
            order.sort_by(|&a, &b| xs[b as usize].total_cmp(&xs[a as usize]));
            order.retain(|&id| xs[id as usize] > f32::NEG_INFINITY);
            order.truncate(n);
            let top = LogSoftmax::new(&xs).unwrap().top(n);
            prop_assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), order);
        }
    }
}
