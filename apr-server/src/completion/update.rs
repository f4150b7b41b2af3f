//! What has happened to a choice of a job.

use std::time::Duration;

use generate::TokenScore;
use reply_parser::{FinishReason, ReplyEvent};
use serde_json::{Value, json};

use super::figures::seconds_to_ms;

/// Something has happened to a choice.
#[derive(Debug)]
pub(crate) enum Update {
    /// More of the prompt is computed.
    Progress { choice: usize, progress: Progress },
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

/// How far the reading of a prompt has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) n_total: usize,
    pub(crate) n_cached: usize,
    /// With those that were cached.
    pub(crate) n_done: usize,
    /// Since the prompt was begun.
    pub(crate) time: Duration,
}

impl Progress {
    /// Returns it under llama-server's names.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "total": self.n_total,
            "cache": self.n_cached,
            "processed": self.n_done,
            "time_ms": seconds_to_ms(self.time),
        })
    }
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) finish: FinishReason,
    /// The stop string that did it, if one did.
    pub(crate) stop: Option<String>,
}
