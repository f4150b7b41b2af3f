//! Cuts the code of a template into tokens, exactly where minijinja 3 cuts it.
//!
//! Tags are found in the text, comments and raw blocks are skipped. A tag ends at its
//! delimiter outside of all brackets. Numbers and words are cut into smaller pieces than
//! minijinja's where that makes no difference to what precedes a bracket.

/// A piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// `(`, `[` or `{`.
    Open(u8),
    /// `)`, `]` or `}`.
    Close(u8),
    /// A string or digits.
    Operand,
    /// A name or keyword.
    Word(&'s str),
    /// An operator or separator.
    Sign(&'s str),
    /// The end of the tag.
    End,
}

/// Signs of two characters.
const PAIRS: [&str; 6] = ["//", "**", "==", "!=", ">=", "<="];

pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// What ends the tag that is being read.
    end: &'static str,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self {
            source,
            at: 0,
            end: "",
        }
    }

    /// Where the next token begins, or white space before it.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes into the next tag; says whether it is a statement. `None` at the end.
    pub(super) fn next_tag(&mut self) -> Option<bool> {
        loop {
            let pairs = self.rest().as_bytes().windows(2);
            let found = { pairs }.position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))?;
            let kind = self.rest().as_bytes()[found + 1];
            self.at += found + 2;
            if kind == b'#' {
                self.skip_past("#}")?;
                continue;
            }
            if self.rest().starts_with(['-', '+']) {
                self.at += 1;
            }
            self.end = if kind == b'{' { "}}" } else { "%}" };
            match basic_tag(self.rest(), "raw", false) {
                Some(len) if kind == b'%' => {
                    self.at += len;
                    self.skip_raw()?;
                }
                _ => return Some(kind == b'%'),
            }
        }
    }

    /// Returns the next token of the tag and where it begins; `None` where the source ends.
    pub(super) fn next_token(&mut self, may_end: bool) -> Option<(usize, Token<'s>)> {
        self.at = self.source.len() - self.rest().trim_start_matches(is_white).len();
        let rest = self.rest();
        let at = self.at;
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let (len, token) = if may_end && unsigned.starts_with(self.end) {
            (rest.len() - unsigned.len() + self.end.len(), Token::End)
        } else {
            token(rest)?
        };
        self.at += len;
        Some((at, token))
    }

    fn skip_raw(&mut self) -> Option<()> {
        loop {
            self.skip_past("{%")?;
            if let Some(len) = basic_tag(self.rest(), "endraw", true) {
                self.at += len;
                return Some(());
            }
        }
    }

    fn skip_past(&mut self, end: &str) -> Option<()> {
        self.at += self.rest().find(end)? + end.len();
        Some(())
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }
}

fn token(rest: &str) -> Option<(usize, Token<'_>)> {
    let first = *rest.as_bytes().first()?;
    Some(match first {
        b'(' | b'[' | b'{' => (1, Token::Open(first)),
        b')' | b']' | b'}' => (1, Token::Close(first)),
        b'\'' | b'"' => (string_len(rest), Token::Operand),
        b'0'..=b'9' => (prefix_len(rest, |c| c.is_ascii_digit()), Token::Operand),
        _ => match prefix_len(rest, |c| c.is_alphanumeric() || c == '_') {
            0 => {
                let is_pair = PAIRS.iter().any(|pair| rest.starts_with(pair));
                let first_len = rest.chars().next().map_or(1, char::len_utf8);
                let len = if is_pair { 2 } else { first_len };
                (len, Token::Sign(&rest[..len]))
            }
            len => (len, Token::Word(&rest[..len])),
        },
    })
}

/// The white space of minijinja's tags.
fn is_white(c: char) -> bool {
    c.is_ascii_whitespace()
}

fn prefix_len(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a string with its quotes; to the end where the closing one is missing.
fn string_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut escaped = false;
    let inside = bytes[1..].iter().position(|&byte| {
        let ends = byte == bytes[0] && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    inside.map_or(rest.len(), |len| len + 2)
}

/// The length of `raw %}` or `endraw %}` with white space and signs around the name.
fn basic_tag(rest: &str, name: &str, may_begin_with_sign: bool) -> Option<usize> {
    let unsigned = |text: &'_ str| prefix_len(text, |c| matches!(c, '-' | '+')).min(1);
    let sign = if may_begin_with_sign {
        unsigned(rest)
    } else {
        0
    };
    let after = rest[sign..]
        .trim_start_matches(is_white)
        .strip_prefix(name)?;
    let after = after.trim_start_matches(is_white);
    let after = after[unsigned(after)..].strip_prefix("%}")?;
    Some(rest.len() - after.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(source: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(source);
        let mut tokens = Vec::new();
        while lexer.next_tag().is_some() {
            let mut depth = 0;
            while let Some((_, token)) = lexer.next_token(depth == 0) {
                match token {
                    Token::Open(_) => depth += 1,
                    Token::Close(_) => depth -= 1,
                    _ => {}
                }
                tokens.push(token);
                if token == Token::End {
                    break;
                }
            }
        }
        tokens
    }

    #[test]
    fn text_comments_and_raw_blocks_hold_no_tokens() {
        let source = "a { b } {# {{ c }} #} {%- raw -%} {{ d }} {%+ endraw %} {{- e -}}";
        assert_eq!(tokens(source), [Token::Word("e"), Token::End]);
        assert_eq!(tokens("{# {{ a }}"), []);
        assert_eq!(tokens("{% raw %}{{ a }}"), []);
    }

    #[test]
    fn a_delimiter_inside_of_brackets_or_a_string_ends_nothing() {
        let expected = [Token::Open(b'{'), Token::Open(b'{'), Token::Close(b'}')];
        assert_eq!(tokens("{{ {{}} }}")[..3], expected);
        assert_eq!(tokens(r#"{{ "}}\"" }}"#), [Token::Operand, Token::End]);
        assert_eq!(tokens("{% if '%}' %}").len(), 3);
    }

    #[test]
    fn signs_and_words() {
        let expected = [
            Token::Word("x"),
            Token::Sign("**"),
            Token::Operand,
            Token::Sign("."),
            Token::Operand,
            Token::Sign("!="),
            Token::Sign("-"),
            Token::Word("y_1"),
            Token::End,
        ];
        assert_eq!(tokens("{{ x**1.5 != -y_1 -}}"), expected);
    }
}
