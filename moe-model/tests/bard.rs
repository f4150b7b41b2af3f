//! Optional checks against the trained model `../shared/models/bard` beside the repository:
//! f32 logits of transformers, greedy continuations and perplexities of llama.cpp.
//!
//! Without that folder every test says so and passes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use moe_model::{
    Model, ModelFile, Outputs, Reference, ReferenceActivations, State, StateOptions,
    forward_qwen3_moe, forward_with,
};
use quant_kernels::{Cpu, Isa, KvType};
use safetensors::SafeTensors;
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/bard");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

/// One thread, for the tests run side by side.
fn cpu() -> Cpu {
    Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap()
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len())
        .rev()
        .max_by(|&a, &b| row[a].total_cmp(&row[b]))
        .unwrap()
}

/// Distance from the largest value to the second.
fn margin(row: &[f32]) -> f32 {
    let best = argmax(row);
    let others = row.iter().enumerate().filter(|(idx, _)| *idx != best);
    row[best] - others.map(|(_, &v)| v).fold(f32::NEG_INFINITY, f32::max)
}

/// Relative L2 distance of all logits of a prompt.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (difference / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

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

/// A step may differ where llama.cpp's two best logits are nearly equal. Both engines round
/// activations to eight bits, and a near-tie in the router makes a visible difference of
/// that; so elsewhere the exact reference decides, and it must side with us.
#[test]
fn greedy_continuations_are_those_of_llama_cpp() {
    let Some(folder) = folder() else { return };
    let prompts = json(&folder.join("reference/prompts.json"));
    let cpu = cpu();
    let file = ModelFile::open(&folder.join("bard-q8_0.gguf")).unwrap();
    let gguf = file.gguf().unwrap();
    let model = Model::from_gguf(&gguf).unwrap();
    let (mut n_same, mut n_all) = (0, 0);
    for case in json(&folder.join("reference/greedy.json"))
        .as_array()
        .unwrap()
    {
        if case["model"] != "q8_0" {
            continue;
        }
        let mut prompts = prompts.as_array().unwrap().iter();
        let prompt = prompts
            .find(|prompt| prompt["name"] == case["prompt"])
            .unwrap();
        let mut sequence = ids(&prompt["ids"]);
        let mut state = State::new(&model, StateOptions::new(1024)).unwrap();
        let mut logits = forward_qwen3_moe(&cpu, &model, &mut state, &sequence).unwrap();
        // Their text is followed, so that one near-tie does not end the comparison.
        for (token, theirs) in ids(&case["ids"])
            .into_iter()
            .zip(case["margins"].as_array().unwrap())
        {
            n_all += 1;
            let (found, theirs) = (argmax(logits), theirs.as_f64().unwrap());
            if found == token as usize {
                n_same += 1;
            } else if theirs >= 0.02 {
                let mut reference = Reference::new(&model, ReferenceActivations::Exact);
                let pass = reference.forward(&cpu, &sequence).unwrap();
                let exact: Vec<f32> = pass
                    .logits
                    .last()
                    .unwrap()
                    .iter()
                    .map(|&x| x as f32)
                    .collect();
                let (place, margin) = (sequence.len(), margin(&exact));
                println!(
                    "token {place} of {}: {found}, llama.cpp {token} by {theirs}, exact {} by {margin}",
                    case["prompt"],
                    argmax(&exact)
                );
                assert_eq!(argmax(&exact), found, "token {place} of {}", case["prompt"]);
            }
            sequence.push(token);
            logits = forward_qwen3_moe(&cpu, &model, &mut state, &[token]).unwrap();
        }
    }
    println!("Q8_0: {n_same} of {n_all} greedy tokens agree");
}

/// As llama.cpp computes it: windows of 512 tokens that do not overlap, and in each of them
/// only tokens with at least 256 before them count.
fn perplexity(cpu: &Cpu, model: &Model<'_>, ids: &[u32]) -> f64 {
    const WINDOW: usize = 512;
    let n_vocab = model.config().n_vocab;
    let mut state = State::new(model, StateOptions::new(WINDOW)).unwrap();
    let (mut loss, mut n_scored) = (0.0, 0);
    for window in ids.chunks_exact(WINDOW) {
        state.truncate(0);
        let outputs = Outputs::From(WINDOW / 2);
        let logits = forward_with(cpu, model, &mut state, window, outputs).unwrap();
        let next = &window[WINDOW / 2 + 1..];
        for (row, &token) in logits.chunks(n_vocab).zip(next) {
            let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let total: f64 = row.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
            loss += total.ln() + largest - f64::from(row[token as usize]);
            n_scored += 1;
        }
    }
    (loss / f64::from(n_scored)).exp()
}

#[test]
fn perplexities_are_those_of_llama_cpp() {
    let Some(folder) = folder() else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/heldout__ids.u16");
    let data = fs::read(data).unwrap();
    let ids = data.as_chunks::<2>().0.iter();
    let ids: Vec<u32> = ids.map(|&id| u16::from_le_bytes(id).into()).collect();
    let quality = json(&folder.join("reference/quality.json"));
    let cpu = cpu();
    for row in quality["rows"].as_array().unwrap() {
        let quant = row["type"].as_str().unwrap();
        let path = folder.join(format!("bard-{quant}.gguf"));
        if !path.is_file() {
            continue;
        }
        let file = ModelFile::open(&path).unwrap();
        let gguf = file.gguf().unwrap();
        let model = Model::from_gguf(&gguf).unwrap();
        let found = perplexity(&cpu, &model, &ids);
        let expected = row["perplexity"].as_f64().unwrap();
        println!("{quant}: perplexity {found:.4}, llama.cpp {expected}");
        assert!(
            (found / expected - 1.0).abs() <= 0.005,
            "{quant}: {found}, expected {expected}"
        );
    }
}
