//! What one sequence needs beside the model: its cache, and buffers that are used again.
//!
//! Buffers grow to the size of the largest batch seen and stay, so decoding allocates
//! nothing.

use quant_kernels::{Activations, AttentionScratch, KvShape, KvType, Product};

use crate::{Config, KvCache, Model, ModelError, rope::RopeTable, router::Route};

/// The sequence that a forward pass continues.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) batch_len: usize,
    pub(crate) cache: KvCache,
    pub(crate) buffers: Buffers,
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
        const LARGEST_BATCH: usize = 1 << 16;
        let config = model.config().clone();
        in_range("n_ctx", options.n_ctx, u32::MAX as usize)?;
        // Rows of expert inputs are numbered in 32 bits.
        let n_rows = u32::MAX as usize / config.n_expert_used;
        in_range("batch_len", options.batch_len, LARGEST_BATCH.min(n_rows))?;
        let shape = kv_shape(&config, options.keys, options.values)?;
        Ok(Self {
            batch_len: options.batch_len,
            cache: KvCache::new(shape, options.n_ctx),
            buffers: Buffers::new(&config),
            config,
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

/// Returns the bytes that a cache of `n` positions takes.
///
/// # Errors
/// If the cache cannot have the model's shape.
pub fn kv_bytes(
    config: &Config,
    keys: KvType,
    values: KvType,
    n: usize,
) -> Result<u128, ModelError> {
    let shape = kv_shape(config, keys, values)?;
    Ok(n.div_ceil(quant_kernels::KV_BLOCK) as u128 * shape.block_bytes() as u128)
}

fn kv_shape(config: &Config, keys: KvType, values: KvType) -> Result<KvShape, ModelError> {
    KvShape::new(
        keys,
        values,
        config.n_layer,
        config.n_head_kv,
        config.head_dim,
    )
    .map_err(|source| ModelError::Kernel {
        what: "the key/value cache".to_owned(),
        source,
    })
}

fn in_range(option: &'static str, found: usize, largest: usize) -> Result<(), ModelError> {
    if (1..=largest).contains(&found) {
        return Ok(());
    }
    Err(ModelError::Option {
        option,
        expected: format!("1 to {largest}"),
        found,
    })
}

/// Buffers of a forward pass. `T` is the number of tokens in a batch.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Cosines and sines of the batch's positions.
    pub(crate) rope: RopeTable,
    /// Row numbers `0, 1, 2, …`.
    pub(crate) rows: Vec<u32>,
    /// Residual stream `[T, E]`.
    pub(crate) residual: Vec<f32>,
    /// The residual stream after a norm `[T, E]`.
    pub(crate) normed: Vec<f32>,
    /// What the products of a phase read.
    pub(crate) activations: Activations,
    /// Queries, keys and values `[T, (H + 2K)·D]`.
    pub(crate) qkv: Vec<f32>,
    /// Queries and keys after norm and rotation `[T, (H + K)·D]`.
    pub(crate) rotated: Vec<f32>,
    /// Attention before its output product `[T, H·D]`.
    pub(crate) attended: Vec<f32>,
    /// Partial results of the attention.
    pub(crate) attention: AttentionScratch,
    /// Output of attention `[T, E]`.
    pub(crate) attn_out: Vec<f32>,
    /// Scores of the router `[T, X]`.
    pub(crate) scores: Vec<f32>,
    /// Chosen experts `[T, U]`.
    pub(crate) routes: Vec<Route>,
    /// Who works for which token.
    pub(crate) plan: Plan,
    /// Inner activations of the experts `[T·U, F]`.
    pub(crate) gated: Vec<f32>,
    /// Outputs of the experts `[T·U, E]`.
    pub(crate) expert_out: Vec<f32>,
    /// Empty lists of products, for their memory.
    pub(crate) products: Vec<Product<'static>>,
    /// Logits of the asked rows `[_, V]`.
    pub(crate) logits: Vec<f32>,
}

/// The tokens of a batch, sorted by expert. A slot is a row of the expert buffers.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// First slot of each expert, and the end of the last `[X + 1]`.
    pub(crate) starts: Vec<usize>,
    /// Token of each slot `[T·U]`.
    pub(crate) tokens: Vec<u32>,
    /// Slot of each token's `u`-th expert `[T, U]`.
    pub(crate) slots: Vec<usize>,
}

impl Buffers {
    fn new(config: &Config) -> Self {
        Self {
            rope: RopeTable::new(&config.rope, config.head_dim),
            rows: Vec::new(),
            residual: Vec::new(),
            normed: Vec::new(),
            activations: Activations::new(),
            qkv: Vec::new(),
            rotated: Vec::new(),
            attended: Vec::new(),
            attention: AttentionScratch::default(),
            attn_out: Vec::new(),
            scores: Vec::new(),
            routes: Vec::new(),
            plan: Plan::default(),
            gated: Vec::new(),
            expert_out: Vec::new(),
            products: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Sets the lengths for a batch of `n_tokens`.
    pub(crate) fn resize(&mut self, config: &Config, n_tokens: usize) {
        let n_slots = n_tokens * config.n_expert_used;
        let rotated_len = config.q_len() + config.kv_len();
        self.rows.clear();
        self.rows.extend((0..).take(n_slots.max(n_tokens)));
        self.residual.resize(n_tokens * config.n_embd, 0.0);
        self.normed.resize(n_tokens * config.n_embd, 0.0);
        self.qkv.resize(n_tokens * config.qkv_len(), 0.0);
        self.rotated.resize(n_tokens * rotated_len, 0.0);
        self.attended.resize(n_tokens * config.q_len(), 0.0);
        self.attn_out.resize(n_tokens * config.n_embd, 0.0);
        self.scores.resize(n_tokens * config.n_expert, 0.0);
        self.routes.resize(n_slots, Route::default());
        self.gated.resize(n_slots * config.n_ff_exp, 0.0);
        self.expert_out.resize(n_slots * config.n_embd, 0.0);
    }
}

/// Gives an empty list the lifetime of other products, keeping its memory: collecting an
/// iterator over a list into a list of the same layout is done in place.
pub(crate) fn recycle<'a>(mut products: Vec<Product<'_>>) -> Vec<Product<'a>> {
    products.clear();
    products
        .into_iter()
        .map(|_| unreachable!("the list was cleared"))
        .collect()
}

#[cfg(test)]
mod tests {
    use quant_kernels::{MatRef, QuantType};

    use super::*;

    #[test]
    fn a_recycled_list_keeps_its_memory() {
        let bytes = [0; 8];
        let w = MatRef::new(QuantType::F32, 1, 2, &bytes).unwrap();
        let product = Product {
            w,
            up: None,
            x_rows: &[0],
            out_row: 0,
            out_col: 0,
        };
        let products = vec![product; 9];
        let (start, capacity) = (products.as_ptr() as usize, products.capacity());
        let recycled = recycle(products);
        assert!(recycled.is_empty());
        assert_eq!(
            (recycled.as_ptr() as usize, recycled.capacity()),
            (start, capacity)
        );
    }
}
