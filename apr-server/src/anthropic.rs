//! Anthropic's API: messages, and how many tokens they are.
//!
//! A thought, a text and each call are blocks of an answer. Thinking is off unless a request
//! turns it on, as in the API itself; a model that cannot help it thinks all the same.

mod blocks;
mod request;
mod stream;

use axum::response::Response;
use serde_json::{Value, json};

use self::{blocks::Blocks, request::Request};
use crate::{
    api_error::ApiError,
    app::App,
    call::Call,
    completion::{Running, Update, stream},
    routes::json as json_response,
};

/// `POST /v1/messages`
pub(crate) async fn messages(call: Call) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    let read = |body, app: &App| Request::read(body, app.model()?);
    let (app, request) = call.read(read).await?;
    let Request {
        job,
        is_streamed,
        id,
    } = request;
    let running = Running::start(&app, job)?;
    match is_streamed {
        true => Ok(stream(
            running,
            stream::Events::new(id),
            "text/event-stream",
        )),
        false => whole(running, &id).await,
    }
}

/// `POST /v1/messages/count_tokens`
pub(crate) async fn count_tokens(call: Call) -> Result<Response, ApiError> {
    call.app.loaded()?;
    let count = |body, app: &App| request::count(body, app.loaded()?);
    let (_, n_tokens) = call.read(count).await?;
    Ok(json_response(&json!({"input_tokens": n_tokens})))
}

async fn whole(mut running: Running, id: &str) -> Result<Response, ApiError> {
    let mut blocks = Blocks::default();
    let mut reason = Value::Null;
    let mut stop = None;
    while let Some(update) = running.next().await? {
        match update {
            Update::Token { events, .. } => events.into_iter().for_each(|it| blocks.push(it)),
            Update::Ended { events, end, .. } => {
                events.into_iter().for_each(|it| blocks.push(it));
                reason = stop_reason(&end).into();
                stop = end.stop;
            }
            _ => {}
        }
    }
    let mut message = message(id, running.model()?.name());
    message["content"] = blocks.into_json();
    message["stop_reason"] = reason;
    message["stop_sequence"] = stop.into();
    message["usage"] = usage(&running);
    Ok(json_response(&message))
}

/// Returns a message without content.
fn message(id: &str, model: &str) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
    })
}

fn usage(running: &Running) -> Value {
    let figures = running.figures(0);
    json!({
        "input_tokens": figures.n_prompt - figures.n_cached.min(figures.n_prompt),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": figures.n_cached,
        "output_tokens": figures.n_generated,
    })
}

fn stop_reason(end: &crate::completion::End) -> &'static str {
    match (end.finish, &end.stop) {
        (reply_parser::FinishReason::ToolCalls, _) => "tool_use",
        (reply_parser::FinishReason::Length, _) => "max_tokens",
        (reply_parser::FinishReason::Stop, Some(_)) => "stop_sequence",
        (reply_parser::FinishReason::Stop, None) => "end_turn",
    }
}

/// Returns an error as this API has it: under names of its own, beside the usual fields.
pub(crate) fn error_json(error: &ApiError) -> Value {
    let mut body = error.to_json();
    body["error"]["type"] = match error.status().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
    .into();
    body["type"] = "error".into();
    body
}
