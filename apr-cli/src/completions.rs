//! `apr completions`: what a shell needs to complete our flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, error::Error, output::Output};

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "apr", &mut script);
    Output::new().write(&script)
}
