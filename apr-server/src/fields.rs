//! Reading a JSON object field by field, so that every error names the field.
//!
//! A field is taken out when it is read. What is left at the end was not understood: names
//! that are known to change no answer are let through, all others are an error that tells the
//! nearest name that is known, since a setting that is dropped in silence, or misspelt, gives
//! another answer than was asked for. `null` is as good as nothing.

use serde_json::{Map, Value};

use crate::api_error::ApiError;

/// Fields that change no answer, whatever they say: who asks, what is billed and kept, which
/// machine and which cache is used, and guesses that make it faster.
const HARMLESS: [&str; 20] = [
    // OpenAI's.
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    // Anthropic's, which gateways pass on.
    "cache_control",
    // Ollama's.
    "keep_alive",
    // llama-server's.
    "id_slot",
    "slot_id",
    "n_keep",
    "n_cache_reuse",
    "timings_per_token",
    "speculative.n_max",
    "speculative.n_min",
    "speculative.p_min",
    // vLLM's.
    "request_id",
    "priority",
    "cache_salt",
];

/// How many letters of a name may be wrong for another name to be meant.
const MISSPELT: usize = 2;

/// Parses a body.
pub(crate) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = error.to_string();
        // The place stands at the end of the library's message.
        let what = what.split(" at line ").next().unwrap_or_default();
        let message = format!("the body is not valid JSON: {what} at line {line}, column {column}");
        ApiError::new(axum::http::StatusCode::BAD_REQUEST, message).code("invalid_json")
    })
}

/// An object that is being read.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object stands, as `messages[3].`, empty for the body.
    path: String,
    /// The fields of a body that were asked for.
    known: Vec<String>,
}

impl Fields {
    /// Begins to read a body.
    pub(crate) fn of_body(value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: String::new(),
                known: Vec::new(),
            }),
            other => {
                let message = format!("the body: expected an object, found {}", kind(&other));
                let status = axum::http::StatusCode::BAD_REQUEST;
                Err(ApiError::new(status, message).code("invalid_type"))
            }
        }
    }

    /// Begins to read an object that stands at `path`.
    pub(crate) fn of(value: Value, path: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: format!("{path}."),
                known: Vec::new(),
            }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// Returns all that is left.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// Returns the place of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Returns whether a field says something.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a field of any type.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        if self.path.is_empty() {
            self.known.push(name.to_owned());
        }
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Value, ApiError> {
        self.value(name).ok_or_else(|| missing(&self.path(name)))
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path(name), "a string", &other)),
        }
    }

    pub(crate) fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(is)),
            Some(other) => Err(wrong_type(&self.path(name), "true or false", &other)),
        }
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong_type(&self.path(name), "an array", &other)),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        let path = self.path(name);
        self.value(name)
            .map(|value| Self::of(value, &path))
            .transpose()
    }

    /// Takes a number within a range.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64() else {
            return Err(wrong_type(&self.path(name), "a number", &value));
        };
        if !range.contains(&number) {
            return Err(out_of_range(&self.path(name), &range, number));
        }
        Ok(Some(number as f32))
    }

    /// Takes a whole number within a range. `4.0` is one, `4.5` is not.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let path = self.path(name);
        let number = whole(&value, &path)?;
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(out_of_range(&path, &range, value)),
        }
    }

    /// Takes a count of at most `most`.
    pub(crate) fn count(&mut self, name: &str, most: usize) -> Result<Option<usize>, ApiError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let count = self.integer(name, 0..=most)?;
        Ok(count.and_then(|count| usize::try_from(count).ok()))
    }

    /// Takes a field that exists in the API but not here. It is no error if it says what is
    /// done anyway.
    pub(crate) fn refuse(
        &mut self,
        name: &str,
        neutral: &[Value],
        why: &str,
    ) -> Result<(), ApiError> {
        match self.value(name) {
            Some(value) if !neutral.contains(&value) => {
                Err(ApiError::unsupported(self.path(name), why))
            }
            _ => Ok(()),
        }
    }

    /// Ends the reading: nothing may be left that could have changed the answer.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let left = self
            .map
            .iter()
            .find(|(name, value)| !value.is_null() && !HARMLESS.contains(&name.as_str()));
        let Some((name, _)) = left else {
            return Ok(());
        };
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let mut message = "this field is not known here".to_owned();
        if let Some(meant) = self.nearest(&name) {
            message = format!("{message}; the nearest one that is known is {meant}");
        }
        Err(ApiError::unsupported(self.path(&name), message).code("unknown_parameter"))
    }

    /// Returns the known name that is most like another one, if it is like it at all.
    fn nearest(&self, name: &str) -> Option<&str> {
        let known = self.known.iter().map(String::as_str).chain(HARMLESS);
        let distance = |known: &&str| strsim::damerau_levenshtein(known, name);
        let nearest = known.min_by_key(distance)?;
        (distance(&nearest) <= MISSPELT).then_some(nearest)
    }
}

