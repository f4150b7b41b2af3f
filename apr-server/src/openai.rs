//! OpenAI's API: chats, completions, embeddings, models.

mod answer;
mod chat;
mod completions;
mod embeddings;
mod models;
mod prompts;

pub(crate) use self::{
    chat::chat,
    completions::completions,
    embeddings::embeddings,
    models::{model, models},
};
