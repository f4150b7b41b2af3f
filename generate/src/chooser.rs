//! Which token comes next: what the loop over one sequence and the engine for many share.

use sampler::SamplerChain;

use crate::{FinishReason, GenerateError, GenerationConfig, Guide};

/// A sampler, what may guide it, and what ends it.
#[derive(Debug)]
pub(crate) struct Chooser {
    chain: SamplerChain,
    guide: Option<Box<dyn Guide>>,
    stop_tokens: Vec<u32>,
    n_left: Option<usize>,
    scores: Vec<f32>,
}

impl Chooser {
    /// Begins after `prompt`.
    ///
    /// # Errors
    /// A setting of the sampler is out of its range or names a token that does not exist.
    pub(crate) fn new(
        config: GenerationConfig,
        guide: Option<Box<dyn Guide>>,
        prompt: &[u32],
        n_vocab: usize,
    ) -> Result<Self, GenerateError> {
        let mut chain = SamplerChain::new(config.sampler, n_vocab)?;
        prompt.iter().for_each(|&token| chain.accept(token));
        Ok(Self {
            chain,
            guide,
            stop_tokens: config.stop_tokens,
            n_left: config.n_predict,
            scores: Vec::new(),
        })
    }

    /// Returns whether there are as many tokens as were asked for.
    pub(crate) fn is_enough(&self) -> bool {
        self.n_left == Some(0)
    }

    /// Returns the tokens that must come next, none if the next one is drawn.
    pub(crate) fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match &mut self.guide {
            Some(guide) => guide.forced(),
            None => Ok(Vec::new()),
        }
    }

    /// Has the guide find out what may come next while a forward pass runs.
    pub(crate) fn prepare(&mut self) {
        if let Some(guide) = &mut self.guide {
            guide.prepare();
        }
    }

    /// Draws a token by the logits `[V]`.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Result<u32, GenerateError> {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        if let Some(guide) = &mut self.guide {
            guide.mask(&mut self.scores)?;
        }
        Ok(self.chain.sample(&mut self.scores)?)
    }

    /// Takes the next token, drawn or forced, and the bytes it stands for. Returns why it is the
    /// last one, if it is.
    pub(crate) fn take(
        &mut self,
        token: u32,
        bytes: &[u8],
    ) -> Result<Option<FinishReason>, GenerateError> {
        if let Some(guide) = &mut self.guide {
            guide.accept(token, bytes)?;
        }
        self.chain.accept(token);
        if self.stop_tokens.contains(&token) {
            return Ok(Some(FinishReason::StopToken(token)));
        }
        self.n_left = self.n_left.map(|n| n.saturating_sub(1));
        Ok(self.is_enough().then_some(FinishReason::Length))
    }
}
