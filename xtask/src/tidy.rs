//! The rules of the repository that no compiler knows: what ARCHITECTURE.md promises, checked.
//!
//! Each rule is a function from the files (or the dependencies) to violations, with its own
//! file and tests. All of them run before any is reported.

mod edges;
mod fixtures;
mod invariants;
mod layout;
mod libraries;
mod manifests;
mod map;
mod markers;
mod rust_code;
mod unsafe_code;

use std::fmt;

use crate::{
    error::TaskError,
    workspace::{SourceFile, Workspace},
};

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    /// A path, a path and line, or the name of a crate.
    place: String,
    message: String,
}

impl Violation {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A rule about files.
type FileRule = fn(&[SourceFile]) -> Vec<Violation>;

const FILE_RULES: [FileRule; 8] = [
    layout::check,
    fixtures::check,
    markers::check,
    unsafe_code::check,
    invariants::check,
    manifests::check,
    libraries::check,
    map::check,
];

/// Checks all rules and prints what breaks them.
pub(crate) fn run(workspace: &Workspace) -> Result<(), TaskError> {
    let files = workspace.files()?;
    let dependencies = edges::read(workspace)?;
    let mut violations = edges::check(&dependencies);
    violations.extend(FILE_RULES.iter().flat_map(|rule| rule(&files)));
    for violation in &violations {
        println!("tidy: {violation}");
    }
    if !violations.is_empty() {
        let n = violations.len();
        return Err(TaskError::Untidy { n });
    }
    println!(
        "tidy: {} files and {} dependencies are in order",
        files.len(),
        dependencies.len()
    );
    Ok(())
}

#[cfg(test)]
mod testing {
    use super::{FileRule, SourceFile};

    /// A file of text.
    pub(super) fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            n_bytes: text.len() as u64,
            text: text.to_owned(),
        }
    }

    /// The violations of a rule, as they are printed.
    pub(super) fn broken(rule: FileRule, files: &[SourceFile]) -> Vec<String> {
        rule(files).iter().map(ToString::to_string).collect()
    }
}
