//! Buffers that passes use again.
//!
//! Buffers grow to the size of the largest batch seen and stay, so decoding allocates
//! nothing. They hold nothing between passes: any sequences of a model may share them.

use quant_kernels::{Activations, AttentionScratch, AttentionSpan, Product, Term};

use crate::{
    Config, Model, ModelError, batch::Batch, error::in_range, kv_cache::KvWrite, rope::RopeTable,
    router::Route,
};

/// Buffers of forward passes, shared by all sequences that take part in them. `T` is the
/// number of rows in a batch.
#[derive(Debug)]
pub struct Workspace {
    /// Of the model it was made for.
    pub(crate) config: Config,
    /// Rows that go through the layers together.
    pub(crate) batch_len: usize,
    /// The rows on their way.
    pub(crate) batch: Batch,
    /// Cosines and sines of the rows' positions.
    pub(crate) rope: RopeTable,
    /// Row numbers `0, 1, 2, …`.
    pub(crate) rows: Vec<u32>,
    /// Residual stream `[T, E]`.
    pub(crate) residual: Vec<f32>,
    /// What the products of a phase read.
    pub(crate) activations: Activations,
    /// Queries, keys and values `[T, (H + 2K)·D]`.
    pub(crate) qkv: Vec<f32>,
    /// Attention before its output product `[T, H·D]`.
    pub(crate) attended: Vec<f32>,
    /// Partial results of the attention.
    pub(crate) attention: AttentionScratch,
    /// Scores of the router `[T, X]`.
    pub(crate) scores: Vec<f32>,
    /// Chosen experts `[T, U]`.
    pub(crate) routes: Vec<Route>,
    /// Who works for which token.
    pub(crate) plan: Plan,
    /// Inner activations of the experts `[T·U, F]`.
    pub(crate) gated: Vec<f32>,
    /// Empty lists, for their memory.
    pub(crate) products: Vec<Product<'static>>,
    pub(crate) writes: Vec<KvWrite<'static>>,
    pub(crate) spans: Vec<AttentionSpan<'static>>,
    /// Logits of the asked rows `[_, V]`.
    pub(crate) logits: Vec<f32>,
    /// Where the logits of each span end.
    pub(crate) logits_ends: Vec<usize>,
}

/// The tokens of a batch, sorted by expert. A slot is a row of the expert buffers.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// First slot of each expert, and the end of the last `[X + 1]`.
    pub(crate) starts: Vec<usize>,
    /// Token of each slot `[T·U]`.
    pub(crate) tokens: Vec<u32>,
    /// Slot of each token's `u`-th expert, and its share `[T, U]`.
    pub(crate) terms: Vec<Term>,
}

impl Workspace {
    /// Makes buffers for passes through a model, `batch_len` rows going through the layers
    /// together. They grow to the size of the largest batch seen and stay.
    ///
    /// # Errors
    /// `batch_len` is zero or too large.
    pub fn new(model: &Model<'_>, batch_len: usize) -> Result<Self, ModelError> {
        const LARGEST_BATCH: usize = 1 << 16;
        let config = model.config();
        // Rows of expert inputs are numbered in 32 bits.
        let n_rows = u32::MAX as usize / config.n_expert_used;
        in_range("batch_len", batch_len, LARGEST_BATCH.min(n_rows))?;
        Ok(Self {
            config: config.clone(),
            batch_len,
            batch: Batch::default(),
            rope: RopeTable::new(&config.rope, config.head_dim),
            rows: Vec::new(),
            residual: Vec::new(),
            activations: Activations::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            attention: AttentionScratch::default(),
            scores: Vec::new(),
            routes: Vec::new(),
            plan: Plan::default(),
            gated: Vec::new(),
            products: Vec::new(),
            writes: Vec::new(),
            spans: Vec::new(),
            logits: Vec::new(),
            logits_ends: Vec::new(),
        })
    }

    /// Sets the lengths for the rows of the batch.
    pub(crate) fn resize(&mut self) {
        let (config, n_tokens) = (&self.config, self.batch.tokens.len());
        let n_slots = n_tokens * config.n_expert_used;
        self.rows.clear();
        self.rows.extend((0..).take(n_slots.max(n_tokens)));
        self.residual.resize(n_tokens * config.n_embd, 0.0);
        self.qkv.resize(n_tokens * config.qkv_len(), 0.0);
        self.attended.resize(n_tokens * config.q_len(), 0.0);
        self.scores.resize(n_tokens * config.n_expert, 0.0);
        self.routes.resize(n_slots, Route::default());
        self.gated.resize(n_slots * config.n_ff_exp, 0.0);
    }
}

/// Empties a list and gives it elements of another lifetime, keeping its memory: collecting
/// an iterator over a list into a list of the same layout is done in place.
pub(crate) fn recycle<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter()
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
        let recycled: Vec<Product<'_>> = recycle(products);
        assert!(recycled.is_empty());
        assert_eq!(
            (recycled.as_ptr() as usize, recycled.capacity()),
            (start, capacity)
        );
    }
}
