//! Files that are sound and wrong are told from the recorded one, and in what they differ.

use std::{num::NonZeroUsize, ops::ControlFlow, time::Duration};

use gguf_format::{GgmlType, Gguf, GgufWriter};
use moe_model::ModelFile;
use synth_model::{Geometry, SynthModel, Vocab};

use super::*;
use crate::verify::{
    Caller, Depth, Event, Progress, Severity, StageReport, Verdict, VerifyOptions, file,
};

struct Patient;

impl Caller for Patient {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A model file in parts.
struct Parts {
    header: GgufWriter,
    tensors: Vec<(String, Vec<u64>, GgmlType, Vec<u8>)>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let gguf = Gguf::parse(bytes).unwrap();
        let mut header = GgufWriter::new();
        header.set_all(gguf.metadata()).unwrap();
        let part = |tensor: gguf_format::Tensor<'_>| {
            let info = tensor.info;
            let (name, ne) = (info.name().to_owned(), info.ne().to_vec());
            (name, ne, info.ty(), tensor.data.to_vec())
        };
        let tensors = gguf.tensors().map(part).collect();
        Self { header, tensors }
    }

    fn data(&mut self, name: &str) -> &mut Vec<u8> {
        let mut tensors = self.tensors.iter_mut();
        &mut tensors.find(|tensor| tensor.0 == name).unwrap().3
    }

    fn file(&self) -> ModelFile {
        let mut writer = self.header.clone();
        for (name, ne, ty, _) in &self.tensors {
            writer.tensor(name, ne, *ty).unwrap();
        }
        let data: Vec<&[u8]> = self.tensors.iter().map(|tensor| &tensor.3[..]).collect();
        ModelFile::from_bytes("edited", writer.to_bytes(&data).unwrap())
    }
}

fn model(geometry: Geometry, mix: &str) -> Parts {
    let model = SynthModel {
        geometry,
        mix: mix.parse().unwrap(),
        vocab: Vocab::ByteLevel,
        seed: 21,
    };
    Parts::of(&model.to_bytes().unwrap())
}

fn tiny() -> Parts {
    model(Geometry::TINY, "q4_k_m")
}

fn options() -> VerifyOptions {
    VerifyOptions {
        depth: Depth::Full,
        n_threads: NonZeroUsize::new(2).unwrap(),
        n_tokens: None,
        n_layers: None,
        compare: None,
        golden: None,
        environment: vec![("machine".to_owned(), "a test".to_owned())],
    }
}

fn recorded(parts: &Parts) -> Golden {
    let request = GoldenRequest {
        n_steps: 6,
        text: "to be or not to be, that is the question".to_owned(),
        ..GoldenRequest::default()
    };
    crate::verify::record(&parts.file(), &request, &options(), &mut Patient).unwrap()
}

fn against(file: &ModelFile, golden: &Golden, tolerance: Tolerance) -> StageReport {
    let (_, subject) = file::open(file);
    let mut caller = Patient;
    let mut progress = Progress {
        caller: &mut caller,
    };
    check(
        &subject.unwrap(),
        golden,
        tolerance,
        &options(),
        &mut progress,
    )
    .unwrap()
}

/// The errors, each with its place.
fn errors(parts: &Parts, golden: &Golden, tolerance: Tolerance) -> Vec<String> {
    let report = against(&parts.file(), golden, tolerance);
    let errors = report.listed(Severity::Error);
    let errors: Vec<_> = errors
        .map(|error| format!("{}: {}", error.place, error.text))
        .collect();
    assert_eq!(report.verdict == Verdict::Failed, !errors.is_empty());
    errors
}

fn exact(parts: &Parts, golden: &Golden) -> Vec<String> {
    errors(parts, golden, Tolerance::Exact)
}

fn swap_experts(data: &mut [u8], n_expert: usize, a: usize, b: usize) {
    let len = data.len() / n_expert;
    for idx in 0..len {
        data.swap(a * len + idx, b * len + idx);
    }
}

