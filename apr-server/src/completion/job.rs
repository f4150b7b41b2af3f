//! A request as the engine can have it, with all its prompts and their continuations.

use generate::{AllGuides, Generate, Guide, Request, Task, TextConfig};
use reply_parser::{ReasoningStart, ReplyFormat};
use tokenizer::SpecialTokens;

use super::{FAREWELLS, Held, Settings, ThinkingBudget};
use crate::{api_error::ApiError, model::ServedModel};

/// What a request asks for, the same for all APIs.
#[derive(Debug)]
pub(crate) struct Job {
    /// Token ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The name of the field that they came from.
    pub(crate) param: &'static str,
    pub(crate) work: Work,
}

/// What becomes of the prompts.
#[derive(Debug)]
pub(crate) enum Work {
    Generate(Box<Generation>),
    /// Their hidden states are averaged.
    Embed,
}

/// How prompts are continued, and how the reply is read.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) settings: Settings,
    /// With how many of the likeliest tokens each generated one is scored.
    pub(crate) n_top: Option<usize>,
    /// The same for the tokens of the prompt.
    pub(crate) n_top_prompt: Option<usize>,
    /// Who begins a thought, if there is one; it may be shown as content all the same.
    pub(crate) thinks: Option<ReasoningStart>,
    /// The most tokens of a thought, besides what the length of the reply allows.
    pub(crate) thinking_budget: Option<usize>,
    /// What the reply is held to.
    pub(crate) held: Held,
    /// Whether the first call of a tool ends the reply.
    pub(crate) is_single_call: bool,
    pub(crate) format: ReplyFormat,
    /// The id of the answer, from which those of calls follow.
    pub(crate) id: String,
}

impl Job {
    /// Returns the continuations of each prompt.
    pub(crate) fn n_per_prompt(&self) -> usize {
        match &self.work {
            Work::Generate(generation) => generation.settings.n,
            Work::Embed => 1,
        }
    }

    /// Returns the number of all continuations.
    pub(crate) fn n_choices(&self) -> usize {
        self.prompts.len() * self.n_per_prompt()
    }

    /// Whether generated tokens are scored.
    pub(crate) fn has_scores(&self) -> bool {
        match &self.work {
            Work::Generate(generation) => generation.n_top.is_some(),
            Work::Embed => false,
        }
    }

    /// Returns the prompt of a choice. Choices of a prompt stand together.
    pub(crate) fn prompt(&self, choice: usize) -> &[u32] {
        &self.prompts[choice / self.n_per_prompt()]
    }

    /// Checks all prompts, so that none is refused when others are under way.
    pub(crate) fn check(&self, model: &ServedModel) -> Result<(), ApiError> {
        let (n_ctx, n_vocab) = (model.engine.n_ctx(), model.facts.n_vocab);
        for (idx, prompt) in self.prompts.iter().enumerate() {
            let param = match self.prompts.len() {
                1 => self.param.to_owned(),
                _ => format!("{}[{idx}]", self.param),
            };
            if prompt.is_empty() {
                return Err(ApiError::invalid(param, "expected at least one token"));
            }
            if prompt.len() > n_ctx {
                return Err(ApiError::context_length(prompt.len(), n_ctx).param(param));
            }
            if let Some(&id) = prompt.iter().find(|&&id| id as usize >= n_vocab) {
                let message = format!("expected ids below {n_vocab}, found {id}");
                return Err(ApiError::invalid(param, message).code("invalid_token"));
            }
        }
        Ok(())
    }

    /// Returns what the engine is asked for a choice.
    pub(crate) fn request(&self, choice: usize, model: &ServedModel) -> Request {
        let prompt = self.prompt(choice).to_vec();
        match &self.work {
            Work::Embed => Request {
                prompt,
                task: Task::Embed,
                use_cache: true,
            },
            Work::Generate(generation) => {
                let in_prompt = choice % self.n_per_prompt();
                let generate = generation.generate(in_prompt, prompt.len(), model);
                Request {
                    prompt,
                    task: Task::Generate(Box::new(generate)),
                    use_cache: generation.settings.use_cache,
                }
            }
        }
    }
}

impl Generation {
    /// Continues a text as it is.
    pub(crate) fn of_text(
        settings: Settings,
        id: String,
        model: &ServedModel,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            held: Held::text(&settings, model)?,
            settings,
            n_top: None,
            n_top_prompt: None,
            thinks: None,
            thinking_budget: None,
            is_single_call: false,
            format: ReplyFormat::default(),
            id,
        })
    }

    fn generate(&self, choice: usize, n_prompt: usize, model: &ServedModel) -> Generate {
        Generate {
            config: self.settings.generation(model, choice),
            text: TextConfig {
                stop_strings: self.settings.stop_strings.clone(),
                show_control: false,
            },
            n_top: self.n_top,
            n_top_prompt: self.n_top_prompt,
            guide: self.guide(n_prompt, model),
        }
    }

    fn guide(&self, n_prompt: usize, model: &ServedModel) -> Option<Box<dyn Guide>> {
        match (self.budget(n_prompt, model), self.held.guide(model)) {
            (Some(budget), Some(held)) => Some(Box::new(AllGuides::new(vec![budget, held]))),
            (budget, held) => budget.or(held),
        }
    }

    fn budget(&self, n_prompt: usize, model: &ServedModel) -> Option<Box<dyn Guide>> {
        let is_open = self.thinks? == ReasoningStart::OpenedByPrompt;
        let budget = self.thinking_budget.unwrap_or(usize::MAX);
        let room = model.engine.n_ctx().saturating_sub(n_prompt);
        let n_most = self.settings.n_predict.unwrap_or(room).min(room);
        let encode = |text| model.tokenizer.encode(text, SpecialTokens::Recognise);
        let guide = ThinkingBudget::new(budget, is_open, n_most, FAREWELLS.map(encode));
        Some(Box::new(guide))
    }
}
