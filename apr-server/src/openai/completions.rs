//! `POST /v1/completions`

use axum::response::Response;
use generate::TokenScore;
use reply_parser::{ReplyEvent, ReplyFormat};
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use super::{
    Envelope, Streaming,
    chat::MAX_TOP,
    check_model, check_queue,
    prompts::{self, Prompt},
};
use crate::{
    api_error::ApiError,
    call::{Call, reading},
    completion::{
        Form, Generation, Held, Job, Running, Settings, Update, Work, Writer, finite, n_predict,
        piece, seconds_to_ms, stream, timings, usage,
    },
    fields::Fields,
    frames::{self, DONE},
    model::ServedModel,
    random,
    routes::json as json_response,
};

/// Tokens of an answer whose request names no length, as OpenAI has it.
const USUAL_LENGTH: usize = 16;
/// The most answers to one request.
const MAX_ANSWERS: usize = 4096;

/// A request that was read.
struct Request {
    job: Job,
    streaming: Streaming,
    envelope: Envelope,
    /// The prompts as text, if answers begin with them.
    echo: Option<Vec<Prompt>>,
}

/// Answers texts with their continuations.
pub(crate) async fn completions(call: Call) -> Result<Response, ApiError> {
    check_queue(&call.app)?;
    let (app, body) = call.json().await?;
    let request = reading(&app, body, read).await?;
    let running = Running::start(&app, request.job)?;
    let choices = choices(&running, request.echo.as_deref());
    if request.streaming.is_on {
        let writer = Chunks {
            envelope: request.envelope,
            streaming: request.streaming,
            choices,
        };
        return Ok(stream(running, writer, "text/event-stream"));
    }
    whole(running, &request.envelope, choices).await
}

fn read(body: Value, model: &ServedModel) -> Result<Request, ApiError> {
    let mut fields = Fields::of_body(body)?;
    check_model(&mut fields, model)?;
    let prompts = prompts::read(fields.required("prompt")?, "prompt", model)?;
    let streaming = Streaming::read(&mut fields)?;
    let mut settings = Settings::read(&mut fields, model)?;
    if fields.has("max_tokens") || fields.has("n_predict") {
        settings.n_predict = n_predict(&mut fields, &["max_tokens", "n_predict"])?;
    } else {
        settings.n_predict = Some(USUAL_LENGTH);
    }
    let n_top = fields.count("logprobs", MAX_TOP)?;
    let has_echo = fields.bool("echo")?.unwrap_or(false);
    let best_of = [json!(1), json!(settings.n)];
    fields.refuse("best_of", &best_of, "only as many as are returned")?;
    fields.refuse(
        "suffix",
        &[json!("")],
        "texts are continued at their end alone",
    )?;
    settings.hold_to(Form::of_format(&mut fields, "response_format")?)?;
    fields.finish()?;
    if prompts.len() * settings.n > MAX_ANSWERS {
        let message = format!("prompts times n: expected at most {MAX_ANSWERS}");
        return Err(ApiError::invalid("n", message));
    }
    let id = random::id("cmpl");
    let envelope = Envelope::new(id.clone(), "text_completion", model);
    let held = Held::text(&settings, model)?;
    let generation = Generation {
        held,
        settings,
        n_top,
        n_top_prompt: n_top.filter(|_| has_echo),
        thinks: None,
        thinking_budget: None,
        is_single_call: false,
        format: ReplyFormat::default(),
        id,
    };
    Ok(Request {
        job: Job {
            prompts: prompts.iter().map(|prompt| prompt.ids.clone()).collect(),
            param: "prompt",
            work: Work::Generate(Box::new(generation)),
        },
        streaming,
        envelope,
        echo: has_echo.then_some(prompts),
    })
}

/// Makes the choices of a job, with what stands before their answers.
fn choices(running: &Running, echo: Option<&[Prompt]>) -> Vec<Choice> {
    let job = running.job();
    let has_scores = match &job.work {
        Work::Generate(generation) => generation.n_top.is_some(),
        Work::Embed => false,
    };
    let choice = |idx: usize| {
        let prompt = echo.map(|prompts| &prompts[idx / job.n_per_prompt()]);
        let mut choice = Choice {
            text: prompt.map(|prompt| prompt.text.clone()).unwrap_or_default(),
            scores: has_scores.then(Scores::default),
            finish: "",
        };
        let first = prompt.and_then(|prompt| prompt.ids.first());
        if let (Some(scores), Some(&id), Ok(model)) = (&mut choice.scores, first, running.model()) {
            scores.push_unscored(&model.tokenizer, id);
        }
        choice
    };
    (0..job.n_choices()).map(choice).collect()
}

async fn whole(
    mut running: Running,
    envelope: &Envelope,
    mut choices: Vec<Choice>,
) -> Result<Response, ApiError> {
    while let Some(update) = running.next().await? {
        take(&mut choices, update, &running.model()?.tokenizer);
    }
    let choices = choices.iter_mut().enumerate();
    let choices: Vec<Value> = choices.map(|(idx, choice)| choice.take_json(idx)).collect();
    let mut body = envelope.with(&choices);
    let figures = running.all_figures();
    body["usage"] = usage(&figures, running.job().n_per_prompt());
    body["timings"] = timings(running.figures(0), running.model()?);
    Ok(json_response(&body))
}

