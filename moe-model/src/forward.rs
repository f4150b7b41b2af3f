//! The forward pass of Qwen3-MoE: token ids in, logits out.
//!
//! ```text
//! x = embedding[token]
//! for each layer:
//!   q, k, v = Wq·norm(x), Wk·norm(x), Wv·norm(x)
//!   q, k = rotate(norm(q)), rotate(norm(k)) per head;  k, v go to the cache
//!   x += Wo · attention(q, cache)
//!   p = softmax(Wr · norm(x));  the U largest, divided by their sum, are the weights
//!   x += Σ_u p[u] · Wdown[u] · (silu(Wgate[u]·norm(x)) · (Wup[u]·norm(x)))
//! logits = Whead · norm(x)
//! ```
//!
//! Prompt and generated tokens go through the same code; the tokens of a call are cut into
//! batches, and the logits at a position are the same, bit for bit, however they are cut, on
//! any number of threads and with any instruction set: no sum ever runs over tokens.
//!
//! Whoever listens ([`Cpu::listen`]) is told ten steps: `embedding`; of every layer `qkv`,
//! `rotate`, `attention`, `output`, `router`, `gate+up`, `down` and `sum`; and `head`.
//!
//! The residual stream is checked for NaN and infinity after attention and after the experts
//! of every layer, while it is in the first cache anyway; this costs less than a thousandth
//! of a pass and lets an error name the layer in which the value arose.

use std::{
    cell::Cell,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use quant_kernels::{Cpu, Forms, MatMut, Product, Team};

use crate::{
    KvCache, Model, ModelError, Stage, State,
    attention::{self, Place},
    experts,
    router::{Route, all_finite},
    state::Buffers,
};

/// For which tokens of a call logits are computed. The head is a seventh of the work of a
/// token, so it is left out where nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outputs {
    /// For none: the tokens only enter the cache.
    None,
    /// For the last one.
    #[default]
    Last,
    /// For those from this index of the call on.
    From(usize),
    /// For all.
    All,
}

impl Outputs {
    fn rows(self, n_tokens: usize) -> Range<usize> {
        match self {
            Self::None => n_tokens..n_tokens,
            Self::Last => n_tokens - 1..n_tokens,
            Self::From(first) => first.min(n_tokens)..n_tokens,
            Self::All => 0..n_tokens,
        }
    }
}

/// What a layer has made of a batch of tokens, for those who look on.
#[derive(Clone, Copy, Debug)]
pub struct LayerView<'a> {
    /// The layer.
    pub layer: usize,
    /// Position of the first token.
    pub first: usize,
    /// Residual stream after the layer `[T, E]`.
    pub hidden: &'a [f32],
    /// Chosen experts in the router's order `[T, U]`.
    pub routes: &'a [Route],
    stopped: &'a Cell<bool>,
}

impl LayerView<'_> {
    /// Ends the pass here: it fails with [`ModelError::Stopped`], and the state is as it was
    /// before. A long prompt can so be interrupted within a layer's time.
    pub fn stop(&self) {
        self.stopped.set(true);
    }
}

/// Continues the sequence of `state` by `tokens` and returns the logits `[V]` of the last.
///
/// # Errors
/// No tokens, an id that is not in the vocabulary, a full context, a state of another model,
/// or a value that is not finite. The state is then as it was before.
pub fn forward_qwen3_moe<'s>(
    cpu: &Cpu,
    model: &Model<'_>,
    state: &'s mut State,
    tokens: &[u32],
) -> Result<&'s [f32], ModelError> {
    forward_with(cpu, model, state, tokens, Outputs::Last)
}

/// Continues the sequence of `state` by `tokens` and returns the logits `[_, V]` of those
/// that `outputs` names.
///
/// # Errors
/// As [`forward_qwen3_moe`].
pub fn forward_with<'s>(
    cpu: &Cpu,
    model: &Model<'_>,
    state: &'s mut State,
    tokens: &[u32],
    outputs: Outputs,
) -> Result<&'s [f32], ModelError> {
    forward_observed(cpu, model, state, tokens, outputs, &mut |_| ())
}

