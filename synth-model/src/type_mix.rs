//! Which type each matrix has.
//!
//! The named mixes place types as llama.cpp's quantizer does without an importance matrix
//! (`llama_tensor_get_type` in `llama-quant.cpp`), so a file has the bytes per token of one
//! that people download. One exception of theirs is left out: models with exactly eight
//! experts get wider attention matrices there, made for one model of another architecture.
//! Norms and router are F32 everywhere.

use std::{fmt, str::FromStr};

use quant_kernels::QuantType;

use crate::{Geometry, SynthError};

/// A rule that gives each matrix its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the field writes Q4_K_M")]
#[non_exhaustive]
pub enum TypeMix {
    /// One type for all matrices.
    Pure(QuantType),
    /// `Q4_0`, the output `Q6_K`.
    Q4_0,
    /// `Q4_K`; `Q6_K` for the output and, in half of the layers, for `attn_v` and
    /// `ffn_down_exps`.
    Q4_K_M,
    /// `Q5_K`, with `Q6_K` where [`TypeMix::Q4_K_M`] has it.
    Q5_K_M,
    /// `IQ4_XS`; the output `Q6_K`; `Q5_K` for `attn_v` where at least four query heads share
    /// one, and for the first eighth of `ffn_down_exps`.
    IQ4_XS,
    /// MXFP4 for the experts, `Q8_0` for the rest.
    MXFP4,
    /// Another type for each matrix, taking turns through all of them.
    Mixed,
}

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    TokenEmbd,
    AttnQ,
    AttnK,
    AttnV,
    AttnOutput,
    FfnGate,
    FfnUp,
    FfnDown,
    Output,
}

const NAMED: [(&str, TypeMix); 11] = [
    ("f32", TypeMix::Pure(QuantType::F32)),
    ("f16", TypeMix::Pure(QuantType::F16)),
    ("bf16", TypeMix::Pure(QuantType::BF16)),
    ("q8_0", TypeMix::Pure(QuantType::Q8_0)),
    ("q6_k", TypeMix::Pure(QuantType::Q6_K)),
    ("q5_k_m", TypeMix::Q5_K_M),
    ("q4_k_m", TypeMix::Q4_K_M),
    ("q4_0", TypeMix::Q4_0),
    ("iq4_xs", TypeMix::IQ4_XS),
    ("mxfp4", TypeMix::MXFP4),
    ("mixed", TypeMix::Mixed),
];

impl TypeMix {
    /// Returns the mixes that have a name of their own, `Mixed` last.
    pub fn named() -> impl ExactSizeIterator<Item = Self> {
        NAMED.into_iter().map(|(_, mix)| mix)
    }

    /// Returns the type of a matrix: the `ordinal`-th of the file, in `layer` if it is in one.
    pub(crate) fn type_of(
        self,
        role: Role,
        layer: u32,
        ordinal: usize,
        geometry: &Geometry,
    ) -> QuantType {
        let is_output = role == Role::Output || (geometry.tied && role == Role::TokenEmbd);
        let gains_bits =
            matches!(role, Role::AttnV | Role::FfnDown) && more_bits(layer, geometry.n_layer);
        match self {
            Self::Pure(ty) => ty,
            Self::Mixed => QuantType::ALL[ordinal % QuantType::ALL.len()],
            Self::MXFP4 => match role {
                Role::FfnGate | Role::FfnUp | Role::FfnDown => QuantType::MXFP4,
                _ => QuantType::Q8_0,
            },
            Self::Q4_0 | Self::Q4_K_M | Self::Q5_K_M | Self::IQ4_XS if is_output => QuantType::Q6_K,
            Self::Q4_0 => QuantType::Q4_0,
            Self::Q4_K_M | Self::Q5_K_M if gains_bits => QuantType::Q6_K,
            Self::Q4_K_M => QuantType::Q4_K,
            Self::Q5_K_M => QuantType::Q5_K,
            Self::IQ4_XS => match role {
                Role::AttnV if geometry.n_head / geometry.n_head_kv >= 4 => QuantType::Q5_K,
                Role::FfnDown if layer < geometry.n_layer / 8 => QuantType::Q5_K,
                _ => QuantType::IQ4_XS,
            },
        }
    }

