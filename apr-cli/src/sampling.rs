//! Sampling flags, and whose word counts: the flag, else the model's file, else Qwen.

mod order;
mod values;

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, builder::BoolishValueParser};
use generate::GenerationConfig;
use moe_model::SamplingHints;
use sampler::{Mirostat2, SamplerConfig};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{args::QuietArgs, engine::Engine, error::Error, terminal};

/// Texts across which DRY sees no repetition, as in llama.cpp.
const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// How long a text may become.
#[derive(Debug, Args)]
pub(crate) struct LengthArgs {
    /// The most tokens to generate; -1 is no limit but the context
    #[arg(
        short,
        long,
        visible_alias = "max-tokens",
        alias = "predict",
        value_name = "N",
        env = "APR_N_PREDICT"
    )]
    #[arg(default_value_t = -1, allow_negative_numbers = true, value_parser = values::n_predict)]
    n_predict: i64,
}

impl LengthArgs {
    /// Returns the limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        usize::try_from(self.n_predict).ok()
    }
}

/// How to draw tokens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Seed of the random numbers; -1 takes another one each time
    #[arg(short, long, value_name = "N", env = "APR_SEED", default_value_t = -1)]
    #[arg(allow_negative_numbers = true)]
    seed: i64,
    /// Temperature; 0 always takes the most probable token [default: the model's, else 0.7]
    #[arg(
        long,
        value_name = "X",
        env = "APR_TEMP",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::temperature)]
    temp: Option<f32>,
    /// Keep this many of the most probable tokens; 0 keeps all [default: the model's, else 20]
    #[arg(
        long,
        value_name = "N",
        env = "APR_TOP_K",
        allow_negative_numbers = true
    )]
    top_k: Option<i32>,
    /// Keep the most probable tokens up to this mass [default: the model's, else 0.8]
    #[arg(
        long,
        value_name = "X",
        env = "APR_TOP_P",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::share)]
    top_p: Option<f32>,
    /// Keep tokens with this share of the best one's probability [default: the model's, else 0]
    #[arg(
        long,
        value_name = "X",
        env = "APR_MIN_P",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::share)]
    min_p: Option<f32>,
    /// Keep logits within this many standard deviations of the best; -1 is off
    #[arg(
        long,
        value_name = "X",
        env = "APR_TOP_N_SIGMA",
        allow_negative_numbers = true
    )]
    #[arg(default_value_t = -1.0)]
    #[arg(value_parser = values::finite)]
    top_n_sigma: f32,
    /// Keep the most typical tokens up to this mass; 1 is off
    #[arg(
        long,
        value_name = "X",
        env = "APR_TYPICAL_P",
        allow_negative_numbers = true,
        default_value_t = 1.0,
        alias = "typical"
    )]
    #[arg(value_parser = values::share)]
    typical_p: f32,
    /// Chance of removing the top choices [default: the model's, else 0]
    #[arg(
        long,
        value_name = "X",
        env = "APR_XTC_PROBABILITY",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::share)]
    xtc_probability: Option<f32>,
    /// Probability from which a token is a top choice [default: the model's, else 0.1]
    #[arg(
        long,
        value_name = "X",
        env = "APR_XTC_THRESHOLD",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::share)]
    xtc_threshold: Option<f32>,
    /// Half-width of the range in which temperature follows entropy; 0 is off
    #[arg(
        long,
        value_name = "X",
        env = "APR_DYNATEMP_RANGE",
        allow_negative_numbers = true,
        default_value_t = 0.0
    )]
    #[arg(value_parser = values::scale)]
    dynatemp_range: f32,
    /// Exponent of the way from low to high temperature
    #[arg(
        long,
        value_name = "X",
        env = "APR_DYNATEMP_EXP",
        allow_negative_numbers = true,
        default_value_t = 1.0
    )]
    #[arg(value_parser = values::scale)]
    dynatemp_exp: f32,
    /// Tokens that the penalties look back; -1 is all [default: the model's, else 64]
    #[arg(
        long,
        value_name = "N",
        env = "APR_REPEAT_LAST_N",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::last_n)]
    repeat_last_n: Option<i32>,
    /// Divide the logits of repeated tokens; 1 is off [default: the model's, else 1]
    #[arg(
        long,
        value_name = "X",
        env = "APR_REPEAT_PENALTY",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::divisor)]
    repeat_penalty: Option<f32>,
    /// Subtract from the logits of tokens that occurred
    #[arg(
        long,
        value_name = "X",
        env = "APR_PRESENCE_PENALTY",
        allow_negative_numbers = true
    )]
    #[arg(default_value_t = 0.0)]
    #[arg(value_parser = values::finite)]
    presence_penalty: f32,
    /// Subtract from the logits once per occurrence
    #[arg(
        long,
        value_name = "X",
        env = "APR_FREQUENCY_PENALTY",
        allow_negative_numbers = true
    )]
    #[arg(default_value_t = 0.0)]
    #[arg(value_parser = values::finite)]
    frequency_penalty: f32,
    #[command(flatten)]
    dry: DryArgs,
    /// Mirostat version: 0 is off, or 2 [default: the model's, else 0]
    #[arg(long, value_name = "N", env = "APR_MIROSTAT")]
    mirostat: Option<i32>,
    /// Learning rate of mirostat [default: the model's, else 0.1]
    #[arg(
        long,
        value_name = "X",
        env = "APR_MIROSTAT_LR",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::scale)]
    mirostat_lr: Option<f32>,
    /// Target entropy of mirostat [default: the model's, else 5]
    #[arg(
        long,
        value_name = "X",
        env = "APR_MIROSTAT_ENT",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::scale)]
    mirostat_ent: Option<f32>,
    /// Add to a token's logit: `ID+BIAS` or `ID-BIAS`; may be repeated
    #[arg(short, long, value_name = "ID±X", env = "APR_LOGIT_BIAS", value_parser = values::logit_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Never draw a token that ends the text
    #[arg(long, env = "APR_IGNORE_EOS", value_parser = BoolishValueParser::new())]
    ignore_eos: bool,
}

