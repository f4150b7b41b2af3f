//! In whose form an error is told: that of the API that was asked, also where a request did not
//! get as far as its handler.

use axum::response::Response;
use serde_json::Value;

use crate::{anthropic, api_error::ApiError, ollama};

/// The forms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// The same within `{"type":"error"}`, with types of its own.
    Anthropic,
    /// `{"error":"message"}`
    Ollama,
}

impl ErrorForm {
    /// Returns the form of a path, whether there is such a path or not.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/api/") {
            Self::Ollama
        } else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    pub(crate) fn json(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => error.to_json(),
            Self::Anthropic => anthropic::error_json(error),
            Self::Ollama => ollama::error_json(error),
        }
    }

    pub(crate) fn response(self, error: ApiError) -> Response {
        let body = self.json(&error);
        error.into_response_of(&body)
    }
}
