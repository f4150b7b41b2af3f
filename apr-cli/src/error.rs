//! What can fail, in words and as an exit code.

use std::{io, path::Path, process::ExitCode};

use apr_server::ServerError;
use generate::GenerateError;
use gguf_format::GgufError;
use model_tools::ToolError;
use moe_model::ModelError;
use quant_kernels::KernelError;
use thiserror::Error as ThisError;
use tokenizer::{TemplateError, TokenizerError};

use crate::terminal;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const BAD_INPUT: u8 = 3;
const SYSTEM: u8 = 4;
const MEMORY: u8 = 5;
const WRONG: u8 = 6;
/// As a shell reports a program that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a verb ended without its result.
#[derive(Debug, ThisError)]
pub(crate) enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{message}")]
    Usage { message: String },
    /// The content of a file or of stdin is not what it should be.
    #[error("{name}: {message}")]
    Input { name: String, message: String },
    /// The system refused something.
    #[error("{name}: cannot be {action}")]
    Io {
        name: String,
        action: &'static str,
        source: io::Error,
    },
    /// Another error, in what a file holds.
    #[error("{name}")]
    Within { name: String, source: Box<Self> },
    /// The model's file, or the pass through it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Prompt, settings or generation.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The vocabulary in the model's file.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template in the model's file.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A metadata value of the model's file.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// Threads that could not be started.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The HTTP server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Converting a model.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A model that was verified is not as it should be; the report was printed.
    #[error("{model}: verification failed")]
    Wrong { model: String },
    /// The system has too little memory left.
    #[error("not enough memory for {what}: {needed} needed, {available} available")]
    Memory {
        what: String,
        needed: String,
        available: String,
    },
    /// Nobody reads stdout any more; no reason to complain.
    #[error("stdout was closed")]
    OutputClosed,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
        }
    }

    pub(crate) fn input(name: &str, message: impl Into<String>) -> Self {
        Self::Input {
            name: name.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io {
            name: path.display().to_string(),
            action,
            source,
        }
    }

    /// Says in which file it is.
    pub(crate) fn within(name: &Path) -> impl Fn(Self) -> Self {
        let name = name.display().to_string();
        move |source| Self::Within {
            name: name.clone(),
            source: Box::new(source),
        }
    }

    /// Says the error and its causes on stderr and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if matches!(self, Self::OutputClosed) {
            return ExitCode::SUCCESS;
        }
        if !self.is_interruption() {
            terminal::say(format_args!(
                "error: {}",
                terminal::printable(&self.to_string())
            ));
            let mut cause = std::error::Error::source(self);
            while let Some(error) = cause {
                let text = error.to_string();
                terminal::say(format_args!("  caused by: {}", terminal::printable(&text)));
                cause = error.source();
            }
        }
        ExitCode::from(self.exit_code())
    }

    pub(crate) fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::Generate(GenerateError::Cancelled)
                | Self::Tool(ToolError::Interrupted)
        )
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => USAGE,
            Self::Input { .. } | Self::Tokenizer(_) | Self::Template(_) | Self::Metadata(_) => {
                BAD_INPUT
            }
            Self::Io { .. } | Self::Kernel(_) => SYSTEM,
            Self::Memory { .. } => MEMORY,
            Self::Wrong { .. } => WRONG,
            Self::Within { source, .. } => source.exit_code(),
            Self::Model(error) => model_code(error),
            Self::Generate(error) => generate_code(error),
            Self::Tool(error) => tool_code(error),
            Self::Server(error) => server_code(error),
            Self::OutputClosed => 0,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

fn model_code(error: &ModelError) -> u8 {
    match error {
        ModelError::NotFound { .. }
        | ModelError::PermissionDenied { .. }
        | ModelError::NotRegular { .. }
        | ModelError::Kind { .. }
        | ModelError::Io { .. } => SYSTEM,
        ModelError::Option { .. } => USAGE,
        ModelError::Sequence { source, .. } => model_code(source),
        ModelError::NoTokens
        | ModelError::ContextFull { .. }
        | ModelError::TokenOutOfRange { .. }
        | ModelError::ForeignState { .. }
        | ModelError::NoSequences => FAILED,
        _ => BAD_INPUT,
    }
}

fn generate_code(error: &GenerateError) -> u8 {
    match error {
        GenerateError::Model(error) => model_code(error),
        GenerateError::Tokenizer(_) => BAD_INPUT,
        GenerateError::EmptyPrompt
        | GenerateError::Sampler(_)
        | GenerateError::TokenOutOfRange { .. }
        | GenerateError::WindowTooShort { .. } => USAGE,
        GenerateError::CacheFolder { .. } => SYSTEM,
        GenerateError::Cancelled => INTERRUPTED,
        _ => FAILED,
    }
}

const fn server_code(error: &ServerError) -> u8 {
    match error {
        ServerError::Template(_) => BAD_INPUT,
        _ => SYSTEM,
    }
}

fn tool_code(error: &ToolError) -> u8 {
    match error {
        ToolError::Model(error) => model_code(error),
        ToolError::Generate(error) => generate_code(error),
        ToolError::TensorType { .. }
        | ToolError::NothingMatches { .. }
        | ToolError::Requantize { .. }
        | ToolError::NotFloat { .. }
        | ToolError::Kernel(_) => USAGE,
        ToolError::Io { .. }
        | ToolError::NotEmpty { .. }
        | ToolError::Threads { .. }
        | ToolError::Gguf(GgufError::Io { .. }) => SYSTEM,
        ToolError::Interrupted => INTERRUPTED,
        _ => BAD_INPUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_manual() {
        let path = "x.gguf".into();
        let cases = [
            (Error::usage("no prompt"), 2),
            (Error::input("stdin", "no UTF-8"), 3),
            (ModelError::Empty { path }.into(), 3),
            (
                ModelError::IsDirectory {
                    path: "folder".into(),
                }
                .into(),
                3,
            ),
            (
                ModelError::NotFound {
                    path: "x.gguf".into(),
                }
                .into(),
                4,
            ),
            (
                Error::io(Path::new("x"), "written", io::ErrorKind::StorageFull.into()),
                4,
            ),
            (GenerateError::EmptyPrompt.into(), 2),
            (
                GenerateError::PromptTooLong {
                    n_prompt: 9,
                    n_ctx: 8,
                }
                .into(),
                1,
            ),
            (
                Error::Memory {
                    what: "a context".to_owned(),
                    needed: "2 GB".to_owned(),
                    available: "1 GB".to_owned(),
                },
                5,
            ),
            (
                Error::Wrong {
                    model: "x.gguf".to_owned(),
                },
                6,
            ),
            (GenerateError::Cancelled.into(), 130),
            (Error::Interrupted, 130),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
