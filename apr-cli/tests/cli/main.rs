//! The program as its users meet it: through arguments, pipes and exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod checkpoint;
mod convert;
mod errors;
mod eval;
mod files;
mod grammar;
mod measure;
mod quantize;
mod run;
mod signals;
mod trace;
mod verify;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const BUILTIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/bard.gguf");

/// Returns the program, without whatever `APR_…` the tester's shell has set.
fn apr(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apr"));
    let foreign = std::env::vars_os().map(|(name, _)| name);
    for name in foreign.filter(|name| name.to_string_lossy().starts_with("APR_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end.
fn done(args: &[&str]) -> Output {
    apr(args).output().unwrap()
}

/// Runs to the end with text on stdin.
fn fed(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = apr(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs to the end and returns the one JSON object on stdout.
fn json(args: &[&str]) -> Value {
    let output = done(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    assert_eq!(stdout(&output).lines().count(), 1, "{args:?}");
    serde_json::from_str(stdout(&output)).unwrap()
}

/// The instruction sets of this machine.
fn isas() -> impl Iterator<Item = &'static str> {
    quant_kernels::Isa::available().map(quant_kernels::Isa::name)
}
