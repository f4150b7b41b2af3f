//! How far the fast pass is from a reference that rounds its activations to the same steps.
//!
//! Rounding to `i8` hides errors of the kernels: it moves the logits by a percent or two.
//! Rounded alike, both passes agree to the precision of `f32`, and an error of a tenth of a
//! percent in any product shows.
//!
//! Save for one thing: a value on the border of two steps may fall to either side, and from
//! there on the token, and all that see it, differ like any other rounding. So the tokens are
//! taken in pairs, each a sequence of its own, and of the second tokens, which see another,
//! half have to agree. An error in a kernel leaves none: each token passes all of them,
//! and that all batches give the same bits is checked besides.

use std::num::NonZeroUsize;

use moe_model::{
    Model, Outputs, Reference, ReferenceActivations, State, StateOptions, forward_observed,
};
use quant_kernels::{Cpu, Isa, KvType};

use super::{Finding, distance::relative};
use crate::error::TaskError;

/// Tokens of a sequence.
const PAIR: usize = 2;

/// Runs both passes over each pair of the tokens.
pub(super) fn measure(
    model: &Model<'_>,
    tokens: &[u32],
    n_threads: NonZeroUsize,
) -> Result<Finding, TaskError> {
    let cpu = Cpu::new(Isa::detect(), n_threads)?;
    let mut distances = Vec::new();
    for pair in tokens.chunks(PAIR) {
        distances.push(distance(&cpu, model, pair)?);
    }
    let bound = Reference::new(model, ReferenceActivations::Quantized).float_bound();
    Ok(judge(distances, bound))
}

/// The distance of the last token's logits.
fn distance(cpu: &Cpu, model: &Model<'_>, tokens: &[u32]) -> Result<f64, TaskError> {
    let mut options = StateOptions::new(tokens.len());
    (options.keys, options.values) = (KvType::F32, KvType::F32);
    let mut state = State::new(model, options)?;
    let mut experts = vec![Vec::new(); model.config().n_layer];
    let fast = forward_observed(cpu, model, &mut state, tokens, Outputs::Last, &mut |view| {
        experts[view.layer].extend(view.routes.iter().map(|route| route.expert));
    })?;
    let mut reference = Reference::new(model, ReferenceActivations::Quantized);
    let pass = reference.forward_along(cpu, tokens, &experts)?;
    Ok(pass
        .logits
        .last()
        .map_or(f64::NAN, |exact| relative(fast, exact)))
}

fn judge(mut distances: Vec<f64>, bound: f64) -> Finding {
    distances.sort_by(f64::total_cmp);
    let n = distances.len();
    let n_near = distances.iter().filter(|&&d| d <= bound).count();
    let nearest = distances.first().copied().unwrap_or(f64::NAN);
    Finding {
        good: n_near > 0 && n_near >= n.div_ceil(2),
        text: format!(
            "rounded alike: {n_near} of {n} tokens within {bound:.1e} of f64, the nearest at \
             {nearest:.1e}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tokens_have_to_agree() {
        let good = |distances: [f64; 5]| judge(distances.to_vec(), 1e-5).good;
        assert!(good([1e-2, 1e-7, 1e-7, 1e-6, f64::NAN]));
        assert!(!good([1e-2, 1e-7, 1e-7, 1e-2, 1e-2]));
        assert!(!good([1e-3; 5]));
        assert!(!judge(Vec::new(), 1e-5).good);
    }
}
