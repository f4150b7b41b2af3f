//! Everything that can be wrong with a model file, a model, or a forward pass.
//!
//! Names that come from a file are escaped and shortened before they enter an error, so a
//! message is one line of printable text whatever the file holds.

use std::{
    io,
    path::{Path, PathBuf},
};

use gguf_format::GgufError;
use quant_kernels::KernelError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// There is no such file.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// The file asked for.
        path: PathBuf,
    },
    /// The process may not read the file.
    #[error("{}: permission denied", path.display())]
    PermissionDenied {
        /// The file asked for.
        path: PathBuf,
    },
    /// The path names a folder that holds no checkpoint.
    #[error(
        "{}: expected a GGUF file or a model's folder, found a folder without config.json",
        path.display()
    )]
    IsDirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path names a pipe, a device or a socket.
    #[error("{}: expected a regular file, found a pipe, device or socket", path.display())]
    NotRegular {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to open or map the file.
    #[error("{}: cannot be {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as in `opened` or `mapped`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes of a file are not a valid GGUF file.
    #[error("{}: not a usable GGUF file", path.display())]
    File {
        /// The file, or what stands for it.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
    /// A folder was opened where only GGUF files will do, or the other way round.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Kind {
        /// The file or folder.
        path: PathBuf,
        /// What would do.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A folder holds no weights that could be read.
    #[error(
        "{}: expected model.safetensors or model.safetensors.index.json, found {found}",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What is there in their place.
        found: String,
    },
    /// A safetensors file breaks a rule of its format.
    #[error("{}: byte {offset}: expected {expected}, found {found}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where it was noticed.
        offset: u64,
        /// What the format asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor of a safetensors file breaks a rule of its format.
    #[error(
        "{}: tensor `{name}` at byte {offset}: expected {expected}, found {found}",
        path.display()
    )]
    SafetensorsTensor {
        /// The file.
        path: PathBuf,
        /// The tensor, escaped.
        name: String,
        /// Where its data begins, or would.
        offset: u64,
        /// What the format asks for.
        expected: String,
        /// What the header says.
        found: String,
    },
    /// A document of a checkpoint is not JSON, has a key twice, or a field of the wrong type.
    #[error("{}, line {line}, column {column}: {message}", path.display())]
    Json {
        /// The document.
        path: PathBuf,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A field of a document is missing, of the wrong type, or makes no sense.
    #[error("{}: field `{field}`: expected {expected}, found {found}", path.display())]
    Field {
        /// The document.
        path: PathBuf,
        /// The field, with those that it lies in.
        field: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The model is of an architecture that is not implemented.
    #[error("architecture `{found}` is not supported; supported: {supported}")]
    Architecture {
        /// The architecture the file names, escaped.
        found: String,
        /// Those that are implemented.
        supported: String,
    },
    /// A metadata key that the model needs is not there.
    #[error("metadata key `{key}` is missing, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// The type it should have.
        expected: String,
    },
    /// A metadata value has the wrong type, or its type cannot hold it.
    #[error("metadata cannot be read")]
    Key {
        /// What is wrong; names key, offset, expected and found type.
        source: Box<GgufError>,
    },
    /// A metadata value makes no sense, alone or beside the others.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    InvalidKey {
        /// The key.
        key: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor of the model is not there.
    #[error("tensor `{name}` is missing, expected shape {expected}")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The shape it should have, slowest dimension first.
        expected: String,
    },
    /// A tensor has another shape than the metadata asks for.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// The shape it should have, slowest dimension first.
        expected: Vec<usize>,
        /// The shape it has, in the same order.
        found: Vec<u64>,
    },
    /// A tensor has a type that cannot be multiplied.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    TensorType {
        /// The tensor.
        name: String,
        /// The types that would do.
        expected: &'static str,
        /// The type it has.
        found: String,
    },
    /// A tensor would change the model's answer in a way that is not implemented.
    #[error("tensor `{name}` belongs to no Qwen3-MoE model: {why}")]
    ForeignTensor {
        /// The tensor, escaped.
        name: String,
        /// What it would mean.
        why: &'static str,
    },
    /// The kernels refused a shape.
    #[error("{what} cannot be computed")]
    Kernel {
        /// What was to be made.
        what: String,
        /// Why it was refused.
        source: KernelError,
    },
    /// An option of a state is out of its range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// The option.
        option: &'static str,
        /// The range.
        expected: String,
        /// The value.
        found: usize,
    },
    /// A cache or a workspace was made for a model of another shape.
    #[error("the {what} was made for another model")]
    ForeignState {
        /// The cache or the workspace.
        what: &'static str,
    },
    /// A forward pass was asked for no sequences.
    #[error("no sequences: a forward pass needs at least one")]
    NoSequences,
    /// What is wrong with one sequence of several.
    #[error("sequence {idx} of the batch")]
    Sequence {
        /// Index of its span.
        idx: usize,
        /// What is wrong.
        source: Box<Self>,
    },
    /// A forward pass was asked for no tokens.
    #[error("no tokens: a forward pass needs at least one")]
    NoTokens,
    /// The tokens do not fit into the cache.
    #[error("the context holds {n_ctx} tokens: {n_past} are in it and {n_tokens} more do not fit")]
    ContextFull {
        /// Positions the cache may hold.
        n_ctx: usize,
        /// Positions it holds.
        n_past: usize,
        /// Tokens of the call.
        n_tokens: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("token {token} at position {position}: expected an id below {n_vocab}")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Its position in the context.
        position: usize,
        /// Ids of the model.
        n_vocab: usize,
    },
    /// An observer ended the pass.
    #[error("stopped after layer {layer} of {n_layer}, with {n_done} of {n_tokens} tokens done")]
    Stopped {
        /// The last layer that was computed.
        layer: usize,
        /// Layers of the model.
        n_layer: usize,
        /// Tokens of the batches before.
        n_done: usize,
        /// Tokens of the pass.
        n_tokens: usize,
    },
    /// A NaN or an infinity arose.
    #[error("the {stage} at position {position} is not finite: {}", where_of(*layer))]
    NotFinite {
        /// The step of the pass in which it was first seen.
        stage: Stage,
        /// The layer of that step; none for the steps before and after the layers.
        layer: Option<usize>,
        /// The position of the token.
        position: usize,
    },
}

