#![doc = include_str!("../README.md")]
//!
//! # Reading order
//! [`Tokenizer`] holds a vocabulary, finds added tokens, cuts the rest into pieces and merges
//! their bytes; [`DecodeStream`] turns bytes back into text. The source is
//! the Hugging Face library's pipeline for Qwen2, which the tests hold it against; metadata
//! keys are those of the GGUF specification. No file is opened here and nothing is printed.

#![forbid(unsafe_code)]

mod added;
mod bpe;
mod byte_level;
mod chat_prompt;
mod checkpoint;
mod decode_stream;
mod error;
mod gguf;
mod json;
mod merges;
mod message;
mod special_ids;
mod split;
mod tables;
mod template;
mod to_documents;
mod to_gguf;
mod tokenizer;
mod vocabulary;

pub use added::SpecialTokens;
pub use chat_prompt::ChatPrompt;
pub use decode_stream::DecodeStream;
pub use error::{TemplateError, TokenizerError};
pub use message::{Content, Message};
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
pub use vocabulary::TokenKind;
