//! Which type each matrix has.
//!
//! The named mixes are those of the crate `type-mix`, placed as llama.cpp places them, so a
//! file has the bytes per token of one that people download. One exception of llama.cpp's is
//! left out, the wider attention matrices of models with exactly eight experts: it was made
//! for one model of another architecture, and here small shapes stand for large ones. Norms
//! and router are F32 everywhere.

use std::{fmt, str::FromStr};

use quant_kernels::QuantType;
use type_mix::{Facts, Mix, Place};

use crate::{Geometry, SynthError};

/// A rule that gives each matrix its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeMix {
    /// A mix that people know by name.
    Named(Mix),
    /// One type for all matrices.
    Pure(QuantType),
    /// Another type for each matrix, taking turns through all of them.
    Mixed,
}

impl TypeMix {
    /// `Q4_0`, the output `Q6_K`.
    pub const Q4_0: Self = Self::Named(Mix::Q4_0);
    /// `Q4_K`, some matrices `Q6_K`.
    pub const Q4_K_M: Self = Self::Named(Mix::Q4_K_M);
    /// `IQ4_XS`, few matrices `Q5_K`.
    pub const IQ4_XS: Self = Self::Named(Mix::IQ4_XS);

    /// Returns the mixes that have a name of their own, `Mixed` last.
    pub fn named() -> impl ExactSizeIterator<Item = Self> {
        let all = 0..Mix::ALL.len() + 1;
        all.map(|idx| {
            Mix::ALL
                .get(idx)
                .map_or(Self::Mixed, |&mix| Self::Named(mix))
        })
    }

    /// Returns the type of a matrix: the `ordinal`-th of the file, at a place of the model.
    pub(crate) fn type_of(self, place: Place, ordinal: usize, geometry: &Geometry) -> QuantType {
        let facts = Facts {
            n_layer: geometry.n_layer,
            n_head_per_kv: geometry.n_head / geometry.n_head_kv,
            tied: geometry.tied,
            ..Facts::default()
        };
        match self {
            Self::Named(mix) => mix.type_of(place, &facts),
            Self::Pure(ty) => ty,
            Self::Mixed => QuantType::ALL[ordinal % QuantType::ALL.len()],
        }
    }

    /// Returns llama.cpp's number for the mix (`llama_ftype`), if it has one.
    pub(crate) fn file_type(self) -> Option<u32> {
        match self {
            Self::Named(mix) => Some(mix.file_type()),
            Self::Pure(_) | Self::Mixed => None,
        }
    }
}

impl fmt::Display for TypeMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(mix) => f.pad(&mix.name().to_lowercase()),
            Self::Pure(ty) => f.pad(&format!("pure-{}", ty.name().to_lowercase())),
            Self::Mixed => f.pad("mixed"),
        }
    }
}

impl FromStr for TypeMix {
    type Err = SynthError;

    /// Reads a name such as `q4_k_m`, `mixed`, or `pure-` and the name of a type.
    fn from_str(name: &str) -> Result<Self, SynthError> {
        let lower = name.to_ascii_lowercase();
        if lower == "mixed" {
            return Ok(Self::Mixed);
        }
        if let Some(Ok(ty)) = lower.strip_prefix("pure-").map(str::parse) {
            return Ok(Self::Pure(ty));
        }
        lower.parse().map(Self::Named).map_err(|_| {
            let named: Vec<String> = Self::named().map(|mix| mix.to_string()).collect();
            SynthError::UnknownMix {
                name: name.escape_default().to_string(),
                expected: named.join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let pure = QuantType::ALL.into_iter().map(TypeMix::Pure);
        for mix in TypeMix::named().chain(pure) {
            assert_eq!(mix.to_string().parse::<TypeMix>().unwrap(), mix, "{mix}");
        }
        assert_eq!("Q4_K_M".parse::<TypeMix>().unwrap(), TypeMix::Q4_K_M);
        for unknown in ["", "pure-", "pure-q9", "iq2_xs"] {
            assert!(unknown.parse::<TypeMix>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn the_geometry_decides_where_a_mix_has_more_bits() {
        let type_of = |name, geometry| TypeMix::Q4_K_M.type_of(Place::of(name), 0, &geometry);
        let large = Geometry::QWEN3_30B_A3B;
        let tied = Geometry {
            tied: true,
            ..large
        };
        assert_eq!(type_of("blk.5.attn_v.weight", large), QuantType::Q6_K);
        assert_eq!(type_of("blk.6.attn_v.weight", large), QuantType::Q4_K);
        assert_eq!(type_of("token_embd.weight", large), QuantType::Q4_K);
        assert_eq!(type_of("token_embd.weight", tied), QuantType::Q6_K);
        assert_eq!(
            type_of("blk.1.attn_k.weight", Geometry::TINY),
            QuantType::Q4_K
        );
    }
}
