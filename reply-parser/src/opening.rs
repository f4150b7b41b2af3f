//! What could be the beginning of a call: prose mentions tags too.
//!
//! Behind `<tool_call>` comes a map, or `<function=name>` and then a parameter or the end; a
//! `<function=name>` alone counts if the name is that of a tool. Whatever does not go on like
//! this was text.

use crate::tag::{Tag, TagScan, TagStep};

/// What a character says about the beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpeningStep {
    Taken,
    /// This is text, and the character was not taken.
    Text(String),
    /// This is text, and behind it came a tag, which was taken.
    TextAndTag(String, Tag, String),
    /// A map begins with this character, which was taken.
    Map(String),
    /// A call of a function begins with its first parameter.
    Function {
        name: String,
        key: String,
    },
    /// A whole call of a function without parameters, with the tag that ended it.
    Whole {
        name: String,
        tag: Tag,
        text: String,
    },
}

/// The beginning of a call on its way.
#[derive(Debug)]
pub(crate) struct Opening {
    held: String,
    has_tag: bool,
    name: Option<String>,
    next: Option<TagScan>,
}

impl Opening {
    /// Begins behind `<tool_call>`.
    pub(crate) const fn tagged(text: String) -> Self {
        Self {
            held: text,
            has_tag: true,
            name: None,
            next: None,
        }
    }

    /// Begins behind a `<function=name>` that nothing announced.
    pub(crate) const fn bare(text: String, name: String) -> Self {
        Self {
            held: text,
            has_tag: false,
            name: Some(name),
            next: None,
        }
    }

    pub(crate) fn push(&mut self, c: char) -> OpeningStep {
        let Some(mut scan) = self.next.take() else {
            match c {
                '<' => self.next = Some(TagScan::new()),
                '{' if self.name.is_none() => {
                    self.held.push(c);
                    return OpeningStep::Map(std::mem::take(&mut self.held));
                }
                c if c.is_whitespace() => self.held.push(c),
                _ => return OpeningStep::Text(std::mem::take(&mut self.held)),
            }
            return OpeningStep::Taken;
        };
        match scan.push(c) {
            TagStep::More => self.next = Some(scan),
            TagStep::NoTag => {
                self.held.push_str(scan.text());
                return OpeningStep::Text(std::mem::take(&mut self.held));
            }
            TagStep::Whole(tag) => return self.tag(tag, scan.text()),
        }
        OpeningStep::Taken
    }

    /// Ends the text: the function that is called, or what was text.
    pub(crate) fn finish(self) -> Result<String, String> {
        let next = self.next.as_ref().map_or("", TagScan::text);
        self.name.ok_or(self.held + next)
    }

    fn tag(&mut self, tag: Tag, text: &str) -> OpeningStep {
        match (self.name.take(), tag) {
            (None, Tag::Function(name)) => {
                self.held.push_str(text);
                self.name = Some(name);
                OpeningStep::Taken
            }
            (Some(name), Tag::Parameter(key)) => OpeningStep::Function { name, key },
            (Some(name), tag @ Tag::EndFunction) => OpeningStep::Whole {
                name,
                tag,
                text: text.to_owned(),
            },
            (Some(name), tag @ Tag::EndToolCall) if self.has_tag => OpeningStep::Whole {
                name,
                tag,
                text: text.to_owned(),
            },
            (_, tag) => {
                let held = std::mem::take(&mut self.held);
                OpeningStep::TextAndTag(held, tag, text.to_owned())
            }
        }
    }
}
