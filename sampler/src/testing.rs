//! Inputs that the unit tests of several files share.

use std::ops::Range;

use proptest::prelude::*;

use crate::candidates::Candidates;
use crate::stages::top_k;

/// Logits with ties, masked tokens and a wide range; at least one is not masked.
pub(crate) fn logits(len: Range<usize>) -> impl Strategy<Value = Vec<f32>> {
    let one = prop_oneof![
        6 => -12.0f32..12.0,
        3 => (-4i8..4).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
        1 => -1e30f32..1e30,
    ];
    (
        prop::collection::vec(one, len),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut xs, keep)| {
            let keep = keep.index(xs.len());
            if xs[keep] == f32::NEG_INFINITY {
                xs[keep] = 0.5;
            }
            xs
        })
}

/// All tokens that are not masked, as the truncating stages receive them.
pub(crate) fn candidates(logits: &[f32]) -> Candidates {
    let mut keys = Vec::new();
    top_k::select(logits, top_k::ALL, f64::NEG_INFINITY, &mut keys).unwrap();
    let mut candidates = Candidates::default();
    candidates.fill(&keys, logits);
    candidates
}

/// Ids of the candidates in their order.
pub(crate) fn ids(candidates: &Candidates) -> Vec<u32> {
    candidates.as_slice().iter().map(|c| c.id).collect()
}

/// Probabilities of the candidates in their order, by definition.
pub(crate) fn probabilities(candidates: &Candidates) -> Vec<f64> {
    let list = candidates.as_slice();
    let max = list.iter().fold(f64::MIN, |m, c| m.max(c.logit));
    let total: f64 = list.iter().map(|c| (c.logit - max).exp()).sum();
    list.iter().map(|c| (c.logit - max).exp() / total).collect()
}
