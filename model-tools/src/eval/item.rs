//! A line of JSON that asks a model something.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::ToolError;

/// A question with a known answer, or a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What the file calls it: a string or a number.
    pub id: Option<Value>,
    /// The task that it belongs to.
    pub task: Option<String>,
    /// What is asked.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which of some texts comes next?
    Choices {
        /// What stands before, perhaps nothing.
        context: String,
        /// At least two, none of them empty.
        choices: Vec<String>,
        /// Indices of the right ones.
        gold: Vec<usize>,
    },
    /// How likely is this text to come next?
    Continuation {
        /// What stands before, perhaps nothing.
        context: String,
        /// Not empty.
        continuation: String,
    },
    /// How likely is this text?
    Text(String),
}

/// The fields of a line, under all their names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    id: Option<Value>,
    #[serde(alias = "group")]
    task: Option<String>,
    #[serde(alias = "query")]
    context: Option<String>,
    choices: Option<Vec<String>>,
    #[serde(alias = "answer", alias = "label")]
    gold: Option<Value>,
    continuation: Option<String>,
    text: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

impl Item {
    /// Reads the line of a file, whose number is for errors.
    ///
    /// # Errors
    /// [`ToolError::EvalItem`] with the column if it is no JSON, or a field is unknown, stands
    /// twice or has another type; with the field's name if its value makes no sense.
    pub fn parse(line: usize, text: &str) -> Result<Self, ToolError> {
        Self::read(text).map_err(|what| ToolError::EvalItem { line, what })
    }

    fn read(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Err("expected a JSON object".to_owned());
        }
        let fields: Fields = serde_json::from_str(text).map_err(|error| syntax(&error))?;
        let id = fields.id;
        if let Some(other) = id.as_ref().filter(|id| !id.is_string() && !id.is_number()) {
            return Err(format!(
                "`id`: expected a string or a number, found {other}"
            ));
        }
        let question = match (fields.choices, fields.continuation, fields.text) {
            (Some(choices), None, None) => {
                check_choices(&choices)?;
                let gold = fields.gold.ok_or("`gold` is missing beside `choices`")?;
                Question::Choices {
                    context: fields.context.ok_or("`context` is missing")?,
                    gold: gold_of(&gold, &choices)?,
                    choices,
                }
            }
            (None, Some(continuation), None) => {
                refuse("gold", fields.gold.is_some(), "continuation")?;
                if continuation.is_empty() {
                    return Err("`continuation` is empty".to_owned());
                }
                Question::Continuation {
                    context: fields.context.ok_or("`context` is missing")?,
                    continuation,
                }
            }
            (None, None, Some(text)) => {
                refuse("gold", fields.gold.is_some(), "text")?;
                refuse("context", fields.context.is_some(), "text")?;
                if text.is_empty() {
                    return Err("`text` is empty".to_owned());
                }
                Question::Text(text)
            }
            (None, None, None) => {
                return Err("expected `choices`, `continuation` or `text`".to_owned());
            }
            _ => {
                let what = "expected only one of `choices`, `continuation` and `text`";
                return Err(what.to_owned());
            }
        };
        Ok(Self {
            id,
            task: fields.task,
            question,
        })
    }
}

/// Says where in the line it is; its number is known to others.
fn syntax(error: &serde_json::Error) -> String {
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    format!("column {}: {what}", error.column())
}

fn refuse(field: &str, is_there: bool, beside: &str) -> Result<(), String> {
    match is_there {
        true => Err(format!("`{field}` means nothing beside `{beside}`")),
        false => Ok(()),
    }
}

fn check_choices(choices: &[String]) -> Result<(), String> {
    if choices.len() < 2 {
        let n = choices.len();
        return Err(format!("`choices`: expected at least two, found {n}"));
    }
    match choices.iter().position(String::is_empty) {
        Some(idx) => Err(format!("`choices[{idx}]` is empty")),
        None => Ok(()),
    }
}

