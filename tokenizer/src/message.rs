//! One message of a conversation, as chat templates expect it.
//!
//! The fields that templates read by name are typed; whatever else a client sends stays in
//! `extra` and reaches the template unchanged.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts such as `{"type": "text", "text": …}`, for templates that know them.
    Parts(Vec<Value>),
}

/// A message of a conversation.
///
/// A field that is `None` is undefined in the template, except `content`, which is then the
/// empty text: clients send `null` there beside tool calls, and templates add to it.
///
/// ```
/// let message: tokenizer::Message =
///     serde_json::from_str(r#"{"role": "user", "content": "Hello", "mood": "calm"}"#)?;
/// assert_eq!(message.extra["mood"], "calm");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    #[serde(default, serialize_with = "empty_if_none")]
    pub content: Option<Content>,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls that the assistant makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// Makes a message of a role and a text.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(Content::Text(content.into())),
            reasoning_content: None,
            tool_calls: None,
            tool_call_id: None,
            name: None,
            extra: Map::new(),
        }
    }
}

fn empty_if_none<S: serde::Serializer>(
    content: &Option<Content>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match content {
        Some(content) => content.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_both_ways() {
        let source = json!({
            "role": "assistant",
            "content": [{"type": "text", "text": "hi"}],
            "reasoning_content": "so",
            "tool_calls": [{"function": {"name": "f", "arguments": {"z": 1, "a": 2}}}],
            "weight": 0.5,
        });
        let message: Message = serde_json::from_value(source.clone()).unwrap();
        assert_eq!(serde_json::to_value(&message).unwrap(), source);
    }

    #[test]
    fn missing_content_is_the_empty_text_and_missing_fields_are_left_out() {
        for source in [
            json!({"role": "assistant", "content": null}),
            json!({"role": "assistant"}),
        ] {
            let message: Message = serde_json::from_value(source).unwrap();
            let written = serde_json::to_value(&message).unwrap();
            assert_eq!(written, json!({"role": "assistant", "content": ""}));
        }
    }
}
