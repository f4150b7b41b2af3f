//! Rotary position embedding: what a file says about it, and tables of cosines and sines.
//!
//! A head's pair `(x[i], x[i + D/2])` at position `p` is turned by the angle `p · f[i]`. The
//! plain frequencies are `f[i] = base^(−2i/D)`. To reach beyond the context it was trained
//! for, a model may divide them: all alike (`linear`), or by YaRN, which leaves the fast ones
//! alone, divides the slow ones, goes over from one to the other in between and turns up the
//! magnitude a little. The formulas are those of the YaRN paper (arXiv 2309.00071) with the
//! parameters and defaults of llama.cpp.
//!
//! Angles, cosines and sines are computed in `f64` by the `libm` crate and rounded to `f32`
//! once, so a table has the same bits on every machine.

use std::f64::consts::PI;

use gguf_format::Metadata;
use quant_kernels::Team;

use crate::{
    ModelError,
    config::{invalid, optional, require, size},
    error::quote,
    names::key,
};

/// The rotary embedding of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// The base of the frequencies.
    pub freq_base: f32,
    /// How they are stretched to longer contexts.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
        /// Factor of cosines and sines.
        attn_factor: f32,
    },
    /// YaRN.
    Yarn(Yarn),
}

/// The parameters of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times longer the context becomes.
    pub factor: f32,
    /// Positions the model was trained for before it was stretched.
    pub n_ctx_orig: usize,
    /// Frequencies with more turns than this within `n_ctx_orig` are left alone.
    pub beta_fast: f32,
    /// Frequencies with fewer turns than this are divided by `factor`.
    pub beta_slow: f32,
    /// How much of the fast frequencies is left alone; 1 is all.
    pub ext_factor: f32,
    /// Factor of cosines and sines, on top of YaRN's own.
    pub attn_factor: f32,
    /// Weight of the logarithm in the divisor of YaRN's own factor; 0 for no divisor.
    pub log_multiplier: f32,
}

impl RopeConfig {
    /// Reads the rotary embedding from the metadata of a model.
    ///
    /// # Errors
    /// A key is missing, of the wrong type or without sense, or the scaling is of an unknown
    /// type.
    pub(crate) fn read(metadata: &Metadata<'_>) -> Result<Self, ModelError> {
        let freq_base: f32 = require(metadata, &key("rope.freq_base"))?;
        if !(freq_base.is_finite() && freq_base > 1.0) {
            return Err(invalid("rope.freq_base", "a number above 1", freq_base));
        }
        Ok(Self {
            freq_base,
            scaling: RopeScaling::read(metadata)?,
        })
    }

    /// Returns the frequency of each pair of a head, and the factor of cosines and sines.
    #[must_use]
    pub fn frequencies(&self, head_dim: usize) -> (Vec<f64>, f64) {
        let base = f64::from(self.freq_base);
        let n_dims = head_dim as f64;
        let plain = |i: usize| libm::pow(base, -2.0 * i as f64 / n_dims);
        let pairs = 0..head_dim / 2;
        match self.scaling {
            RopeScaling::None => (pairs.map(plain).collect(), 1.0),
            RopeScaling::Linear {
                factor,
                attn_factor,
            } => {
                let frequencies = pairs.map(|i| plain(i) / f64::from(factor)).collect();
                (frequencies, attn_factor.into())
            }
            RopeScaling::Yarn(yarn) => {
                let kept = yarn.kept(base, n_dims);
                let stretched = |i| {
                    let kept = kept(i);
                    plain(i) * ((1.0 - kept) / f64::from(yarn.factor) + kept)
                };
                (pairs.map(stretched).collect(), yarn.magnitude())
            }
        }
    }
}

impl RopeScaling {
    fn read(metadata: &Metadata<'_>) -> Result<Self, ModelError> {
        let ty: Option<&str> = optional(metadata, &key("rope.scaling.type"))?;
        match ty {
            Some("none") => Ok(Self::None),
            Some("yarn") => Yarn::read(metadata).map(Self::Yarn),
            // A factor without a type means `linear`, as it does for llama.cpp.
            None | Some("linear") => match factor(metadata)? {
                None => Ok(Self::None),
                Some(factor) => {
                    let attn_factor = positive(metadata, "rope.scaling.attn_factor", 1.0)?;
                    Ok(Self::Linear {
                        factor,
                        attn_factor,
                    })
                }
            },
            Some(other) => Err(invalid(
                "rope.scaling.type",
                "none, linear or yarn",
                quote(other),
            )),
        }
    }
}

