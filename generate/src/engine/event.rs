//! What an engine tells about a request.

use sampler::TokenLogprob;

use crate::{FinishReason, GenerateError, Progress};

/// Something has happened to a request. [`Finished`](Self::Finished), [`Failed`](Self::Failed)
/// and [`Embedding`](Self::Embedding) are the last.
#[derive(Debug)]
pub enum Event {
    /// It has left the queue, and its prompt is being computed.
    Started {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Those of them whose keys and values were found.
        n_cached: usize,
        /// Where the prompt leaves the nearest one that is remembered, if it does.
        miss: Option<CacheMiss>,
    },
    /// Some more tokens of the prompt have been computed. `n_total` is without those found.
    Prefill(Progress),
    /// Scores of the next tokens of the prompt; the first token of a prompt has none.
    PromptScores(Vec<TokenScore>),
    /// The prompt is computed and its first token about to be drawn.
    PrefillDone,
    /// The next token.
    Token {
        /// The token.
        token: u32,
        /// Whole characters, perhaps none: a character or a stop string may still be open.
        text: String,
        /// How likely it was, if that was asked.
        score: Option<TokenScore>,
    },
    /// Nothing more will come.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text that was held back until now.
        text: String,
        /// How likely the token was that ended it, which is no part of the text, if one did and
        /// that was asked.
        score: Option<TokenScore>,
    },
    /// The mean of the prompt's hidden states `[E]`, not normalised.
    Embedding(Vec<f32>),
    /// Something went wrong. Other requests are not affected.
    Failed(GenerateError),
}

/// A token with its log probability under the model itself, before any sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens at its place, best first.
    pub top: Vec<TokenLogprob>,
}

/// The place at which a prompt leaves the nearest one that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMiss {
    /// Index of the first token that differs.
    pub position: usize,
    /// The token that is remembered there.
    pub cached: u32,
    /// The token of the prompt.
    pub found: u32,
}

/// Where the events of a request go. It is called by the thread of the engine, or by the one
/// that cancels a request that still waits, and must not wait itself.
pub trait EventSink: Send {
    /// Takes an event. Returns whether somebody still listens; otherwise the request is
    /// cancelled.
    fn send(&mut self, event: Event) -> bool;
}

impl<F: FnMut(Event) -> bool + Send> EventSink for F {
    fn send(&mut self, event: Event) -> bool {
        self(event)
    }
}
