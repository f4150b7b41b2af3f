//! OpenAI's API: chats, completions, embeddings, models.

mod chat;
mod completions;
mod embeddings;
mod models;
mod prompts;

use serde_json::{Map, Value};

pub(crate) use self::{
    chat::chat,
    completions::completions,
    embeddings::embeddings,
    models::{model, models},
    prompts::decode,
};
use crate::{
    api_error::ApiError,
    app::App,
    fields::Fields,
    model::{ServedModel, seconds_since_1970},
};

/// Checks that a request means the model that is served. One that names none means it.
pub(crate) fn check_model(fields: &mut Fields, model: &ServedModel) -> Result<(), ApiError> {
    match fields.string("model")? {
        Some(name) if !name.is_empty() && !model.is_called(&name) => {
            Err(models::unknown().param(fields.path("model")))
        }
        _ => Ok(()),
    }
}

/// Refuses at once what would find the queue full after its prompt was read.
pub(crate) fn check_queue(app: &App) -> Result<(), ApiError> {
    let n_waiting = app.model()?.engine.status().n_waiting;
    match n_waiting >= app.config.queue_len {
        true => Err(ApiError::queue_full(n_waiting)),
        false => Ok(()),
    }
}

/// Whether and how an answer comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
struct Streaming {
    is_on: bool,
    has_usage: bool,
    has_progress: bool,
}

impl Streaming {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
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

/// What all pieces of an answer begin with.
#[derive(Clone, Debug)]
struct Envelope {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    fingerprint: String,
}

impl Envelope {
    fn new(id: String, object: &'static str, model: &ServedModel) -> Self {
        Self {
            id,
            object,
            created: seconds_since_1970(),
            model: model.name().to_owned(),
            fingerprint: model.facts.fingerprint.clone(),
        }
    }

    /// Returns a piece of the answer.
    fn with(&self, choices: &[Value]) -> Value {
        serde_json::json!({
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// Writes an answer. What choices say of their tokens would take many times as much as a
    /// tree, so `write_choices` writes them as text.
    fn write(
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
}

/// Writes items of a list.
fn write_list<T>(
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
