//! One text on its way through a grammar.

use std::{
    fmt, mem,
    sync::{Arc, mpsc::Receiver},
};

use llguidance::{Matcher, api::StopReason, toktrie::SimpleVob};

use super::{GrammarVocabulary, compile::said};
use crate::SamplerError;

/// What may come next in a text.
#[derive(Clone, Debug)]
pub enum Next {
    /// These tokens, at least one, and nothing else.
    Forced(Vec<u32>),
    /// One of these tokens; those that end the text are among them if it is complete.
    OneOf(TokenMask),
    /// Nothing: the text is complete and ends.
    End,
}

/// A set of tokens.
#[derive(Clone)]
pub struct TokenMask {
    tokens: SimpleVob,
}

impl fmt::Debug for TokenMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.tokens.num_set())
    }
}

impl TokenMask {
    /// Returns whether a token is in the set.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.tokens.len() && self.tokens.is_allowed(id)
    }

    /// Returns the lowest token of the set.
    pub(super) fn first(&self) -> Option<u32> {
        self.tokens.first_bit_set().map(|id| id as u32)
    }

    /// Sets the logits `[V]` of all other tokens to −∞.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.tokens.as_slice();
        for (idx, logits) in logits.chunks_mut(32).enumerate() {
            let word = words.get(idx).copied().unwrap_or(0);
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// What matches one text token by token.
pub struct GrammarMatcher {
    state: State,
    vocabulary: Arc<GrammarVocabulary>,
}

enum State {
    /// Nothing has been asked of what comes next.
    Open(Box<Matcher>),
    /// It is not forced; more has not been asked.
    Free(Box<Matcher>),
    /// It is being found out.
    Computing(Receiver<Found>),
    /// It is known.
    Known(Box<Matcher>, Next),
    /// The text has ended.
    Ended,
    /// An error has ended the text.
    Failed(SamplerError),
}

pub(super) type Found = Result<(Box<Matcher>, Next), SamplerError>;

impl fmt::Debug for GrammarMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarMatcher").finish_non_exhaustive()
    }
}

impl GrammarMatcher {
    pub(super) fn new(matcher: Matcher, vocabulary: &Arc<GrammarVocabulary>) -> Self {
        Self {
            state: State::Open(Box::new(matcher)),
            vocabulary: Arc::clone(vocabulary),
        }
    }

    /// Begins to find out what comes next, on another thread. Whoever asks then waits for it.
    pub fn prepare(&mut self) {
        self.state = match self.take() {
            State::Open(matcher) => self.compute(matcher, true),
            State::Free(matcher) => self.compute(matcher, false),
            other => other,
        };
    }

    fn compute(&self, matcher: Box<Matcher>, may_be_forced: bool) -> State {
        let work = move || find_next(matcher, may_be_forced);
        State::Computing(self.vocabulary.worker().run(work))
    }

    /// Returns the tokens that must come next, none if there is a choice. If the text is
    /// complete and nothing can follow, it is the token that ends it.
    ///
    /// # Errors
    /// [`SamplerError::GrammarStopped`] if the text has ended, if it is complete and no token
    /// can end it, or if the grammar has become too complex to go on; or an earlier error.
    pub fn forced(&mut self) -> Result<Vec<u32>, SamplerError> {
        self.state = match self.take() {
            State::Open(matcher) => match find_forced(matcher) {
                Ok((matcher, Some(next))) => State::Known(matcher, next),
                Ok((matcher, None)) => State::Free(matcher),
                Err(error) => State::Failed(error),
            },
            State::Computing(found) => join(&found),
            other => other,
        };
        match &self.state {
            State::Known(_, Next::Forced(tokens)) => Ok(tokens.clone()),
            State::Known(_, Next::End) => match self.vocabulary.ends().first() {
                Some(&end) => Ok(vec![end]),
                None => Err(stopped("the text is complete, and no token ends it")),
            },
            State::Known(_, Next::OneOf(_)) | State::Free(_) => Ok(Vec::new()),
            _ => Err(self.error()),
        }
    }

    /// Returns what comes next.
    ///
    /// # Errors
    /// [`SamplerError::GrammarStopped`] if the text has ended or if the grammar has become too
    /// complex to go on; or an earlier error.
    pub fn upcoming(&mut self) -> Result<&Next, SamplerError> {
        let found = match self.take() {
            State::Open(matcher) => find_next(matcher, true),
            State::Free(matcher) => find_next(matcher, false),
            State::Computing(found) => {
                self.state = join(&found);
                return self.known();
            }
            other => {
                self.state = other;
                return self.known();
            }
        };
        self.state =
            found.map_or_else(State::Failed, |(matcher, next)| State::Known(matcher, next));
        self.known()
    }

