//! Measures the matrix products alone, per weight type and instruction set.
//!
//! One token against a matrix far larger than the caches shows how fast weights are read
//! (GB/s); many tokens against a matrix that fits a cache show how fast they are multiplied
//! (share of the peak). The peak is 64 products of bytes per cycle and core, one 512-bit
//! `vpdpbusd`; the clock is measured just before, by a chain of multiplications that take
//! three cycles each on every processor this runs on.

mod clock;
mod product;

use std::{num::NonZeroUsize, thread, time::Duration};

use quant_kernels::{Cpu, Isa, QuantType};

use crate::error::TaskError;
use product::Bench;

/// Products of bytes per cycle and core that count as the peak.
const PEAK_PER_CYCLE: f64 = 64.0;

/// Columns of all matrices, the width of Qwen3-30B-A3B.
const N_COLS: usize = 2048;

/// Bytes of the matrix that one token meets: far more than caches hold.
const STREAMED_BYTES: usize = 256 << 20;

/// Rows of the matrix that many tokens meet: an expert of Qwen3-30B-A3B.
const N_ROWS: usize = 768;

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weight types, with commas between; those with kernels of their own if not said
    #[arg(long = "type", value_delimiter = ',', default_values = ["q4_k", "q5_k", "q6_k", "q8_0", "iq4_xs", "f32", "f16", "bf16"])]
    types: Vec<QuantType>,
    /// Instruction sets; all of this processor if not said
    #[arg(long, value_delimiter = ',')]
    isa: Vec<Isa>,
    /// Threads
    #[arg(short, long)]
    threads: Option<NonZeroUsize>,
    /// Tokens of the batches
    #[arg(short, long, value_delimiter = ',', default_values = ["4", "8", "16", "32", "64"])]
    batch: Vec<NonZeroUsize>,
    /// Milliseconds per measurement
    #[arg(long, default_value_t = 300)]
    time: u64,
}

/// Measures and prints a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let all = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let n_threads = args.threads.unwrap_or(all);
    let duration = Duration::from_millis(args.time);
    let isas = if args.isa.is_empty() {
        Isa::available().collect()
    } else {
        args.isa.clone()
    };
    let hertz = clock::measure();
    let peak = PEAK_PER_CYCLE * hertz * n_threads.get() as f64;
    println!(
        "{n_threads} threads at {:.2} GHz; peak {:.0} G products/s; best of {} ms each\n",
        hertz / 1e9,
        peak / 1e9,
        args.time
    );
    println!("{}", header(&args.batch));
    for &ty in &args.types {
        for &isa in &isas {
            let bench = Bench {
                cpu: &Cpu::new(isa, n_threads)?,
                ty,
                duration,
            };
            println!("{}", row(&bench, &args.batch, peak)?);
        }
    }
    Ok(())
}

fn header(batches: &[NonZeroUsize]) -> String {
    let batches: Vec<String> = batches
        .iter()
        .map(|n| format!(" {n} tokens, % |"))
        .collect();
    let rule = "---:|".repeat(batches.len());
    format!(
        "| type | isa | 1 token, GB/s |{}\n|---|---|---:|{rule}",
        batches.concat()
    )
}

fn row(bench: &Bench<'_>, batches: &[NonZeroUsize], peak: f64) -> Result<String, TaskError> {
    let row_bytes = bench.ty.row_bytes(N_COLS).unwrap_or(1);
    let n_rows = STREAMED_BYTES / row_bytes;
    let seconds = bench.best(n_rows, N_COLS, 1)?;
    let gigabytes = (n_rows * row_bytes) as f64 / seconds / 1e9;
    let mut line = format!("| {} | {} | {gigabytes:.1} |", bench.ty, bench.cpu.isa());
    for n_tokens in batches {
        let seconds = bench.best(N_ROWS, N_COLS, n_tokens.get())?;
        let products = (N_ROWS * N_COLS * n_tokens.get()) as f64;
        let percent = products / seconds / peak * 100.0;
        line.push_str(&format!(" {percent:.1} |"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_rows_have_the_same_columns() {
        let batches = [NonZeroUsize::MIN, NonZeroUsize::new(3).unwrap()];
        let cpu = Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap();
        let bench = Bench {
            cpu: &cpu,
            ty: QuantType::Q4_K,
            duration: Duration::ZERO,
        };
        let row = row(&bench, &batches, 1e11).unwrap();
        assert!(row.starts_with("| Q4_K | "), "{row}");
        let columns = |line: &str| line.matches('|').count();
        assert!(
            header(&batches)
                .lines()
                .all(|line| columns(line) == columns(&row))
        );
    }
}
