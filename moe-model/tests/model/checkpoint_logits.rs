//! The same model gives the same logits, bit for bit, whichever files it comes from.

use gguf_format::GgmlType;
use moe_model::{Model, Outputs, forward_with};
use quant_kernels::{Isa, QuantType};
use serde_json::json;
use synth_model::TypeMix;

use crate::{
    checkpoint::{Folder, Tensor, bf16_parts, open, widen},
    edit::Parts,
    fixture::{cpu, prompt, smallest_of, state, with_model},
};

fn bits(model: &Model<'_>) -> Vec<u32> {
    let tokens = prompt(12, model.config().n_vocab);
    let mut state = state(model, tokens.len());
    let cpu = cpu(Isa::detect(), 2);
    let logits = forward_with(&cpu, model, &mut state, &tokens, Outputs::All).unwrap();
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_bf16_folder_gives_the_bits_of_both_gguf_files() {
    let mut parts = bf16_parts();
    assert!(parts.tensors.iter().any(|part| part.ty == GgmlType::BF16));
    let bf16 = with_model(&parts.to_bytes(), bits);
    widen(&mut parts);
    assert!(parts.tensors.iter().all(|part| part.ty == GgmlType::F32));
    assert_eq!(with_model(&parts.to_bytes(), bits), bf16);
    let folder = Folder::bf16();
    assert!(folder.tensors.iter().all(|tensor| tensor.dtype == "BF16"));
    assert_eq!(open(folder.write().path(), bits).unwrap(), bf16);
    assert_eq!(open(folder.write_shards().path(), bits).unwrap(), bf16);
}

#[test]
fn folders_of_other_floats_give_the_bits_of_their_gguf_files() {
    for ty in [QuantType::F32, QuantType::F16] {
        let parts = Parts::of(&smallest_of(TypeMix::Pure(ty)));
        let folder = Folder::of(&parts).write();
        let expected = with_model(&parts.to_bytes(), bits);
        assert_eq!(open(folder.path(), bits).unwrap(), expected, "{ty}");
    }
}

#[test]
fn stacked_experts_are_the_experts_one_by_one() {
    let expected = open(Folder::bf16().write().path(), bits).unwrap();
    for together in [true, false] {
        let mut folder = Folder::bf16();
        folder.stack_experts(together);
        assert!(folder.tensors.len() < 40);
        assert_eq!(
            open(folder.write().path(), bits).unwrap(),
            expected,
            "{together}"
        );
    }
}

#[test]
fn a_tied_head_is_the_embedding() {
    let mut parts = bf16_parts();
    parts.remove("output.weight");
    let expected = with_model(&parts.to_bytes(), bits);
    let mut folder = Folder::bf16();
    folder.config["tie_word_embeddings"] = json!(true);
    assert_eq!(
        folder.error(),
        "tensor `lm_head.weight` belongs to no Qwen3-MoE model: its head would be ignored, \
         since `tie_word_embeddings` is true"
    );
    folder.tensor("lm_head.weight").data = folder.tensor("model.embed_tokens.weight").data.clone();
    assert_eq!(open(folder.write().path(), bits).unwrap(), expected);
    folder.remove("lm_head.weight");
    assert_eq!(open(folder.write().path(), bits).unwrap(), expected);
    folder.config["tie_word_embeddings"] = json!(null);
    assert_eq!(
        folder.error(),
        "tensor `lm_head.weight` is missing, expected shape [320, 64]"
    );
}

/// The value of an E4M3 float, as its specification writes it.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
    let value = match exponent {
        0 => mantissa * 2_f32.powi(-6),
        _ => (1.0 + mantissa) * 2_f32.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -value } else { value }
}

