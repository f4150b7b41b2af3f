//! Holds the fast forward pass against itself and against the reference in `f64`.
//!
//! Two questions for each model. Do all instruction sets, thread counts and cut points give
//! the same bits? And are these bits right: as near to the `f64` reference as the arithmetic
//! allows, with the experts that the reference would have chosen? Without a file the built-in
//! model and small synthetic ones of every mix of types are asked, and these a third time:
//! against a reference that rounds its activations as the fast pass does.

mod bits;
mod distance;
mod rounding;

use std::{fs, num::NonZeroUsize, path::PathBuf, thread};

use moe_model::{Model, ModelFile, Weights};
use quant_kernels::{ActivationForm, QuantType};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

use crate::{error::TaskError, workspace::Workspace};

/// Tokens of the sequence if nothing else is said: several experts' worth of batches and
/// single tokens.
const N_TOKENS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Flags of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A GGUF file or the folder of a checkpoint; without it, the built-in model and synthetic
    /// ones
    file: Option<PathBuf>,
    /// Threads; all that there are if not said
    #[arg(short, long)]
    threads: Option<NonZeroUsize>,
    /// Tokens of the sequence
    #[arg(short, long, default_value_t = N_TOKENS)]
    n_tokens: NonZeroUsize,
    /// Check this mix of types only, among the synthetic models
    #[arg(long, value_name = "MIX", conflicts_with = "file")]
    quant: Option<TypeMix>,
    /// Hold a file against a reference with rounded activations too, as is done for the
    /// built-in model and the synthetic ones; large models take long
    #[arg(long)]
    rounded: bool,
}

/// How a model is checked.
struct Check {
    n_threads: NonZeroUsize,
    n_tokens: usize,
    /// Whether the reference is asked with rounded activations too.
    rounded: bool,
}

/// What a check found: a sentence, and whether it is good.
struct Finding {
    good: bool,
    text: String,
}

/// Checks the built-in and all synthetic models.
pub(crate) fn run_all(workspace: &Workspace) -> Result<(), TaskError> {
    let args = Args {
        file: None,
        threads: None,
        n_tokens: N_TOKENS,
        quant: None,
        rounded: false,
    };
    run(workspace, &args)
}

/// Checks the models and prints a verdict for each.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<(), TaskError> {
    let all = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let check = Check {
        n_threads: args.threads.unwrap_or(all),
        n_tokens: args.n_tokens.get(),
        rounded: args.rounded || args.file.is_none(),
    };
    let (mut n_models, mut n_wrong) = (0, 0);
    let mut judge = |name: &str, file: &ModelFile| -> Result<(), TaskError> {
        let findings = check.findings(file)?;
        let good = findings.iter().all(|finding| finding.good);
        n_models += 1;
        n_wrong += usize::from(!good);
        println!("{name}: {}", if good { "ok" } else { "WRONG" });
        for finding in findings {
            println!(
                "  {} {}",
                if finding.good { "+" } else { "-" },
                finding.text
            );
        }
        Ok(())
    };
    if let Some(path) = &args.file {
        judge(&path.display().to_string(), &ModelFile::open(path)?)?;
    } else {
        if args.quant.is_none() {
            for path in built_in(workspace)? {
                judge(&path.display().to_string(), &ModelFile::open(&path)?)?;
            }
        }
        for model in synthetic(args.quant) {
            let name = format!("synthetic {}", model.mix);
            judge(&name, &ModelFile::from_bytes(&name, model.to_bytes()?))?;
        }
    }
    if n_wrong > 0 {
        return Err(TaskError::Wrong { n_wrong, n_models });
    }
    println!("verify-model: {n_models} models, all as they should be");
    Ok(())
}

impl Check {
    fn findings(&self, file: &ModelFile) -> Result<Vec<Finding>, TaskError> {
        let model = Model::read(&file.contents()?)?;
        let n_vocab = model.config().n_vocab as u64;
        // Any ids will do; these are spread over the vocabulary.
        let id = |idx: u64| (idx.wrapping_mul(2_654_435_761) + 12_345) % n_vocab;
        let tokens: Vec<u32> = (0..self.n_tokens as u64)
            .map(|idx| id(idx) as u32)
            .collect();
        let is_float = is_float(model.weights());
        let mut findings = vec![bits::compare(&model, &tokens, self.n_threads)?];
        findings.extend(distance::measure(
            &model,
            &tokens,
            self.n_threads,
            is_float,
        )?);
        if self.rounded && !is_float {
            findings.push(rounding::measure(&model, &tokens, self.n_threads)?);
        }
        Ok(findings)
    }
}

/// Whether no matrix is quantized.
fn is_float(weights: &Weights<'_>) -> bool {
    let is_float = |ty: QuantType| ty.activation_form() == ActivationForm::Float;
    let ends = [weights.token_embd.ty(), weights.output.ty()];
    let mut layers = weights.layers.iter();
    ends.into_iter().all(is_float)
        && layers.all(|layer| {
            let dense = layer.dense().map(|matrix| matrix.ty());
            let experts = layer.experts().map(|experts| experts.ty());
            dense.into_iter().chain(experts).all(is_float)
        })
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
    use super::*;

    fn args(file: Option<PathBuf>, quant: Option<TypeMix>) -> Args {
        Args {
            file,
            threads: NonZeroUsize::new(2),
            n_tokens: NonZeroUsize::new(6).unwrap(),
            quant,
            rounded: false,
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
    fn a_missing_file_is_an_error_of_the_system() {
        let workspace = Workspace::find().unwrap();
        let missing = args(Some(PathBuf::from("no/such/model.gguf")), None);
        assert_eq!(run(&workspace, &missing).unwrap_err().exit_code(), 4);
    }
}
