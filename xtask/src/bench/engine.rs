//! The engines, their settings, and what they are told to do.

use std::{
    fmt, io,
    num::NonZeroUsize,
    path::{self, Path, PathBuf},
};

use super::{
    record::Reading,
    workload::{BATCHED_GEN, BATCHED_PROMPT, Workload},
};
use crate::error::TaskError;

/// Programs to compare.
#[derive(Debug, clap::Args)]
pub(super) struct Engines {
    /// The program of this repository
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/apr", value_parser = absolute)]
    pub(super) apr: PathBuf,
    /// `llama-bench` of llama.cpp
    #[arg(long, value_name = "PROGRAM", value_parser = absolute)]
    llama_bench: Option<PathBuf>,
    /// `llama-batched-bench` of llama.cpp
    #[arg(long, value_name = "PROGRAM", value_parser = absolute)]
    llama_batched_bench: Option<PathBuf>,
    /// `llama-bench` of `ik_llama.cpp`
    #[arg(long, value_name = "PROGRAM", value_parser = absolute)]
    ik_bench: Option<PathBuf>,
    /// `llama-batched-bench` of `ik_llama.cpp`
    #[arg(long, value_name = "PROGRAM", value_parser = absolute)]
    ik_batched_bench: Option<PathBuf>,
}

/// Reads a path; every program runs in a folder of its own.
pub(super) fn absolute(path: &str) -> io::Result<PathBuf> {
    path::absolute(path)
}

/// An engine and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// This repository.
    Apr,
    /// llama.cpp, which copies the weights into another order when it starts, or not.
    Llama { repack: bool, flash: bool },
    /// `ik_llama.cpp`, the same; its default is not to.
    Ik { repack: bool },
}

/// Peers that write over memory come last in a lap: they push the file out of it.
const SETTINGS: [Setting; 7] = [
    Setting::Apr,
    llama(false, true),
    llama(false, false),
    Setting::Ik { repack: false },
    Setting::Ik { repack: true },
    llama(true, true),
    llama(true, false),
];

const fn llama(repack: bool, flash: bool) -> Setting {
    Setting::Llama { repack, flash }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Apr => "apr",
            Self::Llama {
                repack: false,
                flash: true,
            } => "llama-fa1",
            Self::Llama {
                repack: false,
                flash: false,
            } => "llama-fa0",
            Self::Llama {
                repack: true,
                flash: true,
            } => "llama-repack-fa1",
            Self::Llama {
                repack: true,
                flash: false,
            } => "llama-repack-fa0",
            Self::Ik { repack: false } => "ik",
            Self::Ik { repack: true } => "ik-rtr",
        })
    }
}

/// Reads the name of a setting.
pub(super) fn setting(name: &str) -> Result<Setting, String> {
    let found = SETTINGS.into_iter().find(|s| s.to_string() == name);
    found.ok_or_else(|| {
        let names = SETTINGS.map(|s| s.to_string()).join(", ");
        format!("expected one of {names}")
    })
}

/// What is the same for all engines.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    pub(super) model: &'a Path,
    pub(super) threads: NonZeroUsize,
    /// Of `apr` alone: the others have theirs built in.
    pub(super) isa: Option<&'a str>,
}

/// One run of a program.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) program: &'a Path,
    pub(super) args: Vec<String>,
    /// Where the result is found.
    pub(super) reading: Reading,
    /// What the output holds as soon as there is a first token, where that is measured.
    pub(super) first_output: Option<&'static str>,
}

