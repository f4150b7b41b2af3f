//! Another engine's process: its output, its memory, and when its first token came.

use std::{
    fs, io,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What a process left behind.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) status: ExitStatus,
    /// The most memory that belonged to no file, as far as it was seen.
    pub(super) anonymous_bytes: u64,
    /// Time from the start to the first output that was waited for.
    pub(super) first_output: Option<Duration>,
}

/// Runs a program to its end and looks at it meanwhile, rarely: there is no processor to
/// spare. `mark` is what its output is to hold for [`Outcome::first_output`]. It runs in a
/// folder of its own, where it may leave what it likes.
pub(super) fn run(command: &mut Command, mark: Option<&str>) -> io::Result<Outcome> {
    // Files never fill up as pipes do, so nobody has to read while the program runs.
    let folder = TempDir::new()?;
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&stdout)?)
        .stderr(fs::File::create(&stderr)?);
    let start = Instant::now();
    let mut child = command.spawn()?;
    let (mut anonymous_bytes, mut first_output) = (0, None);
    let status = loop {
        let awaited = mark.filter(|_| first_output.is_none());
        thread::sleep(Duration::from_millis(if awaited.is_some() {
            1
        } else {
            20
        }));
        anonymous_bytes = anonymous_bytes.max(anonymous(child.id()).unwrap_or_default());
        let status = child.try_wait()?;
        if let Some(mark) = awaited {
            let elapsed = start.elapsed();
            let text = text_of(&stdout)?;
            first_output = (!text.is_empty() && text.contains(mark)).then_some(elapsed);
        }
        if let Some(status) = status {
            break status;
        }
    };
    Ok(Outcome {
        stdout: text_of(&stdout)?,
        stderr: text_of(&stderr)?,
        status,
        anonymous_bytes,
        first_output,
    })
}

/// Returns what has been written so far, by any process.
fn text_of(file: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

/// Returns the memory of a process that belongs to no file, if the system says.
fn anonymous(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_status_and_the_time_of_the_first_word_are_kept() {
        let mut command = Command::new("cargo");
        let outcome = run(command.arg("--version"), Some("cargo")).unwrap();
        assert!(outcome.status.success());
        assert!(outcome.stdout.starts_with("cargo "), "{}", outcome.stdout);
        assert!(outcome.first_output.is_some());
        let outcome = run(Command::new("cargo").arg("no-such-command"), None).unwrap();
        assert!(!outcome.status.success());
        assert!(!outcome.stderr.is_empty());
        assert_eq!(outcome.first_output, None);
    }
}
