//! What every API asks for in the end: prompts to be continued.
//!
//! An API reads its own fields into a [`Job`] and starts it. What comes back are
//! [`Update`]s, which it writes in its own form, as a whole or in pieces; see [`stream()`].

mod chat;
mod figures;
mod job;

mod call_grammar;
mod form;
mod held;
mod tools;
mod xml_call;

mod running;
mod score;
mod settings;
mod stream;
mod text;
mod thinking;
mod update;

pub(crate) use self::{
    chat::{Chat, message, text_of},
    figures::{timings, usage},
    form::{Form, only},
    held::Held,
    job::{Generation, Job, Work},
    running::Running,
    score::{chat_logprob, finite},
    settings::{Settings, n_predict, stop_strings},
    stream::{Writer, stream},
    text::{decode, piece, text_prompt},
    thinking::{FAREWELLS, ThinkingBudget},
    tools::{ToolChoice, Tools},
    update::{End, Progress, Update},
};
