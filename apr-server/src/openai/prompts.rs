//! Prompts as completions and embeddings have them: a text, several, token ids, or several
//! lists of those.

use serde_json::Value;

use crate::{
    api_error::ApiError,
    completion::{decode, text_prompt},
    fields::{ids, wrong_type},
    model::ServedModel,
};

/// The most prompts of a request.
const MAX_PROMPTS: usize = 2048;

/// A prompt, as text and as ids.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
}

/// Reads prompts.
pub(super) fn read(
    value: Value,
    param: &str,
    model: &ServedModel,
) -> Result<Vec<Prompt>, ApiError> {
    let items = match value {
        Value::String(text) => return Ok(vec![of_text(text, model)]),
        Value::Array(items) => items,
        other => return Err(wrong_type(param, "a string or an array", &other)),
    };
    match items.first() {
        None => Err(ApiError::invalid(param, "expected at least one prompt")),
        Some(Value::Number(_)) => Ok(vec![of_ids(ids(&items, param)?, param, model)?]),
        Some(_) if items.len() > MAX_PROMPTS => {
            let message = format!("expected at most {MAX_PROMPTS}, found {}", items.len());
            Err(ApiError::invalid(param, message))
        }
        Some(_) => {
            let prompt = |(idx, item): (usize, Value)| {
                let param = format!("{param}[{idx}]");
                match item {
                    Value::String(text) => Ok(of_text(text, model)),
                    Value::Array(items) => of_ids(ids(&items, &param)?, &param, model),
                    other => Err(wrong_type(&param, "a string or token ids", &other)),
                }
            };
            items.into_iter().enumerate().map(prompt).collect()
        }
    }
}

fn of_text(text: String, model: &ServedModel) -> Prompt {
    Prompt {
        ids: text_prompt(&model.tokenizer, &text),
        text,
    }
}

fn of_ids(ids: Vec<u32>, param: &str, model: &ServedModel) -> Result<Prompt, ApiError> {
    let bytes = decode(&ids, param, model)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Prompt { ids, text })
}
