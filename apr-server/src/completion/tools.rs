//! The tools of a conversation, and whether they are called.

use reply_parser::Tool;
use serde_json::Value;

use crate::{
    api_error::ApiError,
    fields::{Fields, missing},
};

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// They are not told of.
    None,
    /// If the model wants to.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one, once.
    Named(String),
    /// Only these, and at least one if it is required.
    Allowed {
        names: Vec<String>,
        is_required: bool,
    },
}

/// What can be called, and how.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// As templates want them; `None` if nothing can be called.
    pub(crate) list: Option<Value>,
    /// The same, as far as reading calls needs them.
    pub(crate) tools: Vec<Tool>,
    /// Whether a request wants the calls of a tool to be held to its schema or nothing.
    is_strict: Vec<bool>,
    choice: ToolChoice,
    /// Whether the first call ends the reply.
    pub(crate) is_single: bool,
}

/// A tool that can be called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callable<'a> {
    /// Its place in the request.
    pub(crate) idx: usize,
    pub(crate) tool: &'a Tool,
    /// Whether its schema has to be held to.
    pub(crate) is_strict: bool,
}

impl Tools {
    /// Reads the fields of a chat completion.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let tools = fields.array("tools")?.unwrap_or_default();
        let path = fields.path("tool_choice");
        let choice = match fields.value("tool_choice") {
            None => ToolChoice::Auto,
            Some(Value::String(choice)) => of_word(&choice, &path)?,
            Some(choice) => of_object(choice, &path)?,
        };
        let is_parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
        fields.refuse("functions", &[], "use tools instead")?;
        fields.refuse(
            "function_call",
            &["auto".into(), "none".into()],
            "use tools instead",
        )?;
        Self::new(tools, choice, !is_parallel)
    }

    /// Takes tools in the form of a chat completion.
    pub(crate) fn new(
        mut list: Vec<Value>,
        choice: ToolChoice,
        is_single: bool,
    ) -> Result<Self, ApiError> {
        let is_strict = list.iter_mut().map(take_strictness).collect();
        let list = Value::Array(list);
        let tools = Tool::list(&list);
        let tools = tools.map_err(|error| ApiError::invalid("tools", error.to_string()))?;
        check(&choice, &tools)?;
        let is_used = choice != ToolChoice::None && !tools.is_empty();
        Ok(Self {
            list: is_used.then_some(list),
            tools: if is_used { tools } else { Vec::new() },
            is_strict,
            is_single: is_single || matches!(choice, ToolChoice::Named(_)),
            choice,
        })
    }

    /// Whether at least one call has to be made.
    pub(crate) const fn is_required(&self) -> bool {
        match &self.choice {
            ToolChoice::Required | ToolChoice::Named(_) => true,
            ToolChoice::Allowed { is_required, .. } => *is_required,
            ToolChoice::None | ToolChoice::Auto => false,
        }
    }

    /// Returns the tools that can be called; of those with the same name, the first.
    pub(crate) fn callable(&self) -> Vec<Callable<'_>> {
        let mut callable: Vec<Callable<'_>> = Vec::new();
        for (idx, tool) in self.tools.iter().enumerate() {
            let is_allowed = match &self.choice {
                ToolChoice::None => false,
                ToolChoice::Auto | ToolChoice::Required => true,
                ToolChoice::Named(name) => *name == tool.name,
                ToolChoice::Allowed { names, .. } => names.contains(&tool.name),
            };
            if is_allowed && callable.iter().all(|it| it.tool.name != tool.name) {
                let is_strict = self.is_strict[idx] || self.is_required();
                callable.push(Callable {
                    idx,
                    tool,
                    is_strict,
                });
            }
        }
        callable
    }
}

/// Takes the switch that the grammar is told of and the model is not.
fn take_strictness(tool: &mut Value) -> bool {
    let mut take = |pointer: &str| {
        let place = tool.pointer_mut(pointer).and_then(Value::as_object_mut);
        place.and_then(|place| place.shift_remove("strict"))
    };
    let (outer, inner) = (take(""), take("/function"));
    outer.or(inner) == Some(Value::Bool(true))
}

fn check(choice: &ToolChoice, tools: &[Tool]) -> Result<(), ApiError> {
    let is_tool = |name: &String| tools.iter().any(|tool| tool.name == *name);
    let is_known = match choice {
        ToolChoice::None | ToolChoice::Auto => true,
        ToolChoice::Required if tools.is_empty() => {
            return Err(ApiError::invalid("tool_choice", "there are no tools"));
        }
        ToolChoice::Required => true,
        ToolChoice::Named(name) => is_tool(name),
        ToolChoice::Allowed { names, .. } => !names.is_empty() && names.iter().all(is_tool),
    };
    match is_known {
        true => Ok(()),
        false => Err(ApiError::invalid("tool_choice", "no tool has this name")),
    }
}

