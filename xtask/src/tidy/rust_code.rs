//! Rust source without what is not code.
//!
//! Rules look for words such as `unsafe`, which comments and strings may well contain. This
//! is a lexer of comments and literals, enough to blank them; everything else passes through.

use crate::workspace::SourceFile;

/// Returns the Rust files of the workspace.
pub(super) fn rust_files(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.path.ends_with(".rs"))
}

/// Returns the code with comments and the insides of literals blanked; lines stay lines.
pub(super) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let n_bytes = match literal_or_comment(rest, out.chars().next_back()) {
            Some(n_bytes) => {
                out.extend(
                    rest[..n_bytes]
                        .chars()
                        .map(|c| if c == '\n' { c } else { ' ' }),
                );
                n_bytes
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[n_bytes..];
    }
    out
}

/// Returns the code before the unit tests, which stand at the foot of a file.
pub(super) fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod ")
        .map_or(code, |end| &code[..end])
}

/// Returns the numbers of the lines that contain `word`, with no letter, digit or underscore
/// on either side of it.
pub(super) fn lines_with(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let stands_alone = move |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            let open_end = !word.ends_with(is_word_part) || !after.is_some_and(is_word_part);
            open_end && !before.is_some_and(is_word_part)
        })
    };
    let lines = code.lines().enumerate();
    lines
        .filter(move |(_, line)| stands_alone(line))
        .map(|(idx, _)| idx + 1)
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the comment or literal at the start of `rest`, if there is one.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if !before.is_some_and(is_word_part) && (rest.starts_with('r') || rest.starts_with("br")) {
        return raw_string(rest);
    }
    if rest.starts_with('\'') {
        return char_literal(rest);
    }
    None
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = rest.find('r')? + 1;
    let n_hashes = rest[start..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let open = start + n_hashes;
    rest[open..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(n_hashes));
    let inside = open + 1;
    Some(
        rest[inside..]
            .find(&close)
            .map_or(rest.len(), |at| inside + at + close.len()),
    )
}

/// A character, not a lifetime: closed after one character or after an escape.
fn char_literal(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case("a // unsafe\nb", "a          \nb"),
            Case("a /* x /* y */ z */ b", "a                   b"),
            Case(r#"f("un\"safe", c)"#, "f(          , c)"),
            Case("f(r#\"a \" b\"#)", "f(          )"),
            Case("f(br\"a\", b\"c\")", "f(     , b   )"),
            Case(r"m('\'', 'x', &'a str)", "m(    ,    , &'a str)"),
            Case("for r in rows { attr\"\" }", "for r in rows { attr   }"),
            Case("let s = \"a\nb\";", "let s =   \n  ;"),
        ];
        for Case(text, expected) in cases {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        let text = "unsafe {\nunsafe_code\nnot_unsafe\n(unsafe)";
        assert_eq!(lines_with(text, "unsafe").collect::<Vec<_>>(), [1, 4]);
        assert_eq!(
            lines_with("a\nfs::read(x)", "fs::").collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn unit_tests_are_cut_off() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {}"), "a\n");
        assert_eq!(
            without_tests("a\n#[cfg(test)]\nuse x;"),
            "a\n#[cfg(test)]\nuse x;"
        );
    }
}
