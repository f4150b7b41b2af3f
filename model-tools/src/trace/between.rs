//! Two layers: which experts are chosen together.

use moe_model::Route;

/// Counts of a layer and the one after it.
#[derive(Clone, Debug)]
pub(super) struct Between {
    n_expert: usize,
    /// Tokens that went to an expert here and to another in the next layer `[X, X]`.
    pairs: Vec<u32>,
    /// Choices of the same number in both.
    pub(super) n_same: u64,
}

impl Between {
    pub(super) fn new(n_expert: usize) -> Self {
        Self {
            n_expert,
            pairs: vec![0; n_expert * n_expert],
            n_same: 0,
        }
    }

    /// Adds the choices `[T, U]` of the same tokens in both layers.
    pub(super) fn add(&mut self, here: &[Route], next: &[Route], n_used: usize) {
        for (here, next) in here.chunks_exact(n_used).zip(next.chunks_exact(n_used)) {
            for from in here {
                let row = from.expert as usize * self.n_expert;
                for to in next {
                    let count = &mut self.pairs[row + to.expert as usize];
                    *count = count.saturating_add(1);
                    self.n_same += u64::from(from.expert == to.expert);
                }
            }
        }
    }

    /// Returns the mutual information of an expert here and one in the next layer, both taken
    /// at random from a token's. `here` and `next` count the tokens of the experts.
    pub(super) fn information_bits(
        &self,
        here: &[u64],
        next: &[u64],
        n_tokens: f64,
        n_used: f64,
    ) -> f64 {
        let mut bits = 0.0_f64;
        for (row, &a) in self.pairs.chunks_exact(self.n_expert).zip(here) {
            for (&both, &b) in row.iter().zip(next).filter(|(both, _)| **both > 0) {
                // Of the U² pairs of a token; a choice counts in U of them.
                let both = f64::from(both);
                let ratio = both * n_tokens / (a as f64 * b as f64);
                bits += both / (n_tokens * n_used * n_used) * ratio.log2();
            }
        }
        // Rounding may leave a trace below zero, where nothing is told.
        bits.max(0.0)
    }
}
