//! Parts what a model thinks from what it says.
//!
//! A thought stands between `<think>` and `</think>` at the beginning of a reply; some
//! templates open it themselves. Line breaks around it belong to the template, which writes
//! them when it puts the thought back. Later in the reply the same letters are text.

use crate::{
    ReplyEvent,
    event::Events,
    format::{CLOSE_THOUGHT, OPEN_THOUGHT, ReasoningStart},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing so far but white space and what could begin `<think>`.
    Start,
    Thought,
    /// Behind a thought, nothing but line breaks so far.
    Gap,
    Answer,
}

/// The state of one reply.
#[derive(Debug)]
pub(crate) struct Thinking {
    place: Place,
    /// The template opened the thought, and nothing was said yet.
    is_open: bool,
    /// Nothing but line breaks in the thought so far.
    is_empty: bool,
    /// White space that is a part of the text only if more text follows.
    space: String,
    /// What could be a tag.
    tag: String,
}

impl Thinking {
    pub(crate) const fn new(start: Option<ReasoningStart>) -> Self {
        Self {
            place: match start {
                None => Place::Answer,
                Some(_) => Place::Start,
            },
            is_open: matches!(start, Some(ReasoningStart::OpenedByPrompt)),
            is_empty: true,
            space: String::new(),
            tag: String::new(),
        }
    }

    /// Takes text, says what is thought, and adds to `answer` what is not.
    pub(crate) fn push(&mut self, text: &str, answer: &mut String, events: &mut Events) {
        for (at, c) in text.char_indices() {
            match self.place {
                Place::Start => self.start(c, answer, events),
                Place::Thought => self.thought(c, events),
                Place::Gap if c == '\n' => {}
                Place::Gap | Place::Answer => {
                    self.place = Place::Answer;
                    answer.push_str(&text[at..]);
                    return;
                }
            }
        }
    }

    /// Ends the reply.
    pub(crate) fn finish(&mut self, answer: &mut String, events: &mut Events) {
        match self.place {
            Place::Start if self.is_open => {
                events.push(ReplyEvent::ReasoningStart);
                self.give_up_start(answer, events);
                self.flush_tag(events);
            }
            Place::Start => self.give_up_start(answer, events),
            Place::Thought => self.flush_tag(events),
            Place::Gap | Place::Answer => {}
        }
    }

    fn start(&mut self, c: char, answer: &mut String, events: &mut Events) {
        if self.tag.is_empty() && c.is_whitespace() {
            self.space.push(c);
            return;
        }
        self.tag.push(c);
        if self.tag == OPEN_THOUGHT {
            self.tag.clear();
            self.space.clear();
            self.place = Place::Thought;
            events.push(ReplyEvent::ReasoningStart);
        } else if !OPEN_THOUGHT.starts_with(&self.tag) {
            if self.is_open {
                events.push(ReplyEvent::ReasoningStart);
            }
            self.give_up_start(answer, events);
        }
    }

    /// What was held is no `<think>`: it is the beginning of a thought that the template
    /// opened, or of an answer.
    fn give_up_start(&mut self, answer: &mut String, events: &mut Events) {
        let held = std::mem::take(&mut self.space) + &std::mem::take(&mut self.tag);
        if self.is_open {
            self.place = Place::Thought;
            held.chars().for_each(|c| self.thought(c, events));
        } else {
            self.place = Place::Answer;
            answer.push_str(&held);
        }
    }

    fn thought(&mut self, c: char, events: &mut Events) {
        if !self.tag.is_empty() {
            if CLOSE_THOUGHT[self.tag.len()..].starts_with(c) {
                self.tag.push(c);
                if self.tag == CLOSE_THOUGHT {
                    self.place = Place::Gap;
                    events.push(ReplyEvent::ReasoningEnd);
                }
                return;
            }
            self.flush_tag(events);
        }
        match c {
            '<' => self.tag.push(c),
            '\n' => self.space.push(c),
            c => self.say(c.encode_utf8(&mut [0; 4]), events),
        }
    }

    fn flush_tag(&mut self, events: &mut Events) {
        let tag = std::mem::take(&mut self.tag);
        if !tag.is_empty() {
            self.say(&tag, events);
        }
    }

    fn say(&mut self, text: &str, events: &mut Events) {
        let space = std::mem::take(&mut self.space);
        if !std::mem::take(&mut self.is_empty) {
            events.reasoning(&space);
        }
        events.reasoning(text);
    }
}
