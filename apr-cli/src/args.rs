//! The verbs, and the flags that several of them share.
//!
//! Flags are spelled as in llama.cpp, since people paste them, and each has an environment
//! variable.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::BoolishValueParser};
use generate::Windows;
use moe_model::{Config, StateOptions};
use quant_kernels::{Isa, KvType};

use crate::{
    bench::BenchArgs, chat::ChatArgs, completions::CompletionsArgs, convert::ConvertArgs,
    detokenize::DetokenizeArgs, doctor::DoctorArgs, engine::usable_threads, error::Error,
    eval::EvalArgs, imatrix::ImatrixArgs, inspect::InspectArgs, logits::LogitsArgs,
    perplexity::PerplexityArgs, plan::PlanArgs, quantize::QuantizeArgs, run::RunArgs,
    serve::ServeArgs, tokenize::TokenizeArgs, trace::TraceArgs, verify::VerifyArgs,
};

/// Run Qwen3-MoE models on a CPU: fast, exact, and with a model built in.
///
/// Without a verb: a chat on a terminal, otherwise the continuation of the text on stdin.
#[derive(Debug, Parser)]
#[command(name = "apr", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 usage; 3 bad model or input file; 4 file or system error; \
5 not enough memory; 6 verification failed; 130 interrupted.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a text, streamed to stdout
    Run(RunArgs),
    /// Talk with a model
    Chat(ChatArgs),
    /// Serve a model over HTTP: OpenAI's API, and a page to talk to it
    Serve(Box<ServeArgs>),
    /// Turn text into token ids
    Tokenize(TokenizeArgs),
    /// Turn token ids into text
    Detokenize(DetokenizeArgs),
    /// Show metadata and tensors of a GGUF file or a checkpoint of any architecture
    Inspect(InspectArgs),
    /// Say whether a model fits here, what a token reads and how fast it can be
    Plan(PlanArgs),
    /// Write the logits of a prompt to a safetensors file
    Logits(LogitsArgs),
    /// Measure how well a model foretells a text
    Perplexity(PerplexityArgs),
    /// Measure how good a model is at questions whose answers are known
    Eval(EvalArgs),
    /// Show which experts a text goes to, as figures and as a heat map
    Trace(TraceArgs),
    /// Measure speed
    Bench(BenchArgs),
    /// Make a GGUF file of a Hugging Face checkpoint, or a checkpoint of a GGUF file
    Convert(ConvertArgs),
    /// Write a GGUF file in other weight types, smaller and about as good
    Quantize(QuantizeArgs),
    /// Find out from a text which columns of a model's matrices matter, for quantize
    Imatrix(ImatrixArgs),
    /// Find out whether a model can be trusted: file, numbers, text, kernels, forward pass
    Verify(VerifyArgs),
    /// Show what this machine offers and what is used of it
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// GGUF file, any shard of a split one, or the folder of a Hugging Face checkpoint
    /// [default: the built-in model]
    #[arg(short, long, value_name = "FILE|DIR", env = "APR_MODEL")]
    pub(crate) model: Option<PathBuf>,
}

/// How many threads to compute with.
#[derive(Debug, Args)]
pub(crate) struct ThreadArgs {
    /// Threads [default: as many as the process may use, see `apr doctor`]
    #[arg(short, long, value_name = "N", env = "APR_THREADS", value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
}

impl ThreadArgs {
    /// Returns the number of threads.
    pub(crate) fn n_threads(&self) -> NonZeroUsize {
        self.threads.unwrap_or_else(usable_threads)
    }
}

/// What to compute with.
#[derive(Debug, Args)]
pub(crate) struct CpuArgs {
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
    /// Instruction set: scalar, avx2 or avx512; all give the same bits [default: the best]
    #[arg(long, value_name = "NAME", env = "APR_ISA")]
    pub(crate) isa: Option<Isa>,
}

/// How much to remember, and how.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// Tokens of context; 0 takes what the model was trained for [default: that, at most 8192]
    #[arg(short = 'c', long, value_name = "N", env = "APR_CTX_SIZE")]
    pub(crate) ctx_size: Option<usize>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// Batches and cache.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Tokens of the prompt that go through the model together; changes speed and memory only
    /// [default: 512, in a chat 256]
    #[arg(short, long, value_name = "N", env = "APR_BATCH_SIZE", value_parser = batch_size)]
    pub(crate) batch_size: Option<usize>,
    /// Storage of keys (also -ctk): `f16`, `bf16`, `q8_0` or `f32`
    #[arg(long, value_name = "TYPE", env = "APR_CACHE_TYPE_K", default_value_t = KvType::F16)]
    pub(crate) cache_type_k: KvType,
    /// Storage of values (also -ctv): `f16`, `bf16`, `q8_0` or `f32`
    #[arg(long, value_name = "TYPE", env = "APR_CACHE_TYPE_V", default_value_t = KvType::F16)]
    pub(crate) cache_type_v: KvType,
}

