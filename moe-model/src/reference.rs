//! The forward pass again, in `f64` and in the plainest way, to hold the fast one against.
//!
//! It shares with the fast path the weights' bytes, [`MatRef::dequantize_row`] and the
//! rotary frequencies, and no kernel: products, norms, rotation, attention, softmax and the
//! choice of experts are written out here. Threads are only used to share rows out.
//!
//! A [`Reference`] keeps keys and values in `f64` from call to call;
//! [`Reference::generate_plainly`] keeps none and runs the whole sequence through the model
//! for every new token.
//!
//! # How far the fast path may be away
//!
//! Weights mean the same numbers in both, so what differs is rounding:
//!
//! * **f32 arithmetic.** Each of the `2·L + 1` blocks of the network (attention and experts of
//!   `L` layers, head) puts out a sum of products. A sum of `n` terms in sixteen lanes has a
//!   relative error of about `u·√(n/16)`, `u = 2⁻²⁴`, if roundings are independent, and a
//!   block has at most five products, norms and softmaxes in series. The errors of the
//!   blocks add up in the residual stream like a random walk. With `n` the longest row this
//!   gives `ε = 5·u·√(n/16)·√(2·L + 1)` for the relative L2 distance of the logits of a
//!   token, and the bound asks for no more than twice that: [`Reference::float_bound`].
//! * **Activations in `i8`**, for quantized weights. Rounding to steps of `max/127` makes an
//!   error of variance `step²/12`; for bell-shaped rows of 32 to 256 values `max` is 2 to 3
//!   deviations, so the relative error of a product is about `3/(127·√12) ≈ 0.7 %`. Three
//!   such products follow each other in a block (gate and up together, down, next to
//!   attention's two), hence `√3·0.7 %·√(2·L + 1)`, and again a factor for the tails, here
//!   four: [`Reference::quantized_bound`]. If the reference rounds its activations to the
//!   same steps ([`ReferenceActivations::Quantized`]) the first bound holds again, save for
//!   tokens with a value that lies on the border of two steps.
//! * **The router** turns a small difference into a large one where the last expert chosen
//!   and the first one left out are nearly equally probable. That is no error of either path.
//!   A comparison therefore gives the reference the fast path's choices
//!   ([`Reference::forward_along`]), and looks at the choices by themselves.

mod arithmetic;
mod departure;
mod steps;

use quant_kernels::{Cpu, Team};

use self::{
    arithmetic::{add, argmax, most_probable},
    steps::LayerCache,
};
pub use self::{
    departure::Departure,
    steps::{ReferenceAttention, ReferenceSteps},
};
use crate::{Model, ModelError};

/// How activations enter products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceActivations {
    /// As they are.
    Exact,
    /// Rounded to `i8` as the fast path does before products with quantized weights.
    Quantized,
}

/// A sequence in the reference path.
#[derive(Debug)]
pub struct Reference<'m, 'a> {
    steps: ReferenceSteps<'m, 'a>,
    /// Of each layer.
    cache: Vec<LayerCache>,
}

/// A row of numbers for each token.
pub type ReferenceRows = Vec<Vec<f64>>;

/// What a pass of the reference has computed.
#[derive(Clone, Debug)]
pub struct ReferencePass {
    /// Logits of every token `[T][V]`.
    pub logits: ReferenceRows,
    /// The layers, first to last.
    pub layers: Vec<ReferenceLayer>,
}

/// What one layer has made of the tokens.
#[derive(Clone, Debug)]
pub struct ReferenceLayer {
    /// Residual stream after the layer `[T][E]`.
    pub hidden: ReferenceRows,
    /// Probabilities of all experts, before any are left out `[T][X]`.
    pub probabilities: ReferenceRows,
    /// Chosen experts in the router's order `[T][U]`.
    pub experts: Vec<Vec<u32>>,
}

