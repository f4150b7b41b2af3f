//! What tells a server's answers from another's.

use std::num::NonZeroUsize;

use model_tools::ToolError;
use moe_model::{ModelFile, StateOptions};
use sampler::SamplerConfig;
use xxhash_rust::xxh3::xxh3_64;

/// Raised when the order of rounding changes, and answers with it.
const KERNELS: u32 = 1;

/// The hash of a model with the version of the kernels, since another order of rounding would
/// be another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    /// Reads the whole model once.
    pub(super) fn of(file: &ModelFile, n_threads: NonZeroUsize) -> Result<Self, ToolError> {
        model_tools::fingerprint(file, n_threads).map(Self)
    }

    /// What decides keys and values.
    pub(super) fn of_cache(self) -> String {
        format!("{:032x}_k{KERNELS}", self.0)
    }

    /// What decides answers besides the request: how keys and values are rounded, and how is
    /// sampled where the request does not say it.
    pub(super) fn of_answers(self, state: &StateOptions, sampler: &SamplerConfig) -> String {
        let defaults = SamplerConfig {
            seed: 0,
            ..sampler.clone()
        };
        let settings = format!("{} {} {defaults:?}", state.keys, state.values);
        let hash = xxh3_64(format!("{:032x} {settings}", self.0).as_bytes());
        format!("fp_{hash:016x}_k{KERNELS}")
    }
}

#[cfg(test)]
mod tests {
    use quant_kernels::KvType;

    use super::*;

    #[test]
    fn answers_follow_from_the_model_the_cache_and_the_defaults() {
        let state = StateOptions::new(64);
        let sampler = SamplerConfig::default();
        let of = |state: &StateOptions, sampler: &SamplerConfig, model| {
            Fingerprint(model).of_answers(state, sampler)
        };
        let first = of(&state, &sampler, 1);
        assert!(
            first.starts_with("fp_") && first.ends_with("_k1"),
            "{first}"
        );
        let seeded = SamplerConfig {
            seed: 7,
            ..sampler.clone()
        };
        assert_eq!(of(&state, &seeded, 1), first);
        let warmer = SamplerConfig {
            temp: 1.5,
            ..sampler.clone()
        };
        let rounded = StateOptions {
            keys: KvType::Q8_0,
            ..state
        };
        assert_ne!(of(&state, &sampler, 2), first);
        assert_ne!(of(&state, &warmer, 1), first);
        assert_ne!(of(&rounded, &sampler, 1), first);
    }
}