/// What to say besides the result.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct QuietArgs {
    /// No progress, no timing, no notes; what is done otherwise than asked for is said all the same
    #[arg(short, long, env = "APR_QUIET", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
}

/// How to run a model, for the verbs that have a context.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) cpu: CpuArgs,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
}

/// In which form to say the result.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print one JSON object
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

/// How a long text is read, a window after the other.
#[derive(Debug, Args)]
pub(crate) struct WindowArgs {
    /// Tokens of a window
    #[arg(
        short,
        long,
        value_name = "N",
        env = "APR_CTX_SIZE",
        default_value_t = 512
    )]
    pub(crate) ctx_size: usize,
    /// The most windows to read [default: all]
    #[arg(long, value_name = "N", env = "APR_CHUNKS")]
    chunks: Option<usize>,
}

/// The most context that is taken without being asked for.
const DEFAULT_CTX: usize = 8192;

impl ContextArgs {
    /// Returns the state to make for a model.
    pub(crate) fn state_options(&self, config: &Config) -> Result<StateOptions, Error> {
        let n_ctx = match self.ctx_size {
            None => config.n_ctx.min(DEFAULT_CTX),
            Some(0) => config.n_ctx,
            Some(n_ctx) => within_trained(n_ctx, config)?,
        };
        Ok(self.cache.state_options(n_ctx))
    }
}

impl WindowArgs {
    /// Returns the windows of a text, each beginning with `bos`, and how many there are.
    pub(crate) fn of(
        &self,
        config: &Config,
        bos: Option<u32>,
        n_tokens: usize,
    ) -> Result<(Windows, usize), Error> {
        let windows = Windows {
            n_ctx: within_trained(self.ctx_size, config)?,
            limit: self.chunks,
            bos,
        };
        match windows.count(n_tokens)? {
            0 => Err(Error::usage("--chunks 0: expected at least one")),
            n => Ok((windows, n)),
        }
    }
}

fn within_trained(n_ctx: usize, config: &Config) -> Result<usize, Error> {
    if n_ctx <= config.n_ctx {
        return Ok(n_ctx);
    }
    let message = format!(
        "--ctx-size {n_ctx}: the model was trained for {}",
        config.n_ctx
    );
    Err(Error::usage(message))
}

impl CacheArgs {
    /// Returns the tokens that go through the model together.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size.unwrap_or(StateOptions::BATCH_LEN)
    }

    /// Returns the state to make for a context of `n_ctx`.
    pub(crate) fn state_options(&self, n_ctx: usize) -> StateOptions {
        StateOptions {
            n_ctx,
            keys: self.cache_type_k,
            values: self.cache_type_v,
            batch_len: self.batch_size(),
        }
    }
}

/// Reads a number of threads that a system can start.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    match text.parse::<NonZeroUsize>() {
        Ok(n) if n.get() <= MOST => Ok(n),
        _ => Err(format!("expected 1 to {MOST}")),
    }
}

/// Reads a size of batches that a state can be made for.
fn batch_size(text: &str) -> Result<usize, String> {
    count(text, 1 << 16)
}

/// Reads how many sequences are worked on at a time.
pub(crate) fn n_parallel(text: &str) -> Result<usize, String> {
    count(text, 256)
}

/// Reads a number of things, of which there are some and not more than `most`.
pub(crate) fn count(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected 1 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        let mut meanings = BTreeMap::new();
        for verb in Cli::command().get_subcommands() {
            let flags = verb.get_arguments().filter(|arg| arg.get_long().is_some());
            for flag in flags.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
                let name = flag.get_long().unwrap().to_uppercase().replace('-', "_");
                let env = flag.get_env().and_then(|env| env.to_str()).unwrap();
                let verb = verb.get_name();
                let of_verb = format!("APR_{}_{name}", verb.to_uppercase());
                assert!(
                    env == format!("APR_{name}") || env == of_verb,
                    "{verb} {env}"
                );
                let meaning = flag.get_value_names().map(<[_]>::to_vec);
                let usual = meanings.entry(env.to_owned()).or_insert(meaning.clone());
                assert_eq!(*usual, meaning, "{env} must mean the same to all verbs");
            }
        }
    }
}
