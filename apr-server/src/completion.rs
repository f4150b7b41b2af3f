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
mod thinking;
mod update;

pub(crate) use self::{
    chat::{Chat, text_prompt},
    figures::{seconds_to_ms, timings, usage},
    form::{Form, only},
    held::Held,
    job::{Generation, Job, Work},
    running::Running,
    score::{chat_logprob, finite, piece},
    settings::{Settings, n_predict, stop_strings},
    stream::{Writer, stream},
    thinking::{FAREWELLS, ThinkingBudget},
    tools::{ToolChoice, Tools},
    update::{End, Update},
};
