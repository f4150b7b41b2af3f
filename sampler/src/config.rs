//! What a user can set: llama.cpp's names, meanings and neutral values.
//!
//! Two meanings are narrower here, because nothing that was asked for may be dropped in
//! silence: a value outside its range is an error, and mirostat 2 keeps the penalties.
//! The random seed has a fixed default; a binary that wants another each time asks the clock.

use crate::error::SamplerError;

/// Target and learning rate of mirostat 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat2 {
    /// Surprise to aim for, in bits per token; llama.cpp's default is 5.
    pub tau: f32,
    /// Share of the error that is corrected after each token; llama.cpp's default is 0.1.
    pub eta: f32,
}

/// Settings of a [`SamplerChain`](crate::SamplerChain), in the order the stages run.
///
/// [`Default`] is Qwen's recommendation: [`neutral`](Self::neutral) with `temp` 0.7,
/// `top_k` 20, `top_p` 0.8.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Added to the logits of these tokens; −∞ forbids one, repeated ids add up.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the last tokens the three penalties look at; 0 none, −1 all.
    pub repeat_last_n: i32,
    /// Positive logits of seen tokens are divided by it, others multiplied; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted once per occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred at all; 0 is off.
    pub presence_penalty: f32,
    /// Scale of the DRY penalty against repeated sequences; 0 is off.
    pub dry_multiplier: f32,
    /// Growth of the DRY penalty per token of repetition.
    pub dry_base: f32,
    /// Repetitions shorter than this are free of the DRY penalty.
    pub dry_allowed_length: usize,
    /// How many of the last tokens DRY looks at; 0 none, −1 all.
    pub dry_penalty_last_n: i32,
    /// Token sequences across which DRY sees no repetition.
    pub dry_sequence_breakers: Vec<Vec<u32>>,
    /// Keeps logits within this many standard deviations of the best; 0 or less is off.
    pub top_n_sigma: f32,
    /// Keeps this many of the best; 0 or less is off.
    pub top_k: i32,
    /// Keeps the most typical tokens up to this mass; 1 is off.
    pub typical_p: f32,
    /// Keeps the most probable tokens up to this mass; 1 is off.
    pub top_p: f32,
    /// Keeps tokens with at least this share of the best one's probability; 0 is off.
    pub min_p: f32,
    /// Chance that XTC removes the top choices; 0 is off.
    pub xtc_probability: f32,
    /// Probability from which a token counts as a top choice; above 0.5 is off.
    pub xtc_threshold: f32,
    /// Divides the logits; 0 or less is greedy: the best token after bias and penalties.
    pub temp: f32,
    /// Half-width of the range in which the temperature follows the entropy; 0 is off.
    pub dynatemp_range: f32,
    /// Bends the way from low to high temperature; 1 is straight.
    pub dynatemp_exponent: f32,
    /// Takes the place of all truncating stages (sigma, k, typical, p, min-p, XTC) if set.
    pub mirostat2: Option<Mirostat2>,
    /// Typical, top-p, min-p and XTC leave at least this many candidates, where there are.
    pub min_keep: usize,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temp: 0.7,
            top_k: 20,
            top_p: 0.8,
            ..Self::neutral()
        }
    }
}

impl SamplerConfig {
    /// Returns the configuration that draws from the model's own distribution.
    #[must_use]
    pub fn neutral() -> Self {
        Self {
            seed: 0,
            logit_bias: Vec::new(),
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dry_sequence_breakers: Vec::new(),
            top_n_sigma: -1.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            temp: 1.0,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat2: None,
            min_keep: 0,
        }
    }

    /// Returns the configuration that always takes the most probable token.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            temp: 0.0,
            ..Self::neutral()
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    ///
    /// The error that is named after the first field out of its range.
    pub fn validate(&self) -> Result<(), SamplerError> {
        self.validate_temperature()?;
        self.validate_truncation()?;
        self.validate_penalties()?;
        self.validate_dry()?;
        for &(token, found) in &self.logit_bias {
            require(
                found < f32::INFINITY,
                SamplerError::LogitBias { token, found },
            )?;
        }
        if let Some(Mirostat2 { tau, eta }) = self.mirostat2 {
            require(
                is_non_negative(tau),
                SamplerError::MirostatTau { found: tau },
            )?;
            require(
                is_non_negative(eta),
                SamplerError::MirostatEta { found: eta },
            )?;
        }
        Ok(())
    }

