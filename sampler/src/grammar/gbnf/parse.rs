//! The text of a GBNF grammar, read as llama.cpp reads it.

use std::collections::HashMap;

use super::{
    super::{compile::MAX_SOURCE_BYTES, invalid, within},
    set::CharSet,
};
use crate::SamplerError;

const FORM: &str = "GBNF grammar";

/// How deep groups may lie in each other.
const MAX_DEPTH: usize = 64;
/// The most rules.
const MAX_RULES: usize = 1000;
/// The most repetitions that are counted, as in llama.cpp.
const MAX_COUNT: u32 = 2000;

/// A grammar. Rules and sets are named by their index.
#[derive(Debug)]
pub(super) struct Gbnf {
    pub(super) rules: Vec<Node>,
    pub(super) root: usize,
    /// The set at each place where one character is described.
    pub(super) sets: Vec<CharSet>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// One character of a set.
    Set(usize),
    Rule(usize),
    Sequence(Vec<Self>),
    OneOf(Vec<Self>),
    Repeat {
        node: Box<Self>,
        least: u32,
        most: Option<u32>,
    },
}

/// Reads a grammar.
pub(super) fn parse(text: &str) -> Result<Gbnf, SamplerError> {
    within(FORM, "bytes", text.len(), MAX_SOURCE_BYTES)?;
    let mut parser = Parser {
        text,
        at: 0,
        names: HashMap::new(),
        order: Vec::new(),
        bodies: HashMap::new(),
        sets: Vec::new(),
    };
    parser.grammar()?;
    parser.finish()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: HashMap<&'a str, usize>,
    order: Vec<&'a str>,
    bodies: HashMap<usize, Node>,
    sets: Vec<CharSet>,
}

