//! What CI runs, and what is run before a commit: every check, cheapest first.

use std::time::Instant;

use crate::{clients, command, error::TaskError, page, tidy, verify_model, workspace::Workspace};

/// The test command of the README.
const TEST: [&str; 2] = ["test", "--workspace"];

/// One check.
struct Step {
    name: &'static str,
    work: Work,
}

/// How a check is done.
enum Work {
    /// By cargo, with these arguments.
    Cargo(&'static [&'static str]),
    /// By cargo, with warnings of rustdoc as errors.
    Doc(&'static [&'static str]),
    /// By this program.
    Task(fn(&Workspace) -> Result<(), TaskError>),
}

const STEPS: [Step; 8] = [
    Step {
        name: "format",
        work: Work::Cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "tidy",
        work: Work::Task(tidy::run),
    },
    Step {
        name: "lints",
        work: Work::Cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    },
    Step {
        name: "docs",
        work: Work::Doc(&["doc", "--workspace", "--no-deps"]),
    },
    Step {
        name: "tests",
        work: Work::Cargo(&TEST),
    },
    Step {
        name: "verify-model",
        work: Work::Task(verify_model::run_all),
    },
    Step {
        name: "clients",
        work: Work::Task(clients::run_all),
    },
    Step {
        name: "page",
        work: Work::Task(page::run),
    },
];

/// Runs the steps in order and stops at the first that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<(), TaskError> {
    let start = Instant::now();
    for (idx, step) in STEPS.iter().enumerate() {
        let name = step.name;
        let place = format!("{}/{}", idx + 1, STEPS.len());
        println!("── {place} {name}: {}", step.describe());
        let step_start = Instant::now();
        let result = step.run(workspace);
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!(
            "── {place} {name}: {verdict} in {:.1} s",
            step_start.elapsed().as_secs_f64()
        );
        result?;
    }
    println!(
        "ci: all {} steps passed in {:.1} s",
        STEPS.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Step {
    fn describe(&self) -> String {
        match self.work {
            Work::Cargo(args) | Work::Doc(args) => format!("cargo {}", args.join(" ")),
            Work::Task(_) => format!("cargo xtask {}", self.name),
        }
    }

    fn run(&self, workspace: &Workspace) -> Result<(), TaskError> {
        let mut command = match self.work {
            Work::Task(task) => return task(workspace),
            Work::Cargo(args) => workspace.cargo(args),
            Work::Doc(args) => {
                let mut command = workspace.cargo(args);
                command.env("RUSTDOCFLAGS", "-D warnings");
                command
            }
        };
        command::run(&mut command, &self.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_run_as_the_readme_says() {
        let files = Workspace::find().unwrap().files().unwrap();
        let readme = files.iter().find(|file| file.path == "README.md").unwrap();
        let command = format!("cargo {}", TEST.join(" "));
        assert!(
            readme.text.contains(&command),
            "README.md does not say `{command}`"
        );
    }
}
