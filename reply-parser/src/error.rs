//! What can be wrong with the tools of a request. A reply is never wrong: what is no call is
//! text.

use thiserror::Error;

/// Why a list of tools was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The tools are no list.
    #[error("tools: expected an array, found {found}")]
    NoList {
        /// The kind of value that was given.
        found: &'static str,
    },
    /// A tool has no name that a call could give.
    #[error("tools[{index}]: expected a name that is a text, found {found}")]
    Name {
        /// Position in the list.
        index: usize,
        /// The kind of value that was given.
        found: &'static str,
    },
    /// The parameters of a tool are no schema.
    #[error("tools[{index}] `{name}`: expected parameters that are a JSON schema, found {found}")]
    Parameters {
        /// Position in the list.
        index: usize,
        /// The tool.
        name: String,
        /// The kind of value that was given.
        found: &'static str,
    },
}
