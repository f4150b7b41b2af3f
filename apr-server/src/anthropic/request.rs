//! Reading a request for a message.

use serde_json::{Value, json};
use tokenizer::{Content, Message};

use crate::{
    api_error::ApiError,
    completion::{Chat, Form, Job, Settings, ToolChoice, Tools, Work, only, stop_strings},
    fields::{Fields, wrong_type},
    model::ServedModel,
    random,
};

/// A request that was read.
pub(super) struct Request {
    pub(super) job: Job,
    pub(super) is_streamed: bool,
    pub(super) id: String,
}

impl Request {
    pub(super) fn read(body: Value, model: &ServedModel) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        model.check_name(&mut fields)?;
        let Some(n_most) = fields.integer("max_tokens", 1..=i64::MAX)? else {
            return Err(crate::fields::missing("max_tokens"));
        };
        let chat = chat(&mut fields)?;
        if chat
            .messages
            .last()
            .is_some_and(|it| it.role == "assistant")
        {
            let why =
                "an answer that was begun is not gone on with: the last message is the user's";
            return Err(ApiError::unsupported("messages", why));
        }
        if chat
            .thinking_budget
            .is_some_and(|budget| budget as i64 >= n_most)
        {
            let message = "expected fewer than max_tokens";
            return Err(ApiError::invalid("thinking.budget_tokens", message));
        }
        let is_streamed = fields.bool("stream")?.unwrap_or(false);
        fields.refuse("n", &[json!(1)], "there is one answer")?;
        fields.refuse("stop", &[], "its name is stop_sequences here")?;
        let mut settings = Settings::read(&mut fields, model)?;
        settings.n_predict = usize::try_from(n_most).ok();
        settings.stop_strings = stop_strings(&mut fields, "stop_sequences")?;
        settings.hold_to(form(&mut fields)?)?;
        refuse(&mut fields)?;
        fields.finish()?;
        let id = random::id("msg");
        let (prompt, generation) = chat.generation(settings, id.clone(), model)?;
        let job = Job {
            prompts: vec![prompt],
            param: "messages",
            work: Work::Generate(Box::new(generation)),
        };
        Ok(Self {
            job,
            is_streamed,
            id,
        })
    }
}

/// Returns the tokens of a request's prompt.
pub(super) fn count(body: Value, model: &ServedModel) -> Result<usize, ApiError> {
    let mut fields = Fields::of_body(body)?;
    model.check_name(&mut fields)?;
    let chat = chat(&mut fields)?;
    // It bears on the answer alone.
    form(&mut fields)?;
    refuse(&mut fields)?;
    fields.finish()?;
    Ok(chat.render(model)?.ids.len())
}

/// Reads the form of the answer, under its name and the one that it had at first.
fn form(fields: &mut Fields) -> Result<Option<Form>, ApiError> {
    let form = Form::of_format(fields, "output_format")?;
    let Some(mut config) = fields.object("output_config")? else {
        return Ok(form);
    };
    let form = only(form, Form::of_format(&mut config, "format")?)?;
    config.finish()?;
    Ok(form)
}

fn chat(fields: &mut Fields) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    if let Some(system) = fields.value("system") {
        messages.push(Message::new("system", text_of(&system, "system")?));
    }
    let Value::Array(items) = fields.required("messages")? else {
        return Err(ApiError::invalid("messages", "expected an array").code("invalid_type"));
    };
    if items.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "expected at least one message",
        ));
    }
    for (idx, item) in items.into_iter().enumerate() {
        read_message(item, &format!("messages[{idx}]"), &mut messages)?;
    }
    let tools = tools(fields)?;
    let (is_thinking, thinking_budget) = thinking(fields)?;
    let mut chat = Chat {
        messages,
        tools,
        is_open: true,
        thinking_budget,
        ..Chat::default()
    };
    chat.options
        .insert("enable_thinking".to_owned(), is_thinking.into());
    Ok(chat)
}