    /// Checks that every token named by the configuration is in a vocabulary of `n_vocab`.
    ///
    /// # Errors
    ///
    /// [`SamplerError::TokenOutOfVocab`] for the first that is not.
    pub fn validate_tokens(&self, n_vocab: usize) -> Result<(), SamplerError> {
        let biased = self
            .logit_bias
            .iter()
            .map(|&(token, _)| ("logit_bias", token));
        let breakers = self.dry_sequence_breakers.iter().flatten();
        let named = biased.chain(breakers.map(|&token| ("dry_sequence_breakers", token)));
        for (field, token) in named {
            let error = SamplerError::TokenOutOfVocab {
                field,
                token,
                n_vocab,
            };
            require((token as usize) < n_vocab, error)?;
        }
        Ok(())
    }

    fn validate_temperature(&self) -> Result<(), SamplerError> {
        let found = self.temp;
        require(found.is_finite(), SamplerError::Temp { found })?;
        let found = self.dynatemp_range;
        require(
            is_non_negative(found),
            SamplerError::DynatempRange { found },
        )?;
        let found = self.dynatemp_exponent;
        require(
            is_non_negative(found),
            SamplerError::DynatempExponent { found },
        )
    }

    fn validate_truncation(&self) -> Result<(), SamplerError> {
        let found = self.top_p;
        require(is_share(found), SamplerError::TopP { found })?;
        let found = self.min_p;
        require(is_share(found), SamplerError::MinP { found })?;
        let found = self.typical_p;
        require(is_share(found), SamplerError::TypicalP { found })?;
        let found = self.top_n_sigma;
        require(found.is_finite(), SamplerError::TopNSigma { found })?;
        let found = self.xtc_probability;
        require(is_share(found), SamplerError::XtcProbability { found })?;
        let found = self.xtc_threshold;
        require(is_share(found), SamplerError::XtcThreshold { found })
    }

    fn validate_penalties(&self) -> Result<(), SamplerError> {
        let found = self.repeat_penalty;
        require(
            found.is_finite() && found > 0.0,
            SamplerError::RepeatPenalty { found },
        )?;
        let found = self.frequency_penalty;
        require(found.is_finite(), SamplerError::FrequencyPenalty { found })?;
        let found = self.presence_penalty;
        require(found.is_finite(), SamplerError::PresencePenalty { found })?;
        let found = self.repeat_last_n;
        require(found >= -1, SamplerError::RepeatLastN { found })
    }

    fn validate_dry(&self) -> Result<(), SamplerError> {
        let found = self.dry_multiplier;
        require(
            is_non_negative(found),
            SamplerError::DryMultiplier { found },
        )?;
        let found = self.dry_base;
        require(
            found.is_finite() && found >= 1.0,
            SamplerError::DryBase { found },
        )?;
        let found = self.dry_penalty_last_n;
        require(found >= -1, SamplerError::DryPenaltyLastN { found })?;
        let empty = self.dry_sequence_breakers.iter().position(Vec::is_empty);
        empty.map_or(Ok(()), |index| Err(SamplerError::EmptyDryBreaker { index }))
    }
}

/// Turns llama.cpp's "last n" into a number of tokens; −1 is all.
pub(crate) fn window_len(last_n: i32) -> usize {
    usize::try_from(last_n).unwrap_or(usize::MAX)
}

fn require(holds: bool, error: SamplerError) -> Result<(), SamplerError> {
    if holds { Ok(()) } else { Err(error) }
}

fn is_non_negative(x: f32) -> bool {
    x.is_finite() && x >= 0.0
}

