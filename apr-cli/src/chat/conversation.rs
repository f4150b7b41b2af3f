//! The messages of a chat, and how they reach the model.

use std::{fs, path::Path};

use reply_parser::{ReasoningStart, Reply, ReplyFormat};
use serde_json::{Map, Value};
use tokenizer::{ChatPrompt, ChatTemplate, Content, Message, Tokenizer};

use crate::{error::Error, input};

/// A conversation under a model's template.
#[derive(Debug)]
pub(super) struct Conversation {
    template: ChatTemplate,
    /// What the template was made from.
    source: String,
    messages: Vec<Message>,
    think: Option<bool>,
}

impl Conversation {
    pub(super) fn new(tokenizer: &Tokenizer, system: Option<&str>) -> Result<Self, Error> {
        let source = tokenizer.chat_template().ok_or_else(|| {
            let message = "the model has no chat template; `apr run` continues texts without one";
            Error::input("chat", message)
        })?;
        let template = ChatTemplate::with_clock(source, std::time::SystemTime::now)?;
        let mut conversation = Self {
            template,
            source: source.to_owned(),
            messages: Vec::new(),
            think: None,
        };
        conversation.set_system(system.unwrap_or_default());
        Ok(conversation)
    }

    /// Sets the system prompt; an empty one is removed.
    pub(super) fn set_system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        if !text.is_empty() {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Tells the template whether the model is to think; before, that is the template's choice.
    pub(super) const fn set_thinking(&mut self, think: bool) {
        self.think = Some(think);
    }

    /// Forgets all but the system prompt.
    pub(super) fn clear(&mut self) {
        self.messages.retain(|message| message.role == "system");
    }

    pub(super) fn push_user(&mut self, text: String) {
        self.messages.push(Message::new("user", text));
    }

    pub(super) fn push_assistant(&mut self, reply: Reply) {
        let mut message = Message::new("assistant", reply.content);
        message.reasoning_content = reply.reasoning.filter(|thought| !thought.is_empty());
        self.messages.push(message);
    }

    /// Takes the user's last message back, which could not be answered.
    pub(super) fn pop_user(&mut self) {
        self.messages.pop_if(|message| message.role == "user");
    }

    /// Takes the last answer back and returns whether there is a message to answer.
    pub(super) fn pop_answer(&mut self) -> bool {
        self.messages.pop_if(|message| message.role == "assistant");
        self.messages
            .last()
            .is_some_and(|message| message.role == "user")
    }

    /// Renders up to where the reply begins. Only the template writes control tokens: what
    /// users wrote is text, whatever it looks like.
    pub(super) fn render(&self, tokenizer: &Tokenizer) -> Result<ChatPrompt, Error> {
        let mut options = Map::new();
        if let Some(think) = self.think {
            options.insert("enable_thinking".to_owned(), Value::Bool(think));
        }
        Ok(tokenizer.encode_chat(&self.template, &self.messages, None, &options, true)?)
    }

    /// Returns how the reply to a prompt will be written; models think under templates, too,
    /// that know nothing of it.
    pub(super) fn reply_format(&self, prompt: &ChatPrompt) -> ReplyFormat {
        let mut format = ReplyFormat::of_template(&self.source, &prompt.text, Vec::new());
        format.reasoning.get_or_insert(ReasoningStart::ByModel);
        format
    }

    /// Writes the messages as JSON, as OpenAI's API has them.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(&self.messages);
        let json = json.map_err(|error| Error::io(path, "written", error.into()))?;
        fs::write(path, json).map_err(|error| Error::io(path, "written", error))
    }

    /// Reads messages, which take the place of those that are there.
    pub(super) fn load(&mut self, path: &Path) -> Result<usize, Error> {
        let json = input::read_file(path)?;
        self.messages = serde_json::from_slice(&json).map_err(|error| {
            let message = format!("expected an array of messages: {error}");
            Error::input(&path.display().to_string(), message)
        })?;
        Ok(self.messages.len())
    }

    /// The last message, as `(role, text)`.
    pub(super) fn last(&self) -> Option<(&str, &str)> {
        let message = self.messages.last()?;
        let Some(Content::Text(text)) = &message.content else {
            return Some((&message.role, ""));
        };
        Some((&message.role, text))
    }
}
