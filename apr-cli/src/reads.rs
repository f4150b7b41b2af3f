//! What a token reads and multiplies, counted from the model's own matrices.

use moe_model::{Config, Experts, LayerView, Model, kv_bytes};
use quant_kernels::{KV_BLOCK, KvType, MatRef};

use crate::error::Error;

/// Bytes that passes read.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    pub(crate) n_params: u64,
    /// Weights that a batch reads once, whatever its tokens are.
    dense_bytes: u64,
    /// A row of the embedding, one per token; nothing if the output matrix holds it too.
    row_bytes: u64,
    /// One expert of each layer.
    expert_bytes: Vec<u64>,
    /// Products with weights in the layers, per token, and in the head, which a prompt asks
    /// for once. Attention is not among them: it multiplies floats.
    layer_products: u64,
    head_products: u64,
    config: Config,
}

impl Reads {
    pub(crate) fn of(model: &Model<'_>) -> Self {
        let (config, weights) = (model.config(), model.weights());
        let n_bytes = |matrix: &MatRef<'_>| matrix.bytes().len() as u64;
        let n_weights = |matrix: &MatRef<'_>| matrix.n_rows() as u64 * matrix.n_cols() as u64;
        let n_used = config.n_expert_used as u64;
        let mut reads = Self {
            n_params: weights.n_weights(),
            dense_bytes: n_bytes(&weights.output),
            row_bytes: 0,
            expert_bytes: Vec::with_capacity(config.n_layer),
            layer_products: 0,
            head_products: config.n_embd as u64 * config.n_vocab as u64,
            config: config.clone(),
        };
        if !weights.is_tied() {
            reads.row_bytes = n_bytes(&weights.token_embd) / config.n_vocab as u64;
        }
        for layer in &weights.layers {
            let dense = layer.dense();
            let experts = layer.experts().map(first);
            reads.dense_bytes += dense.map(n_bytes).iter().sum::<u64>();
            reads.expert_bytes.push(experts.iter().map(n_bytes).sum());
            let of_experts: u64 = experts.iter().map(n_weights).sum();
            reads.layer_products += dense.map(n_weights).iter().sum::<u64>() + n_used * of_experts;
        }
        reads
    }

    /// Returns the weights that a single token reads, which goes to `n_expert_used` different
    /// experts of each layer.
    pub(crate) fn bytes_per_token(&self) -> u64 {
        let experts: u64 = self.expert_bytes.iter().sum();
        self.dense_bytes + self.row_bytes + experts * self.config.n_expert_used as u64
    }

    /// Returns what a position of context adds.
    pub(crate) fn kv_bytes_per_position(&self, keys: KvType, values: KvType) -> Result<u64, Error> {
        let block = kv_bytes(&self.config, keys, values, KV_BLOCK)?;
        Ok(u64::try_from(block / KV_BLOCK as u128).unwrap_or(u64::MAX))
    }

    /// Returns the products of a prompt, attention not counted.
    pub(crate) const fn products(&self, n_prompt: usize) -> u64 {
        n_prompt as u64 * self.layer_products + self.head_products
    }
}

/// Returns one of a layer's experts; they are all alike.
fn first<'a>(experts: &Experts<'a>) -> MatRef<'a> {
    experts.of(0)
}

/// Counts the weights that passes read, by the experts that tokens really go to. Tokens of a
/// batch that go to the same one read it once.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    reads: &'a Reads,
    is_chosen: Vec<bool>,
    n_bytes: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(reads: &'a Reads) -> Self {
        Self {
            reads,
            is_chosen: vec![false; reads.config.n_expert],
            n_bytes: 0,
        }
    }

    /// Adds a layer of a batch.
    pub(crate) fn add(&mut self, view: &LayerView<'_>) {
        if view.layer == 0 {
            let n_tokens = view.places.len() as u64;
            self.n_bytes += self.reads.dense_bytes + n_tokens * self.reads.row_bytes;
        }
        self.is_chosen.fill(false);
        for route in view.routes {
            self.is_chosen[route.expert as usize] = true;
        }
        let n_chosen = self.is_chosen.iter().filter(|&&is| is).count() as u64;
        self.n_bytes += n_chosen * self.reads.expert_bytes[view.layer];
    }

    /// Returns the bytes since the last call.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    /// By hand: per layer the four matrices of attention, the router, and three matrices of
    /// each of four experts out of sixteen.
    #[test]
    fn a_token_multiplies_with_the_experts_that_it_goes_to() {
        let file = builtin::file();
        let model = Model::read(&file.contents().unwrap()).unwrap();
        let reads = Reads::of(&model);
        let attention = 256 * 256 + 2 * 128 * 256 + 256 * 256;
        let per_layer = attention + 16 * 256 + 4 * 3 * 256 * 256;
        assert_eq!(reads.layer_products, 4 * per_layer);
        assert_eq!(reads.head_products, 2048 * 256);
        let all = 4 * (attention + 16 * 256 + 16 * 3 * 256 * 256);
        let norms = 4 * (2 * 256 + 2 * 64) + 256;
        assert_eq!(reads.n_params, all + norms + 2 * 2048 * 256);
        let n_bytes = reads.bytes_per_token();
        assert!(n_bytes < file.n_bytes() / 2, "{n_bytes}");
    }
}
