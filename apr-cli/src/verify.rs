//! `apr verify`: whether a model can be trusted.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{BoolishValueParser, RangedU64ValueParser, TypedValueParser},
};
use model_tools::{
    NewFile,
    verify::{
        Caller, Depth, Event, Stage, TensorHash, Verdict, VerifyOptions,
        golden::{Golden, GoldenRequest, Tolerance},
        hashes, read_hashes, record, verify, verify_path,
    },
};
use moe_model::ModelFile;
use quant_kernels::Isa;

use crate::{
    args::{QuietArgs, ThreadArgs},
    builtin,
    error::Error,
    input::{read_file, read_text, refuse_inputs, refuse_same_file},
    interrupt::Interrupt,
    machine,
    output::Output,
    progress::Progress,
    terminal,
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
    /// Once the model is found sound, write what it is and says, to hold it or another one to
    /// that later: sizes, hashes, greedy tokens with their logits, and the perplexity of a text
    #[arg(long, value_name = "FILE", env = "APR_RECORD")]
    record: Option<PathBuf>,
    /// Text whose perplexity is recorded [default: a few lines]
    #[arg(long, value_name = "FILE", env = "APR_TEXT", requires = "record")]
    text: Option<PathBuf>,
    /// Hold the model to what --record wrote
    #[arg(long, value_name = "FILE", env = "APR_AGAINST")]
    against: Option<PathBuf>,
    /// Allow for other weights of the recorded model, such as other types: logits may differ by
    /// so much, and the perplexity by such a share of itself, as in 0.5,0.02
    #[arg(
        long,
        value_name = "LOGITS,SHARE",
        env = "APR_WITHIN",
        value_parser = tolerance,
        requires = "against"
    )]
    within: Option<Tolerance>,
    /// Tokens of the forward pass, 1 to 1024 and no more than the model's context [default: 16,
    /// with --quick 4]
    #[arg(long, value_name = "N", env = "APR_VERIFY_TOKENS", value_parser = n_tokens())]
    tokens: Option<NonZeroUsize>,
    /// Layers of the forward pass that are compared, from the first [default: all, with --quick
    /// 2]
    #[arg(long, value_name = "N", env = "APR_LAYERS")]
    layers: Option<NonZeroUsize>,
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
    args.refuse_outputs()?;
    let interrupt = Interrupt::install();
    interrupt.end_in_order();
    let mut request = GoldenRequest::default();
    if let Some(text) = &args.text {
        request.text = read_text(text)?;
    }
    // What cannot be written is said before hours of work.
    let junit = args.junit.as_deref().map(Written::begin).transpose()?;
    let golden = args.record.as_deref().map(Written::begin).transpose()?;
    let mut watch = Watch {
        begin: Instant::now(),
        interrupt,
        is_quiet: args.quiet.quiet,
        bar: None,
        what: "",
        table: None,
        failed: None,
    };
    let options = args.options(&mut watch)?;
    watch.table = (!args.json).then(Output::new);
    let report = match &args.file {
        Some(path) => verify_path(path, &options, &mut watch),
        None => verify(&builtin::file(), &options, &mut watch),
    };
    let report = report.map_err(|error| watch.failed.take().unwrap_or_else(|| error.into()))?;
    if args.json {
        Output::new().line(&report.to_json())?;
    } else {
        Output::new().write(report.conclusion().as_bytes())?;
    }
    let written = junit.map_or(Ok(()), |file| file.finish(&report.to_junit()));
    if report.verdict == Verdict::Failed {
        // The verdict counts before a report that came to grief.
        if let Err(error) = written {
            terminal::say(format_args!("note: {error}"));
        }
        if args.record.is_some() && !args.quiet.quiet {
            terminal::say("note: nothing is recorded of a model that is not sound");
        }
        return Err(Error::Wrong {
            model: report.model,
        });
    }
    written?;
    match golden {
        Some(file) => args.record(file, &request, &options, &mut watch),
        None => Ok(()),
    }
}