    /// Returns llama.cpp's number for the mix (`llama_ftype`), if it has one.
    pub(crate) fn file_type(self) -> Option<u32> {
        let ty = match self {
            Self::Pure(ty) => ty,
            Self::Q4_0 => QuantType::Q4_0,
            Self::IQ4_XS => QuantType::IQ4_XS,
            Self::MXFP4 => QuantType::MXFP4,
            Self::Q4_K_M => return Some(15),
            Self::Q5_K_M => return Some(17),
            Self::Mixed => return None,
        };
        Some(match ty {
            QuantType::F32 => 0,
            QuantType::F16 => 1,
            QuantType::Q4_0 => 2,
            QuantType::Q4_1 => 3,
            QuantType::Q8_0 => 7,
            QuantType::Q5_0 => 8,
            QuantType::Q5_1 => 9,
            QuantType::Q2_K => 10,
            QuantType::Q3_K => 11,
            QuantType::Q4_K => 14,
            QuantType::Q5_K => 16,
            QuantType::Q6_K => 18,
            QuantType::IQ2_XXS => 19,
            QuantType::IQ2_XS => 20,
            QuantType::IQ3_XXS => 23,
            QuantType::IQ1_S => 24,
            QuantType::IQ4_NL => 25,
            QuantType::IQ3_S => 26,
            QuantType::IQ2_S => 28,
            QuantType::IQ4_XS => 30,
            QuantType::IQ1_M => 31,
            QuantType::BF16 => 32,
            QuantType::MXFP4 => 38,
            _ => return None,
        })
    }
}

/// The layers in which llama.cpp's `_M` mixes spend more bits: the first and last eighth, and
/// every third between.
fn more_bits(layer: u32, n_layer: u32) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

impl fmt::Display for TypeMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (NAMED.iter().find(|(_, mix)| mix == self), self) {
            (Some((name, _)), _) => f.pad(name),
            (None, Self::Pure(ty)) => f.pad(&format!("pure-{}", ty.name().to_lowercase())),
            (None, other) => write!(f, "{other:?}"),
        }
    }
}

impl FromStr for TypeMix {
    type Err = SynthError;

    /// Reads a name such as `q4_k_m`, or `pure-` and the name of a type.
    fn from_str(name: &str) -> Result<Self, SynthError> {
        let lower = name.to_ascii_lowercase();
        if let Some((_, mix)) = NAMED.iter().find(|(known, _)| *known == lower) {
            return Ok(*mix);
        }
        let ty = lower.strip_prefix("pure-").and_then(|ty| ty.parse().ok());
        ty.map(Self::Pure).ok_or_else(|| SynthError::UnknownMix {
            name: name.escape_default().to_string(),
            expected: NAMED.map(|(known, _)| known).join(", "),
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
        for unknown in ["q4_k", "pure-", "pure-q9", "iq2_xs"] {
            assert!(unknown.parse::<TypeMix>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn half_of_48_layers_gain_bits() {
        let layers: Vec<u32> = (0..48).filter(|&layer| more_bits(layer, 48)).collect();
        let between: Vec<u32> = (8..42).step_by(3).collect();
        let expected = [&[0, 1, 2, 3, 4, 5], &between[..], &[42, 43, 44, 45, 46, 47]].concat();
        assert_eq!(layers, expected);
        assert_eq!(layers.len(), 24);
    }

    #[test]
    fn mixes_place_types_as_llama_cpp_does() {
        use QuantType::{IQ4_XS, MXFP4, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0};
        struct Case(TypeMix, Role, u32, QuantType);
        let cases = [
            Case(TypeMix::Q4_K_M, Role::TokenEmbd, 0, Q4_K),
            Case(TypeMix::Q4_K_M, Role::Output, 0, Q6_K),
            Case(TypeMix::Q4_K_M, Role::AttnV, 5, Q6_K),
            Case(TypeMix::Q4_K_M, Role::AttnV, 6, Q4_K),
            Case(TypeMix::Q4_K_M, Role::FfnDown, 8, Q6_K),
            Case(TypeMix::Q4_K_M, Role::FfnGate, 0, Q4_K),
            Case(TypeMix::Q5_K_M, Role::FfnDown, 47, Q6_K),
            Case(TypeMix::Q5_K_M, Role::AttnK, 47, Q5_K),
            Case(TypeMix::Q4_0, Role::Output, 0, Q6_K),
            Case(TypeMix::Q4_0, Role::FfnDown, 0, Q4_0),
            Case(TypeMix::IQ4_XS, Role::AttnV, 30, Q5_K),
            Case(TypeMix::IQ4_XS, Role::FfnDown, 5, Q5_K),
            Case(TypeMix::IQ4_XS, Role::FfnDown, 6, IQ4_XS),
            Case(TypeMix::MXFP4, Role::FfnUp, 0, MXFP4),
            Case(TypeMix::MXFP4, Role::Output, 0, Q8_0),
        ];
        for Case(mix, role, layer, expected) in cases {
            let found = mix.type_of(role, layer, 0, &Geometry::QWEN3_30B_A3B);
            assert_eq!(found, expected, "{mix}: {role:?} of layer {layer}");
        }
        let tied = Geometry {
            tied: true,
            ..Geometry::TINY
        };
        assert_eq!(TypeMix::Q4_K_M.type_of(Role::TokenEmbd, 0, 0, &tied), Q6_K);
    }
}
