//! The card of a model: the fields at the head of a folder's `README.md`.
//!
//! They stand between two lines `---` and are YAML, of which cards need little: `key: value`, and
//! lists, one entry a line or in brackets. That much is read and written here. A field in
//! another form is left out and told, and so are anchors and the like: a whole YAML reader
//! would let a card of a kilobyte take a gigabyte.

use std::{fs::File, io::Read, path::Path};

use serde_json::Value;

use crate::{error::quote, general};

/// The document.
pub(crate) const NAME: &str = "README.md";

/// Where models of the hub have their pages.
pub(crate) const HUB: &str = "https://huggingface.co/";

/// The most bytes of a card that are looked at.
const MAX_BYTES: u64 = 1 << 20;

/// The fields of a card.
#[derive(Clone, Debug, Default)]
pub(crate) struct Card {
    fields: Vec<(String, Vec<String>)>,
    /// What could not be read.
    pub(crate) notes: Vec<String>,
}

impl Card {
    /// Reads the card of a folder; a folder without one has an empty one.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let mut bytes = Vec::new();
        // A pipe of this name would never end.
        if path.is_file()
            && let Ok(file) = File::open(&path)
            && file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok()
        {
            return Self::parse(&String::from_utf8_lossy(&bytes));
        }
        Self::default()
    }

    fn parse(text: &str) -> Self {
        let mut card = Self::default();
        let mut lines = text.lines();
        if lines.next() != Some("---") {
            return card;
        }
        let mut unread = Vec::new();
        for line in lines.take_while(|line| *line != "---") {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if let Some(entry) = content.strip_prefix("- ") {
                match (card.fields.last_mut(), scalar(entry)) {
                    (Some((_, values)), Some(value)) => values.push(value),
                    (Some((key, _)), None) => unread.push(key.clone()),
                    (None, _) => {}
                }
            } else if line.starts_with([' ', '\t']) {
                unread.extend(card.fields.last().map(|(key, _)| key.clone()));
            } else if let Some((key, value)) = content.split_once(':') {
                match values(value.trim()) {
                    Some(values) => card.fields.push((key.trim().to_owned(), values)),
                    None => {
                        card.fields.push((key.trim().to_owned(), Vec::new()));
                        unread.push(key.trim().to_owned());
                    }
                }
            }
        }
        card.fields.retain(|(key, _)| !unread.contains(key));
        // Of fields that are not used it does not matter whether they can be read.
        unread.retain(|key| general::is_used(key));
        unread.dedup();
        let note = |key: &String| format!("{NAME}: field `{}` cannot be read", quote(key));
        card.notes = unread.iter().map(note).collect();
        card
    }

    /// Returns the first of some fields that is there.
    pub(crate) fn one(&self, keys: &[&str]) -> Option<&str> {
        let fields = keys.iter().filter_map(|key| self.find(key));
        fields
            .filter_map(|values| values.first())
            .map(String::as_str)
            .next()
    }

    /// Returns all entries of some fields.
    pub(crate) fn all(&self, keys: &[&str]) -> Vec<&str> {
        let fields = keys.iter().filter_map(|key| self.find(key));
        fields.flatten().map(String::as_str).collect()
    }

    /// Adds a field, unless it says nothing.
    pub(crate) fn push(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.fields.push((key.to_owned(), values));
        }
    }

    /// Returns the document; `None` if the card says nothing.
    pub(crate) fn to_document(&self) -> Option<String> {
        if self.fields.is_empty() {
            return None;
        }
        let mut text = "---\n".to_owned();
        for (key, values) in &self.fields {
            match values.as_slice() {
                [one] => text.push_str(&format!("{key}: {}\n", Value::from(one.as_str()))),
                several => {
                    text.push_str(&format!("{key}:\n"));
                    for value in several {
                        text.push_str(&format!("- {}\n", Value::from(value.as_str())));
                    }
                }
            }
        }
        text.push_str("---\n");
        Some(text)
    }

    fn find(&self, key: &str) -> Option<&Vec<String>> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == key)
            .map(|(_, values)| values)
    }
}

/// Reads what follows a key: nothing, a value, or a list in brackets.
fn values(text: &str) -> Option<Vec<String>> {
    if text.is_empty() || text == "[]" || text == "null" || text == "~" {
        return Some(Vec::new());
    }
    let list = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match list {
        None => Some(vec![scalar(text)?]),
        Some(entries) => entries
            .split(',')
            .map(|entry| scalar(entry.trim()))
            .collect(),
    }
}

/// Reads a value; `None` for one that YAML would not take for a text as it stands.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        let inner = quoted.strip_suffix('\'')?;
        let is_one = !inner.replace("''", "").contains('\'');
        return is_one.then(|| inner.replace("''", "'"));
    }
    let is_plain = !text.starts_with(['[', ']', '{', '}', '&', '*', '!', '|', '>', '%', '@', '`'])
        && !text.contains(": ")
        && !text.ends_with(':');
    let value = text.split(" #").next().unwrap_or_default().trim_end();
    (is_plain && !value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_of_a_model_is_read() {
        let card = Card::parse(
            "---\nlibrary_name: transformers\nlicense: apache-2.0 # free\n\
             license_link: https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/LICENSE\n\
             base_model:\n- Qwen/Qwen3-30B-A3B-Base\ntags: [chat, 'it''s', \"a\\tb\"]\n\
             language:\n  - en\n  - no\npipeline_tag: text-generation\n---\nlicense: mit\n",
        );
        assert_eq!(card.notes, [""; 0]);
        assert_eq!(card.one(&["license"]), Some("apache-2.0"));
        assert_eq!(card.all(&["base_model"]), ["Qwen/Qwen3-30B-A3B-Base"]);
        let tags = card.all(&["tags", "pipeline_tag"]);
        assert_eq!(tags, ["chat", "it's", "a\tb", "text-generation"]);
        assert_eq!(card.all(&["languages", "language"]), ["en", "no"]);
        let again = Card::parse(&card.to_document().unwrap());
        assert_eq!(again.fields, card.fields);
    }

    #[test]
    fn what_is_not_plain_is_left_out_and_told() {
        let card = Card::parse(
            "---\nlicense: &a mit\nbase_model:\n  name: x\ntags:\n- {a: b}\nother: |\n  text\n\
             name: \"broken\n---\n",
        );
        assert_eq!(card.to_document(), None);
        let told: Vec<&str> = card.notes.iter().map(String::as_str).collect();
        let of = |key: &str| format!("README.md: field `{key}` cannot be read");
        assert_eq!(
            told,
            [of("license"), of("base_model"), of("tags"), of("name")]
        );
        assert_eq!(Card::parse("# A model\n").to_document(), None);
    }
}