/// Puts the rows of each head in the order that pairs neighbours instead of halves.
fn permute_heads(data: &mut Vec<u8>, n_rows: usize, head_dim: usize) {
    let rows: Vec<Vec<u8>> = data
        .chunks(data.len() / n_rows)
        .map(<[u8]>::to_vec)
        .collect();
    data.clear();
    for head in rows.chunks(head_dim) {
        for i in 0..head_dim / 2 {
            data.extend_from_slice(&head[i]);
            data.extend_from_slice(&head[i + head_dim / 2]);
        }
    }
}

#[test]
fn the_same_file_passes_through_json_too() {
    let parts = tiny();
    let golden = recorded(&parts);
    let read = Golden::from_json(golden.to_json().as_bytes()).unwrap();
    assert_eq!(read, golden);
    assert_eq!(exact(&parts, &read), Vec::<String>::new());
    assert_eq!(read.greedy.steps.len(), 6);
    assert!(read.perplexity.unwrap().n_tokens > 10);
}

#[test]
fn two_swapped_experts_are_found() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    swap_experts(parts.data("blk.1.ffn_down_exps.weight"), 8, 2, 5);
    let found = exact(&parts, &golden);
    let expected = "blk.1.ffn_down_exps.weight: 2 experts have changed places: 2, 5";
    assert_eq!(found[0], expected, "{found:?}");
    assert!(
        found.iter().any(|text| text.starts_with("perplexity: is ")),
        "{found:?}"
    );
}

#[test]
fn queries_and_keys_in_the_order_of_the_other_pairing_are_found() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    permute_heads(parts.data("blk.0.attn_q.weight"), 256, 64);
    permute_heads(parts.data("blk.0.attn_k.weight"), 128, 64);
    let found = exact(&parts, &golden);
    for (text, name) in found
        .iter()
        .zip(["blk.0.attn_q.weight", "blk.0.attn_k.weight"])
    {
        let what = "has the recorded rows in another order, as for another RoPE pairing";
        assert!(
            found.contains(&format!("{name}: {what}")),
            "{text}: {found:?}"
        );
    }
    assert!(
        found.iter().any(|text| text.starts_with("greedy step 0: ")),
        "{found:?}"
    );
}

#[test]
fn another_rope_base_is_found() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    parts
        .header
        .set("qwen3moe.rope.freq_base", 1e4_f32)
        .unwrap();
    let found = exact(&parts, &golden);
    let expected = "rope_freq_base: is 10000, recorded as 1000000";
    assert_eq!(found[0], expected, "{found:?}");
    assert!(
        found.iter().any(|text| text.starts_with("greedy step 0: ")),
        "{found:?}"
    );
}

#[test]
fn a_missing_query_norm_is_found() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    let norm = parts.data("blk.1.attn_q_norm.weight");
    for weight in norm.chunks_mut(4) {
        weight.copy_from_slice(&1f32.to_le_bytes());
    }
    let found = exact(&parts, &golden);
    let expected = "blk.1.attn_q_norm.weight: has other weights than the recorded: all are one";
    assert_eq!(found[0], expected, "{found:?}");
    assert!(found.len() > 1, "{found:?}");
}

/// As many layers and experts as the largest model that people run, and nothing else large.
#[test]
fn a_flipped_bit_in_a_scale_of_one_expert_is_found() {
    let geometry = Geometry {
        n_layer: 31,
        n_expert: 128,
        n_expert_used: 2,
        n_ff_exp: 2,
        n_head: 2,
        n_head_kv: 1,
        head_dim: 32,
        ..Geometry::TINY
    };
    let mut parts = model(geometry, "f16");
    let name = "blk.30.ffn_up_exps.weight";
    let tensor = parts.tensors.iter_mut().find(|tensor| tensor.0 == name);
    let (_, ne, ty, data) = tensor.unwrap();
    assert_eq!(*ne, [256, 2, 128]);
    let (block_bytes, n_blocks) = (210, 256);
    *ty = GgmlType::Q6_K;
    *data = (0..block_bytes * n_blocks)
        .map(|idx| (idx * 31 % 251) as u8)
        .collect();
    for block in data.chunks_mut(block_bytes) {
        block[208..].copy_from_slice(&[0x00, 0x04]);
    }
    let golden = recorded(&parts);
    assert_eq!(exact(&parts, &golden), Vec::<String>::new());
    // 192 bytes of quants, then 16 scales; two blocks to an expert.
    parts.data(name)[97 * 2 * block_bytes + 192 + 3] ^= 1;
    let found = exact(&parts, &golden);
    let expected = format!("{name}: expert 97 has other weights than the recorded");
    assert_eq!(found[0], expected, "{found:?}");
}

