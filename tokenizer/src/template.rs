//! Chat templates, rendered as Hugging Face's `apply_chat_template` does.
//!
//! A template is Jinja code that came with a model file, so it is run like any code from a
//! stranger. minijinja counts its steps and bytes (fuel) and its depth; [`guard`] closes what
//! that leaves open, values that grow without being counted; source and output have limits.
//! A template can therefore do nothing but return a text or one [`TemplateError`].
//!
//! Left out, since no chat template needs them: files (`include`, `import`, `extends`,
//! blocks), the filters `batch`, `slice`, `groupby`, `zip`, `chain`, `pprint`, `sum`, the function
//! `debug` and repeated lists (`[0] * 3`).

mod clock;
mod environment;
mod guard;
mod json;
mod limits;

use std::{sync::Arc, time::SystemTime};

use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use crate::{Message, TemplateError, error::excerpt};
use limits::{Budget, LimitedText};

/// The name of the only template in the environment.
const NAME: &str = "chat";

/// What a template is given besides its options.
const RESERVED: [&str; 5] = [
    "messages",
    "tools",
    "add_generation_prompt",
    guard::CHECK,
    guard::ASSIGN,
];

/// Returns the present, for templates that print the date.
type Clock = fn() -> SystemTime;

/// A compiled chat template.
///
/// ```
/// use serde_json::Map;
/// use tokenizer::{ChatTemplate, Message};
///
/// let template = ChatTemplate::new(
///     "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
/// )?;
/// let text = template.render(&[Message::new("user", "Hello")], None, &Map::new(), false)?;
/// assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n");
/// # Ok::<(), tokenizer::TemplateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
}

impl ChatTemplate {
    /// Compiles a template whose `strftime_now` is an error, for lack of a clock.
    ///
    /// # Errors
    /// [`TemplateError::SourceTooLong`], [`TemplateError::TooDeep`] or
    /// [`TemplateError::Syntax`] with the line.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        Self::compile(source, None)
    }

    /// Compiles a template whose `strftime_now` reads `clock`, in UTC.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_clock(source: &str, clock: fn() -> SystemTime) -> Result<Self, TemplateError> {
        Self::compile(source, Some(clock))
    }

    fn compile(source: &str, clock: Option<Clock>) -> Result<Self, TemplateError> {
        let source = guard::guard(source)?;
        let environment = limits::on_large_stack(move || {
            let mut environment = environment::new(clock);
            environment.add_template_owned(NAME, source)?;
            Ok(environment)
        })?;
        let environment = environment.map_err(|error| syntax_error(&error))?;
        Ok(Self {
            environment: Arc::new(environment),
        })
    }

    /// Renders a conversation.
    ///
    /// `options` are further variables of the template (`enable_thinking`, `bos_token`).
    /// With `add_generation_prompt` the text ends where the assistant's reply begins.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] if the template refuses the conversation,
    /// [`TemplateError::ReservedOption`] for an option with the name of an argument,
    /// [`TemplateError::Render`] with the line for what cannot be done, and one error for
    /// each limit.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        options: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let context = context(messages, tools, options, add_generation_prompt)?;
        self.render_value(&context, messages.len())
    }

    /// Renders with variables that [`context`] has collected.
    pub(crate) fn render_value(
        &self,
        context: &Map<String, Value>,
        n_messages: usize,
    ) -> Result<String, TemplateError> {
        let budget = Budget::of(context, n_messages);
        let mut environment = self.environment.as_ref().clone();
        environment.set_fuel(Some(budget.steps));
        environment::limit_values(&mut environment, budget.value);
        let mut text = LimitedText::default();
        let rendered = environment
            .get_template(NAME)
            .and_then(|template| {
                let context = minijinja::Value::from(minijinja::value::Serde(context));
                template.render_captured_to(context, &mut text)
            })
            .map(|_| ());
        match rendered {
            Ok(()) => Ok(text.into_string()),
            Err(_) if text.is_full() => Err(TemplateError::OutputTooLong {
                limit: limits::MAX_OUTPUT_BYTES,
            }),
            Err(error) => Err(render_error(&error, &budget)),
        }
    }
}

/// Collects the variables of a template.
pub(crate) fn context(
    messages: &[Message],
    tools: Option<&Value>,
    options: &Map<String, Value>,
    add_generation_prompt: bool,
) -> Result<Map<String, Value>, TemplateError> {
    for name in options.keys() {
        if RESERVED.contains(&name.as_str()) {
            return Err(TemplateError::ReservedOption {
                name: excerpt(name),
            });
        }
    }
    let messages = serde_json::to_value(messages).map_err(|error| TemplateError::Render {
        line: 0,
        message: error.to_string(),
    })?;
    let mut context = options.clone();
    context.insert("messages".to_owned(), messages);
    // Without tools the variable is none, as transformers has it; templates test both.
    context.insert("tools".to_owned(), tools.cloned().unwrap_or_default());
    context.insert(
        "add_generation_prompt".to_owned(),
        add_generation_prompt.into(),
    );
    Ok(context)
}

fn syntax_error(error: &Error) -> TemplateError {
    TemplateError::Syntax {
        line: error.line().unwrap_or(0),
        message: described(error),
    }
}

fn render_error(error: &Error, budget: &Budget) -> TemplateError {
    let line = error.line().unwrap_or(0);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(raised) = error.downcast_ref::<environment::Raised>() {
            return TemplateError::Raised {
                message: excerpt(&raised.0),
            };
        }
        if error.is::<environment::TooLarge>() {
            return TemplateError::ValueTooLarge {
                line,
                parts: budget.value.parts,
                bytes: budget.value.bytes,
            };
        }
        cause = error.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::TooManySteps {
            limit: budget.steps,
        };
    }
    if error.detail() == Some("recursion limit exceeded") {
        return TemplateError::TooDeep {
            line,
            limit: limits::MAX_DEPTH,
        };
    }
    TemplateError::Render {
        line,
        message: described(error),
    }
}

/// The kind of error and its detail, which may quote the template.
fn described(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {}", error.kind(), excerpt(detail)),
        None => error.kind().to_string(),
    }
}
