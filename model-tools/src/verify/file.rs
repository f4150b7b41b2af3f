//! Whether headers, metadata and tensors fit each other and the architecture.
//!
//! The rules are those by which a model is opened: the first that is broken is an error, and
//! nothing else can be asked then. Besides, whatever the model does not read is named: an
//! unknown key or tensor may be another program's, or a typing error.

use std::{error::Error, path::Path};

use gguf_format::{Gguf, GgufSet};
use moe_model::{Checkpoint, Contents, Model, ModelError, ModelFile};
use serde_json::{Map, Value};
use tokenizer::Tokenizer;

use super::{Stage, StageReport, Subject, tensors::tensors};
use crate::error::quote;

/// Keys of the architecture that are read, or that say nothing about the forward pass.
const KNOWN: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_shared_count",
    "expert_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "feed_forward_length",
    "leading_dense_block_count",
    "nextn_predict_layers",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
    "vocab_size",
];

/// Whose keys others read.
const FOREIGN: &[&str] = &["general.", "tokenizer.", "split.", "quantize.", "adapter."];

/// Fields of `config.json` that are read, or that say nothing about the forward pass.
const KNOWN_FIELDS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "decoder_sparse_step",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_only_layers",
    "model_type",
    "moe_intermediate_size",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "partial_rotary_factor",
    "qkv_bias",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "router_aux_loss_coef",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_sliding_window",
    "vocab_size",
];

/// Fields that name nothing but how transformers runs the model.
const HARMLESS_FIELDS: &[&str] = &["id2label", "label2id", "use_cache", "return_dict"];

/// Reads all headers; without a subject nothing else can be asked.
pub(super) fn open(file: &ModelFile) -> (StageReport, Option<Subject<'_>>) {
    let mut report = StageReport::new(Stage::File);
    report.figure("size", file.n_bytes(), "bytes");
    report.figure("files", file.paths().len(), "");
    let contents = match file.contents() {
        Ok(contents) => contents,
        Err(error) => {
            report.error("", chain(&error));
            return (report, None);
        }
    };
    report.figure("tensors", tensors(&contents).len(), "");
    let model = match Model::read(&contents) {
        Ok(model) => model,
        Err(error) => {
            report.error("", chain(&error));
            return (report, None);
        }
    };
    describe(&model, &mut report);
    match &contents {
        Contents::Gguf(gguf) => name_unknown_keys(gguf, &mut report),
        Contents::Checkpoint(checkpoint) => name_unknown_fields(checkpoint, &mut report),
    }
    if let Contents::Gguf(gguf) = &contents {
        for ((shard, bytes), path) in gguf.shards().iter().zip(file.bytes()).zip(file.paths()) {
            check_layout(shard, bytes.len() as u64, path, &mut report);
        }
    }
    for name in model.weights().unused() {
        report.warning(quote(name), "a tensor that the model does not read");
    }
    let tokenizer = match &contents {
        Contents::Gguf(gguf) => Tokenizer::from_gguf(gguf.metadata()),
        Contents::Checkpoint(checkpoint) => {
            Tokenizer::from_checkpoint(|name| checkpoint.document(name))
        }
    };
    let subject = Subject {
        contents,
        model,
        tokenizer,
    };
    (report, Some(subject))
}

/// Reports of a file that could not even be opened as a model.
pub(super) fn unreadable(error: &ModelError) -> StageReport {
    let mut report = StageReport::new(Stage::File);
    report.error("", chain(error));
    report
}

/// Returns an error and what caused it, as one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn describe(model: &Model<'_>, report: &mut StageReport) {
    let config = model.config();
    report.figure("weights", model.weights().n_weights(), "");
    report.figure("layers", config.n_layer, "");
    let experts = format!("{} of {}", config.n_expert_used, config.n_expert);
    report.figure("experts", experts, "per token");
    report.figure("context", config.n_ctx, "tokens");
}

fn name_unknown_keys(gguf: &GgufSet<'_>, report: &mut StageReport) {
    for (key, _) in gguf.metadata().iter() {
        let of_architecture = key.strip_prefix("qwen3moe.");
        if let Some(name) = of_architecture {
            if !KNOWN.contains(&name) {
                let text = "a key of the architecture that is not read: it may ask for what is \
                            not done";
                report.warning(quote(key), text);
            }
        } else if !FOREIGN.iter().any(|prefix| key.starts_with(prefix)) {
            report.note(quote(key), "a key that is not read");
        }
    }
}

fn name_unknown_fields(checkpoint: &Checkpoint<'_>, report: &mut StageReport) {
    let config = checkpoint.document("config.json").unwrap_or_default();
    // Read as a model before: it is an object.
    let fields: Map<String, Value> = serde_json::from_slice(config).unwrap_or_default();
    for (field, _) in fields {
        let known = KNOWN_FIELDS.iter().chain(HARMLESS_FIELDS);
        if !known.into_iter().any(|known| *known == field) {
            report.warning(
                format!("config.json, `{}`", quote(&field)),
                "a field that is not read: it may ask for what is not done",
            );
        }
    }
}

/// Says where data are not as every program writes them: each tensor right behind the one
/// before, and nothing behind the last. llama.cpp refuses other files.
fn check_layout(shard: &Gguf<'_>, n_bytes: u64, path: &Path, report: &mut StageReport) {
    let mut expected = 0_u64;
    for tensor in shard.tensors() {
        let (found, len) = (tensor.info.offset(), tensor.info.n_bytes());
        if found != expected {
            report.warning(
                quote(tensor.info.name()),
                format!(
                    "lies at byte {found} of the data, expected {expected}, behind the tensor \
                     before it; llama.cpp refuses that"
                ),
            );
        }
        expected = (found + len).next_multiple_of(shard.alignment());
    }
    let end = shard.data_offset() + expected;
    if n_bytes > end {
        let place = path.file_name().unwrap_or(path.as_os_str());
        report.warning(
            place.to_string_lossy(),
            format!(
                "{} bytes behind the last tensor belong to nothing",
                n_bytes - end
            ),
        );
    }
}
