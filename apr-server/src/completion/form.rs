//! The form that an answer is to have, under the names of all APIs.

use sampler::GrammarSource;
use serde_json::Value;

use crate::{
    api_error::ApiError,
    fields::{Fields, missing, wrong_type},
};

/// What an answer is held to, and the field that says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) source: GrammarSource,
    pub(crate) param: String,
}

impl Form {
    /// Reads llama-server's fields and vLLM's, of which one may say something.
    pub(crate) fn read(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let mut form = None;
        for name in ["json_schema", "guided_json"] {
            form = only(form, schema(fields, name)?)?;
        }
        for name in ["grammar", "guided_grammar"] {
            form = only(form, grammar(fields, name)?)?;
        }
        for name in ["regex", "guided_regex"] {
            form = only(form, regex(fields, name)?)?;
        }
        for name in ["choice", "guided_choice"] {
            form = only(form, choice(fields, name)?)?;
        }
        let Some(mut outputs) = fields.object("structured_outputs")? else {
            return Ok(form);
        };
        form = only(form, schema(&mut outputs, "json")?)?;
        form = only(form, grammar(&mut outputs, "grammar")?)?;
        form = only(form, regex(&mut outputs, "regex")?)?;
        form = only(form, choice(&mut outputs, "choice")?)?;
        if outputs.bool("json_object")?.unwrap_or(false) {
            let param = outputs.path("json_object");
            form = only(form, Some(Self::new(GrammarSource::JsonObject, param)))?;
        }
        outputs.finish()?;
        Ok(form)
    }

    /// Reads OpenAI's field, and Anthropic's and Responses', which have the schema beside the
    /// type.
    pub(crate) fn of_format(fields: &mut Fields, name: &str) -> Result<Option<Self>, ApiError> {
        let Some(mut format) = fields.object(name)? else {
            return Ok(None);
        };
        let path = format.path("type");
        let form = match format.string("type")?.as_deref() {
            None => return Err(missing(&path)),
            Some("text") => None,
            // With a schema it is llama-server's.
            Some("json_object") => match schema(&mut format, "schema")? {
                Some(form) => Some(form),
                None => Some(Self::new(GrammarSource::JsonObject, fields.path(name))),
            },
            Some("json_schema") => Some(named_schema(&mut format)?),
            Some(_) => {
                let message = "expected text, json_object or json_schema";
                return Err(ApiError::unsupported(path, message));
            }
        };
        format.finish()?;
        Ok(form)
    }

    /// Reads Ollama's field.
    pub(crate) fn of_ollama(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        match fields.value("format") {
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text == "json" => {
                let param = fields.path("format");
                Ok(Some(Self::new(GrammarSource::JsonObject, param)))
            }
            Some(value @ Value::Object(_)) => of_schema(value, fields.path("format")).map(Some),
            None => Ok(None),
            Some(_) => {
                let message = "expected \"json\" or a JSON schema";
                Err(ApiError::invalid(fields.path("format"), message))
            }
        }
    }

    fn new(source: GrammarSource, param: String) -> Self {
        Self { source, param }
    }
}

/// Joins two forms, of which one may say something.
pub(crate) fn only(one: Option<Form>, other: Option<Form>) -> Result<Option<Form>, ApiError> {
    match (one, other) {
        (Some(one), Some(other)) => {
            let message = format!("an answer has one form, and {} says another", one.param);
            Err(ApiError::invalid(other.param, message))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Reads what OpenAI's chats have under `json_schema`, and its responses beside the type.
fn named_schema(format: &mut Fields) -> Result<Form, ApiError> {
    let mut inner = format.object("json_schema")?;
    let named = inner.as_mut().unwrap_or(format);
    for name in ["name", "description"] {
        named.string(name)?;
    }
    // A schema is held to strictly in any case.
    named.bool("strict")?;
    let form = schema(named, "schema")?.ok_or_else(|| missing(&named.path("schema")))?;
    inner.map_or(Ok(()), Fields::finish)?;
    Ok(form)
}

fn schema(fields: &mut Fields, name: &str) -> Result<Option<Form>, ApiError> {
    let path = fields.path(name);
    fields
        .value(name)
        .map(|value| of_schema(value, path))
        .transpose()
}

/// Reads a schema, or the text of one. One that says nothing asks for an object, as in llama.cpp.
fn of_schema(value: Value, param: String) -> Result<Form, ApiError> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|_| ApiError::invalid(&*param, "expected a JSON schema"))?,
        value => value,
    };
    let source = match &value {
        Value::Object(members) if members.is_empty() => GrammarSource::JsonObject,
        Value::Object(_) | Value::Bool(_) => GrammarSource::JsonSchema(value),
        other => return Err(wrong_type(&param, "a JSON schema", other)),
    };
    Ok(Form { source, param })
}

