//! Makes the built-in model: quantizes a GGUF file with this project's own quantizer.
//!
//! ```text
//! cargo run --release -p apr-cli --example make_builtin -- bard-bf16.gguf assets/bard.gguf
//! ```
//!
//! A third argument replaces [`RECIPE`]. Metadata is copied, so the vocabulary and the chat
//! template come along; matrices whose rows do not fit a type and all vectors stay as they
//! are.
#![expect(clippy::print_stdout, reason = "a tool says what it has made")]

use std::{env, error::Error, fs};

use gguf_format::{GgmlType, Gguf, GgufWriter, Tensor};
use quant_kernels::{QuantType, dequantize_row, quantize_row};

/// Types by parts of a tensor's name; the first part that is found counts.
///
/// Of the mixes below 12 MB this one diverges least from the BF16 model on held-out text.
const RECIPE: &str = "ffn_gate_inp=f32,blk.3.ffn_up_exps=q6_k,ffn_up_exps=q5_k,_exps=q6_k,=q8_0";

/// What the file says about itself besides what it copies.
const LICENSE: &str = "MIT OR Apache-2.0";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [source, target, recipe @ ..] = args.as_slice() else {
        return Err("usage: make_builtin SOURCE.gguf TARGET.gguf [RECIPE]".into());
    };
    let recipe = parse(recipe.first().map_or(RECIPE, String::as_str))?;
    let bytes = fs::read(source)?;
    let gguf = Gguf::parse(&bytes)?;

    let mut writer = GgufWriter::new();
    writer.set_all(gguf.metadata())?;
    writer.remove("general.file_type");
    writer.set("general.name", "Bard")?;
    writer.set("general.license", LICENSE)?;
    let tensors: Vec<_> = gguf
        .tensors()
        .map(|tensor| (type_of(&tensor, &recipe), tensor))
        .collect();
    let data = tensors
        .iter()
        .map(|(ty, tensor)| convert(tensor, *ty))
        .collect::<Result<Vec<_>, _>>()?;
    for (ty, tensor) in &tensors {
        writer.tensor(tensor.info.name(), tensor.info.ne(), *ty)?;
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let file = writer.to_bytes(&data)?;
    println!("{target}: {} bytes", file.len());
    Ok(fs::write(target, file)?)
}

/// Reads `part=type,part=type,…`.
fn parse(recipe: &str) -> Result<Vec<(&str, GgmlType)>, String> {
    let rule = |rule: &'_ str| {
        let (_, name) = rule
            .split_once('=')
            .ok_or(format!("`{rule}`: expected part=type"))?;
        GgmlType::from_name(name).ok_or(format!("`{name}` is no type"))
    };
    let rules = recipe.split(',');
    rules
        .map(|text| Ok((text.split('=').next().unwrap_or_default(), rule(text)?)))
        .collect()
}

fn type_of(tensor: &Tensor<'_>, recipe: &[(&str, GgmlType)]) -> GgmlType {
    let (name, ne) = (tensor.info.name(), tensor.info.ne());
    let rule = recipe.iter().find(|(part, _)| name.contains(part));
    match rule {
        Some((_, ty)) if ne.len() > 1 && ne[0].is_multiple_of(ty.block_len()) => *ty,
        _ => tensor.info.ty(),
    }
}

/// Returns a tensor's data in another type.
fn convert(tensor: &Tensor<'_>, ty: GgmlType) -> Result<Vec<u8>, Box<dyn Error>> {
    if ty == tensor.info.ty() {
        return Ok(tensor.data.to_vec());
    }
    let n_cols = usize::try_from(tensor.info.ne()[0])?;
    let (from, to) = (quant_type(tensor.info.ty())?, quant_type(ty)?);
    let row_bytes = |ty: QuantType| ty.row_bytes(n_cols).ok_or("a row is no whole blocks");
    let mut row = vec![0.0; n_cols];
    let mut data = Vec::new();
    for source in tensor.data.chunks_exact(row_bytes(from)?) {
        dequantize_row(from, source, &mut row);
        let start = data.len();
        data.resize(start + row_bytes(to)?, 0);
        quantize_row(to, &row, &mut data[start..])?;
    }
    Ok(data)
}

fn quant_type(ty: GgmlType) -> Result<QuantType, String> {
    moe_model::quant_type(ty).ok_or(format!("{ty} cannot be converted"))
}
