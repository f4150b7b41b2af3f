//! `config.json`: both spellings give the configuration of the GGUF file, and what is wrong or
//! not implemented is named.

use moe_model::{Config, RopeScaling};
use serde_json::{Value, json};

use crate::{
    checkpoint::{Folder, bf16_parts, open, write_json},
    fixture::with_model,
};

fn config(folder: &Folder) -> Config {
    open(folder.write().path(), |model| model.config().clone()).unwrap()
}

/// The model's folder with some fields changed; `null` takes one out.
fn with(fields: &[(&str, Value)]) -> Folder {
    let mut folder = Folder::bf16();
    let config = folder.config.as_object_mut().unwrap();
    for (name, value) in fields {
        config.insert((*name).to_owned(), value.clone());
    }
    folder
}

#[test]
fn both_spellings_give_the_configuration_of_the_gguf_file() {
    let expected = with_model(&bf16_parts().to_bytes(), |model| model.config().clone());
    let base = json!(expected.rope.freq_base);
    let spellings = [
        with(&[]),
        with(&[
            ("num_experts", json!(null)),
            ("num_local_experts", json!(4)),
        ]),
        with(&[("num_local_experts", json!(4))]),
        with(&[
            ("rope_theta", json!(null)),
            (
                "rope_parameters",
                json!({"rope_theta": base, "rope_type": "default"}),
            ),
        ]),
        with(&[("rope_scaling", json!({"type": "default"}))]),
        with(&[("layer_types", json!(["full_attention", "full_attention"]))]),
        with(&[
            ("sliding_window", json!(4096)),
            ("max_window_layers", json!(1)),
        ]),
        with(&[
            ("quantization_config", json!(null)),
            ("anything", json!({"else": [1]})),
        ]),
    ];
    for folder in spellings {
        assert_eq!(config(&folder), expected, "{}", folder.config);
    }
    let by_division = with(&[("head_dim", json!(null)), ("num_attention_heads", json!(2))]);
    assert!(
        by_division
            .error()
            .contains("`model.layers.0.self_attn.q_proj.weight`")
    );
}

#[test]
fn rotary_scaling_is_that_of_the_gguf_path() {
    let scaling = |fields: Value| config(&with(&[("rope_scaling", fields)])).rope;
    let linear = scaling(json!({"rope_type": "linear", "factor": 2.0}));
    assert_eq!(
        linear.scaling,
        RopeScaling::Linear {
            factor: 2.0,
            attn_factor: 1.0
        }
    );
    let mut parts = bf16_parts();
    for (key, value) in [("factor", 4.0_f32), ("yarn_beta_fast", 16.0)] {
        let key = format!("qwen3moe.rope.scaling.{key}");
        parts.header.set(&key, value).unwrap();
    }
    let original = "qwen3moe.rope.scaling.original_context_length";
    parts.header.set(original, 1024_u32).unwrap();
    parts
        .header
        .set("qwen3moe.rope.scaling.type", "yarn")
        .unwrap();
    let expected = with_model(&parts.to_bytes(), |model| model.config().rope);
    let fields = json!({
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "beta_fast": 16,
    });
    assert_eq!(scaling(fields.clone()), expected);
    let mut in_parameters = fields.clone();
    in_parameters["rope_theta"] = json!(expected.freq_base);
    in_parameters["rope_type"] = json!("yarn");
    let folder = with(&[
        ("rope_theta", json!(null)),
        ("rope_parameters", in_parameters),
    ]);
    assert_eq!(config(&folder).rope, expected);

    let mut whole = fields;
    whole["attention_factor"] = json!(1.5);
    let (_, magnitude) = scaling(whole).frequencies(32);
    assert!((magnitude - 1.5).abs() < 1e-6, "{magnitude}");
}

/// Changes one field at a time and compares what is said.
fn check(cases: &[(&str, Value, &str)]) {
    for (name, value, says) in cases {
        let error = with(&[(name, value.clone())]).error();
        assert!(error.starts_with("config.json: field `"), "{error}");
        assert!(error.contains(says), "{name} {value}: {error}");
    }
}

