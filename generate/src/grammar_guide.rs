//! A grammar as a guide, and the vocabulary of a model for grammars.

use std::sync::Arc;

use sampler::{Grammar, GrammarMatcher, GrammarTokens, GrammarVocabulary, Next};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{GenerateError, Guide};

/// Holds a text to a grammar from its first token on. It ends where the grammar does.
#[derive(Debug)]
pub struct GrammarGuide {
    matcher: GrammarMatcher,
}

impl GrammarGuide {
    /// Begins a text.
    #[must_use]
    pub fn new(grammar: &Grammar) -> Self {
        Self {
            matcher: grammar.matcher(),
        }
    }

    pub(crate) const fn matcher(&mut self) -> &mut GrammarMatcher {
        &mut self.matcher
    }
}

impl Guide for GrammarGuide {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        Ok(self.matcher.forced()?)
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        match self.matcher.upcoming()? {
            Next::OneOf(mask) => mask.apply(logits),
            // Whoever draws although there is no choice gets what there is.
            Next::Forced(_) | Next::End => {
                let first = self.matcher.forced()?[0];
                let others = logits.iter_mut().enumerate();
                for (_, logit) in others.filter(|(id, _)| *id != first as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32, _: &[u8]) -> Result<(), GenerateError> {
        Ok(self.matcher.accept(token)?)
    }

    fn prepare(&mut self) {
        self.matcher.prepare();
    }
}

/// Returns the vocabulary of a model with `n_vocab` logits for grammars. It costs nothing until
/// a grammar is compiled.
#[must_use]
pub fn grammar_vocabulary(tokenizer: Arc<Tokenizer>, n_vocab: usize) -> Arc<GrammarVocabulary> {
    Arc::new(GrammarVocabulary::new(Arc::new(ModelTokens {
        tokenizer,
        n_vocab,
    })))
}

struct ModelTokens {
    tokenizer: Arc<Tokenizer>,
    n_vocab: usize,
}

impl GrammarTokens for ModelTokens {
    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }

    fn is_control(&self, id: u32) -> bool {
        self.tokenizer.is_control(id)
    }

    fn ends(&self) -> Vec<u32> {
        let mut ends = self.tokenizer.end_of_generation().to_vec();
        ends.sort_by_key(|&id| Some(id) != self.tokenizer.eos());
        ends
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, SpecialTokens::AsText)
    }
}
