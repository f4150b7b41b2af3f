//! From a conversation to a prompt.
//!
//! Only the template writes control tokens: what stands in messages, tools and options is
//! text, whatever it looks like.

use reply_parser::{ReplyFormat, template_thought};
use serde_json::{Map, Value};
use tokenizer::{ChatPrompt, Content, Message};

use super::{Generation, Held, Settings, Tools};
use crate::{
    api_error::ApiError,
    fields::{Fields, wrong_type},
    model::ServedModel,
};

/// Who may speak, and what templates call them.
const ROLES: [(&str, &str); 5] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
];

/// How long a thought may be for each effort; `None` is no thought at all.
const EFFORTS: [(&str, Option<usize>); 6] = [
    ("none", None),
    ("minimal", Some(256)),
    ("low", Some(1024)),
    ("medium", Some(4096)),
    ("high", Some(usize::MAX)),
    ("xhigh", Some(usize::MAX)),
];

/// A conversation, and what is to be made of it.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Tools,
    /// Further variables of the template.
    pub(crate) options: Map<String, Value>,
    /// Whether the prompt ends where the answer begins.
    pub(crate) is_open: bool,
    pub(crate) thinking_budget: Option<usize>,
    /// Whether thoughts stay in the answer.
    pub(crate) keeps_thoughts: bool,
}

impl Chat {
    /// Makes a chat of messages, of which there must be one. `param` is the field that they
    /// came from.
    pub(crate) fn of(messages: Vec<Message>, param: &str) -> Result<Self, ApiError> {
        if messages.is_empty() {
            return Err(ApiError::invalid(param, "expected at least one message"));
        }
        Ok(Self {
            messages,
            is_open: true,
            ..Self::default()
        })
    }

