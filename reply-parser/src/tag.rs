//! The tags of calls, recognised character by character.
//!
//! All of them begin with `<` and have no other, so when one goes wrong nothing has to be read
//! again but the character at which it did.

/// The most bytes of a name in a tag or an envelope; what is longer is prose.
pub(crate) const MAX_NAME_BYTES: usize = 256;

const FUNCTION: &str = "<function=";
const PARAMETER: &str = "<parameter=";

/// A tag of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    ToolCall,
    EndToolCall,
    Function(String),
    EndFunction,
    Parameter(String),
    EndParameter,
}

/// The tags without a name.
const PLAIN: [(&str, Tag); 4] = [
    ("<tool_call>", Tag::ToolCall),
    ("</tool_call>", Tag::EndToolCall),
    ("</function>", Tag::EndFunction),
    ("</parameter>", Tag::EndParameter),
];

/// What a character says about the tag that it may belong to.
#[derive(Debug)]
pub(crate) enum TagStep {
    More,
    Whole(Tag),
    /// This is no tag, and the character was not taken.
    NoTag,
}

/// What could be a tag, from its `<` on.
#[derive(Debug)]
pub(crate) struct TagScan {
    text: String,
}

impl TagScan {
    /// Begins behind a `<`.
    pub(crate) fn new() -> Self {
        Self {
            text: "<".to_owned(),
        }
    }

    /// All that was taken.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn push(&mut self, c: char) -> TagStep {
        if let Some(name) = self.text.strip_prefix(FUNCTION) {
            let name = (c == '>').then(|| Tag::Function(name.trim().to_owned()));
            return self.push_name(c, name);
        }
        if let Some(name) = self.text.strip_prefix(PARAMETER) {
            let name = (c == '>').then(|| Tag::Parameter(name.trim().to_owned()));
            return self.push_name(c, name);
        }
        self.text.push(c);
        if let Some((_, tag)) = PLAIN.iter().find(|(plain, _)| *plain == self.text) {
            return TagStep::Whole(tag.clone());
        }
        let mut beginnings = PLAIN.iter().map(|(plain, _)| *plain);
        let is_beginning = FUNCTION.starts_with(&self.text)
            || PARAMETER.starts_with(&self.text)
            || beginnings.any(|plain| plain.starts_with(&self.text));
        if is_beginning {
            return TagStep::More;
        }
        self.text.pop();
        TagStep::NoTag
    }

    /// Goes on in the name of a tag, which is `whole` if this character closes it.
    fn push_name(&mut self, c: char, whole: Option<Tag>) -> TagStep {
        match whole {
            Some(Tag::Function(name) | Tag::Parameter(name)) if name.is_empty() => TagStep::NoTag,
            Some(tag) => {
                self.text.push(c);
                TagStep::Whole(tag)
            }
            None if c == '<' || c.is_control() || self.text.len() > MAX_NAME_BYTES => {
                TagStep::NoTag
            }
            None => {
                self.text.push(c);
                TagStep::More
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tag that a text is, or how many characters of it could have begun one.
    fn read(text: &str) -> Result<Tag, usize> {
        let mut scan = TagScan::new();
        for (at, c) in text.chars().enumerate().skip(1) {
            match scan.push(c) {
                TagStep::More => {}
                TagStep::Whole(tag) => {
                    assert_eq!(scan.text(), text);
                    return Ok(tag);
                }
                TagStep::NoTag => return Err(at),
            }
        }
        Err(text.chars().count())
    }

    #[test]
    fn tags_are_recognised_whole() {
        for (text, tag) in PLAIN {
            assert_eq!(read(text), Ok(tag));
        }
        assert_eq!(
            read("<function= a.b-c >"),
            Ok(Tag::Function("a.b-c".to_owned()))
        );
        assert_eq!(read("<parameter=ö>"), Ok(Tag::Parameter("ö".to_owned())));
    }

    #[test]
    fn what_is_no_tag_is_known_at_the_character_that_tells() {
        assert_eq!(read("<tool>"), Err(5));
        assert_eq!(read("<tool_call >"), Err(10));
        assert_eq!(read("<function=>"), Err(10));
        assert_eq!(read("<function=a\n>"), Err(11));
        assert_eq!(read("<parameter=<"), Err(11));
        let long = format!("<parameter={}", "k".repeat(1000));
        assert_eq!(read(&long), Err(MAX_NAME_BYTES + 1));
    }
}
