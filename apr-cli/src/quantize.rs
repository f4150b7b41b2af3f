//! `apr quantize`: a GGUF file, or a checkpoint as one, in other types.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, builder::BoolishValueParser};
use model_tools::{
    Importance, Plan, PlannedTensor, QuantizeOptions, Source, TensorType, ToolError,
};
use moe_model::ModelFile;
use quant_kernels::QuantType;
use type_mix::Mix;

use crate::{
    args::{QuietArgs, ThreadArgs},
    convert,
    error::Error,
    file_limit,
    input::refuse_inputs,
    output::Output,
    terminal::{self, one_line},
    units::{bytes, plural, seconds},
};

/// Flags of the verb.
#[derive(Debug, Args)]
#[command(
    override_usage = "apr quantize [OPTIONS] IN OUT TYPE\n       apr quantize --dry-run [OPTIONS] IN TYPE",
    after_help = types()
)]
pub(crate) struct QuantizeArgs {
    /// GGUF file to read, any shard of a split one, or the folder of a Hugging Face checkpoint
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write; an existing one is replaced when the new one is complete
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Type of the matrices, placed as llama.cpp places it; see below
    #[arg(value_name = "TYPE")]
    mix: Option<Mix>,
    /// Say what would be written, and write nothing
    #[arg(long, env = "APR_DRY_RUN", value_parser = BoolishValueParser::new())]
    dry_run: bool,
    /// Give all matrices the one type, without the exceptions that mixes make
    #[arg(long, env = "APR_PURE", value_parser = BoolishValueParser::new())]
    pure: bool,
    /// File of importance matrices, as llama.cpp's imatrix writes them: the quantizers then
    /// count errors by how much each column matters
    #[arg(long, value_name = "FILE", env = "APR_IMATRIX")]
    imatrix: Option<PathBuf>,
    /// Another type for tensors: a regular expression, found anywhere in their names, `=`, and
    /// the type. May be given several times; the first that matches counts
    #[arg(long, value_name = "PATTERN=TYPE", env = "APR_TENSOR_TYPE")]
    tensor_type: Vec<TensorType>,
    /// Type of the output, also of an embedding that serves as output
    #[arg(long, value_name = "QUANT", env = "APR_OUTPUT_TENSOR_TYPE")]
    output_tensor_type: Option<QuantType>,
    /// Type of the token embedding
    #[arg(long, value_name = "QUANT", env = "APR_TOKEN_EMBEDDING_TYPE")]
    token_embedding_type: Option<QuantType>,
    /// Quantize weights again that are quantized already, which loses more than once would
    #[arg(long, env = "APR_ALLOW_REQUANTIZE", value_parser = BoolishValueParser::new())]
    allow_requantize: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

fn types() -> String {
    format!(
        "Types: {}. Most are mixes: of Q4_K_M most matrices are Q4_K, some Q6_K.",
        Mix::ALL.map(Mix::name).join(", ")
    )
}

impl QuantizeArgs {
    /// Returns the type, and the file to write; a dry run needs none.
    fn target(&self) -> Result<(Mix, Option<&Path>), Error> {
        if let Some(mix) = self.mix {
            return Ok((
                mix,
                Some(&self.output)
                    .filter(|_| !self.dry_run)
                    .map(PathBuf::as_path),
            ));
        }
        if !self.dry_run {
            return Err(Error::usage("no TYPE: apr quantize IN OUT TYPE"));
        }
        let mix = self.output.to_string_lossy().parse::<Mix>();
        Ok((mix.map_err(|error| Error::usage(error.to_string()))?, None))
    }

