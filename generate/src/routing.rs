//! Which experts the tokens of a sequence went to.

use moe_model::{Config, LayerView, Route};

/// The choices of the router for every token of a sequence, in every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    n_layer: usize,
    n_used: usize,
    /// `[T, L, U]`.
    routes: Vec<Route>,
}

impl Routing {
    pub(crate) const fn new(config: &Config) -> Self {
        Self {
            n_layer: config.n_layer,
            n_used: config.n_expert_used,
            routes: Vec::new(),
        }
    }

    /// Returns the number of tokens.
    #[must_use]
    pub const fn n_tokens(&self) -> usize {
        self.routes.len() / (self.n_layer * self.n_used)
    }

    /// Iterates over the layers of a token, first to last: the experts that it went to, in the
    /// router's order, each with its share of the output.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn of(&self, token: usize) -> impl ExactSizeIterator<Item = &[Route]> {
        let len = self.n_layer * self.n_used;
        self.routes[token * len..][..len].chunks_exact(self.n_used)
    }

    /// Takes a layer of a batch.
    pub(crate) fn add(&mut self, view: &LayerView<'_>) {
        let rows = view.routes.chunks_exact(self.n_used);
        for (place, routes) in view.places.iter().zip(rows) {
            let len = (place.position + 1) * self.n_layer * self.n_used;
            if self.routes.len() < len {
                self.routes.resize(len, Route::default());
            }
            let at = (place.position * self.n_layer + view.layer) * self.n_used;
            self.routes[at..][..self.n_used].copy_from_slice(routes);
        }
    }

    /// Forgets all tokens from `n_tokens` on.
    pub(crate) fn truncate(&mut self, n_tokens: usize) {
        self.routes.truncate(n_tokens * self.n_layer * self.n_used);
    }
}
