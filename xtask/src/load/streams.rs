//! Compares `apr serve` with llama.cpp's `llama-server`: streams at a time, in turns.
//!
//! In a lap each server continues the same prompts, all streams together, without its cache;
//! then one more prompt comes while a stream is running, and the longest wait of that stream
//! says how much others delay it. Both servers stay up all the time and do nothing in the
//! other's turn. Tokens per second count all streams from the first request to the last token.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Answer, Ask},
    mix,
};
use crate::{error::TaskError, server::Server, workspace::Workspace};

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model that both servers read
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// The program; the one in `target/release` if not said
    #[arg(long, value_name = "FILE")]
    apr: Option<PathBuf>,
    /// `llama-server` of llama.cpp
    #[arg(long, value_name = "PROGRAM")]
    llama_server: PathBuf,
    /// Numbers of streams at a time
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "1,4,16"
    )]
    streams: Vec<NonZeroUsize>,
    /// Words of a prompt
    #[arg(short = 'p', long, value_name = "N", default_value = "32")]
    n_prompt: NonZeroUsize,
    /// Tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value = "32")]
    n_gen: NonZeroUsize,
    /// Words of the prompt that comes while a stream is running; 0 for none
    #[arg(long, value_name = "N", default_value_t = 512)]
    intruder: usize,
    /// Laps
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// Threads of both
    #[arg(short, long, value_name = "N", default_value = "2")]
    threads: NonZeroUsize,
}

/// What came of some streams.
#[derive(Clone, Copy, Debug)]
struct Lap {
    tokens_per_second: f64,
    /// Seconds from the requests to the first tokens, the mean.
    first: f64,
    /// The longest wait of a stream between two pieces, in seconds.
    worst_gap: f64,
}

/// Starts both servers, compares them and prints a table.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    let apr = match &args.apr {
        Some(program) => program.clone(),
        None => workspace.path("target/release/apr"),
    };
    let most = args.streams.iter().max().map_or(1, |n| n.get()).max(2);
    // A word is rarely more than three tokens.
    let n_ctx = 3 * args.n_prompt.get().max(args.intruder) + args.n_gen.get() + 64;
    let ours = Server::start(ours(&apr, args, most, n_ctx))?;
    let theirs = Server::start(theirs(&args.llama_server, args, most, n_ctx * most))?;
    println!("| test | server | tokens/s | first token | longest wait | apr is |");
    println!("|---|---|---:|---:|---:|---:|");
    for streams in &args.streams {
        let n = streams.get();
        let name = format!("{n} × {} tokens", args.n_gen);
        compare(&name, args, [&ours, &theirs], |server, round| {
            lap(server, args, round, n)
        })?;
    }
    if args.intruder > 0 {
        let name = format!("a prompt of {} words beside a stream", args.intruder);
        compare(&name, args, [&ours, &theirs], |server, round| {
            disturbed(server, args, round)
        })?;
    }
    theirs.stop()?;
    ours.stop()
}

fn ours(program: &Path, args: &Args, n_parallel: usize, n_ctx: usize) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "-q", "-m"]).arg(&args.model);
    command.args(["-np", &n_parallel.to_string(), "-c", &n_ctx.to_string()]);
    command.args(["-t", &args.threads.to_string()]);
    command
}

/// Its context is divided among its slots; weights stay as they lie in the file.
fn theirs(program: &Path, args: &Args, n_parallel: usize, n_ctx: usize) -> Command {
    let mut command = Command::new(program);
    command.arg("-m").arg(&args.model);
    command.args(["-np", &n_parallel.to_string(), "-c", &n_ctx.to_string()]);
    let threads = args.threads.to_string();
    command.args(["-t", &threads, "-tb", &threads, "-fa", "on", "--no-repack"]);
    command.stderr(Stdio::null());
    command
}

