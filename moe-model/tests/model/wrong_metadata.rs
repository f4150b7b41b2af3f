//! Every key that is missing, of the wrong type or without sense is an error that names it.

use gguf_format::{Encode, GgufError};
use moe_model::{Config, ModelError, RopeScaling};
use proptest::prelude::*;

use crate::{
    edit::Parts,
    fixture::{cpu, smallest, state},
};

const REQUIRED: [&str; 13] = [
    "general.architecture",
    "qwen3moe.block_count",
    "qwen3moe.embedding_length",
    "qwen3moe.attention.head_count",
    "qwen3moe.attention.head_count_kv",
    "qwen3moe.attention.key_length",
    "qwen3moe.attention.value_length",
    "qwen3moe.attention.layer_norm_rms_epsilon",
    "qwen3moe.rope.freq_base",
    "qwen3moe.context_length",
    "qwen3moe.expert_count",
    "qwen3moe.expert_used_count",
    "qwen3moe.expert_feed_forward_length",
];

/// Opens the smallest model with one value set.
fn with<V: Encode>(key: &str, value: V) -> Result<Config, ModelError> {
    let mut parts = Parts::of(smallest());
    parts.header.set(key, value).unwrap();
    parts.open().map(|(config, _)| config)
}

/// Asserts that a value of a key of the architecture is refused, and says why.
fn refused<V: Encode>(name: &str, value: V, expected_part: &str) {
    let full = format!("qwen3moe.{name}");
    match with(&full, value) {
        Err(ModelError::InvalidKey { key, expected, .. }) => {
            assert_eq!(key, full);
            assert!(
                expected.contains(expected_part),
                "{key}: expected {expected}"
            );
        }
        other => panic!("{full}: {other:?}"),
    }
}

#[test]
fn every_missing_key_is_named() {
    for required in REQUIRED {
        let mut parts = Parts::of(smallest());
        assert!(
            parts.header.remove(required),
            "{required} is not in the file"
        );
        match parts.open() {
            Err(ModelError::MissingKey { key, .. }) => assert_eq!(key, required),
            other => panic!("{required}: {other:?}"),
        }
    }
}

