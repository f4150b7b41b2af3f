//! What Ollama's clients ask about models: the one that is served.

use axum::response::Response;
use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    app::App,
    call::Call,
    fields::Fields,
    model::{ServedModel, rfc3339},
    routes::json as json_response,
};

/// What stands behind a name that names no version.
const LATEST: &str = ":latest";

/// `GET /api/tags`
pub(crate) async fn tags(call: Call) -> Result<Response, ApiError> {
    call.app.loaded().map(|model| {
        json_response(&json!({"models": [{
            "name": model.name(),
            "model": model.name(),
            "modified_at": rfc3339(model.created),
            "size": model.facts.n_bytes,
            "digest": model.facts.fingerprint,
            "details": details(model),
        }]}))
    })
}

/// `POST /api/show`
pub(crate) async fn show(call: Call) -> Result<Response, ApiError> {
    call.app.loaded()?;
    let check = |body, app: &App| {
        let mut fields = Fields::of_body(body)?;
        check_model(&mut fields, app.loaded()?)?;
        // How much is told.
        fields.bool("verbose")?;
        fields.finish()
    };
    let (app, ()) = call.read_of_any_type(check).await?;
    let model = app.loaded()?;
    let template = model.tokenizer.chat_template().unwrap_or_default();
    let mut capabilities = vec!["completion"];
    capabilities.extend(template.contains("tools").then_some("tools"));
    capabilities.extend(template.contains("enable_thinking").then_some("thinking"));
    Ok(json_response(&json!({
        "modelfile": "",
        "parameters": "",
        "template": template,
        "modified_at": rfc3339(model.created),
        "details": details(model),
        "model_info": {
            "general.architecture": "qwen3moe",
            "general.parameter_count": model.facts.n_params,
            "qwen3moe.context_length": model.facts.n_ctx_train,
            "qwen3moe.embedding_length": model.facts.n_embd,
        },
        "capabilities": capabilities,
    })))
}

/// `GET /api/version`
pub(crate) async fn version(_call: Call) -> Result<Response, ApiError> {
    Ok(json_response(
        &json!({"version": env!("CARGO_PKG_VERSION")}),
    ))
}

fn details(model: &ServedModel) -> Value {
    let millions = model.facts.n_params as f64 / 1e6;
    let size = match millions {
        1000.0.. => format!("{:.1}B", millions / 1e3),
        _ => format!("{millions:.1}M"),
    };
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3moe",
        "families": ["qwen3moe"],
        "parameter_size": size,
        "quantization_level": "",
    })
}

/// Checks that a request means the model that is served, with or without `:latest`.
pub(super) fn check_model(fields: &mut Fields, model: &ServedModel) -> Result<(), ApiError> {
    let name = fields.string("model")?;
    let Some(name) = name.or(fields.string("name")?) else {
        return Err(crate::fields::missing("model"));
    };
    let short = name.strip_suffix(LATEST).unwrap_or(&name);
    if model.is_called(&name) || model.is_called(short) {
        return Ok(());
    }
    Err(ApiError::unknown_model("GET /api/tags"))
}
