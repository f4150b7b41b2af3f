//! What a token reads and multiplies, counted from the file's own tensors.

use gguf_format::GgufSet;
use moe_model::{Config, LayerView, kv_bytes};
use quant_kernels::KV_BLOCK;

use super::workload::Test;
use crate::{args::CacheArgs, error::Error};

/// Bytes that passes read.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    pub(super) n_params: u64,
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
    pub(super) fn of(gguf: &GgufSet<'_>, config: &Config) -> Self {
        let mut reads = Self {
            n_params: 0,
            dense_bytes: 0,
            row_bytes: 0,
            expert_bytes: vec![0; config.n_layer],
            layer_products: 0,
            head_products: config.n_embd as u64 * config.n_vocab as u64,
            config: config.clone(),
        };
        let (n_expert, n_used) = (config.n_expert as u64, config.n_expert_used as u64);
        let is_tied = gguf.find("output.weight").is_none();
        for tensor in gguf.tensors() {
            let n_bytes = tensor.data.len() as u64;
            let n_weights = tensor.info.ne().iter().product::<u64>();
            reads.n_params += n_weights;
            reads.layer_products += match tensor.info.name() {
                "token_embd.weight" | "output.weight" => 0,
                name if name.contains("_exps.") => n_weights / n_expert * n_used,
                // Norms have one dimension and multiply no weights.
                _ if tensor.info.ne().len() < 2 => 0,
                _ => n_weights,
            };
            match tensor.info.name() {
                "token_embd.weight" if !is_tied => {
                    reads.row_bytes = n_bytes / config.n_vocab as u64;
                }
                name => match expert_layer(name).and_then(|i| reads.expert_bytes.get_mut(i)) {
                    Some(of_layer) => *of_layer += n_bytes / n_expert,
                    None => reads.dense_bytes += n_bytes,
                },
            }
        }
        reads
    }

    /// Returns the weights that a single token reads, which goes to `n_expert_used` different
    /// experts of each layer.
    pub(super) fn bytes_per_token(&self) -> u64 {
        let experts: u64 = self.expert_bytes.iter().sum();
        self.dense_bytes + self.row_bytes + experts * self.config.n_expert_used as u64
    }

    /// Returns what a position of context adds.
    pub(super) fn kv_bytes_per_position(&self, cache: &CacheArgs) -> Result<u64, Error> {
        let block = kv_bytes(
            &self.config,
            cache.cache_type_k,
            cache.cache_type_v,
            KV_BLOCK,
        )?;
        Ok(u64::try_from(block / KV_BLOCK as u128).unwrap_or(u64::MAX))
    }

    /// Returns the products of a test that is one prompt, if it is one.
    pub(super) fn products(&self, test: Test) -> Option<u64> {
        let n_prompt = test.n_prompt as u64;
        let is_prompt = n_prompt > 0 && test.n_gen == 0;
        let products = n_prompt * self.layer_products + self.head_products;
        is_prompt.then_some(test.n_seqs as u64 * products)
    }

    /// Returns what a test reads in all, if it only decodes; a prompt reuses what it reads.
    /// `weight_bytes` are those of its passes.
    pub(super) fn bytes(
        &self,
        test: Test,
        weight_bytes: u64,
        kv_bytes_per_position: u64,
    ) -> Option<u64> {
        if test.n_prompt > 0 {
            return None;
        }
        let n_gen = test.n_gen as u64;
        // Token i sees depth + i + 1 positions.
        let n_positions = n_gen * test.depth as u64 + n_gen * (n_gen + 1) / 2;
        Some(weight_bytes + test.n_seqs as u64 * n_positions * kv_bytes_per_position)
    }
}

/// Returns the layer of a tensor that holds experts.
fn expert_layer(name: &str) -> Option<usize> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    rest.contains("_exps.").then(|| layer.parse().ok())?
}

/// Counts the weights that passes read, by the experts that tokens really go to. Tokens of a
/// batch that go to the same one read it once.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    reads: &'a Reads,
    is_chosen: Vec<bool>,
    n_bytes: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(reads: &'a Reads) -> Self {
        Self {
            reads,
            is_chosen: vec![false; reads.config.n_expert],
            n_bytes: 0,
        }
    }

    /// Adds a layer of a batch.
    pub(super) fn add(&mut self, view: &LayerView<'_>) {
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
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_belong_to_a_layer_and_nothing_else_does() {
        assert_eq!(expert_layer("blk.47.ffn_down_exps.weight"), Some(47));
        for name in [
            "blk.3.ffn_gate_inp.weight",
            "blk.x.ffn_up_exps.weight",
            "output.weight",
        ] {
            assert_eq!(expert_layer(name), None, "{name}");
        }
    }
}
