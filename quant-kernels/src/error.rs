//! What can be wrong with what comes from outside: shapes, names, values, threads.
//!
//! All of it is found when a view or a context is made or a row is quantized; products
//! themselves cannot fail.

use thiserror::Error;

use crate::QuantType;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A row is no whole number of blocks.
    #[error("{ty} rows are multiples of {block_len} weights, found {n_cols}")]
    RowLength {
        /// Type of the weights.
        ty: QuantType,
        /// Weights in a block.
        block_len: usize,
        /// Columns asked for.
        n_cols: usize,
    },
    /// The bytes do not match the shape.
    #[error("{ty} [{n_rows}, {n_cols}] takes {expected} bytes, found {found}")]
    MatrixSize {
        /// Type of the weights.
        ty: QuantType,
        /// Rows of the matrix.
        n_rows: usize,
        /// Columns of the matrix.
        n_cols: usize,
        /// Bytes the shape needs, as far as it can be counted.
        expected: u128,
        /// Bytes given.
        found: usize,
    },
    /// Scales lie beside weights, or are of a type, for which that is not defined.
    #[error("{ty} weights with scales of {scales}: expected F8_E4M3 with F32 or BF16")]
    Scales {
        /// Type of the weights.
        ty: QuantType,
        /// Type of the scales.
        scales: QuantType,
    },
    /// No type has this name.
    #[error("unknown weight type `{name}`")]
    UnknownType {
        /// The name, escaped.
        name: String,
    },
    /// No instruction set has this name.
    #[error("unknown instruction set `{name}`, expected scalar, avx2 or avx512")]
    UnknownIsa {
        /// The name, escaped.
        name: String,
    },
    /// The processor lacks an instruction set.
    #[error("this processor has no {name}; available: {available}")]
    IsaNotAvailable {
        /// The name asked for.
        name: &'static str,
        /// Names that can be had.
        available: String,
    },
    /// The worker threads could not be started.
    #[error("cannot start {n_threads} threads: {reason}")]
    Threads {
        /// Threads asked for.
        n_threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A type can be read but not written.
    #[error("cannot quantize to {ty}")]
    NoQuantizer {
        /// The type asked for.
        ty: QuantType,
    },
    /// A value cannot be quantized: it is infinite or NaN, or so large that it would be
    /// in the type.
    #[error("value {idx} of the row is infinite, NaN or beyond the range of the type")]
    NotFinite {
        /// Index of the first such value in the row.
        idx: usize,
    },
    /// The importance of a weight is no measure: it is negative, infinite or NaN.
    #[error("importance {idx} of the row is negative, infinite or NaN")]
    Importance {
        /// Index of the first such number in the row.
        idx: usize,
    },
    /// No cache type has this name.
    #[error("unknown cache type `{name}`, expected f32, f16, bf16 or q8_0")]
    UnknownKvType {
        /// The name, escaped.
        name: String,
    },
    /// A cache cannot hold heads of this width, or so many of them.
    #[error(
        "heads of width {head_dim} do not fit the cache: expected a multiple of 32 that can be addressed"
    )]
    HeadDim {
        /// Width of a head.
        head_dim: usize,
    },
}
