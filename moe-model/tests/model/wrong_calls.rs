//! What the caller controls fails with an error that names it, and changes nothing.

use moe_model::{
    ModelError, Outputs, Reference, ReferenceActivations, State, StateOptions, forward_observed,
    forward_qwen3_moe, kv_bytes,
};
use quant_kernels::{Isa, KvType};
use synth_model::TypeMix;

use crate::fixture::{cpu, smallest, state, tiny, with_model};

#[test]
fn an_empty_call_is_refused() {
    with_model(smallest(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 1), state(model, 4));
        let fast = forward_qwen3_moe(&cpu, model, &mut state, &[]).unwrap_err();
        assert!(matches!(fast, ModelError::NoTokens));
        let mut reference = Reference::new(model, ReferenceActivations::Exact);
        assert!(matches!(
            reference.forward(&cpu, &[]),
            Err(ModelError::NoTokens)
        ));
    });
}

#[test]
fn a_full_context_names_all_counts() {
    with_model(smallest(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 1), state(model, 4));
        forward_qwen3_moe(&cpu, model, &mut state, &[1, 2, 3]).unwrap();
        let error = forward_qwen3_moe(&cpu, model, &mut state, &[4, 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the context holds 4 tokens: 3 are in it and 2 more do not fit"
        );
        assert_eq!(state.len(), 3);
        forward_qwen3_moe(&cpu, model, &mut state, &[4]).unwrap();
        assert!(forward_qwen3_moe(&cpu, model, &mut state, &[5]).is_err());
    });
}

#[test]
fn an_id_outside_the_vocabulary_is_named_with_its_position() {
    with_model(smallest(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 1), state(model, 8));
        forward_qwen3_moe(&cpu, model, &mut state, &[1]).unwrap();
        for bad in [320, u32::MAX] {
            let error = forward_qwen3_moe(&cpu, model, &mut state, &[319, bad]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("token {bad} at position 2: expected an id below 320")
            );
            let mut reference = Reference::new(model, ReferenceActivations::Exact);
            assert!(reference.forward(&cpu, &[bad]).is_err());
        }
        assert_eq!(state.len(), 1);
    });
}

#[test]
fn a_state_of_another_model_is_refused() {
    with_model(smallest(), |model| {
        with_model(&tiny(TypeMix::Q4_0), |other| {
            let (cpu, mut state) = (cpu(Isa::detect(), 1), state(other, 4));
            let error = forward_qwen3_moe(&cpu, model, &mut state, &[1]).unwrap_err();
            assert!(matches!(error, ModelError::ForeignState { .. }));
        });
    });
}

#[test]
fn options_out_of_range_are_refused() {
    with_model(smallest(), |model| {
        let option = |options| match State::new(model, options) {
            Err(ModelError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        };
        assert_eq!(option(StateOptions::new(0)), "n_ctx");
        assert_eq!(option(StateOptions::new(usize::MAX)), "n_ctx");
        assert_eq!(
            option(StateOptions {
                batch_len: 0,
                ..StateOptions::new(4)
            }),
            "batch_len"
        );
        let huge = StateOptions {
            batch_len: 1 << 17,
            ..StateOptions::new(4)
        };
        assert_eq!(option(huge), "batch_len");
    });
}

#[test]
fn the_cache_grows_as_needed_whatever_the_limit() {
    with_model(smallest(), |model| {
        let (cpu, mut state) = (cpu(Isa::detect(), 1), state(model, u32::MAX as usize));
        assert_eq!(state.cache().n_bytes(), 0);
        let per_block = kv_bytes(model.config(), KvType::F32, KvType::F32, 1).unwrap();
        // Keys and values of 64 positions, 2 layers, 2 heads, 32 dimensions, 4 bytes.
        assert_eq!(per_block, 2 * 64 * 2 * 2 * 32 * 4);
        forward_qwen3_moe(&cpu, model, &mut state, &[1; 65]).unwrap();
        assert_eq!(state.cache().n_bytes() as u128, 2 * per_block);
        state.truncate(3);
        assert_eq!(
            (state.len(), state.cache().n_bytes() as u128),
            (3, 2 * per_block)
        );
    });
}

#[test]
fn an_observer_may_end_the_pass() {
    with_model(smallest(), |model| {
        let cpu = cpu(Isa::detect(), 2);
        let options = StateOptions {
            batch_len: 4,
            ..StateOptions::new(16)
        };
        let mut state = State::new(model, options).unwrap();
        forward_qwen3_moe(&cpu, model, &mut state, &[1]).unwrap();
        let mut observer = |view: moe_model::LayerView<'_>| {
            if (view.places[0].position, view.layer) == (5, 0) {
                view.stop();
            }
        };
        let tokens = [2, 3, 4, 5, 6, 7];
        let last = Outputs::Last;
        let stopped = forward_observed(&cpu, model, &mut state, &tokens, last, &mut observer);
        assert_eq!(
            stopped.unwrap_err().to_string(),
            "stopped after layer 0 of 2, with 4 of 6 tokens done"
        );
        assert_eq!(state.len(), 1);
        let resumed = forward_qwen3_moe(&cpu, model, &mut state, &tokens)
            .unwrap()
            .to_vec();
        let mut fresh = State::new(model, options).unwrap();
        let all = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(
            forward_qwen3_moe(&cpu, model, &mut fresh, &all).unwrap(),
            resumed
        );
    });
}
