//! From flags to a model that is ready to compute.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use generate::Sequence;
use moe_model::{Config, Contents, Model, ModelFile, Outputs, StateOptions, kv_bytes};
use quant_kernels::{Cpu, Isa};
use tokenizer::{Tokenizer, TokenizerError};

use crate::{
    args::{CpuArgs, ModelArgs, QuietArgs},
    builtin,
    error::Error,
    machine, pages,
    terminal::{self, one_line},
    units::{self, plural},
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
        let StateOptions {
            n_ctx,
            keys,
            values,
            batch_len,
        } = options;
        let config = self.model.config();
        let batch_len = batch_len.min(n_ctx.saturating_mul(n_sequences));
        let needed = kv_bytes(config, keys, values, n_ctx)? * n_sequences as u128
            + batch_bytes(config, batch_len)
            + logits_bytes(config, batch_len, n_sequences, outputs);
        expect_room(needed, || {
            let (contexts, flag) = match n_sequences {
                1 => ("a context".to_owned(), "--ctx-size"),
                n => (format!("{n} contexts"), "--parallel"),
            };
            format!(
                "{contexts} of {n_ctx} tokens in batches of {batch_len}, see {flag} and --batch-size"
            )
        })
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

/// Checks that memory has room for so many bytes, which are for `what`.
pub(crate) fn expect_room(needed: u128, what: impl FnOnce() -> String) -> Result<(), Error> {
    let available = machine::memory().map_or(u128::MAX, |m| u128::from(m.available));
    if needed <= available {
        return Ok(());
    }
    let bytes = |n| units::bytes(u64::try_from(n).unwrap_or(u64::MAX));
    Err(Error::Memory {
        what: what(),
        needed: bytes(needed),
        available: bytes(available),
    })
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

/// Returns what the buffers of a batch take in a layer, the small ones left out.
const fn batch_bytes(config: &Config, n_tokens: usize) -> u128 {
    let heads = config.qkv_len() + config.q_len();
    let experts = config.n_expert + config.n_expert_used * config.n_ff_exp;
    (config.n_embd + heads + experts) as u128 * n_tokens as u128 * size_of::<f32>() as u128
}

const fn logits_bytes(
    config: &Config,
    n_tokens: usize,
    n_sequences: usize,
    outputs: Outputs,
) -> u128 {
    let n_rows = match outputs {
        Outputs::None => 0,
        Outputs::Last => n_sequences,
        Outputs::From(_) | Outputs::All => n_tokens,
    };
    n_rows as u128 * config.n_vocab as u128 * size_of::<f32>() as u128
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
