//! Verifies a model, or the built-in one and small synthetic ones of every mix of types.
//!
//! The checks are those of `apr verify`, from `model-tools`; here they are run on models that
//! no user has, so that a broken kernel is noticed before anybody's model is.

use std::{
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use model_tools::verify::{
    Caller, Depth, Event, Report, Verdict, VerifyOptions,
    golden::{Golden, Tolerance},
    verify, verify_path,
};
use moe_model::ModelFile;
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

use crate::{error::TaskError, workspace::Workspace};

/// Columns of the table.
const WIDTH: usize = 100;

/// Flags of the task.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// A GGUF file or the folder of a checkpoint; without it, the built-in model and synthetic
    /// ones
    file: Option<PathBuf>,
    /// Look at headers and samples only
    #[arg(long)]
    quick: bool,
    /// Threads; all that there are if not said
    #[arg(short, long)]
    threads: Option<NonZeroUsize>,
    /// Tokens of the forward pass
    #[arg(short, long)]
    n_tokens: Option<NonZeroUsize>,
    /// Layers of the forward pass, from the first
    #[arg(long)]
    layers: Option<NonZeroUsize>,
    /// Check this mix of types only, among the synthetic models
    #[arg(long, value_name = "MIX", conflicts_with = "file")]
    quant: Option<TypeMix>,
    /// Print the report of a file as JSON
    #[arg(long, requires = "file")]
    json: bool,
    /// Write the report of a file as `JUnit` XML too
    #[arg(long, value_name = "FILE", requires = "file")]
    junit: Option<PathBuf>,
}

/// A clock, and nobody who listens.
struct Clock(Instant);

impl Caller for Clock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Checks the built-in and all synthetic models.
pub(crate) fn run_all(workspace: &Workspace) -> Result<(), TaskError> {
    run(workspace, &Args::default())
}

/// Checks the models and prints what was found.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    let mut options = args.options();
    let mut clock = Clock(Instant::now());
    if let Some(path) = &args.file {
        let report = verify_path(path, &options, &mut clock)?;
        return args.hand_out(&report);
    }
    let (mut n_models, mut n_wrong) = (0, 0);
    let mut judge = |file: &ModelFile, options: &VerifyOptions| -> Result<(), TaskError> {
        let report = verify(file, options, &mut clock)?;
        let seconds: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
        n_models += 1;
        if report.verdict == Verdict::Failed {
            n_wrong += 1;
            print!("{}", report.to_table(WIDTH));
        } else {
            println!(
                "{}: {}, {seconds:.2} s",
                report.model,
                report.verdict.name()
            );
        }
        Ok(())
    };
    if args.quant.is_none() {
        for path in built_in(workspace)? {
            options.golden = recorded(workspace, &path)?;
            judge(&ModelFile::open(&path)?, &options)?;
        }
    }
    options.golden = None;
    for model in synthetic(args.quant) {
        let name = format!("synthetic {}", model.mix);
        judge(&ModelFile::from_bytes(&name, model.to_bytes()?), &options)?;
    }
    if n_wrong > 0 {
        return Err(TaskError::Wrong { n_wrong, n_models });
    }
    println!("verify-model: {n_models} models, all as they should be");
    Ok(())
}

impl Args {
    fn options(&self) -> VerifyOptions {
        let all = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        VerifyOptions {
            depth: if self.quick {
                Depth::Quick
            } else {
                Depth::Full
            },
            n_tokens: self.n_tokens,
            n_layers: self.layers,
            ..VerifyOptions::new(self.threads.unwrap_or(all))
        }
    }

    /// Prints and writes the report of a file.
    fn hand_out(&self, report: &Report) -> Result<(), TaskError> {
        if let Some(path) = &self.junit {
            fs::write(path, report.to_junit()).map_err(|source| TaskError::File {
                action: "write",
                path: path.clone(),
                source,
            })?;
        }
        if self.json {
            println!("{}", report.to_json());
        } else {
            print!("{}", report.to_table(WIDTH));
        }
        match report.verdict {
            Verdict::Failed => Err(TaskError::Wrong {
                n_wrong: 1,
                n_models: 1,
            }),
            Verdict::Passed | Verdict::Skipped => Ok(()),
        }
    }
}

/// The models that `apr` has built in.
fn built_in(workspace: &Workspace) -> Result<Vec<PathBuf>, TaskError> {
    let folder = workspace.path("apr-cli/assets");
    let failed = |source| TaskError::File {
        action: "list",
        path: folder.clone(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What a built-in model is to be held to, if that was recorded.
fn recorded(workspace: &Workspace, model: &Path) -> Result<Option<(Golden, Tolerance)>, TaskError> {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let path = workspace.path(&format!("model-tools/tests/data/golden__{name}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let json = fs::read(&path).map_err(|source| TaskError::File {
        action: "read",
        path,
        source,
    })?;
    Ok(Some((Golden::from_json(&json)?, Tolerance::Exact)))
}

/// One tiny model per mix, and a larger one with a type of its own for each matrix.
fn synthetic(only: Option<TypeMix>) -> impl Iterator<Item = SynthModel<'static>> {
    let mixes = TypeMix::named().filter(move |mix| only.is_none_or(|only| only == *mix));
    let unnamed = only.filter(|only| !TypeMix::named().any(|mix| mix == *only));
    mixes.chain(unnamed).map(|mix| SynthModel {
        geometry: if mix == TypeMix::Mixed {
            Geometry::SMALL
        } else {
            Geometry::TINY
        },
        mix,
        vocab: Vocab::ByteLevel,
        seed: 1,
    })
}

#[cfg(test)]
mod tests {
    use quant_kernels::QuantType;

    use super::*;

    fn args(file: Option<PathBuf>, quant: Option<TypeMix>) -> Args {
        Args {
            file,
            threads: NonZeroUsize::new(2),
            n_tokens: NonZeroUsize::new(6),
            quant,
            ..Args::default()
        }
    }

    #[test]
    fn sound_models_pass() {
        let workspace = Workspace::find().unwrap();
        for mix in ["f32", "q4_k_m", "pure-iq2_xs"] {
            run(&workspace, &args(None, Some(mix.parse().unwrap()))).unwrap();
        }
    }

    #[test]
    fn each_named_mix_has_a_model_and_others_can_be_asked_for() {
        assert_eq!(synthetic(None).count(), TypeMix::named().len());
        let only: Vec<_> = synthetic(Some(TypeMix::Pure(QuantType::Q2_K))).collect();
        assert_eq!(only.len(), 1);
        assert_eq!(only[0].mix, TypeMix::Pure(QuantType::Q2_K));
    }

    #[test]
    fn a_missing_file_is_an_error_of_the_system_and_a_wrong_one_is_6() {
        let workspace = Workspace::find().unwrap();
        let missing = args(Some(PathBuf::from("no/such/model.gguf")), None);
        assert_eq!(run(&workspace, &missing).unwrap_err().exit_code(), 4);
        let wrong = args(Some(workspace.path("README.md")), None);
        assert_eq!(run(&workspace, &wrong).unwrap_err().exit_code(), 6);
    }
}
