//! What can be wrong with the name of a mix.

use thiserror::Error;

/// No mix has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown mix of types `{name}`, expected one of {expected}")]
pub struct UnknownMix {
    /// The name, escaped.
    pub name: String,
    /// All names.
    pub expected: String,
}
