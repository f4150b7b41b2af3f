//! `POST /v1/completions`

use axum::response::Response;
use generate::TokenScore;
use reply_parser::ReplyEvent;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use super::{
    answer::{Envelope, Streaming, write_list},
    chat::MAX_TOP,
    prompts::{self, Prompt},
};
use crate::{
    api_error::ApiError,
    call::Call,
    completion::{
        Form, Generation, Job, Running, Settings, Update, Work, Writer, finite, n_predict, piece,
        stream, timings,
    },
    fields::Fields,
    frames,
    model::ServedModel,
    random,
};

/// Tokens of an answer whose request names no length, as OpenAI has it.
const USUAL_LENGTH: usize = 16;
/// The most answers to one request.
const MAX_ANSWERS: usize = 4096;

/// A request that was read.
struct Request {
    job: Job,
    envelope: Envelope,
    /// The prompts as text, if answers begin with them.
    echo: Option<Vec<Prompt>>,
}

/// Answers texts with their continuations.
pub(crate) async fn completions(call: Call) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    let (app, request) = call.read(|body, app| read(body, app.model()?)).await?;
    let running = Running::start(&app, request.job)?;
    let choices = choices(&running, request.echo.as_deref());
    let envelope = request.envelope;
    match envelope.streaming.is_on {
        true => {
            let writer = Chunks { envelope, choices };
            Ok(stream(running, writer, "text/event-stream"))
        }
        false => whole(running, &envelope, choices).await,
    }
}

fn read(body: Value, model: &ServedModel) -> Result<Request, ApiError> {
    let mut fields = Fields::of_body(body)?;
    model.check_name(&mut fields)?;
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
    let envelope = Envelope::new(id.clone(), "text_completion", streaming, model);
    let generation = Generation {
        n_top,
        n_top_prompt: n_top.filter(|_| has_echo),
        ..Generation::of_text(settings, id, model)?
    };
    Ok(Request {
        job: Job {
            prompts: prompts.iter().map(|prompt| prompt.ids.clone()).collect(),
            param: "prompt",
            work: Work::Generate(Box::new(generation)),
        },
        envelope,
        echo: has_echo.then_some(prompts),
    })
}

