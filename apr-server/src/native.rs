//! What is not OpenAI's: the state of the server, and llama.cpp's small routes.

mod state;
mod text;

pub(crate) use self::{
    state::{health, metrics, props, slots},
    text::{apply_template, detokenize, tokenize, tokenizer_info},
};
