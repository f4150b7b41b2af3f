//! What a reply is held to: a form of the answer, calls of tools, and a thought before both.
//!
//! Grammars are compiled when a request is read, on a thread that may wait, and each choice has
//! a guide of its own. Tools that can be called hold every call to an existing tool and to its
//! schema; where the schema says what no grammar can say, a request that insists on it is
//! refused, and otherwise names and types are held to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use generate::{GrammarGuide, Guide, LateGuide, Thought, ThoughtFirst};
use reply_parser::{CallForm, ReasoningStart};
use sampler::{Grammar, GrammarPart, GrammarSource, SamplerError};
use serde_json::json;
use tokenizer::SpecialTokens;

use super::{
    Settings,
    call_grammar::{self, Closeness},
    tools::{Callable, Tools},
};
use crate::{api_error::ApiError, model::ServedModel};

/// How long it may take to find out which of many tools cannot be held to their schemas.
const TIME: Duration = Duration::from_millis(800);

/// What a reply is held to.
#[derive(Debug, Default)]
pub(crate) struct Held {
    rule: Rule,
    thought: Option<Thought>,
}

#[derive(Debug, Default)]
enum Rule {
    #[default]
    Free,
    /// The whole answer is of a form.
    Answer(Arc<Grammar>),
    /// What follows each of these texts is.
    Calls(Calls),
}

/// Calls that may come or not.
#[derive(Debug)]
struct Calls {
    /// What follows texts.
    behind: Vec<(&'static str, Arc<Grammar>)>,
    /// What begins with texts, where nothing was said before.
    untagged: Option<(Vec<String>, Arc<Grammar>)>,
}

impl Held {
    /// Holds a text to a form from its first token on.
    pub(crate) fn text(settings: &Settings, model: &ServedModel) -> Result<Self, ApiError> {
        let Some(form) = &settings.form else {
            return Ok(Self::default());
        };
        check_end(settings, &form.param, model)?;
        let grammar = compile(&form.source, model);
        let grammar = grammar.map_err(|error| refused(&form.param, &error))?;
        Ok(Self {
            rule: Rule::Answer(grammar),
            thought: None,
        })
    }

    /// Holds the reply of a chat to what its request says. `calls` is how the model calls tools,
    /// and `thinks` who begins its thought.
    pub(crate) fn chat(
        settings: &Settings,
        tools: &Tools,
        calls: Option<CallForm>,
        thinks: Option<ReasoningStart>,
        model: &ServedModel,
    ) -> Result<Self, ApiError> {
        let mut held = match calls {
            Some(form) => Self::calls(settings, tools, form, model)?,
            None if tools.is_required() => {
                let why = "the chat template of this model knows no calls";
                return Err(ApiError::unsupported("tool_choice", why));
            }
            None => Self::text(settings, model)?,
        };
        let must_close = matches!(held.rule, Rule::Answer(_));
        held.thought = thinks.and_then(|start| thought(start, must_close, model));
        Ok(held)
    }

    fn calls(
        settings: &Settings,
        tools: &Tools,
        form: CallForm,
        model: &ServedModel,
    ) -> Result<Self, ApiError> {
        let callable = tools.callable();
        if tools.is_required() {
            check_end(settings, "tool_choice", model)?;
            let grammar = settled(&callable, model, |held| {
                let calls = call_grammar::calls(form, held, tools.is_single)?;
                compile(&GrammarSource::Template(calls), model)
            })?;
            return Ok(Rule::Answer(grammar).into());
        }
        let Some(answer) = &settings.form else {
            let calls = settled(&callable, model, |held| Calls::compile(form, held, model))?;
            return Ok(Rule::Calls(calls).into());
        };
        check_end(settings, &answer.param, model)?;
        let schema = match &answer.source {
            GrammarSource::JsonObject => json!({"type": "object"}),
            GrammarSource::JsonSchema(schema) => schema.clone(),
            _ => {
                let why = "with tools that may be called or not, the form can be JSON alone";
                return Err(ApiError::unsupported(&*answer.param, why));
            }
        };
        compile(&answer.source, model).map_err(|error| refused(&answer.param, &error))?;
        let grammar = settled(&callable, model, |held| {
            let calls = call_grammar::calls(form, held, tools.is_single)?;
            let answer = vec![GrammarPart::Schema(schema.clone())];
            let either = GrammarPart::OneOf(vec![calls, answer]);
            compile(&GrammarSource::Template(vec![either]), model)
        })?;
        Ok(Rule::Answer(grammar).into())
    }

