//! Whether a model can be trusted: file, numbers, text, kernels, forward pass, answers.
//!
//! [`verify`] asks seven questions ([`Stage`]) in an order in which each answer makes the next
//! question meaningful: nobody needs the distance of logits whose weights are not numbers. A
//! stage that means nothing after one that failed is skipped, and says so.
//! A wrong file is no error but a [`Report`]; errors are what the system refuses.
//!
//! Everything streams: weights are looked at where they lie, so a model may be far larger
//! than memory. There is no clock here; the caller lends one.

mod file;
mod forward;
pub mod golden;
mod invariance;
mod junit;
mod kernels;
mod numbers;
mod report;
mod table;
mod tensors;
mod text;
mod tokens;

use std::{num::NonZeroUsize, ops::ControlFlow, path::Path, time::Duration};

use moe_model::{Contents, Model, ModelError, ModelFile};
use serde::Deserialize;
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
    /// Tokens of the sequence for the forward pass, no more than the model's context; if not
    /// said, as many as the depth asks for.
    pub n_tokens: Option<NonZeroUsize>,
    /// Layers of the forward pass that are compared, from the first; all if not said.
    pub n_layers: Option<NonZeroUsize>,
    /// Tensors that are to be the same, of another copy of the model.
    pub compare: Option<Vec<TensorHash>>,
    /// A record that the model is held to, and how near it must come.
    pub golden: Option<(golden::Golden, golden::Tolerance)>,
    /// What is said of machine and program in the report.
    pub environment: Vec<(String, String)>,
}

impl VerifyOptions {
    /// Asks for everything, and for nothing to compare with.
    #[must_use]
    pub const fn new(n_threads: NonZeroUsize) -> Self {
        Self {
            depth: Depth::Full,
            n_threads,
            n_tokens: None,
            n_layers: None,
            compare: None,
            golden: None,
            environment: Vec::new(),
        }
    }
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

/// Verifies the model at a path.
///
/// # Errors
/// As [`verify`], and [`ToolError::Model`] if the path leads to nothing that can be read. A
/// file that is no model, or lacks one of its parts, is a report.
pub fn verify_path(
    path: &Path,
    options: &VerifyOptions,
    caller: &mut dyn Caller,
) -> Result<Report, ToolError> {
    match ModelFile::open(path) {
        Ok(file) => verify(&file, options, caller),
        Err(error) if is_of_path(&error, path) => Err(error.into()),
        Err(error) => {
            let mut run = Run::new(caller);
            run.stage(Stage::File, |_| Ok(file::unreadable(&error)))?;
            run.skip_rest()?;
            Ok(run.finish(&path.display().to_string(), options, Vec::new()))
        }
    }
}

/// Returns whether it is the path that is wrong, and not what lies there.
fn is_of_path(error: &ModelError, named: &Path) -> bool {
    match error {
        ModelError::NotFound { path } | ModelError::PermissionDenied { path } => path == named,
        ModelError::IsDirectory { .. } | ModelError::NotRegular { .. } | ModelError::Io { .. } => {
            true
        }
        _ => false,
    }
}

/// Verifies a model.
///
/// # Errors
/// What the system refuses: threads; [`ToolError::Golden`] for a record that no model of its
/// context can have made; and [`ToolError::Interrupted`] if the caller ends it. Whatever is
/// wrong with the file is in the report.
pub fn verify(
    file: &ModelFile,
    options: &VerifyOptions,
    caller: &mut dyn Caller,
) -> Result<Report, ToolError> {
    let mut run = Run::new(caller);
    let (mut opened, mut tensors) = (None, Vec::new());
    run.stage(Stage::File, |_| {
        let (report, subject) = file::open(file);
        if let (Some(subject), Some((golden, _))) = (&subject, &options.golden) {
            golden.check_fits(subject.model.config().n_ctx)?;
        }
        opened = subject;
        Ok(report)
    })?;
    if let Some(subject) = &opened {
        run.stage(Stage::Numbers, |progress| {
            let (report, hashes) = numbers::check(subject, options, progress)?;
            tensors = hashes;
            Ok(report)
        })?;
        run.stage(Stage::Text, |_| Ok(text::check(subject)))?;
        run.stage(Stage::Kernels, |progress| {
            kernels::check(subject, options, progress)
        })?;
        run.stage(Stage::Forward, |progress| {
            forward::check(subject, options, progress)
        })?;
        run.stage(Stage::Invariance, |progress| {
            invariance::check(subject, options, progress)
        })?;
        if let Some((golden, tolerance)) = &options.golden {
            run.stage(Stage::Golden, |progress| {
                golden::check(subject, golden, *tolerance, options, progress)
            })?;
        }
    }
    run.skip_rest()?;
    Ok(run.finish(&file.path().display().to_string(), options, tensors))
}

/// Returns the hashes of a model's tensors, to compare another one with.
///
/// # Errors
/// [`ToolError::Model`] if its headers are not sound, and as [`verify`].
pub fn hashes(
    file: &ModelFile,
    options: &VerifyOptions,
    caller: &mut dyn Caller,
) -> Result<Vec<TensorHash>, ToolError> {
    let contents = file.contents()?;
    numbers::hash_all(
        &tensors::tensors(&contents),
        options,
        &mut Progress { caller },
    )
}

/// Reads the hashes of a model's tensors from the JSON of its report.
///
/// # Errors
/// [`ToolError::Report`] if it is no such report, or one without hashes.
pub fn read_hashes(json: &[u8]) -> Result<Vec<TensorHash>, ToolError> {
    #[derive(Deserialize)]
    struct Tensors {
        schema: u32,
        tensors: Vec<TensorHash>,
    }
    let failed = |reason: String| ToolError::Report { reason };
    let report: Tensors =
        serde_json::from_slice(json).map_err(|error| failed(error.to_string()))?;
    if report.schema != SCHEMA {
        let found = report.schema;
        return Err(failed(format!("its schema is {found}, expected {SCHEMA}")));
    }
    if report.tensors.is_empty() {
        let reason = "it has no hashes: the tensors were not read whole";
        return Err(failed(reason.to_owned()));
    }
    Ok(report.tensors)
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
        let reason = errors
            .next()
            .map_or_else(String::new, |error| error.text.clone());
        return Err(ToolError::Golden { reason });
    };
    golden::record(&subject, request, options, &mut Progress { caller })
}