/// Does what [`forward_with`] does and shows `observer` every layer of every batch, which may
/// end the pass.
///
/// # Errors
/// As [`forward_qwen3_moe`], and [`ModelError::Stopped`] if the observer ended the pass.
pub fn forward_observed<'s>(
    cpu: &Cpu,
    model: &Model<'_>,
    state: &'s mut State,
    tokens: &[u32],
    outputs: Outputs,
    observer: &mut (dyn FnMut(LayerView<'_>) + Send),
) -> Result<&'s [f32], ModelError> {
    check(model, state, tokens)?;
    let n_past = state.len();
    state.cache.reserve(n_past + tokens.len());
    let wanted = outputs.rows(tokens.len());
    state
        .buffers
        .logits
        .resize(wanted.len() * model.config().n_vocab, 0.0);
    let State {
        cache,
        buffers,
        batch_len,
        ..
    } = state;
    cpu.enter(|team| {
        let starts = (0..).step_by(*batch_len);
        for (tokens, start) in tokens.chunks(*batch_len).zip(starts) {
            let first = n_past + start;
            let mut pass = Pass {
                team,
                model,
                cache,
                buffers,
                observer,
                first,
            };
            pass.layers(tokens)?;
            // The wanted rows within this batch, and how many were wanted before it.
            let rows = wanted.start.max(start)..wanted.end.min(start + tokens.len());
            if !rows.is_empty() {
                let n_before = rows.start - wanted.start;
                pass.head(rows.start - start..rows.end - start, n_before)?;
            }
        }
        Ok(())
    })?;
    state.cache.grow(tokens.len());
    Ok(&state.buffers.logits)
}

/// Checks all that the caller controls.
fn check(model: &Model<'_>, state: &State, tokens: &[u32]) -> Result<(), ModelError> {
    if state.config != *model.config() {
        return Err(ModelError::ForeignState);
    }
    if tokens.is_empty() {
        return Err(ModelError::NoTokens);
    }
    let (n_ctx, n_past, n_tokens) = (state.n_ctx(), state.len(), tokens.len());
    if n_tokens > n_ctx - n_past {
        return Err(ModelError::ContextFull {
            n_ctx,
            n_past,
            n_tokens,
        });
    }
    let n_vocab = model.config().n_vocab;
    match tokens.iter().position(|&token| token as usize >= n_vocab) {
        None => Ok(()),
        Some(idx) => {
            let (token, position) = (tokens[idx], n_past + idx);
            Err(ModelError::TokenOutOfRange {
                token,
                position,
                n_vocab,
            })
        }
    }
}

/// One batch on its way through the model.
struct Pass<'p, 'a> {
    team: &'p Team<'p>,
    model: &'p Model<'a>,
    cache: &'p mut KvCache,
    buffers: &'p mut Buffers,
    observer: &'p mut (dyn FnMut(LayerView<'_>) + Send),
    /// Position of the first token.
    first: usize,
}

impl Pass<'_, '_> {
    /// From token ids to the residual stream after the last layer.
    fn layers(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let Self {
            team, model, first, ..
        } = *self;
        let (config, n_tokens) = (model.config(), tokens.len());
        self.buffers.resize(config, n_tokens);
        self.buffers.rope.fill(team, first, n_tokens);
        let finite = self.embed(tokens);
        team.done("embedding");
        self.expect(finite, Stage::Embedding, None)?;
        for (layer, weights) in model.weights().layers.iter().enumerate() {
            let place = Place {
                layer,
                first,
                n_tokens,
            };
            let b = &mut *self.buffers;
            let finite = attention::forward(team, config, weights, place, self.cache, b);
            self.expect(finite, Stage::Attention, Some(layer))?;
            let finite = experts::route(team, config, weights, n_tokens, self.buffers);
            self.expect(finite, Stage::Router, Some(layer))?;
            let finite = experts::forward(team, config, weights, self.buffers);
            self.expect(finite, Stage::Experts, Some(layer))?;
            self.show(layer)?;
        }
        Ok(())
    }

