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

use quant_kernels::{ActivationForm, Cpu, MatRef, Team};

use crate::{Model, ModelError, weights::LayerWeights};

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
    model: &'m Model<'a>,
    activations: ReferenceActivations,
    /// Per layer, keys and values of all positions `[P, K·D]`.
    cache: Vec<LayerCache>,
}

#[derive(Clone, Debug, Default)]
struct LayerCache {
    keys: Rows,
    values: Rows,
}

/// Token rows.
type Rows = Vec<Vec<f64>>;

/// What a pass of the reference has computed.
#[derive(Clone, Debug)]
pub struct ReferencePass {
    /// Logits of every token `[T][V]`.
    pub logits: Vec<Vec<f64>>,
    /// The layers, first to last.
    pub layers: Vec<ReferenceLayer>,
}

/// What one layer has made of the tokens.
#[derive(Clone, Debug)]
pub struct ReferenceLayer {
    /// Residual stream after the layer `[T][E]`.
    pub hidden: Vec<Vec<f64>>,
    /// Probabilities of all experts, before any are left out `[T][X]`.
    pub probabilities: Vec<Vec<f64>>,
    /// Chosen experts in the router's order `[T][U]`.
    pub experts: Vec<Vec<u32>>,
}

impl<'m, 'a> Reference<'m, 'a> {
    /// Starts an empty sequence.
    #[must_use]
    pub fn new(model: &'m Model<'a>, activations: ReferenceActivations) -> Self {
        let cache = vec![LayerCache::default(); model.config().n_layer];
        Self {
            model,
            activations,
            cache,
        }
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
        let config = self.model.config();
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
        let config = self.model.config();
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
        ((2 * self.model.config().n_layer + 1) as f64).sqrt()
    }

    fn run(
        &mut self,
        cpu: &Cpu,
        tokens: &[u32],
        chosen: Option<&[Vec<u32>]>,
    ) -> Result<ReferencePass, ModelError> {
        self.check(tokens)?;
        let weights = self.model.weights();
        let mut x: Rows = tokens
            .iter()
            .map(|&id| row_of(weights.token_embd, id as usize))
            .collect();
        Ok(cpu.enter(|team| {
            let mut layers = Vec::new();
            for (idx, layer) in weights.layers.iter().enumerate() {
                self.attend(team, idx, layer, &mut x);
                let chosen = chosen.map(|layers| layers[idx].as_slice());
                let (probabilities, experts) = self.apply_experts(team, layer, chosen, &mut x);
                layers.push(ReferenceLayer {
                    hidden: x.clone(),
                    probabilities,
                    experts,
                });
            }
            let normed = self.norm_all(&x, &weights.output_norm);
            ReferencePass {
                logits: self.product(team, weights.output, &normed),
                layers,
            }
        }))
    }

    fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let n_vocab = self.model.config().n_vocab;
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

    fn attend(&mut self, team: &Team<'_>, idx: usize, layer: &LayerWeights<'_>, x: &mut Rows) {
        let config = self.model.config();
        let (dim, group) = (config.head_dim, config.n_head / config.n_head_kv);
        let normed = self.norm_all(x, &layer.attn_norm);
        let mut queries = self.product(team, layer.attn_q, &normed);
        let mut keys = self.product(team, layer.attn_k, &normed);
        let values = self.product(team, layer.attn_v, &normed);
        let first = self.cache[idx].keys.len();
        for (t, (q, k)) in queries.iter_mut().zip(&mut keys).enumerate() {
            for (row, weight) in [(q, &layer.attn_q_norm), (k, &layer.attn_k_norm)] {
                for head in row.chunks_mut(dim) {
                    let normed = self.norm(head, weight);
                    head.copy_from_slice(&self.rotate(&normed, first + t));
                }
            }
        }
        self.cache[idx].keys.extend(keys);
        self.cache[idx].values.extend(values);
        let cache = &self.cache[idx];
        let attended = queries.iter().enumerate().map(|(t, q)| {
            let heads = q.chunks(dim).enumerate();
            let of_head = |(h, q): (usize, &[f64])| attend_one(q, cache, h / group, first + t);
            heads.flat_map(of_head).collect()
        });
        let attended: Rows = attended.collect();
        add(x, &self.product(team, layer.attn_output, &attended));
    }

