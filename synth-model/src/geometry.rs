//! The shape of a model, and the shapes of well-known ones.

use crate::SynthError;

/// The most layers, heads or experts. With [`MAX_WIDTH`] it keeps every size within 64 bits.
const MAX_COUNT: u32 = 512;

/// The most weights in a row, tokens in the vocabulary, or positions.
const MAX_WIDTH: u32 = 1 << 20;

/// The shape of a Qwen3-MoE model. Each field is the metadata value of the same meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Experts per layer.
    pub n_expert: u32,
    /// Experts per token.
    pub n_expert_used: u32,
    /// Width of an expert.
    pub n_ff_exp: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Context that the model is said to be trained for.
    pub n_ctx: u32,
    /// Base of the rotary embedding.
    pub rope_freq_base: f32,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

impl Geometry {
    /// For unit tests: a few megabytes, every tensor with rows of one or two blocks of 256.
    pub const TINY: Self = Self {
        n_layer: 2,
        n_embd: 256,
        n_head: 4,
        n_head_kv: 2,
        head_dim: 64,
        n_expert: 8,
        n_expert_used: 2,
        n_ff_exp: 256,
        n_vocab: 512,
        n_ctx: 2048,
        rope_freq_base: 1e6,
        tied: false,
    };

    /// For longer tests: 30 matrices, so that [`TypeMix::Mixed`](crate::TypeMix::Mixed) has
    /// room for all types.
    pub const SMALL: Self = Self {
        n_layer: 4,
        n_embd: 512,
        n_head: 8,
        n_head_kv: 2,
        head_dim: 64,
        n_expert: 32,
        n_expert_used: 4,
        n_ff_exp: 256,
        n_vocab: 4096,
        n_ctx: 4096,
        rope_freq_base: 1e6,
        tied: false,
    };

    /// Qwen3-30B-A3B: 30.5 billion weights, 3.3 billion of them for each token.
    pub const QWEN3_30B_A3B: Self = Self {
        n_layer: 48,
        n_embd: 2048,
        n_head: 32,
        n_head_kv: 4,
        head_dim: 128,
        n_expert: 128,
        n_expert_used: 8,
        n_ff_exp: 768,
        n_vocab: 151_936,
        n_ctx: 40_960,
        rope_freq_base: 1e6,
        tied: false,
    };

    /// Qwen3-235B-A22B: 235 billion weights, 22 billion of them for each token.
    pub const QWEN3_235B_A22B: Self = Self {
        n_layer: 94,
        n_embd: 4096,
        n_head: 64,
        n_ff_exp: 1536,
        ..Self::QWEN3_30B_A3B
    };

    /// The presets and their names.
    pub const PRESETS: [(&'static str, Self); 4] = [
        ("tiny", Self::TINY),
        ("small", Self::SMALL),
        ("qwen3-30b-a3b", Self::QWEN3_30B_A3B),
        ("qwen3-235b-a22b", Self::QWEN3_235B_A22B),
    ];

    /// Returns the preset of a name.
    ///
    /// # Errors
    /// [`SynthError::UnknownPreset`] if there is none.
    pub fn preset(name: &str) -> Result<Self, SynthError> {
        let found = Self::PRESETS.into_iter().find(|(known, _)| *known == name);
        let (_, geometry) = found.ok_or_else(|| SynthError::UnknownPreset {
            name: name.escape_default().to_string(),
            expected: Self::PRESETS.map(|(known, _)| known).join(", "),
        })?;
        Ok(geometry)
    }

    /// Checks what no file could express and no engine could run. That rows are whole blocks
    /// of their type is checked when the tensors are announced.
    pub(crate) fn check(&self) -> Result<(), SynthError> {
        let counts = [
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_head_kv", self.n_head_kv),
            ("head_dim", self.head_dim),
            ("n_expert", self.n_expert),
            ("n_expert_used", self.n_expert_used),
        ];
        let widths = [
            ("n_embd", self.n_embd),
            ("n_ff_exp", self.n_ff_exp),
            ("n_vocab", self.n_vocab),
            ("n_ctx", self.n_ctx),
        ];
        for (fields, max) in [(&counts[..], MAX_COUNT), (&widths[..], MAX_WIDTH)] {
            for &(field, found) in fields {
                require(field, found, (1..=max).contains(&found), || {
                    format!("1 to {max}")
                })?;
            }
        }
        let used = self.n_expert_used;
        require("n_expert_used", used, used <= self.n_expert, || {
            format!("at most `n_expert` = {}", self.n_expert)
        })?;
        let heads = self.n_head;
        require(
            "n_head",
            heads,
            heads.is_multiple_of(self.n_head_kv),
            || format!("a multiple of `n_head_kv` = {}", self.n_head_kv),
        )?;
        let width = self.head_dim;
        require("head_dim", width, width.is_multiple_of(2), || {
            "an even number".to_owned()
        })
    }
}

fn require(
    field: &'static str,
    found: u32,
    holds: bool,
    expected: impl FnOnce() -> String,
) -> Result<(), SynthError> {
    if holds {
        return Ok(());
    }
    Err(SynthError::Geometry {
        field,
        expected: expected(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_are_valid() {
        for (name, geometry) in Geometry::PRESETS {
            assert_eq!(Geometry::preset(name).unwrap(), geometry);
            geometry.check().unwrap();
        }
        let error = Geometry::preset("huge\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown preset `huge\\n`, expected one of tiny, small, qwen3-30b-a3b, \
             qwen3-235b-a22b"
        );
    }

    #[test]
    fn the_largest_shape_does_not_overflow() {
        let largest = Geometry {
            n_layer: MAX_COUNT,
            n_embd: MAX_WIDTH,
            n_head: MAX_COUNT,
            n_head_kv: MAX_COUNT,
            head_dim: MAX_COUNT,
            n_expert: MAX_COUNT,
            n_expert_used: MAX_COUNT,
            n_ff_exp: MAX_WIDTH,
            n_vocab: MAX_WIDTH,
            n_ctx: MAX_WIDTH,
            rope_freq_base: 1e6,
            tied: false,
        };
        let model = crate::SynthModel {
            geometry: largest,
            mix: "f32".parse().unwrap(),
            vocab: crate::Vocab::ByteLevel,
            seed: 1,
        };
        assert!(model.tensor_bytes().unwrap() > 1 << 61);
    }

    #[test]
    fn impossible_shapes_name_their_field() {
        struct Case {
            field: &'static str,
            geometry: Geometry,
        }
        let tiny = Geometry::TINY;
        let cases = [
            Case {
                field: "n_layer",
                geometry: Geometry { n_layer: 0, ..tiny },
            },
            Case {
                field: "n_expert_used",
                geometry: Geometry {
                    n_expert_used: 9,
                    ..tiny
                },
            },
            Case {
                field: "n_head",
                geometry: Geometry {
                    n_head_kv: 3,
                    ..tiny
                },
            },
            Case {
                field: "head_dim",
                geometry: Geometry {
                    head_dim: 63,
                    ..tiny
                },
            },
            Case {
                field: "n_vocab",
                geometry: Geometry {
                    n_vocab: u32::MAX,
                    ..tiny
                },
            },
        ];
        for case in cases {
            match case.geometry.check() {
                Err(SynthError::Geometry { field, .. }) => assert_eq!(field, case.field),
                other => panic!("{}: {other:?}", case.field),
            }
        }
    }
}