impl Yarn {
    fn read(metadata: &Metadata<'_>) -> Result<Self, ModelError> {
        let name = "rope.scaling.factor";
        let missing = || ModelError::MissingKey {
            key: key(name),
            expected: "f32".to_owned(),
        };
        let n_ctx_orig = "rope.scaling.original_context_length";
        Ok(Self {
            factor: factor(metadata)?.ok_or_else(missing)?,
            n_ctx_orig: match optional::<usize>(metadata, &key(n_ctx_orig))? {
                Some(_) => size(metadata, n_ctx_orig)?,
                None => size(metadata, "context_length")?,
            },
            beta_fast: positive(metadata, "rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: positive(metadata, "rope.scaling.yarn_beta_slow", 1.0)?,
            ext_factor: fraction(metadata, "rope.scaling.yarn_ext_factor")?,
            attn_factor: positive(metadata, "rope.scaling.attn_factor", 1.0)?
                * positive(metadata, "rope.scaling.yarn_attn_factor", 1.0)?,
            log_multiplier: not_negative(metadata, "rope.scaling.yarn_log_multiplier", 0.0)?,
        })
    }

    /// How much of the plain frequency a pair keeps: 1 for fast pairs, 0 for slow ones.
    fn kept(&self, base: f64, n_dims: f64) -> impl Fn(usize) -> f64 {
        let n_ctx_orig = self.n_ctx_orig as f64;
        let pair_that_turns = |n_turns: f32| {
            let wavelengths = n_ctx_orig / (f64::from(n_turns) * 2.0 * PI);
            n_dims * libm::log(wavelengths) / (2.0 * libm::log(base))
        };
        let low = libm::floor(pair_that_turns(self.beta_fast)).max(0.0);
        let high = libm::ceil(pair_that_turns(self.beta_slow)).min(n_dims - 1.0);
        let ext_factor = f64::from(self.ext_factor);
        move |i| {
            let ramp = (i as f64 - low) / (high - low).max(0.001);
            (1.0 - ramp.clamp(0.0, 1.0)) * ext_factor
        }
    }

    /// Returns the factor of cosines and sines, YaRN's own times `attn_factor`.
    #[must_use]
    pub fn magnitude(&self) -> f64 {
        let growth = |weight: f64| match f64::from(self.factor) {
            factor if factor > 1.0 => 0.1 * weight * libm::log(factor) + 1.0,
            _ => 1.0,
        };
        let own = if self.ext_factor == 0.0 {
            1.0
        } else {
            growth(1.0) / growth(self.log_multiplier.into())
        };
        own * f64::from(self.attn_factor)
    }
}

/// The factor of the context; absent, or 0, means none.
fn factor(metadata: &Metadata<'_>) -> Result<Option<f32>, ModelError> {
    for name in ["rope.scaling.factor", "rope.scale_linear"] {
        if optional::<f32>(metadata, &key(name))?.is_some_and(|factor| factor != 0.0) {
            return positive(metadata, name, 1.0).map(Some);
        }
    }
    Ok(None)
}

fn positive(metadata: &Metadata<'_>, name: &str, default: f32) -> Result<f32, ModelError> {
    match not_negative(metadata, name, default)? {
        0.0 => Err(invalid(name, "a number above 0", 0)),
        value => Ok(value),
    }
}

fn not_negative(metadata: &Metadata<'_>, name: &str, default: f32) -> Result<f32, ModelError> {
    let value = optional(metadata, &key(name))?.unwrap_or(default);
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(invalid(name, "a number from 0 on", value))
}

/// A share from 0 to 1, 1 where absent; negative means absent.
fn fraction(metadata: &Metadata<'_>, name: &str) -> Result<f32, ModelError> {
    let value: f32 = optional(metadata, &key(name))?.unwrap_or(1.0);
    match value {
        -1.0 => Ok(1.0),
        0.0..=1.0 => Ok(value),
        _ => Err(invalid(name, "a number from 0 to 1", value)),
    }
}

/// Cosines and sines for the positions of one call.
#[derive(Debug)]
pub(crate) struct RopeTable {
    frequencies: Vec<f64>,
    magnitude: f64,
    /// One row per position: `D/2` cosines, `D/2` sines.
    rows: Vec<f32>,
}

impl RopeTable {
    pub(crate) fn new(config: &RopeConfig, head_dim: usize) -> Self {
        let (frequencies, magnitude) = config.frequencies(head_dim);
        Self {
            frequencies,
            magnitude,
            rows: Vec::new(),
        }
    }

    /// Computes a row for each of `n` places of the call, whose positions `position` gives.
    pub(crate) fn fill(
        &mut self,
        team: &Team<'_>,
        n: usize,
        position: impl Fn(usize) -> usize + Sync,
    ) {
        let Self {
            frequencies,
            magnitude,
            rows,
        } = self;
        let half = frequencies.len();
        rows.resize(n * 2 * half, 0.0);
        team.for_each_chunk(rows, 2 * half, |idx, row| {
            let position = position(idx) as f64;
            let (cos, sin) = row.split_at_mut(half);
            for (i, frequency) in frequencies.iter().enumerate() {
                let angle = position * frequency;
                cos[i] = (libm::cos(angle) * *magnitude) as f32;
                sin[i] = (libm::sin(angle) * *magnitude) as f32;
            }
        });
    }

