//! One sequence of tokens in the cache of one model.
//!
//! A chat sends the whole conversation again with each turn. Most of it lies in the cache
//! already, so [`Sequence::prefill`] keeps the longest common beginning, cuts the rest off and
//! computes only what is new. The answer does not change by a bit: the logits at a position
//! depend on the tokens before it and on nothing else.

use moe_model::{LayerView, Model, ModelError, Outputs, State, StateOptions, forward_observed};
use quant_kernels::Cpu;

use crate::{CancelFlag, GenerateError, Routing};

/// A model, its state, and the tokens that are in it.
#[derive(Debug)]
pub struct Sequence<'m> {
    cpu: &'m Cpu,
    model: &'m Model<'m>,
    state: State,
    piece_len: usize,
    tokens: Vec<u32>,
    /// Logits `[V]` after the last token; empty after a failure.
    logits: Vec<f32>,
    /// Of the tokens in the cache, if it is kept.
    routing: Option<Routing>,
}

/// How much of a prompt was in the cache and how much was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefill {
    /// Tokens found in the cache.
    pub n_cached: usize,
    /// Tokens that went through the model.
    pub n_computed: usize,
}

/// How far the prefill of a prompt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tokens done, counting layers of a batch in part.
    pub n_done: usize,
    /// Tokens to be computed in all.
    pub n_total: usize,
}

impl<'m> Sequence<'m> {
    /// Makes an empty sequence.
    ///
    /// # Errors
    /// An option is out of its range, or the cache cannot have the model's shape.
    pub fn new(
        cpu: &'m Cpu,
        model: &'m Model<'m>,
        options: StateOptions,
    ) -> Result<Self, GenerateError> {
        Ok(Self {
            cpu,
            model,
            state: State::new(model, options)?,
            piece_len: options.batch_len,
            tokens: Vec::new(),
            logits: Vec::new(),
            routing: None,
        })
    }

    /// Forgets everything, and from now on keeps which experts the tokens go to.
    pub fn keep_routing(&mut self) {
        self.clear();
        self.routing = Some(Routing::new(self.model.config()));
    }

    /// Returns which experts the tokens in the cache went to, if [that is
    /// kept](Self::keep_routing).
    #[must_use]
    pub const fn routing(&self) -> Option<&Routing> {
        self.routing.as_ref()
    }

    /// Returns the tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns how many tokens there may be.
    #[must_use]
    pub const fn n_ctx(&self) -> usize {
        self.state.n_ctx()
    }

    /// Returns the size of the vocabulary.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.model.config().n_vocab
    }

    /// Returns the logits `[V]` after the last token; empty before the first.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Makes `prompt` the content of the sequence.
    ///
    /// `cancel` is looked at and `progress` is told after each layer of each batch. Batches
    /// that are complete stay in the cache when the work is cancelled.
    ///
    /// # Errors
    /// The prompt is empty, longer than the context or holds an unknown id; the work was
    /// cancelled; or a value in the pass is not finite.
    pub fn prefill(
        &mut self,
        prompt: &[u32],
        cancel: &CancelFlag,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Prefill, GenerateError> {
        self.check(prompt)?;
        let n_cached = self.keep_common(prompt);
        let new = &prompt[n_cached..];
        let mut n_done = 0;
        for piece in new.chunks(self.piece_len) {
            let is_last = n_done + piece.len() == new.len();
            let outputs = if is_last {
                Outputs::Last
            } else {
                Outputs::None
            };
            let (n_layer, n_piece) = (self.model.config().n_layer, piece.len());
            self.feed(piece, outputs, cancel, &mut |layer| {
                let n_done = n_done + n_piece * (layer + 1) / n_layer;
                progress(Progress {
                    n_done,
                    n_total: new.len(),
                });
            })?;
            n_done += piece.len();
        }
        Ok(Prefill {
            n_cached,
            n_computed: new.len(),
        })
    }

    /// Appends one token and computes the logits after it.
    ///
    /// # Errors
    /// The context is full, the id is unknown, the work was cancelled, or a value in the pass
    /// is not finite.
    pub fn push(&mut self, token: u32, cancel: &CancelFlag) -> Result<&[f32], GenerateError> {
        self.feed(&[token], Outputs::Last, cancel, &mut |_| ())?;
        Ok(&self.logits)
    }

    /// Appends tokens and computes the logits after the last of them.
    pub(crate) fn extend(
        &mut self,
        tokens: &[u32],
        cancel: &CancelFlag,
    ) -> Result<(), GenerateError> {
        for piece in tokens.chunks(self.piece_len) {
            self.feed(piece, Outputs::Last, cancel, &mut |_| ())?;
        }
        Ok(())
    }

    /// Returns whether another token fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.tokens.len() < self.n_ctx()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.truncate(0);
        self.logits.clear();
    }

    /// Forgets all tokens from `n_tokens` on.
    fn truncate(&mut self, n_tokens: usize) {
        self.state.truncate(n_tokens);
        self.tokens.truncate(n_tokens);
        if let Some(routing) = &mut self.routing {
            routing.truncate(n_tokens);
        }
    }

    pub(crate) const fn piece_len(&self) -> usize {
        self.piece_len
    }

    /// Checks that a prompt can be the content of the sequence.
    ///
    /// # Errors
    /// The prompt is empty, longer than the context, or holds an unknown id.
    pub fn check(&self, prompt: &[u32]) -> Result<(), GenerateError> {
        let (n_prompt, n_ctx, n_vocab) = (prompt.len(), self.n_ctx(), self.n_vocab());
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if n_prompt > n_ctx {
            return Err(GenerateError::PromptTooLong { n_prompt, n_ctx });
        }
        match prompt.iter().position(|&token| token as usize >= n_vocab) {
            None => Ok(()),
            Some(position) => {
                let token = prompt[position];
                Err(GenerateError::TokenOutOfRange {
                    token,
                    position,
                    n_vocab,
                })
            }
        }
    }

    /// Cuts the sequence to what it shares with `prompt`, leaving at least the last token of
    /// the prompt to be computed, and returns the number of tokens kept.
    pub(crate) fn keep_common(&mut self, prompt: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(prompt);
        let n_common = pairs.take_while(|(cached, token)| cached == token).count();
        let n_kept = n_common.min(prompt.len() - 1);
        self.truncate(n_kept);
        n_kept
    }

    /// Appends tokens and returns the logits that `outputs` names; the last are kept. `observer`
    /// is told each layer that is done.
    pub(crate) fn feed(
        &mut self,
        tokens: &[u32],
        outputs: Outputs,
        cancel: &CancelFlag,
        observer: &mut (dyn FnMut(usize) + Send),
    ) -> Result<&[f32], GenerateError> {
        if cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let n_vocab = self.n_vocab();
        self.logits.clear();
        let Self {
            cpu,
            model,
            state,
            routing,
            ..
        } = self;
        let mut observer = |view: LayerView<'_>| {
            observer(view.layer);
            if let Some(routing) = routing {
                routing.add(&view);
            }
            if cancel.is_cancelled() {
                view.stop();
            }
        };
        let logits = forward_observed(cpu, model, state, tokens, outputs, &mut observer);
        if let (Err(_), Some(routing)) = (&logits, routing) {
            routing.truncate(self.tokens.len());
        }
        let logits = logits.map_err(|error| match error {
            ModelError::Stopped { .. } => GenerateError::Cancelled,
            other => GenerateError::Model(other),
        })?;
        let last = logits.len().saturating_sub(n_vocab);
        self.logits.extend_from_slice(&logits[last..]);
        self.tokens.extend_from_slice(tokens);
        Ok(logits)
    }
}
