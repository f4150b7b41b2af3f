//! `apr imatrix`: importance matrices from a text.
//!
//! The text is cut into windows as for a perplexity, a rest is left out, and the sums over all
//! of them are written in llama.cpp's GGUF form.

use std::path::PathBuf;

use clap::Args;
use model_tools::{ImportanceSums, NewFile, Unseen};
use moe_model::{ModelError, Outputs, State, forward_inputs};

use crate::{
    args::{CacheArgs, CpuArgs, ModelArgs, QuietArgs, WindowArgs},
    engine::{Engine, Source},
    error::Error,
    file_limit,
    input::{PromptArgs, SpecialArgs, refuse_inputs},
    interrupt::Interrupt,
    progress::Progress,
    terminal,
    units::plural,
};

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct ImatrixArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    special: SpecialArgs,
    /// GGUF file to write, for `apr quantize --imatrix`
    #[arg(short, long, value_name = "FILE", env = "APR_OUTPUT")]
    output: PathBuf,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

pub(crate) fn run(args: &ImatrixArgs) -> Result<(), Error> {
    file_limit::make_an_error();
    let interrupt = Interrupt::install();
    let text = args.prompt.text()?;
    let source = Source::open(&args.model)?;
    let engine = source.engine(&args.cpu, args.quiet)?;
    let ids = args.special.encode(&engine.tokenizer, &text);
    let (_, n_windows) = args.windows.of(engine.model.config(), None, ids.len())?;
    let inputs = source.file.all_paths().chain(args.prompt.path());
    refuse_inputs(&args.output, inputs)?;
    interrupt.end_in_order();
    let out = NewFile::create(&args.output)?;
    let sums = read(args, &engine, &ids, n_windows, &interrupt)?;
    let [n_chunks, n_ctx] =
        [n_windows, args.windows.ctx_size].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    sums.write(out, &args.prompt.name(), n_chunks, n_ctx)
        .map_err(|error| Error::within(&args.output)(error.into()))?
        .finish()?;
    if !args.quiet.quiet {
        if let Some(note) = unseen(&sums) {
            terminal::say(note);
        }
        terminal::say(format_args!(
            "{}: {} importance matrices from {} of {} tokens",
            args.output.display(),
            sums.n_entries(),
            plural(n_windows, "chunk"),
            args.windows.ctx_size
        ));
    }
    Ok(())
}

/// Reads all windows, each with an empty cache.
fn read(
    args: &ImatrixArgs,
    engine: &Engine<'_>,
    ids: &[u32],
    n_windows: usize,
    interrupt: &Interrupt,
) -> Result<ImportanceSums, Error> {
    let options = args.cache.state_options(args.windows.ctx_size);
    engine.check_memory(1, options, Outputs::None)?;
    let mut state = State::new(&engine.model, options)?;
    let mut sums = ImportanceSums::new(engine.model.config().n_expert);
    let bos = engine
        .tokenizer
        .bos()
        .filter(|_| engine.tokenizer.adds_bos());
    let template = "{wide_bar} {pos}/{len} chunks, {eta} left";
    let progress = Progress::new(n_windows as u64, template, args.quiet.quiet);
    for (done, window) in (0..n_windows).zip(ids.chunks_exact(args.windows.ctx_size)) {
        progress.set(done as u64);
        let mut window = window.to_vec();
        window[0] = bos.unwrap_or(window[0]);
        state.truncate(0);
        let pass = forward_inputs(
            &engine.cpu,
            &engine.model,
            &mut state,
            &window,
            Outputs::None,
            &mut |layer| {
                if interrupt.flag().is_cancelled() {
                    layer.stop();
                }
            },
            &mut |inputs| sums.add(&inputs),
        );
        pass.map_err(|error| match error {
            ModelError::Stopped { .. } => Error::Interrupted,
            error => error.into(),
        })?;
    }
    Ok(sums)
}

/// Returns what is said of experts that no token was routed to.
fn unseen(sums: &ImportanceSums) -> Option<String> {
    // Gate and up of a layer share their experts with down, which stands for all three.
    let down = |unseen: &Unseen<'_>| unseen.name.contains("ffn_down_exps");
    let unseen: Vec<Unseen<'_>> = sums.unseen().filter(down).collect();
    let n_unseen: usize = unseen.iter().map(|unseen| unseen.n_unseen).sum();
    let layers: Vec<String> = unseen
        .iter()
        .filter_map(|unseen| {
            let layer = unseen.name.split('.').nth(1)?;
            Some(format!(
                "{} of {} in layer {layer}",
                unseen.n_unseen, unseen.n_expert
            ))
        })
        .collect();
    (n_unseen > 0).then(|| {
        format!(
            "note: {} never routed to, whose columns will count alike: {}; a longer text \
             may reach them",
            plural(n_unseen, "expert"),
            layers.join(", ")
        )
    })
}
