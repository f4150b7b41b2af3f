//! Many requests on one model, in passes that they share.
//!
//! An [`Engine`] works in steps, each one forward pass over several sequences: one token of
//! every request that generates, and pieces of the prompts of those that have just come. So
//! requests join and leave between steps, and a long prompt delays the others by no more than
//! the time that a step may take. What was computed of a request stays in a prefix cache for
//! those that begin alike; a request waits in the queue while what it needs of it is read from
//! disk, and nobody else does.
//!
//! Nothing of this changes an answer: the logits at a position depend on the tokens before it
//! and on nothing else, and each request draws with random numbers of its own.

mod budget;
mod continuation;
mod event;
mod handle;
mod request;
mod slot;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use moe_model::{KvCache, LayerView, Model, ModelError, Workspace, forward_batch};
use quant_kernels::{Cpu, KvType, Norm};
use tokenizer::Tokenizer;

use self::{
    budget::Budget,
    handle::{Limits, Submission},
    slot::{Slot, StepContext},
};
use crate::{
    GenerateError,
    prefix_cache::{Found, PrefixCache},
};

pub use event::{CacheMiss, Event, EventSink, TokenScore};
pub use handle::{EngineHandle, EngineStatus, SlotStatus, SubmitError, Ticket};
pub use request::{Generate, Guide, Request, Task};

/// How long a step with nothing to do but to wait for the disk does so, before it looks again
/// whether anybody still wants what it waits for.
const DISK_WAIT: Duration = Duration::from_millis(50);

/// How an engine is made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Requests that are worked on at a time.
    pub n_parallel: usize,
    /// Requests that may wait.
    pub queue_len: usize,
    /// Positions that each request may have.
    pub n_ctx: usize,
    /// How keys are stored.
    pub keys: KvType,
    /// How values are stored.
    pub values: KvType,
    /// The most tokens of a step.
    pub batch_len: usize,
    /// What a step with both prompts and running answers should take at most: the time by
    /// which a prompt delays the next token of others.
    pub step_time: Duration,
    /// Bytes of keys and values that are remembered beside those in use.
    pub cache_bytes: u64,
    /// Where they are kept across restarts, if anywhere.
    pub disk: Option<DiskCacheOptions>,
}

/// Where keys and values are kept across restarts.
#[derive(Clone, Debug)]
pub struct DiskCacheOptions {
    /// The folder. It is made if it is not there, for its owner alone: the tokens of prompts lie
    /// in it.
    pub folder: PathBuf,
    /// The most bytes in it.
    pub max_bytes: u64,
    /// What tells this model's from others': a hash of its weights and tokenizer.
    pub model: String,
    /// Is told why a file could not be written or removed, on the thread that writes; of a disk
    /// that stays full only once, and again when one could be written meanwhile.
    pub on_failure: fn(&io::Error),
}

/// How a request goes on in a step.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Index of its slot.
    slot: usize,
    n_tokens: usize,
    /// Those of them that take room: all but one of a request that generates.
    n_beside: usize,
}

/// Many requests on one model.
pub struct Engine<'m> {
    cpu: &'m Cpu,
    model: &'m Model<'m>,
    tokenizer: &'m Tokenizer,
    options: EngineOptions,
    clock: Box<dyn Fn() -> Duration + Send + 'm>,
    handle: EngineHandle,
    workspace: Workspace,
    budget: Budget,
    prefixes: PrefixCache,
    /// The requests being worked on, in the order in which they came.
    slots: Vec<Slot>,
    status: EngineStatus,
}

