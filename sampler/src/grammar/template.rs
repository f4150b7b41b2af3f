//! Texts with parts that are held to something, such as a call of a tool.

use std::fmt::Write;

use serde_json::Value;

use super::{compile::MAX_SOURCE_BYTES, invalid, schema, within};
use crate::SamplerError;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarPart {
    /// This text.
    Text(String),
    /// A JSON value for which this schema holds.
    Schema(Value),
    /// Any text up to this one, and this one.
    Until(String),
    /// One of these sequences of parts. No text that begins one of them may be the beginning
    /// of another.
    OneOf(Vec<Vec<Self>>),
    /// These parts any number of times, or not at all.
    Repeat(Vec<Self>),
}

const FORM: &str = "template";

/// How deep parts may lie in each other.
const MAX_DEPTH: usize = 8;

/// Returns the regular expression of one of some texts.
pub(super) fn choice(texts: &[String]) -> Result<String, SamplerError> {
    const FORM: &str = "choice";
    let n_bytes = texts.iter().map(String::len).sum();
    within(FORM, "bytes of text", n_bytes, MAX_SOURCE_BYTES)?;
    if texts.is_empty() {
        return Err(invalid(FORM, "it has no texts"));
    }
    if let Some(idx) = texts.iter().position(String::is_empty) {
        return Err(invalid(FORM, format!("text {idx} is empty")));
    }
    let mut expression = String::new();
    for (idx, text) in texts.iter().enumerate() {
        expression.push_str(if idx > 0 { "|" } else { "" });
        for c in text.chars() {
            match c.is_alphanumeric() {
                true => expression.push(c),
                false => drop(write!(expression, "\\x{{{:x}}}", c as u32)),
            }
        }
    }
    Ok(expression)
}

/// Returns the Lark grammar of a sequence of parts.
pub(super) fn to_lark(parts: &[GrammarPart]) -> Result<String, SamplerError> {
    let mut lark = Lark::default();
    let start = lark.sequence(parts, 0)?;
    within(FORM, "bytes", lark.rules.len(), 4 * MAX_SOURCE_BYTES)?;
    Ok(format!("start: {start}\n{}", lark.rules))
}

#[derive(Default)]
struct Lark {
    rules: String,
    n_rules: usize,
}

impl Lark {
    fn sequence(&mut self, parts: &[GrammarPart], depth: usize) -> Result<String, SamplerError> {
        within(FORM, "levels", depth, MAX_DEPTH)?;
        let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.part(part, depth)).collect();
        let parts = parts?.join(" ");
        match parts.is_empty() {
            true => Ok("\"\"".to_owned()),
            false => Ok(parts),
        }
    }

    fn part(&mut self, part: &GrammarPart, depth: usize) -> Result<String, SamplerError> {
        Ok(match part {
            GrammarPart::Text(text) => quoted(text),
            GrammarPart::Schema(schema) => {
                let schema = schema::prepare(schema)?;
                self.rule("", &format!("%json {schema}"))
            }
            GrammarPart::Until(end) if end.is_empty() => {
                return Err(invalid(FORM, "the end of a text is empty"));
            }
            GrammarPart::Until(end) => self.rule(&format!("[suffix={}]", quoted(end)), "/(?s:.*)/"),
            GrammarPart::OneOf(options) => {
                if options.is_empty() {
                    return Err(invalid(FORM, "there is no alternative"));
                }
                let options: Result<Vec<_>, _> = options
                    .iter()
                    .map(|parts| self.sequence(parts, depth + 1))
                    .collect();
                self.rule("", &options?.join(" | "))
            }
            GrammarPart::Repeat(parts) => {
                let parts = self.sequence(parts, depth + 1)?;
                format!("({parts})*")
            }
        })
    }

    /// Writes a rule and returns its name.
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("part{}", self.n_rules);
        self.n_rules += 1;
        let _ = writeln!(self.rules, "{name}{attributes}: {body}");
        name
    }
}

/// Returns a text as a terminal of Lark: JSON's strings, with more characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
