//! `apr chat`: a conversation.
//!
//! On a terminal lines are edited and remembered; from a pipe each line is a turn. Answers go
//! to stdout, thoughts, dimmed, to stderr with everything else. Each turn renders the whole
//! conversation; the sequence computes only what is new.

mod command;
mod conversation;
mod lines;

use std::path::Path;

use clap::{Args, ValueEnum};
use generate::{FinishReason, GenerationConfig, Generator, Sequence, Step, TextConfig};
use moe_model::{Outputs, StateOptions};
use reply_parser::{Ending, Reply, ReplyEvent, ReplyParser};

use crate::{
    args::{EngineArgs, ModelArgs, QuietArgs},
    engine::{Engine, Source},
    error::Error,
    interrupt::Interrupt,
    output::Output,
    run,
    sampling::{LengthArgs, SamplingArgs},
    terminal,
    timing::Stopwatch,
    units::count,
};

use self::{
    command::{Command, Entry, HELP},
    conversation::Conversation,
    lines::{Line, Lines},
};

/// Tokens that go through the model together. A Ctrl-C is heeded after each layer, so a layer
/// must be done in a moment: in a model of 30B, at 50 tokens/s, this many take 110 ms.
const BATCH_LEN: usize = 256;
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// System prompt (also -sys)
    #[arg(
        long,
        value_name = "TEXT",
        env = "APR_SYSTEM_PROMPT",
        allow_hyphen_values = true
    )]
    system_prompt: Option<String>,
    /// Whether the model thinks before it answers [default: as its template has it]
    #[arg(long, value_name = "ON|OFF", env = "APR_THINK")]
    think: Option<Switch>,
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    with: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Everything that lasts longer than a turn.
struct Chat<'m> {
    engine: &'m Engine<'m>,
    sequence: Sequence<'m>,
    conversation: Conversation,
    config: GenerationConfig,
    interrupt: Interrupt,
    output: Output,
    quiet: QuietArgs,
    has_colour: bool,
}

pub(crate) fn run(args: &ChatArgs) -> Result<(), Error> {
    let interrupt = Interrupt::install();
    let source = Source::open(&args.model)?;
    let engine = source.engine_at_once(&args.with.cpu, args.with.quiet)?;
    let mut conversation = Conversation::new(&engine.tokenizer, args.system_prompt.as_deref())?;
    if let Some(think) = args.think {
        conversation.set_thinking(think == Switch::On);
    }
    let options = StateOptions {
        batch_len: args.with.context.cache.batch_size.unwrap_or(BATCH_LEN),
        ..args.with.context.state_options(engine.model.config())?
    };
    let mut chat = Chat {
        sequence: engine.sequence(options, Outputs::Last)?,
        config: args
            .sampling
            .generation(&engine, args.length.limit(), args.with.quiet)?,
        engine: &engine,
        conversation,
        interrupt,
        output: Output::new(),
        quiet: args.with.quiet,
        has_colour: terminal::stderr_has_colour(),
    };
    let mut lines = Lines::new()?;
    if !lines.is_terminal() {
        return chat.follow(&mut lines);
    }
    chat.interrupt.make_gentle();
    chat.greet(&source);
    chat.converse(&mut lines)
}

