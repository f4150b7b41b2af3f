//! Logits against those of transformers, which computes in f32.

use std::fs;

use moe_model::{
    Model, ModelFile, Outputs, Reference, ReferenceActivations, State, StateOptions, forward_with,
};
use quant_kernels::KvType;
use safetensors::SafeTensors;

use crate::{
    folder::{cpu, folder, ids, json},
    rows::{argmax, distance, margin},
};

#[test]
fn bf16_logits_are_those_of_transformers() {
    let Some(folder) = folder() else { return };
    let file = ModelFile::open(&folder.join("bard-bf16.gguf")).unwrap();
    let gguf = file.gguf().unwrap();
    let model = Model::from_gguf(&gguf).unwrap();
    let n_vocab = model.config().n_vocab;
    let logits = fs::read(folder.join("reference/logits.safetensors")).unwrap();
    let logits = SafeTensors::deserialize(&logits).unwrap();
    let cpu = cpu();
    for kv in [KvType::F32, KvType::F16] {
        let mut worst: f64 = 0.0;
        for prompt in json(&folder.join("reference/prompts.json"))
            .as_array()
            .unwrap()
        {
            let name = prompt["name"].as_str().unwrap();
            let tokens = ids(&prompt["ids"]);
            let options = StateOptions {
                keys: kv,
                values: kv,
                ..StateOptions::new(tokens.len())
            };
            let mut state = State::new(&model, options).unwrap();
            let found = forward_with(&cpu, &model, &mut state, &tokens, Outputs::All).unwrap();
            let expected = logits.tensor(name).unwrap().data().as_chunks::<4>().0;
            let expected: Vec<f32> = expected.iter().map(|&b| f32::from_le_bytes(b)).collect();
            worst = worst.max(distance(found, &expected));
            if kv == KvType::F32 {
                for (found, expected) in found.chunks(n_vocab).zip(expected.chunks(n_vocab)) {
                    let agree = argmax(found) == argmax(expected);
                    assert!(agree || margin(expected) <= 1e-3, "{name}");
                }
            }
        }
        println!("BF16 weights, {kv} cache: relative L2 at most {worst:.2e}");
        if kv == KvType::F32 {
            assert!(worst <= 1e-4, "relative L2 {worst}");
        }
    }
}

#[test]
fn the_reference_is_that_of_transformers() {
    let Some(folder) = folder() else { return };
    let file = ModelFile::open(&folder.join("bard-bf16.gguf")).unwrap();
    let gguf = file.gguf().unwrap();
    let model = Model::from_gguf(&gguf).unwrap();
    let logits = fs::read(folder.join("reference/logits.safetensors")).unwrap();
    let logits = SafeTensors::deserialize(&logits).unwrap();
    let prompts = json(&folder.join("reference/prompts.json"));
    for prompt in &prompts.as_array().unwrap()[..3] {
        let mut reference = Reference::new(&model, ReferenceActivations::Exact);
        let pass = reference.forward(&cpu(), &ids(&prompt["ids"])).unwrap();
        let found: Vec<f32> = pass
            .logits
            .into_iter()
            .flatten()
            .map(|x| x as f32)
            .collect();
        let name = prompt["name"].as_str().unwrap();
        let expected = logits.tensor(name).unwrap().data().as_chunks::<4>().0;
        let expected: Vec<f32> = expected.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let distance = distance(&found, &expected);
        println!("{name}: reference within {distance:.2e} of transformers");
        assert!(distance <= 2e-6, "{name}: {distance:e}");
    }
}