impl<'m, 'a> Reference<'m, 'a> {
    /// Starts an empty sequence.
    #[must_use]
    pub fn new(model: &'m Model<'a>, activations: ReferenceActivations) -> Self {
        let steps = ReferenceSteps::new(model, activations, None);
        let cache = vec![LayerCache::default(); model.config().n_layer];
        Self { steps, cache }
    }

    /// Continues the sequence.
    ///
    /// # Errors
    /// No tokens, or an id that is not in the vocabulary.
    pub fn forward(&mut self, cpu: &Cpu, tokens: &[u32]) -> Result<ReferencePass, ModelError> {
        self.run(cpu, tokens, None)
    }

    /// Continues the sequence with experts that another path has chosen: for each layer those
    /// of all tokens, `[L][T·U]`. The probabilities are still the reference's own.
    ///
    /// # Errors
    /// As [`Reference::forward`].
    ///
    /// # Panics
    /// If `experts` has not this shape or names an expert that is not there.
    pub fn forward_along(
        &mut self,
        cpu: &Cpu,
        tokens: &[u32],
        experts: &[Vec<u32>],
    ) -> Result<ReferencePass, ModelError> {
        let config = self.steps.model().config();
        assert_eq!(experts.len(), config.n_layer, "layers of chosen experts");
        for layer in experts {
            assert_eq!(
                layer.len(),
                tokens.len() * config.n_expert_used,
                "chosen experts"
            );
            assert!(
                layer.iter().all(|&id| (id as usize) < config.n_expert),
                "expert ids"
            );
        }
        self.run(cpu, tokens, Some(experts))
    }

    /// Continues the sequence in one layer: `x` is the residual stream of the new tokens
    /// `[T][E]`, before it and then after it. Experts may be those that another path has chosen
    /// for all tokens, `[T·U]`.
    ///
    /// # Panics
    /// If there is no such layer, or `chosen` names an expert that is not there.
    pub fn forward_layer(
        &mut self,
        team: &Team<'_>,
        layer: usize,
        chosen: Option<&[u32]>,
        x: &mut ReferenceRows,
    ) -> ReferenceLayer {
        self.attend(team, layer, x);
        let (probabilities, experts) = self.apply_experts(team, layer, chosen, x);
        ReferenceLayer {
            hidden: x.clone(),
            probabilities,
            experts,
        }
    }

    /// Returns the steps that it takes, to be taken one by one.
    #[must_use]
    pub const fn steps(&self) -> ReferenceSteps<'m, 'a> {
        self.steps
    }

    /// Continues `prompt` by the `n` most probable tokens, one by one, each time running the
    /// whole sequence through the model. Returns prompt and new tokens.
    ///
    /// # Errors
    /// As [`Reference::forward`].
    pub fn generate_plainly(
        cpu: &Cpu,
        model: &Model<'_>,
        prompt: &[u32],
        n: usize,
    ) -> Result<Vec<u32>, ModelError> {
        let mut ids = prompt.to_vec();
        for _ in 0..n {
            let pass = Reference::new(model, ReferenceActivations::Exact).forward(cpu, &ids)?;
            ids.extend(pass.logits.last().map(|row| argmax(row)));
        }
        Ok(ids)
    }

    /// Returns the relative L2 distance that `f32` arithmetic may make between the logits of
    /// the fast path and the exact ones, for float weights and a cache in F32.
    #[must_use]
    pub fn float_bound(&self) -> f64 {
        let config = self.steps.model().config();
        let longest = config.n_embd.max(config.q_len()).max(config.n_ff_exp);
        let unit = f64::from(f32::EPSILON) / 2.0;
        2.0 * 5.0 * unit * (longest as f64 / 16.0).sqrt().max(1.0) * self.depth()
    }

    /// Returns the relative L2 distance that `i8` activations may make besides, for quantized
    /// weights.
    #[must_use]
    pub fn quantized_bound(&self) -> f64 {
        4.0 * 3f64.sqrt() * 3.0 / (127.0 * 12f64.sqrt()) * self.depth()
    }

