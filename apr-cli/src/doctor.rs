//! `apr doctor`: what this machine offers, what is used of it, and why.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::Args;
use moe_model::{ModelFile, Prefetch};
use quant_kernels::{Isa, KernelError};
use serde::Serialize;

use crate::{
    args::{CpuArgs, JsonArgs},
    bandwidth,
    error::Error,
    machine::{self, Memory},
    output::Output,
    units::bytes,
};

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Model to read at the end, from its own pages; without one, from other memory
    #[arg(short, long, value_name = "FILE|DIR", env = "APR_MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    output: JsonArgs,
}

/// All findings.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    cpu: Option<String>,
    features: Vec<&'static str>,
    isa: &'static str,
    isa_why: String,
    threads: usize,
    threads_why: String,
    memory_total: Option<u64>,
    memory_available: Option<u64>,
    memory_cgroup_limit: Option<u64>,
    huge_pages: Option<String>,
    /// Size of the model, and how much of it is mapped in pages of 2 MiB.
    model_bytes: Option<u64>,
    model_huge_bytes: Option<u64>,
    read_gb_s: f64,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Error> {
    let findings = examine(args)?;
    let mut output = Output::new();
    if args.output.json {
        output.json(&findings)
    } else {
        output.write(findings.report().as_bytes())
    }
}

fn examine(args: &DoctorArgs) -> Result<Findings, Error> {
    let isa = args.cpu.isa.unwrap_or_else(Isa::detect);
    let n_threads = args.cpu.threads.n_threads();
    let memory = machine::memory();
    let of_memory = |field: fn(Memory) -> u64| memory.map(field);
    let read = match &args.model {
        Some(path) => read_model(path, n_threads)?,
        None => Read {
            rate: bandwidth::of_memory(n_threads),
            model_bytes: None,
            model_huge_bytes: None,
        },
    };
    Ok(Findings {
        version: env!("CARGO_PKG_VERSION"),
        cpu: machine::cpu_name(),
        features: features(),
        isa: isa.name(),
        isa_why: if args.cpu.isa.is_some() {
            "asked for".to_owned()
        } else {
            isa_why()
        },
        threads: n_threads.get(),
        threads_why: if args.cpu.threads.threads.is_some() {
            "asked for".to_owned()
        } else {
            threads_why()
        },
        memory_total: of_memory(|m| m.total),
        memory_available: of_memory(|m| m.available),
        memory_cgroup_limit: memory.and_then(|m| m.cgroup_limit),
        huge_pages: machine::huge_pages(),
        model_bytes: read.model_bytes,
        model_huge_bytes: read.model_huge_bytes,
        read_gb_s: read.rate / 1e9,
    })
}

/// How fast memory was read, and what it held.
struct Read {
    rate: f64,
    model_bytes: Option<u64>,
    model_huge_bytes: Option<u64>,
}

/// Maps a model as the other verbs do, and reads it.
fn read_model(path: &Path, n_threads: NonZeroUsize) -> Result<Read, Error> {
    let file = ModelFile::open(path)?;
    file.contents()?;
    if machine::memory().is_none_or(|m| file.n_bytes() < m.available) {
        file.prefetch(Prefetch::Populate, |_| ());
    }
    Ok(Read {
        rate: bandwidth::of_model(&file, n_threads),
        model_bytes: Some(file.n_bytes()),
        model_huge_bytes: machine::footprint().map(|footprint| footprint.file_huge),
    })
}

/// Which of the instruction sets that kernels could use are there.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt),*) => {
            [$(($name, is_x86_feature_detected!($name))),*]
        };
    }
    let all = found![
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi",
        "avx512bf16",
        "gfni",
        "avxvnni"
    ];
    all.into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(name, _)| name)
        .collect()
}

/// Which of the instruction sets that kernels could use are there.
#[cfg(not(target_arch = "x86_64"))]
const fn features() -> Vec<&'static str> {
    Vec::new()
}

/// Says what stands against the best instruction set, if anything does.
fn isa_why() -> String {
    match "avx512".parse::<Isa>() {
        Ok(_) => "the best there is, and this processor has it".to_owned(),
        Err(KernelError::IsaNotAvailable { available, .. }) => {
            format!("the best of those this processor has: {available}")
        }
        Err(_) => "the only one".to_owned(),
    }
}

/// Says what limits the number of threads.
fn threads_why() -> String {
    let mut reasons = Vec::new();
    let n_online = machine::n_online();
    if let Some(n) = n_online {
        let cores = machine::n_cores().filter(|&cores| cores != n);
        let cores = cores.map_or_else(String::new, |cores| format!(" on {cores} cores"));
        reasons.push(format!("{n} processors{cores}"));
    }
    match machine::n_allowed() {
        Some(n) if Some(n) != n_online => reasons.push(format!("affinity allows {n}")),
        Some(_) => reasons.push("affinity allows all".to_owned()),
        None => {}
    }
    reasons.push(machine::cgroup_cpus().map_or_else(
        || "no quota of a control group".to_owned(),
        |n| format!("control group grants the time of {n:.1}"),
    ));
    reasons.join(", ")
}

impl Findings {
    fn report(&self) -> String {
        let unknown = || "unknown".to_owned();
        let size = |n: Option<u64>| n.map_or_else(unknown, bytes);
        let limit = match self.memory_cgroup_limit {
            Some(limit) => format!(", control group allows {}", bytes(limit)),
            None => String::new(),
        };
        let memory = format!(
            "{}, {} available{limit}",
            size(self.memory_total),
            size(self.memory_available)
        );
        let rows = [
            ("apr", self.version.to_owned()),
            ("processor", self.cpu.clone().unwrap_or_else(unknown)),
            ("features", self.features.join(" ")),
            ("instructions", format!("{} ({})", self.isa, self.isa_why)),
            (
                "threads",
                format!("{} ({})", self.threads, self.threads_why),
            ),
            ("memory", memory),
            ("huge pages", self.huge_pages_line()),
            ("reads memory at", format!("{:.1} GB/s", self.read_gb_s)),
        ];
        rows.iter()
            .map(|(name, value)| format!("{name:<16}{value}\n"))
            .collect()
    }

    fn huge_pages_line(&self) -> String {
        let of_model = match (self.model_bytes, self.model_huge_bytes) {
            (Some(all), Some(huge)) => {
                let percent = 100.0 * huge as f64 / all as f64;
                format!("; {percent:.0} % of the model mapped in them")
            }
            _ => String::new(),
        };
        let setting = match self.huge_pages.as_deref() {
            Some("always") => "always: the cache gets them by itself".to_owned(),
            Some("madvise") => "madvise: only memory that asks for them".to_owned(),
            Some("never") => "never: expect up to 40 % less speed".to_owned(),
            Some(other) => other.to_owned(),
            None => "unknown".to_owned(),
        };
        setting + &of_model
    }
}
