//! The whole job in one call, and everything that can be wrong with it.

use generate::{CancelFlag, GenerateError, GenerationConfig, run_qwen3_moe_generate};
use gguf_format::{Gguf, GgufWriter};
use moe_model::{ModelError, ModelFile};
use sampler::SamplerConfig;

use crate::{BYTES, CPU, FILE, PROMPT, sequence};

fn greedy(n_predict: usize) -> GenerationConfig {
    GenerationConfig {
        sampler: SamplerConfig::greedy(),
        n_predict: Some(n_predict),
        stop_tokens: Vec::new(),
    }
}

fn run(prompt: &[u32], config: &GenerationConfig) -> Result<Vec<u32>, GenerateError> {
    run_qwen3_moe_generate(&CPU, &FILE.gguf().unwrap(), prompt, config)
}

/// The plain loop: the whole sequence through the model for every new token, no cache.
fn without_cache(prompt: &[u32], n: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..n {
        let mut s = sequence(64, 512);
        s.prefill(&ids, &CancelFlag::new(), &mut |_| ()).unwrap();
        ids.push(sampler::argmax(s.logits()).unwrap());
    }
    ids
}

#[test]
fn the_prompt_comes_first_and_then_what_the_plain_loop_gives() {
    let ids = run(&PROMPT, &greedy(12)).unwrap();
    assert_eq!(ids, without_cache(&PROMPT, 12));
    assert_eq!(run(&PROMPT, &greedy(0)).unwrap(), PROMPT);
}

#[test]
fn a_stop_token_is_the_last_id() {
    let ids = run(&PROMPT, &greedy(12)).unwrap();
    let stop = ids[PROMPT.len() + 3];
    let config = GenerationConfig {
        stop_tokens: vec![stop],
        ..greedy(12)
    };
    let end = PROMPT.len()
        + ids[PROMPT.len()..]
            .iter()
            .position(|&id| id == stop)
            .unwrap();
    assert_eq!(run(&PROMPT, &config).unwrap(), &ids[..=end]);
}

#[test]
fn a_seed_gives_its_ids_again() {
    let with_seed = |seed| {
        let sampler = SamplerConfig {
            seed,
            ..SamplerConfig::neutral()
        };
        run(
            &PROMPT,
            &GenerationConfig {
                sampler,
                ..greedy(12)
            },
        )
        .unwrap()
    };
    assert_eq!(with_seed(3), with_seed(3));
    assert_ne!(with_seed(3), with_seed(4));
}

#[test]
fn each_bad_request_is_an_error_of_its_own() {
    assert!(matches!(
        run(&[], &greedy(1)),
        Err(GenerateError::EmptyPrompt)
    ));
    let long = run(&[1; 2049], &greedy(1));
    let Err(GenerateError::PromptTooLong { n_prompt, n_ctx }) = long else {
        panic!("{long:?}");
    };
    assert_eq!((n_prompt, n_ctx), (2049, 2048));
    let unknown = run(&[1, 2, 512], &greedy(1));
    assert!(matches!(
        unknown,
        Err(GenerateError::TokenOutOfRange {
            token: 512,
            position: 2,
            ..
        })
    ));
    let mut config = greedy(1);
    config.sampler.temp = f32::NAN;
    assert!(matches!(run(&[1], &config), Err(GenerateError::Sampler(_))));
}

/// Runs a copy of the model with other metadata.
fn run_edited(edit: impl FnOnce(&mut GgufWriter)) -> ModelError {
    let gguf = Gguf::parse(&BYTES).unwrap();
    let mut writer = GgufWriter::new();
    writer.set_all(gguf.metadata()).unwrap();
    edit(&mut writer);
    let tensors: Vec<_> = gguf.tensors().collect();
    for tensor in &tensors {
        writer
            .tensor(tensor.info.name(), tensor.info.ne(), tensor.info.ty())
            .unwrap();
    }
    let data: Vec<&[u8]> = tensors.iter().map(|tensor| tensor.data).collect();
    let file = ModelFile::from_bytes("edited", writer.to_bytes(&data).unwrap());
    match run_qwen3_moe_generate(&CPU, &file.gguf().unwrap(), &PROMPT, &greedy(1)) {
        Err(GenerateError::Model(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_architecture_is_named_with_those_supported() {
    let error = run_edited(|writer| {
        writer.set("general.architecture", "llama").unwrap();
    });
    assert!(matches!(error, ModelError::Architecture { .. }));
    let message = error.to_string();
    assert!(
        message.contains("llama") && message.contains("qwen3moe"),
        "{message}"
    );
}

#[test]
fn each_missing_moe_key_is_named() {
    for name in [
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
    ] {
        let missing = format!("qwen3moe.{name}");
        let error = run_edited(|writer| assert!(writer.remove(&missing)));
        assert!(
            matches!(&error, ModelError::MissingKey { key, .. } if *key == missing),
            "{error}"
        );
    }
}
