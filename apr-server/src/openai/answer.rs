//! What the answers of chats and completions have in common: what stands around their choices,
//! as a whole and in the pieces of a stream.

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::{
    api_error::ApiError,
    completion::{Progress, Running, timings, usage},
    fields::Fields,
    frames::{self, DONE},
    model::{ServedModel, seconds_since_1970},
    routes,
};

/// Whether and how an answer comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streaming {
    pub(super) is_on: bool,
    has_usage: bool,
    has_progress: bool,
}

impl Streaming {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let is_on = fields.bool("stream")?.unwrap_or(false);
        let has_progress = fields.bool("return_progress")?.unwrap_or(false);
        let path = fields.path("stream_options");
        let mut has_usage = false;
        if let Some(mut options) = fields.object("stream_options")? {
            if !is_on {
                return Err(ApiError::invalid(path, "needs stream"));
            }
            has_usage = options.bool("include_usage")?.unwrap_or(false);
            // Random letters that hide the length of pieces; there is nothing to hide here.
            options.bool("include_obfuscation")?;
            options.bool("continuous_usage_stats")?;
            options.finish()?;
        }
        Ok(Self {
            is_on,
            has_usage,
            has_progress,
        })
    }
}

/// What all pieces of an answer begin with, and how they come.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    fingerprint: String,
    pub(super) streaming: Streaming,
}

impl Envelope {
    pub(super) fn new(
        id: String,
        object: &'static str,
        streaming: Streaming,
        model: &ServedModel,
    ) -> Self {
        Self {
            id,
            object,
            created: seconds_since_1970(),
            model: model.name().to_owned(),
            fingerprint: model.facts.fingerprint.clone(),
            streaming,
        }
    }

    /// Returns a piece of the answer. Where one tells the usage, the others say that they do not.
    pub(super) fn with(&self, choices: &[Value]) -> Value {
        let mut piece = json!({
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        });
        if self.streaming.has_usage {
            piece["usage"] = Value::Null;
        }
        piece
    }

    /// Writes a piece with more fields. What choices say of their tokens would take many times
    /// as much as a tree, so `write_choices` writes them as text.
    pub(super) fn write(
        &self,
        more: Map<String, Value>,
        out: &mut String,
        write_choices: impl FnOnce(&mut String),
    ) {
        let mut answer = self.with(&[]);
        if let Value::Object(fields) = &mut answer {
            fields.extend(more);
            fields.shift_remove("choices");
        }
        out.push_str(&answer.to_string());
        out.pop();
        out.push_str(",\"choices\":[");
        write_choices(out);
        out.push_str("]}");
    }

    /// Returns the whole answer at once.
    pub(super) fn response(
        &self,
        running: &Running,
        write_choices: impl FnOnce(&ServedModel, &mut String),
    ) -> Result<Response, ApiError> {
        let model = running.model()?;
        let mut more = Map::new();
        more.insert("usage".to_owned(), usage_of(running));
        more.insert("timings".to_owned(), timings(running.figures(0), model));
        let mut body = String::new();
        self.write(more, &mut body, |out| write_choices(model, out));
        Ok(routes::text(body, "application/json"))
    }

    /// Writes how far the reading of a prompt has come, if that is wanted; `choice` is what
    /// stands for an answer.
    pub(super) fn write_progress(&self, choice: Value, progress: Progress, out: &mut String) {
        if !self.streaming.has_progress {
            return;
        }
        let mut piece = self.with(&[choice]);
        piece["prompt_progress"] = progress.to_json();
        frames::event(&piece, out);
    }

    /// Writes the end of a stream.
    pub(super) fn write_end(&self, running: &Running, out: &mut String) {
        if self.streaming.has_usage {
            let mut piece = self.with(&[]);
            piece["usage"] = usage_of(running);
            frames::event(&piece, out);
        }
        out.push_str(DONE);
    }
}

fn usage_of(running: &Running) -> Value {
    usage(&running.all_figures(), running.job().n_per_prompt())
}

/// Writes items of a list.
pub(super) fn write_list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    for (idx, item) in items.into_iter().enumerate() {
        if idx > 0 {
            out.push(',');
        }
        write(item, out);
    }
}
