//! Compares `apr` with llama.cpp and `ik_llama.cpp` on one model file, in turns.
//!
//! Machines are shared and memory is faster in one minute than in the next, so a figure
//! alone says little and two figures from different hours nothing. A *lap* is one test done
//! by every engine in every setting, one after the other, between two measurements of how
//! fast the model's pages stream. All tests have their first lap, then all their second,
//! and so on. A lap during which streaming moved too much stays in the raw rows, marked, and
//! out of the table. What is compared is the median of the ratios within laps.

mod engine;
mod lap;
mod process;
mod record;
mod summary;
mod table;
mod workload;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::{Value, json};

use crate::error::TaskError;
use engine::{Conditions, Engines, Setting};
use lap::{Lap, Sample};
use summary::Summary;
use workload::Workload;

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model file that all engines read
    #[arg(short, long, value_name = "FILE", value_parser = engine::absolute)]
    model: PathBuf,
    #[command(flatten)]
    engines: Engines,
    /// Settings to compare besides `apr`, with commas between; all that have a program if not
    /// said
    #[arg(long = "setting", value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = engine::setting)]
    settings: Vec<Setting>,
    /// Lengths of prompts; 0 for none
    #[arg(short = 'p', long, value_name = "N", value_delimiter = ',')]
    #[arg(default_values = ["64", "512", "2048"])]
    n_prompt: Vec<usize>,
    /// Tokens to generate at each depth; 0 for none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    n_gen: usize,
    /// Tokens in the context before those generated
    #[arg(short = 'd', long, value_name = "N", value_delimiter = ',')]
    #[arg(default_values = ["0", "4096", "16384"])]
    n_depth: Vec<usize>,
    /// Numbers of sequences that are continued together; 0 for none
    #[arg(long = "np", value_name = "N", value_delimiter = ',')]
    #[arg(default_values = ["1", "2", "4", "8", "16"])]
    n_parallel: Vec<usize>,
    /// Do not measure the time from the start of the process to the first token
    #[arg(long)]
    no_start: bool,
    /// Laps of each test
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Threads of every engine
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Instruction set of `apr`
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// How far streaming may move within a lap that counts, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    max_drift: f64,
    /// File for the raw rows as JSON, written anew after every lap
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Measures and prints a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let conditions = Conditions {
        model: &args.model,
        threads: args.threads.unwrap_or_else(all_threads),
        isa: args.isa.as_deref(),
    };
    let settings = args.engines.settings(&args.settings)?;
    let workloads = workloads(args);
    let machine = doctor(&args.engines, &conditions)?;
    let versions: Vec<Value> = args
        .engines
        .programs()
        .map(|(name, path)| json!({ "program": name, "version": version(path) }))
        .collect();
    let mut laps = Vec::new();
    let mut stream = stream_gb_s(&machine)?;
    for round in 1..=args.rounds {
        for &workload in &workloads {
            eprintln!("round {round} of {}: {workload}", args.rounds);
            let samples = settings
                .iter()
                .filter_map(|&setting| sample(&args.engines, &conditions, setting, workload))
                .collect::<Result<_, _>>()?;
            let before = stream;
            stream = stream_gb_s(&doctor(&args.engines, &conditions)?)?;
            laps.push(Lap {
                round,
                workload,
                stream_gb_s: [before, stream],
                samples,
            });
            let raw = json!({
                "model": file_name(&args.model),
                "threads": conditions.threads,
                "max_drift_percent": args.max_drift,
                "machine": machine,
                "versions": versions,
                "laps": laps.iter().map(|lap| lap.record(args.max_drift)).collect::<Vec<_>>(),
            });
            save(args.output.as_deref(), &raw)?;
        }
    }
    println!("{}", table::heading(&machine, &versions, &args.model));
    println!("{}", table::header());
    for &workload in &workloads {
        let summary = Summary::of(&laps, workload, args.max_drift);
        print!("{}", table::rows(&summary));
    }
    Ok(())
}

fn all_threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Lists what is measured, in the order of the flags.
fn workloads(args: &Args) -> Vec<Workload> {
    let not_zero = |&&n: &&usize| n > 0;
    let prompts = args.n_prompt.iter().filter(not_zero);
    let depths = args.n_depth.iter().filter(|_| args.n_gen > 0);
    let parallel = args.n_parallel.iter().filter(not_zero);
    let n_gen = args.n_gen;
    prompts
        .map(|&n_prompt| Workload::Prefill { n_prompt })
        .chain(depths.map(|&depth| Workload::Decode { n_gen, depth }))
        .chain(parallel.map(|&n_seqs| Workload::Batched { n_seqs }))
        .chain((!args.no_start).then_some(Workload::Start))
        .collect()
}

/// Lets one engine do one test; `None` if the program for it was not named.
fn sample(
    engines: &Engines,
    conditions: &Conditions<'_>,
    setting: Setting,
    workload: Workload,
) -> Option<Result<Sample, TaskError>> {
    let job = engines.job(conditions, setting, workload)?;
    let mut command = Command::new(job.program);
    command.args(&job.args);
    let outcome = process::run(&mut command, job.first_output).map_err(|source| TaskError::Start {
        command: job.program.display().to_string(),
        source,
    });
    Some(outcome.map(|outcome| {
        let sample = Sample::new(setting, &outcome, job.reading);
        if let Err(reason) = &sample.result {
            eprintln!("  {setting}: {reason}");
        }
        sample
    }))
}

/// Asks `apr doctor` about the machine, and how fast the model's pages stream.
fn doctor(engines: &Engines, conditions: &Conditions<'_>) -> Result<Value, TaskError> {
    let program = engines.apr.display();
    let failed = |reason: String| TaskError::Output {
        command: format!("{program} doctor"),
        reason,
    };
    let output = Command::new(&engines.apr)
        .args(["doctor", "--json", "-m"])
        .arg(conditions.model)
        .args(["-t", &conditions.threads.to_string()])
        .args(conditions.isa.map(|isa| format!("--isa={isa}")))
        .output()
        .map_err(|source| TaskError::Start {
            command: program.to_string(),
            source,
        })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

fn stream_gb_s(doctor: &Value) -> Result<f64, TaskError> {
    doctor["read_gb_s"]
        .as_f64()
        .ok_or_else(|| TaskError::Output {
            command: "apr doctor --json".to_owned(),
            reason: "no `read_gb_s`".to_owned(),
        })
}

/// Returns the first line a program says about its version, if it says any.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.contains(char::is_numeric))?;
    output.status.success().then(|| line.to_owned())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn save(path: Option<&Path>, raw: &Value) -> Result<(), TaskError> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, format!("{raw:#}\n")).map_err(|source| TaskError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
