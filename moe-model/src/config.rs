//! The sizes of a model, read from its metadata and checked against each other.
//!
//! After [`Config::read`] has succeeded, for GGUF files, or `Config::read_checkpoint`, for a
//! checkpoint's `config.json`, no product of sizes can wrap, no size is zero and
//! heads divide evenly, so nothing later has to ask again. That the sizes are also those of
//! the tensors, and so bounded by the file, is checked by [`crate::Weights::read`].
//!
//! Hugging Face calls the fields `num_hidden_layers`, `hidden_size`, `num_attention_heads`,
//! `num_key_value_heads`, `head_dim`, `num_experts`, `num_experts_per_tok`,
//! `moe_intermediate_size`, `vocab_size`, `max_position_embeddings`, `rms_norm_eps` and
//! `rope_theta`, in our order.

use gguf_format::{FromValue, GgufError, GgufSet, Metadata};

use crate::{
    ModelError, RopeConfig,
    error::quote,
    names::{self, SUPPORTED_ARCHITECTURES, key},
    sampling::SamplingHints,
};

/// The sizes and constants of a Qwen3-MoE model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Layers.
    pub n_layer: usize,
    /// Width of the residual stream, `E`.
    pub n_embd: usize,
    /// Query heads, `H`.
    pub n_head: usize,
    /// Key/value heads, `K`; divides `H`.
    pub n_head_kv: usize,
    /// Width of a head, `D`.
    pub head_dim: usize,
    /// Experts, `X`.
    pub n_expert: usize,
    /// Experts chosen per token, `U`.
    pub n_expert_used: usize,
    /// Width of an expert, `F`.
    pub n_ff_exp: usize,
    /// Tokens of the vocabulary, `V`.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub n_ctx: usize,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// The rotary embedding.
    pub rope: RopeConfig,
    /// How the model's makers would sample, where the file says it.
    pub sampling: SamplingHints,
}

impl Config {
    /// Reads the configuration of a model.
    ///
    /// # Errors
    /// Another architecture, and every key that is missing, of the wrong type, zero, too
    /// large or at odds with the others, each named.
    pub fn read(gguf: &GgufSet<'_>) -> Result<Self, ModelError> {
        let metadata = gguf.metadata();
        check_architecture(metadata)?;
        check_settings(metadata)?;
        let n_head = size(metadata, "attention.head_count")?;
        let config = Self {
            n_layer: size(metadata, "block_count")?,
            n_embd: size(metadata, "embedding_length")?,
            n_head,
            n_head_kv: head_count_kv(metadata, n_head)?,
            head_dim: head_dim(metadata)?,
            n_expert: size(metadata, "expert_count")?,
            n_expert_used: size(metadata, "expert_used_count")?,
            n_ff_exp: size(metadata, "expert_feed_forward_length")?,
            n_vocab: n_vocab(gguf)?,
            n_ctx: size(metadata, "context_length")?,
            rms_eps: rms_eps(metadata)?,
            rope: RopeConfig::read(metadata)?,
            sampling: SamplingHints::read(metadata)?,
        };
        let names = [
            "expert_used_count",
            "attention.key_length",
            "expert_feed_forward_length",
            "embedding_length",
        ];
        config.check(names, |name, expected, found| {
            invalid(name, expected, found)
        })?;
        Ok(config)
    }

