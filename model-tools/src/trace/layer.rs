//! One layer: how its tokens are spread over its experts.

use moe_model::{Place, Route};

use super::between::Between;

/// Counts of one layer.
#[derive(Clone, Debug)]
pub(super) struct LayerSums {
    pub(super) n_tokens: u64,
    /// Tokens that went to each expert.
    pub(super) counts: Vec<u64>,
    /// Sum of the weights that each expert had.
    weights: Vec<f64>,
    /// The token seen last, and its experts.
    last: Option<Place>,
    last_experts: Vec<u32>,
    /// Pairs of neighbouring tokens, and choices that both have made.
    n_pairs: u64,
    n_shared: u64,
}

/// What is known of the choices of one layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerRouting<'a> {
    pub(super) sums: &'a LayerSums,
    pub(super) next: Option<(&'a LayerSums, &'a Between)>,
    pub(super) n_expert_used: usize,
}

/// A measure of what two choices have in common, beside what chance would give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// What was found.
    pub found: f64,
    /// What would be found if one choice told nothing of the other.
    pub by_chance: f64,
}

impl LayerSums {
    pub(super) fn new(n_expert: usize, n_expert_used: usize) -> Self {
        Self {
            n_tokens: 0,
            counts: vec![0; n_expert],
            weights: vec![0.0; n_expert],
            last: None,
            last_experts: Vec::with_capacity(n_expert_used),
            n_pairs: 0,
            n_shared: 0,
        }
    }

    /// Adds tokens; `routes` are `[T, U]`.
    pub(super) fn add(&mut self, places: &[Place], routes: &[Route]) {
        let n_used = routes.len() / places.len().max(1);
        for (place, routes) in places.iter().zip(routes.chunks_exact(n_used.max(1))) {
            let is_next = self
                .last
                .is_some_and(|last| (last.span, last.position + 1) == (place.span, place.position));
            if is_next {
                let is_shared = |route: &&Route| self.last_experts.contains(&route.expert);
                self.n_pairs += 1;
                self.n_shared += routes.iter().filter(is_shared).count() as u64;
            }
            for route in routes {
                self.counts[route.expert as usize] += 1;
                self.weights[route.expert as usize] += f64::from(route.weight);
            }
            self.n_tokens += 1;
            self.last = Some(*place);
            self.last_experts.clear();
            self.last_experts
                .extend(routes.iter().map(|route| route.expert));
        }
    }
}

