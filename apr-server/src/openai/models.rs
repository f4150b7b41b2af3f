//! The model as a list of one.

use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    call::Call,
    model::{ServedModel, rfc3339},
    routes::json as json_response,
};

/// `GET /v1/models`
pub(crate) async fn models(call: Call) -> Result<Response, ApiError> {
    let model = call.app.loaded()?;
    let id = model.name();
    Ok(json_response(&json!({
        "object": "list",
        "data": [entry(model)],
        // As Anthropic's clients read it.
        "has_more": false,
        "first_id": id,
        "last_id": id,
    })))
}

/// `GET /v1/models/{id}`
pub(crate) async fn model(call: Call) -> Result<Response, ApiError> {
    let model = call.app.loaded()?;
    let path = call.parts.uri.path();
    let name = path.strip_prefix("/v1/models/").unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy();
    match model.is_called(&name) {
        true => Ok(json_response(&entry(model))),
        false => Err(ApiError::unknown_model("GET /v1/models")),
    }
}

fn entry(model: &ServedModel) -> Value {
    let facts = &model.facts;
    json!({
        "id": model.name(),
        "object": "model",
        "created": model.created,
        "owned_by": "apr",
        "type": "model",
        "display_name": model.name(),
        "created_at": rfc3339(model.created),
        "aliases": facts.names[1..],
        "meta": {
            "n_vocab": facts.n_vocab,
            "n_ctx": model.engine.n_ctx(),
            "n_ctx_train": facts.n_ctx_train,
            "n_embd": facts.n_embd,
            "n_params": facts.n_params,
            "size": facts.n_bytes,
        },
    })
}
