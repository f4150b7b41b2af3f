//! JSON, character by character: where a value ends, and where it cannot be JSON any more.
//!
//! The value is passed through as it stands, so that it can be shown while it is written and
//! put back as the model wrote it. One thing is mended: models write line breaks and tabs in
//! strings as they are, where JSON wants escapes.

use serde_json::Value;

/// How deep values may lie in each other; `serde_json` reads 127.
const MAX_DEPTH: usize = 120;

/// What a character says about the value that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonStep {
    More,
    /// The value ends with this character.
    Done,
    /// The value ended before this character, which was not taken.
    Past,
    /// This is no JSON, and the character was not taken.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A value, or the end of the list that just began.
    Value {
        may_end: bool,
    },
    /// A key, or the end of the map that just began.
    Key {
        may_end: bool,
    },
    Colon,
    /// A comma, or the end of a list or map.
    Next,
    Text {
        is_key: bool,
    },
    /// Behind a backslash.
    Escape {
        is_key: bool,
    },
    /// In `\u`, with so many digits to come.
    Hex {
        is_key: bool,
        n_left: u8,
    },
    /// A number, `true`, `false` or `null`.
    Word,
}

/// A JSON value on its way.
#[derive(Debug)]
pub(crate) struct JsonScan {
    place: Place,
    /// What is open: `{` or `[`.
    open: Vec<u8>,
    word: String,
}

impl JsonScan {
    /// Begins before the first character of a value.
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::Value { may_end: false },
            open: Vec::new(),
            word: String::new(),
        }
    }

    /// Takes a character and adds it to `out`.
    pub(crate) fn push(&mut self, c: char, out: &mut String) -> JsonStep {
        match self.place {
            Place::Text { is_key } => return self.text(c, is_key, out),
            Place::Escape { is_key } => {
                self.place = match c {
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => Place::Text { is_key },
                    'u' => Place::Hex { is_key, n_left: 4 },
                    _ => return JsonStep::Bad,
                }
            }
            Place::Hex { is_key, n_left } => {
                self.place = match (c.is_ascii_hexdigit(), n_left) {
                    (false, _) => return JsonStep::Bad,
                    (true, 1) => Place::Text { is_key },
                    (true, n) => Place::Hex {
                        is_key,
                        n_left: n - 1,
                    },
                }
            }
            Place::Word => return self.word(c, out),
            _ if matches!(c, ' ' | '\n' | '\r' | '\t') => {}
            Place::Value { may_end } => match c {
                ']' if may_end => return self.close(b'[', c, out),
                _ if !self.begin(c) => return JsonStep::Bad,
                _ => {}
            },
            Place::Key { may_end } => match c {
                '"' => self.place = Place::Text { is_key: true },
                '}' if may_end => return self.close(b'{', c, out),
                _ => return JsonStep::Bad,
            },
            Place::Colon if c == ':' => self.place = Place::Value { may_end: false },
            Place::Next => match (c, self.open.last()) {
                (',', Some(b'{')) => self.place = Place::Key { may_end: false },
                (',', _) => self.place = Place::Value { may_end: false },
                ('}', _) => return self.close(b'{', c, out),
                (']', _) => return self.close(b'[', c, out),
                _ => return JsonStep::Bad,
            },
            Place::Colon => return JsonStep::Bad,
        }
        out.push(c);
        JsonStep::More
    }

    /// Begins a value; returns whether one begins like this.
    fn begin(&mut self, c: char) -> bool {
        match c {
            '"' => self.place = Place::Text { is_key: false },
            '{' | '[' if self.open.len() == MAX_DEPTH => return false,
            '{' => {
                self.open.push(b'{');
                self.place = Place::Key { may_end: true };
            }
            '[' => {
                self.open.push(b'[');
                self.place = Place::Value { may_end: true };
            }
            '-' | '0'..='9' | 't' | 'f' | 'n' => {
                self.word.clear();
                self.word.push(c);
                self.place = Place::Word;
            }
            _ => return false,
        }
        true
    }

    fn text(&mut self, c: char, is_key: bool, out: &mut String) -> JsonStep {
        match c {
            '"' => {
                out.push(c);
                if is_key {
                    self.place = Place::Colon;
                    return JsonStep::More;
                }
                return self.end_value();
            }
            '\\' => {
                self.place = Place::Escape { is_key };
                out.push(c);
            }
            c if c < ' ' => escape(c, out),
            c => out.push(c),
        }
        JsonStep::More
    }

    fn word(&mut self, c: char, out: &mut String) -> JsonStep {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') {
            self.word.push(c);
            out.push(c);
            return JsonStep::More;
        }
        if serde_json::from_str::<Value>(&self.word).is_err() {
            return JsonStep::Bad;
        }
        match self.end_value() {
            JsonStep::More => self.push(c, out),
            _ => JsonStep::Past,
        }
    }

    fn close(&mut self, open: u8, c: char, out: &mut String) -> JsonStep {
        if self.open.pop_if(|last| *last == open).is_none() {
            return JsonStep::Bad;
        }
        out.push(c);
        self.end_value()
    }

    fn end_value(&mut self) -> JsonStep {
        self.place = Place::Next;
        if self.open.is_empty() {
            JsonStep::Done
        } else {
            JsonStep::More
        }
    }
}

