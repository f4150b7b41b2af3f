//! Why a server could not run.

use std::io;

use thiserror::Error;
use tokenizer::TemplateError;

/// An error of this crate. What goes wrong with a request is told to its client instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The threads for input and output could not be started.
    #[error("the threads of the server cannot be started")]
    Runtime {
        /// What the system says.
        source: io::Error,
    },
    /// The listening socket cannot be used.
    #[error("the listening socket cannot be used")]
    Listener {
        /// What the system says.
        source: io::Error,
    },
    /// The model's chat template is unusable.
    #[error("the chat template")]
    Template(#[from] TemplateError),
}
