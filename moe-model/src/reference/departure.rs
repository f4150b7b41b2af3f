//! Mistakes that implementations of the architecture make, for the reference to make on purpose.
//!
//! A fast path that disagrees with the reference but agrees with one that departs from the
//! architecture in a known way has that mistake, and can be told so by name.

use std::fmt;

/// One way not to be a Qwen3-MoE.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Departure {
    /// Query heads are not normed.
    NoQueryNorm,
    /// Key heads are not normed.
    NoKeyNorm,
    /// Neither are normed.
    NoHeadNorms,
    /// Rotation turns `(x[2i], x[2i + 1])` instead of `(x[i], x[i + D/2])`.
    NeighbourPairs,
    /// Rotation has this base of frequencies.
    FreqBase(f32),
    /// Nothing is rotated.
    NoRotation,
    /// Positions are counted from one. Only distances matter to attention, so this shows
    /// where queries alone are moved: queries look back from one position later.
    QueriesOneLater,
    /// Scores of attention are not divided by `√D`.
    UnscaledScores,
    /// Query head `h` shares the key and value head `h mod K` instead of `h / (H / K)`.
    InterleavedHeads,
    /// Tokens see those that come after them.
    NotCausal,
    /// The probabilities of the chosen experts are not divided by their sum.
    NotRenormalised,
    /// The up projection goes through the gate's `silu`.
    GateAndUpSwapped,
}

impl Departure {
    /// Those that change what attention gives, before its output product.
    pub const OF_ATTENTION: [Self; 13] = [
        Self::NoQueryNorm,
        Self::NoKeyNorm,
        Self::NoHeadNorms,
        Self::NeighbourPairs,
        Self::FreqBase(1e4),
        Self::FreqBase(5e5),
        Self::FreqBase(1e6),
        Self::FreqBase(1e7),
        Self::NoRotation,
        Self::QueriesOneLater,
        Self::UnscaledScores,
        Self::InterleavedHeads,
        Self::NotCausal,
    ];
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoQueryNorm => "query heads are not normed (Q norm)",
            Self::NoKeyNorm => "key heads are not normed (K norm)",
            Self::NoHeadNorms => "query and key heads are not normed (Q/K norm)",
            Self::NeighbourPairs => "RoPE turns pairs of neighbours instead of halves (pairing)",
            Self::FreqBase(base) => return write!(f, "the RoPE base is {base}"),
            Self::NoRotation => "nothing is rotated (RoPE)",
            Self::QueriesOneLater => "queries are rotated as if one position later (RoPE)",
            Self::UnscaledScores => "scores of attention are not divided by √D (scale)",
            Self::InterleavedHeads => "query heads share key heads in turn instead of in groups",
            Self::NotCausal => "tokens see those that come after them (causal mask)",
            Self::NotRenormalised => {
                "probabilities of the chosen experts are not divided by their sum \
                 (router normalisation)"
            }
            Self::GateAndUpSwapped => "gate and up have changed places",
        })
    }
}