/// The penalty against repeated sequences.
#[derive(Debug, Args)]
struct DryArgs {
    /// Scale of the penalty against repeated sequences; 0 is off
    #[arg(
        long,
        value_name = "X",
        env = "APR_DRY_MULTIPLIER",
        allow_negative_numbers = true,
        default_value_t = 0.0
    )]
    #[arg(value_parser = values::scale)]
    dry_multiplier: f32,
    /// Growth of that penalty per token
    #[arg(
        long,
        value_name = "X",
        env = "APR_DRY_BASE",
        allow_negative_numbers = true,
        default_value_t = 1.75
    )]
    #[arg(value_parser = values::base)]
    dry_base: f32,
    /// Sequences that may be repeated without it
    #[arg(
        long,
        value_name = "N",
        env = "APR_DRY_ALLOWED_LENGTH",
        default_value_t = 2
    )]
    dry_allowed_length: usize,
    /// Tokens that it looks back; -1 is all
    #[arg(long, value_name = "N", env = "APR_DRY_PENALTY_LAST_N", default_value_t = -1)]
    #[arg(allow_negative_numbers = true)]
    #[arg(value_parser = values::last_n)]
    dry_penalty_last_n: i32,
    /// Text across which it sees no repetition, in place of the usual ones; may be repeated
    #[arg(long, value_name = "TEXT", env = "APR_DRY_SEQUENCE_BREAKER")]
    dry_sequence_breaker: Vec<String>,
}

impl SamplingArgs {
    /// Returns the whole configuration for a model; `n_predict` limits the length. Says what
    /// the file recommends and does not get.
    pub(crate) fn generation(
        &self,
        engine: &Engine<'_>,
        n_predict: Option<usize>,
        quiet: QuietArgs,
    ) -> Result<GenerationConfig, Error> {
        let config = engine.model.config();
        self.check_biases(config.n_vocab)?;
        let mut sampler = self.sampler(&config.sampling, &engine.tokenizer)?;
        if let Some(note) = order::note(&config.sampling).filter(|_| !quiet.quiet) {
            terminal::say(note);
        }
        if !quiet.quiet {
            for field in &config.sampling.not_followed {
                terminal::say(format_args!(
                    "note: generation_config.json: {field} is not followed"
                ));
            }
        }
        let ends = engine.tokenizer.end_of_generation();
        let mut stop_tokens = ends.to_vec();
        if self.ignore_eos {
            sampler
                .logit_bias
                .extend(ends.iter().map(|&id| (id, f32::NEG_INFINITY)));
            stop_tokens.clear();
        }
        Ok(GenerationConfig {
            sampler,
            n_predict,
            stop_tokens,
        })
    }

