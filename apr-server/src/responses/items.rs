//! The items of a response: a thought, a message, calls; and the events by which they come.

use reply_parser::ReplyEvent;
use serde_json::{Value, json};

use crate::random;

/// Items that are complete, and the one that is not.
#[derive(Debug, Default)]
pub(super) struct Items {
    done: Vec<Value>,
    open: Option<Item>,
    n_events: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Call,
}

/// An item on its way.
#[derive(Clone, Debug)]
struct Item {
    kind: Kind,
    id: String,
    /// What it says; of a call, its arguments.
    text: String,
    call_id: String,
    name: String,
}

impl Items {
    /// Returns the items that are complete.
    pub(super) fn done(&self) -> Vec<Value> {
        self.done.clone()
    }

    /// Writes an event with its name and number.
    pub(super) fn event(&mut self, kind: &str, fields: Value, out: &mut String) {
        let mut data = json!({"type": kind, "sequence_number": self.n_events});
        if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
            for (name, value) in fields {
                data.entry(name).or_insert(value);
            }
        }
        self.n_events += 1;
        out.push_str(&format!("event: {kind}\ndata: {data}\n\n"));
    }

    /// Takes a piece of the reply.
    pub(super) fn push(&mut self, event: ReplyEvent, out: &mut String) {
        match event {
            ReplyEvent::Reasoning(text) => {
                self.open(Kind::Reasoning, "", "", out);
                self.delta("response.reasoning_text.delta", &text, out);
            }
            ReplyEvent::Content(text) => {
                self.open(Kind::Message, "", "", out);
                self.delta("response.output_text.delta", &text, out);
            }
            ReplyEvent::ToolCallStart { id, name, .. } => {
                self.close(true, out);
                self.open(Kind::Call, &id, &name, out);
            }
            ReplyEvent::ToolCallArguments { fragment, .. } => {
                self.delta("response.function_call_arguments.delta", &fragment, out);
            }
            ReplyEvent::ToolCallEnd { is_complete, .. } => self.close(is_complete, out),
            _ => {}
        }
    }

    /// Opens an item unless one of its kind is open.
    fn open(&mut self, kind: Kind, call_id: &str, name: &str, out: &mut String) {
        if self.open.as_ref().is_some_and(|item| item.kind == kind) {
            return;
        }
        self.close(true, out);
        let prefix = match kind {
            Kind::Reasoning => "rs",
            Kind::Message => "msg",
            Kind::Call => "fc",
        };
        let item = Item {
            kind,
            id: random::id(prefix),
            text: String::new(),
            call_id: call_id.to_owned(),
            name: name.to_owned(),
        };
        let index = self.done.len();
        let added = json!({"output_index": index, "item": item.to_json("in_progress")});
        self.event("response.output_item.added", added, out);
        if let Some(part) = item.part() {
            let mut fields = item.place(index);
            fields["part"] = part;
            self.event("response.content_part.added", fields, out);
        }
        self.open = Some(item);
    }

    fn delta(&mut self, kind: &str, text: &str, out: &mut String) {
        let index = self.done.len();
        let Some(item) = &mut self.open else {
            return;
        };
        item.text.push_str(text);
        let mut fields = item.place(index);
        fields["delta"] = text.into();
        if item.kind == Kind::Message {
            fields["logprobs"] = json!([]);
        }
        self.event(kind, fields, out);
    }

    /// Ends the item that is open, if one is.
    pub(super) fn close(&mut self, is_whole: bool, out: &mut String) {
        let Some(item) = self.open.take() else {
            return;
        };
        let index = self.done.len();
        let mut fields = item.place(index);
        let kind = match item.kind {
            Kind::Reasoning => "response.reasoning_text.done",
            Kind::Message => "response.output_text.done",
            Kind::Call => "response.function_call_arguments.done",
        };
        if item.kind == Kind::Call {
            fields["arguments"] = item.text.clone().into();
            fields["name"] = item.name.clone().into();
        } else {
            fields["text"] = item.text.clone().into();
        }
        if item.kind == Kind::Message {
            fields["logprobs"] = json!([]);
        }
        self.event(kind, fields, out);
        if let Some(part) = item.part() {
            let mut fields = item.place(index);
            fields["part"] = part;
            self.event("response.content_part.done", fields, out);
        }
        let json = item.to_json(if is_whole { "completed" } else { "incomplete" });
        let fields = json!({"output_index": index, "item": json});
        self.event("response.output_item.done", fields, out);
        self.done.push(json);
    }
}

impl Item {
    /// Returns where a piece of the item belongs.
    fn place(&self, index: usize) -> Value {
        let mut place = json!({"item_id": self.id, "output_index": index});
        if self.kind != Kind::Call {
            place["content_index"] = 0.into();
        }
        place
    }

    /// Returns the one part of the content, of which a call has none.
    fn part(&self) -> Option<Value> {
        match self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": self.text})),
            Kind::Message => Some(json!({
                "type": "output_text",
                "text": self.text,
                "annotations": [],
                "logprobs": [],
            })),
            Kind::Call => None,
        }
    }

    fn to_json(&self, status: &str) -> Value {
        let is_new = status == "in_progress";
        let content: Vec<Value> = self.part().filter(|_| !is_new).into_iter().collect();
        let mut item = json!({"id": self.id, "status": status});
        match self.kind {
            Kind::Reasoning => {
                item["type"] = "reasoning".into();
                item["summary"] = json!([]);
                item["content"] = content.into();
            }
            Kind::Message => {
                item["type"] = "message".into();
                item["role"] = "assistant".into();
                item["content"] = content.into();
            }
            Kind::Call => {
                item["type"] = "function_call".into();
                item["call_id"] = self.call_id.clone().into();
                item["name"] = self.name.clone().into();
                item["arguments"] = self.text.clone().into();
            }
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_and_items_follow_each_other() {
        let mut items = Items::default();
        let mut out = String::new();
        items.push(ReplyEvent::Reasoning("a".to_owned()), &mut out);
        items.push(ReplyEvent::Content("b".to_owned()), &mut out);
        items.push(ReplyEvent::Content("c".to_owned()), &mut out);
        let (id, name) = ("call_1".to_owned(), "f".to_owned());
        items.push(ReplyEvent::ToolCallStart { index: 0, id, name }, &mut out);
        let fragment = "{}".to_owned();
        items.push(
            ReplyEvent::ToolCallArguments { index: 0, fragment },
            &mut out,
        );
        items.push(
            ReplyEvent::ToolCallEnd {
                index: 0,
                is_complete: true,
            },
            &mut out,
        );
        items.close(true, &mut out);
        let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
        let data: Vec<Value> = data
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        for (number, event) in data.iter().enumerate() {
            assert_eq!(event["sequence_number"], number);
        }
        let kinds: Vec<_> = items.done.iter().map(|item| item["type"].clone()).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"]);
        assert_eq!(items.done[1]["content"][0]["text"], "bc");
        assert_eq!(items.done[2]["arguments"], "{}");
    }
}
