//! The loop itself: logits, a draw, the next logits.

use std::{collections::VecDeque, mem};

use sampler::SamplerConfig;
use tokenizer::Tokenizer;

use crate::{CancelFlag, GenerateError, Guide, Sequence, chooser::Chooser};

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
    chooser: Chooser,
    /// Forced, and not yet given out.
    forced: VecDeque<u32>,
    /// Given out, and not yet in the sequence.
    pending: Vec<u32>,
    finished: Option<FinishReason>,
}

impl TokenLoop {
    /// Begins to continue what is in `sequence`.
    ///
    /// # Errors
    /// A setting of the sampler is out of its range or names a token that does not exist.
    pub fn new(sequence: &Sequence<'_>, config: &GenerationConfig) -> Result<Self, GenerateError> {
        Self::guided(sequence, config, None)
    }

    pub(crate) fn guided(
        sequence: &Sequence<'_>,
        config: &GenerationConfig,
        guide: Option<Box<dyn Guide>>,
    ) -> Result<Self, GenerateError> {
        let (prompt, n_vocab) = (sequence.tokens(), sequence.n_vocab());
        Ok(Self {
            chooser: Chooser::new(config.clone(), guide, prompt, n_vocab)?,
            forced: VecDeque::new(),
            pending: Vec::new(),
            finished: None,
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
        self.guided_step(sequence, cancel, None)
    }

    /// As [`step`](Self::step), with the tokenizer that tells a guide the bytes of tokens.
    /// Tokens that must come need no pass of their own: they wait for the next draw.
    pub(crate) fn guided_step(
        &mut self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<TokenStep, GenerateError> {
        if let Some(reason) = self.finished {
            return Ok(TokenStep::Finished(reason));
        }
        if let Some(reason) = self.end_before_token(sequence, cancel) {
            return Ok(self.finish(reason));
        }
        if self.pending.is_empty() && sequence.logits().is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if self.forced.is_empty() {
            self.forced.extend(self.chooser.forced()?);
        }
        let token = match self.forced.pop_front() {
            Some(token) => token,
            None => match self.compute(sequence, cancel) {
                Err(GenerateError::Cancelled) => return Ok(self.finish(FinishReason::Cancelled)),
                computed => {
                    computed?;
                    self.chooser.draw(sequence.logits())?
                }
            },
        };
        let bytes = tokenizer.and_then(|tokenizer| tokenizer.token_bytes(token));
        match self.chooser.take(token, bytes.unwrap_or_default())? {
            Some(reason @ FinishReason::StopToken(_)) => Ok(self.finish(reason)),
            _ => {
                self.pending.push(token);
                Ok(TokenStep::Token(token))
            }
        }
    }

    /// Brings what is pending into the sequence.
    fn compute(
        &mut self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Result<(), GenerateError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.chooser.prepare();
        sequence.extend(&mem::take(&mut self.pending), cancel)
    }

    fn finish(&mut self, reason: FinishReason) -> TokenStep {
        self.finished = Some(reason);
        TokenStep::Finished(reason)
    }

    fn end_before_token(
        &self,
        sequence: &Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Option<FinishReason> {
        if cancel.is_cancelled() {
            return Some(FinishReason::Cancelled);
        }
        if self.chooser.is_enough() {
            return Some(FinishReason::Length);
        }
        let is_full = sequence.tokens().len() + self.pending.len() > sequence.n_ctx();
        is_full.then_some(FinishReason::ContextFull)
    }
}
