//! How likely tokens were, as answers say it.

use generate::TokenScore;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use super::piece;

/// What stands for the logarithm of zero, which JSON cannot write; OpenAI's number.
const NEVER: f64 = -9999.0;

/// Returns a logarithm that JSON can write.
pub(crate) fn finite(logprob: f64) -> f64 {
    logprob.max(NEVER)
}

/// Returns a token with its score as chats have it.
pub(crate) fn chat_logprob(tokenizer: &Tokenizer, score: &TokenScore) -> Value {
    let token = |id: u32, logprob: f64| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        json!({
            "id": id,
            "token": piece(tokenizer, id),
            "bytes": bytes,
            "logprob": finite(logprob),
        })
    };
    let mut own = token(score.id, score.logprob);
    let top = score.top.iter().map(|top| token(top.id, top.logprob));
    own["top_logprobs"] = top.collect();
    own
}
