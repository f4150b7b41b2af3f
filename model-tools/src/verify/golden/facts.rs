//! What a model is beside its tensors: sizes, constants, tokenizer, template.

use std::collections::BTreeMap;

use gguf_format::{Metadata, Value};
use moe_model::{Config, Contents, RopeScaling};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::digits;
use crate::verify::Subject;

/// Documents of a checkpoint that its tokenizer is made of.
const DOCUMENTS: [&str; 5] = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
];

/// Metadata of a GGUF file that belong to the tokenizer, and those among them that do not.
const TOKENIZER_KEYS: &str = "tokenizer.";
const TEMPLATE_KEYS: &str = "tokenizer.chat_template";

/// Returns sizes and constants by their names.
pub(super) fn facts(config: &Config) -> BTreeMap<String, String> {
    let sizes = [
        ("n_layer", config.n_layer),
        ("n_embd", config.n_embd),
        ("n_head", config.n_head),
        ("n_head_kv", config.n_head_kv),
        ("head_dim", config.head_dim),
        ("n_expert", config.n_expert),
        ("n_expert_used", config.n_expert_used),
        ("n_ff_exp", config.n_ff_exp),
        ("n_vocab", config.n_vocab),
        ("n_ctx", config.n_ctx),
    ];
    let sizes = sizes.map(|(name, size)| (name, size.to_string()));
    let constants = [
        ("rms_eps", config.rms_eps.to_string()),
        ("rope_freq_base", config.rope.freq_base.to_string()),
        ("rope_scaling", scaling(&config.rope.scaling)),
    ];
    let facts = sizes.into_iter().chain(constants);
    facts
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::None => "none".to_owned(),
        RopeScaling::Linear {
            factor,
            attn_factor,
        } => format!("linear, factor {factor}, attention {attn_factor}"),
        RopeScaling::Yarn(yarn) => format!(
            "yarn, factor {}, context {}, beta {} to {}, ext {}, attention {}, log {}",
            yarn.factor,
            yarn.n_ctx_orig,
            yarn.beta_fast,
            yarn.beta_slow,
            yarn.ext_factor,
            yarn.attn_factor,
            yarn.log_multiplier,
        ),
    }
}

/// Returns the fingerprint of the tokenizer, if there is a sound one: tokens, merges, types
/// and special ids, as the file has them.
pub(super) fn tokenizer(subject: &Subject<'_>) -> Option<String> {
    subject.tokenizer.as_ref().ok()?;
    let mut hasher = Xxh3::new();
    match &subject.contents {
        Contents::Gguf(gguf) => feed_metadata(&mut hasher, gguf.metadata()),
        Contents::Checkpoint(checkpoint) => {
            for name in DOCUMENTS {
                if let Some(document) = checkpoint.document(name) {
                    feed_bytes(&mut hasher, name.as_bytes());
                    feed_bytes(&mut hasher, document);
                }
            }
        }
    }
    Some(digits(hasher.digest128()))
}

/// Returns the fingerprint of the chat template, if there is one.
pub(super) fn chat_template(subject: &Subject<'_>) -> Option<String> {
    let template = subject.tokenizer.as_ref().ok()?.chat_template()?;
    Some(digits(xxh3_128(template.as_bytes())))
}

/// The keys are taken in their order, wherever they stand in the file.
fn feed_metadata(hasher: &mut Xxh3, metadata: &Metadata<'_>) {
    let mut entries: Vec<_> = metadata
        .iter()
        .filter(|(key, _)| key.starts_with(TOKENIZER_KEYS) && !key.starts_with(TEMPLATE_KEYS))
        .collect();
    entries.sort_by_key(|(key, _)| *key);
    for (key, value) in entries {
        feed_bytes(hasher, key.as_bytes());
        feed_value(hasher, value);
    }
}

/// Lengths are fed too, so that no two lists become the same bytes.
fn feed_value(hasher: &mut Xxh3, value: Value<'_>) {
    hasher.update(&value.value_type().tag().to_le_bytes());
    match value {
        Value::String(text) => feed_bytes(hasher, text.as_bytes()),
        Value::Array(array) => {
            hasher.update(&(array.len() as u64).to_le_bytes());
            array.iter().for_each(|value| feed_value(hasher, value));
        }
        Value::Bool(value) => hasher.update(&[u8::from(value)]),
        Value::F32(value) => hasher.update(&value.to_le_bytes()),
        Value::F64(value) => hasher.update(&value.to_le_bytes()),
        integer => {
            let integer = integer.as_integer().unwrap_or_default();
            hasher.update(&integer.to_le_bytes());
        }
    }
}

fn feed_bytes(hasher: &mut Xxh3, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
