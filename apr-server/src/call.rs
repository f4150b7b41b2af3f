//! A request on its way to a handler, and the reading of its body.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{api_error::ApiError, app::App, fields, model::ServedModel};

/// How long the rest of a body that is too long is read, so that its sender sees the answer
/// instead of a broken connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
}

impl Call {
    /// Reads the body as JSON.
    pub(crate) async fn json(self) -> Result<(Arc<App>, Value), ApiError> {
        if !is_json(&self.parts.headers) {
            let message = "expected the content type application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, message).code("unsupported_media_type"));
        }
        self.json_of_any_type().await
    }

    /// Reads the body as JSON whatever it says it is.
    pub(crate) async fn json_of_any_type(self) -> Result<(Arc<App>, Value), ApiError> {
        let app = Arc::clone(&self.app);
        let limit = app.config.io_timeout;
        let read = tokio::time::timeout(limit, read(&app, &self.parts.headers, self.body)).await;
        let (bytes, held) = read.map_err(|_| {
            let message = format!("the body did not arrive within {} s", limit.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
                .code("body_timeout")
                .header(
                    header::CONNECTION,
                    header::HeaderValue::from_static("close"),
                )
        })??;
        let value = blocking(move || fields::parse(&bytes)).await?;
        drop(held);
        Ok((app, value))
    }
}

/// Does work that takes a while on a thread beside those for input and output.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be read")))
}

/// Reads a request. Many that bring tools or a form of the answer wait for each other.
pub(crate) async fn reading<T: Send + 'static>(
    app: &Arc<App>,
    body: Value,
    read: impl FnOnce(Value, &ServedModel) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = match may_have_grammar(&body) {
        true => Arc::clone(&app.compiling).acquire_owned().await.ok(),
        false => None,
    };
    let app = Arc::clone(app);
    blocking(move || {
        // It is this work's turn even if its client does not wait for it.
        let _turn = turn;
        read(body, app.model()?)
    })
    .await
}

/// Whether a request has a field that may bring a grammar. Ollama's options may be among them.
fn may_have_grammar(body: &Value) -> bool {
    const PLAIN: [&str; 6] = [
        "grammar",
        "json_schema",
        "options",
        "output_config",
        "text",
        "tools",
    ];
    const PARTS: [&str; 5] = ["choice", "format", "guided_", "regex", "structured_"];
    let names = body.as_object().into_iter().flat_map(|body| body.keys());
    let mut names = names.map(String::as_str);
    names.any(|name| PLAIN.contains(&name) || PARTS.iter().any(|part| name.contains(part)))
}

async fn read(
    app: &Arc<App>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<(Vec<u8>, crate::app::BodyBytes), ApiError> {
    let most = app.config.max_body_bytes;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > most as u64) {
        discard(body).await;
        return Err(too_large(most));
    }
    let mut held = app.body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let message = "the body ended before it was complete";
            ApiError::new(StatusCode::BAD_REQUEST, message).code("body_incomplete")
        })?;
        let data: Bytes = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            drop((bytes, held));
            discard(body).await;
            return Err(too_large(most));
        }
        held.add(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

async fn discard(mut body: Body) {
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(PATIENCE, all).await;
}

fn too_large(most: usize) -> ApiError {
    let message = format!("the body is longer than {most} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large")
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let Some(text) = value.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}
