//! How a model's makers would sample, read from `generation_config.json`.

use super::{Checkpoint, GENERATION_CONFIG};
use crate::{ModelError, sampling::SamplingHints};

impl SamplingHints {
    /// Reads the recommendations; none where the file is absent. Where it asks for the best
    /// token each time (`do_sample` is `false`), that is a temperature of 0.
    pub(super) fn read_checkpoint(checkpoint: &Checkpoint<'_>) -> Result<Self, ModelError> {
        let Some(file) = checkpoint.json(GENERATION_CONFIG)? else {
            return Ok(Self::default());
        };
        let temp = match file.flag("do_sample")? {
            Some(false) => Some(0.0),
            _ => file.number("temperature")?,
        };
        Ok(Self {
            temp,
            top_k: file.integer("top_k")?,
            top_p: file.number("top_p")?,
            min_p: file.number("min_p")?,
            penalty_repeat: file.number("repetition_penalty")?,
            ..Self::default()
        })
    }
}
