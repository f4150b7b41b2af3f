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
//! Prompts and generated tokens, of one sequence or of several, go through the same code: all
//! tokens of a call are rows, and the rows are cut into batches. The logits at a position are
//! the same, bit for bit, however they are cut and whoever else is there, on any number of
//! threads and with any instruction set: no sum ever runs over tokens.
//!
//! A token alone, as in decoding, makes the threads meet six times a layer: for queries, keys
//! and values; attention (twice where a long context is divided); its output; the router; gate
//! and up; and down. What lies between is less than a meeting costs, so the thread that leads
//! does it; for many tokens it is divided too. Whoever listens ([`Cpu::listen`]) is told eight
//! steps: `embedding`; of every layer `qkv`, `attention`, `output`, `router`, `gate+up` and
//! `down`; and `head`.
//!
//! The residual stream is checked for NaN and infinity after attention and after the experts
//! of every layer, while it is in the first cache anyway; this costs less than a thousandth
//! of a pass and lets an error name the layer in which the value arose.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

use quant_kernels::{Cpu, Forms, MatMut, Norm, Product, Team};

use crate::{
    Logits, Model, ModelError, Outputs, Place, Span, Stage, State, Workspace, attention, experts,
    inputs::{InputsWatch, MatrixInputs},
    router::{Route, all_finite},
};

/// What a layer has made of a batch of `T` tokens, for those who look on.
#[derive(Clone, Copy, Debug)]
pub struct LayerView<'a> {
    /// The layer.
    pub layer: usize,
    /// Whose tokens they are `[T]`.
    pub places: &'a [Place],
    /// Residual stream after the layer `[T, E]`.
    pub hidden: &'a [f32],
    /// Chosen experts in the router's order `[T, U]`.
    pub routes: &'a [Route],
    stopped: &'a Cell<bool>,
}

impl LayerView<'_> {
    /// Ends the pass here: it fails with [`ModelError::Stopped`], and all sequences are as they
    /// were before. A long prompt can so be interrupted within a layer's time.
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
    let State { cache, workspace } = state;
    let span = Span {
        cache,
        tokens,
        outputs,
    };
    let logits = forward_batch(cpu, model, workspace, &mut [span], observer);
    Ok(logits.map_err(ModelError::of_the_only_one)?.of(0))
}

