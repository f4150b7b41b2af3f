//! What has happened to a choice of a job.

use std::time::Duration;

use generate::TokenScore;
use reply_parser::{FinishReason, ReplyEvent};

/// Something has happened to a choice.
#[derive(Debug)]
pub(crate) enum Update {
    /// More of the prompt is computed.
    Progress {
        choice: usize,
        n_total: usize,
        n_cached: usize,
        /// With those that were cached.
        n_done: usize,
        /// Since the prompt was begun.
        time: Duration,
    },
    /// Scores of the next tokens of the prompt; the first one has none.
    PromptScores {
        choice: usize,
        scores: Vec<TokenScore>,
    },
    /// The next token, and what it says.
    Token {
        choice: usize,
        events: Vec<ReplyEvent>,
        score: Option<TokenScore>,
    },
    /// The choice is complete.
    Ended {
        choice: usize,
        /// What was held back.
        events: Vec<ReplyEvent>,
        end: End,
        /// Of the token that ended it, if one did and scores are wanted.
        score: Option<TokenScore>,
    },
    /// The mean of the prompt's hidden states.
    Embedding { choice: usize, values: Vec<f32> },
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) finish: FinishReason,
    /// The stop string that did it, if one did.
    pub(crate) stop: Option<String>,
}
