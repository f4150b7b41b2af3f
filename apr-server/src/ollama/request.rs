//! Reading a chat or a text.

use serde_json::{Value, json};
use tokenizer::Message;

use super::{answer::Form, models::check_model};
use crate::{
    api_error::ApiError,
    completion::{self, Chat, Generation, Job, Settings, Work, n_predict, text_prompt},
    fields::{Fields, wrong_type},
    model::ServedModel,
    random,
};

/// A request that was read.
pub(super) struct Request {
    /// `None` if there is nothing to answer: clients ask so to have a model loaded.
    pub(super) job: Option<Job>,
    pub(super) is_streamed: bool,
}

/// Settings that choose hardware or what is reserved. A prompt that does not fit is an error
/// in any case, so a smaller context changes no answer.
const HARDWARE: [&str; 12] = [
    "num_ctx",
    "num_batch",
    "num_gpu",
    "num_thread",
    "num_keep",
    "main_gpu",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "vocab_only",
    "numa",
];

impl Request {
    pub(super) fn read(body: Value, form: Form, model: &ServedModel) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        check_model(&mut fields, model)?;
        let is_streamed = fields.bool("stream")?.unwrap_or(true);
        fields.value("keep_alive");
        fields.refuse("images", &[json!([])], "only text is understood")?;
        let mut settings = settings(&mut fields, model)?;
        settings.hold_to(completion::Form::of_ollama(&mut fields)?)?;
        let (chat, raw) = match form {
            Form::Chat => (chat(&mut fields)?, None),
            Form::Text => text(&mut fields)?,
        };
        fields.finish()?;
        let id = random::id("ollama");
        let prompt = match (chat, raw) {
            (_, Some(text)) => {
                let generation = Generation::of_text(settings, id, model)?;
                Some((text_prompt(&model.tokenizer, &text), generation))
            }
            (Some(chat), None) => Some(chat.generation(settings, id, model)?),
            (None, None) => None,
        };
        let job = prompt.map(|(ids, generation)| Job {
            prompts: vec![ids],
            param: match form {
                Form::Chat => "messages",
                Form::Text => "prompt",
            },
            work: Work::Generate(Box::new(generation)),
        });
        Ok(Self { job, is_streamed })
    }
}

fn settings(fields: &mut Fields, model: &ServedModel) -> Result<Settings, ApiError> {
    let options = fields.object("options")?;
    let mut options = match options {
        Some(options) => options,
        None => Fields::of(json!({}), "options")?,
    };
    for name in HARDWARE {
        options.value(name);
    }
    options.refuse("n", &[json!(1)], "there is one answer")?;
    options.refuse(
        "penalize_newline",
        &[json!(true)],
        "all tokens are penalised alike",
    )?;
    options.refuse("tfs_z", &[json!(1), json!(1.0)], "is not supported")?;
    let mut settings = Settings::read(&mut options, model)?;
    settings.n_predict = n_predict(&mut options, &["num_predict"])?;
    options.finish()?;
    Ok(settings)
}

/// Reads a conversation; `None` if there is no message.
fn chat(fields: &mut Fields) -> Result<Option<Chat>, ApiError> {
    let mut messages = fields.array("messages")?.unwrap_or_default();
    for (idx, message) in messages.iter_mut().enumerate() {
        adapt(message, &format!("messages[{idx}]"))?;
    }
    let tools = fields.value("tools").unwrap_or_default();
    let mut chat = Fields::of_body(json!({"messages": messages, "tools": tools}))?;
    let is_empty = messages.is_empty();
    let think = think(fields)?;
    if is_empty {
        return Ok(None);
    }
    let mut chat = Chat::read(&mut chat)?;
    apply(think, &mut chat)?;
    Ok(Some(chat))
}

/// Brings a message into OpenAI's form: thoughts and the names of tools have other names.
fn adapt(message: &mut Value, path: &str) -> Result<(), ApiError> {
    let Value::Object(fields) = message else {
        return Ok(());
    };
    for (own, other) in [("thinking", "reasoning_content"), ("tool_name", "name")] {
        if let Some(value) = fields.remove(own).filter(|value| !value.is_null()) {
            if !value.is_string() {
                return Err(wrong_type(&format!("{path}.{own}"), "a string", &value));
            }
            fields.insert(other.to_owned(), value);
        }
    }
    let images = fields.remove("images").unwrap_or_default();
    if !images.is_null() && images != json!([]) {
        let why = "only text is understood";
        return Err(ApiError::unsupported(format!("{path}.images"), why));
    }
    let calls = fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        // Arguments are a map here and a text there.
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && !arguments.is_string()
        {
            *arguments = arguments.to_string().into();
        }
    }
    Ok(())
}

/// Reads a text: as a message of a chat, or, if it is raw, as it is.
fn text(fields: &mut Fields) -> Result<(Option<Chat>, Option<String>), ApiError> {
    let prompt = fields.string("prompt")?.unwrap_or_default();
    let system = fields.string("system")?.filter(|text| !text.is_empty());
    let is_raw = fields.bool("raw")?.unwrap_or(false);
    fields.refuse(
        "suffix",
        &[json!("")],
        "texts are continued at their end alone",
    )?;
    fields.refuse("template", &[json!("")], "the template is the model's")?;
    fields.refuse(
        "context",
        &[json!([])],
        "send the conversation to /api/chat",
    )?;
    let think = think(fields)?;
    if prompt.is_empty() {
        return Ok((None, None));
    }
    if is_raw {
        return Ok((None, Some(prompt)));
    }
    let system = system.map(|text| Message::new("system", text));
    let mut chat = Chat {
        messages: system.into_iter().collect(),
        is_open: true,
        ..Chat::default()
    };
    chat.messages.push(Message::new("user", prompt));
    apply(think, &mut chat)?;
    Ok((Some(chat), None))
}

/// Whether and how much is to be thought.
enum Think {
    Unsaid,
    Switch(bool),
    Effort(String),
}

fn think(fields: &mut Fields) -> Result<Think, ApiError> {
    match fields.value("think") {
        None => Ok(Think::Unsaid),
        Some(Value::Bool(is_on)) => Ok(Think::Switch(is_on)),
        Some(Value::String(effort)) => Ok(Think::Effort(effort)),
        Some(_) => Err(ApiError::invalid(
            "think",
            "expected true, false, low, medium or high",
        )),
    }
}

fn apply(think: Think, chat: &mut Chat) -> Result<(), ApiError> {
    match think {
        Think::Unsaid => Ok(()),
        Think::Switch(is_on) => {
            chat.options
                .insert("enable_thinking".to_owned(), is_on.into());
            Ok(())
        }
        Think::Effort(effort) => chat.set_effort(&effort, "think"),
    }
}
