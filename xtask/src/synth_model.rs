//! Writes a synthetic model to a file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use synth_model::{Geometry, Progress, SynthError, SynthModel, TypeMix, Vocab};

use crate::error::TaskError;

/// How often the progress line changes.
const TICK: Duration = Duration::from_millis(200);

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shape: tiny, small, qwen3-30b-a3b or qwen3-235b-a22b
    #[arg(long, value_parser = Preset::named)]
    preset: Preset,
    /// So many layers instead of the preset's, for a file that fits
    #[arg(long, value_name = "N")]
    layers: Option<NonZeroU32>,
    /// The types of its matrices
    #[arg(long, value_name = "MIX", help = mixes())]
    quant: TypeMix,
    /// Take the vocabulary from this GGUF file instead of making one up
    #[arg(long, value_name = "GGUF")]
    vocab: Option<PathBuf>,
    /// What the weights depend on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The file to write, replaced if it exists [default: PRESET-MIX.gguf, or
    /// PRESET-Nl-MIX.gguf with --layers, if there is none]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A shape and its name.
#[derive(Clone, Debug)]
struct Preset {
    name: String,
    geometry: Geometry,
}

impl Preset {
    fn named(name: &str) -> Result<Self, SynthError> {
        Ok(Self {
            name: name.to_owned(),
            geometry: Geometry::preset(name)?,
        })
    }
}

impl Args {
    fn geometry(&self) -> Geometry {
        let preset = self.preset.geometry;
        Geometry {
            n_layer: self.layers.map_or(preset.n_layer, NonZeroU32::get),
            ..preset
        }
    }

    /// Returns the file to write. One that was not named replaces nothing.
    fn output(&self) -> Result<PathBuf, TaskError> {
        if let Some(path) = &self.output {
            return Ok(path.clone());
        }
        let layers = self.layers.map(|n| format!("-{n}l")).unwrap_or_default();
        let path = PathBuf::from(format!("{}{layers}-{}.gguf", self.preset.name, self.quant));
        if path.exists() {
            return Err(TaskError::Exists { path });
        }
        eprintln!("writing {}", path.display());
        Ok(path)
    }
}

fn mixes() -> String {
    let named: Vec<String> = TypeMix::named().map(|mix| mix.to_string()).collect();
    format!(
        "Types: {}, or pure-TYPE for one type throughout",
        named.join(", ")
    )
}

/// Writes the model beside its place and moves it there when it is complete.
pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let output = args.output()?;
    let vocab_file = args.vocab.as_deref().map(read).transpose()?;
    let model = SynthModel {
        geometry: args.geometry(),
        mix: args.quant,
        vocab: vocab_file
            .as_deref()
            .map_or(Vocab::ByteLevel, Vocab::FromGguf),
        seed: args.seed,
    };
    let mut part = output.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let start = Instant::now();
    let written = write(&model, &part)
        .and_then(|()| fs::rename(&part, &output).map_err(failed("write", &output)));
    if written.is_err() {
        // What was written is of no use; if it cannot be removed, the first error says more.
        fs::remove_file(&part).ok();
    }
    written?;
    let gigabytes = model.tensor_bytes()? as f64 / 1e9;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {gigabytes:.3} GB of tensors in {seconds:.1} s",
        output.display()
    );
    Ok(())
}

fn write(model: &SynthModel<'_>, path: &Path) -> Result<(), TaskError> {
    let file = File::create(path).map_err(failed("create", path))?;
    let mut bar = Bar::new();
    let result = model.write(BufWriter::new(file), |progress| bar.show(progress));
    bar.clear();
    result?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, TaskError> {
    fs::read(path).map_err(failed("read", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TaskError {
    let path = path.to_owned();
    move |source| TaskError::File {
        action,
        path,
        source,
    }
}

/// A line on the terminal that is written over; nothing where there is no terminal.
struct Bar {
    on_terminal: bool,
    start: Instant,
    shown: Option<Instant>,
}

impl Bar {
    fn new() -> Self {
        Self {
            on_terminal: io::stderr().is_terminal(),
            start: Instant::now(),
            shown: None,
        }
    }

    fn show(&mut self, progress: Progress) {
        if !self.on_terminal || self.shown.is_some_and(|shown| shown.elapsed() < TICK) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = describe(progress, self.start.elapsed());
        // A terminal that cannot be written to is no reason to stop.
        write!(io::stderr(), "\r\x1b[K{line}").ok();
    }

    fn clear(&self) {
        if self.shown.is_some() {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

fn describe(progress: Progress, elapsed: Duration) -> String {
    let Progress { written, total } = progress;
    let percent = written as f64 / total as f64 * 100.0;
    let rate = written as f64 / 1e6 / elapsed.as_secs_f64();
    let left = elapsed.mul_f64((total - written) as f64 / written as f64);
    format!("{percent:3.0} %, {rate:.0} MB/s, {} s left", left.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(output: PathBuf) -> Args {
        Args {
            preset: Preset::named("tiny").unwrap(),
            layers: None,
            quant: TypeMix::Q4_K_M,
            vocab: None,
            seed: 1,
            output: Some(output),
        }
    }

    #[test]
    fn a_model_can_lend_its_vocabulary_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
        run(&args(first.clone())).unwrap();
        run(&Args {
            vocab: Some(first.clone()),
            ..args(second.clone())
        })
        .unwrap();
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "a part was left behind"
        );
    }

    #[test]
    fn layers_can_be_fewer_than_the_presets() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, part] = ["whole.gguf", "part.gguf"].map(|name| folder.path().join(name));
        run(&args(whole.clone())).unwrap();
        let fewer = Args {
            layers: NonZeroU32::new(1),
            ..args(part.clone())
        };
        assert_eq!(fewer.geometry().n_layer, 1);
        run(&fewer).unwrap();
        let len = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(len(&part) < len(&whole));
    }

    #[test]
    fn an_impossible_model_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let impossible = Args {
            preset: Preset {
                name: "impossible".to_owned(),
                geometry: Geometry {
                    n_vocab: 10,
                    ..Geometry::TINY
                },
            },
            ..args(folder.path().join("a.gguf"))
        };
        run(&impossible).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_not_named_is_not_replaced() {
        // Relative to the folder of this package, where tests run.
        let without = |name: &str| Args {
            preset: Preset {
                name: name.to_owned(),
                geometry: Geometry::TINY,
            },
            output: None,
            ..args(PathBuf::new())
        };
        let free = without("tiny").output().unwrap();
        assert_eq!(free, Path::new("tiny-q4_k_m.gguf"));
        let fewer = Args {
            layers: NonZeroU32::new(1),
            ..without("tiny")
        };
        assert_eq!(fewer.output().unwrap(), Path::new("tiny-1l-q4_k_m.gguf"));
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("tiny-q4_k_m.gguf");
        fs::write(&taken, "precious").unwrap();
        let name = folder.path().join("tiny");
        let error = run(&without(name.to_str().unwrap())).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert_eq!(fs::read(taken).unwrap(), b"precious");
    }

    #[test]
    fn progress_says_share_rate_and_time_left() {
        let progress = Progress {
            written: 500_000_000,
            total: 2_000_000_000,
        };
        assert_eq!(
            describe(progress, Duration::from_secs(2)),
            " 25 %, 250 MB/s, 6 s left"
        );
    }
}
