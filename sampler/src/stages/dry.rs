//! DRY ("don't repeat yourself"): a penalty on the token that would lengthen a repetition.
//!
//! For each earlier place in the window, count how many tokens before it equal the last
//! tokens of the window. The token found at that place would make the repetition one
//! longer; with the largest count `n` among its places, it loses
//! `multiplier · base^(n − allowed_length)` once `n` reaches the allowed length. A sequence
//! breaker ends what can be repeated: counts stop at the last complete breaker, and a
//! breaker of one token is never penalised.
//!
//! The counts are the Z-array of the reversed window, linear in its length. Method by
//! p-e-w (oobabooga/text-generation-webui, 2024), behaviour as in llama.cpp's `dry`; where
//! one breaker contains another, llama.cpp may overlook the one that ends later.

use crate::config::SamplerConfig;
use crate::stages::edit;

#[derive(Debug, Clone)]
pub(crate) struct Dry {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    breakers: Breakers,
    /// Z-array: `z[k]` tokens before the last `k` equal the last `z[k]` tokens.
    z: Vec<usize>,
    /// Per place that continues a repetition: the token and the length so far.
    repeats: Vec<(u32, usize)>,
}

impl Dry {
    pub(crate) fn new(config: &SamplerConfig) -> Self {
        Self {
            multiplier: f64::from(config.dry_multiplier),
            base: f64::from(config.dry_base),
            allowed_length: config.dry_allowed_length,
            breakers: Breakers::new(&config.dry_sequence_breakers),
            z: Vec::new(),
            repeats: Vec::new(),
        }
    }

    pub(crate) fn is_neutral(&self) -> bool {
        self.multiplier == 0.0
    }

    /// Lowers the logits of tokens that would lengthen a repetition at the end of `window`.
    pub(crate) fn apply(&mut self, logits: &mut [f32], window: &[u32]) {
        let longest = self.breakers.tokens_since_last(window);
        if longest < self.allowed_length {
            return;
        }
        self.find_repeats(window, longest);
        self.repeats.sort_unstable();
        for run in self.repeats.chunk_by(|a, b| a.0 == b.0) {
            let (token, length) = run[run.len() - 1];
            if self.breakers.has_single(token) {
                continue;
            }
            if let Some(logit) = logits.get_mut(token as usize) {
                let exponent = (length - self.allowed_length) as f64;
                let penalty = self.multiplier * libm::pow(self.base, exponent);
                edit(logit, |x| x - penalty);
            }
        }
    }

    fn find_repeats(&mut self, window: &[u32], longest: usize) {
        z_array_reversed(window, &mut self.z);
        self.repeats.clear();
        for (k, &length) in self.z.iter().enumerate().skip(1) {
            let length = length.min(longest);
            if length >= self.allowed_length {
                self.repeats.push((window[window.len() - k], length));
            }
        }
    }
}

/// Fills `z[k]` with the length of the longest common suffix of `tokens` and `tokens`
/// without its last `k`; `z[0]` is 0.
///
/// The interval `[left, right)` of the reversed tokens is the one known match with its
/// prefix that reaches furthest; inside it an earlier answer is a first guess.
fn z_array_reversed(tokens: &[u32], z: &mut Vec<usize>) {
    let n = tokens.len();
    let at = |i: usize| tokens[n - 1 - i];
    z.clear();
    z.resize(n, 0);
    let (mut left, mut right) = (0, 0);
    for k in 1..n {
        let mut length = if k < right {
            z[k - left].min(right - k)
        } else {
            0
        };
        while k + length < n && at(length) == at(k + length) {
            length += 1;
        }
        z[k] = length;
        if k + length > right {
            (left, right) = (k, k + length);
        }
    }
}

/// The breakers, each reversed, sorted: those that end with a given token are neighbours.
#[derive(Debug, Clone)]
struct Breakers(Vec<Vec<u32>>);

