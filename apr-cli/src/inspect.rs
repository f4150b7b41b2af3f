//! `apr inspect`: what is in a GGUF file or a checkpoint of any architecture.
//!
//! Everything a file says may be hostile, so its strings are shown on one line, escaped, and
//! arrays and long strings are shortened.

use std::collections::BTreeMap;

use clap::{Args, builder::BoolishValueParser};
use gguf_format::{GgufSet, Value};
use moe_model::{Checkpoint, Contents};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::{
    args::ModelArgs,
    engine::Source,
    error::Error,
    output::Output,
    terminal::one_line,
    units::{bytes, count, plural},
};

/// Elements of an array that are shown.
const SHOWN_ELEMENTS: usize = 6;
/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 60;

/// Flags of the verb.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object, with arrays and texts in full
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// What the tensors of one type sum up to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    n_tensors: u64,
    n_weights: u64,
    n_bytes: u64,
}

/// What is shown of a model.
struct Listing<'a> {
    metadata: Vec<(String, Entry<'a>)>,
    tensors: Vec<Row<'a>>,
}

/// A metadata value of a GGUF file, or a field of `config.json`.
enum Entry<'a> {
    Gguf(Value<'a>),
    Json(Json),
}

struct Row<'a> {
    name: &'a str,
    ty: String,
    /// Slowest dimension first.
    shape: Vec<u64>,
    n_bytes: u64,
}

pub(crate) fn run(args: &InspectArgs) -> Result<(), Error> {
    let source = Source::open(&args.model)?;
    let contents = source.contents()?;
    let listing = match &contents {
        Contents::Gguf(gguf) => Listing::of_gguf(gguf),
        Contents::Checkpoint(checkpoint) => Listing::of_checkpoint(checkpoint)?,
    };
    let mut output = Output::new();
    if args.json {
        return output.json(&record(&source, &listing));
    }
    output.write(report(&source, &listing).as_bytes())
}

impl<'a> Listing<'a> {
    fn of_gguf(gguf: &GgufSet<'a>) -> Self {
        let metadata = gguf.metadata().iter();
        let tensors = gguf.tensors().map(|tensor| Row {
            name: tensor.info.name(),
            ty: tensor.info.ty().name().to_owned(),
            shape: tensor.info.ne().iter().rev().copied().collect(),
            n_bytes: tensor.data.len() as u64,
        });
        Self {
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), Entry::Gguf(value)))
                .collect(),
            tensors: tensors.collect(),
        }
    }

    fn of_checkpoint(checkpoint: &Checkpoint<'a>) -> Result<Self, Error> {
        let fields = checkpoint.fields("config.json")?.unwrap_or_default();
        let tensors = checkpoint.tensors().map(|tensor| Row {
            name: tensor.name(),
            ty: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            n_bytes: tensor.data().len() as u64,
        });
        Ok(Self {
            metadata: fields
                .into_iter()
                .map(|(name, value)| (name, Entry::Json(value)))
                .collect(),
            tensors: tensors.collect(),
        })
    }

    /// Sums tensors by the name of their type.
    fn sums(&self) -> BTreeMap<&str, Sum> {
        let mut sums = BTreeMap::<_, Sum>::new();
        for tensor in &self.tensors {
            let sum = sums.entry(tensor.ty.as_str()).or_default();
            *sum = sum.plus(Sum {
                n_tensors: 1,
                n_weights: tensor.shape.iter().product(),
                n_bytes: tensor.n_bytes,
            });
        }
        sums
    }
}

impl Entry<'_> {
    /// The value as part of a line.
    fn shown(&self) -> String {
        match self {
            Self::Gguf(value) => shown(value),
            Self::Json(Json::String(text)) => quoted(text),
            Self::Json(value) => one_line(&shortened(&value.to_string())).into_owned(),
        }
    }

    fn whole(&self) -> Json {
        match self {
            Self::Gguf(value) => whole(value),
            Self::Json(value) => value.clone(),
        }
    }
}