/// Adds what has happened to its choice, and returns which that is.
fn take(choices: &mut [Choice], update: Update, tokenizer: &Tokenizer) -> Option<usize> {
    match update {
        Update::PromptScores { choice, scores } => {
            let table = choices[choice].scores.as_mut()?;
            scores.iter().for_each(|score| table.push(tokenizer, score));
            Some(choice)
        }
        Update::Token {
            choice,
            events,
            score,
        } => {
            choices[choice].push_text(events);
            if let (Some(table), Some(score)) = (&mut choices[choice].scores, score) {
                table.push(tokenizer, &score);
            }
            Some(choice)
        }
        Update::Ended {
            choice,
            events,
            end,
            score,
        } => {
            choices[choice].push_text(events);
            choices[choice].finish = end.finish.as_str();
            // As in OpenAI's API, lists have the token that ended the text: clients that want the
            // scores of a prompt leave out as many at the end as were generated.
            if let (Some(table), Some(score)) = (&mut choices[choice].scores, score) {
                table.push(tokenizer, &score);
            }
            Some(choice)
        }
        Update::Progress { .. } | Update::Embedding { .. } => None,
    }
}

/// What is to be told of a choice next: all of it, or what has come since the last chunk.
#[derive(Debug, Default)]
struct Choice {
    text: String,
    scores: Option<Scores>,
    /// Empty while it goes on.
    finish: &'static str,
}

impl Choice {
    fn push_text(&mut self, events: Vec<ReplyEvent>) {
        for event in events {
            if let ReplyEvent::Content(text) = event {
                self.text.push_str(&text);
            }
        }
    }

    /// Returns what has come, and forgets it.
    fn take_json(&mut self, idx: usize) -> Value {
        let finish = match self.finish {
            "" => Value::Null,
            finish => finish.into(),
        };
        json!({
            "index": idx,
            "text": std::mem::take(&mut self.text),
            "logprobs": self.scores.as_mut().map(Scores::take_json),
            "finish_reason": finish,
        })
    }
}

/// Scores as this API has them: one list for each property.
#[derive(Debug, Default)]
struct Scores {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Characters before the next token.
    offset: usize,
}

impl Scores {
    fn push(&mut self, tokenizer: &Tokenizer, score: &TokenScore) {
        self.push_token(tokenizer, score.id);
        self.logprobs.push(finite(score.logprob).into());
        let top = score.top.iter().map(|top| {
            let logprob = Value::from(finite(top.logprob));
            (piece(tokenizer, top.id), logprob)
        });
        self.top.push(Value::Object(top.collect::<Map<_, _>>()));
    }

    /// Adds the first token of a prompt, before which there is nothing to foretell it.
    fn push_unscored(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.push_token(tokenizer, id);
        self.logprobs.push(Value::Null);
        self.top.push(Value::Null);
    }

    fn push_token(&mut self, tokenizer: &Tokenizer, id: u32) {
        let piece = piece(tokenizer, id);
        self.offsets.push(self.offset.into());
        self.offset += piece.chars().count();
        self.tokens.push(piece.into());
    }

    fn take_json(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.logprobs),
            "top_logprobs": std::mem::take(&mut self.top),
            "text_offset": std::mem::take(&mut self.offsets),
        })
    }
}

/// Writes chunks.
struct Chunks {
    envelope: Envelope,
    streaming: Streaming,
    choices: Vec<Choice>,
}

impl Chunks {
    fn chunk(&self, choices: &[Value]) -> Value {
        let mut chunk = self.envelope.with(choices);
        if self.streaming.has_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn progress(&self, update: &Update) -> Option<Value> {
        let Update::Progress {
            choice,
            n_total,
            n_cached,
            n_done,
            time,
        } = update
        else {
            return None;
        };
        let choice = json!({"index": choice, "text": "", "logprobs": null, "finish_reason": null});
        let mut chunk = self.chunk(&[choice]);
        chunk["prompt_progress"] = json!({
            "total": n_total,
            "cache": n_cached,
            "processed": n_done,
            "time_ms": seconds_to_ms(*time),
        });
        Some(chunk)
    }
}

impl Writer for Chunks {
    fn begin(&mut self, _running: &Running, out: &mut String) {
        for idx in 0..self.choices.len() {
            if !self.choices[idx].text.is_empty() {
                let choice = self.choices[idx].take_json(idx);
                frames::event(&self.chunk(&[choice]), out);
            }
        }
    }

    fn update(&mut self, running: &Running, update: Update, out: &mut String) {
        if self.streaming.has_progress
            && let Some(chunk) = self.progress(&update)
        {
            return frames::event(&chunk, out);
        }
        let Ok(model) = running.model() else {
            return;
        };
        let Some(idx) = take(&mut self.choices, update, &model.tokenizer) else {
            return;
        };
        let choice = &mut self.choices[idx];
        let has_ended = !choice.finish.is_empty();
        if choice.text.is_empty() && choice.scores.is_none() && !has_ended {
            return;
        }
        let choice = choice.take_json(idx);
        let mut chunk = self.chunk(&[choice]);
        if has_ended {
            chunk["timings"] = timings(running.figures(idx), model);
        }
        frames::event(&chunk, out);
    }

    fn end(&mut self, running: &Running, out: &mut String) {
        if self.streaming.has_usage {
            let mut chunk = self.chunk(&[]);
            let figures = running.all_figures();
            chunk["usage"] = usage(&figures, running.job().n_per_prompt());
            frames::event(&chunk, out);
        }
        out.push_str(DONE);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        frames::event(&error.to_json(), out);
    }
}
