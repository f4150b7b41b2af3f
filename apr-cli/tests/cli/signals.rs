//! Ctrl-C, and readers that go away.
#![cfg(unix)]

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::apr;

/// A run that would go on for long, with its first bytes already printed.
fn endless() -> (Child, Vec<u8>) {
    let mut command = apr(&["run", "-q", "-p", "ROMEO:", "--ignore-eos"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut start = vec![0; 40];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut start)
        .unwrap();
    (child, start)
}

#[test]
fn ctrl_c_ends_a_run_soon_and_keeps_what_was_printed() {
    let (mut child, start) = endless();
    assert!(start.starts_with(b"ROMEO:"));
    let begin = Instant::now();
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    let status = child.wait().unwrap();
    // 200 ms on a quiet machine; tests share theirs.
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let (mut child, _) = endless();
    drop(child.stdout.take());
    let mut complaint = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert_eq!(complaint, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