/// Reads a whole number; `None` is one that is too large.
fn whole(value: &Value, path: &str) -> Result<Option<i64>, ApiError> {
    if let Some(number) = value.as_i64() {
        return Ok(Some(number));
    }
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 => {
            // Below 2⁵³ every whole number is exact.
            let is_exact = number.abs() < 9_007_199_254_740_992.0;
            Ok(is_exact.then_some(number as i64))
        }
        _ => Err(wrong_type(path, "a whole number", value)),
    }
}

/// Reads token ids. That they are in the vocabulary is checked where they are used.
pub(crate) fn ids(items: &[Value], path: &str) -> Result<Vec<u32>, ApiError> {
    let id = |(idx, item): (usize, &Value)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            ApiError::invalid(format!("{path}[{idx}]"), "expected a token id").code("invalid_token")
        })
    };
    items.iter().enumerate().map(id).collect()
}

/// Makes the error for a field that is not there.
pub(crate) fn missing(path: &str) -> ApiError {
    ApiError::invalid(path, "is required").code("missing_field")
}

/// Makes the error for a value of another type.
pub(crate) fn wrong_type(path: &str, expected: &str, found: &Value) -> ApiError {
    let message = format!("expected {expected}, found {}", kind(found));
    ApiError::invalid(path, message).code("invalid_type")
}

fn out_of_range<T: std::fmt::Display>(
    path: &str,
    range: &std::ops::RangeInclusive<T>,
    found: impl std::fmt::Display,
) -> ApiError {
    let (low, high) = (range.start(), range.end());
    let message = match high.to_string() {
        // A bound that is there only because numbers end somewhere.
        high if high.len() > 15 => format!("expected a number of at least {low}, found {found}"),
        high => format!("expected {low} to {high}, found {found}"),
    };
    ApiError::invalid(path, message)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of_body(value).unwrap()
    }

    fn error_of<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Value {
        result.unwrap_err().to_json()["error"].take()
    }

    #[test]
    fn malformed_json_is_placed() {
        let error = error_of(parse(b"{\n  \"a\": 1,,\n}"));
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with("at line 2, column 10"), "{message}");
        assert_eq!(error["code"], "invalid_json");
    }

    #[test]
    fn deep_json_is_an_error() {
        let deep = "[".repeat(10_000);
        let message = error_of(parse(deep.as_bytes()))["message"].to_string();
        assert!(message.contains("recursion limit"), "{message}");
    }

    #[test]
    fn values_of_another_type_or_range_name_the_field() {
        let mut body = fields(json!({"a": "x", "b": 3, "c": 1.5, "d": 1e300, "e": [1, -1]}));
        assert_eq!(error_of(body.number("a", 0.0..=1.0))["param"], "a");
        assert_eq!(
            error_of(body.number("b", 0.0..=2.0))["message"],
            "b: expected 0 to 2, found 3"
        );
        assert_eq!(error_of(body.integer("c", 0..=9))["code"], "invalid_type");
        assert_eq!(error_of(body.integer("d", 0..=9))["code"], "invalid_value");
        let items = body.array("e").unwrap().unwrap();
        assert_eq!(error_of(ids(&items, "e"))["param"], "e[1]");
        assert!(body.finish().is_ok());
    }

    #[test]
    fn what_was_not_read_is_an_error_unless_it_changes_nothing() {
        assert!(fields(json!({"user": "x", "odd": null})).finish().is_ok());
        let mut body = fields(json!({"tempratur": 1}));
        assert_eq!(body.number("temperature", 0.0..=1.0).unwrap(), None);
        let error = error_of(body.finish());
        assert_eq!(error["param"], "tempratur");
        assert_eq!(
            error["message"],
            "tempratur: this field is not known here; the nearest one that is known is temperature"
        );
        let error = error_of(fields(json!({"warmth": 1})).finish());
        assert_eq!(error["message"], "warmth: this field is not known here");
    }

    #[test]
    fn a_refused_field_may_say_what_is_done_anyway() {
        let mut body = fields(json!({"suffix": "", "best_of": 3}));
        assert!(body.refuse("suffix", &[json!("")], "no").is_ok());
        assert_eq!(
            error_of(body.refuse("best_of", &[json!(1)], "no"))["param"],
            "best_of"
        );
    }
}
