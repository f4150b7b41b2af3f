//! Texts with parts that are held to something, such as a call of a tool.

use std::fmt::Write;

use serde_json::Value;

use super::{compile::MAX_SOURCE_BYTES, invalid, schema, within, written_out};
use crate::SamplerError;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarPart {
    /// This text.
    Text(String),
    /// A JSON value for which this schema holds.
    Schema(Value),
    /// A text without a form, and what ends it.
    Until(FreeText),
    /// One of these sequences of parts. No text that begins one of them may be the beginning
    /// of another.
    OneOf(Vec<Vec<Self>>),
    /// A sequence of parts once or more.
    List {
        /// What may come again.
        item: Vec<Self>,
        /// The text between two of them.
        separator: String,
    },
}

/// A text without a form, up to another one and with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FreeText {
    /// What ends it. It ends where this first appears.
    pub end: String,
    /// Regular expressions that match no part of it.
    pub without: Vec<String>,
    /// The least characters before the end.
    pub min_len: usize,
    /// The most of them.
    pub max_len: Option<usize>,
}

impl FreeText {
    /// Returns any text up to `end`.
    #[must_use]
    pub fn up_to(end: &str) -> Self {
        Self {
            end: end.to_owned(),
            ..Self::default()
        }
    }
}

const FORM: &str = "template";

/// How deep parts may lie in each other.
const MAX_DEPTH: usize = 8;

/// The most characters of a free text that are counted.
const MAX_COUNTED: usize = 100_000;

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
            GrammarPart::Until(text) if text.end.is_empty() => {
                return Err(invalid(FORM, "the end of a text is empty"));
            }
            GrammarPart::Until(text) => {
                let body = expression(text)?;
                self.rule(&format!("[suffix={}]", quoted(&text.end)), &body)
            }
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
            GrammarPart::List { item, separator } => {
                let item = self.sequence(item, depth + 1)?;
                let item = self.rule("", &item);
                format!("{item} ({} {item})*", quoted(separator))
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

/// Returns what a free text may be before its end.
fn expression(text: &FreeText) -> Result<String, SamplerError> {
    let counted = text.max_len.unwrap_or(0).max(text.min_len);
    within(FORM, "characters of a text", counted, MAX_COUNTED)?;
    let mut body = match (text.min_len, text.max_len) {
        (0, None) => "/(?s:.*)/".to_owned(),
        (least, None) => format!("/(?s:.{{{least},}})/"),
        (least, Some(most)) if least <= most => format!("/(?s:.{{{least},{most}}})/"),
        (least, Some(most)) => {
            let what = format!("a text of at least {least} and at most {most} characters");
            return Err(invalid(FORM, what));
        }
    };
    for other in &text.without {
        written_out::check_regex(FORM, other)?;
        let _ = write!(body, " & ~/(?s:.*)({})(?s:.*)/", other.replace('/', "\\/"));
    }
    Ok(body)
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
