//! Parts what a model says from the tools it calls.
//!
//! Each character is looked at once. What could be a call is held back until it is one or is
//! none; then it becomes events, or text. White space is held back too: between calls it is
//! nothing, and the line break before a call is the template's.

use std::sync::Arc;

use crate::{
    Ending, ReplyEvent, Tool, call_id,
    envelope::{Envelope, EnvelopeStep},
    event::Events,
    format::CallForm,
    opening::{Opening, OpeningStep},
    tag::{Tag, TagScan, TagStep},
    xml::{XmlCall, XmlStep},
};

#[derive(Debug)]
enum Place {
    Text,
    /// Behind a `<`.
    Tag(TagScan),
    Opening(Opening),
    /// A call, or so it seems, as a map; `held` is its text until that is sure.
    Envelope {
        call: Envelope,
        held: String,
        is_bare: bool,
        /// How much of the arguments is said.
        n_said: usize,
        is_sure: bool,
    },
    Xml(XmlCall),
}

/// The state of one reply.
#[derive(Debug)]
pub(crate) struct Calls {
    form: Option<CallForm>,
    tools: Arc<[Tool]>,
    id_seed: String,
    place: Place,
    /// White space that is content only if more follows.
    space: String,
    has_content: bool,
    /// Nothing but white space since the last call.
    is_behind_call: bool,
    n_calls: usize,
}

impl Calls {
    pub(crate) fn new(form: Option<CallForm>, tools: Arc<[Tool]>, id_seed: &str) -> Self {
        Self {
            form: form.filter(|_| !tools.is_empty()),
            tools,
            id_seed: id_seed.to_owned(),
            place: Place::Text,
            space: String::new(),
            has_content: false,
            is_behind_call: false,
            n_calls: 0,
        }
    }

    pub(crate) fn push(&mut self, text: &str, events: &mut Events) {
        if self.form.is_none() {
            events.content(text);
            return;
        }
        for c in text.chars() {
            while !self.take(c, events) {}
        }
    }

