#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod rank;

mod argmax;
mod log_softmax;

mod candidates;
mod history;
mod rng;
mod stages;

mod chain;
mod config;
mod stop;

mod grammar;

#[cfg(test)]
mod testing;

pub use argmax::argmax;
pub use candidates::TokenLogprob;
pub use chain::SamplerChain;
pub use config::{Mirostat2, SamplerConfig};
pub use error::SamplerError;
pub use grammar::{
    FreeText, Grammar, GrammarMatcher, GrammarPart, GrammarSource, GrammarTokens,
    GrammarVocabulary, Next, TokenMask,
};
pub use log_softmax::LogSoftmax;
pub use rng::Rng;
pub use stop::{Step, StopReason, StopRules, StopState};
