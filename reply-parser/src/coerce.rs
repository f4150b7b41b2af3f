//! From the text between `<parameter=…>` and `</parameter>` to a JSON value.
//!
//! The tags carry no types, so the schema of the tool says what a text is. The rule: a value is
//! read as the first of null, boolean, number, list or map that the schema allows and that the
//! text spells; otherwise it is the text. A text that the schema wants as something else and
//! that does not spell one stays a text: the tool can then say what was wrong with it, which
//! an invented value would hide. Where the schema says nothing, values are texts.

use serde_json::Value;

use crate::{Tool, json::quoted, tool::ParameterForm};

/// The most schemas that are looked at for one parameter; references may go round in circles.
const MAX_SCHEMAS: usize = 200;

/// The types that a parameter may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types {
    null: bool,
    boolean: bool,
    number: bool,
    string: bool,
    array: bool,
    object: bool,
}

impl Types {
    const STRING: Self = Self {
        null: false,
        boolean: false,
        number: false,
        string: true,
        array: false,
        object: false,
    };

    /// Returns what a tool's schema says of a parameter.
    pub(crate) fn of_parameter(tool: Option<&Tool>, name: &str) -> Self {
        let mut types = Self::default();
        if let Some(root) = tool.and_then(|tool| tool.parameters.as_ref()) {
            let schema = &root["properties"][name];
            let schema = match schema {
                Value::Null => &root["additionalProperties"],
                schema => schema,
            };
            types.add_schema(schema, root);
        }
        if types == Self::default() {
            Self::STRING
        } else {
            types
        }
    }

    /// Nothing but a text, so its value is known while it is written.
    pub(crate) fn is_text(self) -> bool {
        self == Self::STRING
    }

    /// Returns how such a value stands in a tag.
    pub(crate) fn form(self) -> ParameterForm {
        match (self.string, self.is_text()) {
            (_, true) => ParameterForm::Text,
            (false, false) => ParameterForm::Json,
            (true, false) => ParameterForm::Either,
        }
    }

    fn add_schema(&mut self, schema: &Value, root: &Value) {
        let mut schemas = vec![schema];
        let mut n_seen = 0;
        while let Some(schema) = schemas.pop() {
            n_seen += 1;
            if n_seen > MAX_SCHEMAS {
                return;
            }
            match &schema["type"] {
                Value::String(name) => self.add(name),
                Value::Array(names) => names
                    .iter()
                    .take(MAX_SCHEMAS)
                    .filter_map(Value::as_str)
                    .for_each(|name| self.add(name)),
                _ => self.add_examples(schema),
            }
            self.null |= schema["nullable"] == true;
            for list in ["anyOf", "oneOf", "allOf"] {
                let list = schema[list].as_array().into_iter().flatten();
                schemas.extend(list.take(MAX_SCHEMAS));
            }
            let target = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
            schemas.extend(target.and_then(|to| root.pointer(to)));
        }
    }

    fn add(&mut self, name: &str) {
        match name {
            "null" => self.null = true,
            "boolean" | "bool" => self.boolean = true,
            "number" | "integer" | "float" | "int" => self.number = true,
            "string" | "str" => self.string = true,
            "array" | "list" => self.array = true,
            "object" | "dict" => self.object = true,
            _ => {}
        }
    }

    /// Adds the types of the values that a schema lists in place of a type.
    fn add_examples(&mut self, schema: &Value) {
        let listed = schema["enum"].as_array().into_iter().flatten();
        for value in listed.chain(schema.get("const")).take(MAX_SCHEMAS) {
            match value {
                Value::Null => self.null = true,
                Value::Bool(_) => self.boolean = true,
                Value::Number(_) => self.number = true,
                Value::String(_) => self.string = true,
                Value::Array(_) => self.array = true,
                Value::Object(_) => self.object = true,
            }
        }
        if schema.get("properties").is_some() {
            self.object = true;
        }
        if schema.get("items").is_some() {
            self.array = true;
        }
    }
}

