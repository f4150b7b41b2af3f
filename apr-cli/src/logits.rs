//! `apr logits`: the numbers themselves, for comparison with other engines.

use std::path::PathBuf;

use clap::Args;
use moe_model::Outputs;

use crate::{
    args::{CacheArgs, CpuArgs, ModelArgs, QuietArgs},
    engine::Source,
    error::Error,
    file_limit,
    input::{self, SpecialArgs, TextOrIds},
    interrupt::Interrupt,
    logits_file::LogitsWriter,
    progress::Progress,
    terminal,
    units::plural,
};

/// Flags of the verb.
///
/// Writes one tensor `logits` of f32, `[n_tokens, n_vocab]`.
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: TextOrIds,
    #[command(flatten)]
    special: SpecialArgs,
    /// The safetensors file to write
    #[arg(short, long, value_name = "FILE", env = "APR_LOGITS_OUTPUT")]
    output: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

pub(crate) fn run(args: &LogitsArgs) -> Result<(), Error> {
    file_limit::make_an_error();
    let interrupt = Interrupt::install();
    let source = Source::open(&args.model)?;
    let engine = source.engine_at_once(&args.cpu, args.quiet)?;
    let ids = match &args.prompt {
        TextOrIds::Ids(ids) => input::parse_ids(ids)?,
        TextOrIds::Text(text) => args.special.encode(&engine.tokenizer, &text.text()?),
    };
    let n_ctx = ids.len().clamp(1, engine.model.config().n_ctx);
    let options = args.cache.state_options(n_ctx);
    let mut sequence = engine.sequence(options, Outputs::All)?;
    sequence.check(&ids)?;

    let text_file = match &args.prompt {
        TextOrIds::Ids(_) => None,
        TextOrIds::Text(text) => text.path(),
    };
    input::refuse_inputs(&args.output, source.file.all_paths().chain(text_file))?;
    interrupt.end_in_order();
    let mut writer = LogitsWriter::create(&args.output, ids.len(), sequence.n_vocab())?;
    let progress = Progress::tokens("logits", ids.len(), args.quiet.quiet);
    sequence.visit_logits(&ids, &(0..ids.len()), interrupt.flag(), |idx, logits| {
        progress.set(idx as u64 + 1);
        writer.row(logits)
    })?;
    drop(progress);
    writer.finish()?;
    if !args.quiet.quiet {
        let (n_tokens, n_vocab) = (plural(ids.len(), "token"), sequence.n_vocab());
        terminal::say(format_args!(
            "{}: {n_tokens} × {n_vocab} logits",
            args.output.display()
        ));
    }
    Ok(())
}
