//! What a model says: logits step by step, and the perplexity of a text.

use generate::{CancelFlag, GenerateError, Perplexity, Sequence, Windows};
use moe_model::{Model, StateOptions};
use quant_kernels::Cpu;
use tokenizer::{SpecialTokens, Tokenizer};
use xxhash_rust::xxh3::Xxh3;

use super::digits;
use crate::ToolError;

/// The longest window of a perplexity, which is llama.cpp's.
const MAX_WINDOW: usize = 512;

/// The shortest window.
const MIN_WINDOW: usize = 4;

/// Returns the tokens of a prompt.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let ids = tokenizer.encode(text, SpecialTokens::AsText);
    bos.into_iter().chain(ids).collect()
}

/// Runs a prompt and shows `visit` the logits `[V]` after it and after each token that `visit`
/// chose, `n_steps` times.
pub(super) fn walk(
    cpu: &Cpu,
    model: &Model<'_>,
    prompt: &[u32],
    n_steps: usize,
    mut visit: impl FnMut(usize, &[f32]) -> Result<u32, ToolError>,
) -> Result<(), ToolError> {
    let cancel = CancelFlag::new();
    let options = StateOptions::new(prompt.len() + n_steps);
    let mut sequence = Sequence::new(cpu, model, options)?;
    sequence.prefill(prompt, &cancel, &mut |_| ())?;
    for step in 0..n_steps {
        let token = visit(step, sequence.logits())?;
        if step + 1 < n_steps {
            sequence.push(token, &cancel)?;
        }
    }
    Ok(())
}

/// Returns the length of the windows for a text of `n_tokens`; none if it is too short.
pub(super) fn window(n_tokens: usize) -> Option<usize> {
    (n_tokens >= MIN_WINDOW).then_some(n_tokens.min(MAX_WINDOW))
}

/// Returns the perplexity of a text in windows of `n_ctx` tokens, and how many were scored.
pub(super) fn perplexity(
    cpu: &Cpu,
    model: &Model<'_>,
    tokenizer: &Tokenizer,
    ids: &[u32],
    n_ctx: usize,
) -> Result<(f64, usize), GenerateError> {
    let windows = Windows {
        n_ctx,
        limit: None,
        bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
    };
    // Nothing is allocated for windows that the text does not fill.
    windows.count(ids.len())?;
    let mut sequence = Sequence::new(cpu, model, StateOptions::new(n_ctx))?;
    let mut perplexity = Perplexity::new();
    let push = |scored: generate::Scored<'_>| perplexity.push(&scored);
    sequence.visit_windows(ids, windows, &CancelFlag::new(), push)?;
    Ok((perplexity.value(), perplexity.n_tokens()))
}

/// Returns the hash of a row of logits.
pub(super) fn hash(logits: &[f32]) -> String {
    let mut hasher = Xxh3::new();
    logits
        .iter()
        .for_each(|logit| hasher.update(&logit.to_le_bytes()));
    digits(hasher.digest128())
}
