//! The official Python clients of the APIs that the server speaks, and lm-evaluation-harness,
//! against the server with the built-in model.

mod python;

use self::python::Python;
use crate::{command, error::TaskError, server::Server, workspace::Workspace};

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instead compare lm-evaluation-harness with `apr eval`; it takes 760 MB to install
    #[arg(long)]
    harness: bool,
}

/// A script, which is told the server's address and where the program is, and the folder of
/// what it needs.
struct Suite {
    folder: &'static str,
    script: &'static str,
    packages: &'static str,
}

const CLIENTS: Suite = Suite {
    folder: "apr-server/tests/clients",
    script: "clients.py",
    packages: "target/clients",
};
const HARNESS: Suite = Suite {
    folder: "apr-server/tests/clients/harness",
    script: "harness.py",
    packages: "target/harness",
};

/// Runs the clients' script, as CI does.
pub(crate) fn run_all(workspace: &Workspace) -> Result<(), TaskError> {
    CLIENTS.run(workspace)
}

/// Runs the script that is asked for.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    match args.harness {
        true => HARNESS.run(workspace),
        false => CLIENTS.run(workspace),
    }
}

impl Suite {
    fn run(&self, workspace: &Workspace) -> Result<(), TaskError> {
        let folder = workspace.path(self.folder);
        let requirements = folder.join("requirements.txt");
        let python = Python::with(&requirements, workspace.path(self.packages))?;
        let program = workspace.program()?;
        let server = Server::of_builtin(&program)?;
        let mut script = python.command();
        script
            .arg(folder.join(self.script))
            .arg(server.url())
            .arg(&program)
            .current_dir(workspace.path(""));
        command::run(&mut script, self.script)?;
        server.stop()
    }
}
