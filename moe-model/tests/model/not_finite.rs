//! A NaN or an infinity is an error that names step, layer and position.

use moe_model::{ModelError, Stage, StateOptions, forward_qwen3_moe, forward_with};
use quant_kernels::Isa;

use crate::{
    edit::Parts,
    fixture::{cpu, smallest, state, with_model},
};

/// Where the pass over tokens 5, 6, 7 fails after one element of a tensor was replaced; two
/// tokens are in the cache already and must still be there afterwards.
fn failure(tensor: &str, idx: usize, value: f32) -> (Stage, Option<usize>, usize) {
    let mut parts = Parts::of(smallest());
    parts.tensor(tensor).set_f32(idx, value);
    with_model(&parts.to_bytes(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 2), state(model, 16));
        let _ = forward_with(&cpu, model, &mut state, &[1, 2], moe_model::Outputs::None);
        let n_past = state.len();
        let error = forward_qwen3_moe(&cpu, model, &mut state, &[5, 6, 7]).unwrap_err();
        assert_eq!(state.len(), n_past);
        match error {
            ModelError::NotFinite {
                stage,
                layer,
                position,
            } => (stage, layer, position - n_past),
            other => panic!("{other}"),
        }
    })
}

#[test]
fn every_step_names_itself_and_its_layer() {
    let nan = f32::NAN;
    let (infinity, n_embd) = (f32::INFINITY, 64);
    let cases = [
        (
            "token_embd.weight",
            6 * n_embd,
            nan,
            (Stage::Embedding, None, 1),
        ),
        (
            "token_embd.weight",
            7 * n_embd + 3,
            infinity,
            (Stage::Embedding, None, 2),
        ),
        (
            "blk.1.attn_output.weight",
            0,
            nan,
            (Stage::Attention, Some(1), 0),
        ),
        (
            "blk.0.attn_k.weight",
            9,
            infinity,
            (Stage::Attention, Some(0), 0),
        ),
        ("blk.1.ffn_norm.weight", 9, nan, (Stage::Router, Some(1), 0)),
        (
            "blk.0.ffn_gate_inp.weight",
            70,
            infinity,
            (Stage::Router, Some(0), 0),
        ),
        ("output.weight", 100, nan, (Stage::Logits, None, 2)),
        ("output_norm.weight", 0, nan, (Stage::Logits, None, 2)),
    ];
    for (tensor, idx, value, expected) in cases {
        assert_eq!(failure(tensor, idx, value), expected, "{tensor}");
    }
}

#[test]
fn experts_name_their_layer_and_the_token_that_went_there() {
    let mut parts = Parts::of(smallest());
    let n_elements = parts.tensor("blk.1.ffn_down_exps.weight").data.len() / 4;
    for idx in 0..n_elements {
        parts
            .tensor("blk.1.ffn_down_exps.weight")
            .set_f32(idx, f32::NAN);
    }
    with_model(&parts.to_bytes(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 2), state(model, 16));
        let error = forward_qwen3_moe(&cpu, model, &mut state, &[5, 6]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the expert output at position 0 is not finite: layer 1"
        );
    });
}

#[test]
fn a_failure_in_a_later_batch_leaves_the_state_as_it_was() {
    let mut parts = Parts::of(smallest());
    parts.tensor("token_embd.weight").set_f32(9 * 64, f32::NAN);
    with_model(&parts.to_bytes(), |model| {
        let options = StateOptions {
            batch_len: 2,
            ..StateOptions::new(16)
        };
        let mut state = moe_model::State::new(model, options).unwrap();
        let cpu = cpu(Isa::detect(), 1);
        forward_qwen3_moe(&cpu, model, &mut state, &[1]).unwrap();
        let error = forward_qwen3_moe(&cpu, model, &mut state, &[1, 2, 3, 4, 9]).unwrap_err();
        assert!(
            matches!(error, ModelError::NotFinite { position: 5, .. }),
            "{error}"
        );
        assert_eq!(state.len(), 1);
        let resumed = forward_qwen3_moe(&cpu, model, &mut state, &[2])
            .unwrap()
            .to_vec();
        let mut fresh = moe_model::State::new(model, options).unwrap();
        assert_eq!(
            forward_qwen3_moe(&cpu, model, &mut fresh, &[1, 2]).unwrap(),
            resumed
        );
    });
}
