//! `apr bench`: how fast, and how near to what this machine's memory allows.
//!
//! A test is a prompt of random tokens (`pp512`), tokens generated one by one (`tg128`), or
//! both, at a depth of context, for one sequence or for several together (`4 × tg128`), whose
//! tokens differ and are all counted. One round warms up and is dropped; the median of the others
//! counts. Decoding reads every weight it uses once per step, so beside tokens per second
//! stand the bytes per second this amounts to, and their share of a streaming read that is
//! measured in the same minute over the same bytes. A prompt multiplies every weight it reads
//! many times; beside it stands the share of what the multipliers could do at the clock
//! measured before.

mod held;
mod phases;
mod report;
mod workload;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use crate::{
    args::{CacheArgs, CpuArgs, ModelArgs, QuietArgs},
    bandwidth,
    engine::{Engine, Source},
    error::Error,
    interrupt::Interrupt,
    machine,
    output::Output,
    peak,
    reads::Reads,
};

use self::{
    held::Held,
    phases::Phases,
    report::{Report, Row},
    workload::{Test, Workload},
};

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Lengths of prompts, separated by commas; 0 for none
    #[arg(
        short = 'p',
        long,
        value_name = "N",
        env = "APR_N_PROMPT",
        value_delimiter = ','
    )]
    #[arg(default_value = "512")]
    n_prompt: Vec<usize>,
    /// Numbers of tokens to generate; 0 for none
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        env = "APR_N_GEN",
        value_delimiter = ','
    )]
    #[arg(default_value = "128")]
    n_gen: Vec<usize>,
    /// A prompt and then tokens to generate (also -pg): `P,N`; may be repeated
    #[arg(long, value_name = "P,N", env = "APR_PROMPT_GEN", value_parser = workload::pair)]
    prompt_gen: Vec<(usize, usize)>,
    /// Tokens in the context before a test begins
    #[arg(
        short = 'd',
        long,
        value_name = "N",
        env = "APR_N_DEPTH",
        value_delimiter = ','
    )]
    #[arg(default_value = "0")]
    n_depth: Vec<usize>,
    /// Numbers of sequences that go on together, each with tokens of its own (also -np)
    #[arg(long, value_name = "N", env = "APR_PARALLEL", value_delimiter = ',')]
    #[arg(default_value = "1", value_parser = workload::n_sequences)]
    parallel: Vec<usize>,
    /// Rounds that count
    #[arg(
        short = 'r',
        long,
        value_name = "N",
        env = "APR_REPETITIONS",
        default_value_t = 5
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Form of the output
    #[arg(
        short = 'o',
        long,
        value_name = "FORM",
        env = "APR_BENCH_OUTPUT",
        default_value = "md"
    )]
    output: Form,
    /// Say after each row where its time went, step by step; JSON always says it
    #[arg(long, env = "APR_PHASES", value_parser = BoolishValueParser::new())]
    phases: bool,
    /// Also draw the tokens of -n, free and held to a grammar in turns, to say what a mask costs
    #[arg(long, env = "APR_HELD", value_parser = BoolishValueParser::new())]
    held: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A Markdown table
    Md,
    /// One JSON object
    Json,
    /// Comma-separated values
    Csv,
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Error> {
    let interrupt = Interrupt::install();
    if args.held && args.output == Form::Csv {
        return Err(Error::usage("--held has no rows in CSV"));
    }
    let source = Source::open(&args.model)?;
    let mut engine = source.engine(&args.cpu, args.quiet)?;
    let wants_phases = args.phases || args.output == Form::Json;
    let phases = wants_phases.then(|| Phases::of(&mut engine.cpu));
    let tests = tests(args, engine.model.config().n_ctx)?;
    let reads = Reads::of(&engine.model);
    let report = Report {
        model: source.name(),
        size_bytes: source.file.n_bytes(),
        n_params: reads.n_params,
        isa: engine.cpu.isa().name(),
        threads: engine.cpu.n_threads().get(),
        batch_size: args.cache.batch_size(),
        weight_bytes_per_token: reads.bytes_per_token(),
        peak_gops: peak::products_per_second(&engine.cpu).map(|peak| peak * 2.0 / 1e9),
    };
    let mut output = Output::new();
    if args.output != Form::Json {
        output.write(report.header(args.output == Form::Csv).as_bytes())?;
    }
    let (mut rows, mut lines_below) = (Vec::new(), Vec::new());
    for test in tests {
        let bench = Bench {
            args,
            source: &source,
            engine: &engine,
            reads: &reads,
            peak: report.peak_gops.map(|peak| peak * 1e9 / 2.0),
            phases: phases.as_ref(),
        };
        let row = bench.row(test, &interrupt)?;
        match args.output {
            Form::Json => rows.push(row),
            Form::Md => {
                output.line(&report.markdown(&row))?;
                if let Some(seconds) = row.phases() {
                    lines_below.push(format!("{test}: {}", phases::line(seconds)));
                }
            }
            Form::Csv => output.line(&report.csv(&row))?,
        }
    }
    let held = held(args, &engine, &interrupt)?;
    if args.output == Form::Json {
        output.json(&report.record(&rows, &held))?;
    } else {
        lines_below.extend(held.iter().map(Held::line));
    }
    for line in lines_below {
        output.line(&line)?;
    }
    Ok(())
}