    fn check_biases(&self, n_vocab: usize) -> Result<(), Error> {
        let ids = self.logit_bias.iter().map(|&(id, _)| id);
        ids.filter(|&id| id as usize >= n_vocab).try_for_each(|id| {
            let message = format!("--logit-bias {id}: expected an id below {n_vocab}");
            Err(Error::usage(message))
        })
    }

    fn sampler(
        &self,
        hints: &SamplingHints,
        tokenizer: &Tokenizer,
    ) -> Result<SamplerConfig, Error> {
        let usual = SamplerConfig::default();
        let config = SamplerConfig {
            seed: self.seed(),
            logit_bias: self.logit_bias.clone(),
            repeat_last_n: first(
                self.repeat_last_n,
                hints.penalty_last_n,
                usual.repeat_last_n,
            ),
            repeat_penalty: first(
                self.repeat_penalty,
                hints.penalty_repeat,
                usual.repeat_penalty,
            ),
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            dry_multiplier: self.dry.dry_multiplier,
            dry_base: self.dry.dry_base,
            dry_allowed_length: self.dry.dry_allowed_length,
            dry_penalty_last_n: self.dry.dry_penalty_last_n,
            dry_sequence_breakers: self.dry.breakers(tokenizer),
            top_n_sigma: self.top_n_sigma,
            top_k: first(self.top_k, hints.top_k, usual.top_k),
            typical_p: self.typical_p,
            top_p: first(self.top_p, hints.top_p, usual.top_p),
            min_p: first(self.min_p, hints.min_p, usual.min_p),
            xtc_probability: first(
                self.xtc_probability,
                hints.xtc_probability,
                usual.xtc_probability,
            ),
            xtc_threshold: first(self.xtc_threshold, hints.xtc_threshold, usual.xtc_threshold),
            temp: first(self.temp, hints.temp, usual.temp),
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exp,
            mirostat2: self.mirostat(hints)?,
            min_keep: usual.min_keep,
        };
        // Flags were checked when they were read, so what is wrong comes from the file.
        match config.validate() {
            Ok(()) => Ok(config),
            Err(error) => Err(Error::input("general.sampling", error.to_string())),
        }
    }

    fn mirostat(&self, hints: &SamplingHints) -> Result<Option<Mirostat2>, Error> {
        match first(self.mirostat, hints.mirostat, 0) {
            0 => Ok(None),
            2 => Ok(Some(Mirostat2 {
                tau: first(self.mirostat_ent, hints.mirostat_tau, 5.0),
                eta: first(self.mirostat_lr, hints.mirostat_eta, 0.1),
            })),
            found => {
                let message = format!("mirostat {found}: expected 0 or 2, give --mirostat");
                Err(Error::usage(message))
            }
        }
    }

    /// Returns the seed if one is set.
    pub(crate) fn fixed_seed(&self) -> Option<u64> {
        u64::try_from(self.seed).ok()
    }

    /// Returns the seed, from the clock if none is set.
    fn seed(&self) -> u64 {
        match u64::try_from(self.seed) {
            Ok(seed) => seed,
            Err(_) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
            }
        }
    }
}

impl DryArgs {
    fn breakers(&self, tokenizer: &Tokenizer) -> Vec<Vec<u32>> {
        let encode = |text: &str| tokenizer.encode(text, SpecialTokens::AsText);
        let breakers: Vec<Vec<u32>> = match self.dry_sequence_breaker.as_slice() {
            [] => DRY_BREAKERS.into_iter().map(encode).collect(),
            texts => texts.iter().map(|text| encode(text)).collect(),
        };
        breakers.into_iter().filter(|ids| !ids.is_empty()).collect()
    }
}

fn first<T>(flag: Option<T>, hint: Option<T>, usual: T) -> T {
    flag.or(hint).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_counts_before_the_file_and_the_file_before_the_usual() {
        assert_eq!(first(Some(1), Some(2), 3), 1);
        assert_eq!(first(None, Some(2), 3), 2);
        assert_eq!(first(None::<i32>, None, 3), 3);
    }
}
