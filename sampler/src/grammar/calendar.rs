//! Dates and times that exist.
//!
//! llguidance holds `format` to its syntax, which has a 29 February in every year, a year 0 and
//! a sixtieth second in every minute. A pattern beside it leaves them out.

use serde_json::{Map, Value, json};

use super::schema::OF_NAMED;

const YEAR: &str = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)";
const LEAP_YEAR: &str = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])\
                         |(?:0[48]|[2468][048]|[13579][26])00)";
const TIME: &str = "[0-9]{2}:[0-9]{2}:[0-5]";

/// Keywords whose values are no schemas, whatever they look like.
const LITERAL: [&str; 4] = ["const", "default", "enum", "examples"];

/// Adds the patterns to a schema and those in it.
pub(super) fn hold_to(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(pattern) = pattern(members) {
                add(members, &pattern);
            }
            for (keyword, value) in members {
                match value {
                    Value::Object(named) if OF_NAMED.contains(&keyword.as_str()) => {
                        named.values_mut().for_each(hold_to);
                    }
                    _ if LITERAL.contains(&keyword.as_str()) => (),
                    _ => hold_to(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hold_to),
        _ => (),
    }
}

/// Returns what a text of the schema's format begins with.
fn pattern(members: &Map<String, Value>) -> Option<String> {
    let date = || {
        format!(
            "(?:{YEAR}-(?:(?:0[13-9]|1[0-2])-[0-9]{{2}}|02-(?:[01][0-9]|2[0-8]))|{LEAP_YEAR}-02-29)"
        )
    };
    match members.get("format")?.as_str()? {
        "date" => Some(format!("^{}", date())),
        "date-time" => Some(format!("^{}[tT]{TIME}", date())),
        "time" => Some(format!("^{TIME}")),
        _ => None,
    }
}

fn add(members: &mut Map<String, Value>, pattern: &str) {
    if !members.contains_key("pattern") {
        members.insert("pattern".to_owned(), pattern.into());
        return;
    }
    let all = members.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.push(json!({"type": "string", "pattern": pattern}));
    }
}
