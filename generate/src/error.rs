//! What can go wrong between a prompt and its continuation.

use std::{io, path::PathBuf};

use moe_model::ModelError;
use sampler::SamplerError;
use thiserror::Error;
use tokenizer::TokenizerError;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt holds no tokens.
    #[error("the prompt is empty, expected at least one token")]
    EmptyPrompt,
    /// The prompt does not fit into the context.
    #[error("the prompt has {n_prompt} tokens, the context holds {n_ctx}")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Positions of the context.
        n_ctx: usize,
    },
    /// A token of the prompt is not in the vocabulary.
    #[error("token {token} at position {position} of the prompt: expected an id below {n_vocab}")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Its index in the prompt.
        position: usize,
        /// Ids of the model.
        n_vocab: usize,
    },
    /// A text is too short to be scored.
    #[error("the text has {n_tokens} tokens, a window of {n_ctx} needs at least as many")]
    TextTooShort {
        /// Tokens of the text.
        n_tokens: usize,
        /// Tokens of a window.
        n_ctx: usize,
    },
    /// A window has no room for context and scores.
    #[error("a window of {n_ctx} tokens: expected at least 4")]
    WindowTooShort {
        /// Tokens of the window.
        n_ctx: usize,
    },
    /// Two vocabularies that should be one differ.
    #[error("logits of {found} tokens, expected {expected}")]
    VocabLen {
        /// Ids of the model.
        expected: usize,
        /// Logits given.
        found: usize,
    },
    /// The folder of the prefix cache cannot be used.
    #[error("the cache folder {} cannot be used", path.display())]
    CacheFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A setting of an engine is out of its range.
    #[error("{option} is {found}, expected at least {expected}")]
    EngineOption {
        /// Which.
        option: &'static str,
        /// The least it may be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// A forward pass of several requests failed, for all of them.
    #[error("the forward pass failed: {what}")]
    Pass {
        /// Why.
        what: String,
    },
    /// A guide cannot go on.
    #[error("{what}")]
    Guide {
        /// What is wrong, in the guide's words.
        what: String,
    },
    /// The work was cancelled before it gave a result.
    #[error("cancelled")]
    Cancelled,
    /// The model is unusable or the pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The sampler's settings or the logits are unusable.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The vocabulary is unusable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
