//! `apr trace`: which experts a text goes to.
//!
//! The text is read as for a prompt; what is longer than the context is cut into windows, each
//! with an empty cache, and unlike a perplexity's the last one may be short: every token counts.

mod record;
mod table;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, builder::BoolishValueParser};
use model_tools::{HeatMap, NewFile, RoutingSums, expert_bytes};
use moe_model::{ModelError, Outputs, State, StateOptions, forward_observed};

use self::record::{About, Record};
use crate::{
    args::{EngineArgs, ModelArgs, QuietArgs},
    engine::{Engine, Source},
    error::Error,
    input::{PromptArgs, SpecialArgs, refuse_inputs, refuse_same_file},
    interrupt::Interrupt,
    output::Output,
    progress::Progress,
    room::expect_room,
    terminal,
    units::plural,
};

/// Flags of the verb.
///
/// A text longer than the context is read in windows, each with an empty cache.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    special: SpecialArgs,
    /// Draw a heat map of layers and experts into this SVG file
    #[arg(long, value_name = "FILE", env = "APR_SVG")]
    svg: Option<PathBuf>,
    /// Draw the same heat map into this PNG file
    #[arg(long, value_name = "FILE", env = "APR_PNG")]
    png: Option<PathBuf>,
    /// Print one JSON object, with the counts and weights of all experts
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    /// The most windows to read [default: all]
    #[arg(long, value_name = "N", env = "APR_CHUNKS")]
    chunks: Option<usize>,
    #[command(flatten)]
    with: EngineArgs,
}

/// A text in windows.
#[derive(Debug)]
struct Windows {
    options: StateOptions,
    /// Where the model expects a beginning, each window has one.
    windows: Vec<Vec<u32>>,
    /// Windows that are left out because `--chunks` says so.
    n_left_out: usize,
}

/// A picture on its way.
struct Picture<'a> {
    path: &'a Path,
    file: NewFile,
}

pub(crate) fn run(args: &TraceArgs) -> Result<(), Error> {
    let interrupt = Interrupt::install();
    let text = args.prompt.text()?;
    let source = Source::open(&args.model)?;
    let engine = source.engine_at_once(&args.with.cpu, args.with.quiet)?;
    let windows = Windows::of(args, &engine, &text)?;
    let config = engine.model.config();
    if args.png.is_some() {
        HeatMap::check_png(config.n_layer, config.n_expert)?;
    }
    let [svg, png] = [args.svg.as_deref(), args.png.as_deref()];
    refuse_same_file(("--svg", svg), ("--png", png))?;
    interrupt.end_in_order();
    let picture = |path| Picture::begin(path, args, &source);
    let (svg, png) = (picture(svg)?, picture(png)?);
    if let Some(note) = windows.note().filter(|_| !args.with.quiet.quiet) {
        terminal::say(note);
    }
    let sums = read(args, &engine, &windows, &interrupt)?;

    let about = About {
        model: source.name(),
        text: args.prompt.name(),
        n_ctx: windows.options.n_ctx,
        n_windows: windows.windows.len(),
    };
    let record = Record::new(about, &sums, &expert_bytes(&engine.model));
    let map = HeatMap {
        sums: &sums,
        title: &record.title(),
        subtitle: &record.subtitle(),
    };
    if let Some(svg) = svg {
        svg.finish(map.svg().as_bytes(), &sums, args.with.quiet)?;
    }
    if let Some(png) = png {
        png.finish(&map.png()?, &sums, args.with.quiet)?;
    }
    let mut output = Output::new();
    if args.json {
        output.json(&record)
    } else {
        output.text(&record.report())
    }
}

