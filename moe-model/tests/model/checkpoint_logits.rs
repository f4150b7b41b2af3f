//! The same model gives the same logits, bit for bit, whichever files it comes from.

use gguf_format::GgmlType;
use moe_model::{Model, Outputs, forward_with};
use quant_kernels::{Isa, QuantType};
use serde_json::json;
use synth_model::TypeMix;

use crate::{
    checkpoint::{Folder, bf16_parts, open, widen},
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
