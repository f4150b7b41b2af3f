//! Whether a model can be trusted: file, numbers, text, kernels, forward pass, answers.
//!
//! [`verify`] asks seven questions ([`Stage`]) in an order in which each answer makes the next
//! question meaningful: nobody needs the distance of logits whose weights are not numbers. It
//! stops after the first stage that fails, and says of the others that they were not asked.
//! A wrong file is no error but a [`Report`]; errors are what the system refuses.
//!
//! Everything streams: weights are looked at where they lie, so a model may be far larger
//! than memory. There is no clock here; the caller lends one.

mod file;
mod forward;
pub mod golden;
mod invariance;
mod report;
mod tensors;
mod tokens;

use std::{num::NonZeroUsize, ops::ControlFlow, time::Duration};

use moe_model::{Contents, Model, ModelFile};
use tokenizer::{Tokenizer, TokenizerError};

pub use self::report::{
    Figure, FigureValue, Finding, Report, SCHEMA, Severity, Stage, StageReport, TensorHash,
    TimedStage, Unlisted, Verdict,
};
use crate::ToolError;

/// How much of a model is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers and samples: seconds, whatever the size.
    Quick,
    /// Everything.
    Full,
}

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How much is looked at.
    pub depth: Depth,
    /// Threads.
    pub n_threads: NonZeroUsize,
    /// Tokens of the sequence for the forward pass; if not said, as many as the depth asks for.
    pub n_tokens: Option<NonZeroUsize>,
    /// Layers of the forward pass that are compared, from the first; all if not said.
    pub n_layers: Option<NonZeroUsize>,
    /// What is said of machine and program in the report.
    pub environment: Vec<(String, String)>,
}

/// What the caller is told while it waits.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A stage begins.
    Begin(Stage),
    /// A part of it is done; the unit is that of the stage.
    Progress {
        /// How much is done.
        done: u64,
        /// Of how much.
        total: u64,
    },
    /// A stage is done.
    End(&'e TimedStage),
}

/// The caller: it lends a clock, is told what happens and may end it.
pub trait Caller {
    /// Returns the time since any fixed moment.
    fn now(&self) -> Duration;
    /// Hears what happens; [`ControlFlow::Break`] ends the verification.
    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()>;
}

/// A model whose headers are sound.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// The bytes.
    pub(crate) file: &'a ModelFile,
    /// The headers.
    pub(crate) contents: Contents<'a>,
    /// Configuration and weights.
    pub(crate) model: Model<'a>,
    /// The tokenizer; the stage of the text says what is wrong with it.
    pub(crate) tokenizer: Result<Tokenizer, TokenizerError>,
}

/// Tells the caller how far a stage is.
pub(crate) struct Progress<'c> {
    caller: &'c mut dyn Caller,
}

impl Progress<'_> {
    /// Says how much is done, and asks whether to go on.
    pub(crate) fn tell(&mut self, done: u64, total: u64) -> Result<(), ToolError> {
        hear(self.caller, Event::Progress { done, total })
    }
}

fn hear(caller: &mut dyn Caller, event: Event<'_>) -> Result<(), ToolError> {
    match caller.hear(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ToolError::Interrupted),
    }
}

/// Verifies a model.
///
/// # Errors
/// What the system refuses: threads; and [`ToolError::Interrupted`] if the caller ends it.
/// Whatever is wrong with the file is in the report.
pub fn verify(
    file: &ModelFile,
    options: &VerifyOptions,
    caller: &mut dyn Caller,
) -> Result<Report, ToolError> {
    let mut run = Run {
        caller,
        stages: Vec::new(),
    };
    let mut subject = None;
    run.stage(Stage::File, |_| {
        let (report, opened) = file::open(file);
        subject = opened;
        Ok(report)
    })?;
    let tensors = Vec::new();
    let failed = run
        .stages
        .iter()
        .any(|stage| stage.report.verdict == Verdict::Failed);
    Ok(Report {
        schema: SCHEMA,
        model: file.path().display().to_string(),
        verdict: if failed {
            Verdict::Failed
        } else {
            Verdict::Passed
        },
        quick: options.depth == Depth::Quick,
        environment: options.environment.clone(),
        stages: run.stages,
        tensors,
    })
}

/// Records what a model is and says, to be held to it later.
///
/// # Errors
/// The file is no sound model or the request cannot be met ([`ToolError::Golden`]), or what
/// [`verify`] fails for.
pub fn record(
    file: &ModelFile,
    request: &golden::GoldenRequest,
    options: &VerifyOptions,
    caller: &mut dyn Caller,
) -> Result<golden::Golden, ToolError> {
    let (report, subject) = file::open(file);
    let Some(subject) = subject else {
        let mut errors = report.listed(Severity::Error);
        let reason = errors.next().map_or_else(String::new, |error| error.text.clone());
        return Err(ToolError::Golden { reason });
    };
    golden::record(&subject, request, options, &mut Progress { caller })
}

/// The stages as far as they have come.
struct Run<'c> {
    caller: &'c mut dyn Caller,
    stages: Vec<TimedStage>,
}

impl Run<'_> {
    /// Takes the time of a stage.
    fn stage(
        &mut self,
        stage: Stage,
        check: impl FnOnce(&mut Progress<'_>) -> Result<StageReport, ToolError>,
    ) -> Result<(), ToolError> {
        hear(self.caller, Event::Begin(stage))?;
        let begin = self.caller.now();
        let report = check(&mut Progress {
            caller: self.caller,
        })?;
        let seconds = self.caller.now().saturating_sub(begin).as_secs_f64();
        let timed = TimedStage { report, seconds };
        hear(self.caller, Event::End(&timed))?;
        self.stages.push(timed);
        Ok(())
    }
}