#[test]
fn other_models_are_refused_by_name() {
    let full = "full_attention";
    check(&[
        (
            "model_type",
            json!("qwen3"),
            "expected `qwen3_moe`, found `qwen3`",
        ),
        (
            "model_type",
            json!(null),
            "expected `qwen3_moe`, found nothing",
        ),
        (
            "architectures",
            json!(["LlamaForCausalLM"]),
            "`architectures`",
        ),
        (
            "attention_bias",
            json!(true),
            "`attention_bias`: expected false",
        ),
        (
            "use_sliding_window",
            json!(true),
            "`use_sliding_window`: expected false",
        ),
        (
            "layer_types",
            json!([full, "sliding_attention"]),
            "`layer_types`",
        ),
        (
            "decoder_sparse_step",
            json!(2),
            "`decoder_sparse_step`: expected 1",
        ),
        ("decoder_sparse_step", json!(0), "`decoder_sparse_step`"),
        (
            "mlp_only_layers",
            json!([1]),
            "expected no layers, found [1]",
        ),
        (
            "norm_topk_prob",
            json!(false),
            "`norm_topk_prob`: expected true",
        ),
        (
            "norm_topk_prob",
            json!(null),
            "found nothing, which means false",
        ),
        ("hidden_act", json!("gelu"), "expected `silu`, found `gelu`"),
    ]);
}

#[test]
fn quantizations_but_fp8_in_blocks_are_refused_by_name() {
    let fp8 = |field: &str, value: Value| {
        let mut fields = json!({
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "modules_to_not_convert": ["lm_head"],
            "weight_block_size": [128, 128],
        });
        fields[field] = value;
        fields
    };
    let name = "quantization_config";
    let expected = with_model(&bf16_parts().to_bytes(), |model| model.config().clone());
    assert_eq!(config(&with(&[(name, fp8("fmt", json!(null)))])), expected);
    check(&[
        (
            name,
            json!({"quant_method": "gptq"}),
            "expected `fp8`, found `gptq`",
        ),
        (name, json!({}), "`quantization_config.quant_method`"),
        (
            name,
            json!("fp8"),
            "`quantization_config`: expected an object",
        ),
        (
            name,
            fp8("weight_block_size", json!([64, 64])),
            "expected [128,128], found [64,64]",
        ),
        (
            name,
            fp8("weight_block_size", json!(null)),
            "expected [128,128], found nothing",
        ),
        (
            name,
            fp8("activation_scheme", json!("static")),
            "`quantization_config.activation",
        ),
        (name, fp8("fmt", json!("e5m2")), "`quantization_config.fmt`"),
        (
            name,
            fp8("scale_fmt", json!("ue8m0")),
            "expected no such field",
        ),
    ]);
}

#[test]
fn sizes_that_make_no_sense_are_named() {
    let whole = "expected a whole number";
    check(&[
        ("num_experts", json!(null), whole),
        (
            "num_local_experts",
            json!(8),
            "expected 4, as `num_experts` says",
        ),
        (
            "num_experts_per_tok",
            json!(5),
            "expected at most 4, found 5",
        ),
        ("num_key_value_heads", json!(3), "expected a divisor of 4"),
        ("head_dim", json!(48), "expected a multiple of 32, found 48"),
        ("hidden_size", json!(-1), whole),
        ("hidden_size", json!("64"), whole),
        ("moe_intermediate_size", json!(4_294_967_296_u64), whole),
        ("vocab_size", json!(1.5), whole),
        ("rms_norm_eps", json!(-1e-6), "expected a number from 0 on"),
        (
            "rms_norm_eps",
            json!(1e300),
            "`rms_norm_eps`: expected a number",
        ),
    ]);
}

