//! A message in pieces, under Anthropic's names of events.

use reply_parser::ReplyEvent;
use serde_json::{Value, json};

use super::{error_json, message, stop_reason, usage};
use crate::{
    api_error::ApiError,
    completion::{Running, Update, Writer},
};

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Writes events.
pub(super) struct Events {
    id: String,
    /// What kind of block is open, if one is.
    open: Option<&'static str>,
    n_blocks: usize,
}

impl Events {
    pub(super) const fn new(id: String) -> Self {
        Self {
            id,
            open: None,
            n_blocks: 0,
        }
    }

    fn push(&mut self, event: ReplyEvent, out: &mut String) {
        match event {
            ReplyEvent::Reasoning(text) => {
                let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.open("thinking", &block, out);
                self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
            }
            ReplyEvent::Content(text) => {
                self.open("text", &json!({"type": "text", "text": ""}), out);
                self.delta(&json!({"type": "text_delta", "text": text}), out);
            }
            ReplyEvent::ToolCallStart { id, name, .. } => {
                self.close(out);
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.open("tool_use", &block, out);
            }
            ReplyEvent::ToolCallArguments { fragment, .. } => {
                self.delta(
                    &json!({"type": "input_json_delta", "partial_json": fragment}),
                    out,
                );
            }
            _ => {}
        }
    }

    /// Opens a block unless one of its kind is open.
    fn open(&mut self, kind: &'static str, block: &Value, out: &mut String) {
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        let index = self.n_blocks;
        let data = json!({"type": "content_block_start", "index": index, "content_block": block});
        write(&data, out);
        self.open = Some(kind);
        self.n_blocks += 1;
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            write(
                &json!({"type": "content_block_stop", "index": self.n_blocks - 1}),
                out,
            );
        }
    }

    fn delta(&self, delta: &Value, out: &mut String) {
        let index = self.n_blocks.saturating_sub(1);
        write(
            &json!({"type": "content_block_delta", "index": index, "delta": delta}),
            out,
        );
    }
}

impl Writer for Events {
    fn begin(&mut self, running: &Running, out: &mut String) {
        let name = running.model().map_or("", |model| model.name());
        let mut message = message(&self.id, name);
        message["usage"] = usage(running);
        write(&json!({"type": "message_start", "message": message}), out);
        out.push_str(PING);
    }

    fn update(&mut self, running: &Running, update: Update, out: &mut String) {
        match update {
            Update::Token { events, .. } => events.into_iter().for_each(|it| self.push(it, out)),
            Update::Ended { events, end, .. } => {
                events.into_iter().for_each(|it| self.push(it, out));
                self.close(out);
                let delta = json!({"stop_reason": stop_reason(&end), "stop_sequence": end.stop});
                let data =
                    json!({"type": "message_delta", "delta": delta, "usage": usage(running)});
                write(&data, out);
            }
            _ => {}
        }
    }

    fn end(&mut self, _running: &Running, out: &mut String) {
        write(&json!({"type": "message_stop"}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        write(&error_json(error), out);
    }

    fn ping(&self) -> &'static str {
        PING
    }
}

/// Writes an event that has the name of its type.
fn write(data: &Value, out: &mut String) {
    out.push_str("event: ");
    out.push_str(data["type"].as_str().unwrap_or("error"));
    out.push_str("\ndata: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_opened_and_closed_in_their_order() {
        let mut events = Events::new("msg".to_owned());
        let mut out = String::new();
        for event in [
            ReplyEvent::Reasoning("a".to_owned()),
            ReplyEvent::Reasoning("b".to_owned()),
            ReplyEvent::Content("c".to_owned()),
        ] {
            events.push(event, &mut out);
        }
        for index in 0..2 {
            let (id, name) = ("i".to_owned(), "f".to_owned());
            events.push(ReplyEvent::ToolCallStart { index, id, name }, &mut out);
        }
        events.close(&mut out);
        let names: Vec<_> = out
            .lines()
            .filter_map(|line| line.strip_prefix("event: "))
            .collect();
        let (start, delta, stop) = (
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
        );
        assert_eq!(
            names,
            [
                start, delta, delta, stop, start, delta, stop, start, stop, start, stop
            ]
        );
    }
}
