//! The parser of a reply: text in, events out.

use crate::{ReplyEvent, ReplyFormat, calls::Calls, event::Events, thinking::Thinking};

/// Why there is no more text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model stopped, or a stop string was found.
    Stopped,
    /// The model was cut off: by a limit of tokens, a full context or a cancelled request.
    CutOff,
}

/// Parts a reply into what is thought, said and called, while it is made.
///
/// However a text is cut into pieces, its events add up to the same. Each character is looked at
/// once, and what is held back is never more than the text itself.
#[derive(Debug)]
pub struct ReplyParser {
    thinking: Thinking,
    calls: Calls,
}

impl ReplyParser {
    /// Begins a reply. The ids of its calls follow from `id_seed`, which should be the id of
    /// the request and, where there are several answers, the number of the answer.
    #[must_use]
    pub fn new(format: &ReplyFormat, id_seed: &str) -> Self {
        Self {
            thinking: Thinking::new(format.reasoning),
            calls: Calls::new(format.calls, format.tools.clone(), id_seed),
        }
    }

    /// Takes text and returns what is now certain.
    pub fn push(&mut self, text: &str) -> Vec<ReplyEvent> {
        let (mut answer, mut events) = (String::new(), Events::default());
        self.thinking.push(text, &mut answer, &mut events);
        self.calls.push(&answer, &mut events);
        events.into_vec()
    }

    /// Ends the reply and returns what was held back.
    pub fn finish(&mut self, ending: Ending) -> Vec<ReplyEvent> {
        let (mut answer, mut events) = (String::new(), Events::default());
        self.thinking.finish(&mut answer, &mut events);
        self.calls.push(&answer, &mut events);
        self.calls.finish(ending, &mut events);
        events.into_vec()
    }
}