fn grammar(fields: &mut Fields, name: &str) -> Result<Option<Form>, ApiError> {
    let text = fields.string(name)?.filter(|text| !text.is_empty());
    let form = |text: String| Form::new(GrammarSource::grammar(&text), fields.path(name));
    Ok(text.map(form))
}

fn regex(fields: &mut Fields, name: &str) -> Result<Option<Form>, ApiError> {
    let text = fields.string(name)?;
    Ok(text.map(|text| Form::new(GrammarSource::Regex(text), fields.path(name))))
}

fn choice(fields: &mut Fields, name: &str) -> Result<Option<Form>, ApiError> {
    let path = fields.path(name);
    let Some(items) = fields.array(name)? else {
        return Ok(None);
    };
    let text = |(idx, item): (usize, Value)| match item {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(&format!("{path}[{idx}]"), "a string", &other)),
    };
    let texts: Vec<_> = items
        .into_iter()
        .enumerate()
        .map(text)
        .collect::<Result<_, _>>()?;
    Ok(Some(Form::new(GrammarSource::Choice(texts), path)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Option<Form>, ApiError> {
        let mut fields = Fields::of_body(body).unwrap();
        let form = Form::read(&mut fields)?;
        let form = only(form, Form::of_format(&mut fields, "response_format")?)?;
        fields.finish()?;
        Ok(form)
    }

    #[test]
    fn every_name_of_a_form_is_read() {
        let schema = json!({"type": "integer"});
        let of_schema = GrammarSource::JsonSchema(schema.clone());
        let gbnf = GrammarSource::Gbnf("root ::= \"a\"".to_owned());
        let lark = GrammarSource::Lark("start: \"a\"".to_owned());
        let digit = GrammarSource::Regex("[0-9]".to_owned());
        let words = GrammarSource::Choice(vec!["a".to_owned(), "b".to_owned()]);
        let object = GrammarSource::JsonObject;
        let named = json!({"name": "n", "description": "d", "strict": true, "schema": schema});
        let format = |format: Value| json!({"response_format": format});
        let beside = json!({"type": "json_schema", "name": "n", "schema": schema});
        let cases = [
            (json!({"json_schema": schema}), &of_schema),
            (json!({"json_schema": {}}), &object),
            (
                json!({"guided_json": "{\"type\": \"integer\"}"}),
                &of_schema,
            ),
            (json!({"grammar": "root ::= \"a\""}), &gbnf),
            (json!({"grammar": "%llguidance {}\nstart: \"a\""}), &lark),
            (json!({"guided_grammar": "root ::= \"a\""}), &gbnf),
            (json!({"regex": "[0-9]"}), &digit),
            (json!({"guided_choice": ["a", "b"]}), &words),
            (
                json!({"structured_outputs": {"choice": ["a", "b"]}}),
                &words,
            ),
            (
                json!({"structured_outputs": {"json_object": true}}),
                &object,
            ),
            (format(json!({"type": "json_object"})), &object),
            (
                format(json!({"type": "json_object", "schema": schema})),
                &of_schema,
            ),
            (
                format(json!({"type": "json_schema", "json_schema": named})),
                &of_schema,
            ),
            (format(beside), &of_schema),
        ];
        for (body, source) in cases {
            let form = read(body.clone()).unwrap();
            assert_eq!(form.map(|it| it.source).as_ref(), Some(source), "{body}");
        }
        for body in [
            json!({"grammar": ""}),
            format(json!({"type": "text"})),
            json!({}),
        ] {
            assert_eq!(read(body).unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_form_is_named_by_its_place() {
        let format = |format: Value| json!({"response_format": format});
        let cases = [
            (json!({"json_schema": 7}), "json_schema"),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"choice": ["a", 1]}), "choice[1]"),
            (json!({"regex": "a", "json_schema": {}}), "regex"),
            (
                json!({"structured_outputs": {"rule": 1}}),
                "structured_outputs.rule",
            ),
            (format(json!({})), "response_format.type"),
            (format(json!({"type": "xml"})), "response_format.type"),
            (
                format(json!({"type": "json_schema"})),
                "response_format.schema",
            ),
            (
                format(json!({"type": "json_schema", "json_schema": {"name": "n"}})),
                "response_format.json_schema.schema",
            ),
        ];
        for (body, param) in cases {
            let error = read(body.clone()).unwrap_err().to_json();
            assert_eq!(error["error"]["param"], param, "{body}");
        }
    }
}
