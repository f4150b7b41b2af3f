//! What one sequence needs beside the model when it has passes for itself.

use quant_kernels::KvType;

use crate::{KvCache, Model, ModelError, Workspace};

/// A sequence with buffers of its own, that a forward pass continues.
#[derive(Debug)]
pub struct State {
    pub(crate) cache: KvCache,
    pub(crate) workspace: Workspace,
}

/// How a [`State`] is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// Positions the cache may hold.
    pub n_ctx: usize,
    /// How keys are stored.
    pub keys: KvType,
    /// How values are stored.
    pub values: KvType,
    /// Tokens that go through the layers together. It changes speed and memory, not a bit of
    /// the answer.
    pub batch_len: usize,
}

impl StateOptions {
    /// Tokens that go through the layers together if nothing else is said.
    pub const BATCH_LEN: usize = 512;

    /// Returns the defaults for a context: cache in F16, batches of 512.
    #[must_use]
    pub const fn new(n_ctx: usize) -> Self {
        Self {
            n_ctx,
            keys: KvType::F16,
            values: KvType::F16,
            batch_len: Self::BATCH_LEN,
        }
    }
}

impl State {
    /// Makes an empty state for a model.
    ///
    /// # Errors
    /// An option is zero or too large, or the cache cannot have the model's shape.
    pub fn new(model: &Model<'_>, options: StateOptions) -> Result<Self, ModelError> {
        let StateOptions {
            n_ctx,
            keys,
            values,
            batch_len,
        } = options;
        Ok(Self {
            cache: KvCache::new(model, n_ctx, keys, values)?,
            workspace: Workspace::new(model, batch_len)?,
        })
    }

    /// Returns the cache.
    #[must_use]
    pub const fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Returns the number of positions seen.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.cache.len()
    }

    /// Returns whether nothing has been seen.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Returns how many positions there may be.
    #[must_use]
    pub const fn n_ctx(&self) -> usize {
        self.cache.n_ctx()
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }

    /// Allocates the cache for `n` positions in all, so that none is allocated on the way.
    pub fn reserve(&mut self, n: usize) {
        self.cache.reserve(n);
    }
}
