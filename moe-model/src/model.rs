//! A model: its configuration and its weights, which belong together.

use gguf_format::GgufSet;

use crate::{Config, ModelError, Weights};

/// A Qwen3-MoE model, borrowed from its file.
#[derive(Debug)]
pub struct Model<'a> {
    config: Config,
    weights: Weights<'a>,
}

impl<'a> Model<'a> {
    /// Reads and checks configuration and tensors; tensor data is not touched, save for the
    /// norms.
    ///
    /// # Errors
    /// See [`Config::read`] and [`Weights::read`].
    pub fn from_gguf(gguf: &GgufSet<'a>) -> Result<Self, ModelError> {
        let config = Config::read(gguf)?;
        let weights = Weights::read(gguf, &config)?;
        Ok(Self { config, weights })
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the weights.
    #[must_use]
    pub const fn weights(&self) -> &Weights<'a> {
        &self.weights
    }
}