impl Breakers {
    fn new(sequences: &[Vec<u32>]) -> Self {
        let reversed = |s: &Vec<u32>| s.iter().rev().copied().collect();
        let mut sorted: Vec<Vec<u32>> = sequences.iter().map(reversed).collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted)
    }

    fn ending_with(&self, token: u32) -> &[Vec<u32>] {
        let start = self.0.partition_point(|s| s[0] < token);
        let len = self.0[start..].partition_point(|s| s[0] == token);
        &self.0[start..start + len]
    }

    fn has_single(&self, token: u32) -> bool {
        self.ending_with(token)
            .first()
            .is_some_and(|s| s.len() == 1)
    }

    /// Counts the tokens after the last complete breaker; all, if there is none.
    fn tokens_since_last(&self, window: &[u32]) -> usize {
        let n = window.len();
        let ends_breaker = |end: &usize| {
            let until = &window[..*end];
            let mut breakers = self.ending_with(until[end - 1]).iter();
            breakers.any(|s| until.iter().rev().take(s.len()).eq(s))
        };
        (1..=n).rev().find(ends_breaker).map_or(n, |end| n - end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dry(allowed_length: usize, breakers: &[Vec<u32>]) -> Dry {
        Dry::new(&SamplerConfig {
            dry_multiplier: 1.0,
            dry_base: 2.0,
            dry_allowed_length: allowed_length,
            dry_sequence_breakers: breakers.to_vec(),
            ..SamplerConfig::neutral()
        })
    }

    fn penalised(window: &[u32], allowed_length: usize, breakers: &[Vec<u32>]) -> [f32; 8] {
        let mut logits = [0.0; 8];
        dry(allowed_length, breakers).apply(&mut logits, window);
        logits
    }

    /// Counts every repetition by looking, token by token.
    fn naive(window: &[u32], allowed: usize, breakers: &[Vec<u32>]) -> [f32; 8] {
        let n = window.len();
        let since = (0..n)
            .find(|&i| breakers.iter().any(|b| window[..n - i].ends_with(b)))
            .unwrap_or(n);
        let mut logits = [0.0; 8];
        for (token, logit) in logits.iter_mut().enumerate() {
            let mut longest = None;
            for at in 1..n {
                if window[at] as usize == token {
                    let common = (0..=at)
                        .rev()
                        .find(|&l| window[at - l..at] == window[n - l..]);
                    longest = longest.max(common.map(|l| l.min(since)));
                }
            }
            let exempt = breakers.contains(&vec![token as u32]);
            if let Some(length) = longest.filter(|&l| l >= allowed && !exempt) {
                *logit -= 2f32.powi((length - allowed) as i32);
            }
        }
        logits
    }

    #[test]
    fn longer_repetitions_cost_more() {
        // "0 1 2" came before 3, "1 2" before 4, "2" before 5.
        let window = [0, 1, 2, 3, 7, 1, 2, 4, 7, 7, 2, 5, 0, 1, 2];
        let expected = [0.0, 0.0, 0.0, -2.0, -1.0, 0.0, 0.0, 0.0];
        assert_eq!(penalised(&window, 2, &[]), expected);
    }

    #[test]
    fn breaker_limits_the_repetition() {
        let window = [0, 1, 2, 3, 6, 0, 1, 2];
        assert_eq!(penalised(&window, 2, &[])[3], -2.0);
        assert_eq!(penalised(&window, 2, &[vec![0]])[3], -1.0);
        assert_eq!(penalised(&window, 2, &[vec![6, 0]])[3], -1.0);
        assert_eq!(penalised(&window, 2, &[vec![1]])[3], 0.0);
        assert_eq!(penalised(&window, 2, &[vec![5, 1]])[3], -2.0);
    }

    #[test]
    fn single_breaker_is_never_penalised() {
        let window = [0, 1, 2, 3, 0, 1, 2];
        assert_eq!(penalised(&window, 2, &[vec![3]])[3], 0.0);
        assert_eq!(penalised(&window, 2, &[vec![3, 4]])[3], -2.0);
    }

    #[test]
    fn no_window_no_penalty() {
        assert_eq!(penalised(&[], 0, &[]), [0.0; 8]);
        assert_eq!(penalised(&[1], 0, &[]), [0.0; 8]);
    }

    #[test]
    fn endless_repetition_does_not_overflow_or_mask() {
        let mut logits = [1.0, 1.0];
        dry(2, &[]).apply(&mut logits, &[0; 3000]);
        assert_eq!(logits, [f32::MIN, 1.0]);
    }

    proptest! {
        #[test]
        fn agrees_with_looking_token_by_token(
            window in prop::collection::vec(0u32..4, 0..60),
            allowed in 0usize..4,
            breakers in prop::collection::vec(prop::collection::vec(0u32..5, 1..4), 0..3),
        ) {
            prop_assert_eq!(
                penalised(&window, allowed, &breakers), naive(&window, allowed, &breakers)
            );
        }
    }
}
