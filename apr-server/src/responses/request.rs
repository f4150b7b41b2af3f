//! Reading a request for a response: its items become the messages of a chat.

use serde_json::{Map, Value, json};

use crate::{
    api_error::ApiError,
    completion::{Chat, Form, Job, Settings, Work, n_predict},
    fields::{Fields, wrong_type},
    model::{ServedModel, seconds_since_1970},
    openai::check_model,
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
        check_model(&mut fields, model)?;
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

/// Reads the conversation by way of the fields of a chat completion.
fn chat(fields: &mut Fields) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    if let Some(instructions) = fields.string("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    match fields.required("input")? {
        Value::String(text) => messages.push(json!({"role": "user", "content": text})),
        Value::Array(items) => {
            for (idx, item) in items.iter().enumerate() {
                read_item(item, &format!("input[{idx}]"), &mut messages)?;
            }
        }
        other => return Err(wrong_type("input", "a string or an array", &other)),
    }
    let mut body = Map::new();
    body.insert("messages".to_owned(), messages.into());
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
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let effort = reasoning.value("effort").unwrap_or_default();
        body.insert("reasoning_effort".to_owned(), effort);
        // Thoughts are told as they are.
        reasoning.value("summary");
        reasoning.value("generate_summary");
        reasoning.finish()?;
    }
    Chat::read(&mut Fields::of_body(Value::Object(body))?)
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
fn read_item(item: &Value, path: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let field = |name: &str| {
        let text = item[name].as_str();
        text.ok_or_else(|| ApiError::invalid(format!("{path}.{name}"), "expected a string"))
    };
    match item["type"].as_str() {
        None | Some("message") => {
            let role = &item["role"];
            let content = &item["content"];
            match (role.as_str(), messages.last_mut()) {
                // A thought came before.
                (Some("assistant"), Some(last)) if is_bare_thought(last) => {
                    last["content"] = content.clone();
                }
                _ => messages.push(json!({"role": role, "content": content})),
            }
        }
        Some("reasoning") => {
            let parts = item["content"].as_array().into_iter().flatten();
            let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
            let thought = texts.join("\n");
            messages
                .push(json!({"role": "assistant", "content": "", "reasoning_content": thought}));
        }
        Some("function_call") => {
            let call = json!({"id": field("call_id")?, "type": "function", "function": {
                "name": field("name")?,
                "arguments": field("arguments")?,
            }});
            if messages
                .last()
                .is_none_or(|last| last["role"] != "assistant")
            {
                messages.push(json!({"role": "assistant", "content": ""}));
            }
            if let Some(last) = messages.last_mut() {
                match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                }
            }
        }
        Some("function_call_output") => {
            let id = field("call_id")?;
            let output = &item["output"];
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
        }
        Some(_) => {
            let why =
                "only message, reasoning, function_call and function_call_output are understood";
            return Err(ApiError::unsupported(format!("{path}.type"), why));
        }
    }
    Ok(())
}

fn is_bare_thought(message: &Value) -> bool {
    message["reasoning_content"].is_string()
        && message["content"] == ""
        && message["tool_calls"].is_null()
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