    /// Ends the reply.
    pub(crate) fn finish(&mut self, ending: Ending, events: &mut Events) {
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Text => {}
            Place::Tag(scan) => self.say(scan.text(), events),
            Place::Opening(opening) => match opening.finish() {
                Ok(name) => {
                    self.start(&name, events);
                    self.add("{", events);
                    self.end(false, events);
                }
                Err(text) => self.say(&text, events),
            },
            Place::Envelope {
                is_sure: false,
                held,
                ..
            } => self.say(&held, events),
            Place::Envelope {
                mut call, n_said, ..
            } => {
                call.finish();
                self.add(&call.arguments()[n_said..], events);
                self.end(call.is_complete(), events);
            }
            Place::Xml(mut call) => {
                let mut arguments = String::new();
                let is_complete = call.finish(ending, &mut arguments);
                self.add(&arguments, events);
                self.end(is_complete, events);
            }
        }
        if !self.is_behind_call {
            events.content(&std::mem::take(&mut self.space));
        }
    }

    /// Takes a character, or returns `false` if it must be given again.
    fn take(&mut self, c: char, events: &mut Events) -> bool {
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Text => self.text(c, events),
            Place::Tag(mut scan) => match scan.push(c) {
                TagStep::More => self.place = Place::Tag(scan),
                TagStep::Whole(tag) => self.tag(tag, scan.text().to_owned(), events),
                TagStep::NoTag => {
                    self.say(scan.text(), events);
                    return false;
                }
            },
            Place::Opening(opening) => return self.opening(opening, c, events),
            place @ Place::Envelope { .. } => return self.envelope(place, c, events),
            Place::Xml(mut call) => {
                let mut arguments = String::new();
                let step = call.push(c, &self.tools, &mut arguments);
                self.add(&arguments, events);
                match step {
                    XmlStep::Taken => self.place = Place::Xml(call),
                    XmlStep::Ended(tag, text) => {
                        self.end(true, events);
                        self.behind(tag, text, events);
                    }
                }
            }
        }
        true
    }

    fn text(&mut self, c: char, events: &mut Events) {
        let may_be_bare = self.form == Some(CallForm::Hermes) && self.is_alone();
        match c {
            '<' => self.place = Place::Tag(TagScan::new()),
            '{' if may_be_bare => self.place = map(true, c.to_string()),
            c if c.is_whitespace() => self.space.push(c),
            c => self.say(c.encode_utf8(&mut [0; 4]), events),
        }
    }

    /// Nothing was said since the beginning or the last call.
    const fn is_alone(&self) -> bool {
        self.is_behind_call || !self.has_content
    }

    /// Judges a whole tag outside of a call.
    fn tag(&mut self, tag: Tag, text: String, events: &mut Events) {
        let begins_line = self.is_alone() || self.space.contains('\n');
        let may_be_bare = self.form == Some(CallForm::CoderXml) && begins_line;
        match tag {
            Tag::ToolCall => self.place = Place::Opening(Opening::tagged(text)),
            Tag::Function(name) if may_be_bare && self.is_tool(&name) => {
                self.place = Place::Opening(Opening::bare(text, name));
            }
            Tag::EndToolCall if self.is_behind_call => self.space.clear(),
            _ => self.say(&text, events),
        }
    }

    /// Judges the tag that a call ended with; its own closing tag is not text.
    fn behind(&mut self, tag: Tag, text: String, events: &mut Events) {
        if tag != Tag::EndFunction {
            self.tag(tag, text, events);
        }
    }

    fn opening(&mut self, mut opening: Opening, c: char, events: &mut Events) -> bool {
        match opening.push(c) {
            OpeningStep::Taken => self.place = Place::Opening(opening),
            OpeningStep::Text(text) => {
                self.say(&text, events);
                return false;
            }
            OpeningStep::TextAndTag(held, tag, text) => {
                self.say(&held, events);
                self.tag(tag, text, events);
            }
            OpeningStep::Map(held) => self.place = map(false, held),
            OpeningStep::Function { name, key } => {
                self.start(&name, events);
                let mut arguments = String::new();
                let call = XmlCall::new(&name, &key, &self.tools, &mut arguments);
                self.add(&arguments, events);
                self.place = Place::Xml(call);
            }
            OpeningStep::Whole { name, tag, text } => {
                self.start(&name, events);
                self.add("{}", events);
                self.end(true, events);
                self.behind(tag, text, events);
            }
        }
        true
    }

    fn envelope(&mut self, place: Place, c: char, events: &mut Events) -> bool {
        let Place::Envelope {
            mut call,
            mut held,
            is_bare,
            mut n_said,
            mut is_sure,
        } = place
        else {
            return false;
        };
        let step = call.push(c);
        if !is_sure {
            if step == EnvelopeStep::NoCall {
                self.say(&held, events);
                return false;
            }
            held.push(c);
            if let Some(name) = call.name() {
                if is_bare && !self.is_tool(name) {
                    self.say(&held, events);
                    return true;
                }
                self.start(name, events);
                is_sure = true;
                held.clear();
            }
        }
        if is_sure {
            self.add(&call.arguments()[n_said..], events);
            n_said = call.arguments().len();
        }
        match step {
            EnvelopeStep::Taken | EnvelopeStep::NoCall => {
                self.place = Place::Envelope {
                    call,
                    held,
                    is_bare,
                    n_said,
                    is_sure,
                };
                true
            }
            EnvelopeStep::Ended(is_taken) => {
                self.end(call.is_complete(), events);
                is_taken
            }
            EnvelopeStep::EndedBy(tag, text) => {
                self.end(call.is_complete(), events);
                self.behind(tag, text, events);
                true
            }
        }
    }

    fn is_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Says a text; white space at its end waits for what follows.
    fn say(&mut self, text: &str, events: &mut Events) {
        let space = std::mem::take(&mut self.space);
        let separates_only = self.is_behind_call && !self.has_content;
        if !separates_only {
            events.content(&space);
        }
        let said = text.trim_end();
        events.content(said);
        text[said.len()..].clone_into(&mut self.space);
        self.has_content = true;
        self.is_behind_call = false;
    }

    /// Begins a call. Of the white space before it, the template writes one line break again in
    /// Hermes' form, and none of it in the other, where it trims the text.
    fn start(&mut self, name: &str, events: &mut Events) {
        let space = std::mem::take(&mut self.space);
        if !self.is_alone()
            && self.form == Some(CallForm::Hermes)
            && let Some(rest) = space.strip_suffix('\n')
        {
            events.content(rest);
        }
        let index = self.n_calls;
        events.push(ReplyEvent::ToolCallStart {
            index,
            id: call_id(&self.id_seed, index),
            name: name.to_owned(),
        });
    }

    fn add(&self, fragment: &str, events: &mut Events) {
        events.arguments(self.n_calls, fragment);
    }

    fn end(&mut self, is_complete: bool, events: &mut Events) {
        let index = self.n_calls;
        events.push(ReplyEvent::ToolCallEnd { index, is_complete });
        self.n_calls += 1;
        self.is_behind_call = true;
    }
}

/// A map that may be a call, behind its opening brace.
const fn map(is_bare: bool, held: String) -> Place {
    Place::Envelope {
        call: Envelope::new(is_bare),
        held,
        is_bare,
        n_said: 0,
        is_sure: false,
    }
}