/// Continues the sequence of `state` by `tokens`, without logits, and shows `watcher` what
/// every matrix of the layers is multiplied with, batch by batch and layer by layer.
/// `observer` is shown every layer and may end the pass.
///
/// # Errors
/// As [`forward_observed`].
pub fn forward_inputs(
    cpu: &Cpu,
    model: &Model<'_>,
    state: &mut State,
    tokens: &[u32],
    observer: &mut (dyn FnMut(LayerView<'_>) + Send),
    watcher: &mut (dyn FnMut(MatrixInputs<'_>) + Send),
) -> Result<(), ModelError> {
    let State { cache, workspace } = state;
    let span = Span {
        cache,
        tokens,
        outputs: Outputs::None,
    };
    let watch = &mut InputsWatch::new(watcher);
    let passed = pass(cpu, model, workspace, &mut [span], observer, Some(watch));
    passed.map_err(ModelError::of_the_only_one)?;
    Ok(())
}

/// Continues several sequences in one pass, each by the tokens of its span, and returns the
/// logits that the spans ask for. `observer` is shown every layer of every batch and may end
/// the pass.
///
/// The logits of a sequence are the same bits as if it were alone.
///
/// # Errors
/// No sequences; [`ModelError::Stopped`] if the observer ended the pass; and, with the index
/// of the span ([`ModelError::Sequence`]), whatever can be wrong with one of them: no tokens,
/// an id that is not in the vocabulary, a full context, a cache of another model, or a value
/// that is not finite. All sequences are then as they were before.
pub fn forward_batch<'w>(
    cpu: &Cpu,
    model: &Model<'_>,
    workspace: &'w mut Workspace,
    spans: &mut [Span<'_>],
    observer: &mut (dyn FnMut(LayerView<'_>) + Send),
) -> Result<Logits<'w>, ModelError> {
    pass(cpu, model, workspace, spans, observer, None)
}

fn pass<'w>(
    cpu: &Cpu,
    model: &Model<'_>,
    workspace: &'w mut Workspace,
    spans: &mut [Span<'_>],
    observer: &mut (dyn FnMut(LayerView<'_>) + Send),
    watch: Option<&mut InputsWatch<'_>>,
) -> Result<Logits<'w>, ModelError> {
    check(model, workspace, spans)?;
    let (mut n_tokens, mut logits_len) = (0, 0);
    workspace.logits_ends.clear();
    for span in &mut *spans {
        span.cache.prepare(span.tokens.len());
        n_tokens += span.tokens.len();
        logits_len += span.outputs.n_rows(span.tokens.len()) * model.config().n_vocab;
        workspace.logits_ends.push(logits_len);
    }
    workspace.logits.resize(logits_len, 0.0);
    cpu.enter(|team| {
        let mut pass = Pass {
            team,
            model,
            spans,
            b: workspace,
            observer,
            watch,
            n_done: 0,
            n_tokens,
            logits_done: 0,
        };
        while pass.b.batch.fill(pass.spans, pass.n_done, pass.b.batch_len) {
            pass.layers()?;
            pass.head()?;
            pass.n_done += pass.b.batch.tokens.len();
        }
        Ok(())
    })?;
    for span in spans {
        span.cache.grow(span.tokens.len());
    }
    Ok(Logits {
        rows: &workspace.logits,
        ends: &workspace.logits_ends,
    })
}

/// Checks all that the caller controls.
fn check(model: &Model<'_>, workspace: &Workspace, spans: &[Span<'_>]) -> Result<(), ModelError> {
    if workspace.config != *model.config() {
        return Err(ModelError::ForeignState { what: "workspace" });
    }
    if spans.is_empty() {
        return Err(ModelError::NoSequences);
    }
    for (idx, span) in spans.iter().enumerate() {
        check_span(model, span).map_err(|error| error.of(idx))?;
    }
    Ok(())
}

fn check_span(model: &Model<'_>, span: &Span<'_>) -> Result<(), ModelError> {
    let Span { cache, tokens, .. } = span;
    if cache.config() != model.config() {
        return Err(ModelError::ForeignState { what: "cache" });
    }
    if tokens.is_empty() {
        return Err(ModelError::NoTokens);
    }
    let (n_ctx, n_past, n_tokens) = (cache.n_ctx(), cache.len(), tokens.len());
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

/// Spans on their way through the model, batch by batch.
struct Pass<'p, 'a, 's, 'w> {
    team: &'p Team<'p>,
    model: &'p Model<'a>,
    spans: &'p mut [Span<'s>],
    b: &'p mut Workspace,
    observer: &'p mut (dyn FnMut(LayerView<'_>) + Send),
    /// Who wants to see what matrices are multiplied with.
    watch: Option<&'p mut InputsWatch<'w>>,
    /// Tokens of the batches before, and of all.
    n_done: usize,
    n_tokens: usize,
    /// Logits of the batches before.
    logits_done: usize,
}

impl Pass<'_, '_, '_, '_> {
    /// From token ids to the residual stream after the last layer.
    fn layers(&mut self) -> Result<(), ModelError> {
        let Self { team, model, .. } = *self;
        let config = model.config();
        self.b.resize();
        let Workspace { rope, batch, .. } = &mut *self.b;
        rope.fill(team, batch.places.len(), |row| batch.places[row].position);
        let finite = self.embed();
        team.done("embedding");
        self.expect(finite, Stage::Embedding, None)?;
        for (idx, layer) in model.weights().layers.iter().enumerate() {
            if let Some(watch) = &mut self.watch {
                watch.at_attention(team, config, (idx, layer), self.b);
            }
            let finite = attention::forward(team, config, (idx, layer), self.spans, self.b);
            self.expect(finite, Stage::Attention, Some(idx))?;
            if let Some(watch) = &mut self.watch {
                watch.at_router(team, config, (idx, layer), self.b);
            }
            let finite = experts::route(team, config, layer, self.b);
            self.expect(finite, Stage::Router, Some(idx))?;
            let finite = experts::forward(team, config, layer, self.b);
            self.expect(finite, Stage::Experts, Some(idx))?;
            if let Some(watch) = &mut self.watch {
                watch.after_experts(config, idx, self.b);
            }
            self.show(idx)?;
        }
        Ok(())
    }

    /// Shows a layer to the observer, who may end the pass.
    fn show(&mut self, layer: usize) -> Result<(), ModelError> {
        let stopped = Cell::new(false);
        (self.observer)(LayerView {
            layer,
            places: &self.b.batch.places,
            hidden: &self.b.residual,
            routes: &self.b.routes,
            stopped: &stopped,
        });
        if stopped.get() {
            return Err(ModelError::Stopped {
                layer,
                n_layer: self.model.config().n_layer,
                n_done: self.n_done,
                n_tokens: self.n_tokens,
            });
        }
        Ok(())
    }

    /// Copies the tokens' rows of the embedding into the residual stream.
    fn embed(&mut self) -> bool {
        let embedding = self.model.weights().token_embd;
        let finite = AtomicBool::new(true);
        let Workspace {
            residual, batch, ..
        } = &mut *self.b;
        self.team
            .for_each_chunk(residual, embedding.n_cols(), |idx, row| {
                embedding.dequantize_row(batch.tokens[idx] as usize, row);
                if !all_finite(row) {
                    finite.store(false, Ordering::Relaxed);
                }
            });
        finite.into_inner()
    }

    /// Computes the logits that are asked for of the batch's rows.
    fn head(&mut self) -> Result<(), ModelError> {
        let (config, weights, b) = (self.model.config(), self.model.weights(), &mut *self.b);
        let (n_vocab, n_rows) = (config.n_vocab, b.batch.wanted.len());
        if n_rows == 0 {
            return Ok(());
        }
        let forms = Forms::default().with(weights.output.ty().activation_form());
        let norm = Norm {
            weight: &weights.output_norm,
            eps: config.rms_eps,
        };
        self.team.activate_normed(
            &b.residual,
            &b.batch.wanted,
            norm,
            forms,
            &mut b.activations,
        );
        let head = Product {
            w: weights.output,
            up: None,
            x_rows: &b.rows[..n_rows],
            out_row: 0,
            out_col: 0,
        };
        let logits = &mut b.logits[self.logits_done..][..n_rows * n_vocab];
        self.logits_done += logits.len();
        self.team
            .products(&[head], &b.activations, MatMut::new(logits, n_vocab));
        self.team.done("head");
        match logits.chunks(n_vocab).position(|row| !all_finite(row)) {
            None => Ok(()),
            Some(idx) => {
                let place = b.batch.places[b.batch.wanted[idx] as usize];
                Err(not_finite(Stage::Logits, None, place))
            }
        }
    }

    /// Turns a failed check into an error that names the sequence and the token.
    fn expect(&self, finite: bool, stage: Stage, layer: Option<usize>) -> Result<(), ModelError> {
        if finite {
            return Ok(());
        }
        let config = self.model.config();
        let (values, n_cols) = match stage {
            Stage::Router => (&self.b.scores, config.n_expert),
            _ => (&self.b.residual, config.n_embd),
        };
        let row = values
            .chunks(n_cols)
            .position(|row| !all_finite(row))
            .unwrap_or_default();
        Err(not_finite(stage, layer, self.b.batch.places[row]))
    }
}

fn not_finite(stage: Stage, layer: Option<usize>, place: Place) -> ModelError {
    let position = place.position;
    let error = ModelError::NotFinite {
        stage,
        layer,
        position,
    };
    error.of(place.span)
}
