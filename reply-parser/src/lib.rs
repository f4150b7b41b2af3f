#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod event;
mod format;
mod id;
mod message;
mod parser;
mod reply;
mod tool;

mod calls;
mod thinking;

mod coerce;
mod envelope;
mod json;
mod opening;
mod parameter;
mod tag;
mod xml;

pub use error::ToolError;
pub use event::ReplyEvent;
pub use format::{ArgumentsShape, CallForm, ReasoningStart, ReplyFormat};
pub use id::call_id;
pub use message::template_thought;
pub use parser::{Ending, ReplyParser};
pub use reply::{FinishReason, Reply, ToolCall};
pub use tool::{ParameterForm, Tool};
