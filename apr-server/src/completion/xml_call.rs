//! The calls of Qwen3-Coder: a tag for each parameter, whose text has no quotes.
//!
//! A value that can only be JSON is held to its schema, a text to what a text can be held to: a
//! list of texts and a length. A text ends with the tag that closes it at the beginning of a
//! line; it may not hold what would be read as a part of the call.

use reply_parser::{ParameterForm, Tool};
use sampler::{FreeText, GrammarPart, SamplerError};
use serde_json::{Map, Value};

use super::call_grammar::Closeness;

/// What ends a value.
const END: &str = "\n</parameter>\n";

/// What in a text would be taken for a part of the call that it stands in.
const AMBIGUOUS: [&str; 3] = [
    r"<(parameter|function)=[^<\n]*>",
    r"</parameter>\s*<(/?tool_call>|parameter=|/function>)",
    r"\n</function>\s*</?tool_call>",
];

/// Keywords of all arguments together that tags, one after the other, cannot be held to.
const BEYOND_TAGS: [&str; 16] = [
    "$ref",
    "allOf",
    "anyOf",
    "const",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "if",
    "maxProperties",
    "minProperties",
    "not",
    "oneOf",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
];

/// Keywords of a text that a value without quotes cannot be held to.
const BEYOND_TEXT: [&str; 8] = [
    "$ref", "allOf", "anyOf", "format", "if", "not", "oneOf", "pattern",
];

/// Keywords that hold texts to something.
const OF_TEXTS: [&str; 6] = [
    "const",
    "enum",
    "format",
    "maxLength",
    "minLength",
    "pattern",
];

/// The most references from one to the next that are followed.
const MAX_REFERENCES: usize = 8;

/// Returns what follows `<function=` in a call of a tool with this schema of its arguments.
pub(super) fn parts(
    tool: &Tool,
    schema: &Value,
    closeness: Closeness,
) -> Result<Vec<GrammarPart>, SamplerError> {
    check_name(&tool.name, "the name of a tool")?;
    let is_exact = closeness == Closeness::Exact;
    let is_open = |value: &Value| *value != Value::Bool(false);
    if is_exact {
        let beyond = BEYOND_TAGS.iter().find(|it| schema.get(**it).is_some());
        let open = schema.get("additionalProperties").filter(|it| is_open(it));
        let open = open.map(|_| &"additionalProperties");
        if let Some(keyword) = beyond.or(open) {
            return Err(unsupported(keyword, "#"));
        }
    }
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    let mut parts = vec![GrammarPart::Text(format!("{}>\n", tool.name))];
    for (name, of_value) in properties {
        let parameter = parameter(tool, name, of_value, schema, is_exact)?;
        match required.contains(&name.as_str()) {
            true => parts.extend(parameter),
            false => parts.push(GrammarPart::OneOf(vec![parameter, Vec::new()])),
        }
    }
    let unlisted = required
        .iter()
        .filter(|name| !properties.contains_key(**name));
    for name in unlisted {
        parts.extend(parameter(tool, name, &Value::Bool(true), schema, is_exact)?);
    }
    parts.push(GrammarPart::Text("</function>".to_owned()));
    Ok(parts)
}

fn parameter(
    tool: &Tool,
    name: &str,
    schema: &Value,
    root: &Value,
    is_exact: bool,
) -> Result<Vec<GrammarPart>, SamplerError> {
    check_name(name, "the name of a parameter")?;
    let place = format!("#/properties/{name}");
    let mut parts = vec![GrammarPart::Text(format!("<parameter={name}>\n"))];
    match tool.parameter_form(name) {
        ParameterForm::Json => {
            parts.push(GrammarPart::Schema(with_definitions(schema, root)));
            parts.push(GrammarPart::Text(END.to_owned()));
        }
        ParameterForm::Text => {
            let schema = resolved(schema, root);
            parts.push(match is_exact {
                true => text(schema, &place)?,
                false => GrammarPart::Until(free()),
            });
        }
        ParameterForm::Either => {
            if is_exact {
                check_either(schema, &place)?;
            }
            parts.push(GrammarPart::Until(free()));
        }
    }
    Ok(parts)
}

/// Returns a text as its schema wants it.
fn text(schema: &Value, place: &str) -> Result<GrammarPart, SamplerError> {
    if let Some(keyword) = BEYOND_TEXT.iter().find(|it| schema.get(**it).is_some()) {
        return Err(unsupported(keyword, place));
    }
    let listed = schema["enum"].as_array().into_iter().flatten();
    let listed: Vec<_> = listed.chain(schema.get("const")).collect();
    if !listed.is_empty() {
        let both = schema.get("enum").is_some() && schema.get("const").is_some();
        let texts = listed.iter().map(|text| text.as_str().filter(|_| !both));
        let texts: Option<Vec<_>> = texts.collect();
        let texts = texts.filter(|texts| !texts.iter().any(|text| text.contains('<')));
        let texts = texts.ok_or_else(|| unsupported("enum", place))?;
        let option = |text: &&str| vec![GrammarPart::Text(format!("{text}{END}"))];
        return Ok(GrammarPart::OneOf(texts.iter().map(option).collect()));
    }
    let count = |keyword: &str| match schema.get(keyword) {
        None => Ok(None),
        Some(count) => match count.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(unsupported(keyword, place)),
        },
    };
    Ok(GrammarPart::Until(FreeText {
        min_len: count("minLength")?.unwrap_or(0),
        max_len: count("maxLength")?,
        ..free()
    }))
}

