//! From a reply back to the message that a chat template renders.
//!
//! An agent sends each reply back with the next request. If the template then writes what the
//! model wrote, the cached prefix holds. Templates differ in the shape they want, so the
//! arguments, which clients keep as a text, are brought into the shape that keeps the text.

use serde_json::{Deserializer, Map, Value, json};

use crate::{
    Reply, ReplyFormat,
    format::{ArgumentsShape, OPEN_THOUGHT},
};

impl ReplyFormat {
    /// Returns arguments as the template wants them, which is a text, a map, or a map of texts.
    /// What is no JSON object stays a text.
    ///
    /// ```
    /// use reply_parser::ReplyFormat;
    /// let coder = ReplyFormat::of_template("… <function= …", "", Vec::new());
    /// let arguments = coder.template_arguments(r#"{"n": 1.50, "on": true, "who": "me"}"#);
    /// assert_eq!(arguments, serde_json::json!({"n": "1.50", "on": "true", "who": "me"}));
    /// ```
    #[must_use]
    pub fn template_arguments(&self, arguments: &str) -> Value {
        let shaped = match self.arguments {
            ArgumentsShape::Text => None,
            ArgumentsShape::Map => serde_json::from_str(arguments).ok().map(Value::Object),
            ArgumentsShape::MapOfTexts => map_of_texts(arguments).map(Value::Object),
        };
        shaped.unwrap_or_else(|| arguments.into())
    }

    /// Returns the assistant's message for the template.
    #[must_use]
    pub fn template_message(&self, reply: &Reply) -> Value {
        let mut message = json!({"role": "assistant", "content": reply.content});
        let is_empty = reply.reasoning.as_deref() == Some("");
        let thought = template_thought(reply.reasoning.as_deref(), &reply.content, is_empty);
        message["reasoning_content"] = thought.into();
        let calls = reply.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": "function", "function": {
                "name": call.name,
                "arguments": self.template_arguments(&call.arguments),
            }})
        });
        let calls: Vec<Value> = calls.collect();
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        message
    }
}

/// Returns the thought of an assistant's message as the template wants it, from what a
/// client sends. `is_silent` says that the prompt itself gives replies an empty thought, as
/// templates do for a model that is not to think.
///
/// Templates leave out a thought that is the empty text, though its tags were there; a line
/// break they write as an empty thought. And without the field they look for a thought in the
/// content, where only one that the content begins with is one.
///
/// ```
/// use reply_parser::template_thought;
/// assert_eq!(template_thought(None, "See `</think>`.", false), Some(""));
/// assert_eq!(template_thought(None, "Hello", true), Some("\n"));
/// assert_eq!(template_thought(None, "<think>So…</think>Hello", false), None);
/// ```
#[must_use]
pub fn template_thought<'a>(
    thought: Option<&'a str>,
    content: &str,
    is_silent: bool,
) -> Option<&'a str> {
    match thought {
        None if content.trim_start().starts_with(OPEN_THOUGHT) => None,
        None | Some("") if is_silent => Some("\n"),
        None => Some(""),
        thought => thought,
    }
}

/// The values of a JSON object as texts: what a text says, and all else as it stands there.
fn map_of_texts(object: &str) -> Option<Map<String, Value>> {
    // Whether it is an object at all; below, only what separates its parts is looked at.
    serde_json::from_str::<Map<String, Value>>(object).ok()?;
    let mut texts = Map::new();
    let mut rest = object.trim_start().strip_prefix('{')?;
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if rest.starts_with('}') {
            return Some(texts);
        }
        let key;
        (key, rest) = first_value(rest)?;
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let parsed;
        (parsed, rest) = first_value(value)?;
        let text = match parsed {
            Value::String(text) => text,
            _ => value[..value.len() - rest.len()].to_owned(),
        };
        texts.insert(key.as_str()?.to_owned(), text.into());
    }
}

/// The first value of a JSON text, and what follows it.
fn first_value(text: &str) -> Option<(Value, &str)> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_texts_as_they_stand() {
        let object = r#" { "a\n" : [1,  {"b":"}"}] ,"s":"x\"y", "n":-0.50e1,"t":true , "z":null} "#;
        let texts = map_of_texts(object).unwrap();
        let expected = json!({
            "a\n": r#"[1,  {"b":"}"}]"#, "s": "x\"y", "n": "-0.50e1", "t": "true", "z": "null",
        });
        assert_eq!(Value::Object(texts), expected);
        assert_eq!(map_of_texts("{}"), Some(Map::new()));
        assert_eq!(map_of_texts(r#"{"a": 1"#), None);
        assert_eq!(map_of_texts("[]"), None);
    }

    #[test]
    fn arguments_that_are_no_object_stay_what_they_are() {
        for template in [
            "<tool_call>",
            "<tool_call> arguments is string",
            "<function=",
        ] {
            let format = ReplyFormat::of_template(template, "", Vec::new());
            assert_eq!(format.template_arguments("{\"a\": "), json!("{\"a\": "));
        }
    }
}
