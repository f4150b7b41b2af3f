//! Where the user's messages come from: a terminal with line editing, or a pipe.

use std::io::{self, BufRead, IsTerminal};

use rustyline::{DefaultEditor, error::ReadlineError};

use crate::{error::Error, input};

/// What begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

/// A source of lines.
pub(super) enum Lines {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    End,
}

impl Lines {
    pub(super) fn new() -> Result<Self, Error> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let editor = DefaultEditor::new().map_err(terminal_error)?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    pub(super) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Reads a whole message, which may have several lines.
    pub(super) fn message(&mut self) -> Result<Line, Error> {
        let message = join(|is_first| self.line(if is_first { "> " } else { "… " }))?;
        if let (Self::Terminal(editor), Line::Text(text)) = (&mut *self, &message)
            && !text.trim().is_empty()
        {
            editor.add_history_entry(text).map_err(terminal_error)?;
        }
        Ok(message)
    }

    fn line(&mut self, prompt: &str) -> Result<Line, Error> {
        match self {
            Self::Terminal(editor) => match editor.readline(prompt) {
                Ok(text) => Ok(Line::Text(text)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(terminal_error(error)),
            },
            Self::Pipe => read_line(&mut io::stdin().lock()),
        }
    }
}

/// Puts the lines of a message together; `next` is told whether it is asked for the first.
fn join(mut next: impl FnMut(bool) -> Result<Line, Error>) -> Result<Line, Error> {
    let mut text = match next(true)? {
        Line::Text(text) => text,
        other => return Ok(other),
    };
    let is_fenced = text.trim_start().starts_with(FENCE);
    if is_fenced {
        text = text.trim_start()[FENCE.len()..].to_owned();
    }
    loop {
        if is_fenced && text.trim_end().ends_with(FENCE) {
            text.truncate(text.trim_end().len() - FENCE.len());
            return Ok(Line::Text(text.trim_matches('\n').to_owned()));
        }
        if !is_fenced {
            match text.strip_suffix('\\') {
                Some(start) => text = start.to_owned(),
                None => return Ok(Line::Text(text)),
            }
        }
        match next(false)? {
            Line::Text(line) => {
                text.push('\n');
                text.push_str(&line);
            }
            Line::End => return Ok(Line::Text(text)),
            Line::Interrupted => return Ok(Line::Interrupted),
        }
    }
}

fn read_line(input: &mut impl BufRead) -> Result<Line, Error> {
    let Some(line) = input::read_line("stdin", input)? else {
        return Ok(Line::End);
    };
    let text = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Line::Text(
        text.strip_suffix('\r').unwrap_or(text).to_owned(),
    ))
}

fn terminal_error(error: ReadlineError) -> Error {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other),
    };
    Error::Io {
        name: "terminal".to_owned(),
        action: "read",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mut input: &[u8]) -> Vec<String> {
        let mut messages = Vec::new();
        while let Line::Text(text) = join(|_| read_line(&mut input)).unwrap() {
            messages.push(text);
        }
        messages
    }

    #[test]
    fn each_line_is_a_message() {
        assert_eq!(messages(b"one\r\ntwo\n\nlast"), ["one", "two", "", "last"]);
    }

    #[test]
    fn a_backslash_goes_on_in_the_next_line() {
        assert_eq!(
            messages(b"one\\\ntwo\\\nthree\nfour"),
            ["one\ntwo\nthree", "four"]
        );
        assert_eq!(messages(b"open\\"), ["open"]);
    }

    #[test]
    fn fences_hold_many_lines() {
        assert_eq!(messages(b"\"\"\"\na\\\n\nb\n\"\"\"\nc"), ["a\\\n\nb", "c"]);
        assert_eq!(messages(b"\"\"\"one\ntwo\"\"\"\n"), ["one\ntwo"]);
        assert_eq!(messages(b"\"\"\"x\"\"\""), ["x"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        assert!(read_line(&mut &b"\xff\n"[..]).is_err());
    }
}
