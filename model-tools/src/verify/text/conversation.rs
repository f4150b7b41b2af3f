//! What the chat template makes of conversations.
//!
//! What is said has to be in the text; a reply has to be asked for where it is to begin; and
//! the token with which the template ends the assistant's turn has to be one that ends a
//! reply, or the model goes on talking to itself. A template may ignore tools and thoughts or
//! refuse them, which is worth a note.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tokenizer::{ChatTemplate, Message, TemplateError, Tokenizer};

use super::token;
use crate::{
    error::quote,
    verify::{StageReport, file::chain},
};

const QUESTION: &str = "When is high water?";
const ANSWER: &str = "At noon, give or take.";
const SYSTEM: &str = "Answer in one sentence.";
const TOOL: &str = "look_up_tide";
const RESULT: &str = "high water 12:07";

/// Renders the template for all kinds of conversation.
pub(super) fn check(tokenizer: &Tokenizer, source: &str, report: &mut StageReport) {
    // Templates may print the date; any will do.
    let template = match ChatTemplate::with_clock(source, || SystemTime::UNIX_EPOCH) {
        Ok(template) => template,
        Err(error) => {
            report.error("chat template", chain(&error));
            return;
        }
    };
    let asked = Asked {
        tokenizer,
        template: &template,
    };
    asked.plain(report);
    asked.system(report);
    asked.turns(report);
    asked.tools(report);
    asked.thinking(report);
}

/// A template, and the tokenizer beside it.
struct Asked<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
}

impl Asked<'_> {
    fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        options: &Value,
        asks_for_reply: bool,
    ) -> Result<String, TemplateError> {
        let options: Map<String, Value> = options.as_object().cloned().unwrap_or_default();
        let prompt =
            self.tokenizer
                .encode_chat(self.template, messages, tools, &options, asks_for_reply)?;
        Ok(prompt.text)
    }

    /// One question: it has to be there, and a reply asked for.
    fn plain(&self, report: &mut StageReport) {
        let place = "chat template, one question";
        let messages = [user()];
        let [with, without] = [true, false]
            .map(|asks_for_reply| self.render(&messages, None, &json!({}), asks_for_reply));
        let (with, without) = match (with, without) {
            (Ok(with), Ok(without)) => (with, without),
            (Err(error), _) | (_, Err(error)) => {
                report.error(place, chain(&error));
                return;
            }
        };
        if !with.contains(QUESTION) {
            report.error(place, "what the user says is not in the text");
        }
        match with.strip_prefix(without.as_str()) {
            Some("") => report.error(
                place,
                "no generation prompt: the text is the same with and without \
                 `add_generation_prompt`, so the model has to guess that it is its turn",
            ),
            Some(prompt) => report.figure("generation prompt", quote(prompt), ""),
            None => report.warning(
                place,
                "with `add_generation_prompt` the text begins otherwise than without",
            ),
        }
    }

    fn system(&self, report: &mut StageReport) {
        let place = "chat template, system prompt";
        let messages = [Message::new("system", SYSTEM), user()];
        match self.render(&messages, None, &json!({}), true) {
            Ok(text) if !text.contains(SYSTEM) => {
                report.error(place, "what the system says is not in the text");
            }
            Ok(text) if !text.contains(QUESTION) => {
                report.error(place, "what the user says is not in the text");
            }
            Ok(_) => {}
            Err(error) => refused(place, &error, report),
        }
    }

    /// Three turns: the one of the assistant ends with a token that ends a reply.
    fn turns(&self, report: &mut StageReport) {
        let place = "chat template, several turns";
        let again = "And tomorrow?";
        let messages = [
            user(),
            Message::new("assistant", ANSWER),
            Message::new("user", again),
        ];
        let text = match self.render(&messages, None, &json!({}), true) {
            Ok(text) => text,
            Err(error) => {
                report.error(place, chain(&error));
                return;
            }
        };
        let parts = [QUESTION, ANSWER, again].map(|part| text.find(part));
        let [Some(question), Some(answer), Some(again)] = parts else {
            report.error(place, "something that was said is not in the text");
            return;
        };
        if !(question < answer && answer < again) {
            report.error(place, "what was said is in another order");
            return;
        }
        let between = &text[answer + ANSWER.len()..again];
        match self.first_control(between) {
            None => report.warning(place, "no control token ends the turn of the assistant"),
            Some(end) if self.tokenizer.end_of_generation().contains(&end) => {
                report.figure("a turn ends with", token(self.tokenizer, end), "");
            }
            Some(end) => report.error(
                place,
                format!(
                    "{} ends the turn of the assistant, but does not end a reply: the model would \
                     go on",
                    token(self.tokenizer, end)
                ),
            ),
        }
    }

    fn tools(&self, report: &mut StageReport) {
        let place = "chat template, tools";
        let tools = json!([{"type": "function", "function": {
            "name": TOOL,
            "description": "Looks up high water.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "A harbour"}},
                "required": ["place"],
            },
        }}]);
        let mut call = Message::new("assistant", "");
        call.tool_calls = Some(vec![
            json!({"id": "call_1", "type": "function", "function": {
                "name": TOOL, "arguments": {"place": "Whitby"},
            }}),
        ]);
        let mut result = Message::new("tool", RESULT);
        result.tool_call_id = Some("call_1".to_owned());
        result.name = Some(TOOL.to_owned());
        match self.render(&[user(), call, result], Some(&tools), &json!({}), true) {
            Ok(text) => {
                let said = |part: &str| text.contains(part);
                let what = match (said("Looks up high water."), said("Whitby"), said(RESULT)) {
                    (true, true, true) => "offered, called and answered",
                    (false, _, _) => "not offered to the model",
                    (_, false, _) => "offered, but calls are left out",
                    (_, _, false) => "offered, but results are left out",
                };
                report.figure("tools are", what, "");
            }
            Err(error) => refused(place, &error, report),
        }
    }

    fn thinking(&self, report: &mut StageReport) {
        let place = "chat template, thinking";
        let thought = "The moon is new.";
        let mut answer = Message::new("assistant", ANSWER);
        answer.reasoning_content = Some(thought.to_owned());
        let messages = [user(), answer, user()];
        let [on, off] = [true, false]
            .map(|thinks| self.render(&messages, None, &json!({"enable_thinking": thinks}), true));
        match (on, off) {
            (Ok(on), Ok(off)) => {
                if !on.contains(ANSWER) || !off.contains(ANSWER) {
                    report.error(place, "an answer after thoughts is not in the text");
                }
                let what = if on == off {
                    "cannot be switched"
                } else {
                    "can be switched off"
                };
                report.figure("thinking", what, "");
            }
            (Err(error), _) | (_, Err(error)) => refused(place, &error, report),
        }
    }

    /// Returns the control token that is first in a text.
    fn first_control(&self, text: &str) -> Option<u32> {
        let ids = 0..self.tokenizer.n_vocab() as u32;
        let controls = ids.filter(|&id| self.tokenizer.is_control(id));
        let places = controls.filter_map(|id| {
            let name = self.tokenizer.token_text(id)?;
            // Of two that begin at one place the longer one is recognised.
            Some((text.find(name)?, std::cmp::Reverse(name.len()), id))
        });
        places.min().map(|(.., id)| id)
    }
}

fn user() -> Message {
    Message::new("user", QUESTION)
}

/// A template may refuse what it is not made for; anything else that fails is a fault.
fn refused(place: &str, error: &TemplateError, report: &mut StageReport) {
    match error {
        TemplateError::Raised { .. } => report.note(place, chain(error)),
        _ => report.error(place, chain(error)),
    }
}
