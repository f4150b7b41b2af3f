//! Stderr, colours, and text that must not steer a terminal.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Writes a line to stderr. Where nobody listens there is nobody to tell.
pub(crate) fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Writes to stderr without ending the line.
pub(crate) fn say_part(message: impl Display) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{message}").and_then(|()| stderr.flush());
}

/// Returns whether escape sequences may be written to stderr: it is a terminal that knows
/// them, and `NO_COLOR` is not set.
pub(crate) fn stderr_has_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Returns `text` with characters escaped that a terminal would obey or that would change
/// the order of what is read; line ends and tabs stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_steering(c) && !matches!(c, '\n' | '\t'))
}

/// Returns `text` as part of one line: line ends and tabs are escaped too.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, is_steering)
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, and the marks that turn the direction of writing.
fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_instead() {
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(printable("\u{1b}[31mred\u{7f}"), "\\u{1b}[31mred\\u{7f}");
        assert_eq!(printable("\u{202e}abc\r"), "\\u{202e}abc\\r");
        assert_eq!(one_line("a\tb\nc é"), "a\\tb\\nc é");
    }
}
