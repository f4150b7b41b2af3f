//! `apr run`: one text, continued.

use clap::{Args, builder::BoolishValueParser};
use generate::{FinishReason, Generator, Sequence, Step, TextConfig};
use moe_model::Outputs;
use serde::Serialize;

use crate::{
    args::{EngineArgs, ModelArgs, QuietArgs},
    engine::Source,
    error::Error,
    grammar::GrammarArgs,
    input::{PromptArgs, SpecialArgs},
    interrupt::Interrupt,
    output::Output,
    progress::Progress,
    sampling::{LengthArgs, SamplingArgs},
    terminal,
    timing::{Stopwatch, Timing, TimingRecord},
};

/// Flags of the verb.
///
/// The text is continued as it is, without a chat template. Without -p and -f it is read from
/// stdin.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    special: SpecialArgs,
    #[command(flatten)]
    length: LengthArgs,
    /// Text that ends the continuation, and is no part of it; may be repeated
    #[arg(
        short,
        long = "reverse-prompt",
        visible_alias = "stop",
        value_name = "TEXT"
    )]
    #[arg(env = "APR_REVERSE_PROMPT", allow_hyphen_values = true)]
    reverse_prompt: Vec<String>,
    /// Leave the prompt out of the output
    #[arg(long, env = "APR_NO_DISPLAY_PROMPT", value_parser = BoolishValueParser::new())]
    no_display_prompt: bool,
    /// Print one JSON object at the end: text, ids, why it ended, times
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    /// With --json: also the experts of every token in every layer, and their weights
    #[arg(long, env = "APR_ROUTING", value_parser = BoolishValueParser::new())]
    routing: bool,
    #[command(flatten)]
    with: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    grammar: GrammarArgs,
}

/// The JSON object.
#[derive(Debug, Serialize)]
struct Record<'a> {
    model: &'a str,
    prompt: &'a str,
    text: &'a str,
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    finish_reason: &'static str,
    seed: u64,
    threads: usize,
    isa: &'static str,
    timings: TimingRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<Vec<TokenRouting>>,
}

/// Where a token went, layer by layer, in the router's order.
#[derive(Debug, Serialize)]
struct TokenRouting {
    id: u32,
    experts: Vec<Vec<u32>>,
    weights: Vec<Vec<f32>>,
}

/// A continuation on its way.
struct Continuation {
    text: String,
    ids: Vec<u32>,
    reason: FinishReason,
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Error> {
    let interrupt = Interrupt::install();
    if args.routing && !args.json {
        let message = "--routing: the experts are part of what --json prints";
        return Err(Error::usage(message));
    }
    let prompt = args.prompt.text()?;
    let source = Source::open(&args.model)?;
    let engine = source.engine_at_once(&args.with.cpu, args.with.quiet)?;
    let ids = args.special.encode(&engine.tokenizer, &prompt);
    let config = args
        .sampling
        .generation(&engine, args.length.limit(), args.with.quiet)?;
    let guide = args.grammar.guide(&engine, &config.stop_tokens)?;
    let options = args.with.context.state_options(engine.model.config())?;
    let mut sequence = engine.sequence(options, Outputs::Last)?;
    if args.routing {
        sequence.keep_routing();
    }

    let mut watch = Stopwatch::start(engine.load);
    prefill(&mut sequence, &ids, &interrupt, args.with.quiet, &mut watch)?;
    let text = TextConfig {
        stop_strings: args.reverse_prompt.clone(),
        show_control: false,
    };
    let mut generator = Generator::guided(&engine.tokenizer, &sequence, &config, &text, guide)?;
    let mut output = Output::new();
    if !args.json && !args.no_display_prompt {
        output.text(&prompt)?;
    }
    let continuation = stream(
        &mut generator,
        &mut sequence,
        &interrupt,
        &mut watch,
        |piece| {
            if args.json {
                Ok(())
            } else {
                output.text(piece)
            }
        },
    )?;
    let timing = watch.timing();
    if args.json {
        output.json(&Record {
            model: &source.name(),
            prompt: &prompt,
            text: &continuation.text,
            prompt_ids: &ids,
            ids: &continuation.ids,
            finish_reason: reason_name(continuation.reason),
            seed: config.sampler.seed,
            threads: engine.cpu.n_threads().get(),
            isa: engine.cpu.isa().name(),
            timings: timing.record(),
            routing: routing(&sequence),
        })?;
    } else if output.is_terminal() {
        output.line("")?;
    }
    if !args.with.quiet.quiet {
        args.grammar.note_end(continuation.reason);
        report_end(continuation.reason, &timing, sequence.n_ctx());
    }
    match continuation.reason {
        FinishReason::Cancelled => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

/// Returns the experts of all tokens that went through the model, if they were kept.
fn routing(sequence: &Sequence<'_>) -> Option<Vec<TokenRouting>> {
    let routing = sequence.routing()?;
    let tokens = sequence.tokens().iter().zip(0..routing.n_tokens());
    let tokens = tokens.map(|(&id, token)| {
        let layers = || routing.of(token);
        TokenRouting {
            id,
            experts: layers()
                .map(|routes| routes.iter().map(|route| route.expert).collect())
                .collect(),
            weights: layers()
                .map(|routes| routes.iter().map(|route| route.weight).collect())
                .collect(),
        }
    });
    Some(tokens.collect())
}

/// Says on stderr what the run took, and what ended it where that is no matter of course.
pub(crate) fn report_end(reason: FinishReason, timing: &Timing, n_ctx: usize) {
    if reason == FinishReason::ContextFull {
        terminal::say(format_args!("note: the context of {n_ctx} tokens is full"));
    }
    terminal::say(timing.line());
}

/// The reason as programs know it from other servers, more exact where these merge two.
const fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::StopToken(_) => "stop_token",
        FinishReason::StopString(_) => "stop_string",
        FinishReason::Length => "length",
        FinishReason::ContextFull => "context_full",
        FinishReason::Cancelled => "cancelled",
    }
}

/// Brings the prompt into the sequence, with a bar if it takes long.
pub(crate) fn prefill(
    sequence: &mut Sequence<'_>,
    ids: &[u32],
    interrupt: &Interrupt,
    quiet: QuietArgs,
    watch: &mut Stopwatch,
) -> Result<(), Error> {
    let progress = Progress::tokens("prompt", ids.len(), quiet.quiet);
    let done = sequence.prefill(ids, interrupt.flag(), &mut |at| {
        progress.set(at.n_done as u64);
    })?;
    watch.prefilled(done);
    Ok(())
}

/// Generates to the end and gives every piece of text to `show`.
fn stream(
    generator: &mut Generator<'_>,
    sequence: &mut Sequence<'_>,
    interrupt: &Interrupt,
    watch: &mut Stopwatch,
    mut show: impl FnMut(&str) -> Result<(), Error>,
) -> Result<Continuation, Error> {
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        match generator.step(sequence, interrupt.flag())? {
            Step::Piece(piece) => {
                watch.generated();
                show(&piece.text)?;
                text.push_str(&piece.text);
                ids.push(piece.token);
            }
            Step::Finished { reason, text: rest } => {
                show(&rest)?;
                text.push_str(&rest);
                return Ok(Continuation { text, ids, reason });
            }
        }
    }
}
