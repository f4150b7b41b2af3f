//! The steps of the reference, one by one, each from inputs that the caller gives.
//!
//! [`Reference`](super::Reference) puts them together. Whoever looks for a mistake in the fast
//! path gives each step what the fast path gave it, so that no error is carried from one to
//! the next.

use quant_kernels::{ActivationForm, MatRef, Team};

use super::{
    Departure, ReferenceActivations, ReferenceRows,
    arithmetic::{dot, round_activations, row_of, softmax},
};
use crate::{Model, weights::LayerWeights};

/// The steps of a model's forward pass.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSteps<'m, 'a> {
    model: &'m Model<'a>,
    activations: ReferenceActivations,
    departure: Option<Departure>,
}

/// Keys and values of all positions in one layer `[P, K·D]`.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerCache {
    pub(super) keys: ReferenceRows,
    values: ReferenceRows,
}

/// What attention gives, before its output product.
#[derive(Clone, Debug)]
pub struct ReferenceAttention {
    /// A row for each token `[T][H·D]`.
    pub rows: ReferenceRows,
    /// The largest magnitude of a score that went into a softmax.
    pub largest_score: f64,
    /// The largest L2 norm of a position's values, as often as heads share them.
    pub largest_value: f64,
}

impl<'m, 'a> ReferenceSteps<'m, 'a> {
    /// Takes the steps of a model, with a mistake if one is asked for.
    #[must_use]
    pub const fn new(
        model: &'m Model<'a>,
        activations: ReferenceActivations,
        departure: Option<Departure>,
    ) -> Self {
        Self {
            model,
            activations,
            departure,
        }
    }

    /// Returns the model.
    #[must_use]
    pub const fn model(&self) -> &'m Model<'a> {
        self.model
    }

    /// Returns the rows of the embedding `[T][E]`.
    ///
    /// # Panics
    /// If a token is not in the vocabulary.
    #[must_use]
    pub fn embedding(&self, tokens: &[u32]) -> ReferenceRows {
        let embedding = self.model.weights().token_embd;
        let row = |&id: &u32| row_of(embedding, id as usize);
        tokens.iter().map(row).collect()
    }

    /// Returns each row divided by its root mean square, times `weight`.
    #[must_use]
    pub fn norm(&self, x: &ReferenceRows, weight: &[f32]) -> ReferenceRows {
        x.iter().map(|row| self.norm_row(row, weight)).collect()
    }

    /// Returns attention over a sequence whose normed rows are `normed` `[T][E]`.
    #[must_use]
    pub fn attention(
        &self,
        team: &Team<'_>,
        layer: usize,
        normed: &ReferenceRows,
    ) -> ReferenceAttention {
        self.attention_after(team, layer, normed, &mut LayerCache::default())
    }

    /// Returns what attention adds to the residual stream `[T][E]`.
    #[must_use]
    pub fn attention_output(
        &self,
        team: &Team<'_>,
        layer: usize,
        attended: &ReferenceRows,
    ) -> ReferenceRows {
        self.product(team, self.layer(layer).attn_output, attended)
    }

    /// Returns the router's scores `[T][X]`, before their softmax.
    #[must_use]
    pub fn scores(&self, team: &Team<'_>, layer: usize, normed: &ReferenceRows) -> ReferenceRows {
        self.product(team, self.layer(layer).router, normed)
    }

