//! Which type a matrix gets: the rules of llama.cpp's quantizer (`llama_tensor_get_type_impl`
//! and `tensor_type_fallback` in `src/llama-quant.cpp`) for the architecture `qwen3moe`.
//!
//! What decides is the role of the matrix, in some roles the layer, and what the model is
//! like. The values of attention and the down projections are what quantization harms most,
//! so these get more bits first.

use quant_kernels::QuantType;

use crate::{Mix, Place, Role};

/// What the rules ask of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Layers.
    pub n_layer: u32,
    /// Query heads that share a key and value head.
    pub n_head_per_kv: u32,
    /// Experts of a layer.
    pub n_expert: u32,
    /// Whether the embedding is the output too.
    pub tied: bool,
    /// Whether an importance matrix says which columns matter.
    pub has_importance: bool,
}

/// How many query heads must share a value head for its small matrix to be worth more bits.
const MANY_SHARE: u32 = 4;

impl Mix {
    /// Returns the type of the matrix at a place. Whether its rows are whole blocks is another
    /// question: see [`fitting_type`].
    #[must_use]
    pub fn type_of(self, place: Place, facts: &Facts) -> QuantType {
        let Place { role, layer } = place;
        let is_output = role == Role::Output || (facts.tied && role == Role::TokenEmbd);
        // The exception for eight experts was made for one model of another architecture;
        // llama.cpp goes by the number alone.
        let of_eight = facts.n_expert == 8;
        match (self, role) {
            (Self::F32 | Self::F16 | Self::BF16 | Self::Q8_0, _) => self.base(),
            (Self::MXFP4_MOE, Role::FfnGate | Role::FfnUp | Role::FfnDown) => self.base(),
            (Self::MXFP4_MOE, _) => QuantType::Q8_0,
            _ if is_output => QuantType::Q6_K,
            (_, Role::AttnV | Role::AttnK) if of_eight => QuantType::Q8_0,
            (_, Role::AttnV) => self.attn_v(layer, facts),
            (_, Role::AttnOutput) if of_eight => self.attn_output_of_eight(),
            (_, Role::AttnOutput) => self.attn_output(),
            (_, Role::FfnDown) => self.ffn_down(layer, facts),
            _ => self.base(),
        }
    }

    fn attn_v(self, layer: u32, facts: &Facts) -> QuantType {
        let many_share = facts.n_head_per_kv >= MANY_SHARE;
        match self {
            Self::Q2_K if many_share => QuantType::Q4_K,
            Self::Q2_K => QuantType::Q3_K,
            Self::Q3_K_M if layer < 2 => QuantType::Q5_K,
            Self::Q3_K_M => QuantType::Q4_K,
            Self::Q3_K_L => QuantType::Q5_K,
            Self::IQ4_NL | Self::IQ4_XS if many_share => QuantType::Q5_K,
            Self::Q4_K_S if layer < 4 => QuantType::Q5_K,
            Self::Q4_K_M | Self::Q5_K_M if gains_bits(layer, facts.n_layer) => QuantType::Q6_K,
            _ => self.base(),
        }
    }

    const fn attn_output(self) -> QuantType {
        match self {
            Self::Q2_K => QuantType::Q3_K,
            Self::Q3_K_M => QuantType::Q4_K,
            Self::Q3_K_L => QuantType::Q5_K,
            _ => self.base(),
        }
    }

    const fn attn_output_of_eight(self) -> QuantType {
        match self {
            Self::Q2_K
            | Self::Q3_K_S
            | Self::Q3_K_M
            | Self::Q4_K_S
            | Self::Q4_K_M
            | Self::IQ4_NL
            | Self::IQ4_XS => QuantType::Q5_K,
            _ => self.base(),
        }
    }

    fn ffn_down(self, layer: u32, facts: &Facts) -> QuantType {
        let Facts {
            n_layer,
            has_importance,
            ..
        } = *facts;
        let is_early = layer < n_layer / 8;
        match self {
            Self::Q2_K => QuantType::Q3_K,
            Self::Q3_K_M if layer < n_layer / 16 => QuantType::Q5_K,
            Self::Q3_K_M => QuantType::Q4_K,
            Self::Q3_K_L => QuantType::Q5_K,
            Self::Q4_K_M | Self::Q5_K_M if gains_bits(layer, n_layer) => QuantType::Q6_K,
            Self::Q4_K_S if is_early => QuantType::Q5_K,
            Self::IQ4_NL | Self::IQ4_XS if is_early && !has_importance => QuantType::Q5_K,
            Self::Q4_0 if is_early && has_importance => QuantType::Q4_1,
            Self::Q5_0 if is_early && has_importance => QuantType::Q5_1,
            _ => self.base(),
        }
    }
}

/// The layers in which the `_M` mixes spend more bits: the first and last eighth, and every
/// third between.
const fn gains_bits(layer: u32, n_layer: u32) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

