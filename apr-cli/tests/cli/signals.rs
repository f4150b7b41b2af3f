//! Ctrl-C, and readers that go away.
#![cfg(unix)]

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{apr, stdout};

/// What a program may take to stop.
const STOP: Duration = Duration::from_millis(200);
/// What starting `kill`, and the end of a process on a machine that runs other tests, may
/// take beside. All that is stopped here would go on for far longer.
const ALLOWANCE: Duration = Duration::from_secs(3);

fn interrupt(child: &Child) {
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

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
    interrupt(&child);
    let mut rest = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    let status = child.wait().unwrap();
    assert!(begin.elapsed() < STOP + ALLOWANCE, "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(130));
}

#[test]
fn ctrl_c_ends_a_long_prompt_before_its_text_is_printed() {
    // Half a minute of work on one thread without vector instructions.
    let prompt = "to be or not to be, ".repeat(400);
    let args = [
        "run", "-q", "-p", &prompt, "-n", "1", "-t", "1", "--isa", "scalar",
    ];
    let mut command = apr(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < STOP + ALLOWANCE, "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(stdout(&output), "", "the prompt is printed when it is done");
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

#[test]
fn ctrl_c_ends_a_trace_and_leaves_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.svg");
    let text = "to be or not to be, ".repeat(2000);
    let args = ["trace", "-t", "1", "--isa", "scalar", "-p", &text, "--svg"];
    let mut command = apr(&args);
    command
        .arg(&map)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < STOP + ALLOWANCE, "{:?}", begin.elapsed());
    assert_eq!((output.status.code(), stdout(&output)), (Some(130), ""));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