impl ModelError {
    /// Says of which sequence it is.
    pub(crate) fn of(self, idx: usize) -> Self {
        let source = Box::new(self);
        Self::Sequence { idx, source }
    }

    /// Leaves out of which sequence it is, where there is only one.
    pub(crate) fn of_the_only_one(self) -> Self {
        match self {
            Self::Sequence { source, .. } => *source,
            other => other,
        }
    }
}

/// Checks an option against the range that begins with 1.
pub(crate) fn in_range(
    option: &'static str,
    found: usize,
    largest: usize,
) -> Result<(), ModelError> {
    if (1..=largest).contains(&found) {
        return Ok(());
    }
    Err(ModelError::Option {
        option,
        expected: format!("1 to {largest}"),
        found,
    })
}

/// A step of the forward pass after which values are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The row of the embedding matrix.
    Embedding,
    /// The residual stream after attention.
    Attention,
    /// The scores of the router.
    Router,
    /// The residual stream after the experts.
    Experts,
    /// The logits.
    Logits,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention output",
            Self::Router => "router score",
            Self::Experts => "expert output",
            Self::Logits => "logit",
        })
    }
}

fn where_of(layer: Option<usize>) -> String {
    layer.map_or_else(
        || "outside the layers".to_owned(),
        |layer| format!("layer {layer}"),
    )
}

/// Escapes and shortens text from a file.
pub(crate) fn quote(text: &str) -> String {
    quote_within(64, text)
}

fn quote_within(longest: usize, text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(longest)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(longest).is_some() {
        quoted.push('…');
    }
    quoted
}

/// Returns what is wrong with a JSON text, without the place.
pub(crate) fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    quote_within(192, message.strip_suffix(&place).unwrap_or(&message))
}

/// The error about a document that is no JSON of the right kind.
pub(crate) fn json_error(path: &Path, error: &serde_json::Error) -> ModelError {
    ModelError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: json_message(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_file_becomes_one_short_line() {
        assert_eq!(quote("llama"), "llama");
        assert_eq!(quote("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(quote(&"x".repeat(70)), format!("{}…", "x".repeat(64)));
    }

    #[test]
    fn what_is_not_finite_names_step_layer_and_position() {
        let error = |layer| ModelError::NotFinite {
            stage: Stage::Experts,
            layer,
            position: 7,
        };
        assert_eq!(
            error(Some(3)).to_string(),
            "the expert output at position 7 is not finite: layer 3"
        );
        assert!(error(None).to_string().ends_with("outside the layers"));
    }
}
