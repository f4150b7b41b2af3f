//! How well a model foretells a text, by llama.cpp's method.
//!
//! The text is cut into windows of `n_ctx` tokens; a rest is left out. Each window begins with
//! an empty cache, and only tokens of its second half are scored, so that each has a context of
//! at least `n_ctx / 2`. The perplexity is the exponential of the mean negative log
//! probability. Windows as long as llama.cpp's give figures that may be set beside its own.

use sampler::LogSoftmax;

use crate::{CancelFlag, GenerateError, Sequence};

/// How a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub n_ctx: usize,
    /// The most windows to score; `None` scores all.
    pub limit: Option<usize>,
    /// Put in place of the first token of each window, for models that expect it there.
    pub bos: Option<u32>,
}

/// A token of the text and what the model said before it came.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Index of the window.
    pub window: usize,
    /// The token that came.
    pub token: u32,
    /// The logits `[V]` before it.
    pub logits: &'a [f32],
}

impl Windows {
    /// Returns the number of windows of a text.
    ///
    /// # Errors
    /// The text is shorter than a window, or a window too short to score.
    pub fn count(&self, n_tokens: usize) -> Result<usize, GenerateError> {
        let n_ctx = self.n_ctx;
        if n_ctx < 4 {
            return Err(GenerateError::WindowTooShort { n_ctx });
        }
        match n_tokens / n_ctx {
            0 => Err(GenerateError::TextTooShort { n_tokens, n_ctx }),
            n_windows => Ok(self.limit.map_or(n_windows, |limit| limit.min(n_windows))),
        }
    }

    /// Returns the number of tokens that are scored in a window.
    #[must_use]
    pub const fn n_scored(&self) -> usize {
        self.n_ctx - 1 - self.n_ctx / 2
    }
}

impl Sequence<'_> {
    /// Shows `visit` every scored token of a text.
    ///
    /// # Errors
    /// As [`Windows::count`] and [`visit_logits`](Self::visit_logits), and whatever `visit`
    /// returns.
    pub fn visit_windows<E: From<GenerateError>>(
        &mut self,
        tokens: &[u32],
        windows: Windows,
        cancel: &CancelFlag,
        mut visit: impl FnMut(Scored<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let n_windows = windows.count(tokens.len())?;
        let wanted = windows.n_ctx / 2..windows.n_ctx - 1;
        for (window, text) in tokens
            .chunks_exact(windows.n_ctx)
            .take(n_windows)
            .enumerate()
        {
            let mut text = text.to_vec();
            text[0] = windows.bos.unwrap_or(text[0]);
            self.visit_logits(&text, &wanted, cancel, |idx, logits| {
                visit(Scored {
                    window,
                    token: text[idx + 1],
                    logits,
                })
            })?;
        }
        Ok(())
    }
}

/// The sum over scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    n_tokens: usize,
    nll_sum: f64,
    nll_squares: f64,
}

impl Perplexity {
    /// Begins with no tokens.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token.
    ///
    /// # Errors
    /// The logits are unusable, or the token is not one of them.
    pub fn push(&mut self, scored: &Scored<'_>) -> Result<(), GenerateError> {
        let nll = -logprob(
            &LogSoftmax::new(scored.logits)?,
            scored.token,
            scored.logits.len(),
        )?;
        self.n_tokens += 1;
        self.nll_sum += nll;
        self.nll_squares += nll * nll;
        Ok(())
    }

    /// Returns the number of tokens.
    #[must_use]
    pub const fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Returns the perplexity; NaN without tokens.
    #[must_use]
    pub fn value(&self) -> f64 {
        (self.nll_sum / self.n_tokens as f64).exp()
    }

    /// Returns the standard error of [`value`](Self::value), as far as tokens are independent.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let n = self.n_tokens as f64;
        let mean = self.nll_sum / n;
        let variance = (self.nll_squares / n - mean * mean).max(0.0);
        self.value() * (variance / (n - 1.0)).sqrt()
    }
}

