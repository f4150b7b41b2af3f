//! Rewrites a template so that its values stay small.
//!
//! minijinja counts what a template makes, but counts a value once however often it is
//! shared: after forty times `{% set x = [x, x] %}` the list is built, cheap and without end
//! for whoever prints or compares it; `{% set ns.x = [ns.x] %}` makes values too deep to be
//! dropped. All such values begin with a literal in the source. So every list, tuple and map
//! literal is passed through a function that walks it and refuses too large a one:
//!
//! ```text
//! {% set x = [x, x] %}   ->   {% set x = check__([x, x]) %}
//! ```
//!
//! Values of attributes (`set ns.x = …`) are passed through too, because a namespace that
//! holds itself needs no literal. The function's name may not occur in the source, so it
//! cannot be replaced. The rewriting needs tokens only, cut exactly as minijinja cuts them: a
//! bracket opens a literal unless it follows an operand. No line end is added, so lines in
//! errors are those of the file.
//!
//! Also counted here: the tokens of one tag and the `elif` branches, since compiling nests
//! that deep.

use super::limits;
use crate::TemplateError;

/// The function that a literal is passed through.
pub(super) const CHECK: &str = "check__";

/// The most tokens between two delimiters.
const MAX_TAG_TOKENS: usize = 2048;

/// The most `elif` branches.
const MAX_BRANCHES: usize = 512;

/// Words after which an operand follows, so that a bracket opens a literal.
const BEFORE_OPERAND: [&str; 8] = ["and", "or", "not", "in", "is", "if", "else", "elif"];

/// Checks the source and returns it with its literals passed through [`CHECK`].
pub(super) fn guard(source: &str) -> Result<String, TemplateError> {
    if source.len() > limits::MAX_SOURCE_BYTES {
        return Err(TemplateError::SourceTooLong {
            found: source.len(),
            limit: limits::MAX_SOURCE_BYTES,
        });
    }
    let mut scanner = Scanner {
        source,
        at: 0,
        inserts: Vec::new(),
        n_branches: 0,
    };
    if let Some(at) = source.find(CHECK) {
        scanner.at = at;
        return Err(scanner.refuse("this name is taken"));
    }
    while scanner.next_tag()? {}
    Ok(scanner.rewritten())
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
    /// Texts to insert and where.
    inserts: Vec<(usize, &'static str)>,
    n_branches: usize,
}

/// An open bracket.
struct Open {
    at: usize,
    with: u8,
    /// Whether it begins a value instead of following one.
    begins: bool,
    has_comma: bool,
}

/// What is known of the tag so far.
#[derive(Default)]
struct Tag<'s> {
    open: Vec<Open>,
    /// Whether the last token ended an operand.
    after_operand: bool,
    after_dot: bool,
    /// The first word: `set`, `for` and so on.
    statement: Option<&'s str>,
    /// Whether we are in the part that names what is assigned.
    in_target: bool,
    has_dot_in_target: bool,
    /// Where the assigned value begins, and whether it is a tuple without brackets.
    value_at: Option<usize>,
    has_comma: bool,
}

impl<'s> Scanner<'s> {
    /// Goes to the next tag and through it; returns false at the end.
    fn next_tag(&mut self) -> Result<bool, TemplateError> {
        let Some((skip, kind)) = self
            .rest()
            .bytes()
            .zip(self.rest().bytes().skip(1))
            .enumerate()
            .find_map(|(i, pair)| match pair {
                (b'{', kind @ (b'{' | b'%' | b'#')) => Some((i, kind)),
                _ => None,
            })
        else {
            return Ok(false);
        };
        self.at += skip + 2;
        if kind == b'#' {
            return Ok(self.skip_past("#}"));
        }
        if self.rest().starts_with(['-', '+']) {
            self.at += 1;
        }
        match kind {
            b'{' => self.tag("}}")?,
            _ => match basic_tag(self.rest(), "raw", false) {
                Some(len) => {
                    self.at += len;
                    return Ok(self.skip_raw());
                }
                None => self.tag("%}")?,
            },
        }
        Ok(true)
    }

