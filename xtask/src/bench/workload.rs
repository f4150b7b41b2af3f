//! What is measured.

use std::fmt;

/// Tokens in each sequence before several are continued together.
pub(super) const BATCHED_PROMPT: usize = 64;

/// Tokens by which several sequences are continued together.
pub(super) const BATCHED_GEN: usize = 32;

/// A test that every engine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// A prompt at once.
    Prefill { n_prompt: usize },
    /// Tokens one by one, after `depth` others.
    Decode { n_gen: usize, depth: usize },
    /// One token of each of several sequences at a time.
    Batched { n_seqs: usize },
    /// From the start of the process to the first token.
    Start,
}

impl Workload {
    /// Turns a rate into what the table shows: tokens per second, or seconds.
    pub(super) fn shown(self, rate: f64) -> f64 {
        match self {
            Self::Start => 1.0 / rate,
            Self::Prefill { .. } | Self::Decode { .. } | Self::Batched { .. } => rate,
        }
    }

    /// The unit of [`Self::shown`].
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Start => "s",
            Self::Prefill { .. } | Self::Decode { .. } | Self::Batched { .. } => "tok/s",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill { n_prompt } => write!(f, "pp{n_prompt}"),
            Self::Decode { n_gen, depth: 0 } => write!(f, "tg{n_gen}"),
            Self::Decode { n_gen, depth } => write!(f, "tg{n_gen} @ d{depth}"),
            Self::Batched { n_seqs } => write!(f, "{n_seqs} × tg{BATCHED_GEN} @ d{BATCHED_PROMPT}"),
            Self::Start => write!(f, "start"),
        }
    }
}
