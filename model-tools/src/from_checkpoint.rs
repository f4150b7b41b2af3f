//! A checkpoint as the source of a GGUF file: tensors under llama.cpp's names, and metadata that
//! llama.cpp, and programs made from it, take for those of its own conversion
//! (`convert_hf_to_gguf.py`, class `Qwen3MoeModel`).
//!
//! Norms and routers become F32 there, and so they do here; what the matrices become is the
//! plan's business. The tensors come in an order of our own.

use std::borrow::Cow;

use gguf_format::{GgmlType, GgufWriter};
use moe_model::{
    Checkpoint, Config, Model, RopeScaling, SUPPORTED_ARCHITECTURES, SamplingHints, TensorValues,
};
use quant_kernels::QuantType;
use serde_json::{Map, Value};
use tokenizer::Tokenizer;

use crate::{
    Source, SourceTensor, ToolError, card::Card, error::quote, general, naming::ModelId,
    source::TensorData,
};

/// The document with the sizes.
const CONFIG: &str = "config.json";

impl<'a> Source<'a> {
    /// Takes the folder of a checkpoint.
    ///
    /// # Errors
    /// [`ToolError::Model`] or [`ToolError::Tokenizer`] if it does not hold a model that can be
    /// run.
    pub fn from_checkpoint(checkpoint: &Checkpoint<'a>) -> Result<Self, ToolError> {
        let model = Model::from_checkpoint(checkpoint)?;
        let tokenizer = Tokenizer::from_checkpoint(|name| checkpoint.document(name))?;
        let tensors: Vec<SourceTensor<'a>> = tensors(&model);
        let mut card = Card::of_folder(checkpoint.folder());
        let fields = checkpoint.fields(CONFIG)?.unwrap_or_default();
        let config = model.config();
        let mut notes = notes(&model);
        notes.append(&mut card.notes);
        let mut metadata = GgufWriter::new();
        metadata.set("general.architecture", SUPPORTED_ARCHITECTURES[0])?;
        metadata.set("general.type", "model")?;
        set_sampling(&mut metadata, &config.sampling)?;
        let id = ModelId::of_folder(checkpoint.folder());
        general::write(&mut metadata, &id, &card, &tensors)?;
        set_config(&mut metadata, config, &fields)?;
        tokenizer.write_gguf(&mut metadata)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Self {
            metadata,
            n_layer: count(config.n_layer),
            n_head_per_kv: count(config.n_head / config.n_head_kv),
            n_expert: count(config.n_expert),
            tensors,
            notes,
        })
    }
}

fn tensors<'a>(model: &Model<'a>) -> Vec<SourceTensor<'a>> {
    let tensors = model.weights().tensors().into_iter();
    tensors
        .map(|tensor| {
            let (ne, data) = match tensor.values {
                TensorValues::Vector(values) => {
                    let bytes = values
                        .iter()
                        .flat_map(|value| value.to_le_bytes())
                        .collect();
                    let data = TensorData::Bytes {
                        ty: GgmlType::F32,
                        bytes: Cow::Owned(bytes),
                    };
                    (vec![values.len()], data)
                }
                TensorValues::Matrix(matrix) => {
                    let ne = vec![matrix.n_cols(), matrix.n_rows()];
                    (ne, TensorData::Matrices(vec![matrix]))
                }
                TensorValues::Experts(experts) => {
                    let (one, n) = (experts.of(0), experts.iter().len());
                    let ne = vec![one.n_cols(), one.n_rows(), n];
                    (ne, TensorData::Matrices(experts.iter().copied().collect()))
                }
            };
            SourceTensor {
                name: tensor.name,
                ne: ne.into_iter().map(|n| n as u64).collect(),
                data,
                becomes: Some(QuantType::F32),
            }
        })
        .collect()
}

/// What the folder holds and a GGUF file does not say.
fn notes(model: &Model<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if let [first, others @ ..] = model.weights().unused() {
        notes.push(match others.len() {
            0 => format!("tensor {} is not used", quote(first)),
            n => format!("tensor {} and {n} more are not used", quote(first)),
        });
    }
    for field in &model.config().sampling.not_followed {
        notes.push(format!("generation_config.json: {field} is not followed"));
    }
    notes
}

fn set_sampling(metadata: &mut GgufWriter, hints: &SamplingHints) -> Result<(), ToolError> {
    let key = |name: &str| format!("general.sampling.{name}");
    if let Some(sequence) = &hints.sequence {
        metadata.set(&key("sequence"), sequence.as_str())?;
    }
    let integers = [
        ("top_k", hints.top_k),
        ("penalty_last_n", hints.penalty_last_n),
        ("mirostat", hints.mirostat),
    ];
    for (name, value) in integers {
        if let Some(value) = value {
            metadata.set(&key(name), value)?;
        }
    }
    let numbers = [
        ("top_p", hints.top_p),
        ("min_p", hints.min_p),
        ("xtc_probability", hints.xtc_probability),
        ("xtc_threshold", hints.xtc_threshold),
        ("temp", hints.temp),
        ("penalty_repeat", hints.penalty_repeat),
        ("mirostat_tau", hints.mirostat_tau),
        ("mirostat_eta", hints.mirostat_eta),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            metadata.set(&key(name), value)?;
        }
    }
    Ok(())
}

fn set_config(
    metadata: &mut GgufWriter,
    config: &Config,
    fields: &Map<String, Value>,
) -> Result<(), ToolError> {
    let key = |name: &str| format!("{}.{name}", SUPPORTED_ARCHITECTURES[0]);
    // Of no use to experts, but llama.cpp writes it.
    let dense = fields.get("intermediate_size").and_then(Value::as_u64);
    let dense = dense.and_then(|n| usize::try_from(n).ok());
    let sizes = [
        ("block_count", Some(config.n_layer)),
        ("context_length", Some(config.n_ctx)),
        ("embedding_length", Some(config.n_embd)),
        ("feed_forward_length", dense),
        ("attention.head_count", Some(config.n_head)),
        ("attention.head_count_kv", Some(config.n_head_kv)),
        ("attention.key_length", Some(config.head_dim)),
        ("attention.value_length", Some(config.head_dim)),
        ("expert_count", Some(config.n_expert)),
        ("expert_used_count", Some(config.n_expert_used)),
        ("expert_feed_forward_length", Some(config.n_ff_exp)),
    ];
    for (name, size) in sizes {
        if let Some(size) = size.and_then(|size| u32::try_from(size).ok()) {
            metadata.set(&key(name), size)?;
        }
    }
    metadata.set(&key("rope.freq_base"), config.rope.freq_base)?;
    metadata.set(&key("attention.layer_norm_rms_epsilon"), config.rms_eps)?;
    let scaling = |name: &str| key(&format!("rope.scaling.{name}"));
    match config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor, .. } => {
            metadata.set(&scaling("type"), "linear")?;
            metadata.set(&scaling("factor"), factor)?;
        }
        RopeScaling::Yarn(yarn) => {
            metadata.set(&scaling("type"), "yarn")?;
            metadata.set(&scaling("factor"), yarn.factor)?;
            let n_ctx_orig = u32::try_from(yarn.n_ctx_orig).unwrap_or(u32::MAX);
            metadata.set(&scaling("original_context_length"), n_ctx_orig)?;
            metadata.set(&scaling("yarn_beta_fast"), yarn.beta_fast)?;
            metadata.set(&scaling("yarn_beta_slow"), yarn.beta_slow)?;
            if yarn.attn_factor != 1.0 {
                metadata.set(&scaling("yarn_attn_factor"), yarn.attn_factor)?;
            }
        }
    }
    Ok(())
}
