//! `apr perplexity`: how well a model foretells a text, and how far it is from another one.

use std::path::PathBuf;

use clap::Args;
use generate::{Divergence, Perplexity, Scored};
use moe_model::Outputs;
use serde::Serialize;

use crate::{
    args::{CacheArgs, CpuArgs, JsonArgs, ModelArgs, QuietArgs, WindowArgs},
    engine::Source,
    error::Error,
    file_limit,
    input::{PromptArgs, SpecialArgs},
    interrupt::Interrupt,
    logits_file::{LogitsReader, LogitsWriter},
    output::Output,
    progress::Progress,
};

/// Flags of the verb.
///
/// The method is llama.cpp's: windows of the context's length, the second half of each scored.
#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    special: SpecialArgs,
    #[command(flatten)]
    windows: WindowArgs,
    /// Write the scored logits to this safetensors file
    #[arg(long, value_name = "FILE", env = "APR_SAVE_LOGITS")]
    save_logits: Option<PathBuf>,
    /// Also give the divergence from logits that another model has saved for the same text
    #[arg(long, value_name = "FILE", env = "APR_KL_DIVERGENCE_BASE")]
    kl_divergence_base: Option<PathBuf>,
    #[command(flatten)]
    output: JsonArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// The JSON object.
#[derive(Debug, Serialize)]
struct Record {
    model: String,
    perplexity: f64,
    standard_error: f64,
    n_ctx: usize,
    n_chunks: usize,
    n_tokens: usize,
    #[serde(flatten)]
    divergence: Option<DivergenceRecord>,
}

/// The part of [`Record`] that needs a base.
#[derive(Debug, Serialize)]
struct DivergenceRecord {
    mean_kl: f64,
    max_kl: f64,
    same_top_percent: f64,
}

/// What is done with each scored token.
struct Measure {
    perplexity: Perplexity,
    save: Option<LogitsWriter>,
    base: Option<(LogitsReader, Divergence)>,
}

pub(crate) fn run(args: &PerplexityArgs) -> Result<(), Error> {
    file_limit::make_an_error();
    let interrupt = Interrupt::install();
    let text = args.prompt.text()?;
    let source = Source::open(&args.model)?;
    let engine = source.engine(&args.cpu, args.quiet)?;
    let ids = args.special.encode(&engine.tokenizer, &text);
    let tokenizer = &engine.tokenizer;
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let (windows, n_windows) = args.windows.of(engine.model.config(), bos, ids.len())?;
    let mut sequence = engine.sequence(
        args.cache.state_options(args.windows.ctx_size),
        Outputs::All,
    )?;
    let mut measure = Measure::new(args, n_windows * windows.n_scored(), sequence.n_vocab())?;

    let template = "{wide_bar} {pos}/{len} chunks, {eta} left";
    let progress = Progress::new(n_windows as u64, template, args.quiet.quiet);
    sequence.visit_windows(&ids, windows, interrupt.flag(), |scored| {
        progress.set(scored.window as u64);
        measure.push(&scored)
    })?;
    drop(progress);
    let record = measure.finish(source.name(), args.windows.ctx_size, n_windows)?;
    let mut output = Output::new();
    if args.output.json {
        output.json(&record)
    } else {
        output.write(record.report().as_bytes())
    }
}

impl Measure {
    fn new(args: &PerplexityArgs, n_rows: usize, n_vocab: usize) -> Result<Self, Error> {
        let base = args.kl_divergence_base.as_deref().map(|path| {
            let reader = LogitsReader::open(path)?;
            let [found_rows, found_vocab] = reader.shape();
            if (found_rows, found_vocab) == (n_rows, n_vocab) {
                return Ok((reader, Divergence::new()));
            }
            let message = format!(
                "logits [{found_rows}, {found_vocab}], but this text and model need \
                 [{n_rows}, {n_vocab}]"
            );
            Err(Error::input(&path.display().to_string(), message))
        });
        let save = args.save_logits.as_deref();
        Ok(Self {
            perplexity: Perplexity::new(),
            base: base.transpose()?,
            save: save
                .map(|path| LogitsWriter::create(path, n_rows, n_vocab))
                .transpose()?,
        })
    }

    fn push(&mut self, scored: &Scored<'_>) -> Result<(), Error> {
        self.perplexity.push(scored)?;
        if let Some(save) = &mut self.save {
            save.row(scored.logits)?;
        }
        if let Some((base, divergence)) = &mut self.base {
            divergence.push(scored.logits, base.row()?)?;
        }
        Ok(())
    }

    fn finish(self, model: String, n_ctx: usize, n_chunks: usize) -> Result<Record, Error> {
        if let Some(save) = self.save {
            save.finish()?;
        }
        let divergence = self.base.map(|(_, divergence)| DivergenceRecord {
            mean_kl: divergence.mean(),
            max_kl: divergence.max(),
            same_top_percent: 100.0 * divergence.same_top(),
        });
        Ok(Record {
            model,
            perplexity: self.perplexity.value(),
            standard_error: self.perplexity.standard_error(),
            n_ctx,
            n_chunks,
            n_tokens: self.perplexity.n_tokens(),
            divergence,
        })
    }
}

impl Record {
    fn report(&self) -> String {
        let Self {
            perplexity,
            standard_error,
            n_tokens,
            n_ctx,
            n_chunks,
            ..
        } = self;
        let mut text = format!(
            "perplexity {perplexity:.4} ± {standard_error:.4} \
             ({n_tokens} tokens scored in {n_chunks} chunks of {n_ctx})\n"
        );
        if let Some(divergence) = &self.divergence {
            let DivergenceRecord {
                mean_kl,
                max_kl,
                same_top_percent,
            } = divergence;
            text.push_str(&format!(
                "divergence mean {mean_kl:.6}, max {max_kl:.6}, same top {same_top_percent:.3} %\n"
            ));
        }
        text
    }
}
