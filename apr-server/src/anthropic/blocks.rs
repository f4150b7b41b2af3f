//! The blocks of an answer.

use reply_parser::ReplyEvent;
use serde_json::{Map, Value, json};

/// Blocks that are being collected.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<Block>);

#[derive(Debug)]
enum Block {
    Thinking(String),
    Text(String),
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

impl Blocks {
    pub(super) fn push(&mut self, event: ReplyEvent) {
        match event {
            ReplyEvent::Reasoning(piece) => match self.0.last_mut() {
                Some(Block::Thinking(text)) => text.push_str(&piece),
                _ => self.0.push(Block::Thinking(piece)),
            },
            ReplyEvent::Content(piece) => match self.0.last_mut() {
                Some(Block::Text(text)) => text.push_str(&piece),
                _ => self.0.push(Block::Text(piece)),
            },
            ReplyEvent::ToolCallStart { id, name, .. } => self.0.push(Block::Call {
                id,
                name,
                arguments: String::new(),
            }),
            ReplyEvent::ToolCallArguments { fragment, .. } => {
                if let Some(Block::Call { arguments, .. }) = self.0.last_mut() {
                    arguments.push_str(&fragment);
                }
            }
            // What was broken off is no object, and must not be acted on.
            ReplyEvent::ToolCallEnd {
                is_complete: false, ..
            } => {
                self.0.pop();
            }
            _ => {}
        }
    }

    pub(super) fn into_json(self) -> Value {
        self.0.into_iter().map(Block::into_json).collect()
    }
}

impl Block {
    fn into_json(self) -> Value {
        match self {
            Self::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::Call {
                id,
                name,
                arguments,
            } => {
                let input: Map<String, Value> =
                    serde_json::from_str(&arguments).unwrap_or_default();
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }
}
