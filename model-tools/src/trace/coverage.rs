//! The hottest experts of a model, and what holding them would take.

use std::cmp::Reverse;

use moe_model::Model;

use super::RoutingSums;

/// An expert and how often it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// The layer.
    pub layer: usize,
    /// The expert.
    pub expert: usize,
    /// Tokens that went to it.
    pub count: u64,
}

/// The hottest experts that take a part of the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The part of the choices, in percent.
    pub percent: u32,
    /// Experts of all layers that it takes.
    pub n_experts: usize,
    /// Bytes of their matrices.
    pub n_bytes: u64,
}

/// Returns for each layer the bytes of one expert: its gate, up and down matrices, without
/// what the file may hold beside them. The experts of a layer are all alike.
#[must_use]
pub fn expert_bytes(model: &Model<'_>) -> Vec<u64> {
    let layers = model.weights().layers.iter();
    layers
        .map(|layer| {
            let matrices = layer.experts().map(|experts| experts.of(0).bytes().len());
            matrices.iter().map(|&len| len as u64).sum()
        })
        .collect()
}

impl RoutingSums {
    /// Returns all experts, hottest first; where two are equal, the lower layer and then the
    /// lower number.
    #[must_use]
    pub fn hottest(&self) -> Vec<Hot> {
        let layers = self.layers().enumerate();
        let mut all: Vec<Hot> = layers
            .flat_map(|(layer, routing)| {
                let counts = routing.counts().iter().enumerate();
                counts.map(move |(expert, &count)| Hot {
                    layer,
                    expert,
                    count,
                })
            })
            .collect();
        all.sort_by_key(|hot| Reverse(hot.count));
        all
    }

    /// Returns for each of `percents` how many of the hottest experts take that part of all
    /// choices, and the bytes of them; `expert_bytes` are those of one expert of each layer.
    ///
    /// # Panics
    /// If there are not as many layers.
    #[must_use]
    pub fn coverage(&self, percents: &[u32], expert_bytes: &[u64]) -> Vec<Coverage> {
        assert_eq!(expert_bytes.len(), self.n_layer(), "layers");
        let hottest = self.hottest();
        let n_choices: u128 = hottest.iter().map(|hot| u128::from(hot.count)).sum();
        let cover = |&percent: &u32| {
            let mut coverage = Coverage {
                percent,
                n_experts: 0,
                n_bytes: 0,
            };
            let (mut covered, wanted) = (0, n_choices * u128::from(percent));
            for hot in hottest.iter().take_while(|hot| hot.count > 0) {
                if 100 * covered >= wanted {
                    break;
                }
                covered += u128::from(hot.count);
                coverage.n_experts += 1;
                coverage.n_bytes += expert_bytes[hot.layer];
            }
            coverage
        };
        percents.iter().map(cover).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::sums, *};

    #[test]
    fn the_hottest_experts_cover_and_cost() {
        // Layer 0: expert 1 four times, 0 and 2 twice each; layer 1: expert 3 eight times.
        let tokens = [[[1], [3]], [[1], [3]], [[0], [3]], [[2], [3]]];
        let sums = sums(4, &[tokens, tokens].concat());
        let hot = |layer, expert, count| Hot {
            layer,
            expert,
            count,
        };
        let expected = [hot(1, 3, 8), hot(0, 1, 4), hot(0, 0, 2), hot(0, 2, 2)];
        assert_eq!(sums.hottest()[..4], expected);
        let covered = sums.coverage(&[0, 50, 51, 75, 90, 100], &[10, 7]);
        let covered: Vec<_> = covered.iter().map(|c| (c.n_experts, c.n_bytes)).collect();
        assert_eq!(
            covered,
            [(0, 0), (1, 7), (2, 17), (2, 17), (4, 37), (4, 37)]
        );
    }
}
