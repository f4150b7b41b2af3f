//! How long texts become when everything that stands for more is written out.
//!
//! llguidance keeps terminals of Lark and counted parts of expressions as they are written out,
//! so a few lines can stand for more than any memory holds. They are measured first.

use std::collections::HashMap;

use super::{invalid, within};
use crate::SamplerError;

/// The most that anything may be written out.
const MAX_LEN: usize = 1_000_000;

/// The most words of the parameters of a definition.
const MAX_PARAMETERS: usize = 64;

const LARK: &str = "Lark grammar";

/// Statements of Lark with another language in them: its limits would not be looked at.
const EMBEDDED: [&str; 4] = ["%json", "%lark", "%llguidance", "%regex"];

/// Checks an expression.
pub(super) fn check_regex(form: &'static str, regex: &str) -> Result<(), SamplerError> {
    within(
        form,
        "characters when written out",
        regex_len(regex),
        MAX_LEN,
    )
}

/// Checks a Lark grammar.
pub(super) fn check_lark(text: &str) -> Result<(), SamplerError> {
    let mut terminals: HashMap<&str, Vec<Word<'_>>> = HashMap::new();
    let mut at_work = None;
    let words = words(text)?;
    for (idx, word) in words.iter().enumerate() {
        match word {
            Word::Name(name) if defines(&words[idx + 1..]) => at_work = Some(*name),
            Word::Statement(name) => {
                if EMBEDDED.contains(name) {
                    return Err(SamplerError::GrammarFeature {
                        feature: (*name).to_owned(),
                        place: "a Lark grammar".to_owned(),
                    });
                }
                at_work = None;
            }
            _ => (),
        }
        if let Some(name) = at_work {
            terminals.entry(name).or_default().push(*word);
        }
    }
    let mut lens = HashMap::new();
    for name in terminals.keys() {
        let len = terminal_len(name, &terminals, &mut lens, 0)?;
        within(
            LARK,
            "characters of a terminal when written out",
            len,
            MAX_LEN,
        )?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Word<'a> {
    Name(&'a str),
    Statement(&'a str),
    /// A string or an expression, and how long it is.
    Literal(usize),
    Count(usize),
    Other(u8),
}

/// Whether a definition goes on like this: parameters, attributes or a priority and a colon.
fn defines(rest: &[Word<'_>]) -> bool {
    match rest.first() {
        Some(Word::Other(b':')) => true,
        Some(Word::Other(b'.')) => matches!(rest.get(2), Some(Word::Other(b':'))),
        Some(Word::Other(open @ (b'[' | b'{'))) => {
            let close = if *open == b'[' { b']' } else { b'}' };
            let mut near = rest.iter().take(MAX_PARAMETERS);
            let end = near.position(|word| *word == Word::Other(close));
            let after = end.and_then(|end| rest.get(end + 1));
            matches!(after, Some(Word::Other(b':')))
        }
        _ => false,
    }
}

fn words(text: &str) -> Result<Vec<Word<'_>>, SamplerError> {
    let bytes = text.as_bytes();
    let (mut words, mut at) = (Vec::new(), 0);
    let run = |at: usize, is_part: fn(u8) -> bool| {
        let len = bytes[at..]
            .iter()
            .take_while(|&&byte| is_part(byte))
            .count();
        at + len
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    while at < bytes.len() {
        let begin = at;
        match bytes[at] {
            b'#' => at = run(at, |byte| byte != b'\n'),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = run(at, |byte| byte != b'\n'),
            quote @ (b'"' | b'/') => {
                at = literal_end(bytes, at, quote);
                let inner = &text[begin + 1..at.max(begin + 2) - 1];
                words.push(Word::Literal(match quote {
                    b'/' => regex_len(inner),
                    _ => inner.len(),
                }));
            }
            b'%' => {
                at = run(at + 1, |byte| byte.is_ascii_alphabetic());
                words.push(Word::Statement(&text[begin..at]));
            }
            byte if byte.is_ascii_digit() => {
                at = run(at, |byte| byte.is_ascii_digit());
                words.push(Word::Count(text[begin..at].parse().unwrap_or(usize::MAX)));
            }
            byte if is_name(byte) => {
                at = run(at, is_name);
                words.push(Word::Name(&text[begin..at]));
            }
            byte => {
                at += 1;
                if !byte.is_ascii_whitespace() {
                    words.push(Word::Other(byte));
                }
            }
        }
        if !text.is_char_boundary(at) {
            return Err(invalid(
                LARK,
                format!("byte {at}: expected ASCII outside of texts"),
            ));
        }
    }
    Ok(words)
}

/// Returns where a string or expression ends that begins at `at`.
fn literal_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    at += 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// How long a terminal is, written out; at most twice as long as may be.
fn terminal_len<'a>(
    name: &'a str,
    terminals: &HashMap<&'a str, Vec<Word<'a>>>,
    lens: &mut HashMap<&'a str, usize>,
    depth: usize,
) -> Result<usize, SamplerError> {
    if let Some(&len) = lens.get(name) {
        return Ok(len);
    }
    within(LARK, "levels of terminals", depth, 200)?;
    // A terminal that leads to itself is refused by llguidance.
    lens.insert(name, 0);
    let (mut len, mut times) = (0_usize, 1_usize);
    for word in terminals.get(name).into_iter().flatten() {
        len = match word {
            Word::Name(other) if other.starts_with(is_terminal) => {
                len.saturating_add(terminal_len(other, terminals, lens, depth + 1)?)
            }
            Word::Literal(literal) => len.saturating_add(*literal),
            _ => len + 1,
        };
        if let Word::Count(count) = word {
            times = times.saturating_mul((*count).max(1));
        }
    }
    let len = len.saturating_mul(times).min(2 * MAX_LEN);
    lens.insert(name, len);
    Ok(len)
}

fn is_terminal(c: char) -> bool {
    c.is_ascii_uppercase() || c == '_'
}

/// How long an expression is if what is counted is written as often as it may come.
fn regex_len(regex: &str) -> usize {
    // The lengths of open groups; within each, of all, and of what a count would be of.
    let mut groups = vec![(0_usize, 0_usize)];
    let mut chars = regex.chars().peekable();
    while let Some(c) = chars.next() {
        let mut item = 1;
        match c {
            '\\' => drop(chars.next()),
            '[' => {
                let mut is_first = true;
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        ']' if !is_first => break,
                        _ => (),
                    }
                    is_first = is_first && c == '^';
                }
            }
            '(' => {
                groups.push((0, 0));
                continue;
            }
            ')' if groups.len() > 1 => item = groups.pop().map_or(1, |(all, _)| all),
            '{' => {
                let inner: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let counts = inner
                    .split(',')
                    .filter_map(|count| count.trim().parse().ok());
                let most: usize = counts.max().unwrap_or(1);
                if let Some((all, last)) = groups.last_mut() {
                    let more = last.saturating_mul(most.saturating_sub(1));
                    *all = all.saturating_add(more);
                    *last = last.saturating_add(more);
                }
                continue;
            }
            _ => (),
        }
        if let Some((all, last)) = groups.last_mut() {
            *all = all.saturating_add(item);
            *last = item;
        }
    }
    let open = groups.iter().map(|(all, _)| *all);
    open.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_expressions_multiply_where_they_lie_in_each_other() {
        let cases = [
            ("abc", 3),
            ("a{3}b", 4),
            ("(ab){10}", 20),
            (r"\d{4}-\d{2}-[0-9\]]{2}", 10),
            ("((a{1000}){1000}){1000}", 1_000_000_000),
            ("[]a]{2}", 2),
            ("(a|b{2,5}){0,2}", 14),
        ];
        for (regex, expected) in cases {
            assert_eq!(regex_len(regex), expected, "{regex}");
        }
    }

    #[test]
    fn terminals_are_measured_written_out() {
        let doubled = |n: usize| -> String {
            let lines = (0..n).map(|n| format!("R{n}: R{} R{} // twice\n", n + 1, n + 1));
            format!("start: R0\n{}R{n}: \"a\"\n", lines.collect::<String>())
        };
        assert!(check_lark(&doubled(10)).is_ok());
        let error = check_lark(&doubled(40)).unwrap_err().to_string();
        assert!(
            error.contains("characters of a terminal when written out"),
            "{error}"
        );
        assert!(check_lark("start: A\nA: (\"a\"{1000}){1000}\n").is_err());
        assert!(check_lark("start: A\nA.2: /((a{1000}){1000}){1000}/\n").is_err());
        assert!(check_lark("start: \"%json\" /%json/ # %json\n").is_ok());
        let error = check_lark("start: %json {}").unwrap_err().to_string();
        assert_eq!(error, "`%json` in a Lark grammar is not supported");
    }
}
