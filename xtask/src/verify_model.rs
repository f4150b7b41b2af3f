//! Verifies a model, or the built-in one and small synthetic ones of every mix of types.
//!
//! A model that is named is the business of `apr verify`, to which all is passed on. The same
//! checks, from `model-tools`, are run here on models that no user has, so that a broken kernel is
//! noticed before anybody's model is.

use std::{
    ffi::OsString,
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use model_tools::verify::{
    Caller, Event, Verdict, VerifyOptions,
    golden::{Golden, Tolerance},
    verify,
};
use moe_model::ModelFile;
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

use crate::{error::TaskError, workspace::Workspace};

/// Columns of the table.
const WIDTH: usize = 100;

/// Flags of the task.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// A model and what to ask of it, as for `apr verify`: a GGUF file or the folder of a
    /// checkpoint, --quick, --against and so on; without all that, the built-in model and
    /// synthetic ones are verified
    #[arg(
        value_name = "FILE|DIR|FLAG",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    passed_on: Vec<OsString>,
    /// Check this mix of types only, among the synthetic models
    #[arg(long, value_name = "MIX", conflicts_with = "passed_on")]
    quant: Option<TypeMix>,
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
    if !args.passed_on.is_empty() {
        return wait_for(&mut apr_verify(workspace, &args.passed_on));
    }
    let n_threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut options = VerifyOptions::new(n_threads);
    let mut clock = Clock(Instant::now());
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

/// Returns the program's own verb, with these arguments.
fn apr_verify(workspace: &Workspace, args: &[OsString]) -> Command {
    let mut command = workspace.cargo(&["run", "--quiet", "--package", "apr-cli"]);
    command
        .arg("--manifest-path")
        .arg(workspace.path("Cargo.toml"))
        .args(["--", "verify"])
        .args(args)
        // Paths count from where the task was called.
        .current_dir(".");
    command
}

fn wait_for(command: &mut Command) -> Result<(), TaskError> {
    let status = command.status().map_err(|source| TaskError::Start {
        command: "apr verify".to_owned(),
        source,
    })?;
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(TaskError::Verify { code }),
        _ => Err(TaskError::Command {
            command: "apr verify".to_owned(),
            status: status.to_string(),
        }),
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
    use clap::Parser;
    use quant_kernels::QuantType;

    use super::*;

    #[test]
    fn sound_models_pass() {
        let workspace = Workspace::find().unwrap();
        for mix in ["f32", "q4_k_m", "pure-iq2_xs"] {
            let args = Args {
                quant: Some(mix.parse().unwrap()),
                ..Args::default()
            };
            run(&workspace, &args).unwrap();
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
    fn what_is_asked_of_a_model_is_passed_on_as_it_is() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parse = |args: &[&str]| Line::try_parse_from([&["verify-model"], args].concat());
        let workspace = Workspace::find().unwrap();
        let asked = [
            &["m.gguf", "--quick", "--layers", "2", "--tokens", "8"][..],
            &["--json", "--junit", "a.xml", "--compare", "b", "dir"],
            &["m.gguf", "--against", "a.json", "--within", "0.5,0.02"],
            &["--record", "a.json", "--text", "b.txt", "-t", "1", "--help"],
        ];
        for args in asked {
            let parsed = parse(args).unwrap_or_else(|error| panic!("{error}")).args;
            let command = apr_verify(&workspace, &parsed.passed_on);
            let given: Vec<_> = command.get_args().collect();
            assert_eq!(given[given.len() - args.len() - 2..][..2], ["--", "verify"]);
            assert_eq!(given[given.len() - args.len()..], *args);
        }
        assert!(parse(&["--quant", "f32", "m.gguf"]).is_err());
        assert!(
            parse(&["--quant", "f32"])
                .unwrap()
                .args
                .passed_on
                .is_empty()
        );
    }

    #[test]
    fn the_verdict_is_passed_back() {
        let ended = |code: u8| wait_for(Command::new("sh").args(["-c", &format!("exit {code}")]));
        assert!(ended(0).is_ok());
        for code in [3, 4, 6] {
            assert_eq!(ended(code).unwrap_err().exit_code(), code);
        }
    }
}
