//! What a token reads and multiplies, counted from the file's own tensors.

use gguf_format::GgufSet;
use moe_model::{Config, kv_bytes};
use quant_kernels::KV_BLOCK;

use super::workload::Test;
use crate::{args::CacheArgs, error::Error};

/// Bytes that a token reads.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    pub(super) n_params: u64,
    /// Weights; exact for a single token, which goes to `n_expert_used` different experts.
    pub(super) weight_bytes: u64,
    /// Products with weights in the layers, per token, and in the head, which a prompt asks
    /// for once. Attention is not among them: it multiplies floats.
    pub(super) layer_products: u64,
    pub(super) head_products: u64,
    config: Config,
}

impl Reads {
    pub(super) fn of(gguf: &GgufSet<'_>, config: &Config) -> Self {
        let (mut n_params, mut weight_bytes, mut layer_products) = (0, 0, 0);
        let is_tied = gguf.find("output.weight").is_none();
        for tensor in gguf.tensors() {
            let n_bytes = tensor.data.len() as u64;
            let n_weights = tensor.info.ne().iter().product::<u64>();
            n_params += n_weights;
            layer_products += match tensor.info.name() {
                "token_embd.weight" | "output.weight" => 0,
                name if name.contains("_exps.") => {
                    n_weights / config.n_expert as u64 * config.n_expert_used as u64
                }
                // Norms have one dimension and multiply no weights.
                _ if tensor.info.ne().len() < 2 => 0,
                _ => n_weights,
            };
            weight_bytes += match tensor.info.name() {
                // One row, unless the embedding is the output matrix too.
                "token_embd.weight" if !is_tied => n_bytes / config.n_vocab as u64,
                name if name.contains("_exps.") => {
                    n_bytes / config.n_expert as u64 * config.n_expert_used as u64
                }
                _ => n_bytes,
            };
        }
        Self {
            n_params,
            weight_bytes,
            layer_products,
            head_products: config.n_embd as u64 * config.n_vocab as u64,
            config: config.clone(),
        }
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
        is_prompt.then_some(n_prompt * self.layer_products + self.head_products)
    }

    /// Returns what a test reads in all, if it only decodes; a prompt reuses what it reads.
    pub(super) fn bytes(&self, test: Test, kv_bytes_per_position: u64) -> Option<u64> {
        if test.n_prompt > 0 {
            return None;
        }
        let n_gen = test.n_gen as u64;
        // Token i sees depth + i + 1 positions.
        let n_positions = n_gen * test.depth as u64 + n_gen * (n_gen + 1) / 2;
        Some(n_gen * self.weight_bytes + n_positions * kv_bytes_per_position)
    }
}
