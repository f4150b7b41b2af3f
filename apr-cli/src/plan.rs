//! `apr plan`: will a model fit, what will it read per token, how fast can it be here.
//!
//! Nothing is run and no weight is read: the figures are counted from the shapes, and memory and
//! multipliers are measured for a moment. A token reads its weights and the keys and values of
//! all tokens before it, so the speed of memory over what it reads is what no program can
//! exceed; `apr bench` measures how near this one comes.

use clap::Args;
use moe_model::{Config, Model, Outputs, StateOptions, kv_bytes};
use quant_kernels::{KV_BLOCK, KvType};
use serde::Serialize;

use crate::{
    args::{self, EngineArgs, JsonArgs, ModelArgs},
    bandwidth,
    engine::{Source, cpu},
    error::Error,
    machine,
    output::Output,
    pages, peak,
    reads::Reads,
    room::{Room, clipped},
    terminal::one_line,
    units::{bytes, count, plural},
};

/// Flags of the verb.
///
/// Speeds are bounds by what memory and multipliers can do just now; a model as small as the
/// processor's caches can be faster. Exit code 5 if the contexts do not fit.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Sequences at a time, each with a context of its own (also -np)
    #[arg(long, value_name = "N", env = "APR_PARALLEL", default_value_t = 1)]
    #[arg(value_parser = args::n_parallel)]
    parallel: usize,
    #[command(flatten)]
    output: JsonArgs,
    #[command(flatten)]
    with: EngineArgs,
}

/// Contexts of the table, as far as the model was made for them.
const CONTEXTS: [usize; 7] = [4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144];
/// Columns of the table; `bf16` takes what `f16` does.
const TYPES: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::F32];

/// Whether there is memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// For all.
    Fits,
    /// Not for all weights.
    WeightsFromDisk,
    /// Not for the contexts.
    DoesNotFit,
}

/// All figures.
#[derive(Debug, Serialize)]
struct Plan {
    model: String,
    file_bytes: u64,
    n_params: u64,
    n_ctx: usize,
    n_ctx_train: usize,
    n_parallel: usize,
    batch_size: usize,
    cache_type_k: &'static str,
    cache_type_v: &'static str,
    kv_bytes: u64,
    kv_bytes_per_token: u64,
    batch_bytes: u64,
    logits_bytes: u64,
    /// What the process takes beside the file.
    own_bytes: u64,
    total_bytes: u64,
    available_bytes: Option<u64>,
    /// Absent where the system does not say what is available.
    fit: Option<Verdict>,
    /// The longest contexts with which all fits, the file too.
    n_ctx_that_fits: Option<usize>,
    isa: &'static str,
    threads: usize,
    stream_gb_s: f64,
    weight_bytes_per_token: u64,
    /// Bounds: no program can be faster that reads what a token needs.
    tok_s_first: f64,
    tok_s_last: f64,
    prompt_tok_s: Option<f64>,
    /// The cache of one sequence.
    kv_cache: Vec<CacheRow>,
}

/// The cache of a context by the type of keys and values.
#[derive(Debug, Serialize)]
struct CacheRow {
    n_ctx: usize,
    f16: u64,
    q8_0: u64,
    f32: u64,
}

pub(crate) fn run(args: &PlanArgs) -> Result<(), Error> {
    let source = Source::open(&args.model)?;
    let contents = source.contents()?;
    let model = Model::read(&contents);
    let model = model.map_err(|error| Error::within(source.file.path())(error.into()))?;
    let options = args.with.context.state_options(model.config())?;
    let room = Room::needed(model.config(), args.parallel, options, Outputs::Last)?;
    let plan = Plan::new(args, &source, &model, options, &room)?;
    let mut output = Output::new();
    if args.output.json {
        output.json(&plan)?;
    } else {
        output.write(plan.report().as_bytes())?;
    }
    room.check()
}

