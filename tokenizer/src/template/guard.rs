//! Rewrites a template so that its values stay small.
//!
//! minijinja counts what a template makes, but counts a value once however often it is
//! shared: after forty times `{% set x = [x, x] %}` the list is built, cheap, and without end
//! for whoever prints or compares it; `{% set ns.x = [ns.x] %}` makes values too deep to be
//! dropped. So wherever the source makes a list or map of others, the parts are counted:
//!
//! | in the source | becomes | why |
//! |---|---|---|
//! | `[x, x]`, `(x, x)`, `{"a": x}` | `check__([x, x])` | nests and shares |
//! | `x + y` | `x\|check__ + y\|check__` | lists grow |
//! | `x * 3` | `x\|factor__ * 3\|factor__` | lists grow; refused |
//! | `set ns.x = y` | `set ns.x = assign__(y)` | a namespace could hold itself |
//! | `set x = y[1:]` | `set x = assign__(y[1:], true)` | a slice of a slice of … nests |
//!
//! The names may not occur in the source, so nobody can replace or avoid them. Tokens are
//! enough for this, cut as minijinja cuts them: a bracket opens a literal unless it follows
//! an operand, and a filter binds closer than any operator. No line end is added, so lines in
//! errors are those of the file. Also counted are the tokens and sums of one tag and the
//! `elif` branches, since compiling nests that deep.

mod lexer;

use super::limits;
use crate::TemplateError;
use lexer::{Lexer, Token};

/// Counts the parts of a literal (as a function) or of a summand (as a filter).
pub(super) const CHECK: &str = "check__";
/// Refuses to repeat a list.
pub(super) const FACTOR: &str = "factor__";
/// Checks what is kept under a name.
pub(super) const ASSIGN: &str = "assign__";

/// The most tokens between two delimiters.
const MAX_TAG_TOKENS: usize = 2048;

/// The most sums between two delimiters: so many times the limit of one value can a list be.
const MAX_TAG_SUMS: usize = 64;

/// The most `elif` branches.
const MAX_BRANCHES: usize = 512;

/// Words that are operators where one can stand; elsewhere they are names like any other.
const OPERATORS: [&str; 7] = ["and", "or", "not", "in", "is", "if", "else"];

/// Returns the source with its growing values passed through the checks.
pub(super) fn guard(source: &str) -> Result<String, TemplateError> {
    if source.len() > limits::MAX_SOURCE_BYTES {
        return Err(TemplateError::SourceTooLong {
            found: source.len(),
            limit: limits::MAX_SOURCE_BYTES,
        });
    }
    let mut lexer = Lexer::new(source);
    if let Some(at) = [CHECK, FACTOR, ASSIGN]
        .into_iter()
        .find_map(|name| source.find(name))
    {
        return Err(TemplateError::Syntax {
            line: line(source, at),
            message: "a name that ends in `__` is reserved".to_owned(),
        });
    }
    let mut guard = Guard {
        source,
        inserts: Vec::new(),
        n_branches: 0,
    };
    while let Some(is_statement) = lexer.next_tag() {
        guard.tag(&mut lexer, is_statement)?;
    }
    Ok(guard.rewritten())
}

struct Guard<'s> {
    source: &'s str,
    /// Texts to insert and where.
    inserts: Vec<(usize, &'static str)>,
    n_branches: usize,
}

/// An open bracket.
struct Open {
    at: usize,
    bracket: u8,
    /// Whether it begins a value instead of following one.
    begins: bool,
    has_comma: bool,
}

/// What is known of a tag so far.
#[derive(Default)]
struct Tag<'s> {
    open: Vec<Open>,
    /// Whether the last token ended an operand, and where it ended.
    after_operand: bool,
    after_dot: bool,
    /// Whether the last words were `is` or `is not`, or these and the name of a test.
    expects_test: bool,
    after_test: bool,
    last_end: usize,
    /// Filters to append to the operand that is being read, with the depth it is read at.
    pending: Vec<(usize, &'static str)>,
    n_sums: usize,
    /// The first word: `set`, `for` and so on.
    statement: Option<&'s str>,
    /// Whether we are in the part that names what is assigned.
    in_target: bool,
    has_attribute: bool,
    /// Where the assigned value begins, and what it contains outside of brackets.
    value_at: Option<usize>,
    has_comma: bool,
    has_slice: bool,
}

