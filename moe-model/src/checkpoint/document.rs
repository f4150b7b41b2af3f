//! A JSON document of a checkpoint, read field by field.
//!
//! No key may come twice, at any depth: readers differ in which one they take. A field that is
//! `null` counts as absent, as transformers has it.

use std::{borrow::Cow, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    ModelError,
    error::{json_error, quote},
};

/// The most bytes of a document; real ones have a few thousand.
const MAX_BYTES: usize = 1 << 20;

/// A document, or an object within one.
#[derive(Debug)]
pub(super) struct Document<'a> {
    path: &'a Path,
    /// The field that it is, with a dot behind; empty for the whole document.
    prefix: String,
    fields: Map<String, Value>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(path: &'a Path, bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MAX_BYTES {
            return Err(ModelError::Json {
                path: path.to_owned(),
                line: 1,
                column: 1,
                message: format!("expected at most {MAX_BYTES} bytes, found {}", bytes.len()),
            });
        }
        let Unique(value) =
            serde_json::from_slice(bytes).map_err(|error| json_error(path, &error))?;
        let document = Self {
            path,
            prefix: String::new(),
            fields: Map::new(),
        };
        document.within("", value)
    }

    /// Returns all fields.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    /// Returns a field that may be absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Iterates over the names of all fields that are not absent.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let present = self.fields.iter().filter(|(_, value)| !value.is_null());
        present.map(|(name, _)| name.as_str())
    }

    /// Returns an object that may be absent.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, ModelError> {
        let value = self.get(name).cloned();
        value.map(|value| self.within(name, value)).transpose()
    }

    /// Returns a size: a whole number from 1 to 2^32 − 1.
    pub(super) fn size(&self, name: &str) -> Result<Option<usize>, ModelError> {
        let size = |value: &Value| {
            let size = value.as_u64().and_then(|size| u32::try_from(size).ok());
            size.filter(|&size| size > 0).map(|size| size as usize)
        };
        self.read(name, "a whole number from 1 to 4294967295", size)
    }

    /// Returns a finite number, rounded to single precision.
    pub(super) fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let number = |value: &Value| {
            let number = value.as_f64().map(|number| number as f32);
            number.filter(|number| number.is_finite())
        };
        self.read(name, "a number", number)
    }

    /// Returns a whole number.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i32>, ModelError> {
        let integer = |value: &Value| value.as_i64().and_then(|n| i32::try_from(n).ok());
        self.read(name, "a whole number of 32 bits", integer)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ModelError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.read(name, "a string", text)
    }

    /// Returns a field that must be there.
    pub(super) fn require<T>(
        &self,
        name: &str,
        expected: &str,
        found: Option<T>,
    ) -> Result<T, ModelError> {
        found.ok_or_else(|| self.invalid(name, expected, "nothing"))
    }

    /// The error about a field.
    pub(super) fn invalid(
        &self,
        name: &str,
        expected: &str,
        found: impl fmt::Display,
    ) -> ModelError {
        ModelError::Field {
            path: self.path.to_owned(),
            field: format!("{}{}", self.prefix, quote(name)),
            expected: expected.to_owned(),
            found: quote(&found.to_string()),
        }
    }

    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let wrong = |value: &Value| match value {
            Value::String(text) => self.invalid(name, expected, format!("`{text}`")),
            other => self.invalid(name, expected, other),
        };
        let value = self.get(name);
        value
            .map(|value| read(value).ok_or_else(|| wrong(value)))
            .transpose()
    }

    fn within(&self, name: &str, value: Value) -> Result<Self, ModelError> {
        match value {
            Value::Object(fields) => Ok(Self {
                path: self.path,
                prefix: match name {
                    "" => String::new(),
                    name => format!("{}{name}.", self.prefix),
                },
                fields,
            }),
            other => Err(self.invalid(name, "an object", other)),
        }
    }
}

/// A value in which no object has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if fields.contains_key(name.as_ref()) {
                let message = format!("field `{}` comes twice", quote(&name));
                return Err(A::Error::custom(message));
            }
            let Unique(value) = map.next_value()?;
            fields.insert(name.into_owned(), value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document<'static>, ModelError> {
        Document::parse(Path::new("config.json"), text.as_bytes())
    }

    #[test]
    fn a_key_that_comes_twice_is_found_at_any_depth() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"{"b": [{"a": {"x": 1, "x": 2}}]}"#] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("comes twice"), "{error}");
            assert!(error.starts_with("config.json, line 1, column "), "{error}");
        }
        let escaped = parse(r#"{"a": 1, "\u0061": 1}"#).unwrap_err().to_string();
        assert!(escaped.contains("`a` comes twice"), "{escaped}");
    }

    #[test]
    fn fields_have_their_types_and_null_is_absent() {
        let document = parse(
            r#"{"n": 7, "zero": 0, "big": 4294967296, "x": 0.5, "none": null, "o": {"k": "v"}}"#,
        )
        .unwrap();
        assert_eq!(document.size("n").unwrap(), Some(7));
        assert_eq!(document.number("x").unwrap(), Some(0.5));
        assert_eq!(document.size("none").unwrap(), None);
        let inner = document.object("o").unwrap().unwrap();
        assert_eq!(inner.text("k").unwrap().as_deref(), Some("v"));
        assert_eq!(
            inner.size("k").unwrap_err().to_string(),
            "config.json: field `o.k`: expected a whole number from 1 to 4294967295, \
             found `v`"
        );
        for name in ["zero", "big", "x", "o"] {
            assert!(document.size(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "3", "{", "{} {}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let long = format!("{{}}{}", " ".repeat(MAX_BYTES));
        let error = parse(&long).unwrap_err().to_string();
        assert!(error.contains("at most 1048576 bytes"), "{error}");
    }
}
