//! What can be wrong with a request, a model or a file.

use std::{io, path::PathBuf};

use generate::GenerateError;
use gguf_format::GgufError;
use moe_model::ModelError;
use quant_kernels::{KernelError, QuantType};
use thiserror::Error;
use tokenizer::TokenizerError;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The placement of types is known for other architectures only.
    #[error("architecture `{found}`, expected `{expected}`")]
    Architecture {
        /// The one that is known.
        expected: &'static str,
        /// The one of the file, escaped.
        found: String,
    },
    /// A choice of types does not read as one.
    #[error("`{text}`: {reason}")]
    TensorType {
        /// What was given, escaped.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A choice of types is for tensors that are not there.
    #[error("`{pattern}` matches none of the {n_tensors} tensors that can be quantized")]
    NothingMatches {
        /// The pattern, escaped.
        pattern: String,
        /// Tensors that it could have matched.
        n_tensors: usize,
    },
    /// Weights were quantized before.
    #[error(
        "tensor `{name}` is {from} already, and {to} would {}; take the original, or allow it \
         (--allow-requantize)",
        if to.block_len() > 1 { "lose more of it" } else { "not bring back what that has lost" }
    )]
    Requantize {
        /// Name of the tensor, escaped.
        name: String,
        /// Its type.
        from: QuantType,
        /// The type that was planned.
        to: QuantType,
    },
    /// A line is no item of an evaluation.
    #[error("line {line}: {what}")]
    EvalItem {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// An importance matrix is none, or one for another model.
    #[error("importance of `{name}`: {reason}")]
    Importance {
        /// Name of the tensor, escaped.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of importance matrices ends too soon or contradicts itself.
    #[error("{field} before byte {offset}: {reason}")]
    ImportanceFile {
        /// What was read.
        field: String,
        /// How far the file was read.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Weights cannot be read.
    #[error("tensor `{name}` is {ty}, which cannot be read")]
    NotReadable {
        /// Name of the tensor, escaped.
        name: String,
        /// Its type.
        ty: &'static str,
    },
    /// A source gave other data than its shape asks for.
    #[error("tensor `{name}`: {reason}")]
    Data {
        /// Name of the tensor, escaped.
        name: String,
        /// What was expected and found.
        reason: String,
    },
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A checkpoint has no place for something that the answer depends on.
    #[error("`{key}` is {found}: a checkpoint can only say {expected}")]
    NotSayable {
        /// The metadata key.
        key: &'static str,
        /// What a checkpoint can say.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// A checkpoint cannot have a type.
    #[error("a checkpoint can be F32, F16 or BF16, not {ty}")]
    NotFloat {
        /// The type.
        ty: QuantType,
    },
    /// A folder that is to be made has something in it already.
    #[error("{}: expected no folder or an empty one, found one with files in it", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A weight cannot be quantized.
    #[error("tensor `{name}`, row {row}, column {column} (both from 0)")]
    Weight {
        /// Name of the tensor, escaped.
        name: String,
        /// Row, counted through all experts.
        row: u64,
        /// Column in the row.
        column: u64,
        /// What is wrong.
        source: KernelError,
    },
    /// A report to compare with is none.
    #[error("no report of a verification: {reason}")]
    Report {
        /// What is wrong.
        reason: String,
    },
    /// The model cannot be read or run.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A type or a row that no quantizer writes.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Metadata of the source, or writing the result.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A model cannot be run.
    #[error(transparent)]
    Generate(Box<GenerateError>),
    /// A record of a model is none, or cannot be made.
    #[error("golden record: {reason}")]
    Golden {
        /// What is wrong.
        reason: String,
    },
    /// The system refused something.
    #[error("{path}: cannot be {action}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A picture would be too large.
    #[error("a picture of {width} × {height} pixels, expected at most {most} pixels")]
    PictureSize {
        /// Width.
        width: u64,
        /// Height.
        height: u64,
        /// The most there may be.
        most: u64,
    },
    /// A picture could not be drawn.
    #[error("the picture cannot be drawn: {reason}")]
    Picture {
        /// What is wrong.
        reason: String,
    },
    /// The threads could not be started.
    #[error("cannot start {n_threads} threads: {reason}")]
    Threads {
        /// Threads asked for.
        n_threads: usize,
        /// What the system said.
        reason: String,
    },
    /// The caller wished to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<ModelError> for ToolError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<GenerateError> for ToolError {
    fn from(error: GenerateError) -> Self {
        Self::Generate(Box::new(error))
    }
}

/// Returns a name from a file as part of a message: escaped, and not longer than a line.
pub(crate) fn quote(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted: String = name
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    quoted
}