    /// Returns cosines and sines of the position at a place in the call.
    pub(crate) fn row(&self, idx: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        self.rows[idx * 2 * half..(idx + 1) * 2 * half].split_at(half)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::{Cpu, Isa};

    use super::*;

    const YARN: Yarn = Yarn {
        factor: 4.0,
        n_ctx_orig: 32_768,
        beta_fast: 32.0,
        beta_slow: 1.0,
        ext_factor: 1.0,
        attn_factor: 1.0,
        log_multiplier: 0.0,
    };

    fn config(scaling: RopeScaling) -> RopeConfig {
        RopeConfig {
            freq_base: 1e6,
            scaling,
        }
    }

    #[test]
    fn plain_frequencies_fall_geometrically() {
        let (frequencies, magnitude) = config(RopeScaling::None).frequencies(128);
        assert_eq!(
            (frequencies.len(), frequencies[0], magnitude),
            (64, 1.0, 1.0)
        );
        assert!((frequencies[32] - 1e-3).abs() < 1e-18);
    }

    #[test]
    fn linear_scaling_divides_all() {
        let scaling = RopeScaling::Linear {
            factor: 2.0,
            attn_factor: 1.0,
        };
        let (frequencies, _) = config(scaling).frequencies(64);
        let (plain, _) = config(RopeScaling::None).frequencies(64);
        assert!(
            frequencies
                .iter()
                .zip(&plain)
                .all(|(scaled, plain)| *scaled == plain / 2.0)
        );
    }

    /// Expected bits were computed with 200 binary digits and rounded once.
    #[test]
    fn tables_have_the_same_bits_everywhere() {
        struct Case {
            position: usize,
            pair: usize,
            head_dim: usize,
            freq_base: f32,
            cos: u32,
            sin: u32,
        }
        let case = |position, pair, head_dim, freq_base, cos, sin| Case {
            position,
            pair,
            head_dim,
            freq_base,
            cos,
            sin,
        };
        let cases = [
            case(1000, 7, 128, 1e6, 0x3f39_3807, 0x3f30_b855),
            case(262_143, 0, 128, 1e7, 0xbf1b_f202, 0x3f4b_0513),
            case(4095, 31, 64, 1e6, 0x3f7f_feb2, 0x3bce_a234),
            case(40_959, 20, 128, 1e6, 0x3f67_9b9e, 0xbeda_1e07),
        ];
        let cpu = Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap();
        for case in cases {
            let scaling = RopeScaling::None;
            let config = RopeConfig {
                freq_base: case.freq_base,
                scaling,
            };
            let mut table = RopeTable::new(&config, case.head_dim);
            cpu.enter(|team| table.fill(team, 2, |idx| case.position - 1 + idx));
            let (cos, sin) = table.row(1);
            let bits = (cos[case.pair].to_bits(), sin[case.pair].to_bits());
            assert_eq!(bits, (case.cos, case.sin), "position {}", case.position);
        }
    }

    /// Borders by hand, for D = 128, base 1e6 and 32,768 positions: the pair that turns 32
    /// times is 128·ln(32768/(64π))/(2·ln 1e6) = 23.59, the one that turns once 39.65.
    #[test]
    fn yarn_keeps_fast_pairs_divides_slow_ones_and_blends_between() {
        let (stretched, magnitude) = config(RopeScaling::Yarn(YARN)).frequencies(128);
        let (plain, _) = config(RopeScaling::None).frequencies(128);
        let ratio = |i: usize| stretched[i] / plain[i];
        for i in 0..=23 {
            assert!((ratio(i) - 1.0).abs() < 1e-15, "pair {i}");
        }
        for i in 40..64 {
            assert!((ratio(i) - 0.25).abs() < 1e-15, "pair {i}");
        }
        let middle = 1.0 - (31.0 - 23.0) / (40.0 - 23.0);
        assert!((ratio(31) - (middle + (1.0 - middle) / 4.0)).abs() < 1e-15);
        assert!((magnitude - (1.0 + 0.1 * 4.0f64.ln())).abs() < 1e-15);
    }

    #[test]
    fn yarn_magnitude_takes_all_its_factors() {
        let scaled = Yarn {
            attn_factor: 2.0,
            ..YARN
        };
        assert!((scaled.magnitude() - 2.0 * YARN.magnitude()).abs() < 1e-15);
        assert_eq!(
            Yarn {
                log_multiplier: 1.0,
                ..YARN
            }
            .magnitude(),
            1.0
        );
        assert_eq!(
            Yarn {
                factor: 0.5,
                ..YARN
            }
            .magnitude(),
            1.0
        );
        assert_eq!(
            Yarn {
                ext_factor: 0.0,
                ..YARN
            }
            .magnitude(),
            1.0
        );
    }
}