impl Chat<'_> {
    fn greet(&self, source: &Source) {
        if !self.quiet.quiet {
            let weights = self.engine.model.weights().n_weights();
            let (name, weights) = (source.name(), count(weights));
            terminal::say(format_args!(
                "{name}, {weights} weights. /help lists the commands."
            ));
        }
    }

    /// Talks with a person: mistakes and failed turns are said, and the chat goes on.
    fn converse(&mut self, lines: &mut Lines) -> Result<(), Error> {
        loop {
            self.interrupt.flag().reset();
            let text = match lines.message()? {
                Line::Text(text) => text,
                Line::Interrupted => {
                    terminal::say("(Ctrl-D or /exit leaves)");
                    continue;
                }
                Line::End => return Ok(()),
            };
            match self.obey(&text) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Error::OutputClosed) => return Err(Error::OutputClosed),
                Err(error) if error.is_interruption() => {
                    terminal::say("(stopped before the answer; the message was taken back)");
                }
                // The code is for programs; this is a person who goes on.
                Err(error) => drop(error.report()),
            }
        }
    }

    /// Answers a pipe: the first failure is the end.
    fn follow(&mut self, lines: &mut Lines) -> Result<(), Error> {
        while let Line::Text(text) = lines.message()? {
            if !self.obey(&text)? {
                break;
            }
        }
        Ok(())
    }

    /// Does what was entered; returns whether to go on.
    fn obey(&mut self, text: &str) -> Result<bool, Error> {
        match Entry::parse(text) {
            Entry::Nothing => {}
            Entry::Mistake(why) => return Err(Error::Usage { message: why }),
            Entry::Command(Command::Exit) => return Ok(false),
            Entry::Command(command) => self.command(command)?,
            Entry::Message(text) => {
                self.conversation.push_user(text);
                // A message that got no answer is taken back, so that it can be sent again.
                self.reply().inspect_err(|_| self.conversation.pop_user())?;
            }
        }
        Ok(true)
    }

    fn command(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Clear => self.conversation.clear(),
            Command::System(text) => self.conversation.set_system(&text),
            Command::Think(think) => self.conversation.set_thinking(think),
            Command::Save(file) => self.conversation.save(Path::new(&file))?,
            Command::Load(file) => {
                let n = self.conversation.load(Path::new(&file))?;
                terminal::say(crate::units::plural(n, "message"));
                if let Some((role, text)) = self.conversation.last() {
                    terminal::say(format_args!("{}: {}", role, terminal::printable(text)));
                }
            }
            Command::Regen => {
                if !self.conversation.pop_answer() {
                    return Err(Error::usage("/regen: there is no message to answer"));
                }
                // The same seed would give the same answer.
                self.config.sampler.seed = self.config.sampler.seed.wrapping_add(1);
                self.reply()?;
            }
            Command::Help => terminal::say(HELP),
            Command::Exit => {}
        }
        Ok(())
    }

    fn reply(&mut self) -> Result<(), Error> {
        let prompt = self.conversation.render(&self.engine.tokenizer)?;
        let mut watch = Stopwatch::start(std::time::Duration::ZERO);
        run::prefill(
            &mut self.sequence,
            &prompt.ids,
            &self.interrupt,
            self.quiet,
            &mut watch,
        )?;
        let mut generator = Generator::new(
            &self.engine.tokenizer,
            &self.sequence,
            &self.config,
            &TextConfig::default(),
        )?;
        let mut parser = ReplyParser::new(&self.conversation.reply_format(&prompt), "");
        let mut reply = Reply::default();
        let mut is_thinking = false;
        let reason = loop {
            match generator.step(&mut self.sequence, self.interrupt.flag())? {
                Step::Piece(piece) => {
                    watch.generated();
                    self.show(parser.push(&piece.text), &mut reply, &mut is_thinking)?;
                }
                Step::Finished { reason, text } => {
                    let mut events = parser.push(&text);
                    events.extend(parser.finish(Ending::Stopped));
                    self.show(events, &mut reply, &mut is_thinking)?;
                    break reason;
                }
            }
        };
        self.end_thought(&mut is_thinking);
        self.output.line("")?;
        if !self.quiet.quiet {
            self.dim(|| run::report_end(reason, &watch.timing(), self.sequence.n_ctx()));
        }
        self.conversation.push_assistant(reply);
        match reason {
            FinishReason::Cancelled if !self.interrupt.is_gentle() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn show(
        &mut self,
        events: Vec<ReplyEvent>,
        reply: &mut Reply,
        is_thinking: &mut bool,
    ) -> Result<(), Error> {
        for event in &events {
            match event {
                ReplyEvent::Reasoning(text) => {
                    if !std::mem::replace(is_thinking, true) {
                        terminal::say_part(if self.has_colour { DIM } else { "[thinking] " });
                    }
                    terminal::say_part(terminal::printable(text));
                }
                ReplyEvent::Content(text) => {
                    self.end_thought(is_thinking);
                    self.output.text(text)?;
                }
                // No tools are offered, and an empty thought is not shown.
                _ => {}
            }
        }
        reply.extend(events);
        Ok(())
    }

    fn end_thought(&self, is_thinking: &mut bool) {
        if std::mem::take(is_thinking) {
            terminal::say(if self.has_colour { PLAIN } else { " [answer]" });
        }
    }

    /// Says something beside the point.
    fn dim(&self, say: impl FnOnce()) {
        if self.has_colour {
            terminal::say_part(DIM);
        }
        say();
        if self.has_colour {
            terminal::say_part(PLAIN);
        }
    }
}
