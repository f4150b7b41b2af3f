//! `apr inspect`: what is in a GGUF file of any architecture.
//!
//! Everything a file says may be hostile, so its strings are shown on one line, escaped, and
//! arrays and long strings are shortened.

use std::collections::BTreeMap;

use clap::{Args, builder::BoolishValueParser};
use gguf_format::{GgmlType, GgufSet, TensorInfo, Value};
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

pub(crate) fn run(args: &InspectArgs) -> Result<(), Error> {
    let source = Source::open(&args.model)?;
    let gguf = source.gguf()?;
    let mut output = Output::new();
    if args.json {
        return output.json(&record(&source, &gguf));
    }
    output.write(report(&source, &gguf).as_bytes())
}

fn report(source: &Source, gguf: &GgufSet<'_>) -> String {
    let mut text = String::new();
    let total = sums(gguf).values().fold(Sum::default(), |a, &b| a.plus(b));
    let line = |text: &mut String, line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut text, format!("file      {}", one_line(&source.name())));
    let n_shards = plural(gguf.shards().len(), "file");
    line(
        &mut text,
        format!("size      {} in {n_shards}", bytes(source.file.n_bytes())),
    );
    line(
        &mut text,
        format!(
            "weights   {} in {} tensors",
            count(total.n_weights),
            total.n_tensors
        ),
    );
    line(&mut text, format!("\nmetadata ({})", gguf.metadata().len()));
    let longest = gguf
        .metadata()
        .iter()
        .map(|(key, _)| one_line(key).len())
        .max();
    for (key, value) in gguf.metadata().iter() {
        let (key, width) = (one_line(key), longest.unwrap_or_default().min(48));
        line(&mut text, format!("  {key:<width$}  {}", shown(&value)));
    }
    line(&mut text, format!("\ntensors ({})", total.n_tensors));
    let longest = gguf
        .tensors()
        .map(|tensor| one_line(tensor.info.name()).len())
        .max();
    for tensor in gguf.tensors() {
        let (name, width) = (
            one_line(tensor.info.name()),
            longest.unwrap_or_default().min(48),
        );
        let (ty, shape) = (tensor.info.ty(), format!("{:?}", shape(&tensor.info)));
        let size = bytes(tensor.data.len() as u64);
        line(
            &mut text,
            format!("  {name:<width$}  {:<7}  {shape:<20}  {size:>8}", ty.name()),
        );
    }
    line(&mut text, "\ntypes".to_owned());
    for (ty, sum) in sums(gguf) {
        let share = 100.0 * sum.n_bytes as f64 / total.n_bytes.max(1) as f64;
        let (n, size) = (plural_u64(sum.n_tensors, "tensor"), bytes(sum.n_bytes));
        let weights = count(sum.n_weights);
        line(
            &mut text,
            format!("  {ty:<7}  {n:>12}  {weights:>7} weights  {size:>8}  {share:5.1} %"),
        );
    }
    text
}

fn record(source: &Source, gguf: &GgufSet<'_>) -> Json {
    let metadata: Map<String, Json> = gguf
        .metadata()
        .iter()
        .map(|(key, value)| (key.to_owned(), whole(&value)))
        .collect();
    let tensors: Vec<Json> = gguf
        .tensors()
        .map(|tensor| {
            json!({
                "name": tensor.info.name(),
                "type": tensor.info.ty().name(),
                "shape": shape(&tensor.info),
                "bytes": tensor.data.len(),
            })
        })
        .collect();
    json!({
        "file": source.name(),
        "bytes": source.file.n_bytes(),
        "shards": source.file.paths().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "metadata": metadata,
        "tensors": tensors,
        "types": sums(gguf),
    })
}

/// Sums tensors by the name of their type.
fn sums(gguf: &GgufSet<'_>) -> BTreeMap<&'static str, Sum> {
    let mut sums = BTreeMap::<_, Sum>::new();
    for tensor in gguf.tensors() {
        let n_weights = tensor.info.ne().iter().product();
        let n_bytes = tensor.data.len() as u64;
        let sum = sums.entry(GgmlType::name(tensor.info.ty())).or_default();
        *sum = sum.plus(Sum {
            n_tensors: 1,
            n_weights,
            n_bytes,
        });
    }
    sums
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

/// The shape, slowest dimension first.
fn shape(info: &TensorInfo<'_>) -> Vec<u64> {
    info.ne().iter().rev().copied().collect()
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
    let mut start: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        start.push('…');
    }
    format!("\"{}\"", one_line(&start))
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

fn plural_u64(n: u64, noun: &str) -> String {
    plural(usize::try_from(n).unwrap_or(usize::MAX), noun)
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