    /// Goes through a tag up to its end.
    fn tag(&mut self, end: &str) -> Result<(), TemplateError> {
        let mut tag = Tag::default();
        let is_statement = end == "%}";
        for _ in 0..MAX_TAG_TOKENS {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_white).len();
            let rest = self.rest();
            let after_sign = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if tag.open.is_empty() && after_sign.starts_with(end) {
                self.end_value(&tag);
                self.at += rest.len() - after_sign.len() + end.len();
                return Ok(());
            }
            if rest.is_empty() {
                // minijinja says what is missing, with the line.
                return Ok(());
            }
            self.token(&mut tag, is_statement)?;
        }
        Err(TemplateError::TooDeep {
            line: self.line(),
            limit: MAX_TAG_TOKENS,
        })
    }

    fn token(&mut self, tag: &mut Tag<'s>, is_statement: bool) -> Result<(), TemplateError> {
        let rest = self.rest();
        let first = rest.as_bytes()[0];
        match first {
            b'(' | b'[' | b'{' => {
                let begins = !tag.after_operand && !tag.in_target;
                tag.open.push(Open {
                    at: self.at,
                    with: first,
                    begins,
                    has_comma: false,
                });
                tag.after_operand = false;
                self.at += 1;
            }
            b')' | b']' | b'}' => self.close(tag, first)?,
            b'\'' | b'"' => {
                self.at += string_len(rest);
                tag.after_operand = true;
            }
            b'0'..=b'9' => {
                // An exponent or a fraction follows as a word or a sign and ends an operand too.
                self.at += rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                tag.after_operand = true;
            }
            _ => match word_len(rest) {
                0 => self.sign(tag),
                len => self.word(tag, &rest[..len], is_statement)?,
            },
        }
        tag.after_dot = first == b'.';
        Ok(())
    }

    fn close(&mut self, tag: &mut Tag<'s>, with: u8) -> Result<(), TemplateError> {
        let opens = match with {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        let Some(open) = tag.open.pop().filter(|open| open.with == opens) else {
            return Err(self.refuse("a bracket closes what is not open"));
        };
        self.at += 1;
        tag.after_operand = true;
        // Parentheses without a comma only group.
        if open.begins && (with != b')' || open.has_comma) {
            self.inserts.push((open.at, "check__("));
            self.inserts.push((self.at, ")"));
        }
        Ok(())
    }

    /// An operator or a separator.
    fn sign(&mut self, tag: &mut Tag<'s>) {
        let rest = self.rest();
        let is_pair = ["//", "**", "==", "!=", ">=", "<="]
            .iter()
            .any(|pair| rest.starts_with(pair));
        let first = rest.as_bytes()[0];
        self.at += if is_pair {
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        tag.after_operand = false;
        match (first, tag.open.last_mut()) {
            (b',', Some(open)) => open.has_comma = true,
            (b',', None) => tag.has_comma |= tag.value_at.is_some(),
            (b'.', _) => tag.has_dot_in_target |= tag.in_target,
            (b'=', None) if !is_pair && tag.in_target => {
                tag.in_target = false;
                tag.value_at = Some(self.at);
            }
            // `{% set x | filter([…]) %}` has arguments where the target was.
            (b'|', None) => tag.in_target = false,
            _ => {}
        }
    }

    fn word(
        &mut self,
        tag: &mut Tag<'s>,
        word: &'s str,
        is_statement: bool,
    ) -> Result<(), TemplateError> {
        self.at += word.len();
        if is_statement && tag.statement.is_none() {
            tag.statement = Some(word);
            tag.in_target = matches!(word, "set" | "for");
            // `call(user) …` declares arguments.
            tag.after_operand = word == "call";
            self.n_branches += usize::from(word == "elif");
            if self.n_branches > MAX_BRANCHES {
                return Err(TemplateError::TooDeep {
                    line: self.line(),
                    limit: MAX_BRANCHES,
                });
            }
            return Ok(());
        }
        if word == "in" && tag.open.is_empty() && tag.statement == Some("for") {
            tag.in_target = false;
        }
        tag.after_operand = tag.after_dot || !BEFORE_OPERAND.contains(&word);
        Ok(())
    }

    /// Passes an assigned value through the check where no literal has done so.
    fn end_value(&mut self, tag: &Tag<'s>) {
        let Some(value_at) = tag.value_at else {
            return;
        };
        if tag.has_comma {
            self.inserts.push((value_at, " check__(("));
            self.inserts.push((self.at, "))"));
        } else if tag.has_dot_in_target {
            self.inserts.push((value_at, " check__("));
            self.inserts.push((self.at, ")"));
        }
    }

    fn skip_past(&mut self, end: &str) -> bool {
        let found = self.rest().find(end);
        self.at = found.map_or(self.source.len(), |at| self.at + at + end.len());
        found.is_some()
    }

    fn skip_raw(&mut self) -> bool {
        while self.skip_past("{%") {
            if let Some(len) = basic_tag(self.rest(), "endraw", true) {
                self.at += len;
                return true;
            }
        }
        false
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn line(&self) -> usize {
        1 + self.source[..self.at].matches('\n').count()
    }

    fn refuse(&self, message: &str) -> TemplateError {
        TemplateError::Syntax {
            line: self.line(),
            message: message.to_owned(),
        }
    }

    fn rewritten(mut self) -> String {
        // Stable: what closes at a place was recorded before what opens there.
        self.inserts.sort_by_key(|&(at, _)| at);
        let mut rewritten = String::with_capacity(self.source.len() + 16 * self.inserts.len());
        let mut from = 0;
        for (at, text) in self.inserts {
            rewritten.push_str(&self.source[from..at]);
            rewritten.push_str(text);
            from = at;
        }
        rewritten.push_str(&self.source[from..]);
        rewritten
    }
}

/// The white space of minijinja's tags.
fn is_white(c: char) -> bool {
    c.is_ascii_whitespace()
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

fn word_len(rest: &str) -> usize {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    end.unwrap_or(rest.len())
}

/// The length of `raw %}` or `endraw %}` with white space and signs around the name.
fn basic_tag(rest: &str, name: &str, may_begin_with_sign: bool) -> Option<usize> {
    let sign = |text: &'_ str| text.starts_with(['-', '+']);
    let start = if may_begin_with_sign && sign(rest) {
        &rest[1..]
    } else {
        rest
    };
    let after = start.trim_start_matches(is_white).strip_prefix(name)?;
    let after = after.trim_start_matches(is_white);
    let after = if sign(after) { &after[1..] } else { after };
    let after = after.strip_prefix("%}")?;
    Some(rest.len() - after.len())
}