    /// Shows a layer to the observer, who may end the pass.
    fn show(&mut self, layer: usize) -> Result<(), ModelError> {
        let Buffers {
            residual: hidden,
            routes,
            ..
        } = &*self.buffers;
        let (first, stopped) = (self.first, Cell::new(false));
        (self.observer)(LayerView {
            layer,
            first,
            hidden,
            routes,
            stopped: &stopped,
        });
        if stopped.get() {
            let n_layer = self.model.config().n_layer;
            return Err(ModelError::Stopped {
                layer,
                n_layer,
                position: first,
            });
        }
        Ok(())
    }

    /// Copies the tokens' rows of the embedding into the residual stream.
    fn embed(&mut self, tokens: &[u32]) -> bool {
        let embedding = self.model.weights().token_embd;
        let finite = AtomicBool::new(true);
        let residual = &mut self.buffers.residual;
        self.team
            .for_each_chunk(residual, embedding.n_cols(), |idx, row| {
                embedding.dequantize_row(tokens[idx] as usize, row);
                if !all_finite(row) {
                    finite.store(false, Ordering::Relaxed);
                }
            });
        finite.into_inner()
    }

    /// Computes the logits of `rows` of the batch; `n_before` rows of logits are done.
    fn head(&mut self, rows: Range<usize>, n_before: usize) -> Result<(), ModelError> {
        let (config, weights, b) = (
            self.model.config(),
            self.model.weights(),
            &mut *self.buffers,
        );
        let (n_embd, n_vocab) = (config.n_embd, config.n_vocab);
        let hidden = &b.residual[rows.start * n_embd..rows.end * n_embd];
        let normed = &mut b.normed[..hidden.len()];
        norm_rows(
            self.team,
            hidden,
            &weights.output_norm,
            config.rms_eps,
            normed,
        );
        let forms = Forms::default().with(weights.output.ty().activation_form());
        self.team
            .activate(normed, n_embd, forms, &mut b.activations);
        let head = Product {
            w: weights.output,
            up: None,
            x_rows: &b.rows[..rows.len()],
            out_row: 0,
            out_col: 0,
        };
        let logits = &mut b.logits[n_before * n_vocab..][..rows.len() * n_vocab];
        self.team
            .products(&[head], &b.activations, MatMut::new(logits, n_vocab));
        self.team.done("head");
        match logits.chunks(n_vocab).position(|row| !all_finite(row)) {
            None => Ok(()),
            Some(idx) => Err(ModelError::NotFinite {
                stage: Stage::Logits,
                layer: None,
                position: self.first + rows.start + idx,
            }),
        }
    }

    /// Turns a failed check into an error that names the token.
    fn expect(&self, finite: bool, stage: Stage, layer: Option<usize>) -> Result<(), ModelError> {
        if finite {
            return Ok(());
        }
        let config = self.model.config();
        let (values, n_cols) = match stage {
            Stage::Router => (&self.buffers.scores, config.n_expert),
            _ => (&self.buffers.residual, config.n_embd),
        };
        let idx = values
            .chunks(n_cols)
            .position(|row| !all_finite(row))
            .unwrap_or_default();
        Err(ModelError::NotFinite {
            stage,
            layer,
            position: self.first + idx,
        })
    }
}

/// Norms every row of `x` into `out`.
pub(crate) fn norm_rows(team: &Team<'_>, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n_cols = weight.len();
    team.for_each_chunk(out, n_cols, |idx, out| {
        team.isa()
            .rms_norm(&x[idx * n_cols..][..n_cols], weight, eps, out);
    });
}

/// Adds rows of `x` to those of `sum` and returns whether these are finite.
pub(crate) fn add_and_check(team: &Team<'_>, sum: &mut [f32], x: &[f32], n_cols: usize) -> bool {
    let finite = AtomicBool::new(true);
    team.for_each_chunk(sum, n_cols, |idx, row| {
        team.isa()
            .add_scaled(row, &x[idx * n_cols..][..n_cols], 1.0);
        if !all_finite(row) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}
