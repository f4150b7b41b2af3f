//! The tokens that are still in the draw, best first.
//!
//! Stages after top-k see this list and only ever shorten or rescale it. Order is by
//! descending logit, ties by lowest id, and each sum runs down the list, so the numbers do
//! not depend on where in the vocabulary a token lies. A candidate carries its weight
//! `exp(logit − best logit)` instead of a probability: the head weighs 1, and a truncation
//! needs no new normalisation. All of it is f64, and `exp` is libm's in pure Rust, because
//! the platform's may round differently on another machine.

use crate::rank::Key;

/// A token with the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Logarithm of its probability, at most 0.
    pub logprob: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f64,
    /// `exp(logit − logit of the head)`, in `[0, 1]`.
    pub(crate) weight: f64,
}

/// A list that is sorted, and never empty once it was filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    list: Vec<Candidate>,
}

impl Candidates {
    /// Replaces the list by the tokens of `keys`, which are sorted.
    pub(crate) fn fill(&mut self, keys: &[Key], logits: &[f32]) {
        self.list.clear();
        self.list.extend(keys.iter().map(|key| Candidate {
            id: key.id(),
            logit: f64::from(logits[key.id() as usize]),
            weight: 0.0,
        }));
        self.reweigh();
    }

    /// Replaces the list by one token, which is then certain.
    pub(crate) fn fill_with(&mut self, id: u32) {
        self.list.clear();
        self.list.push(Candidate {
            id,
            logit: 0.0,
            weight: 1.0,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn as_slice(&self) -> &[Candidate] {
        &self.list
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Keeps the first `n`, at least one.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.list.truncate(n.max(1));
    }

    /// Removes the first `n`, but not the last of all.
    pub(crate) fn remove_head(&mut self, n: usize) {
        self.list.drain(..n.min(self.list.len().saturating_sub(1)));
        self.reweigh();
    }

    /// Keeps the first tokens of another order, as many as `count` says of that order.
    pub(crate) fn keep_first_by(
        &mut self,
        score: impl Fn(&Candidate) -> f64,
        count: impl FnOnce(&[Candidate]) -> usize,
    ) {
        self.list
            .sort_unstable_by(|a, b| score(a).total_cmp(&score(b)).then(a.id.cmp(&b.id)));
        let n = count(&self.list);
        self.truncate(n);
        self.list
            .sort_unstable_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        self.reweigh();
    }

    /// Divides the logits by `temp`, which is positive.
    pub(crate) fn rescale(&mut self, temp: f64) {
        for candidate in &mut self.list {
            candidate.logit /= temp;
        }
        self.reweigh();
    }

    /// Returns the sum of the weights, at least 1 for a list that is not empty.
    pub(crate) fn mass(&self) -> f64 {
        self.list.iter().map(|c| c.weight).sum()
    }

    /// Returns how far a logit lies below the best one: −ln of the weight, without rounding
    /// to zero.
    pub(crate) fn drop(&self, candidate: &Candidate) -> f64 {
        self.list[0].logit - candidate.logit
    }

    /// Returns the expected drop. With the mass Z, the entropy is `mean_drop + ln Z`, as the
    /// surprise of one token is `drop + ln Z`.
    pub(crate) fn mean_drop(&self) -> f64 {
        let sum: f64 = self.list.iter().map(|c| c.weight * self.drop(c)).sum();
        sum / self.mass()
    }

    pub(crate) fn logprobs(&self) -> impl ExactSizeIterator<Item = TokenLogprob> + '_ {
        let log_mass = libm::log(self.mass());
        self.list.iter().map(move |c| TokenLogprob {
            id: c.id,
            logprob: -(self.drop(c) + log_mass),
        })
    }

    fn reweigh(&mut self) {
        let Some(best) = self.list.first().map(|c| c.logit) else {
            return;
        };
        for candidate in &mut self.list {
            candidate.weight = libm::exp(candidate.logit - best);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{candidates, ids, logits, probabilities};

    #[test]
    fn head_is_never_removed_with_the_last() {
        let mut c = candidates(&[1.0, 2.0]);
        c.remove_head(9);
        assert_eq!(ids(&c), [0]);
        c.truncate(0);
        assert_eq!(ids(&c), [0]);
    }

    #[test]
    fn new_head_weighs_one() {
        let mut c = candidates(&[800.0, 2.0, 1.0]);
        c.remove_head(1);
        assert_eq!(c.as_slice()[0].weight, 1.0);
        let mut c = candidates(&[2.0, 1.0, 0.0]);
        c.keep_first_by(|c| c.logit, |_| 2);
        assert_eq!(ids(&c), [1, 2]);
        assert_eq!(c.as_slice()[0].weight, 1.0);
    }

    #[test]
    fn mean_drop_and_mass_give_the_entropy() {
        let c = candidates(&[0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()]);
        let entropy = c.mean_drop() + libm::log(c.mass());
        assert!((entropy - 1.5 * std::f64::consts::LN_2).abs() < 1e-7);
    }

    proptest! {
        #[test]
        fn logprobs_are_those_of_the_softmax(xs in logits(1..50), temp in 0.1f64..5.0) {
            let mut c = candidates(&xs);
            c.rescale(temp);
            for (found, expected) in c.logprobs().zip(probabilities(&c)) {
                prop_assert!(found.logprob <= 0.0);
                prop_assert!((found.logprob.exp() - expected).abs() < 1e-12);
            }
        }
    }
}
