//! A model: its configuration and its weights, which belong together.

use gguf_format::GgufSet;

use crate::{Checkpoint, Config, Contents, ModelError, Weights};

/// A Qwen3-MoE model, borrowed from its file.
#[derive(Debug)]
pub struct Model<'a> {
    config: Config,
    weights: Weights<'a>,
}

impl<'a> Model<'a> {
    /// Reads and checks a model from whichever files it has.
    ///
    /// # Errors
    /// As [`Model::from_gguf`] and [`Model::from_checkpoint`].
    pub fn read(contents: &Contents<'a>) -> Result<Self, ModelError> {
        match contents {
            Contents::Gguf(gguf) => Self::from_gguf(gguf),
            Contents::Checkpoint(checkpoint) => Self::from_checkpoint(checkpoint),
        }
    }

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

    /// Does what [`Model::from_gguf`] does for a checkpoint; documents and fields take the
    /// place of metadata keys.
    ///
    /// # Errors
    /// `config.json` is missing or has a field that is missing, wrong or asks for what is not
    /// implemented; and see [`Weights::read_checkpoint`].
    pub fn from_checkpoint(checkpoint: &Checkpoint<'a>) -> Result<Self, ModelError> {
        let config = Config::read_checkpoint(checkpoint)?;
        let weights = Weights::read_checkpoint(checkpoint, &config)?;
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