#[test]
fn every_key_of_the_wrong_type_is_named() {
    let sampling = ["general.sampling.temp", "general.sampling.top_k"];
    let optional = ["qwen3moe.rope.scaling.type", "qwen3moe.vocab_size"];
    for wrong in REQUIRED.into_iter().chain(sampling).chain(optional) {
        match with(wrong, [1_u8, 2]) {
            Err(ModelError::Key { source }) => match *source {
                GgufError::WrongType { key, .. } => assert_eq!(key, wrong),
                other => panic!("{wrong}: {other}"),
            },
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

#[test]
fn no_size_may_be_zero_or_beyond_32_bits() {
    let not_sizes = ["attention.layer_norm_rms_epsilon", "rope.freq_base"];
    for key in REQUIRED {
        let Some(name) = key.strip_prefix("qwen3moe.") else {
            continue;
        };
        if not_sizes.contains(&name) {
            continue;
        }
        refused(name, 0_u32, "at least 1");
        let too_large = with(key, 1_u64 << 32);
        assert!(
            matches!(too_large, Err(ModelError::Key { .. })),
            "{key}: {too_large:?}"
        );
    }
}

/// Whatever size a file claims, the answer is an error and no memory is taken for it.
#[test]
fn sizes_that_the_tensors_do_not_have_are_refused() {
    let not_sizes = [
        "attention.layer_norm_rms_epsilon",
        "rope.freq_base",
        "context_length",
    ];
    for key in REQUIRED {
        let Some(name) = key.strip_prefix("qwen3moe.") else {
            continue;
        };
        if not_sizes.contains(&name) {
            continue;
        }
        for lie in [1_u32, 31, 96, 1 << 16, 1 << 31, u32::MAX - 31, u32::MAX] {
            let fewer_used = name == "expert_used_count" && lie < 4;
            let opened = with(key, lie);
            assert_eq!(opened.is_ok(), fewer_used, "{key} = {lie}: {opened:?}");
        }
    }
    let mut parts = Parts::of(smallest());
    for name in ["expert_count", "embedding_length", "attention.key_length"] {
        parts
            .header
            .set(&format!("qwen3moe.{name}"), u32::MAX - 31)
            .unwrap();
    }
    assert!(matches!(parts.open(), Err(ModelError::InvalidKey { .. })));
}

#[test]
fn values_at_odds_with_each_other_are_refused() {
    refused("expert_used_count", 5_u32, "at most 4");
    refused("attention.head_count_kv", 3_u32, "a divisor of 4");
    refused("attention.key_length", 48_u32, "a multiple of 32");
    refused(
        "attention.value_length",
        64_u32,
        "32, as `attention.key_length` says",
    );
    refused(
        "rope.dimension_count",
        16_u32,
        "32, as `attention.key_length` says",
    );
    refused("vocab_size", 321_u32, "320");
    refused(
        "attention.layer_norm_rms_epsilon",
        f32::NAN,
        "a number from 0 on",
    );
    refused(
        "attention.layer_norm_rms_epsilon",
        -1.0_f32,
        "a number from 0 on",
    );
    refused("rope.freq_base", 1.0_f32, "above 1");
    refused("rope.freq_base", f32::INFINITY, "above 1");
}

#[test]
fn settings_that_would_change_the_answer_are_refused() {
    refused("expert_shared_count", 1_u32, "0");
    refused("leading_dense_block_count", 3_u32, "0");
    refused("attention.sliding_window", 4096_u32, "0");
    refused("nextn_predict_layers", 1_u32, "0");
    refused("expert_gating_func", 2_u32, "softmax");
    refused("expert_weights_scale", 2.5_f32, "1");
    refused("expert_weights_norm", false, "true");
    refused("attention.causal", false, "true");
    assert!(with("qwen3moe.expert_weights_norm", true).is_ok());
    assert!(with("qwen3moe.expert_gating_func", 1_u32).is_ok());
}

#[test]
fn another_architecture_is_refused_with_those_supported() {
    let error = with("general.architecture", "llama\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "architecture `llama\\n` is not supported; supported: qwen3moe"
    );
}

fn scaled(entries: &[(&str, f32)], ty: &str) -> Result<RopeScaling, ModelError> {
    let mut parts = Parts::of(smallest());
    parts.header.set("qwen3moe.rope.scaling.type", ty).unwrap();
    for (name, value) in entries {
        parts
            .header
            .set(&format!("qwen3moe.rope.scaling.{name}"), *value)
            .unwrap();
    }
    parts.open().map(|(config, _)| config.rope.scaling)
}

#[test]
fn rope_scaling_is_read_as_llama_cpp_means_it() {
    assert_eq!(
        scaled(&[("factor", 4.0)], "none").unwrap(),
        RopeScaling::None
    );
    assert_eq!(scaled(&[], "linear").unwrap(), RopeScaling::None);
    let linear = RopeScaling::Linear {
        factor: 2.0,
        attn_factor: 1.0,
    };
    assert_eq!(scaled(&[("factor", 2.0)], "linear").unwrap(), linear);
    let RopeScaling::Yarn(yarn) = scaled(&[("factor", 4.0)], "yarn").unwrap() else {
        panic!("no YaRN");
    };
    assert_eq!(
        (yarn.factor, yarn.beta_fast, yarn.beta_slow),
        (4.0, 32.0, 1.0)
    );
    assert_eq!(
        (yarn.n_ctx_orig, yarn.ext_factor, yarn.attn_factor),
        (2048, 1.0, 1.0)
    );
    let given = [
        ("factor", 4.0),
        ("yarn_beta_fast", 16.0),
        ("attn_factor", 0.5),
    ];
    let RopeScaling::Yarn(yarn) = scaled(&given, "yarn").unwrap() else {
        panic!("no YaRN");
    };
    assert_eq!((yarn.beta_fast, yarn.attn_factor), (16.0, 0.5));
}

#[test]
fn rope_scaling_without_sense_is_refused() {
    let key_of = |result: Result<RopeScaling, ModelError>| match result {
        Err(ModelError::InvalidKey { key, .. } | ModelError::MissingKey { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    let factor = "qwen3moe.rope.scaling.factor";
    assert_eq!(
        key_of(scaled(&[], "longrope")),
        "qwen3moe.rope.scaling.type"
    );
    assert_eq!(key_of(scaled(&[], "yarn")), factor);
    assert_eq!(key_of(scaled(&[("factor", -1.0)], "linear")), factor);
    assert_eq!(key_of(scaled(&[("factor", f32::NAN)], "yarn")), factor);
    for (name, value) in [
        ("yarn_beta_fast", 0.0),
        ("yarn_ext_factor", 2.0),
        ("attn_factor", 0.0),
    ] {
        let entries = [("factor", 4.0), (name, value)];
        assert_eq!(
            key_of(scaled(&entries, "yarn")),
            format!("qwen3moe.rope.scaling.{name}")
        );
    }
}

#[test]
fn sampling_recommendations_are_carried() {
    let mut parts = Parts::of(smallest());
    parts.header.set("general.sampling.temp", 0.7_f32).unwrap();
    parts.header.set("general.sampling.top_k", 20_i32).unwrap();
    parts
        .header
        .set("general.sampling.sequence", "top_k;temperature")
        .unwrap();
    let sampling = parts.open().unwrap().0.sampling;
    assert_eq!(
        (sampling.temp, sampling.top_k, sampling.top_p),
        (Some(0.7), Some(20), None)
    );
    assert_eq!(sampling.sequence.as_deref(), Some("top_k;temperature"));
}

/// Where the tensor data begins in the smallest model.
fn header_bytes() -> usize {
    let data = gguf_format::Gguf::parse(smallest()).unwrap().data_offset();
    usize::try_from(data).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_header_gives_a_model_or_an_error(
        at in 0..header_bytes(),
        byte in any::<u8>(),
        second in 0..header_bytes(),
    ) {
        let mut bytes = smallest().to_vec();
        bytes[at] = byte;
        bytes[second] ^= byte;
        let file = moe_model::ModelFile::from_bytes("changed", bytes);
        let Ok(gguf) = file.gguf() else { return Ok(()) };
        let Ok(model) = moe_model::Model::from_gguf(&gguf) else { return Ok(()) };
        let (cpu, mut state) = (cpu(quant_kernels::Isa::detect(), 1), state(&model, 8));
        // What comes out does not matter, only that something does.
        drop(moe_model::forward_qwen3_moe(&cpu, &model, &mut state, &[1, 2, 3]));
    }
}
