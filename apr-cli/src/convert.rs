//! `apr convert`: a checkpoint as a GGUF file, and a GGUF file as a checkpoint.

use std::{
    fmt::Display,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use gguf_format::GgufSet;
use model_tools::{
    CheckpointOptions, CheckpointPlan, NewFile, NewFolder, Plan, QuantizeOptions, Source, ToolError,
};
use moe_model::{Checkpoint, Contents, ModelFile};
use type_mix::Mix;

use crate::{
    args::{QuietArgs, ThreadArgs},
    error::Error,
    file_limit,
    input::refuse_inputs,
    interrupt::Interrupt,
    progress::Progress,
    terminal,
    units::{bytes, plural, seconds},
};

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Folder of a Hugging Face checkpoint to read, or a GGUF file, any shard of a split one
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// GGUF file to write if IN is a folder, which replaces an existing one when it is complete;
    /// a new or empty folder if IN is a GGUF file
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Type of the matrices; a folder can only have floats [default: that of the floats in IN,
    /// bf16 where there are none]
    #[arg(long, value_name = "FLOAT", env = "APR_OUTTYPE", ignore_case = true)]
    outtype: Option<OutType>,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// Types that matrices are converted to; the others are the business of `apr quantize`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
enum OutType {
    Bf16,
    F16,
    F32,
    #[value(name = "q8_0")]
    Q8,
}

impl OutType {
    const fn mix(self) -> Mix {
        match self {
            Self::Bf16 => Mix::BF16,
            Self::F16 => Mix::F16,
            Self::F32 => Mix::F32,
            Self::Q8 => Mix::Q8_0,
        }
    }
}

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Error> {
    file_limit::make_an_error();
    let file = ModelFile::open(&args.input)?;
    match file.contents()? {
        Contents::Checkpoint(checkpoint) => to_gguf(args, &file, &checkpoint),
        Contents::Gguf(gguf) => to_folder(args, &file, &gguf),
    }
}

fn to_gguf(args: &ConvertArgs, file: &ModelFile, checkpoint: &Checkpoint<'_>) -> Result<(), Error> {
    let within = Error::within(file.path());
    if args.output.is_dir() {
        let message = format!(
            "{}: a folder becomes a GGUF file, and this is a folder",
            args.output.display()
        );
        return Err(Error::usage(message));
    }
    let source = Source::from_checkpoint(checkpoint).map_err(|error| within(error.into()))?;
    say_notes(&source.notes, args.quiet);
    let mix = args
        .outtype
        .map_or_else(|| source.float_type(), OutType::mix);
    let plan = Plan::new(source, &QuantizeOptions::new(mix), None);
    let plan = plan.map_err(|error| within(error.into()))?;
    refuse_inputs(&args.output, file.all_paths())?;
    let start = Instant::now();
    write_gguf(&plan, &args.output, "convert", &args.threads, args.quiet)
        .map_err(|error| writing_failed(file.path(), &args.output, error))?;
    let n_tensors = plural(plan.tensors().len(), "tensor");
    say_done(args, start, &format!("{n_tensors}, {mix}"), plan.n_bytes());
    Ok(())
}

fn to_folder(args: &ConvertArgs, file: &ModelFile, gguf: &GgufSet<'_>) -> Result<(), Error> {
    let within = Error::within(file.path());
    let is_gguf_name = args.output.extension().is_some_and(|end| end == "gguf");
    if is_gguf_name || args.output.is_file() {
        let message = format!(
            "{}: a GGUF file becomes a folder; for other types see `apr quantize`",
            args.output.display()
        );
        return Err(Error::usage(message));
    }
    let ty = args.outtype.map(|outtype| outtype.mix().base());
    let options = CheckpointOptions {
        ty,
        ..CheckpointOptions::default()
    };
    let plan = CheckpointPlan::new(gguf, &options).map_err(|error| match error {
        error @ ToolError::NotFloat { .. } => error.into(),
        error => within(error.into()),
    })?;
    if !plan.quantized().is_empty() {
        let types: Vec<&str> = plan.quantized().iter().map(|ty| ty.name()).collect();
        let types = types.join(", ");
        terminal::say(format_args!(
            "note: {types} weights become {}; what quantizing lost of them does not come back",
            plan.ty()
        ));
    }
    say_notes(plan.notes(), args.quiet);
    let start = Instant::now();
    write_folder(&plan, args).map_err(|error| writing_failed(file.path(), &args.output, error))?;
    let n_files = plural(plan.n_shards(), "file");
    say_done(
        args,
        start,
        &format!("{n_files} of weights"),
        plan.n_bytes(),
    );
    Ok(())
}

fn write_folder(plan: &CheckpointPlan<'_>, args: &ConvertArgs) -> Result<(), ToolError> {
    let interrupt = Interrupt::install();
    interrupt.end_in_order();
    let folder = NewFolder::create(&args.output)?;
    let bar = Progress::bytes("convert", plan.n_bytes(), args.quiet.quiet);
    plan.write(&folder, args.threads.n_threads(), |progress| {
        bar.set(progress.written);
        flow(&interrupt)
    })?;
    folder.finish()
}

/// Writes beside the target and puts the file in its place. Ctrl-C and SIGTERM end it after the
/// piece that is being written, and nothing is left.
pub(crate) fn write_gguf(
    plan: &Plan<'_>,
    target: &Path,
    what: &str,
    threads: &ThreadArgs,
    quiet: QuietArgs,
) -> Result<(), ToolError> {
    let interrupt = Interrupt::install();
    interrupt.end_in_order();
    let out = NewFile::create(target)?;
    let bar = Progress::bytes(what, plan.n_bytes(), quiet.quiet);
    let out = plan.write(out, threads.n_threads(), |progress| {
        bar.set(progress.written);
        flow(&interrupt)
    })?;
    out.finish()
}

fn flow(interrupt: &Interrupt) -> ControlFlow<()> {
    if interrupt.flag().is_cancelled() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Says in which file it is what made writing fail.
pub(crate) fn writing_failed(input: &Path, output: &Path, error: ToolError) -> Error {
    match error {
        ToolError::Weight { .. } => Error::within(input)(error.into()),
        ToolError::Gguf(_) => Error::within(output)(error.into()),
        _ => error.into(),
    }
}

/// Says what of a model does not go into the new one.
pub(crate) fn say_notes(notes: &[impl Display], quiet: QuietArgs) {
    if !quiet.quiet {
        for note in notes {
            terminal::say(format_args!("note: {note}"));
        }
    }
}

fn say_done(args: &ConvertArgs, start: Instant, what: &str, n_bytes: u64) {
    if !args.quiet.quiet {
        terminal::say(format_args!(
            "{}: {what}, {}, {}",
            args.output.display(),
            bytes(n_bytes),
            seconds(start.elapsed())
        ));
    }
}
