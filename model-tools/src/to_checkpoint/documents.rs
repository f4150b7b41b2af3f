//! The documents of a checkpoint, from the metadata of a GGUF file.

use gguf_format::{GgufSet, Metadata};
use moe_model::{Config, Model, RopeScaling, SUPPORTED_ARCHITECTURES, SamplingHints};
use quant_kernels::QuantType;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use crate::{ToolError, card, error::quote, general};

/// Names and bytes of documents, and what they do not say, a line each.
type Documents = (Vec<(String, Vec<u8>)>, Vec<String>);

/// Keys, or beginnings of keys, whose meaning is in the documents, in the tensors, or in a file
/// being a GGUF file.
const CARRIED: [&str; 7] = [
    "GGUF.",
    "general.alignment",
    "general.architecture",
    "general.file_type",
    "general.quantization_version",
    "general.sampling.",
    "general.type",
];

/// Makes all documents but the index of the weights, which are of type `ty`.
pub(super) fn documents(
    gguf: &GgufSet<'_>,
    model: &Model<'_>,
    tokenizer: &Tokenizer,
    ty: QuantType,
) -> Result<Documents, ToolError> {
    let metadata = gguf.metadata();
    let config = model.config();
    let mut documents = vec![
        (
            "config.json".to_owned(),
            pretty(&config_json(metadata, model, tokenizer, ty)?),
        ),
        (
            "generation_config.json".to_owned(),
            pretty(&generation_config(&config.sampling, tokenizer)),
        ),
    ];
    let of_tokenizer = tokenizer.to_documents(config.n_ctx).into_iter();
    documents.extend(of_tokenizer.map(|(name, bytes)| (name.to_owned(), bytes)));
    if let Some(card) = general::card_of(metadata)?.to_document() {
        documents.push((card::NAME.to_owned(), card.into_bytes()));
    }
    Ok((documents, notes(metadata)))
}

/// The names of metadata that are in none of the documents.
fn notes(metadata: &Metadata<'_>) -> Vec<String> {
    let [architecture] = SUPPORTED_ARCHITECTURES;
    let is_carried = |key: &str| {
        key.starts_with(architecture)
            || key.starts_with("tokenizer.")
            || key.starts_with("split.")
            || CARRIED.iter().any(|known| key.starts_with(known))
            || general::is_carried(key)
    };
    let left: Vec<String> = metadata
        .iter()
        .filter(|(key, _)| !is_carried(key))
        .map(|(key, _)| quote(key))
        .collect();
    match left.as_slice() {
        [] => Vec::new(),
        [one] => vec![format!("a checkpoint has no place for {one}")],
        [one, others @ ..] => vec![format!(
            "a checkpoint has no place for {one} and {} more metadata",
            others.len()
        )],
    }
}

fn config_json(
    metadata: &Metadata<'_>,
    model: &Model<'_>,
    tokenizer: &Tokenizer,
    ty: QuantType,
) -> Result<Value, ToolError> {
    let config = model.config();
    let mut fields = json!({
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.bos(),
        "decoder_sparse_step": 1,
        "eos_token_id": tokenizer.eos().or(tokenizer.eot()),
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.n_embd,
        "max_position_embeddings": config.n_ctx,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": config.n_ff_exp,
        "norm_topk_prob": true,
        "num_attention_heads": config.n_head,
        "num_experts": config.n_expert,
        "num_experts_per_tok": config.n_expert_used,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_head_kv,
        "output_router_logits": false,
        "pad_token_id": tokenizer.padding(),
        "rms_norm_eps": shortest(config.rms_eps),
        "rope_scaling": rope_scaling(config)?,
        "rope_theta": shortest(config.rope.freq_base),
        "sliding_window": null,
        "tie_word_embeddings": model.weights().is_tied(),
        "torch_dtype": torch_dtype(ty),
        "use_cache": true,
        "use_sliding_window": false,
        "vocab_size": config.n_vocab,
    });
    let [architecture] = SUPPORTED_ARCHITECTURES;
    let dense: Option<u32> = metadata.optional(&format!("{architecture}.feed_forward_length"))?;
    if let Some(dense) = dense {
        fields["intermediate_size"] = dense.into();
    }
    Ok(fields)
}

/// Scaling of rotary frequencies as transformers has it, where it is.
fn rope_scaling(config: &Config) -> Result<Value, ToolError> {
    let refuse = |key, expected, found: f32| ToolError::NotSayable {
        key,
        expected,
        found: found.to_string(),
    };
    match config.rope.scaling {
        RopeScaling::None => Ok(Value::Null),
        RopeScaling::Linear {
            factor,
            attn_factor,
        } => {
            if attn_factor != 1.0 {
                return Err(refuse("rope.scaling.attn_factor", "1", attn_factor));
            }
            Ok(json!({"rope_type": "linear", "factor": shortest(factor)}))
        }
        RopeScaling::Yarn(yarn) => {
            if yarn.ext_factor != 1.0 {
                let key = "rope.scaling.yarn_ext_factor";
                return Err(refuse(key, "1", yarn.ext_factor));
            }
            let mut fields = json!({
                "rope_type": "yarn",
                "factor": shortest(yarn.factor),
                "original_max_position_embeddings": yarn.n_ctx_orig,
                "beta_fast": shortest(yarn.beta_fast),
                "beta_slow": shortest(yarn.beta_slow),
            });
            if yarn.attn_factor != 1.0 || yarn.log_multiplier != 0.0 {
                fields["attention_factor"] = shortest(yarn.magnitude() as f32);
            }
            Ok(fields)
        }
    }
}

fn generation_config(hints: &SamplingHints, tokenizer: &Tokenizer) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    let eos = tokenizer.eos().or(tokenizer.eot());
    let others = tokenizer.end_of_generation().iter().copied();
    let ends: Vec<u32> = eos
        .into_iter()
        .chain(others.filter(|&id| Some(id) != eos))
        .collect();
    let number = |value: Option<f32>| value.map_or(Value::Null, shortest);
    set("bos_token_id", tokenizer.bos().into());
    set("eos_token_id", ends.into());
    set("pad_token_id", tokenizer.padding().into());
    // Where a temperature of 0 means the best token, transformers wants to be told so.
    if hints.temp == Some(0.0) {
        set("do_sample", false.into());
    } else if *hints != SamplingHints::default() {
        set("do_sample", true.into());
        set("temperature", number(hints.temp));
    }
    set("top_k", hints.top_k.into());
    set("top_p", number(hints.top_p));
    set("min_p", number(hints.min_p));
    set("repetition_penalty", number(hints.penalty_repeat));
    // Those that only llama.cpp's conversion knows.
    set("penalty_last_n", hints.penalty_last_n.into());
    set("sequence", hints.sequence.as_deref().into());
    set("xtc_probability", number(hints.xtc_probability));
    set("xtc_threshold", number(hints.xtc_threshold));
    set("mirostat", hints.mirostat.into());
    set("mirostat_tau", number(hints.mirostat_tau));
    set("mirostat_eta", number(hints.mirostat_eta));
    Value::Object(fields)
}

const fn torch_dtype(ty: QuantType) -> &'static str {
    match ty {
        QuantType::F32 => "float32",
        QuantType::F16 => "float16",
        _ => "bfloat16",
    }
}

/// A number with as few digits as tell it from its neighbours in single precision.
fn shortest(value: f32) -> Value {
    let shortest = value.to_string().parse::<f64>();
    json!(shortest.unwrap_or(f64::from(value)))
}

fn pretty(document: &Value) -> Vec<u8> {
    format!("{document:#}\n").into_bytes()
}
