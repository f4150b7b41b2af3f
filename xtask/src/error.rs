//! Why a task failed, and the exit code that says so.

use std::{error::Error, io, path::PathBuf};

use model_tools::ToolError;
use moe_model::ModelError;
use quant_kernels::KernelError;
use synth_model::SynthError;
use thiserror::Error;

/// A task that failed.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file is in the way of one that was not asked for by name.
    #[error("{} exists; name it with --output to replace it", path.display())]
    Exists { path: PathBuf },
    /// A program could not be started.
    #[error("cannot run `{command}`")]
    Start { command: String, source: io::Error },
    /// The machine lacks something that a task needs.
    #[error("{what} is missing; {remedy}")]
    Missing {
        what: &'static str,
        remedy: &'static str,
    },
    /// A program ended badly.
    #[error("`{command}` failed: {status}")]
    Command { command: String, status: String },
    /// A program's output made no sense.
    #[error("`{command}`: {reason}")]
    Output { command: String, reason: String },
    /// An engine is to be measured that was not named.
    #[error("no program was named for `{setting}`")]
    NoProgram { setting: String },
    /// The repository breaks its rules; the list was printed.
    #[error("{n} violations of the rules of the repository")]
    Untidy { n: usize },
    /// A model could not be made.
    #[error("cannot make the model")]
    Synth(#[from] SynthError),
    /// A model could not be opened or run.
    #[error("cannot run the model")]
    Model(#[from] ModelError),
    /// A model could not be verified.
    #[error("cannot verify the model")]
    Tool(#[source] Box<ToolError>),
    /// The processor or its threads are not as asked for.
    #[error("cannot compute")]
    Kernel(#[from] KernelError),
    /// A server did not bear its load; what is wrong was printed.
    #[error("{n} things are not as they should be")]
    Load { n: usize },
    /// `apr verify` ended with a code of its own, and has said why.
    #[error("`apr verify` ended with {code}")]
    Verify { code: u8 },
    /// A model's answers are not what they should be.
    #[error("verification failed: {n_wrong} of {n_models} models are wrong")]
    Wrong { n_wrong: usize, n_models: usize },
}

impl From<ToolError> for TaskError {
    fn from(error: ToolError) -> Self {
        Self::Tool(Box::new(error))
    }
}

impl TaskError {
    /// Prints the error and its causes.
    pub(crate) fn report(&self) {
        eprintln!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprintln!("  caused by: {error}");
            cause = error.source();
        }
    }

    /// Returns the exit code: those of `apr`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Exists { .. } | Self::Start { .. } | Self::Missing { .. } => {
                4
            }
            Self::Synth(SynthError::Gguf(gguf_format::GgufError::Io { .. })) => 4,
            Self::NoProgram { .. }
            | Self::Synth(SynthError::UnknownPreset { .. } | SynthError::UnknownMix { .. }) => 2,
            Self::Model(error) => model_code(error),
            Self::Tool(error) => match error.as_ref() {
                ToolError::Model(error) => model_code(error),
                _ => 1,
            },
            Self::Synth(SynthError::Gguf(_)) => 3,
            Self::Wrong { .. } => 6,
            Self::Verify { code } => *code,
            Self::Command { .. }
            | Self::Output { .. }
            | Self::Load { .. }
            | Self::Untidy { .. }
            | Self::Synth(_)
            | Self::Kernel(_) => 1,
        }
    }
}

const fn model_code(error: &ModelError) -> u8 {
    match error {
        ModelError::NotFound { .. }
        | ModelError::PermissionDenied { .. }
        | ModelError::NotRegular { .. }
        | ModelError::Io { .. } => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_program() {
        let missing = TaskError::File {
            action: "read",
            path: PathBuf::from("model.gguf"),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        assert_eq!(missing.exit_code(), 4);
        assert_eq!(missing.to_string(), "cannot read model.gguf");
        let unknown = "q9".parse::<synth_model::TypeMix>().unwrap_err();
        assert_eq!(TaskError::from(unknown).exit_code(), 2);
        let wrong = TaskError::Wrong {
            n_wrong: 1,
            n_models: 12,
        };
        assert_eq!(wrong.exit_code(), 6);
        assert_eq!(TaskError::Untidy { n: 3 }.exit_code(), 1);
    }
}
