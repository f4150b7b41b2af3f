//! Puts `apr serve` under load and judges what it does.
//!
//! Many clients send requests of mixed lengths, streamed and whole, one after the other for as
//! long as it takes; some hang up in the middle. The requests come from a list, each with a
//! seed of its own, so the same one comes again and again beside ever others: its answer must
//! always be the same. Good are an answer to every request that was not hung up on, memory and
//! open files that stay where they are, and slots that are free soon after a client has gone.

mod client;
mod report;
pub(crate) mod streams;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::{
    client::{Answer, Ask},
    report::Report,
};
use crate::{
    error::TaskError,
    server::{Footprint, Server},
    workspace::Workspace,
};

/// Different requests.
const N_REQUESTS: usize = 60;

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model; the built-in one if not said
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The program; the one in `target/release` if not said
    #[arg(long, value_name = "FILE")]
    apr: Option<PathBuf>,
    /// Clients at a time
    #[arg(long, value_name = "N", default_value = "64")]
    clients: NonZeroUsize,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    seconds: u64,
    /// Requests in a hundred that are hung up on
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
    hang_up: u64,
    /// The longest prompt in words, and the longest answer in tokens
    #[arg(long, value_name = "N", default_value = "256")]
    longest: NonZeroUsize,
    /// Flags of the server, after `--`
    #[arg(last = true)]
    flags: Vec<String>,
}

/// What the clients share.
struct Load<'a> {
    args: &'a Args,
    server: &'a Server,
    end: Instant,
    next: AtomicUsize,
    /// The first answer to each request.
    answers: Mutex<HashMap<usize, String>>,
    report: Mutex<Report>,
}

/// Starts a server, loads it, and prints what came of it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    let program = match &args.apr {
        Some(program) => program.clone(),
        None => workspace.path("target/release/apr"),
    };
    // Who has hung up may stand in the queue until the step ends.
    let queue = (2 * args.clients.get()).to_string();
    let mut flags = vec!["--queue".to_owned(), queue];
    flags.extend_from_slice(&args.flags);
    let mut command = Command::new(&program);
    command.args(["serve", "-q"]);
    command.args(args.model.iter().flat_map(|model| [Path::new("-m"), model]));
    command.args(flags);
    let server = Server::start(command)?;
    println!(
        "{} clients for {} s at {}",
        args.clients,
        args.seconds,
        server.address()
    );
    let begin = Instant::now();
    let load = Load {
        args,
        server: &server,
        end: begin + Duration::from_secs(args.seconds),
        next: AtomicUsize::new(0),
        answers: Mutex::default(),
        report: Mutex::default(),
    };
    let is_over = AtomicBool::new(false);
    let footprints = thread::scope(|scope| {
        let watch = scope.spawn(|| footprints(&server, begin, &is_over));
        let clients: Vec<_> = (0..args.clients.get())
            .map(|_| scope.spawn(|| load.work()))
            .collect();
        clients.into_iter().for_each(|client| drop(client.join()));
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap_or_default()
    });
    let mut report = load
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report.seconds = begin.elapsed().as_secs_f64();
    report.footprints = footprints;
    report.is_at_rest = server.comes_to_rest();
    report.cancel_seconds = server.quantile("apr_request_cancel_seconds", 99.0);
    report.print();
    server.stop()?;
    match report.complaints() {
        0 => Ok(()),
        n => Err(TaskError::Load { n }),
    }
}

/// Looks at the server every second.
fn footprints(server: &Server, begin: Instant, is_over: &AtomicBool) -> Vec<Footprint> {
    let mut footprints = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        footprints.extend(server.footprint(begin.elapsed()));
        thread::sleep(Duration::from_secs(1));
    }
    footprints
}

impl Load<'_> {
    /// Sends request after request.
    fn work(&self) {
        while Instant::now() < self.end {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // Whether it is hung up on, and when, has nothing to do with which one it is.
            let dice = mix(number as u64);
            let hang_up =
                (dice % 100 < self.args.hang_up).then(|| Duration::from_millis(dice / 100 % 400));
            let which = number % N_REQUESTS;
            let ask = Ask {
                path: "/v1/chat/completions",
                body: self.request(which).to_string(),
                is_streamed: which.is_multiple_of(2),
                hang_up,
            };
            let answer = ask.send(self.server.address());
            self.judge(which, answer);
        }
    }

    /// Request number `which`: words and lengths without a pattern, always the same.
    fn request(&self, which: usize) -> Value {
        const WORDS: [&str; 12] = [
            "king", "of", "what", "night", "thou", "the", "sword", "and", "speak", "is", "love",
            "again",
        ];
        let dice = |n: usize| mix((which * 1000 + n) as u64) as usize;
        let longest = self.args.longest.get();
        let n_words = 1 + dice(0) % longest;
        let words = (1..=n_words).map(|n| WORDS[dice(n) % WORDS.len()]);
        // Requests of the same third begin alike.
        let prompt: Vec<_> = WORDS
            .iter()
            .copied()
            .cycle()
            .take(40 * (which % 3))
            .chain(words)
            .collect();
        json!({
            "messages": [{"role": "user", "content": prompt.join(" ")}],
            "max_tokens": 1 + dice(999) % longest,
            "seed": which,
            "temperature": 0.8,
            "stream": which.is_multiple_of(2),
        })
    }

    fn judge(&self, which: usize, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = match &answer {
            Answer::Whole { text, .. } => {
                answers.entry(which).or_insert_with(|| text.clone()) != text
            }
            Answer::HungUp | Answer::Failed(_) => false,
        };
        drop(answers);
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.take(answer, is_other);
    }
}

/// Turns a number into one without a pattern.
fn mix(n: u64) -> u64 {
    let n = (n ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 32)
}