impl Engines {
    /// All programs that were named, with what they are.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let programs = [
            ("apr", Some(&self.apr)),
            ("llama.cpp, bench", self.llama_bench.as_ref()),
            ("llama.cpp, batched", self.llama_batched_bench.as_ref()),
            ("ik_llama.cpp, bench", self.ik_bench.as_ref()),
            ("ik_llama.cpp, batched", self.ik_batched_bench.as_ref()),
        ];
        let named = programs.into_iter();
        named.filter_map(|(name, path)| Some((name, path?.as_path())))
    }

    /// Lists the settings to compare, `apr` first.
    ///
    /// # Errors
    /// One was asked for, and there is no program for it.
    pub(super) fn settings(&self, asked: &[Setting]) -> Result<Vec<Setting>, TaskError> {
        let has_program = |setting: Setting| match setting {
            Setting::Apr => true,
            Setting::Llama { .. } => {
                self.llama_bench.is_some() || self.llama_batched_bench.is_some()
            }
            Setting::Ik { .. } => self.ik_bench.is_some() || self.ik_batched_bench.is_some(),
        };
        if let Some(setting) = asked.iter().find(|&&setting| !has_program(setting)) {
            return Err(TaskError::NoProgram {
                setting: setting.to_string(),
            });
        }
        let is_wanted = |s: &Setting| *s == Setting::Apr || asked.is_empty() || asked.contains(s);
        let settings = SETTINGS.into_iter().filter(is_wanted);
        Ok(settings.filter(|&s| has_program(s)).collect())
    }

    /// Says how a test is done; `None` if the program for it was not named.
    pub(super) fn job(
        &self,
        conditions: &Conditions<'_>,
        setting: Setting,
        workload: Workload,
    ) -> Option<Job<'_>> {
        let plan = match setting {
            Setting::Apr => self.apr(workload, conditions.isa),
            Setting::Llama { repack, flash } => self.llama(workload, repack, flash)?,
            Setting::Ik { repack } => self.ik(workload, repack)?,
        };
        let model = conditions.model.display().to_string();
        let threads = conditions.threads.to_string();
        let flags = ["-m".to_owned(), model, "-t".to_owned(), threads];
        let is_start = workload == Workload::Start;
        Some(Job {
            program: plan.program,
            args: plan
                .verb
                .map(str::to_owned)
                .into_iter()
                .chain(flags)
                .chain(plan.flags.split_whitespace().map(str::to_owned))
                .collect(),
            reading: match is_start {
                true => Reading::FirstOutput,
                false => plan.reading,
            },
            first_output: is_start.then_some(plan.mark),
        })
    }

    fn apr(&self, workload: Workload, isa: Option<&str>) -> Plan<'_> {
        let bench = "-q -r 1 -o json";
        let (verb, flags) = match workload {
            Workload::Prefill { n_prompt } => ("bench", format!("{bench} -p {n_prompt} -n 0")),
            Workload::Decode { n_gen, depth } => {
                ("bench", format!("{bench} -p 0 -n {n_gen} -d {depth}"))
            }
            Workload::Batched { n_seqs } => {
                let sizes = format!("-n {BATCHED_GEN} -d {BATCHED_PROMPT}");
                ("bench", format!("{bench} -p 0 {sizes} -np {n_seqs}"))
            }
            Workload::Start => ("run", "-q -p The -n 1 --temp 0".to_owned()),
        };
        let isa = isa.map_or_else(String::new, |isa| format!(" --isa {isa}"));
        Plan {
            program: &self.apr,
            verb: Some(verb),
            flags: flags + &isa,
            reading: Reading::Apr,
            mark: "",
        }
    }

    fn llama(&self, workload: Workload, repack: bool, flash: bool) -> Option<Plan<'_>> {
        let fa = if flash { "on" } else { "off" };
        let common = format!("-r 1 -o jsonl -fa {fa} --repack {}", u8::from(repack));
        let flags = match workload {
            Workload::Prefill { n_prompt } => format!("{common} -p {n_prompt} -n 0"),
            Workload::Decode { n_gen, depth } => format!("{common} -p 0 -n {n_gen} -d {depth}"),
            Workload::Start => format!("{common} -p 1 -n 0 --no-warmup"),
            Workload::Batched { n_seqs } => {
                let repack = if repack { "" } else { "-nr" };
                let flags = batched_flags(n_seqs);
                return Some(Plan {
                    program: self.llama_batched_bench.as_deref()?,
                    verb: None,
                    flags: format!("{flags} --output-format jsonl -fa {fa} {repack}"),
                    reading: Reading::Field("speed_tg"),
                    mark: "",
                });
            }
        };
        Some(Plan::of_llama_bench(self.llama_bench.as_deref()?, flags))
    }

    fn ik(&self, workload: Workload, repack: bool) -> Option<Plan<'_>> {
        let common = format!("-r 1 -o json -rtr {}", u8::from(repack));
        let flags = match workload {
            Workload::Prefill { n_prompt } => format!("{common} -p {n_prompt} -n 0"),
            Workload::Decode { n_gen, depth: 0 } => format!("{common} -p 0 -n {n_gen}"),
            Workload::Decode { n_gen, depth } => {
                format!("{common} -p 0 -n 0 -gp {depth},{n_gen}")
            }
            Workload::Start => format!("{common} -p 1 -n 0 -w 0"),
            Workload::Batched { n_seqs } => {
                let repack = if repack { "-rtr" } else { "" };
                return Some(Plan {
                    program: self.ik_batched_bench.as_deref()?,
                    verb: None,
                    flags: format!("{} {repack}", batched_flags(n_seqs)),
                    reading: Reading::Table,
                    mark: "",
                });
            }
        };
        Some(Plan::of_llama_bench(self.ik_bench.as_deref()?, flags))
    }
}

