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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallForm, ReasoningStart, Tool, call_id};

    fn parser(calls: CallForm) -> ReplyParser {
        let format = ReplyFormat {
            reasoning: Some(ReasoningStart::ByModel),
            calls: Some(calls),
            tools: [Tool {
                name: "f".to_owned(),
                parameters: None,
            }]
            .into(),
            ..ReplyFormat::default()
        };
        ReplyParser::new(&format, "seed")
    }

    /// The events as short texts, for comparison.
    fn said(parser: &mut ReplyParser, text: &str) -> String {
        let events = parser.push(text).into_iter().map(|event| match event {
            ReplyEvent::ReasoningStart => "<".to_owned(),
            ReplyEvent::Reasoning(text) => format!("thought {text:?}"),
            ReplyEvent::ReasoningEnd => ">".to_owned(),
            ReplyEvent::Content(text) => format!("content {text:?}"),
            ReplyEvent::ToolCallStart { index, id, name } => {
                assert_eq!(id, call_id("seed", index));
                format!("{index} {name}(")
            }
            ReplyEvent::ToolCallArguments { index, fragment } => format!("{index} {fragment}"),
            ReplyEvent::ToolCallEnd { index, is_complete } => format!("{index} ) {is_complete}"),
        });
        events.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn what_is_certain_is_said_at_once() {
        let mut parser = parser(CallForm::Hermes);
        for (text, expected) in [
            ("<think>", "<"),
            ("\nSo", "thought \"So\""),
            (" it is</", "thought \" it is\""),
            ("think>\n\n", ">"),
            ("Look <b", "content \"Look <b\""),
            (">\n<tool_call>\n{\"name\": \"f", "content \">\""),
            ("\", \"arguments\": {\"a\"", "0 f( | 0 {\"a\""),
            (": \"x", "0 : \"x"),
            ("y\"}", "0 y\"}"),
            ("}", "0 ) true"),
            ("\n</tool_call>\n", ""),
            ("Done", "content \"\\nDone\""),
        ] {
            assert_eq!(said(&mut parser, text), expected, "{text}");
        }
    }

    #[test]
    fn texts_in_tags_are_said_while_they_are_written() {
        let mut parser = parser(CallForm::CoderXml);
        for (text, expected) in [
            ("<tool_call>\n<function=f>\n", ""),
            ("<parameter=a>", "0 f( | 0 {\"a\":\""),
            ("\nline \"1\"", "0 line \\\"1\\\""),
            ("\n", ""),
            ("2 <", "0 \\n2 "),
            ("b>", "0 <b>"),
            ("\n</parameter>\n", ""),
            ("</function>", "0 \"} | 0 ) true"),
        ] {
            assert_eq!(said(&mut parser, text), expected, "{text}");
        }
    }
}
