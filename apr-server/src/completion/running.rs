//! A job on its way through the engine.
//!
//! No more choices of a job are in the engine at a time than it works on, so that a request
//! with many prompts does not fill the queue. Dropping a [`Running`] cancels what is left of
//! it: that is all that happens when a client goes away.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use generate::{Event, FinishReason as Reason, SubmitError, Ticket, TokenScore};
use reply_parser::{Ending, FinishReason, ReplyEvent, ReplyParser};
use tokio::sync::{mpsc, watch};

use super::{End, Job, Progress, Update, Work, figures::Figures};
use crate::{
    api_error::ApiError,
    app::{Active, App, Phase},
    model::ServedModel,
};

/// After how long a choice is submitted again that found the queue full.
const PAUSE: Duration = Duration::from_millis(20);

/// A job on its way.
#[derive(Debug)]
pub(crate) struct Running {
    app: Arc<App>,
    job: Job,
    choices: Vec<Choice>,
    events: mpsc::UnboundedReceiver<Stamped>,
    sender: mpsc::UnboundedSender<Stamped>,
    /// The first choice that is not submitted.
    n_submitted: usize,
    n_ended: usize,
    /// What is told next, whatever comes: the end of a choice whose last token was told.
    next: Option<Update>,
    submitted: Instant,
    /// When it was given up, if it was.
    given_up: Arc<OnceLock<Instant>>,
    phase: watch::Receiver<Phase>,
    _active: Active,
}

/// A choice, before, during and after its time in the engine.
#[derive(Debug)]
struct Choice {
    figures: Figures,
    /// While it is in the engine.
    ticket: Option<Ticket>,
    parser: Option<ReplyParser>,
    is_thinking: bool,
    n_calls: usize,
    /// Calls that are whole.
    n_whole: usize,
    has_ended: bool,
}

/// An event with the time at which it came.
#[derive(Debug)]
struct Stamped {
    choice: usize,
    at: Instant,
    event: Event,
}

impl Running {
    /// Gives a job to the engine.
    pub(crate) fn start(app: &Arc<App>, job: Job) -> Result<Self, ApiError> {
        let model = app.model()?;
        job.check(model)?;
        let submitted = Instant::now();
        let (sender, events) = mpsc::unbounded_channel();
        let choice = |idx: usize| Choice {
            figures: Figures::new(job.prompt(idx).len(), submitted),
            ticket: None,
            parser: parser(&job, idx),
            is_thinking: false,
            n_calls: 0,
            n_whole: 0,
            has_ended: false,
        };
        let mut running = Self {
            app: Arc::clone(app),
            choices: (0..job.n_choices()).map(choice).collect(),
            events,
            sender,
            n_submitted: 0,
            n_ended: 0,
            next: None,
            submitted,
            given_up: Arc::default(),
            phase: app.watch_phase(),
            _active: app.begin(),
            job,
        };
        running.submit_next()?;
        running.submit_more()?;
        Ok(running)
    }

    pub(crate) const fn app(&self) -> &Arc<App> {
        &self.app
    }

    pub(crate) fn model(&self) -> Result<&ServedModel, ApiError> {
        self.app.loaded()
    }

    pub(crate) const fn job(&self) -> &Job {
        &self.job
    }

    /// Returns tokens and times of a choice.
    pub(crate) fn figures(&self, choice: usize) -> &Figures {
        &self.choices[choice].figures
    }

    /// Returns those of all choices.
    pub(crate) fn all_figures(&self) -> Vec<Figures> {
        self.choices.iter().map(|choice| choice.figures).collect()
    }

