//! One continuation: what is drawn, what it says, and when it is over.

use std::collections::VecDeque;

use sampler::LogSoftmax;
use tokenizer::Tokenizer;

use super::{Event, Generate, TokenScore};
use crate::{FinishReason, GenerateError, TextStream, chooser::Chooser};

/// What a request to generate has come to.
#[derive(Debug)]
pub(super) struct Continuation {
    chooser: Chooser,
    text: TextStream,
    /// What the guide has forced and what is not taken yet: where tokens are scored, each
    /// waits for the logits at its place.
    forced: VecDeque<u32>,
    n_top: Option<usize>,
    pub(super) n_top_prompt: Option<usize>,
    pub(super) n_generated: usize,
    /// Of the token that ended it.
    end_score: Option<TokenScore>,
}

impl Continuation {
    pub(super) fn new(
        generate: Generate,
        prompt: &[u32],
        n_vocab: usize,
    ) -> Result<Self, GenerateError> {
        Ok(Self {
            chooser: Chooser::new(generate.config, generate.guide, prompt, n_vocab)?,
            text: TextStream::new(&generate.text)?,
            forced: VecDeque::new(),
            n_top: generate.n_top,
            n_top_prompt: generate.n_top_prompt,
            n_generated: 0,
            end_score: None,
        })
    }

    /// Goes on after `logits`: appends the next token, or those that must come next, to
    /// `tokens` and tells `tell`. Returns whether there is more to come. No more than `n_ctx`
    /// tokens can have a successor.
    pub(super) fn advance(
        &mut self,
        logits: &[f32],
        tokenizer: &Tokenizer,
        n_ctx: usize,
        tokens: &mut Vec<u32>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<bool, GenerateError> {
        if self.chooser.is_enough() {
            tell(self.finished(FinishReason::Length));
            return Ok(false);
        }
        let mut next = self.forced()?;
        if next.is_empty() {
            next.push(self.chooser.draw(logits)?);
        }
        while !next.is_empty() {
            for token in next {
                let ended = self.take(token, logits, tokenizer, tell)?;
                tokens.push(token);
                let is_full = tokens.len() > n_ctx;
                let ended = ended.or(is_full.then_some(FinishReason::ContextFull));
                if let Some(reason) = ended {
                    tell(self.finished(reason));
                    return Ok(false);
                }
            }
            if self.n_top.is_some() {
                // The next one is scored by the logits at its place, which are not there yet.
                break;
            }
            next = self.forced()?;
        }
        if self.forced.is_empty() {
            self.chooser.prepare();
        }
        Ok(true)
    }

    /// Returns what must come next: one token where it is to be scored.
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        if self.forced.is_empty() {
            self.forced.extend(self.chooser.forced()?);
        }
        let n = match self.n_top {
            Some(_) => self.forced.len().min(1),
            None => self.forced.len(),
        };
        Ok(self.forced.drain(..n).collect())
    }

    /// Scores the tokens of a prompt: `logits` `[n, V]` are those before each of `tokens` `[n]`.
    pub(super) fn score_prompt(
        &self,
        logits: &[f32],
        n_vocab: usize,
        tokens: &[u32],
        n_top: usize,
    ) -> Result<Vec<TokenScore>, GenerateError> {
        let rows = logits.chunks_exact(n_vocab).zip(tokens);
        rows.map(|(row, &token)| score(row, token, n_top)).collect()
    }

    /// Takes a token, tells about it, and returns why it was the last, if it was.
    fn take(
        &mut self,
        token: u32,
        logits: &[f32],
        tokenizer: &Tokenizer,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<FinishReason>, GenerateError> {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        let ended = self.chooser.take(token, bytes)?;
        self.n_generated += 1;
        let score = self.n_top.map(|n_top| score(logits, token, n_top));
        let score = score.transpose()?;
        if matches!(ended, Some(FinishReason::StopToken(_))) {
            self.end_score = score;
            return Ok(ended);
        }
        tell(Event::Token {
            token,
            text: self.text.push(tokenizer, token),
            score,
        });
        Ok(self.text.stopped().or(ended))
    }

    fn finished(&mut self, reason: FinishReason) -> Event {
        let text = self.text.finish();
        let score = self.end_score.take();
        Event::Finished {
            reason,
            text,
            score,
        }
    }
}

fn score(logits: &[f32], token: u32, n_top: usize) -> Result<TokenScore, GenerateError> {
    let table = LogSoftmax::new(logits)?;
    Ok(TokenScore {
        id: token,
        logprob: table.logprob(token).unwrap_or(f64::NEG_INFINITY),
        top: match n_top {
            0 => Vec::new(),
            n => table.top(n),
        },
    })
}
