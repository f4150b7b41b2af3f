//! The sizes of a model, read from `config.json`.
//!
//! Fields are those of transformers' `Qwen3MoeConfig`, in the spelling of its fourth and of its
//! fifth major version. Defaults are transformers' too, where it has them and a real file
//! relies on it; everything else must be said. What transformers would heed and the forward
//! pass does not implement is refused by name.

use quant_kernels::SCALE_BLOCK;
use serde_json::{Value, json};

use super::{Checkpoint, document::Document};
use crate::{Config, ModelError, RopeConfig, sampling::SamplingHints};

const MODEL_TYPE: &str = "qwen3_moe";
const ARCHITECTURE: &str = "Qwen3MoeForCausalLM";
const SIZE: &str = "a whole number from 1 to 4294967295";

impl Config {
    /// Reads the configuration of a checkpoint.
    pub(crate) fn read_checkpoint(checkpoint: &Checkpoint<'_>) -> Result<Self, ModelError> {
        let file = checkpoint.config()?;
        check_architecture(&file)?;
        check_settings(&file)?;
        let n_head = size(&file, "num_attention_heads")?;
        let n_embd = size(&file, "hidden_size")?;
        let n_ctx = size(&file, "max_position_embeddings")?;
        let config = Self {
            n_layer: size(&file, "num_hidden_layers")?,
            n_embd,
            n_head,
            n_head_kv: n_head_kv(&file, n_head)?,
            head_dim: head_dim(&file, n_embd, n_head)?,
            n_expert: n_expert(&file)?,
            n_expert_used: size(&file, "num_experts_per_tok")?,
            n_ff_exp: size(&file, "moe_intermediate_size")?,
            n_vocab: size(&file, "vocab_size")?,
            n_ctx,
            rms_eps: rms_eps(&file)?,
            rope: RopeConfig::read_document(&file, n_ctx)?,
            sampling: SamplingHints::read_checkpoint(checkpoint)?,
        };
        let names = [
            "num_experts_per_tok",
            "head_dim",
            "moe_intermediate_size",
            "hidden_size",
        ];
        config.check(names, |name, expected, found| {
            file.invalid(name, expected, found)
        })?;
        Ok(config)
    }
}

/// Returns whether the embedding serves as head; transformers has `false` for this model where
/// the field is absent.
pub(crate) fn is_tied(checkpoint: &Checkpoint<'_>) -> Result<bool, ModelError> {
    let tied = checkpoint.config()?.flag("tie_word_embeddings")?;
    Ok(tied.unwrap_or(false))
}

/// Returns whether matrices may be in FP8: E4M3 with a scale per 128 × 128 weights.
pub(crate) fn is_fp8(checkpoint: &Checkpoint<'_>) -> Result<bool, ModelError> {
    has_fp8(&checkpoint.config()?)
}

fn has_fp8(file: &Document<'_>) -> Result<bool, ModelError> {
    let Some(settings) = file.object("quantization_config")? else {
        return Ok(false);
    };
    let expected = [
        ("quant_method", json!("fp8")),
        ("weight_block_size", json!([SCALE_BLOCK, SCALE_BLOCK])),
        // Scales of activations that are not in the file; here activations stay exact.
        ("activation_scheme", json!("dynamic")),
        ("fmt", json!("e4m3")),
    ];
    for (name, expected) in &expected {
        let may_be_absent = *name == "fmt";
        match settings.get(name) {
            None if may_be_absent => {}
            Some(found) if found == expected => {}
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), told);
                return Err(settings.invalid(name, &told(expected), found));
            }
        }
    }
    // Which modules are in which type, their tensors say.
    let others = ["modules_to_not_convert", "ignored_layers"];
    let mut names = settings.names();
    let is_known = |name: &str| expected.iter().any(|(known, _)| *known == name);
    match names.find(|name| !is_known(name) && !others.contains(name)) {
        None => Ok(true),
        Some(name) => {
            let found = settings.get(name).map(ToString::to_string);
            let expected = "no such field: it would be ignored";
            Err(settings.invalid(name, expected, found.unwrap_or_default()))
        }
    }
}

/// A value as a message shows it.
fn told(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}

