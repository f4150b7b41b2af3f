//! How a model's makers would sample, read from `generation_config.json`.
//!
//! The fields are transformers', and those that llama.cpp's conversion takes besides. What a
//! field asks for is followed, or has no effect on what is generated, or is remembered to be
//! told: see [`SamplingHints::not_followed`].

use serde_json::Value;

use super::{Checkpoint, GENERATION_CONFIG, document::Document};
use crate::{ModelError, error::quote, sampling::SamplingHints};

/// Fields that are read, here or by the tokenizer.
const FOLLOWED: [&str; 18] = [
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "penalty_repeat",
    "penalty_last_n",
    "sequence",
    "xtc_probability",
    "xtc_threshold",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "transformers_version",
];

/// Fields that change no token, besides those that begin with `_`, which are notes.
const WITHOUT_EFFECT: [&str; 10] = [
    "use_cache",
    "cache_implementation",
    "cache_config",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "remove_invalid_values",
    "trust_remote_code",
];

/// Fields that ask for nothing if they have this value, or `false`.
const NEUTRAL: [(&str, f64); 17] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("num_return_sequences", 1.0),
    ("early_stopping", 0.0),
    ("length_penalty", 1.0),
    ("diversity_penalty", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("renormalize_logits", 0.0),
    ("penalty_alpha", 0.0),
    ("guidance_scale", 1.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
];

impl SamplingHints {
    /// Reads the recommendations; none where the file is absent. Where it asks for the best
    /// token each time (`do_sample` is `false`), that is a temperature of 0. A penalty of
    /// repetition is meant for the whole context, unless `penalty_last_n` says otherwise.
    pub(super) fn read_checkpoint(checkpoint: &Checkpoint<'_>) -> Result<Self, ModelError> {
        let Some(file) = checkpoint.json(GENERATION_CONFIG)? else {
            return Ok(Self::default());
        };
        let penalty_repeat = match file.number("penalty_repeat")? {
            None => file.number("repetition_penalty")?,
            found => found,
        };
        let is_penalized = penalty_repeat.is_some_and(|penalty| penalty != 1.0);
        let penalty_last_n = file.integer("penalty_last_n")?;
        Ok(Self {
            sequence: file.text("sequence")?,
            temp: temperature(&file)?,
            top_k: file.integer("top_k")?,
            top_p: file.number("top_p")?,
            min_p: file.number("min_p")?,
            xtc_probability: file.number("xtc_probability")?,
            xtc_threshold: file.number("xtc_threshold")?,
            penalty_last_n: penalty_last_n.or(is_penalized.then_some(-1)),
            penalty_repeat,
            mirostat: file.integer("mirostat")?,
            mirostat_tau: file.number("mirostat_tau")?,
            mirostat_eta: file.number("mirostat_eta")?,
            not_followed: not_followed(&file),
        })
    }
}

fn temperature(file: &Document<'_>) -> Result<Option<f32>, ModelError> {
    const NAME: &str = "temperature";
    let found = file.number(NAME)?;
    if let Some(found) = found.filter(|&found| found < 0.0) {
        return Err(file.invalid(NAME, "a number from 0 on", found));
    }
    match file.flag("do_sample")? {
        Some(false) => Ok(Some(0.0)),
        _ => Ok(found),
    }
}

/// Returns the fields that nobody heeds, with their values.
fn not_followed(file: &Document<'_>) -> Vec<String> {
    let is_heeded = |name: &str| {
        FOLLOWED.contains(&name) || WITHOUT_EFFECT.contains(&name) || name.starts_with('_')
    };
    let is_neutral = |name: &str, value: &Value| {
        let mut neutral = NEUTRAL.iter().filter(|(known, _)| *known == name);
        neutral.any(|(_, neutral)| *value == false || value.as_f64() == Some(*neutral))
    };
    let fields = file.names().filter(|name| !is_heeded(name));
    let fields = fields.filter_map(|name| Some((name, file.get(name)?)));
    fields
        .filter(|(name, value)| !is_neutral(name, value))
        .map(|(name, value)| format!("{} {}", quote(name), quote(&value.to_string())))
        .collect()
}
