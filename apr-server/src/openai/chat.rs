//! `POST /v1/chat/completions`

use axum::response::Response;
use generate::TokenScore;
use reply_parser::{Reply, ReplyEvent};
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use super::answer::{Envelope, Streaming, write_list};
use crate::{
    api_error::ApiError,
    call::Call,
    completion::{
        Chat, Form, Job, Running, Settings, Update, Work, Writer, chat_logprob, n_predict, stream,
        timings,
    },
    fields::Fields,
    frames,
    model::ServedModel,
    random,
};

/// The most alternatives that are told for a token.
pub(crate) const MAX_TOP: usize = 20;

/// A request that was read.
struct Request {
    job: Job,
    envelope: Envelope,
}

/// Answers a chat.
pub(crate) async fn chat(call: Call) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    let (app, request) = call.read(|body, app| read(body, app.model()?)).await?;
    let running = Running::start(&app, request.job)?;
    let envelope = request.envelope;
    match envelope.streaming.is_on {
        true => Ok(stream(running, Chunks { envelope }, "text/event-stream")),
        false => whole(running, &envelope).await,
    }
}

fn read(body: Value, model: &ServedModel) -> Result<Request, ApiError> {
    let mut fields = Fields::of_body(body)?;
    model.check_name(&mut fields)?;
    let chat = Chat::read(&mut fields)?;
    let streaming = Streaming::read(&mut fields)?;
    let mut settings = Settings::read(&mut fields, model)?;
    let lengths = ["max_completion_tokens", "max_tokens", "n_predict"];
    settings.n_predict = n_predict(&mut fields, &lengths)?;
    settings.hold_to(Form::of_format(&mut fields, "response_format")?)?;
    let n_top = top(&mut fields)?;
    refuse(&mut fields)?;
    fields.finish()?;
    let id = random::id("chatcmpl");
    let object = match streaming.is_on {
        true => "chat.completion.chunk",
        false => "chat.completion",
    };
    let envelope = Envelope::new(id.clone(), object, streaming, model);
    let (prompt, mut generation) = chat.generation(settings, id, model)?;
    generation.n_top = n_top;
    Ok(Request {
        job: Job {
            prompts: vec![prompt],
            param: "messages",
            work: Work::Generate(Box::new(generation)),
        },
        envelope,
    })
}

fn top(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let is_on = fields.bool("logprobs")?.unwrap_or(false);
    let path = fields.path("top_logprobs");
    let n_top = fields.count("top_logprobs", MAX_TOP)?;
    match n_top {
        Some(n) if n > 0 && !is_on => Err(ApiError::invalid(path, "needs logprobs")),
        _ => Ok(is_on.then_some(n_top.unwrap_or(0))),
    }
}

/// Refuses what the API has and this server has not.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    fields.refuse("modalities", &[json!(["text"])], "only text is supported")?;
    fields.refuse("audio", &[], "only text is supported")?;
    fields.refuse("web_search_options", &[], "nothing is fetched")?;
    fields.refuse("verbosity", &[json!("medium")], "is not supported")?;
    // A guess at the answer, to be faster; the answer is the same.
    fields.value("prediction");
    Ok(())
}

/// Answers with everything at once.
async fn whole(mut running: Running, envelope: &Envelope) -> Result<Response, ApiError> {
    let n_choices = running.job().n_choices();
    let mut choices: Vec<Whole> = (0..n_choices).map(|_| Whole::default()).collect();
    while let Some(update) = running.next().await? {
        match update {
            Update::Token {
                choice,
                events,
                score,
            } => {
                choices[choice].reply.extend(events);
                choices[choice].scores.extend(score);
            }
            Update::Ended {
                choice,
                events,
                end,
                ..
            } => {
                choices[choice].reply.extend(events);
                choices[choice].finish = end.finish.as_str();
            }
            _ => {}
        }
    }
    let has_scores = running.job().has_scores();
    envelope.response(&running, |model, out| {
        write_list(
            choices.into_iter().enumerate(),
            out,
            |(idx, choice), out| {
                let scores = has_scores.then_some(&*model.tokenizer);
                choice.write(idx, scores, out);
            },
        );
    })
}

/// A choice that is being collected.
#[derive(Debug, Default)]
struct Whole {
    reply: Reply,
    scores: Vec<TokenScore>,
    finish: &'static str,
}

impl Whole {
    /// Writes the choice, with its scores if there is a tokenizer for them.
    fn write(self, idx: usize, tokenizer: Option<&Tokenizer>, out: &mut String) {
        let message = message(self.reply);
        let head = json!({"index": idx, "message": message, "finish_reason": self.finish});
        out.push_str(&head.to_string());
        out.pop();
        out.push_str(",\"logprobs\":");
        match tokenizer {
            None => out.push_str("null"),
            Some(tokenizer) => {
                out.push_str("{\"content\":[");
                write_list(&self.scores, out, |score, out| {
                    out.push_str(&chat_logprob(tokenizer, score).to_string());
                });
                out.push_str("],\"refusal\":null}");
            }
        }
        out.push('}');
    }
}

