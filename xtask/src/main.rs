//! Workspace tasks, run as `cargo xtask TASK`: flags here, one file per task.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program's output")]

mod bench;
mod ci;
mod clients;
mod command;
mod error;
mod load;
mod page;
mod server;
mod synth_model;
mod tidy;
mod verify_model;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every check
    Ci,
    /// Check the rules of the repository that compilers do not know
    Tidy,
    /// Ask the server as the official Python clients do
    Clients(clients::Args),
    /// Test the server's page in headless Chromium
    Page,
    /// Write a synthetic Qwen3-MoE model
    SynthModel(synth_model::Args),
    /// Compare the speed with llama.cpp and `ik_llama.cpp`
    Bench(bench::Args),
    /// Put `apr serve` under load
    Load(load::Args),
    /// Compare `apr serve` with llama.cpp's `llama-server`
    Streams(load::streams::Args),
    /// Find out whether a model can be trusted, as `apr verify` does
    VerifyModel(verify_model::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Ci => Workspace::find().and_then(|workspace| ci::run(&workspace)),
        Task::Tidy => Workspace::find().and_then(|workspace| tidy::run(&workspace)),
        Task::Clients(args) => {
            Workspace::find().and_then(|workspace| clients::run(&workspace, &args))
        }
        Task::Page => Workspace::find().and_then(|workspace| page::run(&workspace)),
        Task::SynthModel(args) => synth_model::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Load(args) => Workspace::find().and_then(|workspace| load::run(&workspace, &args)),
        Task::Streams(args) => {
            Workspace::find().and_then(|workspace| load::streams::run(&workspace, &args))
        }
        Task::VerifyModel(args) => {
            Workspace::find().and_then(|workspace| verify_model::run(&workspace, &args))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            ExitCode::from(error.exit_code())
        }
    }
}
