//! A call in Qwen3-Coder's form: `<function=name>`, parameters in tags, `</function>`.
//!
//! Its arguments are written as JSON while they are read. The closing brace comes last, so
//! arguments of a call that was cut off are never a whole object.

use crate::{
    Ending, Tool,
    coerce::Types,
    parameter::{Cut, Parameter, ParameterStep},
    tag::Tag,
};

/// What a character says about the call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum XmlStep {
    Taken,
    /// The call has ended, completely, with this tag, which was taken.
    Ended(Tag, String),
}

/// A call on its way, in one of its parameters.
#[derive(Debug)]
pub(crate) struct XmlCall {
    /// Its place among the tools, unless it is none of them.
    tool: Option<usize>,
    parameter: Parameter,
}

impl XmlCall {
    /// Begins a call in its first parameter.
    pub(crate) fn new(name: &str, key: &str, tools: &[Tool], out: &mut String) -> Self {
        out.push('{');
        let tool = tools.iter().position(|tool| tool.name == name);
        let types = Types::of_parameter(tool.map(|at| &tools[at]), key);
        Self {
            tool,
            parameter: Parameter::new(key, types, true, out),
        }
    }

    /// Takes a character and adds to the arguments.
    pub(crate) fn push(&mut self, c: char, tools: &[Tool], out: &mut String) -> XmlStep {
        match self.parameter.push(c, out) {
            ParameterStep::Taken => XmlStep::Taken,
            ParameterStep::Closed(Tag::Parameter(key), _) => {
                let types = Types::of_parameter(self.tool.map(|at| &tools[at]), &key);
                self.parameter = Parameter::new(&key, types, false, out);
                XmlStep::Taken
            }
            ParameterStep::Closed(tag, text) => {
                out.push('}');
                XmlStep::Ended(tag, text)
            }
        }
    }

    /// Ends the text; returns whether the call is complete.
    pub(crate) fn finish(&mut self, ending: Ending, out: &mut String) -> bool {
        let is_complete = match self.parameter.finish(out) {
            Cut::Value => false,
            // More parameters might have come.
            Cut::Parameter => ending == Ending::Stopped,
            Cut::Function => true,
        };
        if is_complete {
            out.push('}');
        }
        is_complete
    }
}
