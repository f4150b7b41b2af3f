//! A request that is being worked on.

use moe_model::{KvCache, Outputs, Span};
use quant_kernels::KV_BLOCK;

use super::{Event, EventSink, SlotStatus, Task, continuation::Continuation, handle::Submission};
use crate::{
    CancelFlag, FinishReason, GenerateError, Progress,
    prefix_cache::{Cursor, Found, PrefixCache},
};

/// Tokens of a step of which logits are asked one and all: more would take much memory.
const SCORED_PIECE: usize = 32;

/// A sequence, what is to become of it, and who wants to know.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    cancel: CancelFlag,
    sink: Sink,
    cache: KvCache,
    use_cache: bool,
    cursor: Cursor,
    n_prompt: usize,
    n_cached: usize,
    /// The prompt and what was generated. Those that are not in the cache are pending.
    tokens: Vec<u32>,
    work: Work,
    /// The last step in which it had a share of the room.
    pub(super) last_share: u64,
}

/// What becomes of the prompt.
#[derive(Debug)]
enum Work {
    Generate(Box<Continuation>),
    /// The sum of the hidden states so far `[E]`.
    Embed(Vec<f64>),
}

/// Where events go, and whether anybody still listens.
struct Sink {
    sink: Box<dyn EventSink>,
    is_open: bool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sink = f.debug_struct("Sink");
        sink.field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl Sink {
    fn tell(&mut self, event: Event) {
        self.is_open = self.is_open && self.sink.send(event);
    }
}

impl Slot {
    /// Begins to work on a request, with what is remembered of its prompt.
    ///
    /// # Errors
    /// It cannot be worked on, which its listener has been told; where it stood among what is
    /// remembered is returned.
    pub(super) fn begin(
        submission: Submission,
        mut cache: KvCache,
        found: Found,
        n_vocab: usize,
        n_embd: usize,
    ) -> Result<Self, Cursor> {
        let Submission {
            id,
            request,
            cancel,
            mut sink,
            blocks: _,
        } = submission;
        let work = match request.task {
            Task::Embed => Ok(Work::Embed(vec![0.0; n_embd])),
            Task::Generate(generate) => Continuation::new(*generate, &request.prompt, n_vocab)
                .map(|continuation| Work::Generate(Box::new(continuation))),
        };
        let restored = match found.len {
            0 => Ok(()),
            len => cache
                .restore(found.blocks, len)
                .map_err(GenerateError::from),
        };
        let work = match restored.and(work) {
            Ok(work) => work,
            Err(error) => {
                sink.send(Event::Failed(error));
                return Err(found.cursor);
            }
        };
        let n_prompt = request.prompt.len();
        let mut slot = Self {
            id,
            cancel,
            sink: Sink {
                sink,
                is_open: true,
            },
            cache,
            use_cache: request.use_cache,
            cursor: found.cursor,
            n_prompt,
            n_cached: found.len,
            tokens: request.prompt,
            work,
            last_share: 0,
        };
        slot.sink.tell(Event::Started {
            n_prompt,
            n_cached: found.len,
            miss: found.miss,
        });
        Ok(slot)
    }

    /// Returns whether nobody wants the answer any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || !self.sink.is_open
    }

    /// Returns the flag that says so.
    pub(super) const fn cancel_flag(&self) -> &CancelFlag {
        &self.cancel
    }

    /// Returns whether the prompt is not yet computed.
    pub(super) fn is_prompting(&self) -> bool {
        self.cache.len() < self.n_prompt
    }

    /// Returns whether what is computed of it is remembered.
    pub(super) const fn is_remembered(&self) -> bool {
        self.use_cache
    }