    /// Returns what guides a choice.
    pub(crate) fn guide(&self, model: &ServedModel) -> Option<Box<dyn Guide>> {
        let guide: Box<dyn Guide> = match &self.rule {
            Rule::Free => return None,
            Rule::Answer(grammar) => Box::new(GrammarGuide::new(grammar)),
            Rule::Calls(calls) => Box::new(calls.guide()),
        };
        Some(match &self.thought {
            Some(thought) => {
                let vocabulary = Arc::clone(&model.grammars);
                Box::new(ThoughtFirst::new(thought.clone(), vocabulary, guide))
            }
            None => guide,
        })
    }
}

impl Calls {
    fn compile(
        form: CallForm,
        tools: &[(Callable<'_>, Closeness)],
        model: &ServedModel,
    ) -> Result<Self, SamplerError> {
        let compiled = |parts| compile(&GrammarSource::Template(parts), model);
        let openings = call_grammar::openings(form, tools)?.into_iter();
        let behind = openings.map(|(text, parts)| Ok((text, compiled(parts)?)));
        let untagged = call_grammar::untagged(form, tools);
        let untagged = untagged.map(|(texts, call)| Ok((texts, compiled(vec![call])?)));
        Ok(Self {
            behind: behind.collect::<Result<_, _>>()?,
            untagged: untagged.transpose()?,
        })
    }

    fn guide(&self) -> LateGuide {
        let behind = self.behind.iter();
        let behind = behind.map(|(text, grammar)| (*text, Arc::clone(grammar)));
        let mut guide = LateGuide::whenever(behind.collect());
        if let Some((texts, grammar)) = &self.untagged {
            for text in texts {
                guide = guide.or_first(text, Arc::clone(grammar));
            }
        }
        guide
    }
}

impl From<Rule> for Held {
    fn from(rule: Rule) -> Self {
        Self {
            rule,
            thought: None,
        }
    }
}

fn compile(source: &GrammarSource, model: &ServedModel) -> Result<Arc<Grammar>, SamplerError> {
    Grammar::compile(source, &model.grammars)
}

/// Makes the grammars of tools: each held to its schema, or, where that cannot be and need not
/// be, to names and types.
fn settled<T>(
    tools: &[Callable<'_>],
    model: &ServedModel,
    make: impl Fn(&[(Callable<'_>, Closeness)]) -> Result<T, SamplerError>,
) -> Result<T, ApiError> {
    let vocabulary = model.grammars.make_tables();
    vocabulary.map_err(|error| refused("tools", &error))?;
    let began = Instant::now();
    let mut held: Vec<_> = tools.iter().map(|it| (*it, Closeness::Exact)).collect();
    match make(&held) {
        Ok(made) => return Ok(made),
        Err(error @ SamplerError::GrammarTime { .. }) => return Err(refused("tools", &error)),
        Err(_) => {}
    }
    for at in 0..held.len() {
        let Err(error) = make(&held[at..=at]) else {
            continue;
        };
        let (callable, _) = held[at];
        let is_slow = matches!(error, SamplerError::GrammarTime { .. }) || began.elapsed() > TIME;
        if callable.is_strict || is_slow {
            return Err(refused(&format!("tools[{}]", callable.idx), &error));
        }
        held[at].1 = Closeness::Loose;
    }
    let made = make(&held).or_else(|error| {
        if tools.iter().any(|callable| callable.is_strict) {
            return Err(error);
        }
        // Each for itself can be held to its schema, but not all of them.
        held.iter_mut().for_each(|it| it.1 = Closeness::Loose);
        make(&held)
    });
    made.map_err(|error| refused("tools", &error))
}

/// Makes the answer to a request with a form that cannot be held to.
fn refused(param: &str, error: &SamplerError) -> ApiError {
    match error {
        SamplerError::GrammarFeature { .. } => ApiError::unsupported(param, error.to_string()),
        _ => ApiError::invalid(param, error.to_string()),
    }
}

/// Checks that an answer can end where its form does.
fn check_end(settings: &Settings, param: &str, model: &ServedModel) -> Result<(), ApiError> {
    if settings.ignore_eos {
        let message = format!("with {param}, an answer has to end where its form does");
        return Err(ApiError::invalid("ignore_eos", message));
    }
    if model.tokenizer.end_of_generation().is_empty() {
        let why = "the model has no token that ends an answer";
        return Err(ApiError::unsupported(param, why));
    }
    Ok(())
}

/// Returns how a thought stands before the answer; a model opens it by a token of its own.
fn thought(start: ReasoningStart, must_close: bool, model: &ServedModel) -> Option<Thought> {
    let open = match start {
        ReasoningStart::OpenedByPrompt => None,
        ReasoningStart::ByModel => {
            let ids = model.tokenizer.encode("<think>", SpecialTokens::Recognise);
            let [open] = ids.as_slice() else {
                return None;
            };
            Some(*open)
        }
    };
    Some(Thought {
        open,
        close: "</think>".to_owned(),
        gap: "\n\n".to_owned(),
        must_close,
    })
}