impl<'a> LayerRouting<'a> {
    /// Returns how many tokens went to each expert `[X]`.
    #[must_use]
    pub fn counts(&self) -> &'a [u64] {
        &self.sums.counts
    }

    /// Returns the share of the tokens that went to an expert.
    ///
    /// # Panics
    /// If there is no such expert.
    #[must_use]
    pub fn share(&self, expert: usize) -> f64 {
        self.sums.counts[expert] as f64 / self.sums.n_tokens as f64
    }

    /// Returns the mean weight of an expert over the tokens that went to it, if any did.
    ///
    /// # Panics
    /// If there is no such expert.
    #[must_use]
    pub fn mean_weight(&self, expert: usize) -> Option<f64> {
        let n = self.sums.counts[expert];
        (n > 0).then(|| self.sums.weights[expert] / n as f64)
    }

    /// Returns the entropy of the choices in bits: log2 of the number of experts if all are
    /// chosen alike.
    #[must_use]
    pub fn entropy_bits(&self) -> f64 {
        let n_choices = self.n_choices();
        let terms = self.counts().iter().filter(|&&count| count > 0);
        let terms = terms.map(|&count| {
            let share = count as f64 / n_choices;
            share * (1.0 / share).log2()
        });
        terms.sum()
    }

    /// Returns the number of experts that are an eighth of all, rounded up.
    #[must_use]
    pub fn n_eighth(&self) -> usize {
        self.counts().len().div_ceil(8)
    }

    /// Returns the share of the choices that fell on the hottest eighth of the experts.
    #[must_use]
    pub fn hottest_eighth(&self) -> f64 {
        let mut counts = self.counts().to_vec();
        counts.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
        let hottest: u64 = counts[..self.n_eighth()].iter().sum();
        hottest as f64 / self.n_choices()
    }

    /// Iterates over the experts that no token went to.
    pub fn never_chosen(&self) -> impl Iterator<Item = usize> + use<'a> {
        let counts = self.counts().iter().enumerate();
        counts.filter_map(|(expert, &count)| (count == 0).then_some(expert))
    }

    /// Returns the share of a token's experts that its neighbour goes to as well, beside the
    /// share for two tokens taken at random from all of the text; `None` without neighbours.
    #[must_use]
    pub fn next_token(&self) -> Option<Overlap> {
        let LayerSums {
            n_pairs,
            n_shared,
            n_tokens,
            ..
        } = *self.sums;
        let n_used = self.n_expert_used as f64;
        (n_pairs > 0).then(|| {
            let pairs = self.counts().iter();
            let shared: f64 = pairs.map(|&n| n as f64 * n.saturating_sub(1) as f64).sum();
            let all = n_tokens as f64 * n_tokens.saturating_sub(1) as f64;
            Overlap {
                found: n_shared as f64 / (n_pairs as f64 * n_used),
                by_chance: shared / (all * n_used),
            }
        })
    }

    /// Returns the share of a token's experts whose numbers it chooses in the next layer too.
    /// Experts of two layers that share a number have nothing in common by design, so this is
    /// expected to be chance. `None` for the last layer.
    #[must_use]
    pub fn next_layer_same(&self) -> Option<Overlap> {
        let (next, between) = self.next?;
        let (n_tokens, n_used) = (self.sums.n_tokens as f64, self.n_expert_used as f64);
        let both = self.counts().iter().zip(&next.counts);
        let shared: f64 = both.map(|(&a, &b)| a as f64 * b as f64).sum();
        Some(Overlap {
            found: between.n_same as f64 / (n_tokens * n_used),
            by_chance: shared / (n_tokens * n_tokens * n_used),
        })
    }

    /// Returns how many bits one of a token's experts, taken at random, tells of one that the
    /// token chooses in the next layer: their mutual information. By chance is what
    /// independent layers would show in a text of this length. `None` for the last layer.
    #[must_use]
    pub fn next_layer_bits(&self) -> Option<Overlap> {
        let (next, between) = self.next?;
        let (n_tokens, n_used) = (self.sums.n_tokens as f64, self.n_expert_used as f64);
        let free = |counts: &[u64]| {
            let n_chosen = counts.iter().filter(|&&count| count > 0).count();
            n_chosen as f64 - n_used
        };
        let free = free(self.counts()) * free(&next.counts);
        Some(Overlap {
            found: between.information_bits(self.counts(), &next.counts, n_tokens, n_used),
            by_chance: free / (2.0 * n_tokens * n_used * n_used * std::f64::consts::LN_2),
        })
    }

    fn n_choices(&self) -> f64 {
        self.sums.n_tokens as f64 * self.n_expert_used as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{noise, sums};

    #[test]
    fn entropy_is_that_of_the_definition() {
        let even = sums(4, &[[[0, 1]], [[2, 3]]]);
        assert_eq!(even.layer(0).entropy_bits(), 2.0);
        let skewed = sums(4, &[[[0, 1]], [[0, 2]]]);
        assert_eq!(skewed.layer(0).entropy_bits(), 1.5);
        assert_eq!(skewed.layer(0).share(0), 1.0);
        assert_eq!(sums(4, &[[[3]], [[3]]]).layer(0).entropy_bits(), 0.0);
    }

    #[test]
    fn the_hottest_eighth_is_rounded_up() {
        let sums = sums(9, &[[[0, 1]], [[0, 2]], [[8, 1]], [[0, 3]]]);
        assert_eq!(sums.layer(0).n_eighth(), 2);
        assert_eq!(sums.layer(0).hottest_eighth(), 5.0 / 8.0);
        let never: Vec<usize> = sums.layer(0).never_chosen().collect();
        assert_eq!(never, [4, 5, 6, 7]);
        assert_eq!(sums.layer(0).mean_weight(8), Some(0.5));
        assert_eq!(sums.layer(0).mean_weight(4), None);
    }

    #[test]
    fn neighbours_overlap_by_what_they_share() {
        let sums = sums(6, &[[[0, 1]], [[1, 2]], [[2, 1]], [[3, 4]]]);
        let overlap = sums.layer(0).next_token().unwrap();
        assert_eq!(overlap.found, (1.0 + 2.0 + 0.0) / 6.0);
        // Of the six pairs of tokens, three share 1, 1 and 2 experts.
        assert_eq!(overlap.by_chance, 4.0 / 12.0);
    }

    #[test]
    fn without_a_neighbour_there_is_no_overlap() {
        assert_eq!(sums(4, &[[[0, 1]]]).layer(0).next_token(), None);
    }

    #[test]
    fn a_layer_that_repeats_the_one_before_tells_all_of_it() {
        let sums = sums(4, &[[[0], [3]], [[1], [2]], [[2], [1]], [[3], [0]]]);
        assert_eq!(sums.layer(0).next_layer_bits().unwrap().found, 2.0);
        let same = sums.layer(0).next_layer_same().unwrap();
        assert_eq!((same.found, same.by_chance), (0.0, 0.25));
        assert_eq!(sums.layer(1).next_layer_bits(), None);
    }

    #[test]
    fn layers_that_do_not_know_each_other_tell_what_chance_says() {
        let mut below = noise(16);
        let mut pair = || {
            let first = below();
            [first, (first + 1 + below() % 15) % 16]
        };
        let tokens: Vec<_> = (0..4000).map(|_| [pair(), pair()]).collect();
        let sums = sums(16, &tokens);
        let bits = sums.layer(0).next_layer_bits().unwrap();
        let ratio = bits.found / bits.by_chance;
        assert!((0.7..1.4).contains(&ratio), "{bits:?}");
        let overlap = sums.layer(0).next_token().unwrap();
        let ratio = overlap.found / overlap.by_chance;
        assert!((0.95..1.05).contains(&ratio), "{overlap:?}");
    }
}
