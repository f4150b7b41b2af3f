//! Errors as clients see them: a status and `{"error":{"message","type","param","code"}}`.
//!
//! Messages never quote what a client sent beyond names of fields and numbers, and never a
//! path of this machine.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use generate::{GenerateError, SubmitError};
use sampler::SamplerError;
use serde_json::{Value, json};
use tokenizer::TemplateError;

/// Why a request got no answer.
#[derive(Clone, Debug)]
pub(crate) struct ApiError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Another header that belongs to the status.
    header: Option<(header::HeaderName, HeaderValue)>,
}

/// Seconds after which a client may ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable_error",
            StatusCode::GATEWAY_TIMEOUT => "timeout_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        Self(Box::new(Parts {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            header: None,
        }))
    }

    /// A field has a value that it cannot have.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("{param}: {}", message.into());
        let error = Self::new(StatusCode::BAD_REQUEST, message);
        error.code("invalid_value").param(param)
    }

    /// A field asks for something that does not exist here.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(param, message).code("unsupported_parameter")
    }

    /// Something broke that is no fault of the client.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
    }

    pub(crate) fn not_ready(is_draining: bool) -> Self {
        let (message, code) = match is_draining {
            true => ("the server is shutting down", "draining"),
            false => ("the model is being loaded", "loading"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .code(code)
            .retry_later()
    }

    pub(crate) fn queue_full(n_waiting: usize) -> Self {
        let message = format!("{n_waiting} requests are waiting already, which is the limit");
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
            .code("queue_full")
            .retry_later()
    }

    /// A model is asked for that is not served; `route` names the one that is.
    pub(crate) fn unknown_model(route: &str) -> Self {
        let message = format!("there is no such model; {route} names the one that is served");
        Self::new(StatusCode::NOT_FOUND, message).code("model_not_found")
    }

    pub(crate) fn timed_out() -> Self {
        let message = "the request took longer than the server allows";
        Self::new(StatusCode::GATEWAY_TIMEOUT, message).code("timeout")
    }

    pub(crate) fn context_length(n_prompt: usize, n_ctx: usize) -> Self {
        let message = format!("the prompt has {n_prompt} tokens, the context holds {n_ctx}");
        Self::new(StatusCode::BAD_REQUEST, message).code("context_length_exceeded")
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    fn retry_later(self) -> Self {
        self.header(header::RETRY_AFTER, RETRY_AFTER)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the body.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.0.message,
            "type": self.0.kind,
            "param": self.0.param,
            "code": self.0.code,
        }})
    }

    /// Makes a response with a body in the form of an API.
    pub(crate) fn into_response_of(self, body: &Value) -> Response {
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        response
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { n_waiting } => Self::queue_full(n_waiting),
            SubmitError::Draining => Self::not_ready(true),
            SubmitError::Invalid(error) => error.into(),
            error => Self::internal(error.to_string()),
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        let bad = |message: String| Self::new(StatusCode::BAD_REQUEST, message);
        match error {
            GenerateError::PromptTooLong { n_prompt, n_ctx } => {
                Self::context_length(n_prompt, n_ctx)
            }
            GenerateError::EmptyPrompt => bad(error.to_string()).code("empty_prompt"),
            GenerateError::TokenOutOfRange { .. } => bad(error.to_string()).code("invalid_token"),
            GenerateError::Sampler(SamplerError::GrammarStopped { .. }) => {
                bad(error.to_string()).code("grammar_stopped")
            }
            GenerateError::Sampler(error) => sampler_error(&error.to_string()),
            GenerateError::Cancelled => Self::internal("the request was cancelled"),
            error => Self::internal(error.to_string()),
        }
    }
}

/// Messages of the sampler begin with the name of the field.
fn sampler_error(message: &str) -> ApiError {
    let field = message
        .split([':', ' '])
        .next()
        .unwrap_or_default()
        .to_owned();
    ApiError::new(StatusCode::BAD_REQUEST, message)
        .code("invalid_value")
        .param(field)
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        let message = format!("the chat template cannot render this conversation: {error}");
        Self::new(StatusCode::BAD_REQUEST, message).code("template_error")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_is_too_long_is_told_with_both_counts() {
        let error = ApiError::from(GenerateError::PromptTooLong {
            n_prompt: 9,
            n_ctx: 8,
        });
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let body = error.to_json();
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(
            body["error"]["message"],
            "the prompt has 9 tokens, the context holds 8"
        );
    }

    #[test]
    fn a_setting_of_the_sampler_is_named() {
        let error = sampler_error("top_p: expected 0 to 1, found 2");
        assert_eq!(error.to_json()["error"]["param"], "top_p");
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let response = ApiError::queue_full(3).into_response_of(&Value::Null);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
