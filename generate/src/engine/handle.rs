//! The side of an engine that others hold: a bounded queue and a look at what goes on.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use quant_kernels::KvBlock;
use sampler::StopRules;
use thiserror::Error;

use super::{Event, EventSink, Request, Task};
use crate::{CancelFlag, FinishReason, GenerateError};

/// Gives requests to an engine, from any thread.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

/// A request that was accepted. Dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    id: u64,
    cancel: CancelFlag,
    shared: Arc<Shared>,
}

/// Why a request was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many requests wait as may.
    #[error("{n_waiting} requests are waiting already, which is the limit")]
    QueueFull {
        /// Requests in the queue.
        n_waiting: usize,
    },
    /// The engine takes no more requests.
    #[error("the engine is shutting down")]
    Draining,
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] GenerateError),
}

/// What goes on in an engine, and what has gone on since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Requests in the queue.
    pub n_waiting: usize,
    /// The requests being worked on, one for each slot, `None` where it is free.
    pub slots: Vec<Option<SlotStatus>>,
    /// Requests that came to an end in whatever way.
    pub n_ended: u64,
    /// Prompt tokens of all requests started.
    pub n_prompt_tokens: u64,
    /// Those of them that were looked up in the cache: all but the last, of requests that may
    /// use it.
    pub n_looked_up_tokens: u64,
    /// Those of them that were found in the cache.
    pub n_cached_tokens: u64,
    /// Tokens generated.
    pub n_generated_tokens: u64,
    /// Forward passes.
    pub n_steps: u64,
    /// Bytes of keys and values that are remembered but not in use.
    pub cache_bytes: u64,
    /// Bytes of keys and values on disk.
    pub disk_bytes: u64,
    /// Files of the cache that could not be written or removed.
    pub n_disk_failures: u64,
    /// Tokens that are remembered, in memory or on disk.
    pub n_remembered_tokens: u64,
}

/// A request being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// As [`Ticket::id`].
    pub id: u64,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt that are computed or were found.
    pub n_prompt_done: usize,
    /// Tokens generated so far.
    pub n_generated: usize,
}

/// A request on its way.
pub(crate) struct Submission {
    pub(crate) id: u64,
    pub(crate) request: Request,
    pub(crate) cancel: CancelFlag,
    pub(crate) sink: Box<dyn EventSink>,
    /// What has been brought from disk for it so far.
    pub(crate) blocks: Vec<Arc<KvBlock>>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut submission = f.debug_struct("Submission");
        submission.field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    state: Mutex<State>,
    /// Somebody has changed the state, and the engine may be asleep.
    wake: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Those that have no slot yet, in the order in which they came.
    pub(crate) queue: VecDeque<Submission>,
    is_draining: bool,
    status: EngineStatus,
    /// Requests that were cancelled in the queue.
    n_withdrawn: u64,
    next_id: u64,
}

/// What requests are held against when they come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) n_ctx: usize,
    pub(crate) n_vocab: usize,
    /// Requests that may wait.
    pub(crate) queue_len: usize,
}

impl EngineHandle {
    pub(crate) fn new(limits: Limits) -> Self {
        let shared = Shared {
            limits,
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Puts a request into the queue. Its events go to `sink`.
    ///
    /// # Errors
    /// The queue is full, the engine takes no more requests, or the request is wrong: an empty
    /// prompt, one that is longer than the context, an id outside the vocabulary, a setting of
    /// the sampler out of its range, an empty stop string.
    pub fn submit(
        &self,
        request: Request,
        sink: Box<dyn EventSink>,
    ) -> Result<Ticket, SubmitError> {
        self.shared.limits.check(&request)?;
        let cancel = CancelFlag::new();
        let mut state = self.shared.lock();
        if state.is_draining {
            return Err(SubmitError::Draining);
        }
        let n_waiting = state.queue.len();
        if n_waiting >= self.shared.limits.queue_len {
            return Err(SubmitError::QueueFull { n_waiting });
        }
        let id = state.next_id;
        state.next_id += 1;
        state.queue.push_back(Submission {
            id,
            request,
            cancel: cancel.clone(),
            sink,
            blocks: Vec::new(),
        });
        drop(state);
        self.shared.wake.notify_one();
        Ok(Ticket {
            id,
            cancel,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Takes no more requests. The engine works on those it has, and then its
    /// [`run`](crate::Engine::run) returns.
    pub fn drain(&self) {
        self.shared.lock().is_draining = true;
        self.shared.wake.notify_one();
    }

    /// Returns what goes on.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        let state = self.shared.lock();
        let mut status = state.status.clone();
        status.n_waiting = state.queue.len();
        status.n_ended += state.n_withdrawn;
        status
    }

    /// Returns the positions of a context.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        self.shared.limits.n_ctx
    }
}

impl Ticket {
    /// Returns the number of the request, counted from the engine's start.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Ends the request before its time, at once if it still waits. What was computed of it
    /// stays in the cache.
    pub fn cancel(&self) {
        self.cancel.cancel();
        if let Some(mut submission) = self.shared.withdraw(self.id) {
            submission.sink.send(Event::Finished {
                reason: FinishReason::Cancelled,
                text: String::new(),
                score: None,
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Shared {
    /// A thread that panicked while it held the lock left nothing half done: all changes are
    /// single assignments.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request out of the queue, if it is there.
    fn withdraw(&self, id: u64) -> Option<Submission> {
        let mut state = self.lock();
        let idx = state.queue.iter().position(|waiting| waiting.id == id)?;
        state.n_withdrawn += 1;
        state.queue.remove(idx)
    }

    pub(crate) fn set_status(&self, status: &EngineStatus) {
        self.lock().status.clone_from(status);
    }

    /// Whether nothing will come any more.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_draining && state.queue.is_empty()
    }

    /// Sleeps until there is something to do.
    pub(crate) fn wait(&self) {
        let is_idle = |state: &mut State| state.queue.is_empty() && !state.is_draining;
        let waited = self.wake.wait_while(self.lock(), is_idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Limits {
    fn check(&self, request: &Request) -> Result<(), GenerateError> {
        let Self { n_ctx, n_vocab, .. } = *self;
        let prompt = &request.prompt;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if prompt.len() > n_ctx {
            let n_prompt = prompt.len();
            return Err(GenerateError::PromptTooLong { n_prompt, n_ctx });
        }
        if let Some(position) = prompt.iter().position(|&token| token as usize >= n_vocab) {
            let token = prompt[position];
            return Err(GenerateError::TokenOutOfRange {
                token,
                position,
                n_vocab,
            });
        }
        if let Task::Generate(generate) = &request.task {
            generate.config.sampler.validate()?;
            generate.config.sampler.validate_tokens(n_vocab)?;
            StopRules::new(&[], &generate.text.stop_strings)?;
        }
        Ok(())
    }
}
