//! A model that is ready, and what is told of it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use generate::{EngineHandle, grammar_vocabulary};
use moe_model::Model;
use sampler::{GrammarVocabulary, SamplerConfig};
use tokenizer::{ChatTemplate, Tokenizer};

use crate::{api_error::ApiError, error::ServerError, fields::Fields};

/// What clients are told of a model, and what is done where a request says nothing.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// Names under which it can be asked for; the first is the one in answers.
    pub names: Vec<String>,
    /// What tells its answers from others': model and version of the kernels. The same
    /// fingerprint and seed give the same text on any machine.
    pub fingerprint: String,
    /// The program that serves it, with its version.
    pub build: String,
    /// How tokens are drawn where a request does not say; its seed is not used.
    pub sampler: SamplerConfig,
    /// The seed where a request does not say; `None` is another one each time.
    pub seed: Option<u64>,
    /// Ids of the model, which may be more than those of the tokenizer.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Positions that the model was trained for.
    pub n_ctx_train: usize,
    /// Weights.
    pub n_params: u64,
    /// Bytes of the file.
    pub n_bytes: u64,
}

impl ModelFacts {
    /// Returns what a model says of itself, with Qwen's way of drawing tokens.
    #[must_use]
    pub fn new(name: &str, model: &Model<'_>, fingerprint: &str) -> Self {
        let config = model.config();
        Self {
            names: vec![name.to_owned()],
            fingerprint: fingerprint.to_owned(),
            build: format!("apr-server {}", env!("CARGO_PKG_VERSION")),
            sampler: SamplerConfig::default(),
            seed: None,
            n_vocab: config.n_vocab,
            n_embd: config.n_embd,
            n_ctx_train: config.n_ctx,
            n_params: model.weights().n_weights(),
            n_bytes: 0,
        }
    }
}

/// A model with the engine that works on it.
pub struct ServedModel {
    pub(crate) engine: EngineHandle,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// For grammars; its tables are made when one is first asked for.
    pub(crate) grammars: Arc<GrammarVocabulary>,
    pub(crate) facts: ModelFacts,
    /// `None` if the model has none; then there are no chats.
    pub(crate) template: Option<ChatTemplate>,
    /// When it became ready, in seconds since 1970.
    pub(crate) created: u64,
}

impl ServedModel {
    /// Joins an engine and its tokenizer.
    ///
    /// # Errors
    /// The tokenizer's chat template cannot be compiled.
    ///
    /// # Panics
    /// If `facts` has no name.
    pub fn new(
        engine: EngineHandle,
        tokenizer: Arc<Tokenizer>,
        facts: ModelFacts,
    ) -> Result<Self, ServerError> {
        assert!(!facts.names.is_empty(), "a model has a name");
        let template = tokenizer
            .chat_template()
            .map(|source| ChatTemplate::with_clock(source, SystemTime::now))
            .transpose()?;
        let grammars = grammar_vocabulary(Arc::clone(&tokenizer), facts.n_vocab);
        Ok(Self {
            engine,
            tokenizer,
            grammars,
            facts,
            template,
            created: seconds_since_1970(),
        })
    }

    /// Returns the name in answers.
    pub(crate) fn name(&self) -> &str {
        &self.facts.names[0]
    }

    /// Checks that a request means this model. One that names none means it.
    pub(crate) fn check_name(&self, fields: &mut Fields) -> Result<(), ApiError> {
        match fields.string("model")? {
            Some(name) if !name.is_empty() && !self.is_called(&name) => {
                Err(ApiError::unknown_model("GET /v1/models").param(fields.path("model")))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a request that asks for `name` means this model.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.facts.names.iter().any(|own| own == name)
    }
}

impl fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = &mut f.debug_struct("ServedModel");
        model.field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Returns the time as APIs give it.
pub(crate) fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Returns a time in seconds since 1970 as `2026-11-24T22:30:00Z`.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_second() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_559_029), "2026-11-24T22:23:49Z");
    }
}
