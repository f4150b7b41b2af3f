//! A call in Hermes' form: `{"name": …, "arguments": {…}}`.
//!
//! The arguments pass through as the model wrote them, its spacing and its order of keys
//! included, so that the template can write the same text again. Models also write them before
//! the name, as a JSON text that holds JSON, as null, or under the key `parameters`.

use serde_json::{Map, Value};

use crate::{
    json::{JsonScan, JsonStep, unescaped},
    tag::{MAX_NAME_BYTES, Tag, TagScan, TagStep},
};

/// What a character says about the call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnvelopeStep {
    Taken,
    /// This is no call but text, and the character was not taken.
    NoCall,
    /// The call has ended; `false` if the character was not taken.
    Ended(bool),
    /// The call, which is no JSON, has ended with a tag, which was taken.
    EndedBy(Tag, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    /// Passed over.
    Other,
}

#[derive(Debug)]
enum Place {
    /// A key, or the end.
    Key,
    InKey(String),
    Colon(Field),
    Value(Field),
    InName(String),
    /// Arguments that are a map pass through, other values are looked at when they are whole.
    Scan(JsonScan, Field, String),
    /// Arguments as a text, with the escape that has begun in it.
    Quoted(String),
    Next,
    /// No JSON any more: all up to the next tag is shown as it is.
    Broken(Option<TagScan>),
}

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Envelope {
    place: Place,
    /// Without a `<tool_call>` before it.
    is_bare: bool,
    name: Option<String>,
    /// The key of the arguments was there.
    has_arguments: bool,
    arguments: String,
    /// The arguments are whole.
    is_closed: bool,
    is_broken: bool,
}

impl Envelope {
    /// Begins behind the opening brace.
    pub(crate) const fn new(is_bare: bool) -> Self {
        Self {
            place: Place::Key,
            is_bare,
            name: None,
            has_arguments: false,
            arguments: String::new(),
            is_closed: false,
            is_broken: false,
        }
    }

    /// The tool, as soon as this is sure to be a call of it.
    ///
    /// With a tag before it, that is when the name is known; an object without one could be
    /// an answer in JSON until its arguments begin.
    pub(crate) fn name(&self) -> Option<&str> {
        let is_sure = !self.is_bare || self.has_arguments;
        self.name.as_deref().filter(|_| is_sure)
    }

    /// All arguments up to here.
    pub(crate) fn arguments(&self) -> &str {
        &self.arguments
    }

