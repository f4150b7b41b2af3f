//! Python with the packages that a script asks for, in a folder of their own under `target/`,
//! where they stay for the next time.
//!
//! Machines differ in how packages can be had: there is pip, or pip only within a virtual
//! environment, as on Debian with `python3-venv`, or uv. All of them can put packages into a
//! folder, which needs no rights and leaves the machine as it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{command, error::TaskError};

/// Seconds that an index of packages may be silent, and how often it is asked again: one that
/// cannot be reached is an error soon, whatever the machine is set to.
const PATIENCE: [&str; 4] = ["--timeout", "20", "--retries", "2"];

/// An interpreter, and where its packages lie.
#[derive(Debug)]
pub(super) struct Python {
    packages: PathBuf,
}

impl Python {
    /// Finds the packages in a folder, or installs them there if what lies in it is not what
    /// `requirements` names.
    pub(super) fn with(requirements: &Path, packages: PathBuf) -> Result<Self, TaskError> {
        let installed = packages.join("requirements.txt");
        if !is_same(requirements, &installed) {
            let failed = |action, path: &Path| {
                let path = path.to_owned();
                move |source| TaskError::File {
                    action,
                    path,
                    source,
                }
            };
            match fs::remove_dir_all(&packages) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &packages)(error));
                }
                _ => {}
            }
            install(requirements, &packages)?;
            // What was broken off does not have it, and is begun anew.
            fs::copy(requirements, &installed).map_err(failed("write", &installed))?;
        }
        Ok(Self { packages })
    }

    /// Returns a command of the interpreter, which sees these packages first.
    pub(super) fn command(&self) -> Command {
        let mut command = python();
        command
            .env("PYTHONPATH", &self.packages)
            .env("PYTHONNOUSERSITE", "1");
        command
    }
}

fn python() -> Command {
    Command::new("python3")
}

fn is_same(wanted: &Path, installed: &Path) -> bool {
    let (wanted, installed) = (fs::read(wanted), fs::read(installed));
    wanted.ok().zip(installed.ok()).is_some_and(|(a, b)| a == b)
}

/// Installs packages by the first means that the machine has.
fn install(requirements: &Path, packages: &Path) -> Result<(), TaskError> {
    let into = |command: &mut Command| {
        command
            .arg("--target")
            .arg(packages)
            .arg("-r")
            .arg(requirements);
    };
    let pip = ["-m", "pip", "install", "--quiet", "--no-input"];
    if command::succeeds(python().args(["-m", "pip", "--version"])) {
        let mut install = python();
        into(install.args(pip).args(PATIENCE));
        return command::run(&mut install, "python3 -m pip install");
    }
    if command::succeeds(python().args(["-c", "import ensurepip, venv"])) {
        let environment = packages.with_extension("venv");
        let mut make = python();
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        command::run(&mut make, "python3 -m venv")?;
        let mut install = Command::new(environment.join("bin/python"));
        into(install.args(pip).args(PATIENCE));
        return command::run(&mut install, "pip install");
    }
    if command::succeeds(Command::new("uv").arg("--version")) {
        let mut install = Command::new("uv");
        install.env("UV_HTTP_TIMEOUT", "20");
        into(install.args(["pip", "install", "--quiet"]));
        return command::run(&mut install, "uv pip install");
    }
    Err(TaskError::Missing {
        what: "Python 3 with pip, venv or uv",
        remedy: "on Debian, `apt install python3-venv` brings it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_again_only_if_others_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (wanted, installed) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&wanted, "openai==1").unwrap();
        assert!(!is_same(&wanted, &installed));
        fs::write(&installed, "openai==1").unwrap();
        assert!(is_same(&wanted, &installed));
        fs::write(&wanted, "openai==2").unwrap();
        assert!(!is_same(&wanted, &installed));
        assert!(!is_same(&folder.path().join("c"), &folder.path().join("c")));
    }
}
