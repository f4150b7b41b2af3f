//! What the server says of its work, on stderr.

use std::io;

use clap::ValueEnum;
use tracing::Level;

use crate::{args::QuietArgs, terminal};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Begins to write the log; with `--quiet` only what goes wrong.
pub(super) fn begin(format: LogFormat, quiet: QuietArgs) {
    let level = if quiet.quiet {
        Level::WARN
    } else {
        Level::INFO
    };
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(terminal::stderr_has_colour());
    let begun = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if let Err(error) = begun {
        terminal::say(format_args!("note: no log can be written: {error}"));
    }
}

/// Says that the cache folder takes nothing more.
pub(super) fn cache_failure(error: &io::Error) {
    tracing::warn!(
        %error,
        "a file of the cache folder cannot be written: going on with what is in memory"
    );
}
