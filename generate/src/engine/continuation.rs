//! One continuation: what is drawn, what it says, and when it is over.

use sampler::{LogSoftmax, SamplerChain};
use tokenizer::Tokenizer;

use super::{Event, Generate, Guide, TokenScore};
use crate::{FinishReason, GenerateError, TextStream};

/// What a request to generate has come to.
#[derive(Debug)]
pub(super) struct Continuation {
    chain: SamplerChain,
    stop_tokens: Vec<u32>,
    n_left: Option<usize>,
    text: TextStream,
    n_top: Option<usize>,
    pub(super) n_top_prompt: Option<usize>,
    guide: Option<Box<dyn Guide>>,
    scores: Vec<f32>,
    pub(super) n_generated: usize,
}

impl Continuation {
    pub(super) fn new(
        generate: Generate,
        prompt: &[u32],
        n_vocab: usize,
    ) -> Result<Self, GenerateError> {
        let mut chain = SamplerChain::new(generate.config.sampler, n_vocab)?;
        prompt.iter().for_each(|&token| chain.accept(token));
        Ok(Self {
            chain,
            stop_tokens: generate.config.stop_tokens,
            n_left: generate.config.n_predict,
            text: TextStream::new(&generate.text)?,
            n_top: generate.n_top,
            n_top_prompt: generate.n_top_prompt,
            guide: generate.guide,
            scores: Vec::new(),
            n_generated: 0,
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
        if self.n_left == Some(0) {
            tell(self.finished(FinishReason::Length));
            return Ok(false);
        }
        let mut next = self.forced()?;
        if next.is_empty() {
            next.push(self.draw(logits)?);
        }
        while !next.is_empty() {
            for token in next {
                if let Some(guide) = &mut self.guide {
                    guide.accept(token, tokenizer.token_bytes(token).unwrap_or_default())?;
                }
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
        Ok(true)
    }

    /// Returns what must come next: one token where it is to be scored.
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        let Some(guide) = &mut self.guide else {
            return Ok(Vec::new());
        };
        let mut forced = guide.forced()?;
        if self.n_top.is_some() {
            forced.truncate(1);
        }
        Ok(forced)
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

    fn draw(&mut self, logits: &[f32]) -> Result<u32, GenerateError> {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        if let Some(guide) = &mut self.guide {
            guide.mask(&mut self.scores)?;
        }
        Ok(self.chain.sample(&mut self.scores)?)
    }

    /// Takes a token, tells about it, and returns why it was the last, if it was.
    fn take(
        &mut self,
        token: u32,
        logits: &[f32],
        tokenizer: &Tokenizer,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<FinishReason>, GenerateError> {
        self.chain.accept(token);
        self.n_generated += 1;
        if self.stop_tokens.contains(&token) {
            return Ok(Some(FinishReason::StopToken(token)));
        }
        let score = self.n_top.map(|n_top| score(logits, token, n_top));
        tell(Event::Token {
            token,
            text: self.text.push(tokenizer, token),
            score: score.transpose()?,
        });
        self.n_left = self.n_left.map(|n| n.saturating_sub(1));
        let is_enough = self.n_left == Some(0);
        let length = is_enough.then_some(FinishReason::Length);
        Ok(self.text.stopped().or(length))
    }

    fn finished(&mut self, reason: FinishReason) -> Event {
        let text = self.text.finish();
        Event::Finished { reason, text }
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
