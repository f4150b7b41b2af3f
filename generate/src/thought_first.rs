//! A free thought, and a guide for what follows it.
//!
//! A model that thinks writes a thought before its answer, and the form of the answer is none of
//! the thought's. Where the model itself opens thoughts, it decides whether it has one: the
//! token that opens it may come where it is the likeliest of all. What is written between the
//! thought and the answer in all the texts that the model has learned from is written here too.

use std::sync::Arc;

use sampler::{GrammarVocabulary, argmax};

use crate::{
    GenerateError, Guide,
    awaited::{Awaited, Where, forbid},
};

/// How a thought stands in a reply.
#[derive(Clone, Debug)]
pub struct Thought {
    /// The token that opens it; `None` if the prompt has opened it.
    pub open: Option<u32>,
    /// The text that closes it.
    pub close: String,
    /// What stands between it and the answer.
    pub gap: String,
    /// Whether there has to be an answer: the text cannot end in the thought.
    pub must_close: bool,
}

/// Leaves a thought free, and hands over to another guide behind it.
#[derive(Debug)]
pub struct ThoughtFirst {
    place: Place,
    thought: Thought,
    close: Awaited,
    vocabulary: Arc<GrammarVocabulary>,
    then: Box<dyn Guide>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first token, with the one that opens a thought.
    Start(u32),
    Thought,
    /// Behind the thought and so many bytes of the gap.
    Gap(usize),
    Answer,
}

impl ThoughtFirst {
    /// Begins a reply that goes on with `then`.
    ///
    /// # Panics
    /// If the text that closes the thought is empty.
    #[must_use]
    pub fn new(thought: Thought, vocabulary: Arc<GrammarVocabulary>, then: Box<dyn Guide>) -> Self {
        Self {
            place: thought.open.map_or(Place::Thought, Place::Start),
            close: Awaited::new(&thought.close, Where::Anywhere, Arc::clone(&vocabulary)),
            thought,
            vocabulary,
            then,
        }
    }

    fn rest_of_gap(&self) -> Vec<u32> {
        match self.place {
            Place::Gap(n) => {
                let rest = self.thought.gap.get(n..).unwrap_or_default();
                self.vocabulary.encode(rest)
            }
            _ => Vec::new(),
        }
    }

    /// Takes bytes behind the thought.
    fn skip(&mut self, n_seen: usize, bytes: &[u8]) -> Result<(), GenerateError> {
        let rest = &self.thought.gap.as_bytes()[n_seen..];
        if !rest.starts_with(bytes) {
            let what = "something else stands behind the thought".to_owned();
            return Err(sampler::SamplerError::GrammarStopped { what }.into());
        }
        let n_seen = n_seen + bytes.len();
        self.place = match n_seen == self.thought.gap.len() {
            true => Place::Answer,
            false => Place::Gap(n_seen),
        };
        Ok(())
    }
}

impl Guide for ThoughtFirst {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match self.place {
            Place::Start(_) | Place::Thought => Ok(Vec::new()),
            Place::Gap(_) => Ok(self.rest_of_gap()),
            Place::Answer => self.then.forced(),
        }
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        match self.place {
            Place::Start(open) => {
                let is_wanted = argmax(logits)? == open;
                let wanted = logits.get(open as usize).copied();
                let wanted = wanted.filter(|_| is_wanted);
                self.then.mask(logits)?;
                if let Some(logit) = logits.get_mut(open as usize) {
                    *logit = wanted.unwrap_or(f32::NEG_INFINITY);
                }
                Ok(())
            }
            Place::Thought => {
                if self.thought.must_close {
                    forbid(self.vocabulary.ends(), logits);
                }
                self.close.forbid_beyond(logits);
                Ok(())
            }
            Place::Gap(_) => {
                // Whoever draws although there is no choice gets what there is.
                let first = self.rest_of_gap().first().copied();
                let others = (0..logits.len() as u32).filter(|&id| Some(id) != first);
                forbid(&others.collect::<Vec<_>>(), logits);
                Ok(())
            }
            Place::Answer => self.then.mask(logits),
        }
    }

    fn accept(&mut self, token: u32, bytes: &[u8]) -> Result<(), GenerateError> {
        match self.place {
            Place::Start(open) if token == open => self.place = Place::Thought,
            Place::Start(_) | Place::Answer => {
                self.place = Place::Answer;
                return self.then.accept(token, bytes);
            }
            Place::Thought => {
                if let Some(n_bytes) = self.close.advance(bytes) {
                    return self.skip(0, &bytes[n_bytes..]);
                }
            }
            Place::Gap(n_seen) => return self.skip(n_seen, bytes),
        }
        Ok(())
    }

    fn prepare(&mut self) {
        if matches!(self.place, Place::Start(_) | Place::Answer) {
            self.then.prepare();
        }
    }
}