impl<'a> Parser<'a> {
    fn grammar(&mut self) -> Result<(), SamplerError> {
        self.space(true);
        while self.peek().is_some() {
            let name = self.name()?;
            self.space(false);
            if !self.eat("::=") {
                return Err(self.error("expected `::=`"));
            }
            self.space(true);
            let rule = self.rule(name);
            let body = self.one_of(0)?;
            if self.bodies.insert(rule, body).is_some() {
                return Err(invalid(FORM, format!("rule `{name}` is there twice")));
            }
            if !matches!(self.peek(), None | Some('\n' | '\r')) {
                return Err(self.error("expected the end of a line"));
            }
            self.space(true);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Gbnf, SamplerError> {
        let Some(&root) = self.names.get("root") else {
            return Err(invalid(FORM, "there is no rule `root`"));
        };
        within(FORM, "rules", self.order.len(), MAX_RULES)?;
        let mut rules = Vec::new();
        for (idx, name) in self.order.iter().enumerate() {
            match self.bodies.remove(&idx) {
                Some(body) => rules.push(body),
                None => return Err(invalid(FORM, format!("there is no rule `{name}`"))),
            }
        }
        Ok(Gbnf {
            rules,
            root,
            sets: self.sets,
        })
    }

    fn one_of(&mut self, depth: usize) -> Result<Node, SamplerError> {
        within(FORM, "levels of groups", depth, MAX_DEPTH)?;
        let mut options = vec![self.sequence(depth)?];
        loop {
            let before = self.at;
            self.space(true);
            if !self.eat("|") {
                if depth == 0 {
                    self.at = before;
                }
                break;
            }
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(match options.len() {
            1 => options.swap_remove(0),
            _ => Node::OneOf(options),
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, SamplerError> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            let node = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    self.set(CharSet::all())
                }
                '(' => {
                    self.at += 1;
                    self.space(true);
                    let node = self.one_of(depth + 1)?;
                    self.space(true);
                    if !self.eat(")") {
                        return Err(self.error("expected `)`"));
                    }
                    node
                }
                '<' | '!' => {
                    return Err(SamplerError::GrammarFeature {
                        feature: "<token>".to_owned(),
                        place: "a GBNF grammar".to_owned(),
                    });
                }
                c if is_word(c) => {
                    let name = self.name()?;
                    Node::Rule(self.rule(name))
                }
                _ => break,
            };
            let node = self.repeated(node)?;
            nodes.push(node);
            self.space(depth > 0);
        }
        Ok(match nodes.len() {
            1 => nodes.swap_remove(0),
            _ => Node::Sequence(nodes),
        })
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node, SamplerError> {
        loop {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    node = self.counted(node)?;
                    continue;
                }
                _ => return Ok(node),
            };
            self.at += 1;
            node = Node::Repeat {
                node: Box::new(node),
                least,
                most,
            };
        }
    }

    fn counted(&mut self, node: Node) -> Result<Node, SamplerError> {
        self.at += 1;
        self.space(false);
        let least = self.count()?;
        self.space(false);
        let mut most = Some(least);
        if self.eat(",") {
            self.space(false);
            most = match self.peek() {
                Some('}') => None,
                _ => Some(self.count()?),
            };
            self.space(false);
        }
        if !self.eat("}") {
            return Err(self.error("expected `}`"));
        }
        if most.is_some_and(|most| most < least) {
            return Err(self.error("expected a second count that is no less than the first"));
        }
        Ok(Node::Repeat {
            node: Box::new(node),
            least,
            most,
        })
    }

    fn count(&mut self) -> Result<u32, SamplerError> {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count = rest[..len].parse().ok().filter(|&count| count <= MAX_COUNT);
        let Some(count) = count else {
            return Err(self.error(&format!("expected a count of at most {MAX_COUNT}")));
        };
        self.at += len;
        Ok(count)
    }

    fn literal(&mut self) -> Result<Node, SamplerError> {
        self.at += 1;
        let mut nodes = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("expected `\"`")),
                Some('"') => break,
                Some(_) => {
                    let c = self.character()?;
                    let node = self.set(CharSet::one(c));
                    nodes.push(node);
                }
            }
        }
        self.at += 1;
        Ok(match nodes.len() {
            1 => nodes.swap_remove(0),
            _ => Node::Sequence(nodes),
        })
    }

    fn class(&mut self) -> Result<Node, SamplerError> {
        self.at += 1;
        let is_negated = self.eat("^");
        let mut ranges = Vec::new();
        while self.peek() != Some(']') {
            if self.peek().is_none() {
                return Err(self.error("expected `]`"));
            }
            let first = self.character()?;
            let mut last = first;
            if self.peek() == Some('-') && !self.text[self.at..].starts_with("-]") {
                self.at += 1;
                last = self.character()?;
            }
            if last < first {
                return Err(self.error("expected a range in ascending order"));
            }
            ranges.push((first, last));
        }
        self.at += 1;
        let mut set = CharSet::new(ranges);
        if is_negated {
            set = set.complement();
        }
        if set.is_empty() {
            return Err(self.error("expected a set with characters before here"));
        }
        Ok(self.set(set))
    }

    /// Reads a character or an escape.
    fn character(&mut self) -> Result<u32, SamplerError> {
        let Some(c) = self.peek() else {
            return Err(self.error("expected a character"));
        };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c as u32);
        }
        let Some(escape) = self.peek() else {
            return Err(self.error("expected an escape"));
        };
        self.at += escape.len_utf8();
        let n_digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            't' => return Ok(u32::from(b'\t')),
            'n' => return Ok(u32::from(b'\n')),
            'r' => return Ok(u32::from(b'\r')),
            '\\' | '"' | '[' | ']' => return Ok(escape as u32),
            _ => return Err(self.error(&format!("unknown escape `\\{escape}` before here"))),
        };
        let digits = self.text.get(self.at..self.at + n_digits);
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += n_digits;
                Ok(c as u32)
            }
            None => Err(self.error(&format!("expected {n_digits} digits of a character"))),
        }
    }

    fn name(&mut self) -> Result<&'a str, SamplerError> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.error("expected the name of a rule"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn rule(&mut self, name: &'a str) -> usize {
        let next = self.order.len();
        let idx = *self.names.entry(name).or_insert(next);
        if idx == next {
            self.order.push(name);
        }
        idx
    }

    fn set(&mut self, set: CharSet) -> Node {
        self.sets.push(set);
        Node::Set(self.sets.len() - 1)
    }

    /// Skips blanks and comments, and ends of lines where they mean nothing.
    fn space(&mut self, with_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if with_lines => self.at += 1,
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_there = self.text[self.at..].starts_with(text);
        self.at += if is_there { text.len() } else { 0 };
        is_there
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn error(&self, what: &str) -> SamplerError {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        invalid(FORM, format!("line {line}, column {column}: {what}"))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}