impl fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl<'m> Engine<'m> {
    /// Makes an engine that has nothing to do. `clock` tells the time since some moment: it is
    /// how long a step takes that decides how many tokens of prompts the next one has.
    ///
    /// # Errors
    /// A setting is out of its range, the cache cannot have the model's shape, or the folder
    /// of the cache cannot be used.
    pub fn new(
        cpu: &'m Cpu,
        model: &'m Model<'m>,
        tokenizer: &'m Tokenizer,
        options: EngineOptions,
        clock: Box<dyn Fn() -> Duration + Send + 'm>,
    ) -> Result<Self, GenerateError> {
        let EngineOptions {
            n_parallel,
            queue_len,
            batch_len,
            ..
        } = options;
        at_least("n_parallel", n_parallel, 1)?;
        at_least("queue_len", queue_len, 1)?;
        at_least("batch_len", batch_len, n_parallel)?;
        let like = KvCache::new(model, options.n_ctx, options.keys, options.values)?;
        let limits = Limits {
            n_ctx: options.n_ctx,
            n_vocab: model.config().n_vocab,
            queue_len,
        };
        Ok(Self {
            cpu,
            model,
            tokenizer,
            clock,
            handle: EngineHandle::new(limits),
            workspace: Workspace::new(model, batch_len)?,
            budget: Budget::new(batch_len, options.step_time),
            prefixes: PrefixCache::new(&like, options.cache_bytes, options.disk.as_ref())?,
            slots: Vec::with_capacity(n_parallel),
            status: EngineStatus::default(),
            options,
        })
    }

    /// Returns what gives requests to this engine.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Returns whether another engine, in another process perhaps, has the folder of the cache
    /// on disk: this one then works as if it had been given none.
    #[must_use]
    pub const fn is_disk_taken(&self) -> bool {
        self.options.disk.is_some() && self.prefixes.disk().is_none()
    }

    /// Works until the handle drains and nothing is left, asleep while there is nothing to do.
    pub fn run(&mut self) {
        loop {
            if self.step() {
                continue;
            }
            if self.handle.shared().is_over() {
                return;
            }
            self.handle.shared().wait();
        }
    }

    /// Does one forward pass for all requests there are, or waits a moment for the disk if that
    /// is what all of them wait for. Returns false if there was nothing to do.
    pub fn step(&mut self) -> bool {
        self.prefixes.take_in();
        self.end_cancelled();
        let is_disk_awaited = self.admit();
        let plan = self.plan();
        if !plan.is_empty() {
            self.pass(&plan);
        }
        self.prefixes.shrink();
        self.tell_status();
        if plan.is_empty() && is_disk_awaited {
            // Nothing shrinks before the next step holds what comes now.
            self.prefixes.take_in_next(DISK_WAIT);
        }
        !plan.is_empty() || is_disk_awaited
    }

    /// Ends what nobody wants any more.
    fn end_cancelled(&mut self) {
        self.end(|slot| {
            let is_cancelled = slot.is_cancelled();
            if is_cancelled {
                slot.end_cancelled();
            }
            is_cancelled
        });
    }

    /// Takes slots out of which `is_over`, and has their sequences remembered.
    fn end(&mut self, mut is_over: impl FnMut(&mut Slot) -> bool) {
        let mut idx = 0;
        while idx < self.slots.len() {
            if is_over(&mut self.slots[idx]) {
                let mut slot = self.slots.remove(idx);
                slot.remember(&mut self.prefixes, true);
                slot.leave(&mut self.prefixes);
                self.status.n_ended += 1;
            } else {
                idx += 1;
            }
        }
    }

    /// Gives free slots to those who wait, first come first. Who would compute what another
    /// one is computing just now waits for it instead, and for who needs what lies on disk a
    /// slot is kept until it is read. Returns whether there is somebody of those.
    fn admit(&mut self) -> bool {
        let shared = Arc::clone(self.handle.shared());
        let (mut idx, mut n_kept) = (0, 0);
        while self.slots.len() + n_kept < self.options.n_parallel {
            let mut state = shared.lock();
            let Some(waiting) = state.queue.get_mut(idx) else {
                break;
            };
            let known_part = waiting.request.known_part();
            if known_part.is_some_and(|prompt| self.is_in_the_making(prompt)) {
                idx += 1;
            } else if known_part
                .is_some_and(|prompt| !self.prefixes.bring(prompt, &mut waiting.blocks))
            {
                idx += 1;
                n_kept += 1;
            } else if let Some(submission) = state.queue.remove(idx) {
                drop(state);
                self.begin(submission);
            }
        }
        n_kept > 0
    }

