//! What `tokenizer.json` adds to the ids of a text: its post-processor.
//!
//! Qwen's adds nothing; a token before every text is followed; anything else is an error.

use serde_json::Value;

use super::NAME;
use crate::{TokenizerError, error::excerpt, vocabulary::Vocabulary};

const FIELD: &str = "post_processor";

/// Returns the text of the token that is put before every text, if one is.
pub(super) fn begin(found: &Value) -> Result<Option<&str>, TokenizerError> {
    match found["type"].as_str() {
        None if found.is_null() => Ok(None),
        // It moves offsets into the text, and no ids.
        Some("ByteLevel") => Ok(None),
        Some("TemplateProcessing") => of_template(found),
        Some("Sequence") => {
            let steps = found["processors"]
                .as_array()
                .ok_or_else(|| refuse(found))?;
            let begins: Vec<Option<&str>> = steps.iter().map(begin).collect::<Result<_, _>>()?;
            let mut begins = begins.into_iter().flatten();
            match (begins.next(), begins.next()) {
                (first, None) => Ok(first),
                _ => Err(refuse(found)),
            }
        }
        _ => Err(refuse(found)),
    }
}

/// Returns the token of a text that [`begin`] has found.
pub(super) fn token(text: &str, vocabulary: &Vocabulary) -> Result<u32, TokenizerError> {
    let id = vocabulary.id(text);
    id.ok_or_else(|| TokenizerError::Setting {
        document: NAME,
        field: FIELD,
        expected: "a token of the vocabulary",
        found: excerpt(text),
    })
}

/// A template is a list of places: `Sequence` for the text, `SpecialToken` for tokens that are
/// named in `special_tokens`.
fn of_template(found: &Value) -> Result<Option<&str>, TokenizerError> {
    let places = found["single"].as_array().ok_or_else(|| refuse(found))?;
    let is_text = |place: &Value| place["Sequence"]["id"] == "A";
    match places.as_slice() {
        [text] if is_text(text) => Ok(None),
        [before, text] if is_text(text) => {
            let name = before["SpecialToken"]["id"].as_str();
            let name = name.ok_or_else(|| refuse(found))?;
            let tokens = found["special_tokens"][name]["tokens"].as_array();
            match tokens.map(Vec::as_slice) {
                Some([token]) => token.as_str().map(Some).ok_or_else(|| refuse(found)),
                _ => Err(refuse(found)),
            }
        }
        _ => Err(refuse(found)),
    }
}

fn refuse(found: &Value) -> TokenizerError {
    TokenizerError::Setting {
        document: NAME,
        field: FIELD,
        expected: "one that adds nothing but a token before a text",
        found: excerpt(&found.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_before_the_text_is_followed_and_everything_else_refused() {
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let token = json!({"SpecialToken": {"id": "b", "type_id": 0}});
        let template = |single: &[&Value]| {
            json!({
                "type": "TemplateProcessing",
                "single": single,
                "special_tokens": {"b": {"id": "b", "ids": [0], "tokens": ["<b>"]}},
            })
        };
        let sequence = |processors: &[Value]| json!({"type": "Sequence", "processors": processors});
        let bytes = json!({"type": "ByteLevel"});
        let before = template(&[&token, &text]);
        let fine = [
            (Value::Null, None),
            (bytes.clone(), None),
            (template(&[&text]), None),
            (before.clone(), Some("<b>")),
            (sequence(&[bytes, before.clone()]), Some("<b>")),
        ];
        for (found, expected) in &fine {
            assert_eq!(begin(found).unwrap(), *expected, "{found}");
        }
        let refused = [
            json!("ByteLevel"),
            json!({"type": "RobertaProcessing"}),
            template(&[&text, &token]),
            template(&[&token, &text, &token]),
            template(&[]),
            sequence(&[before.clone(), before]),
            json!({"type": "Sequence"}),
        ];
        for found in &refused {
            let error = begin(found).unwrap_err().to_string();
            assert!(
                error.starts_with("tokenizer.json, post_processor"),
                "{error}"
            );
        }
    }
}
