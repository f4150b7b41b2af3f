//! Stdout: the results, and nothing but them.
//!
//! Every write is flushed, so that text appears as it comes and nothing is lost when the
//! program is interrupted. A reader that has gone away ends the program quietly.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::{error::Error, terminal};

/// The standard output.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: io::Stdout,
    is_terminal: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self {
            stdout,
            is_terminal,
        }
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = self.stdout.lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(closed)
    }

    /// Writes text of a model. On a terminal control characters are shown, not obeyed.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        if self.is_terminal {
            return self.write(terminal::printable(text).as_bytes());
        }
        self.write(text.as_bytes())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Error> {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_string(value).map_err(|error| closed(error.into()))?;
        self.line(&json)
    }
}

fn closed(source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::BrokenPipe => Error::OutputClosed,
        _ => Error::Io {
            name: "stdout".to_owned(),
            action: "written",
            source,
        },
    }
}
