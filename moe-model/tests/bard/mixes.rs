//! Which type llama.cpp's quantizer gives each matrix of the trained model, by the name of
//! the mix and without an importance matrix (`llama_tensor_get_type` in `llama-quant.cpp`,
//! followed for four layers, sixteen experts and two query heads to a key head).

use gguf_format::{GgmlType, GgufSet, GgufWriter};
use moe_model::quant_type;
use quant_kernels::{QuantType, dequantize_row, quantize_row};

/// Returns the type of most matrices, if there is a quantizer for it.
fn main_type(mix: &str) -> Option<QuantType> {
    Some(match mix {
        "f32" => QuantType::F32,
        "bf16" => QuantType::BF16,
        "f16" => QuantType::F16,
        "q8_0" | "mxfp4_moe" => QuantType::Q8_0,
        "q6_k" => QuantType::Q6_K,
        "q5_k_m" | "q5_k_s" => QuantType::Q5_K,
        "q5_0" => QuantType::Q5_0,
        "q5_1" => QuantType::Q5_1,
        "q4_k_m" | "q4_k_s" => QuantType::Q4_K,
        "q4_0" => QuantType::Q4_0,
        "q4_1" => QuantType::Q4_1,
        "iq4_xs" => QuantType::IQ4_XS,
        "iq4_nl" => QuantType::IQ4_NL,
        "q3_k_l" | "q3_k_m" | "q3_k_s" => QuantType::Q3_K,
        "q2_k" => QuantType::Q2_K,
        _ => return None,
    })
}

/// Returns the type of a matrix that is given another one than most are.
fn exception(mix: &str, matrix: &str, layer: Option<u32>) -> Option<QuantType> {
    match (mix, matrix) {
        ("f32" | "f16" | "bf16" | "q8_0", _) => None,
        ("mxfp4_moe", matrix) => matrix.ends_with("_exps").then_some(QuantType::MXFP4),
        (_, "output") => Some(QuantType::Q6_K),
        ("q5_k_m" | "q4_k_m", "attn_v" | "ffn_down_exps") if layer >= Some(2) => {
            Some(QuantType::Q6_K)
        }
        ("q4_k_s", "attn_v") => Some(QuantType::Q5_K),
        ("q3_k_m", "attn_v") if layer < Some(2) => Some(QuantType::Q5_K),
        ("q3_k_m", "attn_v" | "attn_output" | "ffn_down_exps") => Some(QuantType::Q4_K),
        ("q3_k_l", "attn_v" | "attn_output" | "ffn_down_exps") => Some(QuantType::Q5_K),
        ("q2_k", "attn_v" | "attn_output" | "ffn_down_exps") => Some(QuantType::Q3_K),
        _ => None,
    }
}

/// Writes the blocks of a row with our quantizer.
pub(crate) fn quantize(ty: QuantType, row: &[f32], out: &mut [u8]) {
    quantize_row(ty, row, out).unwrap();
}

/// Returns the file of a mix, made from the BF16 file, if there is a quantizer for it.
///
/// Norms and routers are F32 in the source and stay as they are.
pub(crate) fn requantize(
    source: &GgufSet<'_>,
    mix: &str,
    quantize: fn(QuantType, &[f32], &mut [u8]),
) -> Option<Vec<u8>> {
    let main_type = main_type(mix)?;
    let mut writer = GgufWriter::new();
    writer.set_all(source.metadata()).unwrap();
    let mut data = Vec::new();
    for tensor in source.tensors() {
        let (name, ne) = (tensor.info.name(), tensor.info.ne());
        if tensor.info.ty() != GgmlType::BF16 {
            writer.tensor(name, ne, tensor.info.ty()).unwrap();
            data.push(tensor.data.to_vec());
            continue;
        }
        let mut parts = name.trim_end_matches(".weight").rsplit('.');
        let matrix = parts.next().unwrap();
        let layer = parts.next().and_then(|layer| layer.parse().ok());
        let ty = exception(mix, matrix, layer).unwrap_or(main_type);
        let ggml_type = GgmlType::from_name(ty.name()).unwrap();
        assert_eq!(quant_type(ggml_type), Some(ty));
        writer.tensor(name, ne, ggml_type).unwrap();
        let n_cols = ne[0] as usize;
        let mut row = vec![0.0; n_cols];
        let mut blocks = vec![0; ty.row_bytes(n_cols).unwrap()];
        let mut all = Vec::new();
        for bf16 in tensor.data.chunks(2 * n_cols) {
            dequantize_row(QuantType::BF16, bf16, &mut row);
            quantize(ty, &row, &mut blocks);
            all.extend_from_slice(&blocks);
        }
        data.push(all);
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    Some(writer.to_bytes(&data).unwrap())
}
