//! What a reply turns out to be, piece by piece.

/// A piece of a reply.
///
/// Calls are numbered from 0 in the order in which they begin, and one ends before the next
/// begins. Where the text was cut changes how many pieces there are, never what they add up
/// to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyEvent {
    /// The model begins to think.
    ReasoningStart,
    /// What it thinks.
    Reasoning(String),
    /// The model ended its thinking itself; missing where the text ended first.
    ReasoningEnd,
    /// What it says.
    Content(String),
    /// A call begins.
    ToolCallStart {
        /// Number of the call.
        index: usize,
        /// See [`call_id`](crate::call_id).
        id: String,
        /// The tool, as the model named it.
        name: String,
    },
    /// More of the arguments of the call, as JSON.
    ToolCallArguments {
        /// Number of the call.
        index: usize,
        /// What comes next in the JSON text.
        fragment: String,
    },
    /// The call ends.
    ToolCallEnd {
        /// Number of the call.
        index: usize,
        /// The arguments are a whole JSON object. Otherwise they are what the model wrote until it
        /// was cut off or stopped, or what is no JSON, and must not be acted on.
        is_complete: bool,
    },
}

/// Collects events; pieces of the same thing become one.
#[derive(Debug, Default)]
pub(crate) struct Events(Vec<ReplyEvent>);

impl Events {
    pub(crate) fn into_vec(self) -> Vec<ReplyEvent> {
        self.0
    }

    pub(crate) fn push(&mut self, event: ReplyEvent) {
        self.0.push(event);
    }

    pub(crate) fn reasoning(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(ReplyEvent::Reasoning(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(ReplyEvent::Reasoning(text.to_owned())),
        }
    }

    pub(crate) fn content(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(ReplyEvent::Content(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(ReplyEvent::Content(text.to_owned())),
        }
    }

    pub(crate) fn arguments(&mut self, index: usize, text: &str) {
        match self.0.last_mut() {
            // Calls follow each other, so the last arguments are those of this call.
            Some(ReplyEvent::ToolCallArguments { fragment, .. }) => fragment.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(ReplyEvent::ToolCallArguments {
                index,
                fragment: text.to_owned(),
            }),
        }
    }
}