    /// Reads the fields of a chat completion that say what the prompt is.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let items = match fields.required("messages")? {
            Value::Array(items) => items,
            other => return Err(wrong_type("messages", "an array", &other)),
        };
        let message = |(idx, item)| message(item, &format!("messages[{idx}]"));
        let messages = items.into_iter().enumerate().map(message);
        let mut chat = Self::of(messages.collect::<Result<_, _>>()?, "messages")?;
        chat.read_more(fields)?;
        Ok(chat)
    }

    /// Reads those of them that are not messages.
    pub(crate) fn read_more(&mut self, fields: &mut Fields) -> Result<(), ApiError> {
        self.is_open = fields.bool("add_generation_prompt")?.unwrap_or(true);
        self.tools = Tools::read(fields)?;
        self.read_thinking(fields)?;
        if let Some(more) = fields.object("chat_template_kwargs")? {
            self.options.extend(more.into_map());
        }
        Ok(())
    }

    fn read_thinking(&mut self, fields: &mut Fields) -> Result<(), ApiError> {
        if let Some(effort) = fields.string("reasoning_effort")? {
            let path = fields.path("reasoning_effort");
            self.set_effort(&effort, &path)?;
        }
        if let Some(is_on) = fields.bool("enable_thinking")? {
            self.options
                .insert("enable_thinking".to_owned(), is_on.into());
        }
        for name in ["thinking_budget", "thinking_budget_tokens"] {
            let budget = fields.integer(name, -1..=i64::MAX)?;
            // -1 is no budget, as in llama-server.
            let budget = budget.and_then(|budget| usize::try_from(budget).ok());
            self.thinking_budget = budget.or(self.thinking_budget);
        }
        self.keeps_thoughts = match fields.string("reasoning_format")?.as_deref() {
            None | Some("auto" | "deepseek") => false,
            Some("none") => true,
            Some(_) => {
                let path = fields.path("reasoning_format");
                return Err(ApiError::invalid(path, "expected auto, deepseek or none"));
            }
        };
        Ok(())
    }

    /// Says how much is to be thought.
    pub(crate) fn set_effort(&mut self, effort: &str, path: &str) -> Result<(), ApiError> {
        let Some((_, budget)) = EFFORTS.iter().find(|(name, _)| *name == effort) else {
            let names: Vec<_> = EFFORTS.iter().map(|(name, _)| *name).collect();
            let message = format!("expected one of {}", names.join(", "));
            return Err(ApiError::invalid(path, message));
        };
        self.thinking_budget = budget.filter(|&budget| budget < usize::MAX);
        let is_on = budget.is_some();
        self.options
            .insert("enable_thinking".to_owned(), is_on.into());
        self.options
            .insert("reasoning_effort".to_owned(), effort.into());
        Ok(())
    }

    /// Renders the conversation, and says how the reply to it is made and read.
    pub(crate) fn generation(
        &self,
        settings: Settings,
        id: String,
        model: &ServedModel,
    ) -> Result<(Vec<u32>, Generation), ApiError> {
        let prompt = self.render(model)?;
        let source = model.tokenizer.chat_template().unwrap_or_default();
        let tools = self.tools.tools.clone();
        let mut format = ReplyFormat::of_template(source, &prompt.text, tools);
        // Templates close the thought of a model that is not to think.
        let is_over = prompt.text.trim_end().ends_with("</think>");
        let thinks = format.reasoning.filter(|_| !is_over);
        let held = Held::chat(&settings, &self.tools, format.calls, thinks, model)?;
        if self.keeps_thoughts {
            format.reasoning = None;
        }
        let generation = Generation {
            settings,
            n_top: None,
            n_top_prompt: None,
            thinks,
            thinking_budget: self.thinking_budget,
            held,
            is_single_call: self.tools.is_single,
            format,
            id,
        };
        Ok((prompt.ids, generation))
    }

    /// Renders the conversation.
    pub(crate) fn render(&self, model: &ServedModel) -> Result<ChatPrompt, ApiError> {
        let (Some(template), Some(source)) = (&model.template, model.tokenizer.chat_template())
        else {
            let message = "this model has no chat template, so it cannot chat";
            let status = axum::http::StatusCode::BAD_REQUEST;
            return Err(ApiError::new(status, message).code("no_chat_template"));
        };
        let messages = self.shaped_messages(source);
        Ok(model.tokenizer.encode_chat(
            template,
            &messages,
            self.tools.list.as_ref(),
            &self.options,
            self.is_open,
        )?)
    }

    /// Returns the messages with thoughts, and arguments of calls, in the shape that the template
    /// writes as the model did, so that the cache holds.
    fn shaped_messages(&self, source: &str) -> Vec<Message> {
        let format = ReplyFormat::of_template(source, "", Vec::new());
        let is_silent = self.options.get("enable_thinking") == Some(&Value::Bool(false));
        let mut messages = self.messages.clone();
        let replies = messages.iter_mut().filter(|it| it.role == "assistant");
        for message in replies {
            let thought = message.reasoning_content.as_deref();
            let content = match &message.content {
                Some(Content::Text(text)) => text,
                _ => "",
            };
            let thought = template_thought(thought, content, is_silent).map(str::to_owned);
            message.reasoning_content = thought;
        }
        let calls = messages
            .iter_mut()
            .filter_map(|message| message.tool_calls.as_mut());
        for call in calls.flatten() {
            let arguments = call
                .get_mut("function")
                .and_then(|it| it.get_mut("arguments"));
            if let Some(arguments) = arguments
                && let Some(text) = arguments.as_str()
            {
                *arguments = format.template_arguments(text);
            }
        }
        messages
    }
}

/// Reads a message that stands at `path`.
pub(crate) fn message(item: Value, path: &str) -> Result<Message, ApiError> {
    if !item.is_object() {
        return Err(wrong_type(path, "an object", &item));
    }
    let Some(role) = item.get("role") else {
        return Err(ApiError::invalid(format!("{path}.role"), "is required"));
    };
    let found = role
        .as_str()
        .and_then(|role| ROLES.iter().find(|(name, _)| *name == role));
    let Some((_, role)) = found else {
        let message = "expected system, developer, user, assistant or tool";
        return Err(ApiError::invalid(format!("{path}.role"), message));
    };
    check_types(&item, path)?;
    // What the library says would quote the message.
    let read = serde_json::from_value::<Message>(item);
    let mut message = read.map_err(|_| ApiError::invalid(path, "expected a message"))?;
    (*role).clone_into(&mut message.role);
    if let Some(Content::Parts(parts)) = &message.content {
        let text = joined(parts, &format!("{path}.content"))?;
        message.content = Some(Content::Text(text));
    }
    if message.tool_calls.as_ref().is_some_and(Vec::is_empty) {
        message.tool_calls = None;
    }
    Ok(message)
}

