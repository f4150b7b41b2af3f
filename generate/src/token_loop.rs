//! The loop itself: logits, a draw, the next logits.

use sampler::{SamplerChain, SamplerConfig};

use crate::{CancelFlag, GenerateError, Sequence};

/// How to continue a prompt.
#[derive(Clone, Debug, Default)]
pub struct GenerationConfig {
    /// How a token is drawn from the logits.
    pub sampler: SamplerConfig,
    /// The most tokens to generate; `None` leaves it to the stop tokens and the context.
    pub n_predict: Option<usize>,
    /// Tokens that end the continuation.
    pub stop_tokens: Vec<u32>,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// This stop token was drawn.
    StopToken(u32),
    /// The stop string of this index appeared.
    StopString(usize),
    /// As many tokens as were asked for have been generated.
    Length,
    /// There is no room for another token.
    ContextFull,
    /// It was cancelled.
    Cancelled,
}

/// What a step of a [`TokenLoop`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStep {
    /// The next token.
    Token(u32),
    /// Nothing more will come.
    Finished(FinishReason),
}

/// Draws token after token. The prompt must have been given to the sequence before.
#[derive(Debug)]
pub struct TokenLoop {
    chain: SamplerChain,
    stop_tokens: Vec<u32>,
    n_left: Option<usize>,
    /// Drawn but not yet in the sequence.
    pending: Option<u32>,
    finished: Option<FinishReason>,
    scores: Vec<f32>,
}

impl TokenLoop {
    /// Begins to continue what is in `sequence`.
    ///
    /// # Errors
    /// A setting of the sampler is out of its range or names a token that does not exist.
    pub fn new(sequence: &Sequence<'_>, config: &GenerationConfig) -> Result<Self, GenerateError> {
        let mut chain = SamplerChain::new(config.sampler.clone(), sequence.n_vocab())?;
        sequence
            .tokens()
            .iter()
            .for_each(|&token| chain.accept(token));
        Ok(Self {
            chain,
            stop_tokens: config.stop_tokens.clone(),
            n_left: config.n_predict,
            pending: None,
            finished: None,
            scores: Vec::with_capacity(sequence.n_vocab()),
        })
    }

    /// Computes what is missing and draws the next token.
    ///
    /// After the end every further call says the same. A token that was drawn last is not in
    /// the sequence: nobody has asked yet what follows it.
    ///
    /// # Errors
    /// The sequence holds no prompt, a value in the pass is not finite, or the logits leave
    /// no token to draw.
    pub fn step(
        &mut self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Result<TokenStep, GenerateError> {
        if let Some(reason) = self.finished {
            return Ok(TokenStep::Finished(reason));
        }
        if let Some(reason) = self.end_before_draw(sequence, cancel) {
            return Ok(self.finish(reason));
        }
        if let Some(token) = self.pending.take() {
            match sequence.push(token, cancel) {
                Err(GenerateError::Cancelled) => return Ok(self.finish(FinishReason::Cancelled)),
                pushed => pushed?,
            };
        }
        if sequence.logits().is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let token = self.draw(sequence.logits())?;
        if self.stop_tokens.contains(&token) {
            return Ok(self.finish(FinishReason::StopToken(token)));
        }
        self.pending = Some(token);
        self.n_left = self.n_left.map(|n| n - 1);
        Ok(TokenStep::Token(token))
    }

    fn finish(&mut self, reason: FinishReason) -> TokenStep {
        self.finished = Some(reason);
        TokenStep::Finished(reason)
    }

    fn end_before_draw(
        &self,
        sequence: &Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Option<FinishReason> {
        if cancel.is_cancelled() {
            return Some(FinishReason::Cancelled);
        }
        if self.n_left == Some(0) {
            return Some(FinishReason::Length);
        }
        let is_full = self.pending.is_some() && !sequence.has_room();
        is_full.then_some(FinishReason::ContextFull)
    }

    fn draw(&mut self, logits: &[f32]) -> Result<u32, GenerateError> {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        let token = self.chain.sample(&mut self.scores)?;
        self.chain.accept(token);
        Ok(token)
    }
}
