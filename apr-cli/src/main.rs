//! `apr`: run Qwen3-MoE models on a CPU.
//!
//! This program parses flags, wires the crates together and prints. Each verb is a file of
//! its own with its flags and one function `run`; what verbs share is beside them. Text goes
//! to stdout through [`output`], everything else to stderr through [`terminal`], and every
//! failure is an [`error::Error`], which knows its exit code.

#![deny(unsafe_code)]

mod error;
mod file_limit;
mod interrupt;
mod output;
mod progress;
mod terminal;
mod units;

mod args;
mod args_alias;
mod args_foreign;
mod builtin;
mod engine;
mod grammar;
mod heap;
mod input;
mod logits_file;
mod sampling;
mod timing;

mod bandwidth;
mod machine;
mod pages;
mod peak;
mod reads;
mod room;

mod bench;
mod chat;
mod completions;
mod convert;
mod detokenize;
mod doctor;
mod eval;
mod imatrix;
mod inspect;
mod logits;
mod perplexity;
mod plan;
mod quantize;
mod run;
mod serve;
mod tokenize;
mod trace;
mod verify;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

use clap::Parser;

use crate::{
    args::{Cli, Command},
    error::Error,
};

fn main() -> ExitCode {
    let args = args_alias::expand(std::env::args_os().collect());
    if let Some(why) = args_foreign::refusal(&args) {
        return Error::usage(why).report();
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error, args.get(1)),
    };
    let done = cli.command.map_or_else(without_verb, dispatch);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Prints help or a usage error, which clap has already put into words. A command line that
/// begins with a flag lacks the verb.
fn print_usage(error: &clap::Error, first: Option<&OsString>) -> ExitCode {
    // Help that nobody reads to its end is no failure.
    let _ = error.print();
    let is_flag = first.is_some_and(|arg| arg.as_encoded_bytes().starts_with(b"-"));
    if error.use_stderr() && is_flag {
        terminal::say(
            "\nFlags follow a verb: `apr run -p TEXT` continues a text, `apr chat` talks.",
        );
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Does what `apr` alone does: a chat on a terminal, otherwise the continuation of stdin.
/// Parsing the verb anew lets environment variables apply.
fn without_verb() -> Result<(), Error> {
    let verb = if std::io::stdin().is_terminal() {
        "chat"
    } else {
        "run"
    };
    let cli = Cli::try_parse_from(["apr", verb]).map_err(|error| {
        let message = error.render().to_string();
        Error::usage(message.trim_start_matches("error: ").trim_end())
    })?;
    cli.command.map_or(Ok(()), dispatch)
}

fn dispatch(command: Command) -> Result<(), Error> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Detokenize(args) => detokenize::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