/// The stages as far as they have come.
struct Run<'c> {
    caller: &'c mut dyn Caller,
    stages: Vec<TimedStage>,
}

impl<'c> Run<'c> {
    fn new(caller: &'c mut dyn Caller) -> Self {
        Self {
            caller,
            stages: Vec::new(),
        }
    }

    /// Asks a stage, if that has a meaning after those before it, and takes its time.
    fn stage(
        &mut self,
        stage: Stage,
        check: impl FnOnce(&mut Progress<'_>) -> Result<StageReport, ToolError>,
    ) -> Result<(), ToolError> {
        hear(self.caller, Event::Begin(stage))?;
        let begin = self.caller.now();
        let report = match self.why_not(stage) {
            Some(why) => StageReport::skipped(stage, why),
            None => check(&mut Progress {
                caller: self.caller,
            })?,
        };
        let seconds = self.caller.now().saturating_sub(begin).as_secs_f64();
        let timed = TimedStage { report, seconds };
        hear(self.caller, Event::End(&timed))?;
        self.stages.push(timed);
        Ok(())
    }

    /// Returns why a stage would mean nothing.
    fn why_not(&self, stage: Stage) -> Option<String> {
        let mut failed = self.stages.iter().filter(|done| {
            done.report.verdict == Verdict::Failed && needs(stage).contains(&done.report.stage)
        });
        let failed = failed.next()?.report.stage;
        Some(format!("means nothing, since `{}` failed", failed.name()))
    }

    /// Reports the stages that were not asked.
    fn skip_rest(&mut self) -> Result<(), ToolError> {
        for stage in Stage::ALL.into_iter().skip(self.stages.len()) {
            self.stage(stage, |_| Ok(StageReport::skipped(stage, "not asked for")))?;
        }
        Ok(())
    }

    fn finish(self, model: &str, options: &VerifyOptions, tensors: Vec<TensorHash>) -> Report {
        let mut verdicts = self.stages.iter().map(|stage| stage.report.verdict);
        let failed = verdicts.any(|verdict| verdict == Verdict::Failed);
        Report {
            schema: SCHEMA,
            model: model.to_owned(),
            verdict: if failed {
                Verdict::Failed
            } else {
                Verdict::Passed
            },
            quick: options.depth == Depth::Quick,
            environment: options.environment.clone(),
            stages: self.stages,
            tensors,
        }
    }
}

/// Returns the stages without which another one means nothing. The text is nobody's: a model
/// computes from ids. A record names tensors that differ, which tells why others failed.
const fn needs(stage: Stage) -> &'static [Stage] {
    match stage {
        Stage::File => &[],
        Stage::Numbers | Stage::Text => &[Stage::File],
        Stage::Kernels => &[Stage::File, Stage::Numbers],
        Stage::Forward | Stage::Invariance => &[Stage::File, Stage::Numbers, Stage::Kernels],
        Stage::Golden => &[Stage::File],
    }
}
