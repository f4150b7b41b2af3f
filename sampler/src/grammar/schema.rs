//! JSON schemas: what is refused before llguidance sees it, and how JSON is written.
//!
//! llguidance refuses most keywords that it cannot hold a text to. Here they are refused by name
//! and place, and besides them what it takes but holds only nearly: numbers beyond what `f64`
//! tells apart, names repeated to reach `minProperties`, `$id` below the root. Keywords that JSON
//! Schema itself gives no force (`title`, `x-…`, unknown ones) stay without force.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{calendar, invalid, within, written_out};
use crate::SamplerError;

const FORM: &str = "JSON schema";

/// The most values in a schema, each member and element counted.
const MAX_VALUES: usize = 20_000;
/// How deep they may lie in each other.
const MAX_DEPTH: usize = 64;
/// The most alternatives that each exclude all others: every pair is compared.
const MAX_ONE_OF: usize = 128;
/// The most properties of one object.
const MAX_PROPERTIES: usize = 1000;
/// The most that all different numbers of `multipleOf` may be together, decimal points left out:
/// remainders are counted in 32 bits.
const MAX_MULTIPLE: u64 = 400_000_000;
/// The most bytes of all keys and texts.
const MAX_BYTES: usize = 512 << 10;
/// The most repetitions of a character or an item that are counted.
const MAX_COUNT: u64 = 100_000;
/// Above this, whole numbers that differ may be the same `f64`.
const MAX_EXACT: u64 = 1 << 53;

/// Keywords that say what a value must be and cannot be held to.
const REFUSED: [&str; 19] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$anchor",
];

/// Keywords whose value is a schema.
const OF_ONE: [&str; 3] = ["additionalItems", "additionalProperties", "items"];
/// Keywords whose value is a list of schemas.
const OF_MANY: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
/// Keywords whose value has schemas under names.
pub(super) const OF_NAMED: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];
/// Keywords that count.
const COUNTS: [&str; 6] = [
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "minProperties",
];

/// Checks a schema and adds how the JSON is to be written.
pub(super) fn prepare(schema: &Value) -> Result<Value, SamplerError> {
    let mut size = Size::default();
    size.measure(schema, 0)?;
    size.check_multiples()?;
    let mut root = match schema {
        Value::Object(members) => members.clone(),
        Value::Bool(true) => Map::new(),
        Value::Bool(false) => return Err(invalid(FORM, "`false` holds for no value")),
        _ => return Err(invalid(FORM, "expected an object or a boolean")),
    };
    check(&Value::Object(root.clone()), "#", true)?;
    root.insert("x-guidance".to_owned(), writing());
    let mut prepared = Value::Object(root);
    calendar::hold_to(&mut prepared);
    Ok(prepared)
}

/// How JSON is written: no blanks but one after each comma and colon. Escapes are those for
/// which there is no other way of writing a character, so that no two spellings are one name.
fn writing() -> Value {
    json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
        "coerce_one_of": false,
        "lenient": false,
        "json_allowed_escapes": "nrbtf\\\"",
    })
}

#[derive(Default)]
struct Size {
    n_values: usize,
    n_bytes: usize,
    multiples: BTreeSet<String>,
}

