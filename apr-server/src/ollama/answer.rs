//! Writing an answer, as a whole or line by line.

use reply_parser::{FinishReason, Reply, ReplyEvent};
use serde_json::{Map, Value, json};

use super::error_json;
use crate::{
    api_error::ApiError,
    completion::{Running, Update, Writer},
    model::{ServedModel, rfc3339, seconds_since_1970},
};

/// Which of the two routes answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Text,
}

/// What has come and was not told yet.
#[derive(Debug)]
pub(super) struct Lines {
    form: Form,
    reply: Reply,
}

impl Lines {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            reply: Reply::default(),
        }
    }

    pub(super) fn collect(&mut self, events: Vec<ReplyEvent>) {
        self.reply.extend(events);
    }

    /// Takes what can be told: text at once, calls when they are complete, which is at the end.
    fn take_text(&mut self) -> Option<Reply> {
        let content = std::mem::take(&mut self.reply.content);
        let reasoning = self.reply.reasoning.take().filter(|text| !text.is_empty());
        let is_empty = content.is_empty() && reasoning.is_none();
        (!is_empty).then_some(Reply {
            content,
            reasoning,
            tool_calls: Vec::new(),
        })
    }

    /// Returns the last line, with all that was not told before.
    pub(super) fn last(&mut self, finish: FinishReason, running: &Running) -> Value {
        let reply = std::mem::take(&mut self.reply);
        let mut line = self.line(reply, running);
        let figures = running.figures(0);
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        line["done"] = true.into();
        line["done_reason"] = match finish {
            FinishReason::Length => "length",
            FinishReason::Stop | FinishReason::ToolCalls => "stop",
        }
        .into();
        line["total_duration"] = nanos(figures.submitted.elapsed()).into();
        line["load_duration"] = 0.into();
        line["prompt_eval_count"] = figures.n_prompt.into();
        line["prompt_eval_duration"] = nanos(figures.prompt_time()).into();
        line["eval_count"] = figures.n_generated.into();
        line["eval_duration"] = nanos(figures.predicted_time()).into();
        line
    }

    fn line(&self, reply: Reply, running: &Running) -> Value {
        let name = running.model().map_or("", ServedModel::name);
        line(self.form, reply, name)
    }
}

fn line(form: Form, reply: Reply, name: &str) -> Value {
    let created = rfc3339(seconds_since_1970());
    let mut line = json!({"model": name, "created_at": created, "done": false});
    match form {
        Form::Chat => line["message"] = message(reply),
        Form::Text => {
            line["response"] = reply.content.into();
            if let Some(reasoning) = reply.reasoning {
                line["thinking"] = reasoning.into();
            }
        }
    }
    line
}

fn message(reply: Reply) -> Value {
    let mut message = json!({"role": "assistant", "content": reply.content});
    if let Some(reasoning) = reply.reasoning {
        message["thinking"] = reasoning.into();
    }
    let calls = reply.tool_calls.iter().filter(|call| call.is_complete);
    let calls = calls.map(|call| {
        let arguments: Map<String, Value> =
            serde_json::from_str(&call.arguments).unwrap_or_default();
        json!({"function": {"name": call.name, "arguments": arguments}})
    });
    let calls: Vec<Value> = calls.collect();
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

/// Returns the answer to nothing.
pub(super) fn nothing(form: Form, model: &ServedModel) -> Value {
    let mut line = line(form, Reply::default(), model.name());
    line["done"] = true.into();
    line["done_reason"] = "load".into();
    line
}

impl Writer for Lines {
    fn begin(&mut self, _running: &Running, _out: &mut String) {}

    fn update(&mut self, running: &Running, update: Update, out: &mut String) {
        let line = match update {
            Update::Token { events, .. } => {
                self.collect(events);
                self.take_text().map(|reply| self.line(reply, running))
            }
            Update::Ended { events, end, .. } => {
                self.collect(events);
                Some(self.last(end.finish, running))
            }
            _ => None,
        };
        if let Some(line) = line {
            write(&line, out);
        }
    }

    fn end(&mut self, _running: &Running, _out: &mut String) {}

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        write(&error_json(error), out);
    }

    /// Clients would take any line for an answer, and white space for none.
    fn ping(&self) -> &'static str {
        ""
    }
}

fn write(line: &Value, out: &mut String) {
    out.push_str(&line.to_string());
    out.push('\n');
}