    /// Adds the experts' outputs; returns all probabilities and the chosen experts.
    fn apply_experts(
        &self,
        team: &Team<'_>,
        layer: &LayerWeights<'_>,
        chosen: Option<&[u32]>,
        x: &mut Rows,
    ) -> (Rows, Vec<Vec<u32>>) {
        let config = self.model.config();
        let n_used = config.n_expert_used;
        let normed = self.norm_all(x, &layer.ffn_norm);
        let mut probabilities = self.product(team, layer.router, &normed);
        probabilities.iter_mut().for_each(|row| softmax(row));
        let experts: Vec<Vec<u32>> = match chosen {
            Some(chosen) => chosen.chunks(n_used).map(<[u32]>::to_vec).collect(),
            None => probabilities
                .iter()
                .map(|row| most_probable(row, n_used))
                .collect(),
        };
        let mut sums = vec![vec![0.0; config.n_embd]; x.len()];
        for expert in 0..config.n_expert {
            let id = expert as u32;
            let tokens = (0..x.len()).filter(|&t| experts[t].contains(&id));
            let tokens: Vec<usize> = tokens.collect();
            let inputs: Rows = tokens.iter().map(|&t| normed[t].clone()).collect();
            let outputs = self.expert(team, layer, expert, &inputs);
            for (&t, out) in tokens.iter().zip(outputs) {
                let total: f64 = experts[t]
                    .iter()
                    .map(|&e| probabilities[t][e as usize])
                    .sum();
                let weight = probabilities[t][expert] / total;
                sums[t]
                    .iter_mut()
                    .zip(out)
                    .for_each(|(sum, out)| *sum += weight * out);
            }
        }
        add(x, &sums);
        (probabilities, experts)
    }

    fn expert(&self, team: &Team<'_>, layer: &LayerWeights<'_>, expert: usize, x: &Rows) -> Rows {
        if x.is_empty() {
            return Rows::new();
        }
        let mut gated = self.product(team, layer.gate_exps.of(expert), x);
        let up = self.product(team, layer.up_exps.of(expert), x);
        for (gate, up) in gated.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        self.product(team, layer.down_exps.of(expert), &gated)
    }

    /// `out[t] = w · x[t]`.
    fn product(&self, team: &Team<'_>, w: MatRef<'_>, x: &Rows) -> Rows {
        let form = match self.activations {
            ReferenceActivations::Exact => ActivationForm::Float,
            ReferenceActivations::Quantized => w.ty().activation_form(),
        };
        let x: Rows = x.iter().map(|row| round_activations(form, row)).collect();
        let mut by_row = vec![0.0; w.n_rows() * x.len()];
        team.for_each_chunk(&mut by_row, x.len(), |row, out| {
            let weights = row_of(w, row);
            for (out, x) in out.iter_mut().zip(&x) {
                *out = dot(&weights, x);
            }
        });
        (0..x.len())
            .map(|t| by_row.iter().skip(t).step_by(x.len()).copied().collect())
            .collect()
    }

    fn norm_all(&self, x: &Rows, weight: &[f32]) -> Rows {
        x.iter().map(|row| self.norm(row, weight)).collect()
    }

    fn norm(&self, x: &[f64], weight: &[f32]) -> Vec<f64> {
        let mean = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.model.config().rms_eps)).sqrt();
        x.iter()
            .zip(weight)
            .map(|(x, &w)| x * scale * f64::from(w))
            .collect()
    }

    fn rotate(&self, x: &[f64], position: usize) -> Vec<f64> {
        let (frequencies, magnitude) = self.model.config().rope.frequencies(x.len());
        let half = x.len() / 2;
        let mut out = vec![0.0; x.len()];
        for (i, frequency) in frequencies.into_iter().enumerate() {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            out[i] = magnitude * (x[i] * cos - x[i + half] * sin);
            out[i + half] = magnitude * (x[i + half] * cos + x[i] * sin);
        }
        out
    }
}