fn is_share(x: f32) -> bool {
    (0.0..=1.0).contains(&x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for config in [
            SamplerConfig::default(),
            SamplerConfig::neutral(),
            SamplerConfig::greedy(),
        ] {
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn default_is_the_recommendation_of_qwen() {
        let config = SamplerConfig::default();
        assert_eq!((config.temp, config.top_k), (0.7, 20));
        assert_eq!((config.top_p, config.min_p), (0.8, 0.0));
        assert_eq!((config.repeat_penalty, config.presence_penalty), (1.0, 0.0));
    }

    struct Case {
        field: &'static str,
        spoil: fn(&mut SamplerConfig, f32),
        bad: &'static [f32],
        good: &'static [f32],
    }

    const INF: f32 = f32::INFINITY;

    #[rustfmt::skip]
    const CASES: &[Case] = &[
        Case { field: "temp", spoil: |c, x| c.temp = x, bad: &[INF, -INF], good: &[-1.0, 0.0, 9.0] },
        Case { field: "dynatemp_range", spoil: |c, x| c.dynatemp_range = x, bad: &[-0.1, INF], good: &[0.0, 2.0] },
        Case { field: "dynatemp_exponent", spoil: |c, x| c.dynatemp_exponent = x, bad: &[-1.0, INF], good: &[0.0, 2.0] },
        Case { field: "top_p", spoil: |c, x| c.top_p = x, bad: &[-0.1, 1.1], good: &[0.0, 1.0] },
        Case { field: "min_p", spoil: |c, x| c.min_p = x, bad: &[-0.1, 1.1], good: &[0.0, 1.0] },
        Case { field: "typical_p", spoil: |c, x| c.typical_p = x, bad: &[-0.1, 1.1], good: &[0.0, 1.0] },
        Case { field: "top_n_sigma", spoil: |c, x| c.top_n_sigma = x, bad: &[INF, -INF], good: &[-1.0, 2.0] },
        Case { field: "xtc_probability", spoil: |c, x| c.xtc_probability = x, bad: &[-0.1, 1.1], good: &[0.0, 1.0] },
        Case { field: "xtc_threshold", spoil: |c, x| c.xtc_threshold = x, bad: &[-0.1, 1.1], good: &[0.0, 1.0] },
        Case { field: "repeat_penalty", spoil: |c, x| c.repeat_penalty = x, bad: &[0.0, -1.0, INF], good: &[0.5, 1.3] },
        Case { field: "frequency_penalty", spoil: |c, x| c.frequency_penalty = x, bad: &[INF, -INF], good: &[-2.0, 2.0] },
        Case { field: "presence_penalty", spoil: |c, x| c.presence_penalty = x, bad: &[INF, -INF], good: &[-2.0, 2.0] },
        Case { field: "dry_multiplier", spoil: |c, x| c.dry_multiplier = x, bad: &[-0.1, INF], good: &[0.0, 0.8] },
        Case { field: "dry_base", spoil: |c, x| c.dry_base = x, bad: &[0.9, INF], good: &[1.0, 1.75] },
        Case { field: "logit_bias of token 3", spoil: |c, x| c.logit_bias = vec![(3, x)], bad: &[INF], good: &[-INF, 5.0] },
        Case { field: "mirostat2.tau", spoil: |c, x| c.mirostat2 = Some(Mirostat2 { tau: x, eta: 0.1 }), bad: &[-1.0, INF], good: &[0.0, 5.0] },
        Case { field: "mirostat2.eta", spoil: |c, x| c.mirostat2 = Some(Mirostat2 { tau: 5.0, eta: x }), bad: &[-1.0, INF], good: &[0.0, 0.1] },
    ];

    #[test]
    fn each_range_has_an_error_of_its_name() {
        for case in CASES {
            for &bad in case.bad.iter().chain(&[f32::NAN]) {
                let mut config = SamplerConfig::neutral();
                (case.spoil)(&mut config, bad);
                let message = config.validate().expect_err(case.field).to_string();
                let field = message.split(':').next();
                assert_eq!(field, Some(case.field), "{bad}: {message}");
                assert!(message.ends_with(&format!("found {bad}")), "{message}");
            }
            for &good in case.good {
                let mut config = SamplerConfig::neutral();
                (case.spoil)(&mut config, good);
                assert_eq!(config.validate(), Ok(()), "{} = {good}", case.field);
            }
        }
    }

    #[test]
    fn windows_below_minus_one_are_errors() {
        let config = SamplerConfig {
            repeat_last_n: -2,
            ..SamplerConfig::neutral()
        };
        assert_eq!(
            config.validate(),
            Err(SamplerError::RepeatLastN { found: -2 })
        );
        let config = SamplerConfig {
            dry_penalty_last_n: -7,
            ..SamplerConfig::neutral()
        };
        assert_eq!(
            config.validate(),
            Err(SamplerError::DryPenaltyLastN { found: -7 })
        );
    }

    #[test]
    fn empty_breaker_is_an_error() {
        let config = SamplerConfig {
            dry_sequence_breakers: vec![vec![1], vec![]],
            ..SamplerConfig::neutral()
        };
        assert_eq!(
            config.validate(),
            Err(SamplerError::EmptyDryBreaker { index: 1 })
        );
    }
}
