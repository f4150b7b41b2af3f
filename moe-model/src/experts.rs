//! One layer's experts: norm, router, gate and up, down and sum.
//!
//! Every token goes to `U` of `X` experts. The tokens of a batch are sorted by expert, so an
//! expert's weights are read once for all of its tokens; each pair of token and expert has a
//! slot, a row in the expert buffers. One token is a batch of one: the same code.
//! The outputs of a token's experts are added up in the router's order, whatever the order
//! they were computed in.

use std::sync::atomic::{AtomicBool, Ordering};

use quant_kernels::{Forms, MatMut, Norm, Product, Team, Term};

use crate::{
    Config,
    router::{self, Route},
    weights::LayerWeights,
    workspace::{Plan, Workspace, recycle},
};

/// Tokens whose experts are chosen together; fewer are not worth a meeting of the threads.
const UNIT_TOKENS: usize = 8;

/// Chooses the experts of every token. Returns false if a score is not finite.
pub(crate) fn route(
    team: &Team<'_>,
    config: &Config,
    layer: &LayerWeights<'_>,
    b: &mut Workspace,
) -> bool {
    let tokens = &b.rows[..b.batch.tokens.len()];
    let norm = Norm {
        weight: &layer.ffn_norm,
        eps: config.rms_eps,
    };
    let types = [layer.router.ty(), layer.gate_exps.ty(), layer.up_exps.ty()];
    let forms = types.iter().fold(Forms::default(), |forms, ty| {
        forms.with(ty.activation_form())
    });
    team.activate_normed(&b.residual, tokens, norm, forms, &mut b.activations);
    let scores = Product {
        w: layer.router,
        up: None,
        x_rows: tokens,
        out_row: 0,
        out_col: 0,
    };
    team.products(
        &[scores],
        &b.activations,
        MatMut::new(&mut b.scores, config.n_expert),
    );
    let finite = AtomicBool::new(true);
    team.for_each_row(
        tokens.len(),
        UNIT_TOKENS,
        &mut b.scores,
        &mut b.routes,
        |_, scores, chosen| {
            if router::probabilities(team.isa(), scores) {
                router::select(scores, chosen);
            } else {
                finite.store(false, Ordering::Relaxed);
            }
        },
    );
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
        w: layer.gate_exps.of(expert),
        up: Some(layer.up_exps.of(expert)),
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
        w: layer.down_exps.of(expert),
        up: None,
        x_rows: &b.rows[slots.clone()],
        out_row: slots.start,
        out_col: 0,
    }));
    let residual = MatMut::new(&mut b.residual, n_embd);
    let finite = team.add_weighted(&products, &b.activations, &b.plan.terms, residual);
    b.products = recycle(products);
    team.done("down");
    finite
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
        self.terms.resize(routes.len(), Term::default());
        let token_ids = (0..).flat_map(|token| std::iter::repeat_n(token, n_used));
        for ((route, term), token) in routes.iter().zip(&mut self.terms).zip(token_ids) {
            let next = &mut self.starts[route.expert as usize];
            *term = Term {
                row: *next as u32,
                weight: route.weight,
            };
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
            let slots: Vec<_> = plan.terms.iter().map(|term| term.row).collect();
            assert_eq!(slots, [4, 0, 1, 2, 5, 3]);
            assert!(plan.terms.iter().all(|term| term.weight == 0.5));
        }
    }
}