/// Returns the JSON of a parameter. Numbers, lists and maps are written as the model wrote
/// them, Python's `True`, `False` and `None` as JSON has them.
pub(crate) fn json_of(text: &str, types: Types) -> String {
    let word = text.trim();
    match word {
        // Only a text can be the word itself.
        "null" | "None" if types.null || !types.string => return "null".to_owned(),
        "true" | "True" if types.boolean => return "true".to_owned(),
        "false" | "False" if types.boolean => return "false".to_owned(),
        _ => {}
    }
    let could_be = match word.as_bytes().first() {
        Some(b'{') => types.object,
        Some(b'[') => types.array,
        Some(b'-' | b'0'..=b'9') => types.number,
        _ => false,
    };
    if could_be && serde_json::from_str::<Value>(word).is_ok() {
        return word.to_owned();
    }
    quoted(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn coerced(schema: &Value, text: &str) -> String {
        let tool = Tool {
            name: "f".to_owned(),
            parameters: Some(json!({
                "properties": {"x": schema},
                "$defs": {
                    "Count": {"type": "integer"},
                    "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"$ref": "#/$defs/Loop"}]},
                },
            })),
        };
        json_of(text, Types::of_parameter(Some(&tool), "x"))
    }

    #[test]
    fn the_schema_says_what_a_text_is() {
        let integer = json!({"type": "integer"});
        let string = json!({"type": "string"});
        let cases = [
            (&integer, "5", "5"),
            (&integer, " -12\n", "-12"),
            (&integer, "5.0", "5.0"),
            (&integer, "five", "\"five\""),
            (&integer, "007", "\"007\""),
            (&integer, "0x10", "\"0x10\""),
            (&integer, "1e999", "\"1e999\""),
            (&integer, "null", "null"),
            (&integer, "true", "\"true\""),
            (&json!({"type": "number"}), "1.50", "1.50"),
            (&json!({"type": "number"}), "NaN", "\"NaN\""),
            (&string, "5", "\"5\""),
            (&string, "true", "\"true\""),
            (&string, "null", "\"null\""),
            (&string, "{\"a\": 1}", "\"{\\\"a\\\": 1}\""),
            (&string, " padded ", "\" padded \""),
            (&json!({"type": "boolean"}), "true", "true"),
            (&json!({"type": "boolean"}), "False", "false"),
            (&json!({"type": "boolean"}), "1", "\"1\""),
            (&json!({"type": ["string", "null"]}), "None", "null"),
            (&json!({"type": ["string", "null"]}), "none", "\"none\""),
            (&json!({"type": "string", "nullable": true}), "null", "null"),
            (
                &json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
                "5",
                "5",
            ),
            (
                &json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
                "5a",
                "\"5a\"",
            ),
            (
                &json!({"oneOf": [{"type": "array"}, {"type": "null"}]}),
                "[1,\n 2]",
                "[1,\n 2]",
            ),
            (&json!({"type": "array"}), "[1, 2", "\"[1, 2\""),
            (&json!({"type": "array"}), "{}", "\"{}\""),
            (
                &json!({"type": "object"}),
                "{\"b\": [1], \"a\": {}}",
                "{\"b\": [1], \"a\": {}}",
            ),
            (&json!({"enum": [1, 2, 3]}), "2", "2"),
            (&json!({"enum": ["1", "2"]}), "2", "\"2\""),
            (&json!({"const": false}), "false", "false"),
            (&json!({"properties": {}}), "{}", "{}"),
            (&json!({"items": {}}), "[]", "[]"),
            (&json!({"$ref": "#/$defs/Count"}), "5", "5"),
            (&json!({"$ref": "#/$defs/Loop"}), "5", "\"5\""),
            (&json!({"$ref": "#/nowhere"}), "5", "\"5\""),
            (&json!({}), "5", "\"5\""),
            (&json!(true), "[]", "\"[]\""),
        ];
        for (schema, text, expected) in cases {
            assert_eq!(coerced(schema, text), expected, "{text:?} under {schema}");
        }
    }

    #[test]
    fn parameters_that_no_schema_names_are_texts() {
        let tool = Tool {
            name: "f".to_owned(),
            parameters: Some(json!({"type": "object", "properties": {"x": {"type": "integer"}}})),
        };
        assert!(Types::of_parameter(Some(&tool), "y").is_text());
        assert!(Types::of_parameter(None, "x").is_text());
        let map = Tool {
            name: "f".to_owned(),
            parameters: Some(json!({"additionalProperties": {"type": "integer"}})),
        };
        assert_eq!(json_of("1", Types::of_parameter(Some(&map), "any")), "1");
    }
}
