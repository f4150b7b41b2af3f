//! From an item to token ids, and from those to likelihoods.

use generate::{CancelFlag, GenerateError, Likelihood, Prefill, Sequence, rolling_windows};
use tokenizer::{SpecialTokens, Tokenizer};

use super::{Question, is_space};

/// How items become token ids.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// The model's.
    pub tokenizer: &'a Tokenizer,
    /// What control tokens in texts mean.
    pub special: SpecialTokens,
    /// What stands between a context and each of its choices.
    pub delimiter: &'a str,
    /// The token that stands before texts, and in place of a context that is empty.
    pub prefix: u32,
    /// Tokens that go into the model at once.
    pub n_ctx: usize,
}

/// An item as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Likelihoods of continuations.
    Continuations {
        /// At least one.
        context: Vec<u32>,
        /// None of them empty.
        continuations: Vec<Vec<u32>>,
    },
    /// The likelihood of a text, in windows.
    Text {
        /// With the token before the text.
        tokens: Vec<u32>,
        /// Tokens that go into the model at once.
        n_ctx: usize,
    },
}

/// What a request has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// One for each continuation, or one for the text.
    pub likelihoods: Vec<Likelihood>,
    /// Tokens that went through the model, and those that were found in the cache.
    pub work: Prefill,
}

impl Form<'_> {
    /// Returns the token before texts that a model expects: the beginning of a text if all its
    /// texts have one, otherwise the end of another one.
    #[must_use]
    pub fn usual_prefix(tokenizer: &Tokenizer) -> Option<u32> {
        let begin = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        begin.or_else(|| tokenizer.eos())
    }

    /// Makes the request of a question.
    ///
    /// # Errors
    /// A sentence: a continuation has no token of its own, or does not fit into the model's
    /// context.
    pub fn request(&self, question: &Question) -> Result<Request, String> {
        match question {
            Question::Choices {
                context, choices, ..
            } => {
                let choices = choices.iter();
                let choices = choices.map(|choice| format!("{}{choice}", self.delimiter));
                self.continuations(context, choices, &|idx| format!("`choices[{idx}]`"))
            }
            Question::Continuation {
                context,
                continuation,
            } => {
                let continuations = [continuation.clone()].into_iter();
                self.continuations(context, continuations, &|_| "`continuation`".to_owned())
            }
            Question::Text(text) => {
                let mut tokens = vec![self.prefix];
                tokens.extend(self.tokenizer.encode(text, self.special));
                let n_ctx = self.n_ctx;
                Ok(Request::Text { tokens, n_ctx })
            }
        }
    }

    /// Cuts each pair of context and continuation where the context's own tokens end. White
    /// space at the end of a context belongs to the continuation, as it does for tokenizers.
    fn continuations(
        &self,
        context: &str,
        texts: impl Iterator<Item = String>,
        name: &dyn Fn(usize) -> String,
    ) -> Result<Request, String> {
        let spaceless = context.trim_end_matches(is_space);
        let space = &context[spaceless.len()..];
        let begin = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        let own = self.tokenizer.encode(spaceless, self.special);
        let n_own = own.len();
        let mut context: Vec<u32> = begin.into_iter().chain(own).collect();
        if n_own == 0 {
            context = vec![self.prefix];
        }
        let mut continuations = Vec::new();
        for (idx, text) in texts.enumerate() {
            let whole = format!("{spaceless}{space}{text}");
            let mut tokens = self.tokenizer.encode(&whole, self.special);
            tokens.drain(..n_own.min(tokens.len()));
            if n_own == 0 && tokens.first() == Some(&self.prefix) {
                tokens.remove(0);
            }
            if tokens.is_empty() {
                return Err(format!("{} has no token of its own", name(idx)));
            }
            let n_input = context.len() + tokens.len() - 1;
            if n_input > self.n_ctx {
                return Err(format!(
                    "{} and its context have {n_input} tokens, the model's context holds {}",
                    name(idx),
                    self.n_ctx
                ));
            }
            continuations.push(tokens);
        }
        Ok(Request::Continuations {
            context,
            continuations,
        })
    }
}

impl Request {
    /// Returns how many tokens go into the model at once, at most.
    #[must_use]
    pub fn n_input(&self) -> usize {
        match self {
            Self::Continuations {
                context,
                continuations,
            } => {
                let longest = continuations.iter().map(Vec::len).max();
                context.len() + longest.unwrap_or(1) - 1
            }
            Self::Text { tokens, n_ctx } => (tokens.len() - 1).min(*n_ctx),
        }
    }

    /// Asks the model.
    ///
    /// # Errors
    /// Those of [`Sequence::likelihoods`].
    pub fn score(
        &self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Result<Scored, GenerateError> {
        match self {
            Self::Continuations {
                context,
                continuations,
            } => {
                let continuations: Vec<&[u32]> = continuations.iter().map(Vec::as_slice).collect();
                let scores = sequence.likelihoods(context, &continuations, cancel)?;
                Ok(Scored {
                    likelihoods: scores.likelihoods,
                    work: scores.work,
                })
            }
            Self::Text { tokens, n_ctx } => {
                let mut sum = Likelihood {
                    logprob: 0.0,
                    is_greedy: true,
                    n_tokens: 0,
                };
                let mut work = Prefill {
                    n_cached: 0,
                    n_computed: 0,
                };
                for window in rolling_windows(tokens.len(), *n_ctx) {
                    let scored = [&tokens[window.scored]];
                    let scores = sequence.likelihoods(&tokens[window.context], &scored, cancel)?;
                    for likelihood in scores.likelihoods {
                        sum.logprob += likelihood.logprob;
                        sum.is_greedy &= likelihood.is_greedy;
                        sum.n_tokens += likelihood.n_tokens;
                    }
                    work.n_cached += scores.work.n_cached;
                    work.n_computed += scores.work.n_computed;
                }
                Ok(Scored {
                    likelihoods: vec![sum],
                    work,
                })
            }
        }
    }
}