    fn depth(&self) -> f64 {
        ((2 * self.steps.model().config().n_layer + 1) as f64).sqrt()
    }

    fn run(
        &mut self,
        cpu: &Cpu,
        tokens: &[u32],
        chosen: Option<&[Vec<u32>]>,
    ) -> Result<ReferencePass, ModelError> {
        self.check(tokens)?;
        let weights = self.steps.model().weights();
        let mut x = self.steps.embedding(tokens);
        Ok(cpu.enter(|team| {
            let mut layers = Vec::new();
            for idx in 0..weights.layers.len() {
                let chosen = chosen.map(|layers| layers[idx].as_slice());
                layers.push(self.forward_layer(team, idx, chosen, &mut x));
            }
            let normed = self.steps.norm(&x, &weights.output_norm);
            ReferencePass {
                logits: self.steps.logits(team, &normed),
                layers,
            }
        }))
    }

    fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let n_vocab = self.steps.model().config().n_vocab;
        let n_past = self.cache.first().map_or(0, |layer| layer.keys.len());
        let wrong = tokens
            .iter()
            .enumerate()
            .find(|&(_, &token)| token as usize >= n_vocab);
        match wrong {
            _ if tokens.is_empty() => Err(ModelError::NoTokens),
            None => Ok(()),
            Some((idx, &token)) => Err(ModelError::TokenOutOfRange {
                token,
                position: n_past + idx,
                n_vocab,
            }),
        }
    }

    fn attend(&mut self, team: &Team<'_>, idx: usize, x: &mut ReferenceRows) {
        let (steps, weights) = (self.steps, self.steps.model().weights());
        let normed = steps.norm(x, &weights.layers[idx].attn_norm);
        let attended = steps.attention_after(team, idx, &normed, &mut self.cache[idx]);
        add(x, &steps.attention_output(team, idx, &attended.rows));
    }

    /// Adds the experts' outputs; returns all probabilities and the chosen experts.
    fn apply_experts(
        &self,
        team: &Team<'_>,
        idx: usize,
        chosen: Option<&[u32]>,
        x: &mut ReferenceRows,
    ) -> (ReferenceRows, Vec<Vec<u32>>) {
        let (steps, model) = (self.steps, self.steps.model());
        let n_used = model.config().n_expert_used;
        let normed = steps.norm(x, &model.weights().layers[idx].ffn_norm);
        let scores = steps.scores(team, idx, &normed);
        let probabilities = scores.iter().map(|row| steps.probabilities(row));
        let probabilities: ReferenceRows = probabilities.collect();
        let experts: Vec<Vec<u32>> = match chosen {
            Some(chosen) => chosen.chunks(n_used).map(<[u32]>::to_vec).collect(),
            None => probabilities
                .iter()
                .map(|row| most_probable(row, n_used))
                .collect(),
        };
        let mut sums = vec![vec![0.0; model.config().n_embd]; x.len()];
        for expert in 0..model.config().n_expert {
            let place = |t: usize| experts[t].iter().position(|&id| id as usize == expert);
            let tokens = (0..x.len()).filter_map(|t| Some((t, place(t)?)));
            let tokens: Vec<(usize, usize)> = tokens.collect();
            let inputs = tokens.iter().map(|&(t, _)| normed[t].clone()).collect();
            let gated = steps.gated(team, idx, expert, &inputs);
            let outputs = steps.expert_output(team, idx, expert, &gated);
            for (&(t, place), out) in tokens.iter().zip(outputs) {
                let share = steps.shares(&probabilities[t], &experts[t])[place];
                let terms = sums[t].iter_mut().zip(out);
                terms.for_each(|(sum, out)| *sum += share * out);
            }
        }
        add(x, &sums);
        (probabilities, experts)
    }
}