impl<'s> Guard<'s> {
    /// Reads a tag up to its end and records what is to be inserted.
    fn tag(&mut self, lexer: &mut Lexer<'s>, is_statement: bool) -> Result<(), TemplateError> {
        let mut tag = Tag::default();
        for _ in 0..MAX_TAG_TOKENS {
            let Some((at, token)) = lexer.next_token(tag.open.is_empty()) else {
                // minijinja says what is missing, with the line.
                return Ok(());
            };
            if self.ends_operand(&tag, token) {
                self.append_pending(&mut tag);
            }
            match token {
                Token::End => {
                    self.end_value(&tag, at);
                    return Ok(());
                }
                Token::Open(bracket) => {
                    // `x is in [y]` has an argument without parentheses.
                    let begins = !tag.after_operand || (tag.after_test && bracket != b'(');
                    tag.open.push(Open {
                        at,
                        bracket,
                        begins: begins && !tag.in_target,
                        has_comma: false,
                    });
                    tag.after_operand = false;
                }
                Token::Close(bracket) => self.close(&mut tag, at, bracket)?,
                Token::Operand => tag.after_operand = true,
                Token::Word(word) => self.word(&mut tag, at, word, is_statement)?,
                Token::Sign(sign) => self.sign(&mut tag, at, sign)?,
            }
            if !matches!(token, Token::Word(_)) {
                (tag.expects_test, tag.after_test) = (false, false);
            }
            tag.after_dot = token == Token::Sign(".");
            tag.last_end = lexer.at();
        }
        Err(self.too_deep(lexer.at(), MAX_TAG_TOKENS))
    }

    /// Whether the operand before this token is complete.
    fn ends_operand(&self, tag: &Tag<'_>, token: Token<'_>) -> bool {
        match token {
            Token::End | Token::Close(_) => true,
            Token::Sign(sign) => tag.after_operand && !matches!(sign, "." | "|"),
            // A word after an operand is an operator, unless it names an attribute.
            Token::Word(_) => tag.after_operand && !tag.after_dot,
            Token::Open(_) | Token::Operand => false,
        }
    }

    fn append_pending(&mut self, tag: &mut Tag<'_>) {
        let depth = tag.open.len();
        while let Some((_, filter)) = tag.pending.pop_if(|(at_depth, _)| *at_depth == depth) {
            self.inserts.push((tag.last_end, filter));
        }
    }

