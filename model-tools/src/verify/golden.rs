//! What a model answered when it was recorded, so that anybody can hold it to that.
//!
//! The other stages ask whether a model is sound. A file can be sound and wrong: another RoPE
//! base, two experts in each other's place, queries permuted for another engine. Nothing in it
//! says so, and fast pass and reference read the same file. So a [`Golden`] keeps what the right
//! file is and says: sizes and constants, fingerprints of tokenizer and template, a hash of each
//! tensor and of each expert in it, greedy tokens with the logits they were chosen by, and the
//! perplexity of a text. It is JSON, a few hundred kilobytes for a large model, and holds all
//! that is needed to check it but the model.
//!
//! With [`Tolerance::Exact`] everything must be the same, logits to the bit: `apr` promises
//! them on any machine. [`Tolerance::Within`] is for other weights of the same model, such as
//! another quantization: tensors are not compared, logits and perplexity may differ by so much,
//! and a token may be another one where the two best are so near.

mod against;
mod answers;
#[cfg(test)]
mod changed;
mod facts;
mod record;
mod tensors;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use self::{against::check, record::record};
use crate::ToolError;

/// The version of the layout; it changes when a field changes its meaning or goes.
pub const GOLDEN_SCHEMA: u32 = 1;

/// What a model is and says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// [`GOLDEN_SCHEMA`].
    pub schema: u32,
    /// Where it was recorded: program, machine, threads. Nothing is compared with it.
    pub environment: Vec<(String, String)>,
    /// Sizes and constants by their names.
    pub model: BTreeMap<String, String>,
    /// Fingerprint of the tokenizer, if there is a sound one: 32 hexadecimal digits.
    pub tokenizer: Option<String>,
    /// Fingerprint of the chat template, if there is one.
    pub chat_template: Option<String>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<GoldenTensor>,
    /// How it goes on.
    pub greedy: GoldenGreedy,
    /// How well it foretells a text, if there is a tokenizer.
    pub perplexity: Option<GoldenPerplexity>,
}

/// A tensor and its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenTensor {
    /// Its name in the file.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<u64>,
    /// XXH3 of its bytes, 128 bits, as 32 hexadecimal digits.
    pub xxh3: String,
    /// Sum of the 64-bit XXH3 of its rows, modulo 2⁶⁴, as 16 hexadecimal digits: the same for
    /// the same rows in another order.
    pub rows: String,
    /// Of a stack of experts, the low 32 bits of the XXH3 of each, as 8 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub experts: String,
}

/// A prompt and its greedy continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenGreedy {
    /// The text; none where ids were given for want of a tokenizer.
    pub prompt: Option<String>,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
    /// The tokens that follow.
    pub steps: Vec<GoldenStep>,
}

/// A token and the logits it was chosen by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenStep {
    /// The most probable token.
    pub token: u32,
    /// XXH3 of all logits as little-endian `f32`, 128 bits, as 32 hexadecimal digits.
    pub logits_xxh3: String,
    /// The largest logits, each with its token, in descending order. Each is an `f32` written
    /// with all digits of the `f64` that it is too.
    pub top: Vec<(u32, f64)>,
}

/// How well a model foretells a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenPerplexity {
    /// The text.
    pub text: String,
    /// Tokens of a window; the second half of each is scored, by llama.cpp's method.
    pub n_ctx: usize,
    /// Tokens that were scored.
    pub n_tokens: usize,
    /// The perplexity.
    pub value: f64,
}

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct GoldenRequest {
    /// Text that the model goes on with.
    pub prompt: String,
    /// Tokens that it goes on by.
    pub n_steps: usize,
    /// Text whose perplexity is taken. It becomes part of the record.
    pub text: String,
}

impl Default for GoldenRequest {
    /// A short prompt, 32 tokens, and a text of a few lines.
    fn default() -> Self {
        Self {
            prompt: "Once upon a time, in a".to_owned(),
            n_steps: 32,
            text: super::tokens::TEXT.to_owned(),
        }
    }
}

/// How near a model must come to what was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tolerance {
    /// The same weights: everything is the same, logits to the bit.
    #[default]
    Exact,
    /// Other weights of the same model.
    Within {
        /// How far a logit may be from the recorded one.
        logits: f64,
        /// How far the perplexity may be, as a share of the recorded one.
        perplexity: f64,
    },
}

impl Golden {
    /// Returns the JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in it can fail: keys are strings, and what is not finite becomes null.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// [`ToolError::Golden`] if it is none, is of another schema, or contradicts itself.
    pub fn from_json(json: &[u8]) -> Result<Self, ToolError> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let invalid = |error: serde_json::Error| wrong(error.to_string());
        let Schema { schema } = serde_json::from_slice(json).map_err(invalid)?;
        if schema != GOLDEN_SCHEMA {
            let reason = format!("schema {schema}, expected {GOLDEN_SCHEMA}");
            return Err(wrong(reason));
        }
        let golden: Self = serde_json::from_slice(json).map_err(invalid)?;
        golden.check()?;
        Ok(golden)
    }

    /// Checks that the tokens are no more than a model has positions for: they are untrusted, and
    /// what they take is known only beside the model.
    pub(super) fn check_fits(&self, n_ctx: usize) -> Result<(), ToolError> {
        let n_tokens = self.greedy.prompt_ids.len() + self.greedy.steps.len();
        if n_tokens > n_ctx {
            let reason = format!("`greedy` has {n_tokens} tokens, the model holds {n_ctx}");
            return Err(wrong(reason));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ToolError> {
        if self.greedy.prompt_ids.is_empty() {
            return Err(wrong("`greedy.prompt_ids` is empty"));
        }
        if let Some(idx) = self
            .greedy
            .steps
            .iter()
            .position(|step| step.top.is_empty())
        {
            return Err(wrong(format!("`greedy.steps[{idx}].top` is empty")));
        }
        let numbers = self.greedy.steps.iter().flat_map(|step| &step.top);
        let perplexity = self.perplexity.iter().map(|text| text.value);
        let mut numbers = numbers.map(|(_, logit)| *logit).chain(perplexity);
        if numbers.any(|x| !x.is_finite()) {
            return Err(wrong("a number is not finite"));
        }
        Ok(())
    }
}

fn wrong(reason: impl Into<String>) -> ToolError {
    ToolError::Golden {
        reason: reason.into(),
    }
}

/// Returns a 128-bit XXH3 as text.
fn digits(hash: u128) -> String {
    format!("{hash:032x}")
}
