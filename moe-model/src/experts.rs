//! One layer's experts: norm, router, gate and up, down, sum.
//!
//! Every token goes to `U` of `X` experts. The tokens of a batch are sorted by expert, so an
//! expert's weights are read once for all of its tokens; each pair of token and expert has a
//! slot, a row in the expert buffers. One token is a batch of one: the same code.
//! The outputs of a token's experts are added up in the router's order, whatever the order
//! they were computed in.

use std::sync::atomic::{AtomicBool, Ordering};

use quant_kernels::{Forms, MatMut, Product, Team};

use crate::{
    Config,
    forward::norm_rows,
    router::{self, Route, all_finite},
    weights::LayerWeights,
    workspace::{Plan, Workspace, recycle},
};

/// Floats of the residual stream that are summed at a time.
const SUM_LEN: usize = 256;

/// Chooses the experts of every token. Returns false if a score is not finite.
pub(crate) fn route(
    team: &Team<'_>,
    config: &Config,
    layer: &LayerWeights<'_>,
    b: &mut Workspace,
) -> bool {
    norm_rows(
        team,
        &b.residual,
        &layer.ffn_norm,
        config.rms_eps,
        &mut b.normed,
    );
    let forms = [layer.router, layer.gate_exps, layer.up_exps]
        .iter()
        .fold(Forms::default(), |forms, w| {
            forms.with(w.ty().activation_form())
        });
    team.activate(&b.normed, config.n_embd, forms, &mut b.activations);
    let scores = Product {
        w: layer.router,
        up: None,
        x_rows: &b.rows[..b.batch.tokens.len()],
        out_row: 0,
        out_col: 0,
    };
    team.products(
        &[scores],
        &b.activations,
        MatMut::new(&mut b.scores, config.n_expert),
    );
    let finite = AtomicBool::new(true);
    team.for_each_chunk(&mut b.scores, config.n_expert, |_, scores| {
        if !router::probabilities(team.isa(), scores) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    let probabilities = &b.scores;
    team.for_each_chunk(&mut b.routes, config.n_expert_used, |token, chosen| {
        router::select(
            &probabilities[token * config.n_expert..][..config.n_expert],
            chosen,
        );
    });
    team.done("router");
    finite.into_inner()
}

/// Adds the output of the chosen experts to the residual stream; returns whether it is
/// finite. [`route`] has prepared the choice and the activations.
pub(crate) fn forward(
    team: &Team<'_>,
    config: &Config,
    layer: &LayerWeights<'_>,
    b: &mut Workspace,
) -> bool {
    let (n_embd, n_ff) = (config.n_embd, config.n_ff_exp);
    b.plan
        .arrange(&b.routes, config.n_expert_used, config.n_expert);
    let mut products = recycle(std::mem::take(&mut b.products));
    products.extend(b.plan.experts().map(|(expert, slots)| Product {
        w: layer.gate_exps.rows(expert * n_ff..(expert + 1) * n_ff),
        up: Some(layer.up_exps.rows(expert * n_ff..(expert + 1) * n_ff)),
        x_rows: &b.plan.tokens[slots.clone()],
        out_row: slots.start,
        out_col: 0,
    }));
    team.products(&products, &b.activations, MatMut::new(&mut b.gated, n_ff));
    team.done("gate+up");
    let forms = Forms::default().with(layer.down_exps.ty().activation_form());
    team.activate(&b.gated, n_ff, forms, &mut b.activations);
    products.clear();
    products.extend(b.plan.experts().map(|(expert, slots)| Product {
        w: layer.down_exps.rows(expert * n_embd..(expert + 1) * n_embd),
        up: None,
        x_rows: &b.rows[slots.clone()],
        out_row: slots.start,
        out_col: 0,
    }));
    team.products(
        &products,
        &b.activations,
        MatMut::new(&mut b.expert_out, n_embd),
    );
    b.products = recycle(products);
    team.done("down");
    let finite = add_outputs(team, config, b);
    team.done("sum");
    finite
}

/// `residual[t] += Σ_u weight[t, u] · out[slot(t, u)]`, the sum first, `u` ascending.
fn add_outputs(team: &Team<'_>, config: &Config, b: &mut Workspace) -> bool {
    let Workspace {
        residual,
        routes,
        plan,
        expert_out,
        ..
    } = b;
    let (n_embd, n_used, isa) = (config.n_embd, config.n_expert_used, team.isa());
    let finite = AtomicBool::new(true);
    team.for_each_chunk(residual, n_embd, |token, row| {
        let choice = token * n_used..(token + 1) * n_used;
        for (i, row) in row.chunks_mut(SUM_LEN).enumerate() {
            let mut sum = [0.0; SUM_LEN];
            let sum = &mut sum[..row.len()];
            for (route, slot) in routes[choice.clone()]
                .iter()
                .zip(&plan.slots[choice.clone()])
            {
                let out = &expert_out[slot * n_embd + i * SUM_LEN..][..row.len()];
                isa.add_scaled(sum, out, route.weight);
            }
            isa.add_scaled(row, sum, 1.0);
        }
        if !all_finite(row) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

impl Plan {
    /// Sorts the tokens by expert; within an expert they ascend.
    fn arrange(&mut self, routes: &[Route], n_used: usize, n_expert: usize) {
        self.starts.clear();
        self.starts.resize(n_expert + 1, 0);
        for route in routes {
            self.starts[route.expert as usize + 1] += 1;
        }
        for expert in 0..n_expert {
            self.starts[expert + 1] += self.starts[expert];
        }
        self.tokens.resize(routes.len(), 0);
        self.slots.resize(routes.len(), 0);
        let token_ids = (0..).flat_map(|token| std::iter::repeat_n(token, n_used));
        for ((route, slot), token) in routes.iter().zip(&mut self.slots).zip(token_ids) {
            let next = &mut self.starts[route.expert as usize];
            *slot = *next;
            self.tokens[*next] = token;
            *next += 1;
        }
        // Each start has moved to its expert's end, which is the next one's start.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }

    /// Iterates over the experts that have tokens, with their slots.
    fn experts(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let bounds = self.starts.windows(2).map(|bounds| bounds[0]..bounds[1]);
        bounds.enumerate().filter(|(_, slots)| !slots.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sorted_by_expert_and_found_again() {
        let experts = [3, 0, 0, 2, 3, 2];
        let routes = experts.map(|expert| Route {
            expert,
            weight: 0.5,
        });
        let mut plan = Plan::default();
        for _ in 0..2 {
            plan.arrange(&routes, 2, 5);
            let listed: Vec<_> = plan.experts().collect();
            assert_eq!(listed, [(0, 0..2), (2, 2..4), (3, 4..6)]);
            assert_eq!(plan.tokens, [0, 1, 1, 2, 0, 2]);
            assert_eq!(plan.slots, [4, 0, 1, 2, 5, 3]);
        }
    }
}
