//! What a call of a tool may look like, so that it can be read and its arguments are those of
//! the tool's schema.
//!
//! Calls are written as the template writes them, so that a call that comes back is the text
//! that the model wrote. A call has the parameters that its tool declares and no others, unless
//! the schema says expressly that there may be more.

use reply_parser::CallForm;
use sampler::{GrammarPart, SamplerError};
use serde_json::{Map, Value, json};

use super::{tools::Callable, xml_call};

/// What opens a call in both forms, and what closes it.
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "\n</tool_call>";

/// Where Qwen3-Coder's calls begin, with or without the tag before.
const OPEN_FUNCTION: &str = "\n<function=";

/// How closely the calls of a tool are held to its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closeness {
    /// In everything that the schema says.
    Exact,
    /// In the names and types of its parameters.
    Loose,
}

/// A text that opens a call, and what has to follow it.
pub(super) type Opening = (&'static str, Vec<GrammarPart>);

/// Returns the texts that open a call of one of some tools.
pub(super) fn openings(
    form: CallForm,
    tools: &[(Callable<'_>, Closeness)],
) -> Result<Vec<Opening>, SamplerError> {
    let body = behind_tag(form, tools)?;
    let mut openings = vec![(OPEN, body)];
    if form == CallForm::CoderXml {
        openings.push((OPEN_FUNCTION, behind_function(tools)?));
    }
    Ok(openings)
}

/// Returns what a call is that lacks its tag, and the texts that it begins with, after which it
/// is one; nothing for a form that has no such calls.
pub(super) fn untagged(
    form: CallForm,
    tools: &[(Callable<'_>, Closeness)],
) -> Option<(Vec<String>, GrammarPart)> {
    if form != CallForm::Hermes {
        return None;
    }
    let beginnings = tools.iter().map(|(callable, _)| beginning(callable));
    Some((beginnings.collect(), objects("", tools)))
}

/// Returns a reply that is nothing but calls: one, or as many as the model likes.
pub(super) fn calls(
    form: CallForm,
    tools: &[(Callable<'_>, Closeness)],
    is_single: bool,
) -> Result<Vec<GrammarPart>, SamplerError> {
    let mut call = vec![text(OPEN)];
    call.extend(behind_tag(form, tools)?);
    if is_single {
        return Ok(call);
    }
    let separator = "\n".to_owned();
    Ok(vec![GrammarPart::List {
        item: call,
        separator,
    }])
}

/// Returns what follows the tag that opens a call.
fn behind_tag(
    form: CallForm,
    tools: &[(Callable<'_>, Closeness)],
) -> Result<Vec<GrammarPart>, SamplerError> {
    if form == CallForm::CoderXml {
        let mut parts = vec![text(OPEN_FUNCTION)];
        parts.extend(behind_function(tools)?);
        return Ok(parts);
    }
    Ok(vec![objects("\n", tools), text(CLOSE)])
}

/// Returns calls as objects, each behind a text.
fn objects(before: &str, tools: &[(Callable<'_>, Closeness)]) -> GrammarPart {
    let call = |(callable, closeness): &(Callable<'_>, Closeness)| {
        let arguments = arguments(callable.tool.parameters.as_ref(), *closeness);
        vec![
            text(&(before.to_owned() + &beginning(callable))),
            GrammarPart::Schema(arguments),
            text("}"),
        ]
    };
    GrammarPart::OneOf(tools.iter().map(call).collect())
}

/// Returns what a call has before its arguments.
fn beginning(callable: &Callable<'_>) -> String {
    let name = Value::from(callable.tool.name.as_str());
    format!("{{\"name\": {name}, \"arguments\": ")
}

/// Returns what follows the beginning of a function's tag.
fn behind_function(tools: &[(Callable<'_>, Closeness)]) -> Result<Vec<GrammarPart>, SamplerError> {
    let options = tools.iter().map(|(callable, closeness)| {
        let schema = arguments(callable.tool.parameters.as_ref(), *closeness);
        xml_call::parts(callable.tool, &schema, *closeness)
    });
    let options = options.collect::<Result<_, _>>()?;
    Ok(vec![GrammarPart::OneOf(options), text(CLOSE)])
}

fn text(text: &str) -> GrammarPart {
    GrammarPart::Text(text.to_owned())
}

/// Keywords beside which `properties` are not all that an object may have.
const OPENING: [&str; 6] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "patternProperties",
];

/// Returns the schema that the arguments of a call are held to.
fn arguments(parameters: Option<&Value>, closeness: Closeness) -> Value {
    let empty = Map::new();
    let said = parameters.and_then(Value::as_object).unwrap_or(&empty);
    let mut schema = match closeness {
        Closeness::Exact => said.clone(),
        Closeness::Loose => loosened(said),
    };
    schema
        .entry("type")
        .or_insert_with(|| Value::from("object"));
    let is_open = OPENING.iter().any(|keyword| schema.contains_key(*keyword));
    // Whoever declares no parameters at all means that there are none.
    if !is_open {
        schema
            .entry("properties")
            .or_insert_with(|| Map::new().into());
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    schema.into()
}

/// Returns the names and types of a schema's parameters, any object if it does not list them.
fn loosened(said: &Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(properties)) = said.get("properties") else {
        return [("additionalProperties".to_owned(), Value::Bool(true))]
            .into_iter()
            .collect();
    };
    let named = properties
        .iter()
        .map(|(name, schema)| (name.clone(), type_alone(schema)));
    let mut schema = Map::new();
    schema.insert("properties".to_owned(), named.collect());
    if let Some(required) = said.get("required").filter(|it| it.is_array()) {
        schema.insert("required".to_owned(), required.clone());
    }
    schema
}

fn type_alone(schema: &Value) -> Value {
    const TYPES: [&str; 7] = [
        "array", "boolean", "integer", "null", "number", "object", "string",
    ];
    let is_type = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    let kind = &schema["type"];
    let is_known = match kind {
        Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(is_type),
        kind => is_type(kind),
    };
    match is_known {
        true => json!({"type": kind}),
        false => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_parameters_that_are_declared() {
        let exact = |parameters: Value| arguments(Some(&parameters), Closeness::Exact);
        let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(arguments(None, Closeness::Exact), nothing);
        assert_eq!(exact(json!({"type": "object"})), nothing);
        let closed = exact(json!({"type": "object", "properties": {"a": {}}}));
        assert_eq!(closed["additionalProperties"], false);
        for open in [
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": true}),
            json!({"type": "object", "$ref": "#/$defs/a"}),
        ] {
            assert_eq!(exact(open.clone()), open);
        }
    }

    #[test]
    fn names_and_types_are_left_of_what_cannot_be_held_to() {
        let schema = json!({
            "type": "object", "required": ["a"], "not": {},
            "properties": {"a": {"type": "string", "pattern": "(?!x)"}, "b": {"type": "strin"},
                           "c": {"type": ["integer", "null"], "not": {}}},
        });
        let loose = arguments(Some(&schema), Closeness::Loose);
        let expected = json!({
            "properties": {"a": {"type": "string"}, "b": {}, "c": {"type": ["integer", "null"]}},
            "required": ["a"], "type": "object", "additionalProperties": false,
        });
        assert_eq!(loose, expected);
        let any = arguments(Some(&json!({"anyOf": 7})), Closeness::Loose);
        assert_eq!(any, json!({"additionalProperties": true, "type": "object"}));
    }
}