/// Reads which choices are right: an index, one of the choices, or several of either.
fn gold_of(gold: &Value, choices: &[String]) -> Result<Vec<usize>, String> {
    let one = |value: &Value| {
        let found = match value {
            Value::Number(number) => number
                .as_u64()
                .and_then(|idx| usize::try_from(idx).ok())
                .filter(|&idx| idx < choices.len()),
            Value::String(text) => choices.iter().position(|choice| choice == text),
            _ => None,
        };
        let n = choices.len();
        found.ok_or_else(|| {
            format!("`gold`: expected an index below {n} or one of the choices, found {value}")
        })
    };
    match gold {
        Value::Array(items) if items.is_empty() => Err("`gold` is empty".to_owned()),
        Value::Array(items) => items.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str) -> Question {
        Item::parse(1, text).unwrap().question
    }

    #[test]
    fn an_item_is_what_its_fields_say() {
        let choices = |gold: &[usize]| Question::Choices {
            context: "2 + 2 =".to_owned(),
            choices: vec!["3".to_owned(), "4".to_owned()],
            gold: gold.to_vec(),
        };
        for (names, gold, expected) in [
            ("context gold", "1", choices(&[1])),
            ("query answer", "\"4\"", choices(&[1])),
            ("query label", "[\"4\", 0]", choices(&[1, 0])),
        ] {
            let (context, name) = names.split_once(' ').unwrap();
            let line = format!(
                r#"{{"{context}": "2 + 2 =", "choices": ["3", "4"], "{name}": {gold}, "metadata": [1]}}"#
            );
            assert_eq!(question(&line), expected, "{line}");
        }
        let item = Item::parse(
            1,
            r#"{"id": 7, "group": "a", "context": "", "continuation": "b"}"#,
        );
        let expected = Item {
            id: Some(7.into()),
            task: Some("a".to_owned()),
            question: Question::Continuation {
                context: String::new(),
                continuation: "b".to_owned(),
            },
        };
        assert_eq!(item.unwrap(), expected);
        assert_eq!(question(r#"{"text": "x"}"#), Question::Text("x".to_owned()));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_place() {
        let cases = [
            (r#"{"text": "x""#, "line 3: column 12: EOF while parsing"),
            ("[]", "line 3: expected a JSON object"),
            (
                r#"{"texte": "x"}"#,
                "line 3: column 8: unknown field `texte`",
            ),
            (
                r#"{"text": 7}"#,
                "line 3: column 10: invalid type: integer `7`",
            ),
            (
                r#"{"context": "", "query": "", "continuation": "x"}"#,
                "line 3: column 23: duplicate field `context`",
            ),
            (r#"{"id": []}"#, "line 3: `id`: expected a string"),
            ("{}", "line 3: expected `choices`, `continuation` or `text`"),
            (
                r#"{"text": "x", "continuation": "x"}"#,
                "line 3: expected only one of",
            ),
            (r#"{"text": ""}"#, "line 3: `text` is empty"),
            (r#"{"text": "x", "gold": 1}"#, "`gold` means nothing beside"),
            (
                r#"{"text": "x", "context": ""}"#,
                "`context` means nothing beside",
            ),
            (r#"{"continuation": "x"}"#, "`context` is missing"),
            (
                r#"{"context": "x", "continuation": ""}"#,
                "`continuation` is empty",
            ),
            (
                r#"{"context": "x", "choices": ["a"], "gold": 0}"#,
                "expected at least two, found 1",
            ),
            (
                r#"{"context": "x", "choices": ["a", ""], "gold": 0}"#,
                "`choices[1]` is empty",
            ),
            (
                r#"{"context": "x", "choices": ["a", "b"]}"#,
                "`gold` is missing",
            ),
            (
                r#"{"choices": ["a", "b"], "gold": 0}"#,
                "`context` is missing",
            ),
        ];
        for (line, says) in cases {
            let error = Item::parse(3, line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
        for gold in ["2", "-1", "0.5", "\"c\"", "true", "[0, 9]", "[]"] {
            let line = format!(r#"{{"context": "", "choices": ["a", "b"], "gold": {gold}}}"#);
            let error = Item::parse(3, &line).unwrap_err().to_string();
            assert!(error.starts_with("line 3: `gold`"), "{line}: {error}");
        }
    }
}