/// What is left of a [`Job`] after what all have in common.
struct Plan<'a> {
    program: &'a Path,
    verb: Option<&'static str>,
    flags: String,
    reading: Reading,
    /// What the output holds after the first token.
    mark: &'static str,
}

impl<'a> Plan<'a> {
    const fn of_llama_bench(program: &'a Path, flags: String) -> Self {
        Self {
            program,
            verb: None,
            flags,
            reading: Reading::Field("avg_ts"),
            mark: "avg_ts",
        }
    }
}

fn batched_flags(n_seqs: usize) -> String {
    // Both engines give each sequence a cache of whole 256 positions.
    let n_ctx = n_seqs * (BATCHED_PROMPT + BATCHED_GEN).next_multiple_of(256);
    format!("-c {n_ctx} -npp {BATCHED_PROMPT} -ntg {BATCHED_GEN} -npl {n_seqs}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(ik_bench: Option<&str>) -> Engines {
        Engines {
            apr: PathBuf::from("apr"),
            llama_bench: Some(PathBuf::from("llama-bench")),
            llama_batched_bench: Some(PathBuf::from("llama-batched-bench")),
            ik_bench: ik_bench.map(PathBuf::from),
            ik_batched_bench: None,
        }
    }

    fn command(setting: Setting, workload: Workload) -> Option<String> {
        let conditions = Conditions {
            model: Path::new("my model.gguf"),
            threads: NonZeroUsize::MIN,
            isa: Some("avx2"),
        };
        let engines = engines(Some("ik-bench"));
        let job = engines.job(&conditions, setting, workload)?;
        assert!(job.args.contains(&"my model.gguf".to_owned()));
        Some(format!("{} {}", job.program.display(), job.args.join(" ")))
    }

    #[test]
    fn every_engine_is_told_the_same_in_its_own_words() {
        let model = "-m my model.gguf -t 1";
        let deep = Workload::Decode {
            n_gen: 8,
            depth: 16,
        };
        let expected = format!("apr bench {model} -q -r 1 -o json -p 0 -n 8 -d 16 --isa avx2");
        assert_eq!(command(Setting::Apr, deep), Some(expected));
        let expected =
            format!("llama-bench {model} -r 1 -o jsonl -fa off --repack 0 -p 0 -n 8 -d 16");
        assert_eq!(command(llama(false, false), deep), Some(expected));
        let expected = format!("ik-bench {model} -r 1 -o json -rtr 1 -p 0 -n 0 -gp 16,8");
        assert_eq!(command(Setting::Ik { repack: true }, deep), Some(expected));
        let batched = Workload::Batched { n_seqs: 4 };
        let expected =
            format!("apr bench {model} -q -r 1 -o json -p 0 -n 32 -d 64 -np 4 --isa avx2");
        assert_eq!(command(Setting::Apr, batched), Some(expected));
        let expected = format!(
            "llama-batched-bench {model} -c 1024 -npp 64 -ntg 32 -npl 4 --output-format jsonl \
             -fa on -nr"
        );
        assert_eq!(command(llama(false, true), batched), Some(expected));
        assert_eq!(command(Setting::Ik { repack: false }, batched), None);
    }

    #[test]
    fn settings_without_a_program_are_left_out_unless_asked_for() {
        let ids = |engines: &Engines, asked: &[Setting]| {
            let settings = engines.settings(asked).unwrap();
            settings.iter().map(Setting::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&engines(None), &[]),
            [
                "apr",
                "llama-fa1",
                "llama-fa0",
                "llama-repack-fa1",
                "llama-repack-fa0"
            ]
        );
        let ik = setting("ik-rtr").unwrap();
        assert_eq!(ids(&engines(Some("ik")), &[ik]), ["apr", "ik-rtr"]);
        let error = engines(None).settings(&[ik]).unwrap_err();
        assert_eq!(error.to_string(), "no program was named for `ik-rtr`");
        assert!(setting("mlx").is_err());
    }
}