fn of_word(word: &str, path: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        _ => Err(unknown(path)),
    }
}

fn unknown(path: &str) -> ApiError {
    let message = "expected none, auto, required, or a tool by its name";
    ApiError::invalid(path, message)
}

/// Reads a named function, or a list of allowed ones; chat completions have what they say one
/// level deeper than responses.
fn of_object(choice: Value, path: &str) -> Result<ToolChoice, ApiError> {
    let mut choice = Fields::of(choice, path)?;
    let kind = choice.string("type")?;
    match kind.as_deref() {
        Some("function") => {
            let name = name(&mut choice)?;
            choice.finish()?;
            Ok(ToolChoice::Named(name))
        }
        Some("allowed_tools") => {
            let mut inner = choice.object("allowed_tools")?;
            let allowed = inner.as_mut().unwrap_or(&mut choice);
            let path = allowed.path("mode");
            let is_required = match allowed.string("mode")?.as_deref() {
                None | Some("auto") => false,
                Some("required") => true,
                Some(_) => return Err(ApiError::invalid(path, "expected auto or required")),
            };
            let path = allowed.path("tools");
            let tools = allowed.array("tools")?.ok_or_else(|| missing(&path))?;
            let names = tools.into_iter().enumerate().map(|(idx, tool)| {
                let mut tool = Fields::of(tool, &format!("{path}[{idx}]"))?;
                tool.value("type");
                name(&mut tool)
            });
            Ok(ToolChoice::Allowed {
                names: names.collect::<Result<_, _>>()?,
                is_required,
            })
        }
        _ => Err(unknown(path)),
    }
}

fn name(fields: &mut Fields) -> Result<String, ApiError> {
    let mut function = fields.object("function")?;
    let place = function.as_mut().unwrap_or(fields);
    let path = place.path("name");
    place.string("name")?.ok_or_else(|| missing(&path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(choice: &Value) -> Result<Tools, ApiError> {
        let tools = json!([
            {"type": "function", "function": {"name": "f", "strict": true}},
            {"type": "function", "function": {"name": "g"}},
            {"type": "function", "function": {"name": "g"}},
        ]);
        let body = json!({"tools": tools, "tool_choice": choice});
        Tools::read(&mut Fields::of_body(body).unwrap())
    }

    fn names(tools: &Tools) -> Vec<(&str, bool)> {
        let callable = tools.callable().into_iter();
        callable
            .map(|it| (it.tool.name.as_str(), it.is_strict))
            .collect()
    }

    #[test]
    fn a_choice_says_what_is_called() {
        let auto = read(&json!("auto")).unwrap();
        assert_eq!(names(&auto), [("f", true), ("g", false)]);
        assert!(!auto.is_required() && !auto.is_single);
        assert!(!auto.list.unwrap().to_string().contains("strict"));
        let required = read(&json!("required")).unwrap();
        assert_eq!(names(&required), [("f", true), ("g", true)]);
        assert!(required.is_required() && !required.is_single);
        assert!(read(&json!("none")).unwrap().list.is_none());
        for named in [
            json!({"type": "function", "function": {"name": "g"}}),
            json!({"type": "function", "name": "g"}),
        ] {
            let named = read(&named).unwrap();
            assert_eq!(names(&named), [("g", true)]);
            assert!(named.is_required() && named.is_single && named.list.is_some());
        }
        for allowed in [
            json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}),
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
                {"type": "function", "function": {"name": "g"}},
            ]}}),
        ] {
            assert_eq!(names(&read(&allowed).unwrap()), [("g", false)]);
        }
    }

    #[test]
    fn a_choice_that_is_none_is_named() {
        for choice in [
            json!("any"),
            json!(7),
            json!({"type": "function", "name": "h"}),
            json!({"type": "web_search"}),
            json!({"type": "allowed_tools", "mode": "auto", "tools": []}),
        ] {
            let error = read(&choice).unwrap_err().to_json();
            assert_eq!(error["error"]["param"], "tool_choice", "{choice}");
        }
        let body = json!({"tool_choice": "required"});
        assert!(Tools::read(&mut Fields::of_body(body).unwrap()).is_err());
    }
}