    /// Returns the softmax of a row of scores.
    #[must_use]
    pub fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        let mut probabilities = scores.to_vec();
        softmax(&mut probabilities);
        probabilities
    }

    /// Returns the shares of a token's chosen experts, in their order.
    ///
    /// # Panics
    /// If an expert is not there.
    #[must_use]
    pub fn shares(&self, probabilities: &[f64], experts: &[u32]) -> Vec<f64> {
        let chosen = experts.iter().map(|&id| probabilities[id as usize]);
        let total: f64 = match self.departure {
            Some(Departure::NotRenormalised) => 1.0,
            _ => chosen.clone().sum(),
        };
        chosen.map(|p| p / total).collect()
    }

    /// Returns the inner activations of an expert `[_][F]` for some rows `[_][E]`.
    ///
    /// # Panics
    /// If there is no such expert.
    #[must_use]
    pub fn gated(
        &self,
        team: &Team<'_>,
        layer: usize,
        expert: usize,
        x: &ReferenceRows,
    ) -> ReferenceRows {
        let layer = self.layer(layer);
        let (mut gate, mut up) = (layer.gate_exps.of(expert), layer.up_exps.of(expert));
        if self.departure == Some(Departure::GateAndUpSwapped) {
            (gate, up) = (up, gate);
        }
        let mut gated = self.product(team, gate, x);
        let up = self.product(team, up, x);
        for (gate, up) in gated.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        gated
    }

    /// Returns the output of an expert `[_][E]` for inner activations `[_][F]`.
    ///
    /// # Panics
    /// If there is no such expert.
    #[must_use]
    pub fn expert_output(
        &self,
        team: &Team<'_>,
        layer: usize,
        expert: usize,
        gated: &ReferenceRows,
    ) -> ReferenceRows {
        self.product(team, self.layer(layer).down_exps.of(expert), gated)
    }

    /// Returns the logits `[T][V]` of rows that have been normed.
    #[must_use]
    pub fn logits(&self, team: &Team<'_>, normed: &ReferenceRows) -> ReferenceRows {
        self.product(team, self.model.weights().output, normed)
    }

    /// Continues a sequence by rows that have been normed.
    pub(super) fn attention_after(
        &self,
        team: &Team<'_>,
        layer: usize,
        normed: &ReferenceRows,
        cache: &mut LayerCache,
    ) -> ReferenceAttention {
        let (config, weights) = (self.model.config(), self.layer(layer));
        let (dim, group) = (config.head_dim, config.n_head / config.n_head_kv);
        let mut queries = self.product(team, weights.attn_q, normed);
        let mut keys = self.product(team, weights.attn_k, normed);
        let first = cache.keys.len();
        let query_shift = usize::from(self.departure == Some(Departure::QueriesOneLater));
        for (t, (q, k)) in queries.iter_mut().zip(&mut keys).enumerate() {
            let position = first + t;
            self.turn(q, self.query_norm(weights), position + query_shift);
            self.turn(k, self.key_norm(weights), position);
        }
        cache.keys.extend(keys);
        cache
            .values
            .extend(self.product(team, weights.attn_v, normed));
        let mut largest_score = 0.0;
        let rows = queries.iter().enumerate().map(|(t, q)| {
            let heads = q.chunks(dim).enumerate();
            let of_head = |(h, q): (usize, &[f64])| {
                let head_kv = match self.departure {
                    Some(Departure::InterleavedHeads) => h % config.n_head_kv,
                    _ => h / group,
                };
                self.attend_one(q, cache, head_kv, first + t, &mut largest_score)
            };
            heads.flat_map(of_head).collect()
        });
        let rows = rows.collect();
        let value_norms = cache.values.iter().map(|row| dot(row, row));
        ReferenceAttention {
            rows,
            largest_score,
            largest_value: (value_norms.fold(0.0, f64::max) * group as f64).sqrt(),
        }
    }

    fn layer(&self, layer: usize) -> &'m LayerWeights<'a> {
        &self.model.weights().layers[layer]
    }

    fn query_norm<'w>(&self, weights: &'w LayerWeights<'_>) -> Option<&'w [f32]> {
        let is_left_out = matches!(
            self.departure,
            Some(Departure::NoQueryNorm | Departure::NoHeadNorms)
        );
        (!is_left_out).then_some(&weights.attn_q_norm)
    }

    fn key_norm<'w>(&self, weights: &'w LayerWeights<'_>) -> Option<&'w [f32]> {
        let is_left_out = matches!(
            self.departure,
            Some(Departure::NoKeyNorm | Departure::NoHeadNorms)
        );
        (!is_left_out).then_some(&weights.attn_k_norm)
    }

    /// Norms and rotates the heads of a row.
    fn turn(&self, row: &mut [f64], norm: Option<&[f32]>, position: usize) {
        for head in row.chunks_mut(self.model.config().head_dim) {
            if let Some(weight) = norm {
                let normed = self.norm_row(head, weight);
                head.copy_from_slice(&normed);
            }
            if self.departure != Some(Departure::NoRotation) {
                let rotated = self.rotate(head, position);
                head.copy_from_slice(&rotated);
            }
        }
    }

    /// `out[t] = w · x[t]`.
    fn product(&self, team: &Team<'_>, w: MatRef<'_>, x: &ReferenceRows) -> ReferenceRows {
        if x.is_empty() {
            return ReferenceRows::new();
        }
        let form = match self.activations {
            ReferenceActivations::Exact => ActivationForm::Float,
            ReferenceActivations::Quantized => w.ty().activation_form(),
        };
        let x: ReferenceRows = x.iter().map(|row| round_activations(form, row)).collect();
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

    fn norm_row(&self, x: &[f64], weight: &[f32]) -> Vec<f64> {
        let mean = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.model.config().rms_eps)).sqrt();
        x.iter()
            .zip(weight)
            .map(|(x, &w)| x * scale * f64::from(w))
            .collect()
    }

    fn rotate(&self, x: &[f64], position: usize) -> Vec<f64> {
        let mut rope = self.model.config().rope;
        if let Some(Departure::FreqBase(base)) = self.departure {
            rope.freq_base = base;
        }
        let (frequencies, magnitude) = rope.frequencies(x.len());
        let half = x.len() / 2;
        let mut out = vec![0.0; x.len()];
        for (i, frequency) in frequencies.into_iter().enumerate() {
            let (a, b) = match self.departure {
                Some(Departure::NeighbourPairs) => (2 * i, 2 * i + 1),
                _ => (i, i + half),
            };
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            out[a] = magnitude * (x[a] * cos - x[b] * sin);
            out[b] = magnitude * (x[b] * cos + x[a] * sin);
        }
        out
    }

    /// One query head at `position`, over all positions up to its own.
    fn attend_one(
        &self,
        query: &[f64],
        cache: &LayerCache,
        head_kv: usize,
        position: usize,
        largest_score: &mut f64,
    ) -> Vec<f64> {
        let dim = query.len();
        let range = head_kv * dim..(head_kv + 1) * dim;
        let seen = match self.departure {
            Some(Departure::NotCausal) => &cache.keys[..],
            _ => &cache.keys[..=position],
        };
        let scale = match self.departure {
            Some(Departure::UnscaledScores) => 1.0,
            _ => 1.0 / (dim as f64).sqrt(),
        };
        let mut weights: Vec<f64> = seen
            .iter()
            .map(|key| dot(query, &key[range.clone()]) * scale)
            .collect();
        *largest_score = weights.iter().fold(*largest_score, |m, s| m.max(s.abs()));
        softmax(&mut weights);
        let mut out = vec![0.0; dim];
        for (weight, value) in weights.iter().zip(&cache.values) {
            out.iter_mut()
                .zip(&value[range.clone()])
                .for_each(|(out, value)| *out += weight * value);
        }
        out
    }
}
