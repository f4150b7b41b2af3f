//! The official Python clients of the APIs that the server speaks, against the server with the
//! built-in model.
//!
//! The clients are installed into a virtual environment under `target/`, in the versions that
//! `requirements.txt` names, and stay there for the next time.

mod harness;

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::{error::TaskError, workspace::Workspace};

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instead compare lm-evaluation-harness with `apr eval`; it takes 760 MB to install
    #[arg(long)]
    harness: bool,
}

const FOLDER: &str = "apr-server/tests/clients";
const ENVIRONMENT: &str = "target/clients";

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    if args.harness {
        return harness::run(workspace);
    }
    let python = environment(workspace, FOLDER, ENVIRONMENT)?;
    let program = build(workspace)?;
    let mut server = Server::start(&program)?;
    let url = server.url()?;
    let mut script = Command::new(&python);
    script
        .arg(workspace.path(FOLDER).join("clients.py"))
        .arg(url);
    wait_for(script, "clients.py")
}

/// Builds the program and returns where it is.
fn build(workspace: &Workspace) -> Result<PathBuf, TaskError> {
    let build = workspace.cargo(&["build", "--package", "apr-cli"]);
    wait_for(build, "cargo build")?;
    Ok(workspace.path("target/debug/apr"))
}

/// Returns the interpreter of a virtual environment, which is made if its packages are not
/// those that the folder of a test asks for.
fn environment(workspace: &Workspace, test: &str, environment: &str) -> Result<PathBuf, TaskError> {
    let folder = workspace.path(environment);
    let wanted = workspace.path(test).join("requirements.txt");
    let installed = folder.join("requirements.txt");
    let python = folder.join("bin/python");
    let is_current = fs::read(&installed).ok() == fs::read(&wanted).ok();
    if !is_current || !python.exists() {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        wait_for(venv, "python3 -m venv")?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "-r"]);
        pip.arg(&wanted);
        wait_for(pip, "pip install")?;
        fs::copy(&wanted, &installed).map_err(|source| TaskError::File {
            action: "write",
            path: installed,
            source,
        })?;
    }
    Ok(python)
}

/// `apr serve`, until it is dropped, and what it says.
struct Server {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Server {
    fn start(program: &Path) -> Result<Self, TaskError> {
        let mut command = Command::new(program);
        command.args(["serve", "--quiet", "--port", "0"]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let no_start = |source| TaskError::Start {
            command: "apr serve".to_owned(),
            source,
        };
        let mut child = command.spawn().map_err(no_start)?;
        let stderr = child.stderr.take();
        let said = stderr.ok_or_else(|| no_start(io::ErrorKind::BrokenPipe.into()))?;
        let said = BufReader::new(said);
        Ok(Self { child, said })
    }

    /// Reads where it listens. Its model is there in a moment.
    fn url(&mut self) -> Result<String, TaskError> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line);
        let url = line.trim().strip_prefix("listening on ");
        match (read, url) {
            (Ok(_), Some(url)) => Ok(url.to_owned()),
            _ => Err(TaskError::Output {
                command: "apr serve".to_owned(),
                reason: format!("expected the address, found `{}`", line.trim()),
            }),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(mut command: Command, name: &str) -> Result<(), TaskError> {
    let status = command.status().map_err(|source| TaskError::Start {
        command: name.to_owned(),
        source,
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(TaskError::Command {
            command: name.to_owned(),
            status: status.to_string(),
        }),
    }
}