impl Plan {
    fn new(
        args: &PlanArgs,
        source: &Source,
        model: &Model<'_>,
        options: StateOptions,
        room: &Room,
    ) -> Result<Self, Error> {
        let config = model.config();
        let reads = Reads::of(model);
        let per_token = reads.kv_bytes_per_position(options.keys, options.values)?;
        let cpu = cpu(&args.with.cpu, args.with.quiet)?;
        let stream = match pages::are_in_memory(&source.file) {
            true => bandwidth::of_model(&source.file, cpu.n_threads()),
            // Nobody wants to wait for a disk here.
            false => bandwidth::of_memory(cpu.n_threads()),
        };
        let products = peak::products_per_second(&cpu);
        let n_prompt = room.batch_len;
        let available = machine::memory().map(|memory| memory.available);
        let file_bytes = source.file.n_bytes();
        let weights = reads.bytes_per_token();
        let tok_s = |n_before: usize| stream / (weights + n_before as u64 * per_token) as f64;
        let total_bytes = file_bytes.saturating_add(clipped(room.total()));
        let beside = room.total() - room.kv + u128::from(file_bytes);
        Ok(Self {
            model: source.name(),
            file_bytes,
            n_params: reads.n_params,
            n_ctx: options.n_ctx,
            n_ctx_train: config.n_ctx,
            n_parallel: args.parallel,
            batch_size: room.batch_len,
            cache_type_k: options.keys.name(),
            cache_type_v: options.values.name(),
            kv_bytes: clipped(room.kv),
            kv_bytes_per_token: per_token,
            batch_bytes: clipped(room.batch),
            logits_bytes: clipped(room.logits),
            own_bytes: clipped(room.total()),
            total_bytes,
            available_bytes: available,
            fit: available
                .map(|available| Verdict::of(available, clipped(room.total()), total_bytes)),
            n_ctx_that_fits: available.map(|available| {
                let free = available.saturating_sub(clipped(beside));
                let of_all = per_token.saturating_mul(args.parallel as u64).max(1);
                let n_ctx = usize::try_from(free / of_all).unwrap_or(usize::MAX);
                // The cache grows by blocks.
                (n_ctx / KV_BLOCK * KV_BLOCK).min(config.n_ctx)
            }),
            isa: cpu.isa().name(),
            threads: cpu.n_threads().get(),
            stream_gb_s: stream / 1e9,
            weight_bytes_per_token: weights,
            tok_s_first: tok_s(0),
            tok_s_last: tok_s(options.n_ctx - 1),
            prompt_tok_s: products
                .map(|products| n_prompt as f64 * products / reads.products(n_prompt) as f64),
            kv_cache: table(config, options.n_ctx)?,
        })
    }

    fn report(&self) -> String {
        let model = format!(
            "{}, {} weights",
            one_line(&self.model),
            count(self.n_params)
        );
        let rows = [("model", model)].into_iter();
        let rows = rows.chain(self.memory()).chain(self.speed());
        let rows = rows.map(|(name, value)| format!("{name:<16}{value}\n"));
        rows.collect::<String>() + &self.cache_table()
    }