    /// Whether another prompt that is being computed, and will be remembered, shares more with
    /// this one than is known.
    fn is_in_the_making(&self, prompt: &[u32]) -> bool {
        let n_shared = |slot: &Slot| {
            let pairs = slot.prompt().iter().zip(prompt);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let slots = self.slots.iter();
        let making = slots.filter(|slot| slot.is_prompting() && slot.is_remembered());
        let most = making.map(n_shared).max().unwrap_or_default();
        most > self.prefixes.n_known(prompt)
    }

    fn begin(&mut self, mut submission: Submission) {
        let EngineOptions {
            n_ctx,
            keys,
            values,
            ..
        } = self.options;
        let request = &submission.request;
        let known_part = request.known_part();
        let found = known_part.map_or_else(Found::default, |prompt| self.prefixes.find(prompt));
        self.status.n_prompt_tokens += request.prompt.len() as u64;
        self.status.n_looked_up_tokens += known_part.map_or(0, <[u32]>::len) as u64;
        self.status.n_cached_tokens += found.len as u64;
        match KvCache::new(self.model, n_ctx, keys, values) {
            Ok(cache) => {
                let config = self.model.config();
                let (n_vocab, n_embd) = (config.n_vocab, config.n_embd);
                match Slot::begin(submission, cache, found, n_vocab, n_embd) {
                    Ok(slot) => self.slots.push(slot),
                    Err(cursor) => {
                        self.prefixes.leave(cursor);
                        self.status.n_ended += 1;
                    }
                }
            }
            Err(error) => {
                submission.sink.send(Event::Failed(error.into()));
                self.prefixes.leave(found.cursor);
                self.status.n_ended += 1;
            }
        }
    }

    /// Decides by how many tokens each slot goes on: one if it generates, and beside that its
    /// share of the room for what it has pending. A guide may have forced many tokens.
    fn plan(&self) -> Vec<Piece> {
        let own = |slot: usize| usize::from(!self.slots[slot].is_prompting());
        let n_slots = self.slots.len();
        let room = self.budget.room(n_slots, (0..n_slots).map(own).sum());
        let mut order: Vec<_> = (0..n_slots).collect();
        order.sort_by_key(|&slot| self.slots[slot].last_share);
        let pending = order
            .iter()
            .map(|&slot| self.slots[slot].n_pending() - own(slot));
        let shares = budget::divide(room, &pending.collect::<Vec<_>>());
        let pieces = order.into_iter().zip(shares).map(|(slot, n_beside)| Piece {
            slot,
            n_tokens: own(slot) + n_beside,
            n_beside,
        });
        let mut plan: Vec<_> = pieces.filter(|piece| piece.n_tokens > 0).collect();
        plan.sort_unstable_by_key(|piece| piece.slot);
        plan
    }

    /// Does a forward pass and gives everybody what is theirs.
    fn pass(&mut self, plan: &[Piece]) {
        let begin = (self.clock)();
        self.status.n_steps += 1;
        match self.forward(plan) {
            Ok(ended) => self.end(|slot| ended.contains(&slot.id)),
            // Who made it stop is found at the next step, and everybody is as before.
            Err(ModelError::Stopped { .. }) => {
                self.budget.stopped();
                return;
            }
            Err(ModelError::Sequence { idx, source }) => {
                let failed = self.slots[plan[idx].slot].id;
                let mut error = Some(GenerateError::from(*source));
                self.end(|slot| {
                    let error = error.take_if(|_| slot.id == failed);
                    error.map(|error| slot.fail(error)).is_some()
                });
                return;
            }
            Err(error) => {
                let what = error.to_string();
                self.end(|slot| {
                    slot.fail(GenerateError::Pass { what: what.clone() });
                    true
                });
                return;
            }
        }
        let n_beside = plan.iter().map(|piece| piece.n_beside).sum();
        let took = (self.clock)().saturating_sub(begin);
        self.budget.learn(n_beside, took);
    }

    /// Does a forward pass, and returns the ids of the requests that have come to their end.
    fn forward(&mut self, plan: &[Piece]) -> Result<Vec<u64>, ModelError> {
        let sum = |of: fn(&Piece) -> usize| plan.iter().map(of).sum::<usize>();
        let n_tokens = sum(|piece| piece.n_tokens);
        let is_long = sum(|piece| piece.n_beside) > self.budget.in_time();
        let flags = self.slots.iter().map(|slot| slot.cancel_flag().clone());
        let mut cancels: Vec<_> = flags.map(|cancel| (cancel, 0)).collect();
        let (mut sums, mut spans) = (Vec::new(), Vec::with_capacity(plan.len()));
        let mut slots = self.slots.iter_mut().enumerate();
        for piece in plan {
            cancels[piece.slot].1 = piece.n_tokens;
            if let Some((_, slot)) = slots.find(|(idx, _)| *idx == piece.slot) {
                sums.push(slot.hidden_sum());
                spans.push(slot.span(piece.n_tokens));
            }
        }
        let mut hidden_states = HiddenStates::new(self.cpu, self.model);
        let mut observer = |view: LayerView<'_>| {
            hidden_states.add(&view, &mut sums);
            let cancelled = cancels.iter().filter(|(cancel, _)| cancel.is_cancelled());
            let [n_cancelled, n_lost] =
                cancelled.fold([0, 0], |[n, lost], (_, n_tokens)| [n + 1, lost + n_tokens]);
            // A pass that is mostly for nobody is not worth its end, and in a long one nobody
            // who leaves is kept.
            if 2 * n_lost >= n_tokens || (is_long && n_cancelled > 0) {
                view.stop();
            }
        };
        let logits = forward_batch(
            self.cpu,
            self.model,
            &mut self.workspace,
            &mut spans,
            &mut observer,
        )?;
        drop(spans);
        let context = StepContext {
            tokenizer: self.tokenizer,
            n_vocab: self.model.config().n_vocab,
        };
        let mut ended = Vec::new();
        for (span, (piece, sum)) in plan.iter().zip(&sums).enumerate() {
            let slot = &mut self.slots[piece.slot];
            if piece.n_beside > 0 {
                slot.last_share = self.status.n_steps;
            }
            let n_before = slot.n_generated();
            if slot.advance(piece.n_tokens, logits.of(span), sum, &context) {
                slot.remember_new(piece.n_tokens, &mut self.prefixes);
            } else {
                ended.push(slot.id);
            }
            self.status.n_generated_tokens += (slot.n_generated() - n_before) as u64;
        }
        Ok(ended)
    }

