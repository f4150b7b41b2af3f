//! Importance matrices that are made here: the same whatever the batches and threads, and
//! read again by the quantizer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;

use gguf_format::{Gguf, GgufSet};
use model_tools::{Importance, ImportanceSums, Plan, QuantizeOptions, Source};
use moe_model::{Model, ModelFile, Outputs, State, StateOptions, forward_inputs};
use quant_kernels::{Cpu, Isa};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use type_mix::Mix;

const TEXT: [u32; 24] = [
    5, 9, 17, 300, 5, 5, 8, 211, 34, 99, 100, 7, 1, 2, 3, 4, 400, 401, 402, 403, 44, 45, 46, 47,
];

fn model() -> Vec<u8> {
    let model = SynthModel {
        geometry: Geometry::TINY,
        mix: TypeMix::Named(Mix::BF16),
        vocab: Vocab::ByteLevel,
        seed: 3,
    };
    model.to_bytes().unwrap()
}

fn sums(bytes: &[u8], batch_len: usize, n_threads: usize) -> ImportanceSums {
    let file = ModelFile::from_bytes("tiny", bytes.to_vec());
    let gguf = file.gguf().unwrap();
    let model = Model::from_gguf(&gguf).unwrap();
    let cpu = Cpu::new(Isa::detect(), NonZeroUsize::new(n_threads).unwrap()).unwrap();
    let options = StateOptions {
        batch_len,
        ..StateOptions::new(64)
    };
    let mut state = State::new(&model, options).unwrap();
    let mut sums = ImportanceSums::new(model.config().n_expert);
    let observe = &mut |_: moe_model::LayerView<'_>| ();
    let (none, watch) = (Outputs::None, &mut |inputs: moe_model::MatrixInputs<'_>| {
        sums.add(&inputs);
    });
    forward_inputs(&cpu, &model, &mut state, &TEXT, none, observe, watch).unwrap();
    sums
}

fn file(sums: &ImportanceSums) -> Vec<u8> {
    sums.write(Vec::new(), "text", 1, 24).unwrap()
}

#[test]
fn neither_batches_nor_threads_change_a_byte() {
    let bytes = model();
    let whole = file(&sums(&bytes, 24, 1));
    for (batch_len, n_threads) in [(1, 1), (5, 2), (24, 3)] {
        assert!(
            file(&sums(&bytes, batch_len, n_threads)) == whole,
            "{batch_len}"
        );
    }
}

#[test]
fn every_token_counts_once_and_for_each_of_its_experts() {
    let bytes = model();
    let sums = sums(&bytes, 24, 1);
    assert_eq!(sums.n_entries(), 2 * 8);
    let written = file(&sums);
    let gguf = Gguf::parse(&written).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        let data = gguf.tensor(name).unwrap().data.as_chunks().0;
        data.iter().map(|&x| f32::from_le_bytes(x)).collect()
    };
    assert_eq!(numbers("blk.1.attn_q.weight.counts"), [24.0]);
    let by_expert = numbers("blk.1.ffn_down_exps.weight.counts");
    assert_eq!(
        (by_expert.len(), by_expert.iter().sum::<f32>()),
        (8, 2.0 * 24.0)
    );
    assert_eq!(numbers("blk.1.ffn_up_exps.weight.counts"), by_expert);
    // Queries, keys and values meet the same; experts share what the router meets.
    let of = |matrix: &str| numbers(&format!("blk.0.{matrix}.weight.in_sum2"));
    assert_eq!(of("attn_q"), of("attn_v"));
    let (router, up) = (of("ffn_gate_inp"), of("ffn_up_exps"));
    for (column, all) in router.iter().enumerate() {
        let met: f32 = up.chunks(256).map(|expert| expert[column]).sum();
        assert!(
            (met / (2.0 * all) - 1.0).abs() < 1e-4,
            "column {column}: {met}, {all}"
        );
    }
}

#[test]
fn the_quantizer_reads_what_is_written() {
    let bytes = model();
    let sums = sums(&bytes, 24, 1);
    let written = file(&sums);
    let gguf = GgufSet::new(vec![Gguf::parse(&written).unwrap()]).unwrap();
    let importance = Importance::from_gguf(&gguf).unwrap();
    assert_eq!(
        (importance.dataset(), importance.n_chunks()),
        (Some("text"), 1)
    );
    for unseen in sums.unseen() {
        assert_eq!(
            importance.unseen_experts(unseen.name).len(),
            unseen.n_unseen
        );
    }
    let model = GgufSet::new(vec![Gguf::parse(&bytes).unwrap()]).unwrap();
    let source = Source::from_gguf(&model).unwrap();
    let plan = Plan::new(
        source,
        &QuantizeOptions::new(Mix::Q4_K_M),
        Some(&importance),
    )
    .unwrap();
    let lacking = plan
        .tensors()
        .iter()
        .filter(|tensor| tensor.lacks_importance());
    let lacking: Vec<&str> = lacking.map(|tensor| tensor.source.name.as_str()).collect();
    assert_eq!(lacking, ["token_embd.weight", "output.weight"]);
}
