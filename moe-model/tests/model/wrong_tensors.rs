//! Every tensor that is missing, of another shape or type is an error that names it.

use gguf_format::GgmlType;
use moe_model::{Model, ModelError, ModelFile};

use crate::{
    edit::Parts,
    fixture::{smallest, with_model},
};

fn names() -> Vec<String> {
    let parts = Parts::of(smallest());
    assert_eq!(parts.tensors.len(), 3 + 2 * 12);
    parts.tensors.into_iter().map(|part| part.name).collect()
}

#[test]
fn every_missing_tensor_is_named() {
    for removed in names() {
        if removed == "output.weight" {
            continue;
        }
        let mut parts = Parts::of(smallest());
        parts.remove(&removed);
        match parts.open() {
            Err(ModelError::MissingTensor { name, .. }) => assert_eq!(name, removed),
            other => panic!("{removed}: {other:?}"),
        }
    }
}

#[test]
fn every_tensor_of_another_shape_is_named_with_both_shapes() {
    for changed in names() {
        let mut parts = Parts::of(smallest());
        let tensor = parts.tensor(&changed);
        tensor.ne[0] /= 2;
        tensor.ne.push(2);
        let ne = tensor.ne.clone();
        match parts.open() {
            Err(ModelError::TensorShape {
                name,
                expected,
                found,
            }) => {
                assert_eq!(name, changed);
                assert_eq!(
                    expected.last(),
                    Some(&(2 * usize::try_from(ne[0]).unwrap()))
                );
                assert_eq!(found, ne.into_iter().rev().collect::<Vec<_>>());
            }
            other => panic!("{changed}: {other:?}"),
        }
    }
}

#[test]
fn every_tensor_of_a_type_without_arithmetic_is_named() {
    for changed in names() {
        let mut parts = Parts::of(smallest());
        parts.tensor(&changed).ty = GgmlType::I32;
        match parts.open() {
            Err(ModelError::TensorType { name, found, .. }) => {
                assert_eq!((name, found), (changed, GgmlType::I32.to_string()));
            }
            other => panic!("{changed}: {other:?}"),
        }
    }
}

#[test]
fn norms_and_router_are_floats() {
    for name in ["blk.0.attn_norm.weight", "blk.1.ffn_gate_inp.weight"] {
        let mut parts = Parts::of(smallest());
        let ne = parts.tensor(name).ne.clone();
        parts.remove(name);
        parts.add(name, &ne, GgmlType::Q8_0);
        let error = parts.open().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("tensor `{name}`: expected F32, F16 or BF16, found Q8_0")
        );
    }
}

#[test]
fn tensors_that_would_change_the_answer_are_refused() {
    for name in [
        "blk.0.attn_q.bias",
        "rope_freqs.weight",
        "blk.1.ffn_up_exps.scale",
        "blk.7.attn_q.weight",
    ] {
        let mut parts = Parts::of(smallest());
        parts.add(name, &[64], GgmlType::F32);
        match parts.open() {
            Err(ModelError::ForeignTensor { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn tensors_that_nobody_reads_are_listed() {
    let mut parts = Parts::of(smallest());
    parts.add("extra.weight", &[64, 64], GgmlType::F32);
    let (_, unused) = parts.open().unwrap();
    assert_eq!(unused, ["extra.weight"]);
}

#[test]
fn the_embedding_is_the_head_where_there_is_none() {
    let mut parts = Parts::of(smallest());
    parts.remove("output.weight");
    with_model(&parts.to_bytes(), |model| {
        let weights = model.weights();
        assert_eq!(
            weights.output.bytes().as_ptr(),
            weights.token_embd.bytes().as_ptr()
        );
    });
}

#[test]
fn a_matrix_may_leave_out_a_dimension_of_one() {
    let mut parts = Parts::of(smallest());
    parts.tensor("output_norm.weight").ne = vec![64, 1];
    assert!(parts.open().is_ok());
}

#[test]
fn a_vocabulary_without_weights_names_the_embedding() {
    let mut parts = Parts::of(smallest());
    parts.tensors.clear();
    let file = ModelFile::from_bytes("vocabulary", parts.to_bytes());
    let error = Model::from_gguf(&file.gguf().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `token_embd.weight` is missing, expected shape [V, 64]"
    );
}