    fn options(&self, mix: Mix) -> QuantizeOptions {
        QuantizeOptions {
            pure: self.pure,
            output_tensor: self.output_tensor_type,
            token_embedding: self.token_embedding_type,
            tensor_types: self.tensor_type.clone(),
            allow_requantize: self.allow_requantize,
            ..QuantizeOptions::new(mix)
        }
    }
}

pub(crate) fn run(args: &QuantizeArgs) -> Result<(), Error> {
    let (mix, target) = args.target()?;
    file_limit::make_an_error();
    let file = ModelFile::open(&args.input)?;
    let within = Error::within(file.path());
    let contents = file.contents()?;
    let source = Source::read(&contents).map_err(|error| within(error.into()))?;
    convert::say_notes(&source.notes, args.quiet);
    let imatrix = args
        .imatrix
        .as_deref()
        .map(ImportanceFile::open)
        .transpose()?;
    let imatrix = imatrix.as_ref().map(ImportanceFile::read).transpose()?;
    let plan = Plan::new(source, &args.options(mix), imatrix.as_ref());
    let plan = plan.map_err(|error| match (error, &args.imatrix) {
        (error @ ToolError::Importance { .. }, Some(path)) => Error::within(path)(error.into()),
        (error, _) => within(error.into()),
    })?;
    unfit(&plan).iter().for_each(terminal::say);
    if !args.quiet.quiet {
        let notes = imatrix
            .iter()
            .flat_map(|imatrix| unweighted(&plan, imatrix));
        notes.for_each(terminal::say);
    }
    let Some(target) = target else {
        return Output::new().write(table(&plan).as_bytes());
    };
    refuse_inputs(target, file.all_paths().chain(args.imatrix.as_deref()))?;
    let start = Instant::now();
    convert::write_gguf(&plan, target, "quantize", &args.threads, args.quiet)
        .map_err(|error| convert::writing_failed(file.path(), target, error))?;
    if !args.quiet.quiet {
        let took = seconds(start.elapsed());
        terminal::say(format_args!(
            "{}: {}, {took}",
            target.display(),
            summary(&plan)
        ));
    }
    Ok(())
}

/// Returns a line for each kind of row that does not fit the type it was to have.
fn unfit(plan: &Plan<'_>) -> Vec<String> {
    let mut kinds = BTreeMap::<_, Vec<&PlannedTensor<'_>>>::new();
    for tensor in plan.tensors() {
        if let Some(wanted) = tensor.unfit {
            let kind = (wanted, tensor.source.n_cols());
            kinds.entry(kind).or_default().push(tensor);
        }
    }
    let line = |((wanted, n_cols), tensors): ((QuantType, u64), Vec<&PlannedTensor<'_>>)| {
        let first = tensors[0];
        let others = match tensors.len() - 1 {
            0 => String::new(),
            n => format!(" and {}", plural(n, "other")),
        };
        format!(
            "note: rows of {n_cols} are no whole blocks of {wanted}: {}{others} {} {} instead",
            one_line(&first.source.name),
            if tensors.len() > 1 { "are" } else { "is" },
            first.ty
        )
    };
    kinds.into_iter().map(line).collect()
}

/// Returns what is quantized as if all columns mattered alike, although there is an
/// importance matrix.
fn unweighted(plan: &Plan<'_>, imatrix: &Importance<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let lacking = plan
        .tensors()
        .iter()
        .filter(|tensor| tensor.lacks_importance());
    let lacking: Vec<&str> = lacking.map(|tensor| tensor.source.name.as_str()).collect();
    if !lacking.is_empty() {
        notes.push(format!("note: no importance for {}", some_of(&lacking)));
    }
    let weighted = plan.tensors().iter().filter(|tensor| tensor.is_weighted());
    let unseen = weighted.filter_map(|tensor| {
        let name = tensor.source.name.as_str();
        let n = imatrix.unseen_experts(name).len();
        (n > 0).then(|| format!("{} of {name}", plural(n, "expert")))
    });
    let unseen: Vec<String> = unseen.collect();
    if !unseen.is_empty() {
        let unseen: Vec<&str> = unseen.iter().map(String::as_str).collect();
        notes.push(format!(
            "note: the importance matrices know nothing of {}",
            some_of(&unseen)
        ));
    }
    notes
}

/// Returns the first few names, and how many there are besides.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = names
        .iter()
        .take(SHOWN)
        .map(|name| one_line(name))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        n => format!("{} and {}", shown.join(", "), plural(n, "other")),
    }
}

/// Most bytes of an importance file of the older form, which is read as a whole; that of a
/// model of 235 billion weights has half a GiB.
const MAX_LEGACY: u64 = 2 << 30;

/// A file of importance matrices, in either of its forms.
enum ImportanceFile {
    Gguf(ModelFile),
    Legacy(PathBuf, Vec<u8>),
}

impl ImportanceFile {
    fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            let message = "expected a file of importance matrices, found a folder";
            return Err(Error::input(&path.display().to_string(), message));
        }
        let file = ModelFile::open(path)?;
        let failed = |error| Error::io(path, "read", error);
        let mut start = Vec::new();
        let opened = File::open(path).map_err(failed)?;
        opened.take(4).read_to_end(&mut start).map_err(failed)?;
        if start == b"GGUF" {
            return Ok(Self::Gguf(file));
        }
        if file.n_bytes() > MAX_LEGACY {
            let message = format!("no GGUF file, and longer than {} GiB", MAX_LEGACY >> 30);
            return Err(Error::input(&path.display().to_string(), message));
        }
        let bytes = fs::read(path).map_err(failed)?;
        Ok(Self::Legacy(path.to_owned(), bytes))
    }

    fn read(&self) -> Result<Importance<'_>, Error> {
        let (path, importance) = match self {
            Self::Gguf(file) => (file.path(), Importance::from_gguf(&file.gguf()?)),
            Self::Legacy(path, bytes) => (path.as_path(), Importance::from_legacy(bytes)),
        };
        // Where the file lies is nobody's business who gets the model.
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let importance = importance.map(|importance| importance.with_file_name(&name));
        importance.map_err(|error| Error::within(path)(error.into()))
    }
}

/// Returns all tensors with old and new types and sizes, and what they sum up to.
fn table(plan: &Plan<'_>) -> String {
    let tensors = plan.tensors();
    let width = |tensor: &PlannedTensor<'_>| one_line(&tensor.source.name).chars().count();
    let widest = tensors.iter().map(width).max().unwrap_or(0).clamp(6, 48);
    let mut text = format!(
        "{:<widest$}  {:<20}  {:<7}  {:>8}  {:<7}  {:>8}\n",
        "tensor", "shape", "old", "", "new", ""
    );
    for tensor in tensors {
        let source = &tensor.source;
        let shape: Vec<u64> = source.ne.iter().rev().copied().collect();
        let (old, new) = (bytes(source.n_bytes()), bytes(tensor.n_bytes()));
        text.push_str(&format!(
            "{:<widest$}  {:<20}  {:<7}  {old:>8}  {:<7}  {new:>8}\n",
            one_line(&source.name),
            format!("{shape:?}"),
            source.type_name(),
            tensor.ty.name(),
        ));
    }
    text.push_str(&format!("\n{}\n", summary(plan)));
    text
}

fn summary(plan: &Plan<'_>) -> String {
    let tensors = || plan.tensors().iter();
    let n_weights: u64 = tensors()
        .map(|t| t.source.n_cols() * t.source.n_rows())
        .sum();
    let old: u64 = tensors().map(|tensor| tensor.source.n_bytes()).sum();
    let bits = |n_bytes: u64| 8.0 * n_bytes as f64 / n_weights.max(1) as f64;
    format!(
        "{} of {} ({:.2} bits per weight, before {:.2}), {} bytes of tensors",
        bytes(plan.n_bytes()),
        bytes(old),
        bits(plan.n_bytes()),
        bits(old),
        plan.n_bytes()
    )
}
