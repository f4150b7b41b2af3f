//! The value of one `<parameter=…>`.
//!
//! The form has no escapes, so a value may hold the very tags that would end it. A closing tag
//! counts only where what follows could follow it, and an example of a call in a value, with
//! its tags on lines of their own as the template writes them, is counted open and closed.
//! What stays ambiguous leaves a call without an end, which is reported, rather than one with
//! half a value, which would not be.

use crate::{
    coerce::{Types, json_of},
    json::escape,
    tag::{Tag, TagScan, TagStep},
};

/// What a character says about the value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParameterStep {
    Taken,
    /// The value has ended, and the call goes on with this tag, which was taken.
    Closed(Tag, String),
}

#[derive(Debug)]
enum Place {
    Text,
    /// Behind a `<`.
    Tag(TagScan),
    /// Behind an opening tag at the beginning of a line; it counts if the line ends here.
    Opened(Tag, String),
    /// Behind what ends the value if the right tag follows; `held` is all text since.
    Closing {
        end: Tag,
        held: String,
        next: Option<TagScan>,
    },
}

/// A value on its way.
#[derive(Debug)]
pub(crate) struct Parameter {
    place: Place,
    value: Value,
    n_parameters_open: usize,
    n_functions_open: usize,
    has_example: bool,
}

/// How the text ended in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Inside the value.
    Value,
    /// Behind the value.
    Parameter,
    /// Behind the whole call.
    Function,
}

impl Parameter {
    /// Begins behind the opening tag; `out` gets the key, and the value where it is a text.
    pub(crate) fn new(key: &str, types: Types, is_first: bool, out: &mut String) -> Self {
        Self {
            place: Place::Text,
            value: Value::new(key, types, is_first, out),
            n_parameters_open: 0,
            n_functions_open: 0,
            has_example: false,
        }
    }

    pub(crate) fn push(&mut self, c: char, out: &mut String) -> ParameterStep {
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Text if c == '<' => self.place = Place::Tag(TagScan::new()),
            Place::Text => self.value.push(c, out),
            Place::Tag(mut scan) => match scan.push(c) {
                TagStep::More => self.place = Place::Tag(scan),
                TagStep::Whole(tag) => self.seen(tag, scan.text().to_owned(), out),
                TagStep::NoTag => return self.is_text(scan.text(), c, out),
            },
            Place::Opened(tag, text) => {
                if c == '\n' {
                    self.has_example = true;
                    match tag {
                        Tag::Parameter(_) => self.n_parameters_open += 1,
                        _ => self.n_functions_open += 1,
                    }
                }
                return self.is_text(&text, c, out);
            }
            Place::Closing { end, held, next } => return self.closing(c, end, held, next, out),
        }
        ParameterStep::Taken
    }

    /// Ends the text in this value.
    pub(crate) fn finish(&mut self, out: &mut String) -> Cut {
        let Place::Closing { end, .. } = &self.place else {
            return Cut::Value;
        };
        let cut = match end {
            Tag::EndParameter => Cut::Parameter,
            _ => Cut::Function,
        };
        self.value.close(out);
        cut
    }

    /// What was held is text, and so is the character unless it begins a tag.
    fn is_text(&mut self, held: &str, c: char, out: &mut String) -> ParameterStep {
        held.chars().for_each(|c| self.value.push(c, out));
        self.push(c, out)
    }

    /// Judges a whole tag in the value.
    fn seen(&mut self, tag: Tag, text: String, out: &mut String) {
        let begins_line = self.value.last == Some('\n');
        match tag {
            Tag::EndParameter if self.n_parameters_open > 0 => self.n_parameters_open -= 1,
            Tag::EndFunction if begins_line && self.n_functions_open > 0 => {
                self.n_functions_open -= 1;
            }
            // Without `</parameter>`, and no example that it might be the end of.
            Tag::EndFunction if !begins_line || self.has_example => {}
            Tag::EndParameter | Tag::EndFunction => {
                self.place = Place::Closing {
                    end: tag,
                    held: text,
                    next: None,
                };
                return;
            }
            Tag::Parameter(_) | Tag::Function(_) if begins_line => {
                self.place = Place::Opened(tag, text);
                return;
            }
            _ => {}
        }
        text.chars().for_each(|c| self.value.push(c, out));
    }

    fn closing(
        &mut self,
        c: char,
        end: Tag,
        mut held: String,
        next: Option<TagScan>,
        out: &mut String,
    ) -> ParameterStep {
        let Some(mut scan) = next else {
            let next = match c {
                '<' => Some(TagScan::new()),
                c if c.is_whitespace() => {
                    held.push(c);
                    None
                }
                c => return self.is_text(&held, c, out),
            };
            self.place = Place::Closing { end, held, next };
            return ParameterStep::Taken;
        };
        match scan.push(c) {
            TagStep::More => {
                let next = Some(scan);
                self.place = Place::Closing { end, held, next };
            }
            TagStep::NoTag => {
                held.push_str(scan.text());
                return self.is_text(&held, c, out);
            }
            TagStep::Whole(tag) => {
                let goes_on = match tag {
                    Tag::ToolCall | Tag::EndToolCall => true,
                    Tag::Parameter(_) | Tag::EndFunction => end == Tag::EndParameter,
                    Tag::Function(_) | Tag::EndParameter => false,
                };
                let text = scan.text().to_owned();
                if goes_on {
                    self.value.close(out);
                    return ParameterStep::Closed(tag, text);
                }
                held.chars().for_each(|c| self.value.push(c, out));
                self.seen(tag, text, out);
            }
        }
        ParameterStep::Taken
    }
}

/// The value without the line break that follows the opening tag and the one before the
/// closing tag.
#[derive(Debug)]
struct Value {
    /// `"key":`, with a comma before it if it is not the first.
    key: String,
    types: Types,
    /// All of it, unless it is a text and goes out at once.
    text: String,
    /// A line break that is part of the value only if more follows.
    has_break: bool,
    /// The character before, if there is one.
    last: Option<char>,
}

impl Value {
    fn new(key: &str, types: Types, is_first: bool, out: &mut String) -> Self {
        let comma = if is_first { "" } else { "," };
        let mut key = format!("{comma}{}:", crate::json::quoted(key));
        if types.is_text() {
            key.push('"');
            out.push_str(&key);
        }
        Self {
            key,
            types,
            text: String::new(),
            has_break: false,
            last: None,
        }
    }

    fn push(&mut self, c: char, out: &mut String) {
        let is_first = self.last.replace(c).is_none();
        if c == '\n' && is_first {
            return;
        }
        if std::mem::replace(&mut self.has_break, c == '\n') {
            self.add('\n', out);
        }
        if c != '\n' {
            self.add(c, out);
        }
    }

    fn add(&mut self, c: char, out: &mut String) {
        if self.types.is_text() {
            escape(c, out);
        } else {
            self.text.push(c);
        }
    }

    fn close(&mut self, out: &mut String) {
        if self.types.is_text() {
            out.push('"');
        } else {
            out.push_str(&self.key);
            out.push_str(&json_of(&self.text, self.types));
        }
    }
}