impl Size {
    fn measure(&mut self, value: &Value, depth: usize) -> Result<(), SamplerError> {
        self.n_values += 1;
        within(FORM, "values", self.n_values, MAX_VALUES)?;
        within(FORM, "levels", depth, MAX_DEPTH)?;
        match value {
            Value::String(text) => self.add(text)?,
            Value::Array(items) => {
                // Told as it is, and not where counting stops.
                within(FORM, "elements of a list", items.len(), MAX_VALUES)?;
                for item in items {
                    self.measure(item, depth + 1)?;
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.add(name)?;
                    if name == "multipleOf" {
                        self.multiples.insert(member.to_string());
                    }
                    if name == "properties"
                        && let Value::Object(named) = member
                    {
                        within(FORM, "properties of an object", named.len(), MAX_PROPERTIES)?;
                    }
                    self.measure(member, depth + 1)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
        Ok(())
    }

    fn check_multiples(&self) -> Result<(), SamplerError> {
        // `0.25` is 25 hundredths; what is written with an exponent is not taken apart.
        let digits = |number: &String| number.replace('.', "").parse::<u64>().ok();
        let mut together = 1_u64;
        for number in &self.multiples {
            together = match digits(number) {
                Some(digits) => together.saturating_mul(digits.max(1)),
                None => u64::MAX,
            };
            if together > MAX_MULTIPLE {
                return Err(SamplerError::GrammarFeature {
                    feature: format!("multipleOf: {number}"),
                    place: "#".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<(), SamplerError> {
        self.n_bytes += text.len();
        within(FORM, "bytes of text", self.n_bytes, MAX_BYTES)
    }
}

/// Checks a schema and those in it. `place` is its JSON pointer.
fn check(schema: &Value, place: &str, is_root: bool) -> Result<(), SamplerError> {
    let Value::Object(members) = schema else {
        return match schema {
            Value::Bool(_) => Ok(()),
            _ => Err(invalid(
                FORM,
                format!("{place}: expected an object or a boolean"),
            )),
        };
    };
    let refused = |feature: &str| {
        Err(SamplerError::GrammarFeature {
            feature: feature.to_owned(),
            place: place.to_owned(),
        })
    };
    for (keyword, value) in members {
        let keyword = keyword.as_str();
        let is_refused = match keyword {
            "uniqueItems" => value == &Value::Bool(true),
            "$id" | "x-guidance" => keyword != "$id" || !is_root,
            "$ref" => !value.as_str().is_some_and(is_local),
            "minProperties" => is_name_counted(members, value),
            _ => REFUSED.contains(&keyword),
        };
        if is_refused {
            return refused(keyword);
        }
        if COUNTS.contains(&keyword) {
            check_count(keyword, value, place)?;
        }
        check_numbers(keyword, value, place)?;
        if let ("pattern", Value::String(pattern)) = (keyword, value) {
            written_out::check_regex("`pattern` of a JSON schema", pattern)?;
        }
        if keyword == "oneOf"
            && let Value::Array(options) = value
        {
            within(FORM, "alternatives of a `oneOf`", options.len(), MAX_ONE_OF)?;
        }
        check_inner(keyword, value, place)?;
    }
    Ok(())
}

/// Checks the schemas under a keyword.
fn check_inner(keyword: &str, value: &Value, place: &str) -> Result<(), SamplerError> {
    let below = format!("{place}/{keyword}");
    match value {
        Value::Array(items) if OF_MANY.contains(&keyword) => {
            for (idx, item) in items.iter().enumerate() {
                check(item, &format!("{below}/{idx}"), false)?;
            }
        }
        Value::Object(named) if OF_NAMED.contains(&keyword) => {
            for (name, schema) in named {
                if keyword == "patternProperties" {
                    written_out::check_regex("a name of `patternProperties`", name)?;
                }
                check(schema, &format!("{below}/{name}"), false)?;
            }
        }
        _ if OF_ONE.contains(&keyword) => check(value, &below, false)?,
        _ => (),
    }
    Ok(())
}

/// Whether a reference leads into the schema itself, by a pointer without escapes.
fn is_local(reference: &str) -> bool {
    (reference == "#" || reference.starts_with("#/")) && !reference.contains(['~', '%'])
}

/// Whether names that are not required have to be counted to reach `least`: such names could
/// repeat each other.
fn is_name_counted(members: &Map<String, Value>, least: &Value) -> bool {
    let Some(least) = least.as_u64() else {
        return false;
    };
    let len = |keyword| {
        members
            .get(keyword)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false))
        && !members.contains_key("patternProperties");
    least > len("required") as u64 && !is_closed
}

fn check_count(keyword: &str, value: &Value, place: &str) -> Result<(), SamplerError> {
    let count = value.as_u64().or_else(|| {
        let whole = value.as_f64().filter(|count| count.fract() == 0.0);
        whole
            .filter(|&count| count >= 0.0)
            .map(|count| count as u64)
    });
    match count {
        Some(count) if count <= MAX_COUNT => Ok(()),
        Some(_) => Err(invalid(
            FORM,
            format!("{place}: `{keyword}` is {value}, expected at most {MAX_COUNT}"),
        )),
        None => Err(invalid(
            FORM,
            format!("{place}: `{keyword}` is {value}, expected a count"),
        )),
    }
}

/// Refuses whole numbers that `f64` does not tell from others.
fn check_numbers(keyword: &str, value: &Value, place: &str) -> Result<(), SamplerError> {
    let is_bound = matches!(
        keyword,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
    );
    let is_literal = matches!(keyword, "const" | "enum");
    let inexact = match is_bound || is_literal {
        true => first_inexact(value),
        false => None,
    };
    match inexact {
        Some(number) => Err(SamplerError::GrammarFeature {
            feature: format!("{keyword}: {number}"),
            place: place.to_owned(),
        }),
        None => Ok(()),
    }
}

fn first_inexact(value: &Value) -> Option<&Value> {
    match value {
        Value::Number(number) => {
            let magnitude = number
                .as_u64()
                .or_else(|| number.as_i64().map(i64::unsigned_abs));
            let is_inexact = match magnitude {
                Some(magnitude) => magnitude > MAX_EXACT,
                None => number.as_f64().is_none_or(|x| x.abs() > MAX_EXACT as f64),
            };
            is_inexact.then_some(value)
        }
        Value::Array(items) => items.iter().find_map(first_inexact),
        Value::Object(members) => members.values().find_map(first_inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: &Value) -> String {
        prepare(schema).unwrap_err().to_string()
    }

    #[test]
    fn what_is_held_only_nearly_is_refused_by_name_and_place() {
        let cases = [
            (json!({"uniqueItems": true}), "`uniqueItems` in #"),
            (
                json!({"properties": {"a": {"not": {}}}}),
                "`not` in #/properties/a",
            ),
            (
                json!({"anyOf": [{}, {"items": {"if": true}}]}),
                "`if` in #/anyOf/1/items",
            ),
            (json!({"minProperties": 1}), "`minProperties` in #"),
            (json!({"$ref": "https://example.com/s.json"}), "`$ref` in #"),
            (json!({"$defs": {"a": {"$id": "x"}}}), "`$id` in #/$defs/a"),
            (
                json!({"const": 9_007_199_254_740_993_u64}),
                "`const: 9007199254740993` in #",
            ),
            (json!({"maximum": 1e300}), "`maximum: 1e+300` in #"),
            (
                json!({"multipleOf": 4_294_967_291_u64}),
                "`multipleOf: 4294967291` in #",
            ),
            (
                json!({"allOf": [{"multipleOf": 49_999}, {"multipleOf": 0.1}, {"multipleOf": 50_001}]}),
                "`multipleOf: 50001` in #",
            ),
            (
                json!({"x-guidance": {"lenient": true}}),
                "`x-guidance` in #",
            ),
        ];
        for (schema, expected) in cases {
            let message = refused(&schema);
            assert_eq!(message, format!("{expected} is not supported"));
        }
    }

    #[test]
    fn names_and_literals_are_no_keywords() {
        let schema = json!({
            "$id": "https://example.com/root",
            "properties": {"not": {"const": {"if": 1}}, "uniqueItems": {"default": {"not": 1}}},
            "uniqueItems": false,
            "title": "x",
        });
        let prepared = prepare(&schema).unwrap();
        assert_eq!(prepared["properties"], schema["properties"]);
        assert_eq!(prepared["x-guidance"]["key_separator"], ": ");
    }

    #[test]
    fn sizes_are_limited_and_told() {
        let many: Vec<_> = (0..70_000).collect();
        let message = refused(&json!({"enum": many}));
        assert_eq!(
            message,
            "JSON schema: 70000 elements of a list, expected at most 20000"
        );
        let mut deep = json!({});
        for _ in 0..40 {
            deep = json!({"properties": {"a": deep}});
        }
        let message = refused(&deep);
        assert_eq!(message, "JSON schema: 65 levels, expected at most 64");
        let message = refused(&json!({"maxLength": 1_000_000_000}));
        assert!(message.ends_with("expected at most 100000"), "{message}");
        assert!(refused(&json!({"oneOf": vec![json!({}); 129]})).contains("129 alternatives"));
        assert!(refused(&json!({"const": "x".repeat(600_000)})).contains("bytes of text"));
        assert!(refused(&json!([1])).contains("expected an object or a boolean"));
        assert!(refused(&json!({"items": 7})).contains("#/items: expected"));
        assert!(refused(&json!(false)).contains("no value"));
        assert!(refused(&json!({"minItems": -1})).contains("expected a count"));
    }
}