fn report(source: &Source, listing: &Listing<'_>) -> String {
    let sums = listing.sums();
    let total = sums.values().fold(Sum::default(), |a, &b| a.plus(b));
    let (n_files, n_tensors) = (source.file.paths().len(), total.n_tensors);
    let mut lines = vec![
        format!("file      {}", one_line(&source.name())),
        format!(
            "size      {} in {}",
            bytes(source.file.n_bytes()),
            plural(n_files, "file")
        ),
        format!(
            "weights   {} in {n_tensors} tensors",
            count(total.n_weights)
        ),
    ];
    lines.push(format!("\nmetadata ({})", listing.metadata.len()));
    let entries = listing.metadata.iter();
    let entries = entries.map(|(key, entry)| (key.as_str(), entry.shown()));
    lines.extend(columns(entries.collect()));
    lines.push(format!("\ntensors ({n_tensors})"));
    let tensors = listing.tensors.iter().map(|tensor| {
        let (ty, shape) = (&tensor.ty, format!("{:?}", tensor.shape));
        let size = bytes(tensor.n_bytes);
        (tensor.name, format!("{ty:<7}  {shape:<20}  {size:>8}"))
    });
    lines.extend(columns(tensors.collect()));
    lines.push("\ntypes".to_owned());
    lines.extend(sums.iter().map(|(ty, sum)| {
        let share = 100.0 * sum.n_bytes as f64 / total.n_bytes.max(1) as f64;
        let (n, weights, size) = (sum.n_tensors, count(sum.n_weights), bytes(sum.n_bytes));
        format!("  {ty:<7}  {n:>5} tensors  {weights:>7} weights  {size:>8}  {share:5.1} %")
    }));
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// Names in a column as wide as the longest, within reason, and what belongs to them.
fn columns(rows: Vec<(&str, String)>) -> Vec<String> {
    const WIDEST: usize = 48;
    let width = |name: &str| one_line(name).chars().count();
    let widest = rows
        .iter()
        .map(|(name, _)| width(name))
        .max()
        .unwrap_or_default()
        .min(WIDEST);
    let rows = rows.into_iter();
    rows.map(|(name, value)| format!("  {:<widest$}  {value}", one_line(name)))
        .collect()
}

fn record(source: &Source, listing: &Listing<'_>) -> Json {
    let metadata = listing.metadata.iter();
    let metadata: Map<String, Json> = metadata
        .map(|(key, entry)| (key.clone(), entry.whole()))
        .collect();
    let tensors: Vec<Json> = listing
        .tensors
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "type": tensor.ty,
                "shape": tensor.shape,
                "bytes": tensor.n_bytes,
            })
        })
        .collect();
    json!({
        "file": source.name(),
        "bytes": source.file.n_bytes(),
        "shards": source.file.paths().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "metadata": metadata,
        "tensors": tensors,
        "types": listing.sums(),
    })
}

impl Sum {
    const fn plus(self, other: Self) -> Self {
        Self {
            n_tensors: self.n_tensors + other.n_tensors,
            n_weights: self.n_weights + other.n_weights,
            n_bytes: self.n_bytes + other.n_bytes,
        }
    }
}

/// A value as part of a line.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(array) => {
            let mut parts: Vec<String> = array
                .iter()
                .take(SHOWN_ELEMENTS)
                .map(|value| shown(&value))
                .collect();
            if array.len() > SHOWN_ELEMENTS {
                parts.push("…".to_owned());
            }
            let ty = array.element_type().name();
            format!("{ty}[{}] [{}]", array.len(), parts.join(", "))
        }
        number => whole(number).to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(&shortened(text)))
}

fn shortened(text: &str) -> String {
    let mut start: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        start.push('…');
    }
    start
}

/// A value as JSON. Numbers that JSON cannot hold become texts.
fn whole(value: &Value<'_>) -> Json {
    let float = |x: f64| {
        if x.is_finite() {
            json!(x)
        } else {
            json!(x.to_string())
        }
    };
    match *value {
        Value::F32(x) => float(x.to_string().parse().unwrap_or(f64::from(x))),
        Value::F64(x) => float(x),
        Value::Bool(x) => json!(x),
        Value::String(x) => json!(x),
        Value::Array(array) => array.iter().map(|value| whole(&value)).collect(),
        Value::U64(x) => json!(x),
        ref integer => integer
            .as_integer()
            .and_then(|x| i64::try_from(x).ok())
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_file_become_short_lines() {
        assert_eq!(shown(&Value::String("a\n\u{1b}[2J")), "\"a\\n\\u{1b}[2J\"");
        let long = "x".repeat(100);
        assert_eq!(
            shown(&Value::String(&long)),
            format!("\"{}…\"", "x".repeat(60))
        );
    }

    #[test]
    fn numbers_keep_their_shortest_form() {
        assert_eq!(shown(&Value::F32(1e-6)), "1e-6");
        assert_eq!(whole(&Value::F32(0.7)), json!(0.7));
        assert_eq!(whole(&Value::F64(f64::NAN)), json!("NaN"));
        assert_eq!(whole(&Value::U64(u64::MAX)), json!(u64::MAX));
        assert_eq!(whole(&Value::I8(-3)), json!(-3));
    }
}