#[test]
fn rotary_settings_that_are_not_known_are_refused() {
    let yarn = |field: &str, value: Value| {
        let mut fields = json!({"rope_type": "yarn", "factor": 4.0});
        fields[field] = value;
        fields
    };
    let linear = |factor: Value| json!({"type": "linear", "factor": factor});
    let scaling = "rope_scaling";
    check(&[
        (
            "rope_theta",
            json!(null),
            "expected a number above 1, found nothing",
        ),
        (
            "rope_theta",
            json!(0.5),
            "`rope_theta`: expected a number above 1",
        ),
        (
            "rope_parameters",
            json!({"rope_theta": 5.0}),
            "`rope_parameters.rope_theta`",
        ),
        (scaling, json!([1]), "`rope_scaling`: expected an object"),
        (scaling, json!({"type": "dynamic"}), "found `dynamic`"),
        (scaling, linear(json!(null)), "`rope_scaling.factor`"),
        (scaling, linear(json!(0)), "`rope_scaling.factor`"),
        ("partial_rotary_factor", json!(0.5), "expected 1"),
        (
            scaling,
            yarn("mscale", json!(0.7)),
            "`rope_scaling.mscale`: expected no such",
        ),
        (
            scaling,
            yarn("truncate", json!(false)),
            "`rope_scaling.truncate`: expected true",
        ),
        (
            scaling,
            yarn("type", json!("linear")),
            "`rope_scaling.type`: expected `yarn`",
        ),
    ]);
}

#[test]
fn sampling_defaults_come_from_the_generation_config() {
    let folder = Folder::bf16().write();
    let sampling = |fields: &Value| {
        write_json(folder.path(), "generation_config.json", fields);
        open(folder.path(), |model| model.config().sampling.clone())
    };
    let found = sampling(&json!({
        "do_sample": true,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.01,
        "repetition_penalty": 1.05,
    }));
    let found = found.unwrap();
    assert_eq!(
        (found.temp, found.top_k, found.top_p),
        (Some(0.6), Some(20), Some(0.95))
    );
    assert_eq!(
        (found.min_p, found.penalty_repeat),
        (Some(0.01), Some(1.05))
    );
    assert_eq!(found.penalty_last_n, Some(-1), "the whole context");
    assert_eq!(found.not_followed, [""; 0]);
    let found = sampling(&json!({
        "repetition_penalty": 1.0,
        "penalty_last_n": 64,
        "xtc_probability": 0.5,
        "mirostat": 2,
        "sequence": "temperature",
    }));
    let found = found.unwrap();
    assert_eq!(
        (found.penalty_last_n, found.xtc_probability, found.mirostat),
        (Some(64), Some(0.5), Some(2))
    );
    assert_eq!(found.sequence.as_deref(), Some("temperature"));
    assert_eq!(
        sampling(&json!({"do_sample": false})).unwrap().temp,
        Some(0.0)
    );
    assert_eq!(
        sampling(&json!({})).unwrap(),
        moe_model::SamplingHints::default()
    );
    let error = sampling(&json!({"top_k": "all"})).unwrap_err().to_string();
    assert!(
        error.contains("generation_config.json: field `top_k`"),
        "{error}"
    );
    let error = sampling(&json!({"temperature": -0.5})).unwrap_err();
    let says = "field `temperature`: expected a number from 0 on, found -0.5";
    assert!(error.to_string().ends_with(says), "{error}");
}

#[test]
fn what_no_sampler_does_is_remembered_unless_it_asks_for_nothing() {
    let folder = Folder::bf16().write();
    let fields = json!({
        "_from_model_config": true,
        "transformers_version": "5.0.0",
        "eos_token_id": [1, 2],
        "use_cache": true,
        "num_beams": 4,
        "num_return_sequences": 1,
        "early_stopping": false,
        "typical_p": 1.0,
        "no_repeat_ngram_size": 0,
        "max_new_tokens": 2048,
        "bad_words_ids": [[1]],
        "guidance_scale": null,
    });
    write_json(folder.path(), "generation_config.json", &fields);
    let found = open(folder.path(), |model| model.config().sampling.clone()).unwrap();
    let mut told = found.not_followed;
    told.sort_unstable();
    let expected = ["bad_words_ids [[1]]", "max_new_tokens 2048", "num_beams 4"];
    assert_eq!(told, expected);
}