/// Lets both do a test in turns, and prints the medians.
fn compare(
    name: &str,
    args: &Args,
    servers: [&Server; 2],
    test: impl Fn(&Server, usize) -> Result<Lap, TaskError>,
) -> Result<(), TaskError> {
    let mut laps: [Vec<Lap>; 2] = Default::default();
    for round in 0..args.rounds.get() {
        for (server, laps) in servers.iter().zip(&mut laps) {
            laps.push(test(server, round)?);
        }
    }
    let [ours, theirs] = &laps;
    let ratio = |of: fn(&Lap) -> f64| {
        let pairs = ours.iter().zip(theirs);
        median(pairs.map(|(ours, theirs)| of(ours) / of(theirs)).collect())
    };
    let ratios = format!(
        "{:.2} × (first {:.2}, wait {:.2})",
        ratio(|lap| lap.tokens_per_second),
        ratio(|lap| lap.first),
        ratio(|lap| lap.worst_gap)
    );
    for (server, laps, ratios) in [("apr", ours, ratios.as_str()), ("llama-server", theirs, "")] {
        let of = |value: fn(&Lap) -> f64| median(laps.iter().map(value).collect());
        println!(
            "| {name} | {server} | {:.2} | {:.2} s | {:.0} ms | {ratios} |",
            of(|lap| lap.tokens_per_second),
            of(|lap| lap.first),
            of(|lap| 1000.0 * lap.worst_gap)
        );
    }
    Ok(())
}

/// Has `n` prompts continued together.
fn lap(server: &Server, args: &Args, round: usize, n: usize) -> Result<Lap, TaskError> {
    let begin = Instant::now();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let ask = |stream: usize| {
            let dice = 1000 * round + stream;
            let ask = request(args.n_prompt.get(), dice, args.n_gen.get());
            scope.spawn(move || ask.send(server.address()))
        };
        let asked: Vec<_> = (0..n).map(ask).collect();
        let answers = asked.into_iter().filter_map(|asked| asked.join().ok());
        answers.collect()
    });
    judge(server, &answers, begin.elapsed())
}

/// Has a prompt continued and sends another one as soon as the first token is there.
fn disturbed(server: &Server, args: &Args, round: usize) -> Result<Lap, TaskError> {
    let stream = request(args.n_prompt.get(), 1000 * round + 500, args.n_gen.get());
    let intruder = request(args.intruder, 1000 * round + 501, 1);
    let begin = Instant::now();
    let (first, other) = thread::scope(|scope| {
        let running = scope.spawn(|| stream.send(server.address()));
        // Long enough for the first token, short enough for the last not to be there.
        thread::sleep(Duration::from_secs(4));
        let other = intruder.send(server.address());
        (running.join(), other)
    });
    let took = begin.elapsed();
    let first = first.map_err(|_| server.wrong("a client came to grief"))?;
    judge(server, &[other], took)?;
    judge(server, &[first], took)
}

/// Prompts without a pattern that no server can have in its cache.
fn request(n_words: usize, dice: usize, n_gen: usize) -> Ask {
    const SYLLABLES: [&str; 16] = [
        "ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu",
        "ze",
    ];
    let word = |n: usize| {
        let dice = mix((dice * 100_003 + n) as u64) as usize;
        format!("{}{}", SYLLABLES[dice % 16], SYLLABLES[dice / 16 % 16])
    };
    let words: Vec<String> = (0..n_words).map(word).collect();
    let body = json!({
        "prompt": words.join(" "),
        "max_tokens": n_gen,
        "temperature": 0,
        "ignore_eos": true,
        "cache_prompt": false,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    Ask {
        path: "/v1/completions",
        body: Value::to_string(&body),
        is_streamed: true,
        hang_up: None,
    }
}

fn judge(server: &Server, answers: &[Answer], took: Duration) -> Result<Lap, TaskError> {
    let (mut n_all, mut firsts, mut worst) = (0, Vec::new(), Duration::ZERO);
    for answer in answers {
        let Answer::Whole {
            n_tokens,
            first,
            gaps,
            ..
        } = answer
        else {
            return Err(server.wrong(&format!("{answer:?}")));
        };
        n_all += n_tokens;
        firsts.extend(first.map(|first| first.as_secs_f64()));
        worst = gaps.iter().copied().fold(worst, Duration::max);
    }
    Ok(Lap {
        tokens_per_second: n_all as f64 / took.as_secs_f64(),
        first: firsts.iter().sum::<f64>() / firsts.len().max(1) as f64,
        worst_gap: worst.as_secs_f64(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