/// One query head at `position`, over all positions up to its own.
fn attend_one(query: &[f64], cache: &LayerCache, head_kv: usize, position: usize) -> Vec<f64> {
    let dim = query.len();
    let range = head_kv * dim..(head_kv + 1) * dim;
    let seen = &cache.keys[..=position];
    let scale = 1.0 / (dim as f64).sqrt();
    let mut weights: Vec<f64> = seen
        .iter()
        .map(|key| dot(query, &key[range.clone()]) * scale)
        .collect();
    softmax(&mut weights);
    let mut out = vec![0.0; dim];
    for (weight, value) in weights.iter().zip(&cache.values) {
        out.iter_mut()
            .zip(&value[range.clone()])
            .for_each(|(out, value)| *out += weight * value);
    }
    out
}

fn row_of(w: MatRef<'_>, row: usize) -> Vec<f64> {
    let mut values = vec![0.0; w.n_cols()];
    w.dequantize_row(row, &mut values);
    values.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut Rows, x: &Rows) {
    for (sum, x) in sum.iter_mut().flatten().zip(x.iter().flatten()) {
        *sum += x;
    }
}

fn softmax(x: &mut [f64]) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let total: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= total);
}

/// The `n` largest by descending value, equal ones by ascending index.
fn most_probable(probabilities: &[f64], n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).take(probabilities.len()).collect();
    let p = |expert: u32| probabilities[expert as usize];
    order.sort_by(|&a, &b| p(b).total_cmp(&p(a)).then(a.cmp(&b)));
    order.truncate(n);
    order
}

/// The index of the largest value, the lowest of equal ones.
fn argmax(x: &[f64]) -> u32 {
    (0..)
        .zip(x)
        .fold((0, f64::NEG_INFINITY), |best, (idx, &x)| {
            if x > best.1 { (idx, x) } else { best }
        })
        .0
}

/// What a product with weights of this form sees of an activation row.
fn round_activations(form: ActivationForm, row: &[f64]) -> Vec<f64> {
    let block_len = match form {
        ActivationForm::Float => return row.to_vec(),
        ActivationForm::Q8Small => 32,
        ActivationForm::Q8Super => 256,
    };
    row.chunks(block_len).flat_map(round_block).collect()
}

/// Steps of a 127th of the largest magnitude; blocks below 2⁻¹⁰⁰ are zero.
fn round_block(block: &[f64]) -> impl Iterator<Item = f64> {
    let largest = block
        .iter()
        .fold(0f32, |largest, &x| largest.max((x as f32).abs()));
    let tiny = f64::from(largest) < 2f64.powi(-100);
    let (step, inverse) = if tiny {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    };
    block
        .iter()
        .map(move |&x| f64::from(step) * f64::from((x as f32 * inverse).round_ties_even()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_chosen_by_probability_then_id() {
        assert_eq!(most_probable(&[0.1, 0.3, 0.3, 0.2], 3), [1, 2, 3]);
    }

    #[test]
    fn argmax_takes_the_lowest_of_equal_values() {
        assert_eq!(argmax(&[1.0, 5.0, 5.0, 2.0]), 1);
    }

    #[test]
    fn rounded_activations_are_within_half_a_step() {
        let row: Vec<f64> = (0..64).map(|i| f64::from(i * 37 % 101) - 50.0).collect();
        let rounded = round_activations(ActivationForm::Q8Small, &row);
        for (block, rounded) in row.chunks(32).zip(rounded.chunks(32)) {
            let largest = block.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (x, y) in block.iter().zip(rounded) {
                assert!((x - y).abs() <= largest / 127.0 * 0.5001);
            }
        }
        assert_eq!(round_activations(ActivationForm::Float, &row), row);
        assert_eq!(
            round_activations(ActivationForm::Q8Super, &[0.0; 256]),
            [0.0; 256]
        );
    }
}
