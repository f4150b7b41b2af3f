//! `apr verify`: whether a model can be trusted.

use std::{
    fs::{self, File},
    io::{Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, builder::BoolishValueParser};
use model_tools::{
    NewFile,
    verify::{
        Caller, Depth, Event, Stage, TensorHash, Verdict, VerifyOptions, hashes, read_hashes,
        verify, verify_path,
    },
};
use moe_model::ModelFile;
use quant_kernels::Isa;

use crate::{
    args::{QuietArgs, ThreadArgs},
    builtin,
    error::Error,
    interrupt::Interrupt,
    machine,
    output::Output,
    progress::Progress,
};

/// Columns of the table.
const WIDTH: usize = 100;

/// Flags of the verb.
#[derive(Debug, Args)]
#[command(after_help = "\
Stages: file, numbers, text, kernels, forward, invariance, golden. A stage that means nothing \
after another one failed is skipped. Ends with 6 if a stage failed. See docs/verify.md.")]
pub(crate) struct VerifyArgs {
    /// GGUF file, any shard of a split one, or the folder of a Hugging Face checkpoint
    /// [default: the built-in model]
    #[arg(value_name = "FILE|DIR", env = "APR_MODEL")]
    file: Option<PathBuf>,
    /// Look at headers and samples only, which takes seconds
    #[arg(long, env = "APR_QUICK", value_parser = BoolishValueParser::new())]
    quick: bool,
    /// Another copy of the model, or the report that --json wrote of it: all tensors must be
    /// the same bytes
    #[arg(
        long,
        value_name = "FILE|DIR",
        env = "APR_COMPARE",
        conflicts_with = "quick"
    )]
    compare: Option<PathBuf>,
    /// Print one JSON object, with a hash of every tensor
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    /// Write the report as `JUnit` XML too, for build servers
    #[arg(long, value_name = "FILE", env = "APR_JUNIT")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Error> {
    if let (Some(junit), Some(file)) = (&args.junit, &args.file) {
        refuse_model(junit, file)?;
    }
    let interrupt = Interrupt::install();
    interrupt.make_gentle();
    let mut watch = Watch {
        begin: Instant::now(),
        interrupt,
        is_quiet: args.quiet.quiet,
        bar: None,
        what: "",
        table: None,
        failed: None,
    };
    let mut options = VerifyOptions {
        depth: if args.quick {
            Depth::Quick
        } else {
            Depth::Full
        },
        environment: environment(args),
        ..VerifyOptions::new(args.threads.n_threads())
    };
    if let Some(other) = &args.compare {
        watch.what = "compare";
        options.compare = Some(hashes_of(other, &options, &mut watch)?);
        watch.bar = None;
    }
    watch.table = (!args.json).then(Output::new);
    let report = match &args.file {
        Some(path) => verify_path(path, &options, &mut watch),
        None => verify(&builtin::file(), &options, &mut watch),
    };
    let report = report.map_err(|error| watch.failed.take().unwrap_or_else(|| error.into()))?;
    if let Some(junit) = &args.junit {
        write(junit, &report.to_junit())?;
    }
    if args.json {
        Output::new().line(&report.to_json())?;
    } else {
        Output::new().write(report.conclusion().as_bytes())?;
    }
    if report.verdict == Verdict::Failed {
        return Err(Error::Wrong {
            model: report.model,
        });
    }
    Ok(())
}

/// Who waits: a person at a terminal sees bars, and the rows of the table as they come.
struct Watch {
    begin: Instant,
    interrupt: Interrupt,
    is_quiet: bool,
    bar: Option<Progress>,
    /// What the bar is about.
    what: &'static str,
    table: Option<Output>,
    /// Why the table could not be printed.
    failed: Option<Error>,
}

impl Caller for Watch {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Begin(stage) => self.what = stage.name(),
            Event::Progress { done, total } => self.show(done, total),
            Event::End(stage) => {
                self.bar = None;
                if let Some(table) = &mut self.table
                    && let Err(error) = table.write(stage.to_rows(WIDTH).as_bytes())
                {
                    self.failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        if self.interrupt.flag().is_cancelled() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Watch {
    fn show(&mut self, done: u64, total: u64) {
        let (what, is_quiet) = (self.what, self.is_quiet);
        let bar = self.bar.get_or_insert_with(|| {
            if what == Stage::Numbers.name() || what == "compare" {
                Progress::bytes(what, total, is_quiet)
            } else {
                let template = format!("{what} {{wide_bar}} {{pos}}/{{len}}");
                Progress::new(total, &template, is_quiet)
            }
        });
        bar.set(done);
    }
}

/// Returns the hashes of another model: from its report, or from its tensors.
fn hashes_of(
    path: &Path,
    options: &VerifyOptions,
    watch: &mut Watch,
) -> Result<Vec<TensorHash>, Error> {
    let within = Error::within(path);
    if begins_like_json(path) {
        let failed = |error| Error::io(path, "read", error);
        let json = fs::read(path).map_err(failed)?;
        return read_hashes(&json).map_err(|error| within(error.into()));
    }
    let file = ModelFile::open(path)?;
    hashes(&file, options, watch).map_err(|error| within(error.into()))
}

/// What cannot be read is found out by whoever reads it next.
fn begins_like_json(path: &Path) -> bool {
    let mut first = [0];
    let is_read = path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok());
    is_read && first == *b"{"
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = NewFile::create(path)?;
    file.write_all(text.as_bytes())
        .map_err(|error| Error::io(path, "written", error))?;
    Ok(file.finish()?)
}

/// Refuses to write a report in the place of the model.
fn refuse_model(report: &Path, model: &Path) -> Result<(), Error> {
    let is_model = match (fs::canonicalize(report), fs::canonicalize(model)) {
        (Ok(report), Ok(model)) => report.starts_with(model),
        _ => false,
    };
    if is_model {
        let message = format!("{}: this is the model", report.display());
        return Err(Error::usage(message));
    }
    Ok(())
}

/// Returns what the figures depend on.
fn environment(args: &VerifyArgs) -> Vec<(String, String)> {
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    let mut environment = vec![
        ("apr", env!("CARGO_PKG_VERSION").to_owned()),
        ("instruction sets", isas.join(", ")),
        ("threads", args.threads.n_threads().to_string()),
    ];
    environment.extend(machine::cpu_name().map(|name| ("cpu", name)));
    environment
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
