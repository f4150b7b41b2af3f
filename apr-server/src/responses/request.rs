//! Reading a request for a response: its items become the messages of a chat.

use serde_json::{Map, Value, json};
use tokenizer::{Content, Message};

use crate::{
    api_error::ApiError,
    completion::{Chat, Form, Job, Settings, Work, message, n_predict, text_of},
    fields::{Fields, wrong_type},
    model::{ServedModel, seconds_since_1970},
    random,
};

/// A request that was read.
pub(super) struct Request {
    pub(super) job: Job,
    pub(super) is_streamed: bool,
    /// What the response says of the request.
    pub(super) about: Value,
}

/// Makes the value of a field that is not there.
type Usual = fn() -> Value;

/// Fields of a request that its response repeats, with what they are if not said.
const REPEATED: [(&str, Usual); 9] = [
    ("instructions", || Value::Null),
    ("max_output_tokens", || Value::Null),
    ("metadata", || json!({})),
    ("parallel_tool_calls", || true.into()),
    ("temperature", || Value::Null),
    ("tool_choice", || "auto".into()),
    ("tools", || json!([])),
    ("top_p", || Value::Null),
    ("user", || Value::Null),
];

impl Request {
    pub(super) fn read(body: Value, model: &ServedModel) -> Result<Self, ApiError> {
        let id = random::id("resp");
        let about = about(&body, &id, model);
        let mut fields = Fields::of_body(body)?;
        model.check_name(&mut fields)?;
        let is_streamed = fields.bool("stream")?.unwrap_or(false);
        refuse(&mut fields)?;
        let chat = chat(&mut fields)?;
        let mut settings = Settings::read(&mut fields, model)?;
        settings.n_predict = n_predict(&mut fields, &["max_output_tokens"])?;
        if let Some(mut text) = fields.object("text")? {
            settings.hold_to(Form::of_format(&mut text, "format")?)?;
            text.refuse("verbosity", &[json!("medium")], "is not supported")?;
            text.finish()?;
        }
        fields.finish()?;
        let (prompt, generation) = chat.generation(settings, id, model)?;
        let job = Job {
            prompts: vec![prompt],
            param: "input",
            work: Work::Generate(Box::new(generation)),
        };
        Ok(Self {
            job,
            is_streamed,
            about,
        })
    }
}

fn about(body: &Value, id: &str, model: &ServedModel) -> Value {
    let format = match &body["text"]["format"] {
        Value::Null => json!({"type": "text"}),
        format => format.clone(),
    };
    let mut about = json!({
        "id": id,
        "object": "response",
        "created_at": seconds_since_1970(),
        "model": model.name(),
        "background": false,
        "error": null,
        "previous_response_id": null,
        "reasoning": {"effort": body["reasoning"]["effort"], "summary": null},
        "store": false,
        "text": {"format": format},
        "truncation": "disabled",
        "usage": null,
    });
    for (name, usual) in REPEATED {
        about[name] = match &body[name] {
            Value::Null => usual(),
            value => value.clone(),
        };
    }
    about
}

/// Refuses what the API has and this server has not.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    let why = "nothing is stored, send the whole conversation";
    fields.refuse("previous_response_id", &[], why)?;
    fields.refuse("conversation", &[], why)?;
    fields.refuse("prompt", &[], why)?;
    fields.refuse(
        "background",
        &[json!(false)],
        "responses are answered at once",
    )?;
    let why = "a prompt that does not fit is an error";
    fields.refuse("truncation", &[json!("disabled")], why)?;
    fields.refuse("n", &[json!(1)], "there is one answer")?;
    fields.refuse(
        "top_logprobs",
        &[json!(0)],
        "scores are told by /v1/chat/completions",
    )?;
    let no_more = [json!([]), json!(["reasoning.encrypted_content"])];
    fields.refuse("include", &no_more, "there is nothing more to include")?;
    fields.refuse("max_tool_calls", &[], "the server calls no tools itself")?;
    if let Some(mut options) = fields.object("stream_options")? {
        options.bool("include_obfuscation")?;
        options.finish()?;
    }
    Ok(())
}