impl VerifyArgs {
    /// Refuses files to write that are read, or that are one and the same.
    fn refuse_outputs(&self) -> Result<(), Error> {
        let [junit, record] = [self.junit.as_deref(), self.record.as_deref()];
        refuse_same_file(("--junit", junit), ("--record", record))?;
        let mut read: Vec<PathBuf> = Vec::new();
        read.extend([&self.against, &self.text].into_iter().flatten().cloned());
        for model in [&self.file, &self.compare].into_iter().flatten() {
            read.push(model.clone());
            // What cannot be opened is what the verification is about.
            if let Ok(file) = ModelFile::open(model) {
                read.extend(file.all_paths().map(Path::to_owned));
            }
        }
        let mut written = [junit, record].into_iter().flatten();
        written.try_for_each(|target| refuse_inputs(target, read.iter().map(PathBuf::as_path)))
    }

    fn options(&self, watch: &mut Watch) -> Result<VerifyOptions, Error> {
        let mut options = VerifyOptions {
            depth: if self.quick {
                Depth::Quick
            } else {
                Depth::Full
            },
            n_tokens: self.tokens,
            n_layers: self.layers,
            environment: environment(self),
            ..VerifyOptions::new(self.threads.n_threads())
        };
        if let Some(path) = &self.against {
            let golden = Golden::from_json(&read_file(path)?);
            let golden = golden.map_err(|error| Error::within(path)(error.into()))?;
            options.golden = Some((golden, self.within.unwrap_or_default()));
        }
        if let Some(other) = &self.compare {
            watch.what = "compare";
            options.compare = Some(hashes_of(other, &options, watch)?);
            watch.bar = None;
        }
        Ok(options)
    }

    /// Writes what the model is and says.
    fn record(
        &self,
        out: Written<'_>,
        request: &GoldenRequest,
        options: &VerifyOptions,
        watch: &mut Watch,
    ) -> Result<(), Error> {
        let file = match &self.file {
            Some(path) => ModelFile::open(path)?,
            None => builtin::file(),
        };
        watch.what = "record";
        let golden = record(&file, request, options, watch);
        watch.bar = None;
        out.finish(&golden?.to_json())
    }
}

/// Reads a number of tokens that the reference can keep at hand.
fn n_tokens() -> impl TypedValueParser<Value = NonZeroUsize> {
    RangedU64ValueParser::<usize>::new()
        .range(1..=1024)
        .try_map(NonZeroUsize::try_from)
}

fn tolerance(text: &str) -> Result<Tolerance, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<f64>().ok();
        number.filter(|number| number.is_finite() && *number >= 0.0)
    };
    let parts = text.split_once(',');
    match parts.map(|(logits, perplexity)| (number(logits), number(perplexity))) {
        Some((Some(logits), Some(perplexity))) => Ok(Tolerance::Within { logits, perplexity }),
        _ => Err("expected two numbers from 0 on, as in 0.5,0.02".to_owned()),
    }
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
        return read_hashes(&read_file(path)?).map_err(|error| within(error.into()));
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

/// A text file on its way.
struct Written<'a> {
    path: &'a Path,
    file: NewFile,
}

impl<'a> Written<'a> {
    fn begin(path: &'a Path) -> Result<Self, Error> {
        let file = NewFile::create(path)?;
        Ok(Self { path, file })
    }

    fn finish(mut self, text: &str) -> Result<(), Error> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| Error::io(self.path, "written", error))?;
        Ok(self.file.finish()?)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_two_numbers() {
        let expected = Tolerance::Within {
            logits: 0.5,
            perplexity: 0.02,
        };
        assert_eq!(tolerance("0.5, 0.02"), Ok(expected));
        for text in ["", "1", "1,", "-1,0", "nan,0", "1,inf", "1,2,3"] {
            assert!(tolerance(text).is_err(), "{text}");
        }
    }
}