impl Windows {
    fn of(args: &TraceArgs, engine: &Engine<'_>, text: &str) -> Result<Self, Error> {
        let options = args.with.context.state_options(engine.model.config())?;
        let tokenizer = &engine.tokenizer;
        let ids = args.special.encode(tokenizer, text);
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let ids = &ids[usize::from(bos.is_some()).min(ids.len())..];
        let room = options.n_ctx - usize::from(bos.is_some());
        if ids.is_empty() {
            return Err(Error::usage("the text is empty"));
        }
        if room == 0 {
            let message = "--ctx-size 1: the model expects a token before the text";
            return Err(Error::usage(message));
        }
        if args.chunks == Some(0) {
            return Err(Error::usage("--chunks 0: expected at least one"));
        }
        let windows = ids.chunks(room).take(args.chunks.unwrap_or(usize::MAX));
        let windows: Vec<Vec<u32>> = windows
            .map(|ids| bos.into_iter().chain(ids.iter().copied()).collect())
            .collect();
        let longest = windows.iter().map(Vec::len).max().unwrap_or_default();
        Ok(Self {
            options: StateOptions {
                n_ctx: longest,
                ..options
            },
            n_left_out: ids.len().div_ceil(room) - windows.len(),
            windows,
        })
    }

    fn n_tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// Returns what is said if the text is not read in one piece.
    fn note(&self) -> Option<String> {
        let (n_windows, n_ctx) = (self.windows.len(), self.options.n_ctx);
        if n_windows == 1 && self.n_left_out == 0 {
            return None;
        }
        let left_out = match self.n_left_out {
            0 => String::new(),
            n => format!("; {} left out", plural(n, "window")),
        };
        Some(format!(
            "note: the text is read in {} of at most {}, each with an empty cache{left_out}",
            plural(n_windows, "window"),
            plural(n_ctx, "token")
        ))
    }
}

impl<'a> Picture<'a> {
    fn begin(
        path: Option<&'a Path>,
        args: &TraceArgs,
        source: &Source,
    ) -> Result<Option<Self>, Error> {
        let Some(path) = path else {
            return Ok(None);
        };
        refuse_inputs(path, source.file.all_paths().chain(args.prompt.path()))?;
        let file = NewFile::create(path)?;
        Ok(Some(Self { path, file }))
    }

    fn finish(mut self, bytes: &[u8], sums: &RoutingSums, quiet: QuietArgs) -> Result<(), Error> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Error::io(self.path, "written", error))?;
        self.file.finish()?;
        if !quiet.quiet {
            terminal::say(format_args!(
                "{}: heat map of {} × {}",
                self.path.display(),
                plural(sums.n_layer(), "layer"),
                plural(sums.n_expert(), "expert")
            ));
        }
        Ok(())
    }
}

/// Reads all windows and counts.
fn read(
    args: &TraceArgs,
    engine: &Engine<'_>,
    windows: &Windows,
    interrupt: &Interrupt,
) -> Result<RoutingSums, Error> {
    let config = engine.model.config();
    engine.check_memory(1, windows.options, Outputs::None)?;
    expect_room(RoutingSums::n_bytes(config), || {
        let (n_layer, n_expert) = (config.n_layer, config.n_expert);
        format!("the counts of {n_layer} layers × {n_expert} experts and their neighbours")
    })?;
    let mut state = State::new(&engine.model, windows.options)?;
    let mut sums = RoutingSums::new(config);
    let progress = Progress::tokens("trace", windows.n_tokens(), args.with.quiet.quiet);
    let mut n_before = 0;
    for window in &windows.windows {
        state.truncate(0);
        let pass = forward_observed(
            &engine.cpu,
            &engine.model,
            &mut state,
            window,
            Outputs::None,
            &mut |view| {
                sums.add(&view);
                let first = view.places.first().map_or(0, |place| place.position);
                let n_done = view.places.len() * (view.layer + 1) / config.n_layer;
                progress.set((n_before + first + n_done) as u64);
                if interrupt.flag().is_cancelled() {
                    view.stop();
                }
            },
        );
        pass.map_err(|error| match error {
            ModelError::Stopped { .. } => Error::Interrupted,
            error => error.into(),
        })?;
        n_before += window.len();
    }
    Ok(sums)
}
