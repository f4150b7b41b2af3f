//! The page in headless Chromium: before a mock, which answers as oddly as a test wants, and
//! before the server itself with the built-in model.

use std::{env, path::PathBuf, process::Command};

use crate::{command, error::TaskError, server::Server, workspace::Workspace};

const FOLDER: &str = "apr-server/tests/page";

/// What Chromium is called.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Runs the tests of the page.
pub(crate) fn run(workspace: &Workspace) -> Result<(), TaskError> {
    let chromium = chromium().ok_or(TaskError::Missing {
        what: "Chromium",
        remedy: "on Debian, `apt install chromium` brings it; CHROMIUM names another one",
    })?;
    if !command::succeeds(Command::new("npm").arg("--version")) {
        return Err(TaskError::Missing {
            what: "npm",
            remedy: "on Debian, `apt install npm` brings it",
        });
    }
    let npm = |args: &[&str]| {
        let mut command = Command::new("npm");
        command.args(args).current_dir(workspace.path(FOLDER));
        command.env("CHROMIUM", &chromium);
        command
    };
    // A registry that cannot be reached is an error soon.
    let mut install = npm(&["ci", "--prefer-offline", "--no-audit", "--no-fund"]);
    install.args(["--fetch-timeout=20000", "--fetch-retries=2"]);
    command::run(&mut install, "npm ci")?;
    command::run(&mut npm(&["test"]), "npm test")?;
    let server = Server::of_builtin(&workspace.program()?)?;
    let mut before_the_server = npm(&["test", "--", "--grep", "with any server"]);
    before_the_server.env("APR_URL", format!("{}/", server.url()));
    command::run(&mut before_the_server, "npm test with `apr serve`")?;
    server.stop()
}

/// Finds the browser: the one that is named, or the first that the system has.
fn chromium() -> Option<PathBuf> {
    let named = env::var_os("CHROMIUM").filter(|name| !name.is_empty());
    if let Some(named) = named {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    let places = CHROMIUM
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}