    /// The arguments are a whole object.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_broken && serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok()
    }

    pub(crate) fn push(&mut self, c: char) -> EnvelopeStep {
        let is_space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match std::mem::replace(&mut self.place, Place::Next) {
            place @ (Place::Key | Place::Colon(_) | Place::Value(_) | Place::Next) if is_space => {
                self.place = place;
            }
            Place::Key if c == '"' => self.place = Place::InKey(String::new()),
            Place::Key if c == '}' => return self.end(c),
            Place::Colon(field) if c == ':' => self.begin_value(field),
            Place::Key | Place::Colon(_) => return self.is_no_call(c),
            Place::InKey(raw) => return self.key(raw, c),
            Place::Value(field) => return self.value(field, c),
            Place::InName(raw) => return self.name_letter(raw, c),
            Place::Scan(scan, field, text) => return self.scan(scan, field, text, c),
            Place::Quoted(escape) => return self.quoted(escape, c),
            Place::Next => match c {
                ',' => self.place = Place::Key,
                '}' => return self.end(c),
                _ => return self.is_no_call(c),
            },
            Place::Broken(scan) => return self.broken(scan, c),
        }
        EnvelopeStep::Taken
    }

    /// Ends the text.
    pub(crate) fn finish(&mut self) {
        if let Place::Broken(Some(scan)) = &self.place {
            self.arguments.push_str(scan.text());
        }
    }

    fn end(&mut self, c: char) -> EnvelopeStep {
        if self.name.is_none() || (self.is_bare && !self.has_arguments) {
            return self.is_no_call(c);
        }
        if !self.has_arguments {
            self.arguments.push_str("{}");
        }
        EnvelopeStep::Ended(true)
    }

    /// Not JSON, or not that of a call: text, or if the call has begun, a broken one.
    fn is_no_call(&mut self, c: char) -> EnvelopeStep {
        if self.name().is_none() {
            return EnvelopeStep::NoCall;
        }
        if self.is_closed {
            // All that a call needs is there; often it is the outer brace that is missing.
            return EnvelopeStep::Ended(false);
        }
        self.is_broken = true;
        self.broken(None, c)
    }

    fn begin_value(&mut self, field: Field) {
        self.has_arguments |= field == Field::Arguments;
        self.place = Place::Value(field);
    }

    fn key(&mut self, mut raw: String, c: char) -> EnvelopeStep {
        if c != '"' || ends_in_escape(&raw) {
            if c.is_control() || raw.len() >= MAX_NAME_BYTES {
                return self.is_no_call(c);
            }
            raw.push(c);
            self.place = Place::InKey(raw);
            return EnvelopeStep::Taken;
        }
        self.place = Place::Colon(match raw.as_str() {
            "name" if self.name.is_none() => Field::Name,
            "arguments" | "parameters" if !self.has_arguments => Field::Arguments,
            _ => Field::Other,
        });
        EnvelopeStep::Taken
    }

    fn name_letter(&mut self, mut raw: String, c: char) -> EnvelopeStep {
        if c != '"' || ends_in_escape(&raw) {
            if c.is_control() || raw.len() >= MAX_NAME_BYTES {
                return self.is_no_call(c);
            }
            raw.push(c);
            self.place = Place::InName(raw);
            return EnvelopeStep::Taken;
        }
        match unescaped(&raw).filter(|name| !name.is_empty()) {
            Some(name) => self.name = Some(name),
            None => return self.is_no_call(c),
        }
        EnvelopeStep::Taken
    }

    fn value(&mut self, field: Field, c: char) -> EnvelopeStep {
        match (field, c) {
            (Field::Name, '"') => self.place = Place::InName(String::new()),
            (Field::Name, _) => return self.is_no_call(c),
            (Field::Arguments, '"') => self.place = Place::Quoted(String::new()),
            _ => return self.scan(JsonScan::new(), field, String::new(), c),
        }
        EnvelopeStep::Taken
    }

    fn scan(
        &mut self,
        mut scan: JsonScan,
        field: Field,
        mut text: String,
        c: char,
    ) -> EnvelopeStep {
        let is_first = text.is_empty() && self.arguments.is_empty();
        let passes = field == Field::Arguments
            && match is_first {
                true => c == '{',
                false => !self.arguments.is_empty(),
            };
        let out = if passes {
            &mut self.arguments
        } else {
            &mut text
        };
        let step = scan.push(c, out);
        match step {
            JsonStep::More => self.place = Place::Scan(scan, field, text),
            JsonStep::Bad => {
                self.arguments
                    .push_str(if field == Field::Arguments { &text } else { "" });
                return self.is_no_call(c);
            }
            JsonStep::Done | JsonStep::Past => {
                if field == Field::Arguments && !passes {
                    let text = if text == "null" { "{}" } else { &text };
                    self.arguments.push_str(text);
                }
                self.is_closed |= field == Field::Arguments;
                if step == JsonStep::Past {
                    return self.push(c);
                }
            }
        }
        EnvelopeStep::Taken
    }

    fn quoted(&mut self, mut escape: String, c: char) -> EnvelopeStep {
        if escape.is_empty() {
            match c {
                '"' => {
                    if self.arguments.trim().is_empty() {
                        "{}".clone_into(&mut self.arguments);
                    }
                    self.is_closed = true;
                    return EnvelopeStep::Taken;
                }
                '\\' => escape.push(c),
                c => self.arguments.push(c),
            }
            self.place = Place::Quoted(escape);
            return EnvelopeStep::Taken;
        }
        escape.push(c);
        let is_high = |hex: &str| {
            u32::from_str_radix(hex, 16).is_ok_and(|unit| (0xd800..0xdc00).contains(&unit))
        };
        let may_go_on = match escape.as_bytes() {
            [_, b'u', rest @ ..] => match escape.get(2..6) {
                None => rest.iter().all(u8::is_ascii_hexdigit),
                Some(hex) => is_high(hex) && escape.chars().count() < 12,
            },
            _ => false,
        };
        if !may_go_on {
            match unescaped(&escape) {
                Some(text) => self.arguments.push_str(&text),
                None => {
                    escape.pop();
                    self.arguments.push_str(&escape);
                    return self.is_no_call(c);
                }
            }
            escape.clear();
        }
        self.place = Place::Quoted(escape);
        EnvelopeStep::Taken
    }

    fn broken(&mut self, scan: Option<TagScan>, c: char) -> EnvelopeStep {
        let Some(mut scan) = scan else {
            let scan = (c == '<').then(TagScan::new);
            if scan.is_none() {
                self.arguments.push(c);
            }
            self.place = Place::Broken(scan);
            return EnvelopeStep::Taken;
        };
        match scan.push(c) {
            TagStep::More => self.place = Place::Broken(Some(scan)),
            TagStep::Whole(tag @ (Tag::ToolCall | Tag::EndToolCall)) => {
                return EnvelopeStep::EndedBy(tag, scan.text().to_owned());
            }
            TagStep::Whole(_) => {
                self.arguments.push_str(scan.text());
                self.place = Place::Broken(None);
            }
            TagStep::NoTag => {
                self.arguments.push_str(scan.text());
                return self.broken(None, c);
            }
        }
        EnvelopeStep::Taken
    }
}

/// Returns whether a text ends in a backslash that escapes what follows.
fn ends_in_escape(raw: &str) -> bool {
    (raw.len() - raw.trim_end_matches('\\').len()) % 2 == 1
}
