//! What can be asked of an engine.

use std::fmt;

use crate::{GenerateError, GenerationConfig, TextConfig};

/// A prompt and what is to become of it.
#[derive(Debug)]
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// What is to become of it.
    pub task: Task,
    /// Whether keys and values of earlier requests may be used and those of this one kept.
    /// It changes no bit of the answer, only how long it takes.
    pub use_cache: bool,
}

/// What is to become of a prompt.
#[derive(Debug)]
pub enum Task {
    /// It is continued.
    Generate(Box<Generate>),
    /// Its hidden states after the final norm are averaged over its tokens.
    Embed,
}

/// How a prompt is continued.
#[derive(Debug, Default)]
pub struct Generate {
    /// How tokens are drawn, how many, and which end the continuation. No tokens at all
    /// (`n_predict: Some(0)`) leaves the scores of the prompt.
    pub config: GenerationConfig,
    /// How tokens become text.
    pub text: TextConfig,
    /// With how many of the likeliest tokens each generated one is scored; `None` is no score.
    pub n_top: Option<usize>,
    /// The same for the tokens of the prompt, from the second on. They are all computed, no
    /// matter what the cache holds.
    pub n_top_prompt: Option<usize>,
    /// What may come next, beside what the sampler says.
    pub guide: Option<Box<dyn Guide>>,
}

/// Says what may come next: a grammar, or the end of a budget for thinking.
///
/// An engine asks for [`forced`](Self::forced) tokens first; only if there are none it draws,
/// from what [`mask`](Self::mask) leaves. Every token, drawn or forced, is
/// [`accept`](Self::accept)ed, all that a call has forced before the next call.
pub trait Guide: Send + fmt::Debug {
    /// Returns the tokens that must come next whatever the logits say, none if the next one is
    /// drawn. They go through the model in one pass.
    ///
    /// # Errors
    /// If the guide cannot go on; the request fails with it.
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError>;

    /// Sets the logits `[V]` of the tokens that must not come next to −∞, and leaves others
    /// as they are.
    ///
    /// # Errors
    /// As [`forced`](Self::forced).
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError>;

    /// Takes the next token and the bytes it stands for.
    ///
    /// # Errors
    /// As [`forced`](Self::forced).
    fn accept(&mut self, token: u32, bytes: &[u8]) -> Result<(), GenerateError>;

    /// Is told that a forward pass begins: what comes next can be found out meanwhile, on
    /// another thread.
    fn prepare(&mut self) {}
}

impl Request {
    /// Returns the part of the prompt that may be found in the cache: all but the last token,
    /// whose logits are not remembered; nothing if scores or hidden states of all are asked
    /// for, which are not either.
    pub(crate) fn known_part(&self) -> Option<&[u32]> {
        let is_of_use = self.use_cache
            && match &self.task {
                Task::Generate(generate) => generate.n_top_prompt.is_none(),
                Task::Embed => false,
            };
        let (_, known_part) = self.prompt.split_last()?;
        is_of_use.then_some(known_part)
    }
}