    /// Returns the tokens of the prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.n_prompt]
    }

    /// Returns how many tokens could go into a step.
    pub(super) fn n_pending(&self) -> usize {
        let n = self.tokens.len() - self.cache.len();
        match self.scores_prompt() {
            true => n.min(SCORED_PIECE),
            false => n,
        }
    }

    fn scores_prompt(&self) -> bool {
        let Work::Generate(continuation) = &self.work else {
            return false;
        };
        self.is_prompting() && continuation.n_top_prompt.is_some()
    }

    /// Returns what takes the next `n` tokens into a step.
    pub(super) fn span(&mut self, n: usize) -> Span<'_> {
        let outputs = self.outputs(n);
        let first = self.cache.len();
        Span {
            cache: &mut self.cache,
            tokens: &self.tokens[first..first + n],
            outputs,
        }
    }

    fn outputs(&self, n: usize) -> Outputs {
        let is_last = self.cache.len() + n == self.tokens.len();
        match self.work {
            Work::Embed(_) => Outputs::None,
            Work::Generate(_) if self.scores_prompt() => Outputs::All,
            Work::Generate(_) if is_last => Outputs::Last,
            Work::Generate(_) => Outputs::None,
        }
    }

    /// Returns the sum of the hidden states so far, nothing if they are not summed.
    pub(super) fn hidden_sum(&self) -> Vec<f64> {
        match &self.work {
            Work::Embed(sum) => sum.clone(),
            Work::Generate(_) => Vec::new(),
        }
    }

    /// Takes in a step: `n` more tokens are in the cache and `logits` are what was asked for.
    /// `hidden` is the sum of all hidden states up to here, if they are summed. Returns whether there is more to do.
    pub(super) fn advance(
        &mut self,
        n: usize,
        logits: &[f32],
        hidden: &[f64],
        context: &StepContext<'_>,
    ) -> bool {
        let first = self.cache.len() - n;
        match self.try_advance(first, logits, hidden, context) {
            Ok(is_open) => is_open,
            Err(error) => {
                self.sink.tell(Event::Failed(error));
                false
            }
        }
    }

    fn try_advance(
        &mut self,
        first: usize,
        logits: &[f32],
        hidden: &[f64],
        context: &StepContext<'_>,
    ) -> Result<bool, GenerateError> {
        let (n_done, n_vocab) = (self.cache.len(), context.n_vocab);
        if first < self.n_prompt {
            let done = n_done.min(self.n_prompt) - self.n_cached;
            let n_total = self.n_prompt - self.n_cached;
            self.sink.tell(Event::Prefill(Progress {
                n_done: done,
                n_total,
            }));
        }
        let is_ready = n_done == self.tokens.len();
        match &mut self.work {
            Work::Embed(sum) => {
                sum.copy_from_slice(hidden);
                if is_ready {
                    let mean = sum.iter().map(|&sum| (sum / self.n_prompt as f64) as f32);
                    self.sink.tell(Event::Embedding(mean.collect()));
                }
                Ok(!is_ready)
            }
            Work::Generate(continuation) => {
                if first < self.n_prompt
                    && let Some(n_top) = continuation.n_top_prompt
                {
                    let scored = first + 1..self.n_prompt.min(n_done + 1);
                    let tokens = &self.tokens[scored];
                    let scores = continuation.score_prompt(logits, n_vocab, tokens, n_top)?;
                    self.sink.tell(Event::PromptScores(scores));
                }
                if !is_ready {
                    return Ok(true);
                }
                if first < self.n_prompt {
                    self.sink.tell(Event::PrefillDone);
                }
                let last = &logits[logits.len() - n_vocab..];
                continuation.advance(
                    last,
                    context.tokenizer,
                    self.cache.n_ctx(),
                    &mut self.tokens,
                    &mut |event| self.sink.tell(event),
                )
            }
        }
    }

    /// Has what a step of `n` tokens has added remembered: complete blocks, and at the end of
    /// the prompt the last one too, for others that wait for the same prompt.
    pub(super) fn remember_new(&mut self, n: usize, prefixes: &mut PrefixCache) {
        let (first, end) = (self.cache.len() - n, self.cache.len());
        let is_prompt_done = first < self.n_prompt && end >= self.n_prompt;
        if first / KV_BLOCK != end / KV_BLOCK || is_prompt_done {
            self.remember(prefixes, is_prompt_done);
        }
    }

    /// Has the sequence remembered, with `tail` also the last block, which is not full.
    pub(super) fn remember(&mut self, prefixes: &mut PrefixCache, tail: bool) {
        if self.use_cache {
            let computed = &self.tokens[..self.cache.len()];
            prefixes.remember(&mut self.cursor, computed, &mut self.cache, tail);
        }
    }

    /// Leaves the place among what is remembered.
    pub(super) fn leave(&mut self, prefixes: &mut PrefixCache) {
        prefixes.leave(std::mem::take(&mut self.cursor));
    }

    /// Ends a request that nobody wants any more.
    pub(super) fn end_cancelled(&mut self) {
        self.sink.tell(Event::Finished {
            reason: FinishReason::Cancelled,
            text: String::new(),
            score: None,
        });
    }

    /// Ends a request of which a step failed.
    pub(super) fn fail(&mut self, error: GenerateError) {
        self.sink.tell(Event::Failed(error));
    }

    pub(super) fn status(&self) -> SlotStatus {
        SlotStatus {
            id: self.id,
            n_prompt: self.n_prompt,
            n_prompt_done: self.cache.len().min(self.n_prompt),
            n_generated: self.n_generated(),
        }
    }

    pub(super) fn n_generated(&self) -> usize {
        match &self.work {
            Work::Generate(continuation) => continuation.n_generated,
            Work::Embed(_) => 0,
        }
    }
}

/// What all slots need to go on.
#[derive(Debug)]
pub(super) struct StepContext<'a> {
    pub(super) tokenizer: &'a tokenizer::Tokenizer,
    pub(super) n_vocab: usize,
}
