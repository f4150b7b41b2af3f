//! llama-server's small routes: text to ids and back, and conversations as the model reads
//! them.

use axum::response::Response;
use serde_json::{Value, json};
use tokenizer::SpecialTokens;

use crate::{
    api_error::ApiError,
    call::{Call, blocking},
    completion::Chat,
    fields::{Fields, ids, missing},
    model::ServedModel,
    openai::{check_model, decode},
    routes::json as json_response,
};

/// `POST /tokenize`
pub(crate) async fn tokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |fields, model| {
        let text = fields
            .string("content")?
            .ok_or_else(|| missing("content"))?;
        // Control tokens in a text are text unless it is asked otherwise.
        let special = match fields.bool("parse_special")?.unwrap_or(false) {
            true => SpecialTokens::Recognise,
            false => SpecialTokens::AsText,
        };
        let has_bos = fields.bool("add_special")?.unwrap_or(false);
        let has_pieces = fields.bool("with_pieces")?.unwrap_or(false);
        let begin = model.tokenizer.bos();
        let begin = begin.filter(|_| has_bos && model.tokenizer.adds_bos());
        let ids = begin
            .into_iter()
            .chain(model.tokenizer.encode(&text, special));
        let token = |id: u32| match has_pieces {
            true => json!({"id": id, "piece": piece(model, id)}),
            false => id.into(),
        };
        Ok(json!({"tokens": ids.map(token).collect::<Vec<_>>()}))
    })
    .await
}

/// `POST /detokenize`
pub(crate) async fn detokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |fields, model| {
        let items = fields.array("tokens")?.ok_or_else(|| missing("tokens"))?;
        let bytes = decode(&ids(&items, "tokens")?, "tokens", model)?;
        Ok(json!({"content": String::from_utf8_lossy(&bytes)}))
    })
    .await
}

/// `POST /apply-template`
pub(crate) async fn apply_template(call: Call) -> Result<Response, ApiError> {
    answer(call, |fields, model| {
        let prompt = Chat::read(fields)?.render(model)?;
        Ok(json!({"prompt": prompt.text, "n_tokens": prompt.ids.len()}))
    })
    .await
}

/// Reads a body, does the work beside input and output, and answers.
async fn answer(
    call: Call,
    work: fn(&mut Fields, &ServedModel) -> Result<Value, ApiError>,
) -> Result<Response, ApiError> {
    call.app.loaded()?;
    let (app, body) = call.json().await?;
    let body = blocking(move || {
        let model = app.loaded()?;
        let mut fields = Fields::of_body(body)?;
        check_model(&mut fields, model)?;
        let answer = work(&mut fields, model)?;
        fields.finish()?;
        Ok(answer)
    });
    Ok(json_response(&body.await?))
}

/// Returns the text of a token, or its bytes if it is no whole characters.
fn piece(model: &ServedModel, id: u32) -> Value {
    let bytes = model.tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.into(),
    }
}