/// How far a model is from another that is taken for the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    n_tokens: usize,
    kl_sum: f64,
    kl_max: f64,
    n_same_top: usize,
}

impl Divergence {
    /// Begins with no tokens.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a position: the logits of the model that is judged, and those of the base.
    ///
    /// # Errors
    /// Logits are unusable or not of one vocabulary.
    pub fn push(&mut self, logits: &[f32], base: &[f32]) -> Result<(), GenerateError> {
        if logits.len() != base.len() {
            let (expected, found) = (logits.len(), base.len());
            return Err(GenerateError::VocabLen { expected, found });
        }
        let (model, truth) = (LogSoftmax::new(logits)?, LogSoftmax::new(base)?);
        let terms = (0..).take(base.len()).filter_map(|token| {
            let (p, q) = (truth.logprob(token)?, model.logprob(token)?);
            (p > f64::NEG_INFINITY).then(|| p.exp() * (p - q))
        });
        let kl = terms.sum::<f64>();
        self.n_tokens += 1;
        self.kl_sum += kl;
        self.kl_max = self.kl_max.max(kl);
        let (best, base_best) = (sampler::argmax(logits)?, sampler::argmax(base)?);
        self.n_same_top += usize::from(best == base_best);
        Ok(())
    }

    /// Returns the mean Kullback-Leibler divergence of the model from the base, in nats.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.kl_sum / self.n_tokens as f64
    }

    /// Returns the largest divergence of a position.
    #[must_use]
    pub const fn max(&self) -> f64 {
        self.kl_max
    }

    /// Returns the share of positions at which both find the same token most probable.
    #[must_use]
    pub fn same_top(&self) -> f64 {
        self.n_same_top as f64 / self.n_tokens as f64
    }
}

/// Returns the log probability of a token, which must be one of the vocabulary's.
pub(crate) fn logprob(
    table: &LogSoftmax<'_>,
    token: u32,
    n_vocab: usize,
) -> Result<f64, GenerateError> {
    table.logprob(token).ok_or(GenerateError::TokenOutOfRange {
        token,
        position: 0,
        n_vocab,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_evenly_among_four_has_perplexity_four() {
        let mut perplexity = Perplexity::new();
        for token in 0..4 {
            perplexity
                .push(&Scored {
                    window: 0,
                    token,
                    logits: &[0.5; 4],
                })
                .unwrap();
        }
        assert_eq!(perplexity.n_tokens(), 4);
        assert!((perplexity.value() - 4.0).abs() < 1e-12);
        assert!(perplexity.standard_error().abs() < 1e-6);
    }

    #[test]
    fn a_model_does_not_diverge_from_itself() {
        let mut divergence = Divergence::new();
        divergence
            .push(
                &[1.0, 2.0, f32::NEG_INFINITY],
                &[1.0, 2.0, f32::NEG_INFINITY],
            )
            .unwrap();
        assert_eq!(
            (divergence.mean(), divergence.max(), divergence.same_top()),
            (0.0, 0.0, 1.0)
        );
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        let mut divergence = Divergence::new();
        let base = [0.75f32.ln(), 0.25f32.ln()];
        divergence.push(&[0.0, 0.0], &base).unwrap();
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((divergence.mean() - expected).abs() < 1e-7);
        divergence.push(&[0.0, 1.0], &base).unwrap();
        assert_eq!(divergence.same_top(), 0.5);
    }

    #[test]
    fn vocabularies_must_be_one() {
        let error = Divergence::new().push(&[0.0; 3], &[0.0; 4]).unwrap_err();
        assert_eq!(error.to_string(), "logits of 4 tokens, expected 3");
    }

    #[test]
    fn a_text_shorter_than_a_window_is_an_error() {
        let windows = Windows {
            n_ctx: 512,
            limit: None,
            bos: None,
        };
        let error = windows.count(511).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the text has 511 tokens, a window of 512 needs at least as many"
        );
        assert_eq!(windows.count(1536 + 7).unwrap(), 3);
        assert_eq!(windows.n_scored(), 255);
    }
}