    fn tell_status(&mut self) {
        let mut slots: Vec<_> = self.slots.iter().map(|slot| Some(slot.status())).collect();
        slots.resize(self.options.n_parallel, None);
        self.status.slots = slots;
        self.status.cache_bytes = self.prefixes.n_bytes();
        self.status.n_remembered_tokens = self.prefixes.n_tokens();
        if let Some(disk) = self.prefixes.disk() {
            self.status.disk_bytes = disk.n_bytes();
            self.status.n_disk_failures = disk.n_failed();
        }
        self.handle.shared().set_status(&self.status);
    }
}

/// Adds up hidden states after the final norm, in the order of the tokens.
struct HiddenStates<'a> {
    cpu: &'a Cpu,
    norm: Norm<'a>,
    last_layer: usize,
    normed: Vec<f32>,
}

impl<'a> HiddenStates<'a> {
    fn new(cpu: &'a Cpu, model: &'a Model<'_>) -> Self {
        let config = model.config();
        Self {
            cpu,
            norm: Norm {
                weight: &model.weights().output_norm,
                eps: config.rms_eps,
            },
            last_layer: config.n_layer - 1,
            normed: vec![0.0; config.n_embd],
        }
    }

    /// Adds the rows of a batch to the sums of their sequences, where there is one.
    fn add(&mut self, view: &LayerView<'_>, sums: &mut [Vec<f64>]) {
        if view.layer != self.last_layer {
            return;
        }
        let rows = view.hidden.chunks_exact(self.normed.len());
        for (place, row) in view.places.iter().zip(rows) {
            let sum = &mut sums[place.span];
            if !sum.is_empty() {
                self.cpu.isa().rms_norm(row, self.norm, &mut self.normed);
                let pairs = sum.iter_mut().zip(&self.normed);
                pairs.for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
    }
}

fn at_least(option: &'static str, found: usize, expected: usize) -> Result<(), GenerateError> {
    if found >= expected {
        return Ok(());
    }
    Err(GenerateError::EngineOption {
        option,
        expected,
        found,
    })
}
