//! How well a model foresees a text, as llama.cpp measures it: windows of 512 tokens that do
//! not overlap, and in each of them only tokens with at least 256 before them count.

use moe_model::{Model, Outputs, State, StateOptions, forward_with};
use quant_kernels::Cpu;

use crate::rows::{argmax, log_probabilities};

const WINDOW: usize = 512;

/// Tokens of a window whose successors are foreseen.
const SCORED: usize = WINDOW / 2 - 1;

/// What is to be foreseen, and the logits of the model that others are compared with.
pub(crate) struct Base<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) logits: &'a [f32],
}

/// How well a model does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    pub(crate) perplexity: f64,
    /// Mean divergence of its probabilities from those of the base.
    pub(crate) mean_kl: f64,
    /// Share of the positions at which it has the first choice of the base.
    pub(crate) same_top: f64,
}

/// Returns the logits of every position that counts.
pub(crate) fn logits(cpu: &Cpu, model: &Model<'_>, ids: &[u32]) -> Vec<f32> {
    let n_vocab = model.config().n_vocab;
    let mut state = State::new(model, StateOptions::new(WINDOW)).unwrap();
    let mut all = Vec::new();
    for window in ids.chunks_exact(WINDOW) {
        state.truncate(0);
        let outputs = Outputs::From(WINDOW / 2);
        let rows = forward_with(cpu, model, &mut state, window, outputs).unwrap();
        all.extend_from_slice(&rows[..SCORED * n_vocab]);
    }
    all
}

/// Returns the tokens that were foreseen, in the order of [`logits`].
fn foreseen(ids: &[u32]) -> impl Iterator<Item = u32> {
    let windows = ids.chunks_exact(WINDOW);
    windows.flat_map(|window| window[WINDOW / 2 + 1..].iter().copied())
}

/// Returns the perplexity of some logits of [`logits`].
pub(crate) fn perplexity(logits: &[f32], ids: &[u32], n_vocab: usize) -> f64 {
    let rows = logits.chunks(n_vocab);
    let n_scored = rows.len() as f64;
    let loss = |(row, token): (&[f32], u32)| -log_probabilities(row).nth(token as usize).unwrap();
    let loss: f64 = rows.zip(foreseen(ids)).map(loss).sum();
    (loss / n_scored).exp()
}

/// Compares some logits of [`logits`] with the base.
pub(crate) fn score(logits: &[f32], base: &Base<'_>, n_vocab: usize) -> Score {
    assert_eq!(logits.len(), base.logits.len(), "logits");
    let (mut kl, mut n_same) = (0.0, 0);
    for (row, base) in logits.chunks(n_vocab).zip(base.logits.chunks(n_vocab)) {
        let pairs = log_probabilities(base).zip(log_probabilities(row));
        kl += pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        n_same += usize::from(argmax(base) == argmax(row));
    }
    let n_scored = (logits.len() / n_vocab) as f64;
    Score {
        perplexity: perplexity(logits, base.ids, n_vocab),
        mean_kl: kl / n_scored,
        same_top: n_same as f64 / n_scored,
    }
}