/// Makes the choices of a job, with what stands before their answers.
fn choices(running: &Running, echo: Option<&[Prompt]>) -> Vec<Choice> {
    let job = running.job();
    let has_scores = job.has_scores();
    let choice = |idx: usize| {
        let prompt = echo.map(|prompts| &prompts[idx / job.n_per_prompt()]);
        let mut choice = Choice {
            text: prompt.map(|prompt| prompt.text.clone()).unwrap_or_default(),
            scores: has_scores.then(Scores::default),
            finish: "",
        };
        let first = prompt.and_then(|prompt| prompt.ids.first());
        if let (Some(scores), Some(&id)) = (&mut choice.scores, first) {
            scores.push_unscored(id);
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
        take(&mut choices, update);
    }
    envelope.response(&running, |model, out| {
        write_list(choices.iter_mut().enumerate(), out, |(idx, choice), out| {
            choice.write(idx, &model.tokenizer, out);
        });
    })
}

/// Adds what has happened to its choice, and returns which that is.
fn take(choices: &mut [Choice], update: Update) -> Option<usize> {
    match update {
        Update::PromptScores { choice, scores } => {
            let table = choices[choice].scores.as_mut()?;
            table.tokens.extend(scores);
            Some(choice)
        }
        Update::Token {
            choice,
            events,
            score,
        } => {
            choices[choice].push_text(events);
            if let (Some(table), Some(score)) = (&mut choices[choice].scores, score) {
                table.tokens.push(score);
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
                table.tokens.push(score);
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

    /// Writes what has come, and forgets it.
    fn write(&mut self, idx: usize, tokenizer: &Tokenizer, out: &mut String) {
        let finish = match self.finish {
            "" => Value::Null,
            finish => finish.into(),
        };
        let text = std::mem::take(&mut self.text);
        let head = json!({"index": idx, "text": text, "finish_reason": finish});
        out.push_str(&head.to_string());
        out.pop();
        out.push_str(",\"logprobs\":");
        match &mut self.scores {
            None => out.push_str("null"),
            Some(scores) => scores.write(tokenizer, out),
        }
        out.push('}');
    }
}

/// Scores of tokens in their order.
#[derive(Debug, Default)]
struct Scores {
    /// The first token of a prompt, before which there is nothing to foretell it.
    unscored: Option<u32>,
    tokens: Vec<TokenScore>,
    /// Characters before the first of them.
    offset: usize,
}

impl Scores {
    fn push_unscored(&mut self, id: u32) {
        self.unscored = Some(id);
    }

    /// Writes them as this API has them, one list for each property, and forgets them.
    fn write(&mut self, tokenizer: &Tokenizer, out: &mut String) {
        let (unscored, scores) = (self.unscored.take(), std::mem::take(&mut self.tokens));
        let ids = || {
            unscored
                .into_iter()
                .chain(scores.iter().map(|score| score.id))
        };
        let scored = || {
            unscored
                .map(|_| None)
                .into_iter()
                .chain(scores.iter().map(Some))
        };
        out.push_str("{\"tokens\":[");
        write_list(ids(), out, |id, out| {
            push(&piece(tokenizer, id).into(), out);
        });
        out.push_str("],\"token_logprobs\":[");
        write_list(scored(), out, |score, out| {
            push(&score.map(|score| finite(score.logprob)).into(), out);
        });
        out.push_str("],\"top_logprobs\":[");
        write_list(scored(), out, |score, out| {
            push(
                &score.map(|score| alternatives(tokenizer, score)).into(),
                out,
            );
        });
        out.push_str("],\"text_offset\":[");
        write_list(ids(), out, |id, out| {
            push(&self.offset.into(), out);
            self.offset += piece(tokenizer, id).chars().count();
        });
        out.push_str("]}");
    }
}

fn push(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
}

fn alternatives(tokenizer: &Tokenizer, score: &TokenScore) -> Map<String, Value> {
    let top = score.top.iter();
    top.map(|top| (piece(tokenizer, top.id), finite(top.logprob).into()))
        .collect()
}

/// Writes chunks.
struct Chunks {
    envelope: Envelope,
    choices: Vec<Choice>,
}

impl Chunks {
    /// Writes a chunk with what has come of a choice.
    fn write(
        &mut self,
        idx: usize,
        tokenizer: &Tokenizer,
        timings: Option<Value>,
        out: &mut String,
    ) {
        let more = timings.map(|timings| ("timings".to_owned(), timings));
        let more = more.into_iter().collect();
        let choice = &mut self.choices[idx];
        frames::event_of(out, |out| {
            self.envelope
                .write(more, out, |out| choice.write(idx, tokenizer, out));
        });
    }
}

impl Writer for Chunks {
    fn begin(&mut self, running: &Running, out: &mut String) {
        let Ok(model) = running.model() else {
            return;
        };
        for idx in 0..self.choices.len() {
            if !self.choices[idx].text.is_empty() {
                self.write(idx, &model.tokenizer, None, out);
            }
        }
    }

    fn update(&mut self, running: &Running, update: Update, out: &mut String) {
        if let Update::Progress { choice, progress } = update {
            let choice =
                json!({"index": choice, "text": "", "logprobs": null, "finish_reason": null});
            return self.envelope.write_progress(choice, progress, out);
        }
        let Ok(model) = running.model() else {
            return;
        };
        let Some(idx) = take(&mut self.choices, update) else {
            return;
        };
        let choice = &self.choices[idx];
        let has_ended = !choice.finish.is_empty();
        if choice.text.is_empty() && choice.scores.is_none() && !has_ended {
            return;
        }
        let timings = has_ended.then(|| timings(running.figures(idx), model));
        self.write(idx, &model.tokenizer, timings, out);
    }

    fn end(&mut self, running: &Running, out: &mut String) {
        self.envelope.write_end(running, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        frames::event(&error.to_json(), out);
    }
}