    /// The rows about memory.
    fn memory(&self) -> [(&'static str, String); 6] {
        let contexts = match self.n_parallel {
            1 => format!("a context of {}", plural(self.n_ctx, "token")),
            n => format!("{n} contexts of {}", plural(self.n_ctx, "token")),
        };
        let file = format!(
            "{}, mapped: it may be dropped and read again",
            bytes(self.file_bytes)
        );
        let cache = format!(
            "{} for {contexts}, {}/{}: {} per token",
            bytes(self.kv_bytes),
            self.cache_type_k,
            self.cache_type_v,
            bytes(self.kv_bytes_per_token)
        );
        let buffers = format!(
            "{} for batches of {}",
            bytes(self.batch_bytes.saturating_add(self.logits_bytes)),
            plural(self.batch_size, "token")
        );
        let all = format!(
            "{}, of which {} beside the file",
            bytes(self.total_bytes),
            bytes(self.own_bytes)
        );
        let available = self.available_bytes;
        [
            ("file", file),
            ("cache", cache),
            ("buffers", buffers),
            ("in all", all),
            (
                "available",
                available.map_or_else(|| "unknown".to_owned(), bytes),
            ),
            ("verdict", self.verdict()),
        ]
    }

    /// The rows about speed.
    fn speed(&self) -> [(&'static str, String); 5] {
        let threads = plural(self.threads, "thread");
        let reads = format!(
            "{} of weights, and the cache of all tokens before it",
            bytes(self.weight_bytes_per_token)
        );
        let decode = format!(
            "{:.1} tok/s at the beginning, {:.1} tok/s at the end of the context",
            self.tok_s_first, self.tok_s_last
        );
        let prompt = self.prompt_tok_s;
        let prompt = prompt.map_or_else(|| "unknown".to_owned(), |it| format!("{it:.0} tok/s"));
        [
            ("computes with", format!("{}, {threads}", self.isa)),
            ("reads memory at", format!("{:.1} GB/s", self.stream_gb_s)),
            ("a token reads", reads),
            ("at most", decode),
            ("prompt at most", prompt),
        ]
    }

    fn verdict(&self) -> String {
        let room = self.n_ctx_that_fits.unwrap_or_default();
        let advice = match room {
            0 => String::new(),
            n if n == self.n_ctx_train => {
                format!("; there is room for all the {n} it was made for")
            }
            n => format!("; there is room for contexts of {n}"),
        };
        match self.fit {
            None => "unknown: the system does not say what is available".to_owned(),
            Some(Verdict::Fits) => format!("fits{advice}"),
            Some(Verdict::WeightsFromDisk) => {
                format!("runs, but weights would be read from disk again and again{advice}")
            }
            Some(Verdict::DoesNotFit) => format!("does not fit{advice}"),
        }
    }

    fn cache_table(&self) -> String {
        let heads = ["tokens", "f16, bf16", "q8_0", "f32"];
        let line = |cells: [String; 4]| {
            let [first, rest @ ..] = cells;
            let rest = rest.map(|cell| format!("{cell:>12}")).concat();
            format!("{first:>10}{rest}\n")
        };
        let rows = self.kv_cache.iter().map(|row| {
            let sizes = [row.f16, row.q8_0, row.f32].map(bytes);
            let [f16, q8_0, f32] = sizes;
            line([row.n_ctx.to_string(), f16, q8_0, f32])
        });
        let table = line(heads.map(str::to_owned)) + &rows.collect::<String>();
        format!("\ncache of one context, by the type of keys and values\n{table}")
    }
}

impl Verdict {
    /// `own` is what the process needs, `total` that and the file.
    const fn of(available: u64, own: u64, total: u64) -> Self {
        match (own <= available, total <= available) {
            (false, _) => Self::DoesNotFit,
            (true, false) => Self::WeightsFromDisk,
            (true, true) => Self::Fits,
        }
    }
}

/// Returns the sizes of the cache for contexts of all lengths, that of `n_ctx` among them.
fn table(config: &Config, n_ctx: usize) -> Result<Vec<CacheRow>, Error> {
    let mut contexts: Vec<usize> = CONTEXTS.into_iter().filter(|&n| n < config.n_ctx).collect();
    contexts.extend([n_ctx, config.n_ctx]);
    contexts.sort_unstable();
    contexts.dedup();
    let rows = contexts.into_iter().map(|n_ctx| {
        let size = |ty| Ok::<_, Error>(clipped(kv_bytes(config, ty, ty, n_ctx)?));
        let [f16, q8_0, f32] = TYPES.map(size);
        Ok(CacheRow {
            n_ctx,
            f16: f16?,
            q8_0: q8_0?,
            f32: f32?,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_in_memory_is_told_from_what_may_be() {
        assert_eq!(Verdict::of(10, 3, 10), Verdict::Fits);
        assert_eq!(Verdict::of(10, 10, 11), Verdict::WeightsFromDisk);
        assert_eq!(Verdict::of(10, 11, 12), Verdict::DoesNotFit);
    }
}