/// Names the field of a message that has another type than it should.
fn check_types(item: &Value, path: &str) -> Result<(), ApiError> {
    type IsRight = fn(&Value) -> bool;
    const FIELDS: [(&str, &str, IsRight); 5] = [
        ("content", "a string or an array of parts", |value| {
            value.is_string() || value.is_array()
        }),
        ("reasoning_content", "a string", Value::is_string),
        ("tool_call_id", "a string", Value::is_string),
        ("name", "a string", Value::is_string),
        ("tool_calls", "an array", Value::is_array),
    ];
    for (name, expected, is_right) in FIELDS {
        let value = &item[name];
        if !value.is_null() && !is_right(value) {
            return Err(wrong_type(&format!("{path}.{name}"), expected, value));
        }
    }
    Ok(())
}

/// Reads a text, or parts of one.
pub(crate) fn text_of(value: &Value, path: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => joined(parts, path),
        other => Err(wrong_type(path, "a string or an array of parts", other)),
    }
}

/// Joins parts, which are texts, line by line.
fn joined(parts: &[Value], path: &str) -> Result<String, ApiError> {
    let mut text = String::new();
    for (idx, part) in parts.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        let kind = part.get("type").and_then(Value::as_str);
        let field = match kind {
            Some("text" | "input_text" | "output_text") => "text",
            Some("refusal") => "refusal",
            _ => {
                let why = "only text is understood, no images, sounds or files";
                return Err(ApiError::unsupported(format!("{path}.type"), why));
            }
        };
        let Some(piece) = part.get(field).and_then(Value::as_str) else {
            return Err(ApiError::invalid(
                format!("{path}.{field}"),
                "expected a string",
            ));
        };
        if idx > 0 {
            text.push('\n');
        }
        text.push_str(piece);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Chat, ApiError> {
        Chat::read(&mut Fields::of_body(body).unwrap())
    }

    fn param(body: Value) -> Value {
        read(body).unwrap_err().to_json()["error"]["param"].take()
    }

    #[test]
    fn parts_are_lines_and_developers_are_the_system() {
        let chat = read(json!({"messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
        ]}));
        let messages = chat.unwrap().messages;
        assert_eq!(messages[0], Message::new("system", "a\nb"));
        assert_eq!(messages[1], Message::new("user", "c"));
    }

    #[test]
    fn what_is_no_conversation_is_named_by_its_place() {
        let user = json!({"role": "user", "content": "x"});
        assert_eq!(param(json!({})), "messages");
        assert_eq!(param(json!({"messages": []})), "messages");
        assert_eq!(param(json!({"messages": [user, 3]})), "messages[1]");
        assert_eq!(
            param(json!({"messages": [{"content": "x"}]})),
            "messages[0].role"
        );
        assert_eq!(
            param(json!({"messages": [{"role": "god"}]})),
            "messages[0].role"
        );
        assert_eq!(
            param(json!({"messages": [{"role": "user", "content": 3}]})),
            "messages[0].content"
        );
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]});
        assert_eq!(
            param(json!({"messages": [image]})),
            "messages[0].content[0].type"
        );
    }

    #[test]
    fn an_effort_is_a_switch_and_a_budget() {
        let body = |effort| {
            let messages = json!([{"role": "user", "content": "x"}]);
            json!({"messages": messages, "reasoning_effort": effort})
        };
        let none = read(body("none")).unwrap();
        assert_eq!(
            (&none.options["enable_thinking"], none.thinking_budget),
            (&json!(false), None)
        );
        let low = read(body("low")).unwrap();
        assert_eq!(
            (&low.options["enable_thinking"], low.thinking_budget),
            (&json!(true), Some(1024))
        );
        assert_eq!(read(body("high")).unwrap().thinking_budget, None);
        assert_eq!(param(body("huge")), "reasoning_effort");
    }
}
