//! The same bits from every instruction set, thread count and cut of the sequence.

use std::num::NonZeroUsize;

use moe_model::{Model, Outputs, State, StateOptions, forward_with};
use quant_kernels::{Cpu, Isa};

use super::Finding;
use crate::error::TaskError;

/// Tokens per call in the second run of an instruction set: the first call is a short batch,
/// as is every other, and between them a single token takes the path of decoding.
const CUTS: [usize; 2] = [5, 1];

/// Runs the sequence at once on one thread, and cut on `n_threads`, with each instruction set
/// that there is.
pub(super) fn compare(
    model: &Model<'_>,
    tokens: &[u32],
    n_threads: NonZeroUsize,
) -> Result<Finding, TaskError> {
    let scalar = logits(model, tokens, Isa::SCALAR, NonZeroUsize::MIN, false)?;
    let mut names = Vec::new();
    for isa in Isa::available() {
        names.push(isa.name());
        for (n_threads, is_cut) in [(NonZeroUsize::MIN, false), (n_threads, true)] {
            let found = logits(model, tokens, isa, n_threads, is_cut)?;
            if let Some(difference) = first_difference(&scalar, &found, model.config().n_vocab) {
                let how = if is_cut { "cut" } else { "at once" };
                let text = format!("bits: {isa}, {n_threads} threads, {how}: {difference}");
                return Ok(Finding { good: false, text });
            }
        }
    }
    let names = names.join(", ");
    Ok(Finding {
        good: true,
        text: format!("bits: the same from {names}, 1 and {n_threads} threads, at once and cut"),
    })
}

fn logits(
    model: &Model<'_>,
    tokens: &[u32],
    isa: Isa,
    n_threads: NonZeroUsize,
    is_cut: bool,
) -> Result<Vec<f32>, TaskError> {
    let cpu = Cpu::new(isa, n_threads)?;
    let mut state = State::new(model, StateOptions::new(tokens.len()))?;
    let mut all = Vec::new();
    let mut rest = tokens;
    let mut cuts = CUTS.iter().cycle();
    while !rest.is_empty() {
        let n = cuts
            .next()
            .filter(|_| is_cut)
            .map_or(rest.len(), |&n| n.min(rest.len()));
        let (call, after) = rest.split_at(n);
        all.extend_from_slice(forward_with(&cpu, model, &mut state, call, Outputs::All)?);
        rest = after;
    }
    Ok(all)
}

/// Says where two lists of logits first differ in a bit.
fn first_difference(expected: &[f32], found: &[f32], n_vocab: usize) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!(
            "{} logits, expected {}",
            found.len(),
            expected.len()
        ));
    }
    let mut pairs = expected.iter().zip(found).enumerate();
    let (idx, (expected, found)) = pairs.find(|(_, (a, b))| a.to_bits() != b.to_bits())?;
    let (token, id) = (idx / n_vocab, idx % n_vocab);
    Some(format!(
        "logit {id} of token {token} is {found:e}, scalar gives {expected:e}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(first_difference(&[1.0, 2.0], &[1.0, 2.0], 2), None);
        assert_eq!(
            first_difference(&[1.0, 2.0, 0.0, 3.0], &[1.0, 2.0, -0.0, 4.0], 2).unwrap(),
            "logit 0 of token 1 is -0e0, scalar gives 0e0"
        );
        assert_eq!(
            first_difference(&[1.0], &[], 2).unwrap(),
            "0 logits, expected 1"
        );
    }
}
