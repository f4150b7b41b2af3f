//! How likely texts are after other texts, which is what benchmarks ask.
//!
//! A question and its possible answers are one context with several continuations. The
//! context is computed once, and continuations that differ in their last token alone share
//! all of their passes. A text that has no context is cut into windows, as
//! lm-evaluation-harness cuts it for its rolling likelihoods, so that the figures are its own.

use std::ops::Range;

use sampler::LogSoftmax;

use crate::{CancelFlag, GenerateError, Prefill, Sequence, perplexity::logprob};

/// How likely a continuation is after its context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The sum of the natural logarithms of its tokens' probabilities.
    pub logprob: f64,
    /// Whether no other token would have been likelier at any place.
    pub is_greedy: bool,
    /// Its tokens.
    pub n_tokens: usize,
}

/// What several continuations of a context have come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// In the order of the continuations.
    pub likelihoods: Vec<Likelihood>,
    /// Tokens that went through the model, and those that were found in the cache.
    pub work: Prefill,
}

/// A part of a text that is computed with an empty cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollingWindow {
    /// Tokens that are only context.
    pub context: Range<usize>,
    /// Tokens that are scored; they follow the context.
    pub scored: Range<usize>,
}

/// Cuts a text of `n_tokens` into windows such that each token but the first is scored once,
/// and no more than `n_ctx` tokens go into a window.
///
/// The context of a window is one token, and more for the last window if there is room: it
/// ends with the text and has `n_ctx` tokens all the same.
pub fn rolling_windows(n_tokens: usize, n_ctx: usize) -> impl Iterator<Item = RollingWindow> {
    let step = n_ctx.max(1);
    (1..n_tokens).step_by(step).map(move |first| {
        let end = (first + step).min(n_tokens);
        // The last token that is scored does not go in.
        let begin = match first {
            1 => 0,
            _ => end - 1 - step,
        };
        RollingWindow {
            context: begin..first,
            scored: first..end,
        }
    })
}

impl Likelihood {
    /// The likelihood of no tokens.
    const EMPTY: Self = Self {
        logprob: 0.0,
        is_greedy: true,
        n_tokens: 0,
    };

    /// Adds the token that follows, before which the model said `logits` `[V]`.
    fn push(&mut self, token: u32, logits: &[f32]) -> Result<(), GenerateError> {
        let table = LogSoftmax::new(logits)?;
        self.logprob += logprob(&table, token, logits.len())?;
        let best = sampler::argmax(logits)?;
        self.is_greedy &= logits[token as usize] >= logits[best as usize];
        self.n_tokens += 1;
        Ok(())
    }
}

impl Sequence<'_> {
    /// Returns how likely each of `continuations` is after `context`.
    ///
    /// The last token of a continuation does not go through the model, since nothing is asked
    /// about what follows it.
    ///
    /// # Errors
    /// The context is empty; context and continuation are longer than the sequence's context;
    /// an id is unknown; the work was cancelled; or a value in the pass is not finite.
    pub fn likelihoods(
        &mut self,
        context: &[u32],
        continuations: &[&[u32]],
        cancel: &CancelFlag,
    ) -> Result<Scores, GenerateError> {
        let Some(last) = context.len().checked_sub(1) else {
            return Err(GenerateError::EmptyPrompt);
        };
        let mut scores = Scores {
            likelihoods: vec![Likelihood::EMPTY; continuations.len()],
            work: Prefill {
                n_cached: 0,
                n_computed: 0,
            },
        };
        let mut is_done = vec![false; continuations.len()];
        for idx in 0..continuations.len() {
            let Some((_, inputs)) = continuations[idx].split_last() else {
                continue;
            };
            if is_done[idx] {
                continue;
            }
            let same: Vec<usize> = (idx..continuations.len())
                .filter(|&other| is_same_but_last(continuations[idx], continuations[other]))
                .collect();
            let tokens = [context, inputs].concat();
            let wanted = last..tokens.len();
            let work = self.visit_logits(&tokens, &wanted, cancel, |at, logits| {
                same.iter().try_for_each(|&idx| {
                    let token = continuations[idx][at - last];
                    scores.likelihoods[idx].push(token, logits)
                })
            })?;
            scores.work.n_cached += work.n_cached;
            scores.work.n_computed += work.n_computed;
            same.iter().for_each(|&idx| is_done[idx] = true);
        }
        Ok(scores)
    }
}

/// Whether two continuations differ in their last token at most.
fn is_same_but_last(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && a.split_last().map(|(_, a)| a) == b.split_last().map(|(_, b)| b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts as the harness does, in its own words: `get_rolling_token_windows` with one token
    /// of context and `make_disjoint_window`, over a prefix and `n` tokens.
    fn harness(n: usize, max_seq_len: usize) -> Vec<RollingWindow> {
        let mut windows = Vec::new();
        let first_len = max_seq_len.min(n);
        if n > 0 {
            windows.push((0..first_len, 1..1 + first_len));
        }
        let mut predicted = first_len;
        while predicted < n {
            let pred_len = (n - predicted).min(max_seq_len);
            let end = predicted + pred_len;
            windows.push((end - max_seq_len..end, end - pred_len + 1..end + 1));
            predicted += pred_len;
        }
        let disjoint = windows.into_iter().map(|(input, scored)| RollingWindow {
            context: input.start..input.end - (scored.len() - 1),
            scored,
        });
        disjoint.collect()
    }

    #[test]
    fn a_text_is_cut_as_the_harness_cuts_it() {
        for n in 0..40 {
            for n_ctx in 1..12 {
                let ours: Vec<_> = rolling_windows(n + 1, n_ctx).collect();
                assert_eq!(ours, harness(n, n_ctx), "{n} tokens in windows of {n_ctx}");
                for RollingWindow { context, scored } in ours {
                    assert_eq!(context.end, scored.start);
                    assert!(context.len() + scored.len() - 1 <= n_ctx);
                }
            }
        }
        assert_eq!(rolling_windows(0, 8).count(), 0);
    }

    #[test]
    fn a_tie_is_as_greedy_as_the_first_of_its_tokens() {
        let mut likelihood = Likelihood::EMPTY;
        likelihood.push(1, &[1.0, 1.0, 0.0]).unwrap();
        assert!(likelihood.is_greedy);
        likelihood.push(2, &[1.0, 1.0, 0.0]).unwrap();
        assert!(!likelihood.is_greedy);
        assert_eq!(likelihood.n_tokens, 2);
        let error = likelihood.push(3, &[0.0; 3]).unwrap_err();
        assert!(error.to_string().starts_with("token 3"), "{error}");
    }
}
