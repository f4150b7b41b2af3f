//! Other programs, run to their end.

use std::process::Command;

use crate::error::TaskError;

/// Runs a command, whose output is passed on, and expects it to succeed. `name` is what it is
/// called if it does not.
pub(crate) fn run(command: &mut Command, name: &str) -> Result<(), TaskError> {
    let status = command.status().map_err(|source| TaskError::Start {
        command: name.to_owned(),
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::Command {
        command: name.to_owned(),
        status: status.to_string(),
    })
}

/// Whether a command can be run and succeeds; what it prints is nobody's business.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_failing_command_is_named() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.stderr(Stdio::null());
        let error = run(cargo.arg("--no-such-flag"), "cargo x").unwrap_err();
        assert!(error.to_string().starts_with("`cargo x` failed"), "{error}");
        assert!(!succeeds(cargo.arg("--no-such-flag")));
        let error = run(&mut Command::new("no-such-program"), "it").unwrap_err();
        assert_eq!(error.to_string(), "cannot run `it`");
    }
}