/// Adds a character of a text as JSON has it between quotes.
pub(crate) fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

/// Returns a text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| escape(c, &mut out));
    out.push('"');
    out
}

/// Returns what the JSON text between two quotes says, or `None` if it is none.
pub(crate) fn unescaped(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was passed through, and the step that ended it.
    fn scan(text: &str) -> (String, JsonStep) {
        let (mut scan, mut out) = (JsonScan::new(), String::new());
        for c in text.chars() {
            match scan.push(c, &mut out) {
                JsonStep::More => {}
                step => return (out, step),
            }
        }
        (out, JsonStep::More)
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        struct Case {
            text: &'static str,
            out: &'static str,
            step: JsonStep,
        }
        let case = |text, out, step| Case { text, out, step };
        let cases = [
            case(r#"{"a": [1, {}]}}"#, r#"{"a": [1, {}]}"#, JsonStep::Done),
            case(r#"{"a": "}\"{"}]"#, r#"{"a": "}\"{"}"#, JsonStep::Done),
            case("[]x", "[]", JsonStep::Done),
            case("-1.5e3,", "-1.5e3", JsonStep::Past),
            case("null}", "null", JsonStep::Past),
            case("nil}", "nil", JsonStep::Bad),
            case("[1,]", "[1,", JsonStep::Bad),
            case(r#"{"a" 1}"#, r#"{"a" "#, JsonStep::Bad),
            case(r#"{"a": [1}"#, r#"{"a": [1"#, JsonStep::Bad),
            case(r#"{a"#, "{", JsonStep::Bad),
            case(r#""\d""#, r#""\"#, JsonStep::Bad),
            case(r#""\u00g""#, r#""\u00"#, JsonStep::Bad),
            case("\"a\nb\u{1}\"", "\"a\\nb\\u0001\"", JsonStep::Done),
            case(r#"{"a": "#, r#"{"a": "#, JsonStep::More),
        ];
        for Case { text, out, step } in cases {
            assert_eq!(scan(text), (out.to_owned(), step), "{text}");
        }
    }

    #[test]
    fn values_lie_only_so_deep_in_each_other() {
        assert_eq!(scan(&"[".repeat(1_000_000)).0.len(), MAX_DEPTH);
    }

    proptest! {
        #[test]
        fn every_value_of_serde_json_passes_unchanged(
            texts in proptest::collection::vec(".*", 0..4), number in any::<f64>(), n in any::<i64>()
        ) {
            let value = serde_json::json!({"texts": texts, "n": [n, number, {"": null}], "b": true});
            for text in [value.to_string(), format!("{value:#}")] {
                prop_assert_eq!(scan(&text), (text, JsonStep::Done));
            }
        }

        #[test]
        fn a_text_is_quoted_as_serde_json_reads_it(text in ".*|[\\x00-\\x7f]*") {
            let json = quoted(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
