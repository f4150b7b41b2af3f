//! Which experts a model chooses while it reads a text: how often, with what weight, and what
//! one choice tells of the next.
//!
//! [`RoutingSums`] collects from the layers of passes and keeps counts, not choices: memory
//! depends on the model's layers and experts alone, a text may be of any length. Counts are
//! whole numbers, and weights are added in the order of the tokens, so neither batches nor
//! threads change a bit. What the sums mean is said by [`LayerRouting`], which experts are
//! worth holding by [`RoutingSums::coverage`], and [`HeatMap`] draws them.

mod between;
mod colours;
mod coverage;
mod heat_map;
mod layer;
mod png;

use moe_model::{Config, LayerView, Place, Route};

use self::{between::Between, layer::LayerSums};
pub use self::{
    coverage::{Coverage, Hot, expert_bytes},
    heat_map::HeatMap,
    layer::{LayerRouting, Overlap},
};

/// Counts of the experts that tokens went to, in every layer.
#[derive(Clone, Debug)]
pub struct RoutingSums {
    n_expert: usize,
    n_expert_used: usize,
    layers: Vec<LayerSums>,
    /// Of each layer and the one after it.
    between: Vec<Between>,
    /// What the layer before chose for the tokens of the batch.
    before: Vec<Route>,
}

impl RoutingSums {
    /// Begins for a model.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (n_layer, n_expert) = (config.n_layer, config.n_expert);
        let layer = LayerSums::new(n_expert, config.n_expert_used);
        Self {
            n_expert,
            n_expert_used: config.n_expert_used,
            layers: vec![layer; n_layer],
            between: vec![Between::new(n_expert); n_layer.saturating_sub(1)],
            before: Vec::new(),
        }
    }

    /// Returns what the sums of a model take in memory.
    #[must_use]
    pub fn n_bytes(config: &Config) -> u128 {
        let n_expert = config.n_expert as u128;
        config.n_layer as u128 * n_expert * (16 + 4 * n_expert)
    }

    /// Adds a layer of a batch. Passes show their layers in ascending order.
    ///
    /// Tokens are neighbours if one stands a position behind the other in the same span, so
    /// passes continue one sequence until the next one begins at position 0.
    pub fn add(&mut self, view: &LayerView<'_>) {
        self.add_rows(view.layer, view.places, view.routes);
    }

    fn add_rows(&mut self, layer: usize, places: &[Place], routes: &[Route]) {
        self.layers[layer].add(places, routes);
        if let Some(before) = layer.checked_sub(1) {
            self.between[before].add(&self.before, routes, self.n_expert_used);
        }
        self.before.clear();
        self.before.extend_from_slice(routes);
    }

    /// Returns the number of layers.
    #[must_use]
    pub const fn n_layer(&self) -> usize {
        self.layers.len()
    }

    /// Returns the number of experts of a layer.
    #[must_use]
    pub const fn n_expert(&self) -> usize {
        self.n_expert
    }

    /// Returns the number of experts that a token goes to.
    #[must_use]
    pub const fn n_expert_used(&self) -> usize {
        self.n_expert_used
    }

    /// Returns the number of tokens that every layer has seen.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.layers.last().map_or(0, |layer| layer.n_tokens)
    }

    /// Returns what is known of a layer.
    ///
    /// # Panics
    /// If there is no such layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> LayerRouting<'_> {
        LayerRouting {
            sums: &self.layers[layer],
            next: self.layers.get(layer + 1).zip(self.between.get(layer)),
            n_expert_used: self.n_expert_used,
        }
    }

    /// Iterates over all layers.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerRouting<'_>> {
        (0..self.n_layer()).map(|layer| self.layer(layer))
    }
}

#[cfg(test)]
mod testing {
    //! Sums of choices that are written out.

    use moe_model::{Place, Route};

    use super::{Between, LayerSums, RoutingSums};

    /// Adds up tokens of one sequence; `tokens[t][layer]` are the experts of a token.
    pub(super) fn sums<const L: usize, const U: usize>(
        n_expert: usize,
        tokens: &[[[u32; U]; L]],
    ) -> RoutingSums {
        let mut sums = RoutingSums {
            n_expert,
            n_expert_used: U,
            layers: vec![LayerSums::new(n_expert, U); L],
            between: vec![Between::new(n_expert); L - 1],
            before: Vec::new(),
        };
        for (position, token) in tokens.iter().enumerate() {
            for (layer, experts) in token.iter().enumerate() {
                let place = Place { span: 0, position };
                let weight = 1.0 / U as f32;
                let routes = experts.map(|expert| Route { expert, weight });
                sums.add_rows(layer, &[place], &routes);
            }
        }
        sums
    }

    /// Returns numbers below `n` that look like chance.
    pub(super) fn noise(n: u32) -> impl FnMut() -> u32 {
        let mut state = 1_u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % u64::from(n)) as u32
        }
    }
}
