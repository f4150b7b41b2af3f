//! Ollama's API: chats and texts as lines of JSON, and what its clients ask about models.
//!
//! Streams are on unless a request turns them off, and lengths have no limit but the context.
//! Settings that choose hardware are accepted and mean nothing here.

mod answer;
mod models;
mod request;

use axum::response::Response;
use serde_json::{Value, json};

pub(crate) use self::models::{show, tags, version};
use self::{
    answer::{Form, Lines},
    request::Request,
};
use crate::{
    api_error::ApiError,
    app::App,
    call::Call,
    completion::{Running, Update, stream},
    routes::json as json_response,
};

const LINES: &str = "application/x-ndjson";

/// `POST /api/chat`
pub(crate) async fn chat(call: Call) -> Result<Response, ApiError> {
    answer(call, Form::Chat).await
}

/// `POST /api/generate`
pub(crate) async fn generate(call: Call) -> Result<Response, ApiError> {
    answer(call, Form::Text).await
}

async fn answer(call: Call, form: Form) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    // `curl -d` calls its JSON a form, and Ollama's manual asks that way.
    let read = move |body, app: &App| Request::read(body, form, app.model()?);
    let (app, request) = call.read_of_any_type(read).await?;
    let Some(job) = request.job else {
        return Ok(json_response(&answer::nothing(form, app.model()?)));
    };
    let running = Running::start(&app, job)?;
    let lines = Lines::new(form);
    match request.is_streamed {
        true => Ok(stream(running, lines, LINES)),
        false => whole(running, lines).await,
    }
}

async fn whole(mut running: Running, mut lines: Lines) -> Result<Response, ApiError> {
    let mut last = None;
    while let Some(update) = running.next().await? {
        match update {
            Update::Token { events, .. } => lines.collect(events),
            Update::Ended { events, end, .. } => {
                lines.collect(events);
                last = Some(end);
            }
            _ => {}
        }
    }
    let finish = last.map_or(reply_parser::FinishReason::Stop, |end| end.finish);
    Ok(json_response(&lines.last(finish, &running)))
}

/// Returns an error as this API has it: a text.
pub(crate) fn error_json(error: &ApiError) -> Value {
    json!({"error": error.message()})
}