fn message(reply: Reply) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let has_calls = !reply.tool_calls.is_empty();
    let content = match reply.content {
        content if content.is_empty() && has_calls => Value::Null,
        content => content.into(),
    };
    message.insert("content".to_owned(), content);
    message.insert("refusal".to_owned(), Value::Null);
    if let Some(reasoning) = reply.reasoning {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if has_calls {
        let call = |call: &reply_parser::ToolCall| {
            json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        };
        let calls = reply.tool_calls.iter().map(call);
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    message
}

/// Writes chunks.
struct Chunks {
    envelope: Envelope,
}

impl Chunks {
    fn write(&self, choice: usize, delta: &Value, scores: &Value, out: &mut String) {
        let choice = json!({
            "index": choice,
            "delta": delta,
            "logprobs": scores,
            "finish_reason": null,
        });
        frames::event(&self.envelope.with(&[choice]), out);
    }

    /// Writes a chunk for each event; the scores go with the first one.
    fn write_events(
        &self,
        choice: usize,
        events: Vec<ReplyEvent>,
        mut scores: Value,
        out: &mut String,
    ) {
        for event in events {
            if let Some(delta) = delta(event) {
                self.write(choice, &delta, &scores.take(), out);
            }
        }
        if !scores.is_null() {
            self.write(choice, &json!({}), &scores, out);
        }
    }
}

fn delta(event: ReplyEvent) -> Option<Value> {
    let call = |index: usize, fields: Value| {
        let mut call = fields;
        call["index"] = index.into();
        json!({"tool_calls": [call]})
    };
    match event {
        ReplyEvent::Reasoning(text) => Some(json!({"reasoning_content": text})),
        ReplyEvent::Content(text) => Some(json!({"content": text})),
        ReplyEvent::ToolCallStart { index, id, name } => {
            let function = json!({"name": name, "arguments": ""});
            let fields = json!({"id": id, "type": "function", "function": function});
            Some(call(index, fields))
        }
        ReplyEvent::ToolCallArguments { index, fragment } => {
            Some(call(index, json!({"function": {"arguments": fragment}})))
        }
        _ => None,
    }
}

impl Writer for Chunks {
    fn begin(&mut self, running: &Running, out: &mut String) {
        for choice in 0..running.job().n_choices() {
            let delta = json!({"role": "assistant", "content": ""});
            self.write(choice, &delta, &Value::Null, out);
        }
    }

    fn update(&mut self, running: &Running, update: Update, out: &mut String) {
        match update {
            Update::Progress { choice, progress } => {
                let choice = json!({"index": choice, "delta": {}, "finish_reason": null});
                self.envelope.write_progress(choice, progress, out);
            }
            Update::Token {
                choice,
                events,
                score,
            } => {
                let score = score.zip(running.model().ok());
                let scores = score.map_or(Value::Null, |(score, model)| {
                    json!({"content": [chat_logprob(&model.tokenizer, &score)], "refusal": null})
                });
                self.write_events(choice, events, scores, out);
            }
            Update::Ended {
                choice: idx,
                events,
                end,
                ..
            } => {
                self.write_events(idx, events, Value::Null, out);
                let choice = json!({
                    "index": idx,
                    "delta": {},
                    "logprobs": null,
                    "finish_reason": end.finish.as_str(),
                });
                let mut chunk = self.envelope.with(&[choice]);
                if let Ok(model) = running.model() {
                    chunk["timings"] = timings(running.figures(idx), model);
                }
                frames::event(&chunk, out);
            }
            Update::PromptScores { .. } | Update::Embedding { .. } => {}
        }
    }

    fn end(&mut self, running: &Running, out: &mut String) {
        self.envelope.write_end(running, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        frames::event(&error.to_json(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_thoughts_have_fields_of_their_own() {
        let mut choice = Whole {
            finish: "tool_calls",
            ..Whole::default()
        };
        choice.reply.extend([
            ReplyEvent::Reasoning("so".to_owned()),
            ReplyEvent::ToolCallStart {
                index: 0,
                id: "call_1".to_owned(),
                name: "f".to_owned(),
            },
            ReplyEvent::ToolCallArguments {
                index: 0,
                fragment: "{}".to_owned(),
            },
        ]);
        let mut text = String::new();
        choice.write(0, None, &mut text);
        let choice: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(choice["message"]["content"], Value::Null);
        assert_eq!(choice["message"]["reasoning_content"], "so");
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "f", "arguments": "{}"}));
    }
}
