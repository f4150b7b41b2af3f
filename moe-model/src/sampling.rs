//! How a model's makers would sample from it, where the file says so.
//!
//! The keys are those of llama.cpp's `general.sampling.*`. They are only carried: the sampler
//! decides what to do with them.

use gguf_format::{FromValue, Metadata};

use crate::{ModelError, config::optional};

/// Recommended settings; `None` where the file is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingHints {
    /// Names of the stages, in order.
    pub sequence: Option<String>,
    /// Temperature.
    pub temp: Option<f32>,
    /// Candidates kept by rank.
    pub top_k: Option<i32>,
    /// Candidates kept by cumulated probability.
    pub top_p: Option<f32>,
    /// Least probability relative to the best.
    pub min_p: Option<f32>,
    /// Chance of excluding top choices.
    pub xtc_probability: Option<f32>,
    /// Least probability of an excluded choice.
    pub xtc_threshold: Option<f32>,
    /// Tokens that penalties look back.
    pub penalty_last_n: Option<i32>,
    /// Penalty of repetition.
    pub penalty_repeat: Option<f32>,
    /// Mirostat version.
    pub mirostat: Option<i32>,
    /// Mirostat's target entropy.
    pub mirostat_tau: Option<f32>,
    /// Mirostat's learning rate.
    pub mirostat_eta: Option<f32>,
    /// Fields of a checkpoint's `generation_config.json` that ask for what no sampler here
    /// does, with their values.
    pub not_followed: Vec<String>,
}

impl SamplingHints {
    /// Reads the recommendations.
    ///
    /// # Errors
    /// A key has a value of the wrong type.
    pub(crate) fn read(metadata: &Metadata<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            sequence: hint::<&str>(metadata, "sequence")?.map(str::to_owned),
            temp: hint(metadata, "temp")?,
            top_k: hint(metadata, "top_k")?,
            top_p: hint(metadata, "top_p")?,
            min_p: hint(metadata, "min_p")?,
            xtc_probability: hint(metadata, "xtc_probability")?,
            xtc_threshold: hint(metadata, "xtc_threshold")?,
            penalty_last_n: hint(metadata, "penalty_last_n")?,
            penalty_repeat: hint(metadata, "penalty_repeat")?,
            mirostat: hint(metadata, "mirostat")?,
            mirostat_tau: hint(metadata, "mirostat_tau")?,
            mirostat_eta: hint(metadata, "mirostat_eta")?,
            not_followed: Vec::new(),
        })
    }
}

fn hint<'a, T: FromValue<'a>>(
    metadata: &Metadata<'a>,
    name: &str,
) -> Result<Option<T>, ModelError> {
    optional(metadata, &format!("general.sampling.{name}"))
}
