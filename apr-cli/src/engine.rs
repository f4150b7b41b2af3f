//! From flags to a model that is ready to compute.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use generate::Sequence;
use moe_model::{Contents, Model, ModelFile, Outputs, StateOptions};
use quant_kernels::{Cpu, Isa};
use tokenizer::{Tokenizer, TokenizerError};

use crate::{
    args::{CpuArgs, ModelArgs, QuietArgs},
    builtin,
    error::Error,
    pages,
    room::Room,
    terminal::{self, one_line},
    units::plural,
};

/// An open model file, and the time at which opening began.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: ModelFile,
    begin: Instant,
}

/// A model with what it takes to run it. Borrows from a [`Source`].
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    pub(crate) cpu: Cpu,
    pub(crate) model: Model<'a>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// What opening and checking took.
    pub(crate) load: Duration,
}

impl Engine<'_> {
    /// Makes a sequence, if there is [room for it](Self::check_memory).
    pub(crate) fn sequence(
        &self,
        options: StateOptions,
        outputs: Outputs,
    ) -> Result<Sequence<'_>, Error> {
        self.check_memory(1, options, outputs)?;
        Ok(Sequence::new(&self.cpu, &self.model, options)?)
    }

    /// Checks that memory has room for the whole contexts of some sequences and for the
    /// batches they share, of which `outputs` are asked: running out later would be no error
    /// but the end of the process.
    pub(crate) fn check_memory(
        &self,
        n_sequences: usize,
        options: StateOptions,
        outputs: Outputs,
    ) -> Result<(), Error> {
        Room::needed(self.model.config(), n_sequences, options, outputs)?.check()
    }
}

impl Source {
    pub(crate) fn open(args: &ModelArgs) -> Result<Self, Error> {
        let begin = Instant::now();
        let file = match &args.model {
            Some(path) => ModelFile::open(path)?,
            None => builtin::file(),
        };
        Ok(Self { file, begin })
    }

    pub(crate) fn contents(&self) -> Result<Contents<'_>, Error> {
        Ok(self.file.contents()?)
    }

    /// Reads the tokenizer alone, for which weights may be missing.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = if self.file.is_checkpoint() {
            Tokenizer::from_checkpoint(|name| self.file.document(name))
        } else {
            Tokenizer::from_gguf(self.file.gguf()?.metadata())
        };
        Ok(tokenizer?)
    }

    /// Returns the file's name for messages and results.
    pub(crate) fn name(&self) -> String {
        let path = self.file.path();
        path.file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Checks the model, brings all its weights into memory and starts the threads: no page
    /// is mapped later.
    pub(crate) fn engine(&self, cpu: &CpuArgs, quiet: QuietArgs) -> Result<Engine<'_>, Error> {
        self.start(cpu, quiet, |_, _| pages::bring_in(&self.file, quiet))
    }

    /// Does what [`Self::engine`] does, but leaves weights that the system still has in memory
    /// to be mapped as they are used: the first token comes sooner, and so does the end.
    pub(crate) fn engine_at_once(
        &self,
        cpu: &CpuArgs,
        quiet: QuietArgs,
    ) -> Result<Engine<'_>, Error> {
        self.start(cpu, quiet, |model, is_waiting| {
            if pages::are_in_memory(&self.file) {
                pages::map_while(is_waiting, model.weights());
            } else {
                pages::bring_in(&self.file, quiet);
            }
        })
    }

    /// Reads the tokenizer, which takes a good part of the time to the first token, beside
    /// `prefetch`, which is given the model and the question whether there is still time.
    fn start(
        &self,
        cpu: &CpuArgs,
        quiet: QuietArgs,
        prefetch: impl FnOnce(&Model<'_>, &dyn Fn() -> bool),
    ) -> Result<Engine<'_>, Error> {
        let contents = self.contents()?;
        let (model, tokenizer) = thread::scope(|scope| {
            let tokenizer = scope.spawn(|| tokenizer_of(&contents));
            let model = Model::read(&contents);
            if let Ok(model) = &model {
                prefetch(model, &|| !tokenizer.is_finished());
            }
            let tokenizer = tokenizer.join();
            (
                model,
                tokenizer.unwrap_or_else(|panic| resume_unwind(panic)),
            )
        });
        let within = Error::within(self.file.path());
        let model = model.map_err(|error| within(error.into()))?;
        if !quiet.quiet
            && let Some(note) = unused(&model)
        {
            terminal::say(note);
        }
        let tokenizer = tokenizer.map_err(|error| within(error.into()))?;
        let cpu = self::cpu(cpu, quiet)?;
        Ok(Engine {
            cpu,
            model,
            tokenizer: Arc::new(tokenizer),
            load: self.begin.elapsed(),
        })
    }
}

/// Returns what is said of tensors that the model does not read.
fn unused(model: &Model<'_>) -> Option<String> {
    let names = model.weights().unused();
    let first = one_line(names.first()?);
    Some(match names.len() - 1 {
        0 => format!("note: tensor {first} is not used"),
        n => format!(
            "note: tensors {first} and {} are not used",
            plural(n, "other")
        ),
    })
}

fn tokenizer_of(contents: &Contents<'_>) -> Result<Tokenizer, TokenizerError> {
    match contents {
        Contents::Gguf(gguf) => Tokenizer::from_gguf(gguf.metadata()),
        Contents::Checkpoint(checkpoint) => {
            Tokenizer::from_checkpoint(|name| checkpoint.document(name))
        }
    }
}

/// Starts the threads.
pub(crate) fn cpu(args: &CpuArgs, quiet: QuietArgs) -> Result<Cpu, Error> {
    let usable = usable_threads();
    let n_threads = args.threads.n_threads();
    if n_threads > usable && !quiet.quiet {
        terminal::say(format_args!(
            "note: {n_threads} threads, but the process may use {usable}; see `apr doctor`"
        ));
    }
    let isa = args.isa.unwrap_or_else(Isa::detect);
    if isa == Isa::SCALAR && args.isa.is_none() && !quiet.quiet {
        terminal::say(
            "note: portable kernels only, this processor has no AVX2; expect little speed",
        );
    }
    Ok(Cpu::new(isa, n_threads)?)
}

/// Returns the threads the process may use, by affinity and cgroup quota.
pub(crate) fn usable_threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