    /// Returns the width of all query heads, `H·D`.
    #[must_use]
    pub const fn q_len(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Returns the width of all key heads, or of all value heads, `K·D`.
    #[must_use]
    pub const fn kv_len(&self) -> usize {
        self.n_head_kv * self.head_dim
    }

    /// Returns the width of queries, keys and values side by side, `(H + 2K)·D`.
    #[must_use]
    pub const fn qkv_len(&self) -> usize {
        self.q_len() + 2 * self.kv_len()
    }

    /// Checks sizes against each other. `names` are what the file calls the experts used, the
    /// width of a head, of an expert and of the model.
    pub(crate) fn check(
        &self,
        [used, head, expert, model]: [&str; 4],
        invalid: impl Fn(&str, &str, usize) -> ModelError,
    ) -> Result<(), ModelError> {
        let n_expert = self.n_expert;
        if self.n_expert_used > n_expert {
            let expected = format!("at most {n_expert}");
            return Err(invalid(used, &expected, self.n_expert_used));
        }
        let n_kv_heads = self.n_head_kv.checked_mul(2);
        let n_heads = n_kv_heads.and_then(|n| n.checked_add(self.n_head));
        for (name, count, len) in [
            (head, n_heads, self.head_dim),
            (expert, Some(n_expert), self.n_ff_exp),
            (model, Some(n_expert), self.n_embd),
        ] {
            let product = count.and_then(|count| count.checked_mul(len));
            if product.is_none_or(|product| product > isize::MAX as usize / 8) {
                return Err(invalid(name, "a size that memory can hold", len));
            }
        }
        Ok(())
    }
}

fn check_architecture(metadata: &Metadata<'_>) -> Result<(), ModelError> {
    let found: &str = require(metadata, "general.architecture")?;
    if SUPPORTED_ARCHITECTURES.contains(&found) {
        return Ok(());
    }
    Err(ModelError::Architecture {
        found: quote(found),
        supported: SUPPORTED_ARCHITECTURES.join(", "),
    })
}

/// Refuses settings that other architectures use and that would change the answer.
fn check_settings(metadata: &Metadata<'_>) -> Result<(), ModelError> {
    let zeros = [
        "expert_shared_count",
        "leading_dense_block_count",
        "attention.sliding_window",
        "nextn_predict_layers",
    ];
    for name in zeros {
        let found: Option<u32> = optional(metadata, &key(name))?;
        if let Some(found) = found.filter(|&found| found != 0) {
            return Err(invalid(name, "0, which is all that is implemented", found));
        }
    }
    // llama.cpp numbers the softmax 1 and takes 0 for "not said".
    let gating: Option<u32> = optional(metadata, &key("expert_gating_func"))?;
    if let Some(found) = gating.filter(|&found| found > 1) {
        return Err(invalid("expert_gating_func", "1 (softmax)", found));
    }
    let scale: Option<f32> = optional(metadata, &key("expert_weights_scale"))?;
    if let Some(found) = scale.filter(|&found| found != 0.0 && found != 1.0) {
        return Err(invalid("expert_weights_scale", "1", found));
    }
    for name in ["expert_weights_norm", "attention.causal"] {
        if optional(metadata, &key(name))? == Some(false) {
            return Err(invalid(
                name,
                "true, which is all that is implemented",
                false,
            ));
        }
    }
    Ok(())
}

fn head_count_kv(metadata: &Metadata<'_>, n_head: usize) -> Result<usize, ModelError> {
    let n_head_kv = size(metadata, "attention.head_count_kv")?;
    if n_head.is_multiple_of(n_head_kv) {
        return Ok(n_head_kv);
    }
    Err(invalid(
        "attention.head_count_kv",
        &format!("a divisor of {n_head}"),
        n_head_kv,
    ))
}

fn head_dim(metadata: &Metadata<'_>) -> Result<usize, ModelError> {
    let head_dim = size(metadata, "attention.key_length")?;
    if !head_dim.is_multiple_of(32) {
        return Err(invalid(
            "attention.key_length",
            "a multiple of 32",
            head_dim,
        ));
    }
    let value_len = size(metadata, "attention.value_length")?;
    if value_len != head_dim {
        let expected = format!("{head_dim}, as `attention.key_length` says");
        return Err(invalid("attention.value_length", &expected, value_len));
    }
    let n_rot: Option<usize> = optional(metadata, &key("rope.dimension_count"))?;
    if let Some(found) = n_rot.filter(|&found| found != head_dim) {
        let expected = format!("{head_dim}, as `attention.key_length` says");
        return Err(invalid("rope.dimension_count", &expected, found));
    }
    Ok(head_dim)
}

/// The embedding says how many tokens there are; the key, where present, must agree.
fn n_vocab(gguf: &GgufSet<'_>) -> Result<usize, ModelError> {
    let claimed: Option<usize> = optional(gguf.metadata(), &key("vocab_size"))?;
    let Some(embedding) = gguf.find(names::TOKEN_EMBD) else {
        return Err(ModelError::MissingTensor {
            name: names::TOKEN_EMBD.to_owned(),
            expected: format!("[V, {}]", size(gguf.metadata(), "embedding_length")?),
        });
    };
    let n_rows = embedding.info.ne().get(1).copied().unwrap_or(1);
    match usize::try_from(n_rows) {
        Ok(n_vocab) if u32::try_from(n_vocab).is_ok() && claimed.is_none_or(|n| n == n_vocab) => {
            Ok(n_vocab)
        }
        _ => {
            let expected = format!(
                "{n_rows}, the rows of `{}`, within 32 bits",
                names::TOKEN_EMBD
            );
            Err(invalid(
                "vocab_size",
                &expected,
                claimed.unwrap_or_default(),
            ))
        }
    }
}

fn rms_eps(metadata: &Metadata<'_>) -> Result<f32, ModelError> {
    const NAME: &str = "attention.layer_norm_rms_epsilon";
    let eps: f32 = require(metadata, &key(NAME))?;
    if eps.is_finite() && eps >= 0.0 {
        return Ok(eps);
    }
    Err(invalid(NAME, "a number from 0 on", eps))
}

/// Reads a size of the architecture: an integer from 1 to 2^32 − 1.
pub(crate) fn size(metadata: &Metadata<'_>, name: &str) -> Result<usize, ModelError> {
    let found: u32 = require(metadata, &key(name))?;
    match usize::try_from(found) {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(invalid(name, "at least 1", found)),
    }
}

/// Reads a value that must be there.
pub(crate) fn require<'a, T: FromValue<'a>>(
    metadata: &Metadata<'a>,
    key: &str,
) -> Result<T, ModelError> {
    optional(metadata, key)?.ok_or_else(|| ModelError::MissingKey {
        key: key.to_owned(),
        expected: T::expected(),
    })
}

/// Reads a value that may be absent, but not of another type.
pub(crate) fn optional<'a, T: FromValue<'a>>(
    metadata: &Metadata<'a>,
    key: &str,
) -> Result<Option<T>, ModelError> {
    let failed = |source: GgufError| ModelError::Key {
        source: Box::new(source),
    };
    metadata.optional(key).map_err(failed)
}

/// The error about the value of an architecture's key.
pub(crate) fn invalid(name: &str, expected: &str, found: impl std::fmt::Display) -> ModelError {
    ModelError::InvalidKey {
        key: key(name),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
