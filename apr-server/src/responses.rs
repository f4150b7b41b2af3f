//! `POST /v1/responses`, OpenAI's newer API, without a memory: the whole conversation comes
//! with each request, and nothing is stored.

mod items;
mod request;

use axum::response::Response;
use reply_parser::FinishReason;
use serde_json::{Value, json};

use self::{items::Items, request::Request};
use crate::{
    api_error::ApiError,
    app::App,
    call::Call,
    completion::{Running, Update, Writer, stream},
    routes::json as json_response,
};

/// Answers a request.
pub(crate) async fn responses(call: Call) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    let read = |body, app: &App| Request::read(body, app.model()?);
    let (app, request) = call.read(read).await?;
    let Request {
        job,
        is_streamed,
        about,
    } = request;
    let running = Running::start(&app, job)?;
    let events = Events {
        about,
        items: Items::default(),
        finish: None,
    };
    match is_streamed {
        true => Ok(stream(running, events, "text/event-stream")),
        false => whole(running, events).await,
    }
}

async fn whole(mut running: Running, mut events: Events) -> Result<Response, ApiError> {
    // The events of a stream are made and forgotten.
    let mut unsaid = String::new();
    while let Some(update) = running.next().await? {
        events.update(&running, update, &mut unsaid);
        unsaid.clear();
    }
    Ok(json_response(&events.response(&running)))
}

/// Writes a response, at once or as events.
struct Events {
    /// What the response says of the request.
    about: Value,
    items: Items,
    /// How it ended, if it did.
    finish: Option<FinishReason>,
}

impl Events {
    /// Returns the response as far as it has come.
    fn response(&self, running: &Running) -> Value {
        let mut response = self.about.clone();
        let status = match self.finish {
            None => "in_progress",
            Some(FinishReason::Length) => "incomplete",
            Some(FinishReason::Stop | FinishReason::ToolCalls) => "completed",
        };
        response["status"] = status.into();
        response["incomplete_details"] = match status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        response["output"] = self.items.done().into();
        if self.finish.is_some() {
            let figures = running.figures(0);
            response["usage"] = json!({
                "input_tokens": figures.n_prompt,
                "input_tokens_details": {"cached_tokens": figures.n_cached},
                "output_tokens": figures.n_generated,
                "output_tokens_details": {"reasoning_tokens": figures.n_reasoning},
                "total_tokens": figures.n_prompt + figures.n_generated,
            });
        }
        response
    }
}

impl Writer for Events {
    fn begin(&mut self, running: &Running, out: &mut String) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response(running);
            self.items.event(kind, json!({"response": response}), out);
        }
    }

    fn update(&mut self, _running: &Running, update: Update, out: &mut String) {
        match update {
            Update::Token { events, .. } => {
                events.into_iter().for_each(|it| self.items.push(it, out));
            }
            Update::Ended { events, end, .. } => {
                events.into_iter().for_each(|it| self.items.push(it, out));
                let is_whole = end.finish != FinishReason::Length;
                self.items.close(is_whole, out);
                self.finish = Some(end.finish);
            }
            _ => {}
        }
    }

    fn end(&mut self, running: &Running, out: &mut String) {
        let response = self.response(running);
        let kind = match self.finish {
            Some(FinishReason::Length) => "response.incomplete",
            _ => "response.completed",
        };
        self.items.event(kind, json!({"response": response}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        let body = error.to_json();
        let mut fields = body["error"].clone();
        fields["error"] = body["error"].clone();
        self.items.event("error", fields, out);
    }
}