    fn known(&self) -> Result<&Next, SamplerError> {
        match &self.state {
            State::Known(_, next) => Ok(next),
            _ => Err(self.error()),
        }
    }

    /// Returns whether the text is complete and nothing but its end can follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match &self.state {
            State::Open(matcher) | State::Free(matcher) => is_over(matcher),
            State::Known(_, next) => matches!(next, Next::End),
            State::Ended => true,
            State::Computing(_) | State::Failed(_) => false,
        }
    }

    /// Goes on by a token.
    ///
    /// # Errors
    /// [`SamplerError::GrammarStopped`] if the token may not come next, or an earlier error.
    pub fn accept(&mut self, token: u32) -> Result<(), SamplerError> {
        self.advance(&[token])
    }

    /// Goes on by bytes that some token had beside what came before the grammar.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_bytes(&mut self, bytes: &[u8]) -> Result<(), SamplerError> {
        let env = self.vocabulary.factory()?.tok_env().clone();
        self.advance(&env.tokenize_bytes(bytes))
    }

    fn advance(&mut self, tokens: &[u32]) -> Result<(), SamplerError> {
        if matches!(self.state, State::Computing(_)) {
            self.upcoming()?;
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        self.state = match self.take() {
            State::Open(matcher) | State::Free(matcher) | State::Known(matcher, _)
                if is_over(&matcher) =>
            {
                match tokens {
                    [token] if vocabulary.ends().contains(token) => State::Ended,
                    _ => State::Failed(stopped("the text is complete, and nothing can follow")),
                }
            }
            State::Open(mut matcher) | State::Free(mut matcher) | State::Known(mut matcher, _) => {
                match matcher.consume_tokens(tokens) {
                    Ok(()) if matcher.stop_reason() == StopReason::EndOfSentence => State::Ended,
                    Ok(()) => State::Open(matcher),
                    Err(error) => State::Failed(stopped(&error.to_string())),
                }
            }
            State::Ended => State::Failed(stopped("the text has ended")),
            other => other,
        };
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Returns the state, which has to be set again.
    fn take(&mut self) -> State {
        mem::replace(&mut self.state, State::Failed(lost()))
    }

    fn error(&self) -> SamplerError {
        match &self.state {
            State::Failed(error) => error.clone(),
            State::Ended => stopped("the text has ended"),
            _ => lost(),
        }
    }
}

fn join(found: &Receiver<Found>) -> State {
    match found.recv() {
        Ok(Ok((matcher, next))) => State::Known(matcher, next),
        Ok(Err(error)) => State::Failed(error),
        Err(_) => State::Failed(lost()),
    }
}

/// Whether nothing but the end can follow.
fn is_over(matcher: &Matcher) -> bool {
    matcher.is_stopped() && matcher.stop_reason().is_ok()
}

/// Finds out whether what comes next is forced, which takes no mask.
fn find_forced(mut matcher: Box<Matcher>) -> Result<(Box<Matcher>, Option<Next>), SamplerError> {
    if is_over(&matcher) {
        return Ok((matcher, Some(Next::End)));
    }
    let forced = matcher.compute_ff_tokens();
    match matcher.get_error() {
        Some(error) => Err(stopped(&error)),
        None if forced.is_empty() => Ok((matcher, None)),
        None => Ok((matcher, Some(Next::Forced(forced)))),
    }
}

/// Finds out what comes next.
pub(super) fn find_next(matcher: Box<Matcher>, may_be_forced: bool) -> Found {
    let mut matcher = match may_be_forced {
        false => matcher,
        true => match find_forced(matcher)? {
            (matcher, Some(next)) => return Ok((matcher, next)),
            (matcher, None) => matcher,
        },
    };
    match matcher.compute_mask() {
        Ok(tokens) => Ok((matcher, Next::OneOf(TokenMask { tokens }))),
        Err(error) => Err(stopped(&error.to_string())),
    }
}

fn stopped(error: &str) -> SamplerError {
    SamplerError::GrammarStopped { what: said(error) }
}

fn lost() -> SamplerError {
    stopped("what computes ahead broke off")
}
