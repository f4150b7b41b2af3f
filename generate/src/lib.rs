#![doc = include_str!("../README.md")]
//!
//! # Reading order
//! A [`Sequence`] is a model, a state and the tokens in it; it takes a prompt and keeps what
//! it shares with the last one; it may keep the [`Routing`] of its tokens. A [`TokenLoop`] draws token after token from a sequence, a
//! [`Generator`] turns them into text, and [`run_qwen3_moe_generate`] is the whole job in one
//! call. An [`Engine`] does it for many requests at a time. [`Sequence::visit_logits`] and
//! [`Sequence::visit_windows`] hand out the logits of given tokens, [`Sequence::likelihoods`]
//! says how likely they are.
//!
//! Nothing here reads a clock, an argument or the environment, and nothing is printed.

#![forbid(unsafe_code)]

mod cancel;
mod error;

mod chooser;
mod routing;
mod sequence;
mod token_loop;

mod text_stream;

mod generator;
mod run;

mod grammar_guide;
mod late_guide;

mod engine;
mod prefix_cache;

mod likelihood;
mod logits;
mod perplexity;

pub use cancel::CancelFlag;
pub use engine::{
    CacheMiss, DiskCacheOptions, Engine, EngineHandle, EngineOptions, EngineStatus, Event,
    EventSink, Generate, Guide, Request, SlotStatus, SubmitError, Task, Ticket, TokenScore,
};
pub use error::GenerateError;
pub use generator::{Generator, Piece, Step};
pub use grammar_guide::{GrammarGuide, grammar_vocabulary};
pub use late_guide::{AllGuides, LateGuide};
pub use likelihood::{Likelihood, RollingWindow, Scores, rolling_windows};
pub use perplexity::{Divergence, Perplexity, Scored, Windows};
pub use routing::Routing;
pub use run::run_qwen3_moe_generate;
pub use sequence::{Prefill, Progress, Sequence};
pub use text_stream::TextConfig;
pub(crate) use text_stream::TextStream;
pub use token_loop::{FinishReason, GenerationConfig, TokenLoop, TokenStep};