/// Refuses what the API has and this server has not.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    fields.refuse("mcp_servers", &[json!([])], "nothing is fetched")?;
    fields.refuse("container", &[], "there are no containers")?;
    fields.refuse("context_management", &[], "is not supported")?;
    // Prompts are cached in any case.
    fields.value("cache_control");
    Ok(())
}

fn thinking(fields: &mut Fields) -> Result<(bool, Option<usize>), ApiError> {
    let Some(mut thinking) = fields.object("thinking")? else {
        return Ok((false, None));
    };
    let kind = thinking.string("type")?;
    let budget = thinking.integer("budget_tokens", 1..=i64::MAX)?;
    thinking.value("display");
    thinking.finish()?;
    match kind.as_deref() {
        Some("enabled") => match budget.and_then(|budget| usize::try_from(budget).ok()) {
            Some(budget) => Ok((true, Some(budget))),
            None => Err(crate::fields::missing("thinking.budget_tokens")),
        },
        Some("adaptive") => Ok((true, None)),
        Some("disabled") => Ok((false, None)),
        _ => Err(ApiError::invalid(
            "thinking.type",
            "expected enabled, adaptive or disabled",
        )),
    }
}

/// Reads tools, and whether and how they are called.
fn tools(fields: &mut Fields) -> Result<Tools, ApiError> {
    let tools = fields.array("tools")?.unwrap_or_default();
    let mut tool_choice = ToolChoice::Auto;
    let mut is_single = false;
    if let Some(mut choice) = fields.object("tool_choice")? {
        is_single = choice.bool("disable_parallel_tool_use")?.unwrap_or(false);
        tool_choice = match choice.string("type")?.as_deref() {
            Some("auto") => ToolChoice::Auto,
            Some("none") => ToolChoice::None,
            Some("any") => ToolChoice::Required,
            Some("tool") => match choice.string("name")? {
                Some(name) => ToolChoice::Named(name),
                None => return Err(crate::fields::missing("tool_choice.name")),
            },
            _ => {
                let message = "expected auto, any, tool or none";
                return Err(ApiError::invalid("tool_choice.type", message));
            }
        };
        choice.finish()?;
    }
    let tool = |(idx, tool): (usize, Value)| {
        let path = format!("tools[{idx}]");
        let mut tool = Fields::of(tool, &path)?;
        let kind = tool.string("type")?;
        if kind.is_some_and(|kind| kind != "custom") {
            let why = "the server has no tools of its own";
            return Err(ApiError::unsupported(tool.path("type"), why));
        }
        let name = tool.required("name")?;
        let description = tool.string("description")?;
        let schema = tool.required("input_schema")?;
        let is_strict = tool.bool("strict")?.unwrap_or(false);
        let function = json!({"name": name, "description": description, "parameters": schema});
        Ok(json!({"type": "function", "function": function, "strict": is_strict}))
    };
    let tools = tools.into_iter().enumerate().map(tool);
    let tools = tools.collect::<Result<Vec<Value>, _>>()?;
    Tools::new(tools, tool_choice, is_single)
}

