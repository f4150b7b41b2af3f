//! What the fast pass shows of itself: inputs and outputs of every step of every layer.
//!
//! Numbers are kept in `f64`, which holds each `f32` as it is. A layer takes some hundred
//! kilobytes for a dozen tokens of a large model, so a trace is small beside the model.

use moe_model::{
    MatrixInputs, Model, ModelError, Outputs, ReferenceActivations, ReferenceRows, ReferenceSteps,
    Route, State, StateOptions, forward_inputs,
};
use quant_kernels::{Cpu, KvType};

/// A pass over one sequence.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// Embedding of the tokens `[T][E]`.
    pub(super) embedding: ReferenceRows,
    pub(super) layers: Vec<LayerTrace>,
    /// Logits `[T][V]`, if all layers were passed.
    pub(super) logits: Option<ReferenceRows>,
}

/// A layer of a pass.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerTrace {
    /// Normed rows that queries, keys and values are made of `[T][E]`.
    pub(super) attention_input: ReferenceRows,
    /// Attention before its output product `[T][H·D]`.
    pub(super) attended: ReferenceRows,
    /// Normed rows that go to router and experts `[T][E]`.
    pub(super) router_input: ReferenceRows,
    /// Chosen experts in the router's order `[T][U]`.
    pub(super) routes: Vec<Vec<Route>>,
    /// Inner activations of the chosen experts, in their order `[T][U][F]`.
    pub(super) gated: Vec<ReferenceRows>,
    /// Residual stream after the layer `[T][E]`.
    pub(super) hidden: ReferenceRows,
}

impl Trace {
    /// Runs the tokens through the first `n_layers` layers at once, and through the head if
    /// these are all.
    pub(super) fn of_fast_pass(
        cpu: &Cpu,
        model: &Model<'_>,
        tokens: &[u32],
        n_layers: usize,
    ) -> Result<Self, ModelError> {
        let config = model.config();
        let mut options = StateOptions::new(tokens.len());
        // Nothing is rounded that the reference does not round, and nothing is cut.
        (options.keys, options.values) = (KvType::F32, KvType::F32);
        options.batch_len = tokens.len();
        let mut state = State::new(model, options)?;
        let mut shown: Vec<Shown> = Vec::new();
        let mut outputs: Vec<(Vec<f32>, Vec<Route>)> = Vec::new();
        let mut watcher = |inputs: MatrixInputs<'_>| {
            if shown.len() <= inputs.layer {
                shown.push(Shown::default());
            }
            shown[inputs.layer].take(&inputs);
        };
        let mut observer = |view: moe_model::LayerView<'_>| {
            outputs.push((view.hidden.to_vec(), view.routes.to_vec()));
            if view.layer + 1 == n_layers && n_layers < config.n_layer {
                view.stop();
            }
        };
        let all = Outputs::All;
        let passed = forward_inputs(
            cpu,
            model,
            &mut state,
            tokens,
            all,
            &mut observer,
            &mut watcher,
        );
        let logits = match passed {
            Ok(logits) => Some(rows(logits, config.n_vocab)),
            Err(ModelError::Stopped { .. }) => None,
            Err(error) => return Err(error),
        };
        let layers = shown.into_iter().zip(outputs);
        let layers = layers.map(|(shown, (hidden, routes))| LayerTrace {
            routes: routes
                .chunks(config.n_expert_used)
                .map(<[Route]>::to_vec)
                .collect(),
            gated: shown.gated(&routes, config.n_expert_used, config.n_ff_exp),
            attention_input: shown.attention_input,
            attended: shown.attended,
            router_input: shown.router_input,
            hidden: rows(&hidden, config.n_embd),
        });
        let steps = ReferenceSteps::new(model, ReferenceActivations::Exact, None);
        Ok(Self {
            embedding: steps.embedding(tokens),
            layers: layers.collect(),
            logits,
        })
    }

    /// Returns what goes into a layer `[T][E]`.
    pub(super) fn input(&self, layer: usize) -> &ReferenceRows {
        let before = layer.checked_sub(1);
        before.map_or(&self.embedding, |before| &self.layers[before].hidden)
    }
}

impl LayerTrace {
    /// Returns the experts that were chosen for all tokens `[T·U]`.
    pub(super) fn experts(&self) -> Vec<u32> {
        let routes = self.routes.iter().flatten();
        routes.map(|route| route.expert).collect()
    }
}

/// The inputs of a layer's matrices as they are shown.
#[derive(Default)]
struct Shown {
    attention_input: ReferenceRows,
    attended: ReferenceRows,
    router_input: ReferenceRows,
    /// Inner activations, expert after expert.
    gated: Vec<f32>,
    /// Expert and token of each of their rows.
    slots: Vec<(u32, u32)>,
}

impl Shown {
    fn take(&mut self, inputs: &MatrixInputs<'_>) {
        let all = || rows(inputs.rows, inputs.n_cols);
        match inputs.matrices {
            ["attn_q", ..] => self.attention_input = all(),
            ["attn_output"] => self.attended = all(),
            ["ffn_gate_inp"] => self.router_input = all(),
            ["ffn_gate_exps", ..] => {
                let met = inputs.experts.unwrap_or_default().iter();
                self.slots = met.map(|met| (met.expert, met.row)).collect();
            }
            _ => self.gated = inputs.rows.to_vec(),
        }
    }

    /// Puts the inner activations in the router's order.
    fn gated(&self, routes: &[Route], n_used: usize, n_ff: usize) -> Vec<ReferenceRows> {
        let row = |token: u32, route: &Route| {
            let wanted = (route.expert, token);
            let slot = self.slots.iter().position(|slot| *slot == wanted);
            let row = slot.and_then(|slot| self.gated.chunks(n_ff).nth(slot));
            row.map(to_f64).unwrap_or_default()
        };
        let tokens = (0..).zip(routes.chunks(n_used));
        tokens
            .map(|(token, routes)| routes.iter().map(|route| row(token, route)).collect())
            .collect()
    }
}

fn to_f64(row: &[f32]) -> Vec<f64> {
    row.iter().copied().map(f64::from).collect()
}

fn rows(values: &[f32], n_cols: usize) -> ReferenceRows {
    values.chunks(n_cols).map(to_f64).collect()
}
