//! The chain: from the logits of one position to one token.
//!
//! The stages run in llama.cpp's default order, which [`stages`](crate::stages) lists.
//! Buffers are kept between tokens, so nothing is allocated once they have their size; only
//! the history of a window without limit (−1) goes on growing, by doubling.
//!
//! Temperature 0 or less is greedy, whatever the truncations and XTC say. Mirostat 2 takes
//! the place of the truncations but, unlike in llama.cpp, not of penalties and DRY: what a
//! user has set is not dropped in silence.

use crate::argmax;
use crate::candidates::{Candidate, Candidates, TokenLogprob};
use crate::config::{SamplerConfig, window_len};
use crate::error::SamplerError;
use crate::history::History;
use crate::rank::Key;
use crate::rng::Rng;
use crate::stages::dry::Dry;
use crate::stages::mirostat::Mirostat;
use crate::stages::penalties::Penalties;
use crate::stages::{
    draw, logit_bias, min_p, temperature, top_k, top_n_sigma, top_p, typical, xtc,
};

/// A configured sampler with the state of one text: history, random numbers, mirostat's μ.
///
/// ```
/// use sampler::{SamplerChain, SamplerConfig};
///
/// let mut chain = SamplerChain::new(SamplerConfig { seed: 42, ..Default::default() }, 4)?;
/// chain.accept(3); // a token of the prompt
/// let token = chain.sample(&mut [1.0, 0.5, 3.0, -2.0])?;
/// chain.accept(token);
/// assert_eq!(token, 2);
/// # Ok::<(), sampler::SamplerError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SamplerChain {
    config: SamplerConfig,
    n_vocab: usize,
    penalties: Penalties,
    dry: Dry,
    mirostat: Option<Mirostat>,
    history: History,
    rng: Rng,
    keys: Vec<Key>,
    candidates: Candidates,
}

impl SamplerChain {
    /// Builds the chain for a vocabulary of `n_vocab` tokens.
    ///
    /// # Errors
    ///
    /// Those of [`SamplerConfig::validate`], [`SamplerError::VocabLen`] for a vocabulary
    /// that is empty or too large, and [`SamplerError::TokenOutOfVocab`] for a bias or
    /// breaker outside of it.
    pub fn new(config: SamplerConfig, n_vocab: usize) -> Result<Self, SamplerError> {
        if n_vocab == 0 || u32::try_from(n_vocab).is_err() {
            return Err(SamplerError::VocabLen { found: n_vocab });
        }
        config.validate()?;
        config.validate_tokens(n_vocab)?;
        let penalties = Penalties::new(&config);
        let dry = Dry::new(&config);
        let mut longest_window = 0;
        if !penalties.is_neutral() {
            longest_window = longest_window.max(window_len(config.repeat_last_n));
        }
        if !dry.is_neutral() {
            longest_window = longest_window.max(window_len(config.dry_penalty_last_n));
        }
        Ok(Self {
            n_vocab,
            penalties,
            dry,
            mirostat: config.mirostat2.map(Mirostat::new),
            history: History::new(longest_window),
            rng: Rng::new(config.seed),
            keys: Vec::new(),
            candidates: Candidates::default(),
            config,
        })
    }

    /// Chooses the next token.
    ///
    /// `logits` holds one number per token of the vocabulary, −∞ for a token that may not
    /// be chosen; bias and penalties are applied to it in place. The choice does not enter
    /// the history by itself: [`accept`](Self::accept) does that.
    ///
    /// # Errors
    ///
    /// [`SamplerError::LogitsLen`], [`SamplerError::NanLogit`],
    /// [`SamplerError::InfiniteLogit`], or [`SamplerError::AllMasked`] if the logits and
    /// the biases leave no token.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, SamplerError> {
        self.candidates.clear();
        if logits.len() != self.n_vocab {
            return Err(SamplerError::LogitsLen {
                expected: self.n_vocab,
                found: logits.len(),
            });
        }
        self.edit(logits);
        if self.config.temp <= 0.0 {
            let token = argmax(logits)?;
            self.candidates.fill_with(token);
            return Ok(token);
        }
        self.collect(logits)?;
        Ok(self.draw().id)
    }

    /// Takes a token into the history: each of the prompt, then each that was chosen.
    pub fn accept(&mut self, token: u32) {
        self.history.push(token);
    }

    /// Returns what the last token was drawn from, best first, with log probabilities under
    /// that final distribution; empty before the first [`sample`](Self::sample) and after
    /// an error. For the model's own distribution see [`LogSoftmax`](crate::LogSoftmax).
    pub fn candidates(&self) -> impl ExactSizeIterator<Item = TokenLogprob> + '_ {
        self.candidates.logprobs()
    }

    /// Begins another text: history, random numbers and mirostat are as after
    /// [`new`](Self::new), buffers stay.
    pub fn reset(&mut self) {
        self.history.clear();
        self.candidates.clear();
        self.rng = Rng::new(self.config.seed);
        self.mirostat = self.config.mirostat2.map(Mirostat::new);
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Bias, penalties, DRY: the stages that change single logits.
    fn edit(&mut self, logits: &mut [f32]) {
        logit_bias::apply(logits, &self.config.logit_bias);
        if !self.penalties.is_neutral() {
            let window = self.history.last(window_len(self.config.repeat_last_n));
            self.penalties.apply(logits, window);
        }
        if !self.dry.is_neutral() {
            let window = self
                .history
                .last(window_len(self.config.dry_penalty_last_n));
            self.dry.apply(logits, window);
        }
    }

    /// Fills the candidates with all tokens that top-n-sigma and top-k leave.
    fn collect(&mut self, logits: &[f32]) -> Result<(), SamplerError> {
        let mut k = top_k::ALL;
        let mut floor = f64::NEG_INFINITY;
        if self.mirostat.is_none() {
            k = top_k::count(self.config.top_k);
            floor = top_n_sigma::floor(logits, self.config.top_n_sigma);
        }
        top_k::select(logits, k, floor, &mut self.keys)?;
        self.candidates.fill(&self.keys, logits);
        Ok(())
    }

    /// Draws one of the candidates after the last truncations and the temperature.
    ///
    /// Mirostat measures the distribution it draws from, so there temperature comes first.
    fn draw(&mut self) -> Candidate {
        let (c, list, rng) = (&self.config, &mut self.candidates, &mut self.rng);
        if let Some(mirostat) = &mut self.mirostat {
            temperature::apply(list, c.temp, c.dynatemp_range, c.dynatemp_exponent);
            mirostat.truncate(list);
            let drawn = draw::sample(list, rng);
            mirostat.observe(list, &drawn);
            return drawn;
        }
        typical::apply(list, c.typical_p, c.min_keep);
        top_p::apply(list, c.top_p, c.min_keep);
        min_p::apply(list, c.min_p, c.min_keep);
        xtc::apply(list, c.xtc_probability, c.xtc_threshold, c.min_keep, rng);
        temperature::apply(list, c.temp, c.dynatemp_range, c.dynatemp_exponent);
        draw::sample(list, rng)
    }
}
