//! A whole reply.

use crate::{Ending, ReplyEvent, ReplyFormat, ReplyParser};

/// What a reply consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What the model said; empty if it said nothing.
    pub content: String,
    /// What it thought; `None` if it did not, and empty if it thought nothing.
    pub reasoning: Option<String>,
    /// What it called.
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// See [`call_id`](crate::call_id).
    pub id: String,
    /// The tool, as the model named it.
    pub name: String,
    /// JSON: a whole object if the call is complete.
    pub arguments: String,
    /// See [`ReplyEvent::ToolCallEnd`].
    pub is_complete: bool,
}

/// Why a reply ended, as OpenAI's API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// `stop`: the model had said all.
    Stop,
    /// `length`: it was cut off, perhaps in a call, or a call was broken off.
    Length,
    /// `tool_calls`: it waits for tools.
    ToolCalls,
}

impl Reply {
    /// Reads a whole text.
    #[must_use]
    pub fn read(format: &ReplyFormat, text: &str, ending: Ending, id_seed: &str) -> Self {
        let mut parser = ReplyParser::new(format, id_seed);
        let mut reply = Self::default();
        reply.extend(parser.push(text));
        reply.extend(parser.finish(ending));
        reply
    }

    /// Returns why the reply ended.
    #[must_use]
    pub fn finish_reason(&self, ending: Ending) -> FinishReason {
        let n_whole = self.tool_calls.iter().filter(|call| call.is_complete);
        FinishReason::of(ending, self.tool_calls.len(), n_whole.count())
    }
}

impl FinishReason {
    /// Returns why a reply ended with so many calls, of which so many are whole.
    ///
    /// A limit comes first, as with OpenAI: a client that sees `length` knows that the last call
    /// may be incomplete. A call that the model itself broke off is no more to be acted on.
    #[must_use]
    pub const fn of(ending: Ending, n_calls: usize, n_whole: usize) -> Self {
        match ending {
            Ending::Stopped if n_calls == 0 => Self::Stop,
            Ending::Stopped if n_calls == n_whole => Self::ToolCalls,
            Ending::Stopped | Ending::CutOff => Self::Length,
        }
    }

    /// Returns the name in OpenAI's API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

impl Extend<ReplyEvent> for Reply {
    fn extend<I: IntoIterator<Item = ReplyEvent>>(&mut self, events: I) {
        for event in events {
            match event {
                ReplyEvent::ReasoningStart => self.reasoning = Some(String::new()),
                ReplyEvent::Reasoning(text) => {
                    self.reasoning.get_or_insert_default().push_str(&text);
                }
                ReplyEvent::Content(text) => self.content.push_str(&text),
                ReplyEvent::ToolCallStart { id, name, .. } => self.tool_calls.push(ToolCall {
                    id,
                    name,
                    arguments: String::new(),
                    is_complete: false,
                }),
                ReplyEvent::ToolCallArguments { index, fragment } => {
                    if let Some(call) = self.tool_calls.get_mut(index) {
                        call.arguments.push_str(&fragment);
                    }
                }
                ReplyEvent::ToolCallEnd { index, is_complete } => {
                    if let Some(call) = self.tool_calls.get_mut(index) {
                        call.is_complete = is_complete;
                    }
                }
                ReplyEvent::ReasoningEnd => {}
            }
        }
    }
}

impl FromIterator<ReplyEvent> for Reply {
    fn from_iter<I: IntoIterator<Item = ReplyEvent>>(events: I) -> Self {
        let mut reply = Self::default();
        reply.extend(events);
        reply
    }
}
