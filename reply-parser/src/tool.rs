//! The tools of a request, as far as reading their calls needs them.

use serde_json::Value;

use crate::{ToolError, coerce::Types};

/// How a value stands in a tag of Qwen3-Coder's form, which has no quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterForm {
    /// As a text, whatever it spells.
    Text,
    /// As JSON: the schema allows no text.
    Json,
    /// As JSON where the text spells a value of another type that the schema allows, and as a
    /// text otherwise.
    Either,
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What calls name.
    pub name: String,
    /// The JSON schema of its arguments, a map; `None` if it says nothing about them.
    pub parameters: Option<Value>,
}

impl Tool {
    /// Reads the tools of a request: of OpenAI's chat API (`{"type": "function", "function":
    /// {"name", "parameters"}}`), of its Responses API and of plain lists (`{"name",
    /// "parameters"}`), or of Anthropic's (`{"name", "input_schema"}`).
    ///
    /// ```
    /// use reply_parser::Tool;
    /// let tools = Tool::list(&serde_json::json!([{"type": "function", "function": {"name": "f"}}]))?;
    /// assert_eq!(tools[0].name, "f");
    /// # Ok::<(), reply_parser::ToolError>(())
    /// ```
    ///
    /// # Errors
    /// [`ToolError`] with the position of the first tool that is none.
    pub fn list(tools: &Value) -> Result<Vec<Self>, ToolError> {
        let Value::Array(tools) = tools else {
            return Err(ToolError::NoList { found: kind(tools) });
        };
        let tools = tools.iter().enumerate();
        tools.map(|(index, tool)| Self::read(index, tool)).collect()
    }

    /// Returns how the value of a parameter stands in a tag.
    #[must_use]
    pub fn parameter_form(&self, name: &str) -> ParameterForm {
        Types::of_parameter(Some(self), name).form()
    }

    fn read(index: usize, tool: &Value) -> Result<Self, ToolError> {
        let function = tool.get("function").unwrap_or(tool);
        let name = match function.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            Some(Value::String(_)) => {
                let found = "an empty text";
                return Err(ToolError::Name { index, found });
            }
            other => {
                let found = other.map_or("nothing", kind);
                return Err(ToolError::Name { index, found });
            }
        };
        let schema = function.get("parameters").or(function.get("input_schema"));
        let parameters = match schema {
            None | Some(Value::Null) => None,
            Some(schema @ Value::Object(_)) => Some(schema.clone()),
            Some(other) => {
                let found = kind(other);
                return Err(ToolError::Parameters { index, name, found });
            }
        };
        Ok(Self { name, parameters })
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_are_read_in_the_forms_of_all_interfaces() {
        let schema = json!({"type": "object"});
        let expected = Tool {
            name: "f".to_owned(),
            parameters: Some(schema.clone()),
        };
        for tool in [
            json!({"type": "function", "function": {"name": "f", "parameters": schema}}),
            json!({"type": "function", "name": "f", "parameters": schema}),
            json!({"name": "f", "description": "does f", "input_schema": schema}),
        ] {
            assert_eq!(
                Tool::list(&json!([tool])).as_deref(),
                Ok([expected.clone()].as_slice())
            );
        }
    }

    #[test]
    fn a_schema_says_how_a_value_stands_in_a_tag() {
        let parameters = json!({"properties": {
            "a": {"type": "string"}, "b": {"type": ["integer", "null"]},
            "c": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "d": {},
        }});
        let tool = Tool {
            name: "f".to_owned(),
            parameters: Some(parameters),
        };
        let forms = ["a", "b", "c", "d", "e"].map(|name| tool.parameter_form(name));
        let (text, json) = (ParameterForm::Text, ParameterForm::Json);
        assert_eq!(forms, [text, json, ParameterForm::Either, text, text]);
    }

    #[test]
    fn what_is_no_tool_is_named_by_its_place() {
        let message = |tools| Tool::list(&tools).unwrap_err().to_string();
        assert_eq!(message(json!({})), "tools: expected an array, found a map");
        assert_eq!(
            message(json!([{"name": "f"}, {"function": {"name": 3}}])),
            "tools[1]: expected a name that is a text, found a number"
        );
        assert_eq!(
            message(json!([{"name": ""}])),
            "tools[0]: expected a name that is a text, found an empty text"
        );
        assert_eq!(
            message(json!([{"name": "f", "parameters": "none"}])),
            "tools[0] `f`: expected parameters that are a JSON schema, found a text"
        );
    }
}