/// Measures what a grammar costs, if that is asked for.
fn held(args: &BenchArgs, engine: &Engine<'_>, interrupt: &Interrupt) -> Result<Vec<Held>, Error> {
    let lengths = args.n_gen.iter().filter(|&&n_gen| args.held && n_gen > 0);
    let at_depths = lengths.flat_map(|&n_gen| args.n_depth.iter().map(move |&d| (n_gen, d)));
    at_depths
        .map(|length| held::measure(engine, &args.cache, length, args.repetitions, interrupt))
        .collect()
}

/// Lists the tests in the order of the flags.
fn tests(args: &BenchArgs, n_trained: usize) -> Result<Vec<Test>, Error> {
    let prompts = args.n_prompt.iter().map(|&n| (n, 0));
    let generations = args.n_gen.iter().map(|&n| (0, n));
    let both = args.prompt_gen.iter().copied();
    let lengths: Vec<_> = prompts
        .chain(generations)
        .chain(both)
        .filter(|&l| l != (0, 0))
        .collect();
    let of_sequences = |(n_prompt, n_gen), depth| {
        args.parallel.iter().map(move |&n_seqs| Test {
            n_seqs,
            depth,
            n_prompt,
            n_gen,
        })
    };
    let depths = args.n_depth.iter();
    let at_depth = |&depth| lengths.iter().flat_map(move |&l| of_sequences(l, depth));
    let tests: Vec<Test> = depths.flat_map(at_depth).collect();
    match tests.iter().find(|test| test.n_tokens() > n_trained) {
        None => Ok(tests),
        Some(test) => {
            let n = test.n_tokens();
            let message = format!("{test} takes {n} tokens, the model's context is {n_trained}");
            Err(Error::usage(message))
        }
    }
}

/// What it takes to measure.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a BenchArgs,
    source: &'a Source,
    engine: &'a Engine<'a>,
    reads: &'a Reads,
    /// Products per second that the processor could do, where that is known.
    peak: Option<f64>,
    phases: Option<&'a Phases>,
}

impl Bench<'_> {
    /// Does all rounds of a test. The first one warms up.
    fn row(&self, test: Test, interrupt: &Interrupt) -> Result<Row, Error> {
        let options = self.args.cache.state_options(test.n_tokens());
        let mut workload = Workload::new(self.engine, self.reads, options, test)?;
        let (mut seconds, mut weight_bytes) = (Vec::new(), 0);
        let mut phases = None;
        for round in 0..=self.args.repetitions {
            workload.prepare(interrupt.flag())?;
            if let Some(phases) = self.phases {
                phases.begin();
            }
            let done = workload.round(interrupt.flag())?;
            if round > 0 {
                seconds.push(done.time.as_secs_f64());
                weight_bytes = done.weight_bytes;
                phases = self.phases.map(Phases::seconds);
            }
        }
        // Before the stream, which may take a buffer of its own.
        let footprint = machine::footprint();
        let stream = bandwidth::of_model(&self.source.file, self.engine.cpu.n_threads());
        let cache = &self.args.cache;
        let kv_bytes = self
            .reads
            .kv_bytes_per_position(cache.cache_type_k, cache.cache_type_v)?;
        let n_bytes = test.bytes(weight_bytes, kv_bytes);
        let n_positions = (test.n_seqs * test.n_tokens()) as u64;
        let row = Row::new(test, &seconds, n_bytes, stream)
            .with_footprint(footprint)
            .with_products(test.products(self.reads), self.peak)
            .with_kv_bytes(kv_bytes * n_positions);
        Ok(row.with_phases(phases))
    }
}
