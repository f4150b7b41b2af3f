//! Text and token ids, outside of chats.

use tokenizer::{SpecialTokens, Tokenizer};

use crate::{api_error::ApiError, model::ServedModel};

/// Encodes a text that is continued as it is. What looks like a control token is text.
pub(crate) fn text_prompt(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let begin = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut ids: Vec<u32> = begin.into_iter().collect();
    ids.extend(tokenizer.encode(text, SpecialTokens::AsText));
    ids
}

/// Returns the bytes of tokens. Ids that the model has and the tokenizer has not are no text.
pub(crate) fn decode(ids: &[u32], param: &str, model: &ServedModel) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    for (idx, &id) in ids.iter().enumerate() {
        if id as usize >= model.facts.n_vocab {
            let message = format!("expected an id below {}, found {id}", model.facts.n_vocab);
            return Err(ApiError::invalid(format!("{param}[{idx}]"), message).code("invalid_token"));
        }
        bytes.extend_from_slice(model.tokenizer.token_bytes(id).unwrap_or_default());
    }
    Ok(bytes)
}

/// Returns a token as text; bytes that are no whole character become replacements.
pub(crate) fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
