#![doc = include_str!("../README.md")]
//!
//! # Reading order
//! A [`Sequence`] is a model, a state and the tokens in it; it takes a prompt and keeps what
//! it shares with the last one; it may keep the [`Routing`] of its tokens. A [`TokenLoop`] draws token after token from a sequence, a
//! [`Generator`] turns them into text, and [`run_qwen3_moe_generate`] is the whole job in one
//! call. [`Sequence::visit_logits`] and [`Sequence::visit_windows`] hand out the logits of given tokens.
//!
//! Nothing here reads a clock, an argument or the environment, and nothing is printed.

#![forbid(unsafe_code)]

mod cancel;
mod error;

mod routing;
mod sequence;
mod token_loop;

mod generator;
mod run;

mod logits;
mod perplexity;

pub use cancel::CancelFlag;
pub use error::GenerateError;
pub use generator::{Generator, Piece, Step, TextConfig};
pub use perplexity::{Divergence, Perplexity, Scored, Windows};
pub use routing::Routing;
pub use run::run_qwen3_moe_generate;
pub use sequence::{Prefill, Progress, Sequence};
pub use token_loop::{FinishReason, GenerationConfig, TokenLoop, TokenStep};
