//! `apr serve`: the model behind HTTP.
//!
//! The server answers while the model is being opened, and says so. Then the engine works on
//! the main thread until the server has come to its end.

mod access;
mod fingerprint;
mod log;
mod shutdown;

use std::{
    net::{IpAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use apr_server::{Config, ModelFacts, ServedModel, Server};
use clap::Args;
use generate::{DiskCacheOptions, Engine as BatchEngine, EngineOptions};
use moe_model::{Outputs, StateOptions};

use crate::{
    args::{self, EngineArgs, ModelArgs},
    engine::{Engine, Source},
    error::Error,
    file_limit, heap, machine,
    sampling::SamplingArgs,
    terminal,
};

use self::{access::AccessArgs, fingerprint::Fingerprint, log::LogFormat};

/// What a step takes at most that has both prompts and running answers.
const STEP_TIME: Duration = Duration::from_millis(200);
/// Tokens that go through the model together. A cancelled request is heeded between layers, and
/// prompts of others wait for the step; fewer cost speed.
const BATCH_LEN: usize = 256;
const MIB: u64 = 1 << 20;

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Address to listen on
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "APR_HOST",
        default_value = "127.0.0.1"
    )]
    host: IpAddr,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, value_name = "N", env = "APR_PORT", default_value_t = 8080)]
    port: u16,
    /// Requests that are worked on at a time, each with a context of its own (also -np)
    #[arg(long, value_name = "N", env = "APR_PARALLEL", default_value_t = 4)]
    #[arg(value_parser = args::n_parallel)]
    parallel: usize,
    /// Requests that may wait; one more is told to come back later
    #[arg(long, value_name = "N", env = "APR_QUEUE", default_value_t = 64)]
    #[arg(value_parser = queue)]
    queue: usize,
    /// Names of the model in requests and answers [default: that of the file]
    #[arg(
        short,
        long,
        value_name = "NAME",
        env = "APR_ALIAS",
        value_delimiter = ','
    )]
    alias: Vec<String>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    prefixes: PrefixArgs,
    /// How the log is written to stderr
    #[arg(
        long,
        value_name = "FORMAT",
        env = "APR_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    #[command(flatten)]
    with: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// What a client may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Seconds that a client may take to send a body, or to take what it is sent (also -to)
    #[arg(
        long,
        value_name = "SECONDS",
        env = "APR_TIMEOUT",
        default_value_t = 60
    )]
    #[arg(value_parser = seconds)]
    timeout: u64,
    /// Seconds that a client may take to send the head of a request
    #[arg(
        long,
        value_name = "SECONDS",
        env = "APR_HEADER_TIMEOUT",
        default_value_t = 15
    )]
    #[arg(value_parser = seconds)]
    header_timeout: u64,
    /// Seconds that a request may take in all; 0 is no limit
    #[arg(
        long,
        value_name = "SECONDS",
        env = "APR_REQUEST_TIMEOUT",
        default_value_t = 0
    )]
    #[arg(value_parser = seconds_or_none)]
    request_timeout: u64,
    /// The longest body of a request
    #[arg(long, value_name = "MIB", env = "APR_MAX_BODY", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_body: u64,
    /// Connections at a time; one more takes the place of the one idle for longest
    #[arg(
        long,
        value_name = "N",
        env = "APR_MAX_CONNECTIONS",
        default_value_t = 512
    )]
    #[arg(value_parser = queue)]
    max_connections: usize,
    /// Seconds that running requests have after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", env = "APR_GRACE", default_value_t = 30)]
    #[arg(value_parser = seconds_or_none)]
    grace: u64,
}

/// What is remembered between requests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefix cache")]
struct PrefixArgs {
    /// Memory for keys and values of prompts that nobody is using; 0 remembers nothing
    /// [default: 8192, at most a quarter of what is free]
    #[arg(long, value_name = "MIB", env = "APR_CACHE_RAM")]
    cache_ram: Option<u64>,
    /// Folder that keeps them across restarts [default: none]
    #[arg(long, value_name = "DIR", env = "APR_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// The most that is kept in that folder
    #[arg(
        long,
        value_name = "MIB",
        env = "APR_CACHE_DISK",
        default_value_t = 16_384
    )]
    cache_disk: u64,
}

pub(crate) fn run(args: &ServeArgs) -> Result<(), Error> {
    heap::share_one();
    let config = args.config()?;
    let address = (args.host, args.port);
    let listener = TcpListener::bind(address).map_err(|source| Error::Io {
        name: format!("{}:{}", args.host, args.port),
        action: "listened on",
        source,
    })?;
    log::begin(args.log_format, args.with.quiet);
    file_limit::make_an_error();
    args.say_where(&listener);
    let server = Server::new(config);
    let (stop, stopped) = shutdown::switch();
    thread::scope(|scope| {
        let http = scope.spawn(|| server.run(listener, shutdown::requested(stopped)));
        let served = args.serve(&server);
        // If the model could not be opened, the server has nothing to wait for.
        drop(stop);
        let ran = http
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.and(ran.map_err(Error::from))
    })
}

