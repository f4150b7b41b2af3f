//! How a model writes its replies: what its chat template taught it.

use std::sync::Arc;

use crate::Tool;

pub(crate) const OPEN_THOUGHT: &str = "<think>";
pub(crate) const CLOSE_THOUGHT: &str = "</think>";

/// Who opens a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningStart {
    /// The model, with `<think>`, if it thinks.
    ByModel,
    /// The prompt, which ends in `<think>`: the reply begins inside the thought.
    OpenedByPrompt,
}

/// How calls are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes, Qwen2.5 and Qwen3.
    Hermes,
    /// `<tool_call><function=…><parameter=…>…</parameter></function></tool_call>`, as
    /// Qwen3-Coder.
    CoderXml,
}

/// In what shape a template takes the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentsShape {
    /// As text, which it writes as it is.
    Text,
    /// As a map, which it writes as JSON in its own spacing.
    Map,
    /// As a map of texts, each of which it writes as it is.
    MapOfTexts,
}

/// How a model writes its replies.
///
/// The default is a model that neither thinks nor calls: all it says is content.
#[derive(Clone, Debug)]
pub struct ReplyFormat {
    /// Who opens a thought; `None` if its tags are content.
    pub reasoning: Option<ReasoningStart>,
    /// How calls are written; `None` if tags are content, as they are without tools.
    pub calls: Option<CallForm>,
    /// What can be called.
    pub tools: Arc<[Tool]>,
    /// In what shape the template takes the arguments of a call.
    pub arguments: ArgumentsShape,
}

impl Default for ReplyFormat {
    fn default() -> Self {
        Self {
            reasoning: None,
            calls: None,
            tools: Arc::new([]),
            arguments: ArgumentsShape::Map,
        }
    }
}

impl ReplyFormat {
    /// Returns what a chat template teaches: how calls are written and put back, and whether the
    /// model thinks. The end of the rendered prompt says whether a thought is open already.
    ///
    /// Under a template that knows no thoughts, `reasoning` is `None`, so that what the model
    /// writes goes back as it is. Models often run under a plainer template than they were
    /// trained with; who rather wants their thoughts parted sets it to
    /// [`ByModel`](ReasoningStart::ByModel).
    ///
    /// Without tools nothing is a call. A request that forbids calls (`tool_choice: none`)
    /// should give none here, whatever the template is given.
    #[must_use]
    pub fn of_template(template: &str, rendered_prompt: &str, tools: Vec<Tool>) -> Self {
        let reasoning = if rendered_prompt.trim_end().ends_with(OPEN_THOUGHT) {
            Some(ReasoningStart::OpenedByPrompt)
        } else if template.contains(CLOSE_THOUGHT) {
            Some(ReasoningStart::ByModel)
        } else {
            None
        };
        let form = if template.contains("<function=") {
            Some(CallForm::CoderXml)
        } else if template.contains("<tool_call>") {
            Some(CallForm::Hermes)
        } else {
            None
        };
        let arguments = match form {
            Some(CallForm::CoderXml) => ArgumentsShape::MapOfTexts,
            _ if template.contains("arguments is string") => ArgumentsShape::Text,
            _ => ArgumentsShape::Map,
        };
        Self {
            reasoning,
            calls: form.filter(|_| !tools.is_empty()),
            tools: tools.into(),
            arguments,
        }
    }
}
