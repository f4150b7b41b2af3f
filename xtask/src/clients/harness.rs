//! lm-evaluation-harness against the server, item by item beside `apr eval`.

use std::process::Command;

use super::{Server, build, environment, wait_for};
use crate::{error::TaskError, workspace::Workspace};

const FOLDER: &str = "apr-server/tests/clients/harness";
const ENVIRONMENT: &str = "target/harness";

pub(super) fn run(workspace: &Workspace) -> Result<(), TaskError> {
    let python = environment(workspace, FOLDER, ENVIRONMENT)?;
    let program = build(workspace)?;
    let mut server = Server::start(&program)?;
    let url = server.url()?;
    let mut script = Command::new(&python);
    script
        .arg(workspace.path(FOLDER).join("harness.py"))
        .args([&url, program.to_string_lossy().as_ref()])
        .current_dir(workspace.path("."));
    wait_for(script, "harness.py")
}
