//! Where the workspace lies, which files it has, and how its commands are run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{command, error::TaskError};

/// Folders that hold results and other people's packages, not sources.
const RESULTS: [&str; 5] = [
    "target",
    "artifacts",
    ".git",
    "node_modules",
    "test-results",
];

/// Any one.
const EXAMPLE: &str = "list_tensors";

/// The root of the workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// A file of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Path from the root, with forward slashes.
    pub(crate) path: String,
    /// Length in bytes.
    pub(crate) n_bytes: u64,
    /// The content, if it is text.
    pub(crate) text: String,
}

impl Workspace {
    /// Finds the workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self, TaskError> {
        // Cargo says where the package lies when it runs a program; without cargo, it lies
        // where it was compiled.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.parent().unwrap_or(&package);
        let root = root.canonicalize().map_err(|source| TaskError::File {
            action: "find the workspace at",
            path: root.to_owned(),
            source,
        })?;
        Ok(Self { root })
    }

    /// Returns the path of a file or folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Returns a command of cargo in the workspace, without input.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.root)
            .stdin(Stdio::null());
        // Cargo sets these for this program. Passed on, they would change what is built next.
        for key in [
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_NAME",
        ] {
            command.env_remove(key);
        }
        command
    }

    /// Builds `apr` as the tests do, so that after them it is there, and returns where it is.
    pub(crate) fn program(&self) -> Result<PathBuf, TaskError> {
        // With the workspace, and with an example, which has the dependencies of tests, it has
        // the dependencies that they have.
        let args = ["build", "--workspace", "--bin", "apr", "--example", EXAMPLE];
        command::run(&mut self.cargo(&args), "cargo build")?;
        Ok(self.path("target/debug/apr"))
    }

    /// Reads all files, by path.
    pub(crate) fn files(&self) -> Result<Vec<SourceFile>, TaskError> {
        let mut files = Vec::new();
        self.walk(&self.root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn walk(&self, folder: &Path, files: &mut Vec<SourceFile>) -> Result<(), TaskError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TaskError::File {
                action: "read",
                path,
                source,
            }
        };
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let entry = entry.map_err(failed(folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed(&path))?;
            if kind.is_dir() && !RESULTS.iter().any(|name| entry.file_name() == *name) {
                self.walk(&path, files)?;
            } else if kind.is_file() {
                let bytes = fs::read(&path).map_err(failed(&path))?;
                let relative = path.strip_prefix(&self.root).unwrap_or(&path);
                files.push(SourceFile {
                    path: relative.to_string_lossy().replace('\\', "/"),
                    n_bytes: bytes.len() as u64,
                    text: String::from_utf8(bytes).unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_finds_its_own_files() {
        let files = Workspace::find().unwrap().files().unwrap();
        for path in ["Cargo.toml", "xtask/src/workspace.rs", ".cargo/config.toml"] {
            assert!(files.iter().any(|file| file.path == path), "{path}");
        }
        assert!(!files.iter().any(|file| file.path.starts_with("target/")));
    }
}