/// Returns a folder whose projections and head are FP8, and one with the same numbers in F32.
fn fp8_and_f32() -> [Folder; 2] {
    let (mut fp8, mut wide) = (Folder::bf16(), Folder::bf16());
    fp8.config["quantization_config"] = json!({
        "activation_scheme": "dynamic",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    });
    let mut scales = Vec::new();
    for (idx, (narrow, wide)) in fp8.tensors.iter_mut().zip(&mut wide.tensors).enumerate() {
        if !narrow.name.contains("_proj") && narrow.name != "lm_head.weight" {
            continue;
        }
        let n_rows = usize::try_from(narrow.shape[0]).unwrap();
        let n_cols = usize::try_from(narrow.shape[1]).unwrap();
        // Any bytes but NaN, and small scales that differ; every other is stored as BF16.
        let bytes = (0..n_rows * n_cols).map(|i| (i * 167 + idx * 13 + i / 7) as u8);
        narrow.data = bytes
            .map(|byte| if byte & 0x7f == 0x7f { 0 } else { byte })
            .collect();
        let of_block = |block: usize| (1 + block + idx % 5) as f32 / 4096.0;
        let values = narrow.data.iter().enumerate();
        let values = values.map(|(i, &byte)| e4m3(byte) * of_block(i / n_cols / 128));
        wide.data = values.flat_map(f32::to_le_bytes).collect();
        let skip = if idx % 2 == 0 { 2 } else { 0 };
        let of_blocks = (0..n_rows.div_ceil(128)).map(of_block);
        scales.push(Tensor {
            name: format!("{}_scale_inv", narrow.name),
            dtype: if skip == 2 { "BF16" } else { "F32" }.to_owned(),
            shape: vec![n_rows.div_ceil(128) as u64, 1],
            data: of_blocks
                .flat_map(|scale| scale.to_le_bytes()[skip..].to_vec())
                .collect(),
        });
        "F8_E4M3".clone_into(&mut narrow.dtype);
        "F32".clone_into(&mut wide.dtype);
    }
    fp8.tensors.extend(scales);
    [fp8, wide]
}

#[test]
fn an_fp8_folder_gives_the_bits_of_its_numbers_in_f32() {
    let [fp8, wide] = fp8_and_f32();
    let found = open(fp8.write_shards().path(), bits).unwrap();
    assert_eq!(found, open(wide.write().path(), bits).unwrap());
    assert_ne!(found, open(Folder::bf16().write().path(), bits).unwrap());
}

#[test]
fn scales_of_fp8_weights_that_are_missing_or_wrong_are_named() {
    const NAME: &str = "model.layers.1.mlp.experts.3.up_proj.weight";
    let scale = format!("{NAME}_scale_inv");
    let error_of = |change: &dyn Fn(&mut Folder)| {
        let [mut folder, _] = fp8_and_f32();
        change(&mut folder);
        folder.error()
    };
    let missing = error_of(&|folder| folder.remove(&scale));
    assert_eq!(
        missing,
        format!("tensor `{scale}` is missing, expected shape [1, 1]")
    );
    let ty = error_of(&|folder| {
        let tensor = folder.tensor(&scale);
        tensor.dtype = "F16".to_owned();
        tensor.data.truncate(2);
    });
    assert_eq!(
        ty,
        format!("tensor `{scale}`: expected F32 or BF16, found F16")
    );
    let shape = error_of(&|folder| folder.tensor("lm_head.weight_scale_inv").shape = vec![1, 3]);
    assert!(
        shape.ends_with("expected shape [3, 1], found [1, 3]"),
        "{shape}"
    );
    let unsaid = error_of(&|folder| folder.config["quantization_config"] = json!(null));
    assert!(
        unsaid.ends_with("found F8_E4M3 without a `quantization_config`"),
        "{unsaid}"
    );
    let router = error_of(&|folder| {
        let gate = folder.tensor("model.layers.0.mlp.gate.weight");
        gate.dtype = "F8_E4M3".to_owned();
        gate.data.truncate(gate.data.len() / 2);
        folder.add("model.layers.0.mlp.gate.weight_scale_inv", &[1, 1]);
    });
    assert!(
        router.ends_with("expected F32, F16 or BF16, found F8_E4M3"),
        "{router}"
    );
}

#[test]
fn weights_are_borrowed_from_the_map() {
    let folder = Folder::bf16().write_shards();
    let file = moe_model::ModelFile::open(folder.path()).unwrap();
    let moe_model::Contents::Checkpoint(checkpoint) = file.contents().unwrap() else {
        panic!("a folder is a checkpoint");
    };
    let model = Model::from_checkpoint(&checkpoint).unwrap();
    let place = |name: &str| checkpoint.find(name).unwrap().data().as_ptr_range();
    let weights = model.weights();
    assert_eq!(
        weights.token_embd.bytes().as_ptr_range(),
        place("model.embed_tokens.weight")
    );
    for (layer, of_layer) in weights.layers.iter().enumerate() {
        for (expert, down) in of_layer.down_exps.iter().enumerate() {
            let name = format!("model.layers.{layer}.mlp.experts.{expert}.down_proj.weight");
            assert_eq!(down.bytes().as_ptr_range(), place(&name));
        }
    }
    let n_elements = checkpoint
        .tensors()
        .map(|t| t.shape().iter().product::<u64>());
    assert_eq!(weights.n_weights(), n_elements.sum::<u64>());
    assert!(weights.unused().is_empty());
}