    fn close(&mut self, tag: &mut Tag<'_>, at: usize, bracket: u8) -> Result<(), TemplateError> {
        let opens = match bracket {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        let Some(open) = tag.open.pop().filter(|open| open.bracket == opens) else {
            return Err(TemplateError::Syntax {
                line: line(self.source, at),
                message: "a bracket closes what is not open".to_owned(),
            });
        };
        tag.after_operand = true;
        // Parentheses without a comma only group.
        if open.begins && (bracket != b')' || open.has_comma) {
            self.inserts.push((open.at, " check__("));
            self.inserts.push((at + 1, ")"));
        }
        Ok(())
    }

    fn sign(&mut self, tag: &mut Tag<'_>, at: usize, sign: &str) -> Result<(), TemplateError> {
        match (sign, tag.open.last_mut()) {
            ("+", _) if tag.after_operand => {
                tag.n_sums += 1;
                if tag.n_sums > MAX_TAG_SUMS {
                    return Err(self.too_deep(at, MAX_TAG_SUMS));
                }
                self.operands(tag, "|check__ ");
            }
            ("*", _) if tag.after_operand => self.operands(tag, "|factor__ "),
            (",", Some(open)) => open.has_comma = true,
            (",", None) => tag.has_comma |= tag.value_at.is_some(),
            (":", Some(open)) => tag.has_slice |= open.bracket == b'[',
            (".", _) => tag.has_attribute |= tag.in_target,
            ("=", None) if tag.in_target => {
                tag.in_target = false;
                tag.value_at = Some(at + 1);
            }
            // `{% set x | filter([…]) %}` has arguments where the target was.
            ("|", None) => tag.in_target = false,
            _ => {}
        }
        tag.after_operand = false;
        Ok(())
    }

    /// Filters the operand on the left, and the one on the right when it is complete.
    fn operands(&mut self, tag: &mut Tag<'_>, filter: &'static str) {
        self.inserts.push((tag.last_end, filter));
        tag.pending.push((tag.open.len(), filter));
    }

    fn word(
        &mut self,
        tag: &mut Tag<'s>,
        at: usize,
        word: &'s str,
        is_statement: bool,
    ) -> Result<(), TemplateError> {
        if is_statement && tag.statement.is_none() {
            tag.statement = Some(word);
            tag.in_target = matches!(word, "set" | "for");
            // `call(user) …` declares arguments.
            tag.after_operand = word == "call";
            self.n_branches += usize::from(word == "elif");
            if self.n_branches > MAX_BRANCHES {
                return Err(self.too_deep(at, MAX_BRANCHES));
            }
            return Ok(());
        }
        if word == "in" && tag.open.is_empty() && tag.statement == Some("for") {
            tag.in_target = false;
        }
        let is_prefix = word == "not" && !tag.after_dot;
        let is_infix = tag.after_operand && !tag.after_dot && OPERATORS.contains(&word);
        tag.after_test = tag.expects_test && !is_prefix;
        tag.expects_test = (is_infix && word == "is") || (tag.expects_test && is_prefix);
        tag.after_operand = !is_prefix && !is_infix;
        Ok(())
    }

    /// Checks an assigned value that no literal has checked.
    fn end_value(&mut self, tag: &Tag<'_>, at: usize) {
        let Some(value_at) = tag.value_at else {
            return;
        };
        let (open, close) = match (tag.has_comma, tag.has_slice) {
            (true, _) => (" check__((", "))"),
            (false, true) => (" assign__(", ", true)"),
            (false, false) if tag.has_attribute => (" assign__(", ")"),
            (false, false) => return,
        };
        self.inserts.push((value_at, open));
        self.inserts.push((at, close));
    }

    fn too_deep(&self, at: usize, limit: usize) -> TemplateError {
        TemplateError::TooDeep {
            line: line(self.source, at),
            limit,
        }
    }

    fn rewritten(mut self) -> String {
        // Stable: of two texts for one place, the one recorded first comes first.
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

fn line(source: &str, at: usize) -> usize {
    1 + source[..at].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_grow_is_checked_and_nothing_else() {
        struct Case {
            source: &'static str,
            guarded: &'static str,
        }
        let cases = [
            Case {
                source: "{{ [x, x[0]] }}",
                guarded: "{{ check__([x, x[0]]) }}",
            },
            Case {
                source: "{{ {'a': (x)} }}{{ (x, y) }}{{ f(x, y) }}",
                guarded: "{{ check__({'a': (x)}) }}{{ check__((x, y)) }}{{ f(x, y) }}",
            },
            Case {
                source: "{{ x + y.z(1)|f - 2 }}",
                guarded: "{{ x|check__ + y.z(1)|f|check__ - 2 }}",
            },
            Case {
                source: "{{ x * -3 ** 2 }}{{ +1 }}",
                guarded: "{{ x|factor__ * -3|factor__ ** 2 }}{{ +1 }}",
            },
            Case {
                source: "{%- set ns.x = y -%}{% set x = y %}",
                guarded: "{%- set ns.x = assign__( y )-%}{% set x = y %}",
            },
            Case {
                source: "{% set x = y[1:] %}{% set a, (b, c) = x, y %}",
                guarded: "{% set x = assign__( y[1:] , true)%}{% set a, (b, c) = check__(( x, y ))%}",
            },
            Case {
                source: "{% for (a, b) in c if [a] %}{% call(d) e() %}",
                guarded: "{% for (a, b) in c if check__([a]) %}{% call(d) e() %}",
            },
            Case {
                source: "[x] + {# [y] #}{% raw %}{{ [z] }}{% endraw %}{{ '[' }}",
                guarded: "[x] + {# [y] #}{% raw %}{{ [z] }}{% endraw %}{{ '[' }}",
            },
        ];
        for Case { source, guarded } in cases {
            // Spaces where texts are inserted do not matter.
            let given = guard(source).unwrap();
            let squeezed = |text: &str| text.replace(' ', "");
            assert_eq!(squeezed(&given), squeezed(guarded), "{source}");
        }
    }

    fn compiles(source: &str) -> bool {
        Environment::new().template_from_str(source).is_ok()
    }

    // Only a variable with the name `not` is taken for an operator where minijinja sees the
    // variable (`x + not`), and then refused.
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_rewritten_template_compiles_where_the_source_does(
            code in r"(x|y\.z|if|else|in|\(not x\)|is not defined|is |eq|defined|and|for|1|'s'|\+|\*|-|~|\||==|,|:|\.|\[|\]|\(|\)|\{|\}| ){1,14}",
            around in prop::sample::select(vec![
                ("{{ ", " }}"),
                ("{% set x = ", " %}"),
                ("{% set n.x = ", " %}"),
                ("{% for i in ", " %}{% endfor %}"),
                ("{% if ", " %}{% endif %}"),
                ("{{- f(", ") -}}"),
                ("{{ [", "] }}"),
            ]),
        ) {
            let source = format!("{}{code}{}", around.0, around.1);
            if compiles(&source) {
                let guarded = guard(&source).unwrap();
                prop_assert!(compiles(&guarded), "{} -> {}", source, guarded);
            }
        }
    }
}