    /// Waits for what happens next; `None` is the end. It may be dropped while it waits, and
    /// nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Update>, ApiError> {
        if let Some(update) = self.next.take() {
            return Ok(Some(update));
        }
        while self.n_ended < self.choices.len() {
            // Its turn was there, and the queue was full.
            let may_submit = self.n_submitted < self.choices.len() && self.has_room();
            let deadline = deadline(&self.app, self.submitted);
            let stamped = tokio::select! {
                biased;
                () = App::ending(&mut self.phase) => return Err(self.fail("shutdown", shut_down())),
                () = deadline => return Err(self.fail("timeout", ApiError::timed_out())),
                stamped = self.events.recv() => stamped,
                () = tokio::time::sleep(PAUSE), if may_submit => None,
            };
            let update = match stamped {
                Some(stamped) => self.take(stamped),
                None => Ok(None),
            };
            let update = update.and_then(|update| self.submit_more().map(|()| update));
            match update {
                Ok(Some(update)) => return Ok(Some(update)),
                Ok(None) => {}
                Err(error) => return Err(self.fail("error", error)),
            }
        }
        Ok(None)
    }

    /// Whether another choice may go into the engine.
    fn has_room(&self) -> bool {
        let n_slots = self
            .app
            .loaded()
            .map_or(1, |model| model.engine.status().slots.len());
        self.n_submitted - self.n_ended < n_slots.max(1)
    }

    fn submit_more(&mut self) -> Result<(), ApiError> {
        while self.n_submitted < self.choices.len() && self.has_room() {
            match self.submit_next() {
                Ok(()) => {}
                // Its turn comes when one of ours has ended, or in a moment.
                Err(SubmitError::QueueFull { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn submit_next(&mut self) -> Result<(), SubmitError> {
        let Ok(model) = self.app.loaded() else {
            return Err(SubmitError::Draining);
        };
        let (choice, sender) = (self.n_submitted, self.sender.clone());
        let mut stay = Stay {
            app: Arc::clone(&self.app),
            given_up: Arc::clone(&self.given_up),
            is_over: false,
        };
        let sink = move |event| {
            let at = Instant::now();
            stay.note(&event);
            sender.send(Stamped { choice, at, event }).is_ok()
        };
        let request = self.job.request(choice, model);
        let ticket = model.engine.submit(request, Box::new(sink))?;
        self.choices[choice].ticket = Some(ticket);
        self.n_submitted += 1;
        Ok(())
    }

    fn take(&mut self, stamped: Stamped) -> Result<Option<Update>, ApiError> {
        let Stamped { choice, at, event } = stamped;
        if self.choices[choice].has_ended {
            // What the engine said before it heard that nobody wants more.
            return Ok(None);
        }
        let state = &mut self.choices[choice];
        let figures = &mut state.figures;
        match event {
            Event::Started {
                n_prompt,
                n_cached,
                miss,
            } => {
                self.app.metrics.queue.observe(at - figures.submitted);
                figures.started = Some(at);
                (figures.n_prompt, figures.n_cached, figures.miss) = (n_prompt, n_cached, miss);
                Ok(Some(progress(choice, figures, 0, at)))
            }
            Event::Prefill(done) => Ok(Some(progress(choice, figures, done.n_done, at))),
            Event::PromptScores(scores) => Ok(Some(Update::PromptScores { choice, scores })),
            Event::PrefillDone => {
                figures.prefilled = Some(at);
                Ok(None)
            }
            Event::Token { text, score, .. } => {
                self.observe_token(choice, at);
                let events = self.read(choice, &text);
                let is_call_over = events
                    .iter()
                    .any(|event| matches!(event, ReplyEvent::ToolCallEnd { .. }));
                if is_call_over && self.is_single_call() {
                    self.next = Some(Update::Ended {
                        choice,
                        events: Vec::new(),
                        end: self.end(choice, Ending::Stopped, None),
                        score: None,
                    });
                }
                Ok(Some(Update::Token {
                    choice,
                    events,
                    score,
                }))
            }
            Event::Finished {
                reason,
                text,
                score,
            } => self.finished(choice, reason, &text, score).map(Some),
            Event::Embedding(values) => {
                figures.prefilled = Some(at);
                self.close(choice, "stop");
                Ok(Some(Update::Embedding { choice, values }))
            }
            Event::Failed(error) => Err(error.into()),
        }
    }

    fn observe_token(&mut self, choice: usize, at: Instant) {
        let state = &mut self.choices[choice];
        let metrics = &self.app.metrics;
        match state.figures.last_token.replace(at) {
            None => metrics.first_token.observe(at - state.figures.submitted),
            Some(last) => metrics.inter_token.observe(at - last),
        }
        state.figures.n_generated += 1;
    }

    /// Reads more text of a choice.
    fn read(&mut self, choice: usize, text: &str) -> Vec<ReplyEvent> {
        let state = &mut self.choices[choice];
        let was_thinking = state.is_thinking;
        let events = state.parser.as_mut().map(|parser| parser.push(text));
        let events = events.unwrap_or_default();
        state.note(&events);
        state.figures.n_reasoning += usize::from(was_thinking || state.is_thinking);
        events
    }

    fn is_single_call(&self) -> bool {
        match &self.job.work {
            Work::Generate(generation) => generation.is_single_call,
            Work::Embed => false,
        }
    }

    fn finished(
        &mut self,
        choice: usize,
        reason: Reason,
        text: &str,
        score: Option<TokenScore>,
    ) -> Result<Update, ApiError> {
        let (ending, stop) = match reason {
            Reason::StopToken(_) => (Ending::Stopped, None),
            Reason::StopString(idx) => (Ending::Stopped, self.stop_string(idx)),
            Reason::Length | Reason::ContextFull => (Ending::CutOff, None),
            Reason::Cancelled => return Err(ApiError::internal("the request was cancelled")),
        };
        let state = &mut self.choices[choice];
        let mut events = Vec::new();
        if let Some(parser) = &mut state.parser {
            events = parser.push(text);
            events.extend(parser.finish(ending));
        }
        state.note(&events);
        let end = self.end(choice, ending, stop);
        Ok(Update::Ended {
            choice,
            events,
            end,
            score,
        })
    }

    fn stop_string(&self, idx: usize) -> Option<String> {
        match &self.job.work {
            Work::Generate(generation) => generation.settings.stop_strings.get(idx).cloned(),
            Work::Embed => None,
        }
    }

    fn end(&mut self, choice: usize, ending: Ending, stop: Option<String>) -> End {
        let state = &self.choices[choice];
        let finish = FinishReason::of(ending, state.n_calls, state.n_whole);
        let label = match ending {
            Ending::CutOff => "length",
            Ending::Stopped => "stop",
        };
        self.close(choice, label);
        End { finish, stop }
    }

    /// Marks the end of a choice.
    fn close(&mut self, choice: usize, why: &'static str) {
        let state = &mut self.choices[choice];
        state.has_ended = true;
        state.ticket = None;
        self.n_ended += 1;
        let figures = &state.figures;
        let took = figures.submitted.elapsed();
        self.app.metrics.count_end(why, took);
        tracing::info!(
            why,
            prompt = figures.n_prompt,
            cached = figures.n_cached,
            generated = figures.n_generated,
            micros = took.as_micros(),
            "completion"
        );
    }

    /// Ends all that is left, for one reason.
    fn fail(&mut self, why: &'static str, error: ApiError) -> ApiError {
        for choice in 0..self.choices.len() {
            if !self.choices[choice].has_ended {
                self.close(choice, why);
            }
        }
        error
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it is set already, some moments ago, that is what counts.
        let _ = self.given_up.set(Instant::now());
        for choice in 0..self.n_submitted {
            if !self.choices[choice].has_ended {
                self.close(choice, "abort");
            }
        }
    }
}

/// The time that a choice has in the engine, which drops this when it lets go of it.
struct Stay {
    app: Arc<App>,
    given_up: Arc<OnceLock<Instant>>,
    /// Whether it has come to its own end.
    is_over: bool,
}

impl Stay {
    fn note(&mut self, event: &Event) {
        self.is_over |= match event {
            Event::Finished { reason, .. } => *reason != Reason::Cancelled,
            Event::Failed(_) | Event::Embedding(_) => true,
            _ => false,
        };
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(given_up) = self.given_up.get().filter(|_| !self.is_over) {
            self.app.metrics.cancel.observe(given_up.elapsed());
        }
    }
}

impl Choice {
    /// Keeps track of what the reply is doing.
    fn note(&mut self, events: &[ReplyEvent]) {
        for event in events {
            match event {
                ReplyEvent::ReasoningStart | ReplyEvent::Reasoning(_) => self.is_thinking = true,
                ReplyEvent::ReasoningEnd | ReplyEvent::Content(_) => self.is_thinking = false,
                ReplyEvent::ToolCallStart { .. } => {
                    self.is_thinking = false;
                    self.n_calls += 1;
                }
                ReplyEvent::ToolCallEnd { is_complete, .. } => {
                    self.n_whole += usize::from(*is_complete);
                }
                _ => {}
            }
        }
    }
}

fn parser(job: &Job, choice: usize) -> Option<ReplyParser> {
    match &job.work {
        Work::Generate(generation) => {
            let seed = format!("{}-{choice}", generation.id);
            Some(ReplyParser::new(&generation.format, &seed))
        }
        Work::Embed => None,
    }
}

fn progress(choice: usize, figures: &Figures, n_computed: usize, at: Instant) -> Update {
    let progress = Progress {
        n_total: figures.n_prompt,
        n_cached: figures.n_cached,
        n_done: figures.n_cached + n_computed,
        time: at - figures.started.unwrap_or(at),
    };
    Update::Progress { choice, progress }
}

fn shut_down() -> ApiError {
    ApiError::not_ready(true)
}

async fn deadline(app: &App, submitted: Instant) {
    let limit = app.config.request_timeout;
    // A time that no clock will show is none.
    match limit.and_then(|limit| submitted.checked_add(limit)) {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