#[test]
fn another_tokenizer_or_template_is_found() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    let bytes = parts.file().bytes().next().unwrap().to_vec();
    let gguf = Gguf::parse(&bytes).unwrap();
    let merges: gguf_format::Array<'_> = gguf.metadata().require("tokenizer.ggml.merges").unwrap();
    let mut merges: Vec<&str> = merges.strings().unwrap().collect();
    merges.swap(0, 1);
    parts.header.set("tokenizer.ggml.merges", merges).unwrap();
    parts
        .header
        .set("tokenizer.chat_template", "{{ messages }}")
        .unwrap();
    let found = exact(&parts, &golden);
    assert_eq!(found[0], "tokenizer: is not the recorded one", "{found:?}");
    assert_eq!(
        found[1], "chat template: is not the recorded one",
        "{found:?}"
    );
}

#[test]
fn tensors_that_come_and_go_are_named() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    let mut extra = parts.tensors[0].clone();
    extra.0 = "more.weight".to_owned();
    parts.tensors.push(extra);
    let found = exact(&parts, &golden);
    assert_eq!(found, ["more.weight: is not recorded"]);
    let more = recorded(&parts);
    parts.tensors.pop();
    assert_eq!(
        exact(&parts, &more),
        ["more.weight: is recorded, but missing"]
    );
}

#[test]
fn a_tolerance_lets_other_weights_pass_as_far_as_it_says() {
    let mut parts = tiny();
    let golden = recorded(&parts);
    let norm = parts.data("output_norm.weight");
    for weight in norm.as_chunks_mut::<4>().0 {
        *weight = (f32::from_le_bytes(*weight) * 1.0005).to_le_bytes();
    }
    let within = |logits, perplexity| {
        let tolerance = Tolerance::Within { logits, perplexity };
        errors(&parts, &golden, tolerance)
    };
    assert_eq!(within(0.5, 0.01), Vec::<String>::new());
    let strict = within(1e-6, 1e-7);
    assert!(
        strict[0].starts_with("greedy step 0: logit of token"),
        "{strict:?}"
    );
    assert!(
        strict.iter().any(|text| text.starts_with("perplexity: ")),
        "{strict:?}"
    );
    assert!(exact(&parts, &golden)[0].starts_with("output_norm.weight: "));
}

#[test]
fn records_that_are_none_are_refused() {
    let golden = recorded(&tiny());
    let refused = |golden: &Golden| {
        let error = Golden::from_json(golden.to_json().as_bytes()).unwrap_err();
        error.to_string()
    };
    let mut other = golden.clone();
    other.schema = 99;
    assert_eq!(refused(&other), "golden record: schema 99, expected 1");
    let mut other = golden.clone();
    other.greedy.prompt_ids.clear();
    assert_eq!(
        refused(&other),
        "golden record: `greedy.prompt_ids` is empty"
    );
    let mut other = golden;
    other.greedy.steps[2].top.clear();
    assert_eq!(
        refused(&other),
        "golden record: `greedy.steps[2].top` is empty"
    );
    for text in ["", "{}", "[1]", "{\"schema\": 1}"] {
        assert!(Golden::from_json(text.as_bytes()).is_err(), "{text}");
    }
}

/// Ids and sizes of a record are as untrusted as those of a model.
#[test]
fn a_record_for_another_model_is_a_report() {
    let golden = recorded(&tiny());
    let smaller = Geometry {
        n_vocab: 300,
        ..Geometry::TINY
    };
    let parts = model(smaller, "q4_k_m");
    let mut other = golden;
    other.greedy.prompt_ids = vec![u32::MAX, 5];
    if let Some(perplexity) = &mut other.perplexity {
        perplexity.n_ctx = usize::MAX;
    }
    let found = exact(&parts, &other);
    assert!(
        found.contains(&"n_vocab: is 300, recorded as 512".to_owned()),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|text| text.starts_with("greedy: token 4294967295")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|text| text.starts_with("perplexity: ")),
        "{found:?}"
    );
}