/// Checks what may be a text or something else: only null and the truth values, which are
/// spelled in one way each, can stand beside a text about which nothing is said.
fn check_either(schema: &Value, place: &str) -> Result<(), SamplerError> {
    let options = ["anyOf", "oneOf"]
        .iter()
        .find_map(|it| schema[*it].as_array());
    let alone = [schema.clone()];
    let options = options.map_or(&alone[..], Vec::as_slice);
    for option in options {
        let kinds = match &option["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().map_or(Vec::new(), |kind| vec![kind]),
        };
        let others = ["null", "boolean", "string"];
        let are_plain = !kinds.is_empty() && kinds.iter().all(|kind| others.contains(kind));
        let said = OF_TEXTS.iter().find(|it| option.get(**it).is_some());
        if let Some(keyword) = said {
            return Err(unsupported(keyword, place));
        }
        if !are_plain {
            return Err(unsupported("type", place));
        }
    }
    Ok(())
}

fn free() -> FreeText {
    FreeText {
        without: AMBIGUOUS.map(str::to_owned).to_vec(),
        ..FreeText::up_to(END)
    }
}

/// Follows references to definitions.
fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..MAX_REFERENCES {
        let Some(members) = schema.as_object() else {
            break;
        };
        let target = members.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|to| root.pointer(to.strip_prefix('#')?));
        match target {
            Some(target) if OF_TEXTS.iter().all(|it| !members.contains_key(*it)) => schema = target,
            _ => break,
        }
    }
    schema
}

/// Returns a schema with the definitions that it may refer to.
fn with_definitions(schema: &Value, root: &Value) -> Value {
    let Value::Object(members) = schema else {
        return schema.clone();
    };
    let mut members = members.clone();
    for name in ["$defs", "definitions"] {
        if let Some(definitions) = root.get(name) {
            members.insert(name.to_owned(), definitions.clone());
        }
    }
    members.into()
}

/// Checks that a name can stand in a tag and be found again.
fn check_name(name: &str, what: &str) -> Result<(), SamplerError> {
    let is_plain = |c: char| !c.is_control() && c != '<' && c != '>';
    if name.chars().all(is_plain) && name.trim() == name && (1..=200).contains(&name.len()) {
        return Ok(());
    }
    Err(SamplerError::Grammar {
        form: "call",
        what: format!("{what} cannot stand in a tag"),
    })
}

fn unsupported(keyword: &str, place: &str) -> SamplerError {
    SamplerError::GrammarFeature {
        feature: keyword.to_owned(),
        place: format!("{place} of a call in tags"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(parameters: Value) -> Tool {
        Tool {
            name: "f".to_owned(),
            parameters: Some(parameters),
        }
    }

    fn exact(parameters: Value) -> Result<Vec<GrammarPart>, String> {
        let schema = parameters.clone();
        let parts = parts(&tool(parameters), &schema, Closeness::Exact);
        parts.map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_what_its_type_says() {
        let schema = json!({"properties": {
            "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 3}, "e": {"$ref": "#/$defs/e"},
        }, "required": ["n", "s", "e"], "$defs": {"e": {"enum": ["a", "b"]}}});
        let text = |text: &str| GrammarPart::Text(text.to_owned());
        let number = json!({"type": "integer", "$defs": schema["$defs"]});
        let expected = vec![
            text("f>\n"),
            text("<parameter=n>\n"),
            GrammarPart::Schema(number),
            text(END),
            text("<parameter=s>\n"),
            GrammarPart::Until(FreeText {
                max_len: Some(3),
                ..free()
            }),
            text("<parameter=e>\n"),
            GrammarPart::OneOf(vec![
                vec![text("a\n</parameter>\n")],
                vec![text("b\n</parameter>\n")],
            ]),
            text("</function>"),
        ];
        assert_eq!(exact(schema).unwrap(), expected);
    }

    #[test]
    fn what_tags_cannot_be_held_to_is_named() {
        let property = |schema: Value| json!({"properties": {"a": schema}});
        let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        assert!(exact(property(optional)).is_ok());
        let cases = [
            (
                property(json!({"type": "string", "pattern": "a"})),
                "`pattern` in #/properties/a",
            ),
            (
                property(json!({"type": ["string", "integer"]})),
                "`type` in #/properties/a",
            ),
            (
                property(json!({"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]})),
                "`maxLength` in #/properties/a",
            ),
            (
                json!({"additionalProperties": {}}),
                "`additionalProperties` in #",
            ),
            (json!({"minProperties": 1}), "`minProperties` in #"),
            (
                json!({"properties": {"a>": {}}}),
                "call: the name of a parameter",
            ),
        ];
        for (schema, expected) in cases {
            let error = exact(schema.clone()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            if !expected.starts_with("call") {
                assert!(parts(&tool(schema.clone()), &schema, Closeness::Loose).is_ok());
            }
        }
    }
}