/// Reads the conversation, and what bears on it by way of the fields of a chat completion.
fn chat(fields: &mut Fields) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    if let Some(instructions) = fields.string("instructions")? {
        messages.push(Message::new("system", instructions));
    }
    match fields.required("input")? {
        Value::String(text) => messages.push(Message::new("user", text)),
        Value::Array(items) => {
            for (idx, item) in items.iter().enumerate() {
                read_item(item, &format!("input[{idx}]"), &mut messages)?;
            }
        }
        other => return Err(wrong_type("input", "a string or an array", &other)),
    }
    let mut chat = Chat::of(messages, "input")?;
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let path = reasoning.path("effort");
        if let Some(effort) = reasoning.string("effort")? {
            chat.set_effort(&effort, &path)?;
        }
        // Thoughts are told as they are.
        reasoning.value("summary");
        reasoning.value("generate_summary");
        reasoning.finish()?;
    }
    let mut body = Map::new();
    let tools = fields.array("tools")?.unwrap_or_default();
    let tools = tools.into_iter().enumerate().map(tool);
    body.insert(
        "tools".to_owned(),
        tools.collect::<Result<Vec<_>, _>>()?.into(),
    );
    let moved = [
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
        "enable_thinking",
        "thinking_budget",
    ];
    for name in moved {
        body.insert(name.to_owned(), fields.value(name).unwrap_or_default());
    }
    chat.read_more(&mut Fields::of_body(Value::Object(body))?)?;
    Ok(chat)
}

/// Brings a tool into the form of a chat completion.
fn tool((idx, tool): (usize, Value)) -> Result<Value, ApiError> {
    let path = format!("tools[{idx}]");
    let Value::Object(mut function) = tool else {
        return Err(wrong_type(&path, "an object", &tool));
    };
    if function.remove("type") != Some("function".into()) {
        let why = "the server has no tools of its own, only functions";
        return Err(ApiError::unsupported(format!("{path}.type"), why));
    }
    Ok(json!({"type": "function", "function": function}))
}

/// Reads an item into a message, or into one that is there already.
fn read_item(item: &Value, path: &str, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    if !item.is_object() {
        return Err(wrong_type(path, "an object", item));
    }
    let field = |name: &str| {
        let text = item[name].as_str().map(str::to_owned);
        text.ok_or_else(|| ApiError::invalid(format!("{path}.{name}"), "expected a string"))
    };
    match item["type"].as_str() {
        None | Some("message") => {
            let (role, content) = (&item["role"], &item["content"]);
            let message = message(json!({"role": role, "content": content}), path)?;
            match messages.last_mut() {
                // A thought came before.
                Some(last) if message.role == "assistant" && is_bare_thought(last) => {
                    last.content = message.content;
                }
                _ => messages.push(message),
            }
        }
        Some("reasoning") => {
            let parts = item["content"].as_array().into_iter().flatten();
            let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
            let mut thought = Message::new("assistant", "");
            thought.reasoning_content = Some(texts.join("\n"));
            messages.push(thought);
        }
        Some("function_call") => {
            let call = json!({"id": field("call_id")?, "type": "function", "function": {
                "name": field("name")?,
                "arguments": field("arguments")?,
            }});
            if messages.last().is_none_or(|last| last.role != "assistant") {
                messages.push(Message::new("assistant", ""));
            }
            if let Some(last) = messages.last_mut() {
                last.tool_calls.get_or_insert_default().push(call);
            }
        }
        Some("function_call_output") => {
            let output = text_of(&item["output"], &format!("{path}.output"))?;
            let mut result = Message::new("tool", output);
            result.tool_call_id = Some(field("call_id")?);
            messages.push(result);
        }
        Some(_) => {
            let why =
                "only message, reasoning, function_call and function_call_output are understood";
            return Err(ApiError::unsupported(format!("{path}.type"), why));
        }
    }
    Ok(())
}

fn is_bare_thought(message: &Message) -> bool {
    let is_silent = matches!(&message.content, Some(Content::Text(text)) if text.is_empty());
    message.reasoning_content.is_some() && is_silent && message.tool_calls.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_calls_and_texts_of_a_turn_are_one_message() {
        let body = json!({"instructions": "s", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "u"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "r"},
        ]});
        let chat = chat(&mut Fields::of_body(body).unwrap()).unwrap();
        let roles: Vec<_> = chat.messages.iter().map(|it| it.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(chat.messages[2].reasoning_content.as_deref(), Some("t"));
        assert_eq!(chat.messages[2].tool_calls.as_ref().unwrap().len(), 1);
    }
}