/// Reads a message into one or, where it brings results of tools, several.
fn read_message(item: Value, path: &str, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let mut fields = Fields::of(item, path)?;
    let role = fields.string("role")?;
    let content = fields.required("content")?;
    let role = match role.as_deref() {
        Some("user") => "user",
        Some("assistant") => "assistant",
        _ => {
            let message = "expected user or assistant";
            return Err(ApiError::invalid(fields.path("role"), message));
        }
    };
    let path = fields.path("content");
    let blocks = match content {
        Value::String(text) => {
            messages.push(Message::new(role, text));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        other => return Err(wrong_type(&path, "a string or an array", &other)),
    };
    let mut message = Message::new(role, "");
    let mut texts = Vec::new();
    for (idx, block) in blocks.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        match (role, block["type"].as_str()) {
            (_, Some("text")) => texts.push(string(block, "text", &path)?),
            ("assistant", Some("thinking")) => {
                let thought = message.reasoning_content.get_or_insert_default();
                thought.push_str(&string(block, "thinking", &path)?);
            }
            // Nobody but its author could read it.
            ("assistant", Some("redacted_thinking")) => {}
            ("assistant", Some("tool_use")) => {
                let call = json!({"id": block["id"], "type": "function", "function": {
                    "name": string(block, "name", &path)?,
                    "arguments": block["input"].to_string(),
                }});
                message.tool_calls.get_or_insert_default().push(call);
            }
            ("user", Some("tool_result")) if texts.is_empty() => {
                messages.push(result(block, &path)?);
            }
            ("user", Some("tool_result")) => {
                let message = "results of tools come before texts";
                return Err(ApiError::invalid(path, message));
            }
            _ => {
                let why =
                    "a user has text and tool_result, an assistant text, thinking and tool_use";
                return Err(ApiError::unsupported(format!("{path}.type"), why));
            }
        }
    }
    let is_result_alone = texts.is_empty() && role == "user" && !blocks.is_empty();
    if !is_result_alone {
        message.content = Some(Content::Text(texts.join("\n")));
        messages.push(message);
    }
    Ok(())
}

fn result(block: &Value, path: &str) -> Result<Message, ApiError> {
    let text = match &block["content"] {
        Value::Null => String::new(),
        content => text_of(content, &format!("{path}.content"))?,
    };
    let mut message = Message::new("tool", text);
    message.tool_call_id = Some(string(block, "tool_use_id", path)?);
    Ok(message)
}

fn string(block: &Value, name: &str, path: &str) -> Result<String, ApiError> {
    let text = block[name].as_str().map(str::to_owned);
    text.ok_or_else(|| ApiError::invalid(format!("{path}.{name}"), "expected a string"))
}

/// Reads a text, or several blocks of them line by line.
fn text_of(value: &Value, path: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let text = |(idx, block): (usize, &Value)| {
                let path = format!("{path}[{idx}]");
                match block["type"].as_str() {
                    Some("text") => string(block, "text", &path),
                    _ => Err(ApiError::unsupported(
                        format!("{path}.type"),
                        "only text is understood",
                    )),
                }
            };
            let texts = blocks.iter().enumerate().map(text);
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => Err(wrong_type(path, "a string or an array", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Chat, ApiError> {
        chat(&mut Fields::of_body(body).unwrap())
    }

    #[test]
    fn results_of_tools_are_messages_of_their_own() {
        let chat = read(
            json!({"system": [{"type": "text", "text": "s"}], "messages": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "t", "signature": ""},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "r"}]},
                    {"type": "text", "text": "go on"},
                ]},
            ]}),
        );
        let messages = chat.unwrap().messages;
        let roles: Vec<_> = messages
            .iter()
            .map(|message| message.role.as_str())
            .collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
        assert_eq!(messages[2].reasoning_content.as_deref(), Some("t"));
        let calls = messages[2].tool_calls.as_ref().unwrap();
        assert_eq!(calls[0]["function"]["arguments"], "{\"x\":1}");
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("1"));
        assert_eq!(messages[4], Message::new("user", "go on"));
    }

    #[test]
    fn thinking_is_off_unless_it_is_turned_on() {
        let body = |thinking: Value| json!({"messages": [{"role": "user", "content": "x"}], "thinking": thinking});
        let off = read(body(Value::Null)).unwrap();
        assert_eq!(off.options["enable_thinking"], false);
        let on = read(body(json!({"type": "enabled", "budget_tokens": 2000}))).unwrap();
        assert_eq!(on.options["enable_thinking"], true);
        assert_eq!(on.thinking_budget, Some(2000));
        assert!(read(body(json!({"type": "enabled"}))).is_err());
        assert!(read(body(json!({"type": "some"}))).is_err());
    }
}
