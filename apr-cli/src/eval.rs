//! `apr eval`: how good a model is at questions whose answers are known.
//!
//! The file is read twice: once to find what is wrong with it before hours of work, and to know
//! what fits into the context, and once to ask the model. It is never in memory as a whole.

mod lines;
mod table;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use generate::{Prefill, Sequence};
use model_tools::{
    NewFile,
    eval::{Form, Item, Outcome, Request, Row, Tally},
};
use moe_model::{Outputs, StateOptions};
use serde::Serialize;
use serde_json::Value;
use tokenizer::SpecialTokens;

use self::lines::{Line, Lines};
use crate::{
    args::{EngineArgs, JsonArgs, ModelArgs, QuietArgs},
    engine::{Engine, Source},
    error::Error,
    file_limit,
    input::{SpecialArgs, refuse_inputs},
    interrupt::Interrupt,
    output::Output,
    progress::Progress,
    terminal,
    units::{self, plural},
};

/// Flags of the verb.
#[derive(Debug, Args)]
#[command(after_help = FORM)]
pub(crate) struct EvalArgs {
    /// File with an item in each line, as JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    special: SpecialArgs,
    /// What stands between a context and each of its choices; continuations follow as they are
    #[arg(
        long,
        value_name = "TEXT",
        env = "APR_DELIMITER",
        default_value = " ",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    delimiter: String,
    /// Token before texts, and in place of an empty context [default: the one that begins all of
    /// the model's texts, otherwise the one that ends them]
    #[arg(long, value_name = "ID", env = "APR_PREFIX_TOKEN")]
    prefix_token: Option<u32>,
    /// The most items to ask [default: all]
    #[arg(long, value_name = "N", env = "APR_LIMIT")]
    limit: Option<usize>,
    /// Write what each item has come to into this file, a line of JSON each
    #[arg(long, value_name = "FILE", env = "APR_SAMPLES")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    output: JsonArgs,
    #[command(flatten)]
    with: EngineArgs,
}

const FORM: &str = r#"Items:
  {"context": "2 + 2 =", "choices": ["3", "4"], "gold": 1}
  {"context": "To be, or not to", "continuation": " be"}
  {"text": "Now is the winter of our discontent"}
each with "id" and "task" if you like. Requests and figures are lm-evaluation-harness's."#;

/// The JSON object.
#[derive(Debug, Serialize)]
struct Record<'a> {
    model: String,
    file: &'a str,
    n_items: usize,
    n_ctx: usize,
    delimiter: &'a str,
    prefix_token: u32,
    results: Vec<Row>,
    timing: TimingRecord,
}

/// The part of [`Record`] that is another one each time.
#[derive(Debug, Serialize)]
struct TimingRecord {
    load_s: f64,
    eval_s: f64,
    /// Tokens that went through the model.
    n_computed: usize,
    /// Tokens that were found in the cache instead.
    n_cached: usize,
    tok_s: f64,
}

/// A line of the file of samples.
#[derive(Debug, Serialize)]
struct Sample<'a> {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    task: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// What the first look at the file has found.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    n_items: usize,
    /// Tokens of the longest request.
    n_input: usize,
}

/// What the model has said to all items.
#[derive(Debug)]
struct Answers {
    tally: Tally,
    work: Prefill,
    time: Duration,
}

/// The items of a file, as the model reads them.
struct Items<'a> {
    lines: Lines,
    form: Form<'a>,
    limit: usize,
    interrupt: &'a Interrupt,
}

pub(crate) fn run(args: &EvalArgs) -> Result<(), Error> {
    file_limit::make_an_error();
    let interrupt = Interrupt::install();
    if args.limit == Some(0) {
        return Err(Error::usage("--limit 0: expected at least one"));
    }
    let lines = Lines::open(&args.file)?;
    let source = Source::open(&args.model)?;
    let engine = source.engine_at_once(&args.with.cpu, args.with.quiet)?;
    let options = args.with.context.state_options(engine.model.config())?;
    interrupt.end_in_order();
    let mut items = Items {
        lines,
        form: form(args, &engine, options.n_ctx)?,
        limit: args.limit.unwrap_or(usize::MAX),
        interrupt: &interrupt,
    };
    let extent = items.extent()?;
    let options = StateOptions {
        n_ctx: extent.n_input.max(1),
        ..options
    };
    let mut sequence = engine.sequence(options, Outputs::All)?;
    let mut samples = Samples::create(args, &source)?;
    let answers = items.ask(&mut sequence, extent, &mut samples, args.with.quiet)?;
    samples.finish()?;

    let record = answers.record(source.name(), &items, extent.n_items, engine.load);
    if !args.with.quiet.quiet {
        terminal::say(record.timing_line());
    }
    let mut output = Output::new();
    if args.output.json {
        output.json(&record)
    } else {
        output.text(&table::table(&record.results))
    }
}

fn form<'a>(args: &'a EvalArgs, engine: &'a Engine<'_>, n_ctx: usize) -> Result<Form<'a>, Error> {
    let n_vocab = engine.model.config().n_vocab;
    let prefix = match args.prefix_token {
        Some(id) if id as usize >= n_vocab => {
            let message = format!("--prefix-token {id}: expected an id below {n_vocab}");
            return Err(Error::usage(message));
        }
        Some(id) => id,
        None => Form::usual_prefix(&engine.tokenizer).ok_or_else(|| {
            Error::usage("the model names no token that begins or ends texts: give --prefix-token")
        })?,
    };
    Ok(Form {
        tokenizer: &engine.tokenizer,
        special: match args.special.parse_special {
            true => SpecialTokens::Recognise,
            false => SpecialTokens::AsText,
        },
        delimiter: &args.delimiter,
        prefix,
        n_ctx,
    })
}

