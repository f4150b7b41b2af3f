//! How far the fast pass is from the reference in `f64`, and whether that is far.
//!
//! The reference follows the experts that the fast pass chose, so that a near-tie in a router
//! does not decide about the logits. The choices are judged by themselves: where the fast
//! pass took an expert that the reference finds less probable than one left out, the two must
//! be nearly equal. With scores of deviation `σ` and a relative error `ε` of what goes into
//! the router, the difference of two scores is off by about `√2·ε·σ`; `ε` is the bound on the
//! logits, which has room for the tails.

use std::num::NonZeroUsize;

use moe_model::{
    Model, Outputs, Reference, ReferenceActivations, ReferenceLayer, State, StateOptions,
    forward_observed,
};
use quant_kernels::{Cpu, Isa, KvType};

use super::Finding;
use crate::error::TaskError;

/// Runs both passes over the sequence.
pub(super) fn measure(
    model: &Model<'_>,
    tokens: &[u32],
    n_threads: NonZeroUsize,
    is_float: bool,
) -> Result<[Finding; 2], TaskError> {
    let cpu = Cpu::new(Isa::detect(), n_threads)?;
    let config = model.config();
    let mut options = StateOptions::new(tokens.len());
    // The bounds are derived for a cache that rounds nothing.
    (options.keys, options.values) = (KvType::F32, KvType::F32);
    let mut state = State::new(model, options)?;
    let mut experts = vec![Vec::new(); config.n_layer];
    let fast = forward_observed(&cpu, model, &mut state, tokens, Outputs::All, &mut |view| {
        experts[view.layer].extend(view.routes.iter().map(|route| route.expert));
    })?;

    let mut reference = Reference::new(model, ReferenceActivations::Exact);
    let exact = reference.forward_along(&cpu, tokens, &experts)?;
    let quantized = if is_float {
        0.0
    } else {
        reference.quantized_bound()
    };
    let bound = reference.float_bound() + quantized;

    let rows = fast.chunks_exact(config.n_vocab).zip(&exact.logits);
    let distance = rows
        .map(|(fast, exact)| relative(fast, exact))
        .fold(0.0, larger);
    let logits = Finding {
        good: distance <= bound,
        text: format!("distance to f64: {distance:.2e}, at most {bound:.2e} expected"),
    };
    Ok([
        logits,
        judge_experts(&exact.layers, &experts, config.n_expert_used, bound),
    ])
}

/// `|fast - exact| / |exact|`.
pub(super) fn relative(fast: &[f32], exact: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let errors: f64 = fast
        .iter()
        .zip(exact)
        .map(|(fast, exact)| square(f64::from(*fast) - exact))
        .sum();
    (errors / exact.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// The larger of two, where NaN is larger than anything.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn judge_experts(
    layers: &[ReferenceLayer],
    chosen: &[Vec<u32>],
    n_used: usize,
    bound: f64,
) -> Finding {
    let (mut n, mut n_other, mut good) = (0, 0, true);
    for (layer, chosen) in layers.iter().zip(chosen) {
        for (probabilities, chosen) in layer.probabilities.iter().zip(chosen.chunks_exact(n_used)) {
            let scores: Vec<f64> = probabilities.iter().map(|p| p.ln()).collect();
            let regret = regret(&scores, chosen);
            n += 1;
            n_other += usize::from(regret > 0.0);
            good &= regret <= 2f64.sqrt() * bound * deviation(&scores);
        }
    }
    let same = n - n_other;
    let verdict = if good {
        "the rest near-ties"
    } else {
        "others are clearly wrong"
    };
    Finding {
        good,
        text: format!("experts: {same} of {n} choices as in f64, {verdict}"),
    }
}

/// How much better the best expert left out is than the worst one chosen.
fn regret(scores: &[f64], chosen: &[u32]) -> f64 {
    let is_chosen = |idx: usize| chosen.contains(&(idx as u32));
    let (mut worst_in, mut best_out) = (f64::INFINITY, f64::NEG_INFINITY);
    for (idx, &score) in scores.iter().enumerate() {
        if is_chosen(idx) {
            worst_in = worst_in.min(score);
        } else {
            best_out = best_out.max(score);
        }
    }
    (best_out - worst_in).max(0.0)
}

fn deviation(scores: &[f64]) -> f64 {
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    (scores
        .iter()
        .map(|score| (score - mean) * (score - mean))
        .sum::<f64>()
        / n)
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_nan_is_the_largest() {
        assert!((relative(&[1.0, 2.2], &[1.0, 2.0]) - 0.2 / 5f64.sqrt()).abs() < 1e-7);
        assert!([1.0, f64::NAN, 2.0].into_iter().fold(0.0, larger).is_nan());
        assert_eq!([1.0, 3.0, 2.0].into_iter().fold(0.0, larger), 3.0);
    }

    #[test]
    fn clearly_wrong_experts_are_found_and_near_ties_are_not() {
        let probabilities = vec![vec![0.4, 0.3, 0.2999, 0.0001]];
        let layers = [ReferenceLayer {
            hidden: Vec::new(),
            probabilities,
            experts: Vec::new(),
        }];
        let judge = |chosen: [u32; 2]| judge_experts(&layers, &[chosen.to_vec()], 2, 0.01);
        assert_eq!(
            judge([0, 1]).text,
            "experts: 1 of 1 choices as in f64, the rest near-ties"
        );
        let tie = judge([0, 2]);
        assert!(
            tie.good && tie.text.starts_with("experts: 0 of 1"),
            "{}",
            tie.text
        );
        assert!(!judge([0, 3]).good);
    }
}
