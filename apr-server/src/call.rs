//! A request on its way to a handler, and the reading of its body.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{
    api_error::ApiError,
    app::{App, BodyBytes},
    fields, tree_size,
};

/// Bodies that have more bytes, or take more as a tree, are read one after the other: they take
/// memory one at a time, and small ones need not wait for them.
const LARGE: usize = 1 << 20;

/// A request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
}

impl Call {
    /// Reads the body as JSON, and makes of it what `make` makes.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        make: impl FnOnce(Value, &App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Arc<App>, T), ApiError> {
        if !is_json(&self.parts.headers) {
            let message = "expected the content type application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, message).code("unsupported_media_type"));
        }
        self.read_of_any_type(make).await
    }

    /// Reads the body as JSON whatever it says it is. Its values live only while they are made
    /// into something else, beside the threads for input and output.
    pub(crate) async fn read_of_any_type<T: Send + 'static>(
        self,
        make: impl FnOnce(Value, &App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Arc<App>, T), ApiError> {
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
        let n_tree = match bytes.len() {
            0..=LARGE => tree_size::n_bytes(&bytes),
            n => n,
        };
        let made = match n_tree {
            0..=LARGE => small(&app, bytes, n_tree, held, make).await,
            _ => large(&app, bytes, held, make).await,
        };
        Ok((app, made?))
    }
}

/// Reads a body beside others. Many that bring tools or a form of the answer wait for each
/// other.
async fn small<T: Send + 'static>(
    app: &Arc<App>,
    bytes: Vec<u8>,
    n_tree: usize,
    mut held: BodyBytes,
    make: impl FnOnce(Value, &App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    held.add(n_tree)?;
    let value = blocking(move || fields::parse(&bytes)).await?;
    let turn = match may_have_grammar(&value) {
        true => App::turn(&app.compiling).await,
        false => None,
    };
    let app = Arc::clone(app);
    blocking(move || {
        // It is this work's turn even if its client does not wait for it.
        let _until_it_is_made = (held, turn);
        make(value, &app)
    })
    .await
}

/// Reads a body when no other large one is being read, and then hands back what that took.
async fn large<T: Send + 'static>(
    app: &Arc<App>,
    bytes: Vec<u8>,
    held: BodyBytes,
    make: impl FnOnce(Value, &App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turns = (
        App::turn(&app.large_bodies).await,
        App::turn(&app.compiling).await,
    );
    let app = Arc::clone(app);
    blocking(move || {
        let _until_it_is_made = (held, turns);
        let value = parse_bearable(&bytes);
        drop(bytes);
        let made = value.and_then(|value| make(value, &app));
        (app.config.give_back)();
        made
    })
    .await
}

fn parse_bearable(bytes: &[u8]) -> Result<Value, ApiError> {
    if !tree_size::is_bearable(bytes) {
        let message = "the body has too many values: lists, objects, names and numbers";
        let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        return Err(error.code("too_many_values"));
    }
    fields::parse(bytes)
}

/// Does work that takes a while on a thread beside those for input and output.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be read")))
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
) -> Result<(Vec<u8>, BodyBytes), ApiError> {
    let most = app.config.max_body_bytes;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > most as u64) {
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
            return Err(too_large(most));
        }
        held.add(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
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