/// Returns the type to use where rows of `n_cols` weights are to be `ty`: that type if they
/// are whole blocks of it, else a type of shorter blocks and no fewer bits, else F16.
#[must_use]
pub const fn fitting_type(ty: QuantType, n_cols: u64) -> QuantType {
    use QuantType::{F16, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    const fn fits(ty: QuantType, n_cols: u64) -> bool {
        n_cols.is_multiple_of(ty.block_len() as u64)
    }
    if fits(ty, n_cols) {
        return ty;
    }
    let shorter = match ty {
        Q2_K | Q3_K => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        IQ4_XS => IQ4_NL,
        other => other,
    };
    if fits(shorter, n_cols) { shorter } else { F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN3_30B: Facts = Facts {
        n_layer: 48,
        n_head_per_kv: 8,
        n_expert: 128,
        tied: false,
        has_importance: false,
    };

    #[test]
    fn half_of_48_layers_gain_bits() {
        let layers: Vec<u32> = (0..48).filter(|&layer| gains_bits(layer, 48)).collect();
        let between: Vec<u32> = (8..42).step_by(3).collect();
        let expected = [&[0, 1, 2, 3, 4, 5], &between[..], &[42, 43, 44, 45, 46, 47]].concat();
        assert_eq!(layers, expected);
        assert_eq!(layers.len(), 24);
    }

    #[test]
    fn types_are_placed_as_llama_cpp_places_them() {
        use QuantType::{IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0};
        let cases = [
            (Mix::Q4_K_M, Role::TokenEmbd, 0, Q4_K),
            (Mix::Q4_K_M, Role::Output, 0, Q6_K),
            (Mix::Q4_K_M, Role::AttnV, 5, Q6_K),
            (Mix::Q4_K_M, Role::AttnV, 6, Q4_K),
            (Mix::Q4_K_M, Role::FfnDown, 8, Q6_K),
            (Mix::Q4_K_M, Role::FfnGate, 0, Q4_K),
            (Mix::Q4_K_S, Role::AttnV, 3, Q5_K),
            (Mix::Q4_K_S, Role::AttnV, 4, Q4_K),
            (Mix::Q4_K_S, Role::FfnDown, 5, Q5_K),
            (Mix::Q4_K_S, Role::FfnDown, 6, Q4_K),
            (Mix::Q5_K_M, Role::FfnDown, 47, Q6_K),
            (Mix::Q5_K_M, Role::AttnK, 47, Q5_K),
            (Mix::Q5_K_S, Role::AttnV, 0, Q5_K),
            (Mix::Q4_0, Role::Output, 0, Q6_K),
            (Mix::Q4_0, Role::FfnDown, 0, Q4_0),
            (Mix::Q8_0, Role::Output, 0, Q8_0),
            (Mix::Q3_K_S, Role::FfnDown, 0, Q3_K),
            (Mix::Q3_K_M, Role::FfnDown, 2, Q5_K),
            (Mix::Q3_K_M, Role::FfnDown, 3, Q4_K),
            (Mix::Q3_K_M, Role::AttnV, 1, Q5_K),
            (Mix::Q3_K_M, Role::AttnOutput, 1, Q4_K),
            (Mix::Q3_K_L, Role::AttnOutput, 30, Q5_K),
            (Mix::Q2_K, Role::AttnV, 30, Q4_K),
            (Mix::Q2_K, Role::AttnOutput, 30, Q3_K),
            (Mix::Q2_K, Role::FfnDown, 30, Q3_K),
            (Mix::Q2_K, Role::FfnUp, 30, Q2_K),
            (Mix::IQ4_XS, Role::AttnV, 30, Q5_K),
            (Mix::IQ4_XS, Role::FfnDown, 5, Q5_K),
            (Mix::IQ4_XS, Role::FfnDown, 6, IQ4_XS),
            (Mix::IQ4_NL, Role::FfnUp, 0, IQ4_NL),
            (Mix::MXFP4_MOE, Role::FfnUp, 0, MXFP4),
            (Mix::MXFP4_MOE, Role::AttnV, 0, Q8_0),
            (Mix::MXFP4_MOE, Role::Output, 0, Q8_0),
        ];
        for (mix, role, layer, expected) in cases {
            let found = mix.type_of(Place { role, layer }, &QWEN3_30B);
            assert_eq!(found, expected, "{mix}: {role:?} of layer {layer}");
        }
    }

    #[test]
    fn facts_of_the_model_change_the_placement() {
        use QuantType::{IQ4_XS, Q3_K, Q4_1, Q5_K, Q6_K, Q8_0};
        let tied = Facts {
            tied: true,
            ..QWEN3_30B
        };
        let few_share = Facts {
            n_head_per_kv: 2,
            ..QWEN3_30B
        };
        let eight = Facts {
            n_expert: 8,
            ..QWEN3_30B
        };
        let weighted = Facts {
            has_importance: true,
            ..QWEN3_30B
        };
        let cases = [
            (Mix::Q4_K_M, Role::TokenEmbd, tied, Q6_K),
            (Mix::Q8_0, Role::TokenEmbd, tied, Q8_0),
            (Mix::Q2_K, Role::AttnV, few_share, Q3_K),
            (Mix::IQ4_XS, Role::AttnV, few_share, IQ4_XS),
            (Mix::Q6_K, Role::AttnK, eight, Q8_0),
            (Mix::Q4_K_S, Role::AttnOutput, eight, Q5_K),
            (Mix::Q3_K_L, Role::AttnOutput, eight, Q3_K),
            (Mix::IQ4_XS, Role::FfnDown, weighted, IQ4_XS),
            (Mix::Q4_0, Role::FfnDown, weighted, Q4_1),
        ];
        for (mix, role, facts, expected) in cases {
            let found = mix.type_of(Place { role, layer: 0 }, &facts);
            assert_eq!(found, expected, "{mix}: {role:?}, {facts:?}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_get_a_type_that_they_fit() {
        for ty in QuantType::ALL {
            assert_eq!(fitting_type(ty, 768), ty);
            let fitting = fitting_type(ty, 96);
            assert!(96 % fitting.block_len() == 0, "{ty} -> {fitting}");
            assert_eq!(fitting_type(ty, 100).block_len(), 1, "{ty}");
        }
        assert_eq!(fitting_type(QuantType::Q4_K, 96), QuantType::Q5_0);
        assert_eq!(fitting_type(QuantType::Q4_0, 100), QuantType::F16);
        assert_eq!(fitting_type(QuantType::BF16, 100), QuantType::BF16);
    }
}