fn check_architecture(file: &Document<'_>) -> Result<(), ModelError> {
    let model_type = file.text("model_type")?;
    let expected = format!("`{MODEL_TYPE}`");
    let model_type = file.require("model_type", &expected, model_type)?;
    if model_type != MODEL_TYPE {
        return Err(file.invalid("model_type", &expected, format!("`{model_type}`")));
    }
    match file.get("architectures") {
        None => Ok(()),
        Some(names) if names.as_array().is_some_and(|n| *n == [ARCHITECTURE]) => Ok(()),
        Some(other) => {
            let expected = format!("[\"{ARCHITECTURE}\"]");
            Err(file.invalid("architectures", &expected, other))
        }
    }
}

/// Refuses settings that would change the answer and are not implemented.
fn check_settings(file: &Document<'_>) -> Result<(), ModelError> {
    has_fp8(file)?;
    for name in ["attention_bias", "use_sliding_window"] {
        if file.flag(name)? == Some(true) {
            return Err(file.invalid(name, "false, which is all that is implemented", true));
        }
    }
    // transformers takes `false` where the field is absent.
    if file.flag("norm_topk_prob")? != Some(true) {
        let found = if file.get("norm_topk_prob").is_some() {
            "false"
        } else {
            "nothing, which means false"
        };
        return Err(file.invalid(
            "norm_topk_prob",
            "true, which is all that is implemented",
            found,
        ));
    }
    if let Some(found) = file.text("hidden_act")?.filter(|act| act != "silu") {
        return Err(file.invalid("hidden_act", "`silu`", format!("`{found}`")));
    }
    if let Some(found) = file.size("decoder_sparse_step")?.filter(|&step| step != 1) {
        return Err(file.invalid("decoder_sparse_step", "1: experts in every layer", found));
    }
    let lists = [
        ("mlp_only_layers", "no layers", false),
        ("layer_types", "`full_attention` in every layer", true),
    ];
    for (name, expected, may_be_full) in lists {
        let is_fine = file.get(name).is_none_or(|found| {
            let list = found.as_array();
            list.is_some_and(|list| {
                list.iter()
                    .all(|value| may_be_full && value == "full_attention")
            })
        });
        if !is_fine {
            let found = file.get(name).map(ToString::to_string);
            return Err(file.invalid(name, expected, found.unwrap_or_default()));
        }
    }
    Ok(())
}

fn size(file: &Document<'_>, name: &str) -> Result<usize, ModelError> {
    let found = file.size(name)?;
    file.require(name, SIZE, found)
}

fn n_head_kv(file: &Document<'_>, n_head: usize) -> Result<usize, ModelError> {
    const NAME: &str = "num_key_value_heads";
    let n_head_kv = size(file, NAME)?;
    if n_head.is_multiple_of(n_head_kv) {
        return Ok(n_head_kv);
    }
    Err(file.invalid(NAME, &format!("a divisor of {n_head}"), n_head_kv))
}

/// The width of a head, where it is not said that of the model over its heads.
fn head_dim(file: &Document<'_>, n_embd: usize, n_head: usize) -> Result<usize, ModelError> {
    const NAME: &str = "head_dim";
    let head_dim = file.size(NAME)?.unwrap_or(n_embd / n_head);
    if head_dim > 0 && head_dim.is_multiple_of(32) {
        return Ok(head_dim);
    }
    Err(file.invalid(NAME, "a multiple of 32", head_dim))
}

/// The number of experts, which is spelled one way or the other.
fn n_expert(file: &Document<'_>) -> Result<usize, ModelError> {
    const OLD: &str = "num_experts";
    const NEW: &str = "num_local_experts";
    match (file.size(OLD)?, file.size(NEW)?) {
        (Some(old), Some(new)) if old != new => {
            let expected = format!("{old}, as `{OLD}` says");
            Err(file.invalid(NEW, &expected, new))
        }
        (old, new) => file.require(OLD, SIZE, old.or(new)),
    }
}

fn rms_eps(file: &Document<'_>) -> Result<f32, ModelError> {
    const NAME: &str = "rms_norm_eps";
    let eps = file.number(NAME)?;
    let eps = file.require(NAME, "a number", eps)?;
    if eps >= 0.0 {
        return Ok(eps);
    }
    Err(file.invalid(NAME, "a number from 0 on", eps))
}
