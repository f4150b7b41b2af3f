//! The tensors of a checkpoint, as transformers names them.
//!
//! Rows of `q_proj` and `k_proj` lie as the forward pass wants them: a head's pair for rotation
//! is half a head apart in both formats, so a GGUF file of this architecture has the same rows.
//! Experts are one tensor each, or stacked: `gate_up_proj` `[X, 2·F, E]`, the gate's rows first,
//! and `down_proj` `[X, E, F]`, as transformers keeps them in memory, or one stack each.

use quant_kernels::QuantType;

use super::Checkpoint;
use crate::{
    Config,
    names::{OUTPUT, OUTPUT_NORM, TOKEN_EMBD},
    weights::{ExpertLayout, Found, TensorSource},
};

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

/// Our name and theirs for the tensors of a layer.
const LAYER: [(&str, &str); 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "gate_proj"),
    ("ffn_up_exps", "up_proj"),
    ("ffn_down_exps", "down_proj"),
];

/// A checkpoint, and what its configuration says of the tensors.
pub(crate) struct CheckpointTensors<'c, 'a> {
    pub(crate) checkpoint: &'c Checkpoint<'a>,
    /// Whether the embedding serves as head.
    pub(crate) is_tied: bool,
    /// Whether matrices may be in FP8.
    pub(crate) is_fp8: bool,
}

impl<'a> TensorSource<'a> for CheckpointTensors<'_, 'a> {
    fn name(&self, tensor: &str) -> String {
        let name = match tensor {
            TOKEN_EMBD => EMBEDDING,
            OUTPUT_NORM => FINAL_NORM,
            OUTPUT => HEAD,
            other => other,
        };
        name.to_owned()
    }

    fn layer_name(&self, layer: usize, tensor: &str) -> String {
        format!("model.layers.{layer}.{}.weight", theirs(tensor))
    }

    fn expert_name(&self, layer: usize, tensor: &str, expert: usize) -> String {
        let name = theirs(tensor);
        format!("model.layers.{layer}.mlp.experts.{expert}.{name}.weight")
    }

    fn experts(&self, layer: usize, tensor: &str) -> ExpertLayout {
        if self
            .checkpoint
            .find(&self.expert_name(layer, tensor, 0))
            .is_some()
        {
            return ExpertLayout::Each;
        }
        let name = theirs(tensor);
        let together = (name != "down_proj").then_some("gate_up_proj");
        let stacks = [(name, 1)]
            .into_iter()
            .chain(together.map(|name| (name, 2)));
        for (stack, n_parts) in stacks {
            for suffix in ["", ".weight"] {
                let stack = format!("model.layers.{layer}.mlp.experts.{stack}{suffix}");
                if self.checkpoint.find(&stack).is_some() {
                    return ExpertLayout::Stacked {
                        name: stack,
                        part: usize::from(n_parts == 2 && name == "up_proj"),
                        n_parts,
                    };
                }
            }
        }
        ExpertLayout::Each
    }

    fn find(&self, name: &str) -> Option<Found<'a>> {
        let tensor = self.checkpoint.find(name)?;
        Some(Found {
            name: tensor.name,
            ty: match tensor.quant_type() {
                Some(QuantType::F8_E4M3) if !self.is_fp8 => {
                    Err("F8_E4M3 without a `quantization_config`".to_owned())
                }
                Some(ty) => Ok(ty),
                None => Err(tensor.dtype()),
            },
            shape: tensor.shape.clone(),
            data: tensor.data,
        })
    }

    fn names(&self) -> Vec<&'a str> {
        self.checkpoint
            .tensors()
            .map(|tensor| tensor.name)
            .collect()
    }

    fn is_foreign(&self, name: &str, config: &Config) -> Option<&'static str> {
        let (layer, within) = match layer_of(name) {
            Some((layer, within)) => (Some(layer), within),
            None => (None, name),
        };
        if layer.is_some_and(|layer| layer >= config.n_layer) {
            Some("its layer is beyond `num_hidden_layers`")
        } else if within.ends_with(".bias") {
            Some("its bias would be ignored")
        } else if within.contains("scale") || within.contains("zero_point") {
            Some("its scale would be ignored")
        } else if within.contains("shared_expert") {
            Some("its shared expert would be ignored")
        } else if within.starts_with("mlp.experts.") {
            Some("its expert is beyond `num_experts`, or there twice")
        } else if layer.is_some() && within.starts_with("mlp.") {
            Some("its layer would have no experts")
        } else if name == HEAD && self.is_tied && !self.is_embedding(name) {
            Some("its head would be ignored, since `tie_word_embeddings` is true")
        } else {
            None
        }
    }
}

impl CheckpointTensors<'_, '_> {
    /// Whether a tensor holds the same bytes as the embedding.
    fn is_embedding(&self, name: &str) -> bool {
        let data = |name| self.checkpoint.find(name).map(|tensor| tensor.data);
        data(name) == data(EMBEDDING)
    }
}

/// Returns what transformers calls a tensor of a GGUF file, such as `blk.3.attn_q.weight`; of one
/// that holds the matrices of experts, the matrix of `expert`. `None` for a name that is not one
/// of this architecture.
#[must_use]
pub fn checkpoint_name(tensor: &str, expert: usize) -> Option<String> {
    match tensor {
        TOKEN_EMBD => return Some(EMBEDDING.to_owned()),
        OUTPUT_NORM => return Some(FINAL_NORM.to_owned()),
        OUTPUT => return Some(HEAD.to_owned()),
        _ => {}
    }
    let (layer, within) = tensor.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let ours = within.strip_suffix(".weight")?;
    let (_, theirs) = LAYER.iter().find(|(name, _)| *name == ours)?;
    Some(if ours.ends_with("_exps") {
        format!("model.layers.{layer}.mlp.experts.{expert}.{theirs}.weight")
    } else {
        format!("model.layers.{layer}.{theirs}.weight")
    })
}

/// Returns what transformers calls a tensor of a layer.
fn theirs(tensor: &str) -> &str {
    let known = LAYER.iter().find(|(ours, _)| *ours == tensor);
    known.map_or(tensor, |(_, theirs)| theirs)
}

/// Returns the layer that a tensor belongs to by its name, and the name within it. What is no
/// number is a layer that no model has.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, within) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().unwrap_or(usize::MAX), within))
}
