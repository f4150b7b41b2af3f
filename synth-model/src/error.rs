//! What can be wrong with a request for a model.

use gguf_format::GgufError;
use quant_kernels::KernelError;
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A field of the geometry cannot be.
    #[error("geometry: `{field}` is {found}, expected {expected}")]
    Geometry {
        /// Name of the field.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: u32,
    },
    /// No preset has this name.
    #[error("unknown preset `{name}`, expected one of {expected}")]
    UnknownPreset {
        /// The name, escaped.
        name: String,
        /// All names.
        expected: String,
    },
    /// No mix of types has this name.
    #[error("unknown mix of types `{name}`, expected one of {expected}, or pure-TYPE")]
    UnknownMix {
        /// The name, escaped.
        name: String,
        /// All names.
        expected: String,
    },
    /// The vocabulary cannot have this size.
    #[error("vocabulary of {found} tokens, expected {expected}")]
    VocabSize {
        /// The tokens asked for, or found in the file.
        found: usize,
        /// What would do.
        expected: String,
    },
    /// The vocabulary's lists differ in length.
    #[error("`{key}` has {found} entries, but there are {expected} tokens")]
    VocabLists {
        /// Key of the list.
        key: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Length of the list.
        found: usize,
    },
    /// Reading a vocabulary or writing the model failed.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Weights could not be quantized.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
