//! llama-server's small routes: text to ids and back, and conversations as the model reads
//! them. vLLM has some of them under the same paths with fields of its own, by which benchmarks
//! ask a server for its tokenizer; both are understood.

use axum::response::Response;
use serde_json::{Value, json};
use tokenizer::SpecialTokens;

use crate::{
    api_error::ApiError,
    app::App,
    call::Call,
    completion::{self, Chat, decode},
    fields::{Fields, ids, missing},
    model::ServedModel,
    routes::json as json_response,
};

/// `POST /tokenize`
pub(crate) async fn tokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |fields, model| {
        if fields.has("prompt") {
            return tokenize_prompt(fields, model);
        }
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
        let begin = beginning(model).filter(|_| has_bos);
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

/// Answers in vLLM's form, in which control tokens in a text are control tokens.
fn tokenize_prompt(fields: &mut Fields, model: &ServedModel) -> Result<Value, ApiError> {
    let text = fields.string("prompt")?.unwrap_or_default();
    let has_bos = fields.bool("add_special_tokens")?.unwrap_or(true);
    let has_pieces = fields.bool("return_token_strs")?.unwrap_or(false);
    let begin = beginning(model).filter(|_| has_bos);
    let ids = model.tokenizer.encode(&text, SpecialTokens::Recognise);
    let ids: Vec<u32> = begin.into_iter().chain(ids).collect();
    let pieces = ids
        .iter()
        .map(|&id| completion::piece(&model.tokenizer, id));
    let pieces = has_pieces.then(|| pieces.collect::<Vec<_>>());
    Ok(json!({
        "tokens": ids,
        "count": ids.len(),
        "max_model_len": model.engine.n_ctx(),
        "token_strs": pieces,
    }))
}

/// Returns the token before every text, if the model expects one.
fn beginning(model: &ServedModel) -> Option<u32> {
    let tokenizer = &model.tokenizer;
    tokenizer.bos().filter(|_| tokenizer.adds_bos())
}

/// `GET /tokenizer_info`
pub(crate) async fn tokenizer_info(call: Call) -> Result<Response, ApiError> {
    let model = call.app.loaded()?;
    let tokenizer = &model.tokenizer;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(json_response(&json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        // Files name a beginning also where texts have none; clients would put it before them.
        "bos_token": text(beginning(model)),
        "eos_token": text(tokenizer.eos()),
        "pad_token": text(tokenizer.padding()),
        "add_bos_token": beginning(model).is_some(),
        "model_max_length": model.engine.n_ctx(),
        "chat_template": tokenizer.chat_template(),
    })))
}

/// `POST /detokenize`
pub(crate) async fn detokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |fields, model| {
        let items = fields.array("tokens")?.ok_or_else(|| missing("tokens"))?;
        let bytes = decode(&ids(&items, "tokens")?, "tokens", model)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(json!({"content": text, "prompt": text}))
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
    let answer = move |body, app: &App| {
        let model = app.loaded()?;
        let mut fields = Fields::of_body(body)?;
        model.check_name(&mut fields)?;
        let answer = work(&mut fields, model)?;
        fields.finish()?;
        Ok(answer)
    };
    let (_, answer) = call.read(answer).await?;
    Ok(json_response(&answer))
}

/// Returns the text of a token, or its bytes if it is no whole characters.
fn piece(model: &ServedModel, id: u32) -> Value {
    let bytes = model.tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.into(),
    }
}