impl ServeArgs {
    fn config(&self) -> Result<Config, Error> {
        let batch_len = self.with.context.cache.batch_size.unwrap_or(BATCH_LEN);
        if batch_len < self.parallel {
            let message = format!(
                "--batch-size: expected at least one token for each of {} requests, see \
                 --parallel, found {batch_len}",
                self.parallel
            );
            return Err(Error::usage(message));
        }
        let limits = &self.limits;
        let mut config = Config {
            max_body_bytes: usize::try_from(limits.max_body * MIB).unwrap_or(usize::MAX),
            max_connections: limits.max_connections,
            header_timeout: Duration::from_secs(limits.header_timeout),
            io_timeout: Duration::from_secs(limits.timeout),
            request_timeout: match limits.request_timeout {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            grace: Duration::from_secs(limits.grace),
            queue_len: self.queue,
            give_back: heap::give_back,
            ..Config::default()
        };
        self.access.apply(&mut config, self.host)?;
        Ok(config)
    }

    /// Says where the server is, as an address that a browser can open.
    fn say_where(&self, listener: &TcpListener) {
        let port = listener.local_addr().map_or(self.port, |it| it.port());
        let host = match self.host {
            IpAddr::V6(host) => format!("[{host}]"),
            IpAddr::V4(host) => host.to_string(),
        };
        terminal::say(format_args!("listening on http://{host}:{port}"));
    }

    /// Opens the model and works until the server has come to its end.
    fn serve(&self, server: &Server) -> Result<(), Error> {
        let begin = Instant::now();
        let source = Source::open(&self.model)?;
        let engine = source.engine(&self.with.cpu, self.with.quiet)?;
        let state = StateOptions {
            batch_len: self.with.context.cache.batch_size.unwrap_or(BATCH_LEN),
            ..self.with.context.state_options(engine.model.config())?
        };
        engine.check_memory(self.parallel, state, Outputs::Last)?;
        let sampling = self.sampling.generation(&engine, None, self.with.quiet)?;
        let fingerprint = Fingerprint::of(&source.file, engine.cpu.n_threads())?;
        let answers = fingerprint.of_answers(&state, &sampling.sampler);
        let facts = self.facts(&source, &engine, sampling.sampler, &answers);
        let Engine {
            cpu,
            model,
            tokenizer,
            ..
        } = engine;
        let tokenizer = Arc::new(tokenizer);
        let clock = Box::new(move || begin.elapsed());
        let options = self.engine_options(state, fingerprint.of_cache());
        let mut batches = BatchEngine::new(&cpu, &model, &tokenizer, options, clock)?;
        if batches.is_disk_taken() {
            tracing::warn!("another server has the cache folder: going on without it");
        }
        let served = ServedModel::new(batches.handle(), Arc::clone(&tokenizer), facts)?;
        server.set_model(served);
        if !self.with.quiet.quiet {
            terminal::say(format_args!(
                "ready after {:.1} s",
                begin.elapsed().as_secs_f64()
            ));
        }
        batches.run();
        Ok(())
    }

    fn engine_options(&self, state: StateOptions, model: String) -> EngineOptions {
        let prefixes = &self.prefixes;
        let free = machine::memory().map_or(u64::MAX, |memory| memory.available / 4);
        let cache_bytes = match prefixes.cache_ram {
            Some(mib) => mib.saturating_mul(MIB),
            None => (8192 * MIB).min(free),
        };
        let disk = prefixes.cache_dir.clone().map(|folder| DiskCacheOptions {
            folder,
            max_bytes: prefixes.cache_disk.saturating_mul(MIB),
            model,
            on_failure: log::cache_failure,
        });
        EngineOptions {
            n_parallel: self.parallel,
            queue_len: self.queue,
            n_ctx: state.n_ctx,
            keys: state.keys,
            values: state.values,
            batch_len: state.batch_len,
            step_time: STEP_TIME,
            cache_bytes,
            disk,
        }
    }

    fn facts(
        &self,
        source: &Source,
        engine: &Engine<'_>,
        sampler: sampler::SamplerConfig,
        fingerprint: &str,
    ) -> ModelFacts {
        let facts = ModelFacts::new(&name_of(&source.name()), &engine.model, fingerprint);
        ModelFacts {
            names: match self.alias.as_slice() {
                [] => facts.names,
                names => names.to_vec(),
            },
            build: format!("apr {}", env!("CARGO_PKG_VERSION")),
            sampler,
            seed: self.sampling.fixed_seed(),
            n_bytes: source.file.n_bytes(),
            ..facts
        }
    }
}

/// Returns the name of a model for programs: that of its file without the ending.
fn name_of(file: &str) -> String {
    let name = file.strip_suffix(".gguf").unwrap_or(file);
    name.replace(' ', "-")
}

fn queue(text: &str) -> Result<usize, String> {
    args::count(text, 100_000)
}

fn seconds(text: &str) -> Result<u64, String> {
    seconds_from(1, text)
}

fn seconds_or_none(text: &str) -> Result<u64, String> {
    seconds_from(0, text)
}

fn seconds_from(least: u64, text: &str) -> Result<u64, String> {
    const DAY: u64 = 24 * 60 * 60;
    match text.parse() {
        Ok(n) if (least..=DAY).contains(&n) => Ok(n),
        _ => Err(format!("expected {least} to {DAY} seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_easy_to_type() {
        assert_eq!(name_of("Qwen3-30B-A3B-Q4_K_M.gguf"), "Qwen3-30B-A3B-Q4_K_M");
        assert_eq!(name_of("built-in model"), "built-in-model");
    }
}