impl Items<'_> {
    /// Shows `visit` every item with its request, up to the limit.
    fn visit(
        &mut self,
        mut visit: impl FnMut(usize, &Item, &Request) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self {
            lines,
            form,
            limit,
            interrupt,
        } = self;
        let name = lines.name().to_owned();
        let mut n_left = *limit;
        lines.visit(|Line { number, text }| {
            if interrupt.flag().is_cancelled() {
                return Err(Error::Interrupted);
            }
            let wrong = |what: String| Error::input(&name, what);
            let item = Item::parse(number, text).map_err(|error| wrong(error.to_string()))?;
            let request = form.request(&item.question);
            let request = request.map_err(|what| wrong(format!("line {number}: {what}")))?;
            visit(number, &item, &request)?;
            n_left -= 1;
            Ok(n_left > 0)
        })
    }

    /// Finds out how many items there are, and whether all can be asked.
    fn extent(&mut self) -> Result<Extent, Error> {
        let mut extent = Extent::default();
        self.visit(|_, _, request| {
            extent.n_items += 1;
            extent.n_input = extent.n_input.max(request.n_input());
            Ok(())
        })?;
        match extent.n_items {
            0 => Err(Error::input(self.lines.name(), "no items")),
            _ => Ok(extent),
        }
    }

    fn ask(
        &mut self,
        sequence: &mut Sequence<'_>,
        extent: Extent,
        samples: &mut Samples<'_>,
        quiet: QuietArgs,
    ) -> Result<Answers, Error> {
        let begin = Instant::now();
        let template = "{wide_bar} {pos}/{len} items, {eta} left";
        let progress = Progress::new(extent.n_items as u64, template, quiet.quiet);
        let (mut tally, mut n_done) = (Tally::new(), 0);
        let mut work = Prefill {
            n_cached: 0,
            n_computed: 0,
        };
        let (interrupt, stem) = (self.interrupt, self.lines.stem().to_owned());
        self.visit(|line, item, request| {
            let scored = request.score(sequence, interrupt.flag())?;
            let outcome = Outcome::new(&item.question, &scored.likelihoods);
            let task = item.task.as_deref().unwrap_or(&stem);
            tally.add(task, &outcome);
            samples.push(&Sample {
                line,
                id: item.id.as_ref(),
                task,
                outcome: &outcome,
            })?;
            work.n_cached += scored.work.n_cached;
            work.n_computed += scored.work.n_computed;
            n_done += 1;
            progress.set(n_done);
            Ok(())
        })?;
        Ok(Answers {
            tally,
            work,
            time: begin.elapsed(),
        })
    }
}

impl Answers {
    fn record<'a>(
        &self,
        model: String,
        items: &'a Items<'_>,
        n_items: usize,
        load: Duration,
    ) -> Record<'a> {
        let Prefill {
            n_cached,
            n_computed,
        } = self.work;
        Record {
            model,
            file: items.lines.name(),
            n_items,
            n_ctx: items.form.n_ctx,
            delimiter: items.form.delimiter,
            prefix_token: items.form.prefix,
            results: self.tally.rows(),
            timing: TimingRecord {
                load_s: load.as_secs_f64(),
                eval_s: self.time.as_secs_f64(),
                n_computed,
                n_cached,
                tok_s: units::tok_s(n_computed, self.time),
            },
        }
    }
}

impl Record<'_> {
    fn timing_line(&self) -> String {
        let TimingRecord {
            n_computed,
            n_cached,
            tok_s,
            ..
        } = self.timing;
        let time = units::seconds(Duration::from_secs_f64(self.timing.eval_s));
        let cached = match n_cached {
            0 => String::new(),
            n => format!(" (+{n} cached)"),
        };
        let (items, tokens) = (plural(self.n_items, "item"), plural(n_computed, "token"));
        format!("{items} · {tokens}{cached} in {time}, {tok_s:.1} tok/s")
    }
}

/// The file that tells of every item, if one is wanted.
struct Samples<'a>(Option<(NewFile, &'a Path)>);

impl<'a> Samples<'a> {
    fn create(args: &'a EvalArgs, source: &Source) -> Result<Self, Error> {
        let Some(path) = args.samples.as_deref() else {
            return Ok(Self(None));
        };
        refuse_inputs(
            path,
            source.file.all_paths().chain(Some(args.file.as_path())),
        )?;
        Ok(Self(Some((NewFile::create(path)?, path))))
    }

    fn push(&mut self, sample: &Sample<'_>) -> Result<(), Error> {
        let Some((file, path)) = &mut self.0 else {
            return Ok(());
        };
        let written = serde_json::to_writer(&mut *file, sample).map_err(Into::into);
        let written = written.and_then(|()| file.write_all(b"\n"));
        written.map_err(|error| Error::io(path, "written", error))
    }

    fn finish(self) -> Result<(), Error> {
        match self.0 {
            Some((file, _)) => Ok(file.finish()?),
            None => Ok(()),
        }
    }
}
