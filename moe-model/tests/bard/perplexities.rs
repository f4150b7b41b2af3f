//! Perplexities of what `apr quantize` writes against those of llama.cpp's quantizer, for
//! every mix of its list.

use std::{
    num::NonZeroUsize,
    ops::ControlFlow,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{available_parallelism, scope},
};

use gguf_format::{GgmlType, Gguf, GgufSet, GgufWriter};
use model_tools::{Plan, QuantizeOptions, Source};
use moe_model::{Model, ModelFile};
use quant_kernels::{QuantType, dequantize_row, quantize_row};
use serde_json::Value;

use crate::{
    folder::{cpu, folder, heldout_ids, json},
    score::{Base, Score, logits, score},
};

/// A line of llama.cpp's list.
struct Row {
    mix: String,
    bytes: u64,
    theirs: Score,
}

fn rows(path: &Path) -> Vec<Row> {
    let row = |row: &Value| Row {
        mix: row["type"].as_str().unwrap().to_owned(),
        bytes: row["bytes"].as_u64().unwrap(),
        theirs: Score {
            perplexity: row["perplexity"].as_f64().unwrap(),
            mean_kl: row["mean_kl"].as_f64().unwrap(),
            same_top: row["same_top_percent"].as_f64().unwrap() / 100.0,
        },
    };
    let rows = json(path);
    rows["rows"].as_array().unwrap().iter().map(row).collect()
}

fn score_of(file: &ModelFile, base: &Base<'_>) -> Score {
    let gguf = file.gguf().unwrap();
    let model = Model::from_gguf(&gguf).unwrap();
    let logits = logits(&cpu(), &model, base.ids);
    score(&logits, base, model.config().n_vocab)
}

/// How a figure of ours may lie to theirs.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    /// Within 0.5 %.
    Near,
    /// At most 0.5 % worse.
    NotWorse,
}

/// The mix whose perplexity is lower than llama.cpp's by more than 0.5 % if our quantizer makes
/// it: by 1.06 %, with a divergence that is lower by 10 %.
const BETTER: [&str; 1] = ["q3_k_s"];

fn check(row: &Row, whose: &str, ours: Score, bound: Bound) {
    let Row { mix, theirs, .. } = row;
    let excess = ours.perplexity / theirs.perplexity - 1.0;
    eprintln!(
        "{mix:>9} {whose:>11}: perplexity {:.4}, llama.cpp {:.4} ({:+.3} %); KL {:.6}, {:.6}; \
         first choice {:.2} %, {:.2} %",
        ours.perplexity,
        theirs.perplexity,
        100.0 * excess,
        ours.mean_kl,
        theirs.mean_kl,
        100.0 * ours.same_top,
        100.0 * theirs.same_top,
    );
    assert!(excess <= 0.005, "{mix}, {whose}: {ours:?}");
    assert!(
        excess >= -0.005 || bound == Bound::NotWorse,
        "{mix}, {whose}: {ours:?}"
    );
    // Perplexities differ by chance, divergences from the source much less.
    assert!(
        ours.mean_kl <= 1.02 * theirs.mean_kl + 1e-5,
        "{mix}, {whose}: {ours:?}"
    );
}

/// Returns the file of a mix, if there is a quantizer for it.
fn quantized(source: &GgufSet<'_>, mix: &str) -> Option<Vec<u8>> {
    let options = QuantizeOptions::new(mix.parse().ok()?);
    let plan = Plan::new(Source::from_gguf(source).unwrap(), &options, None).unwrap();
    let written = plan.write(Vec::new(), NonZeroUsize::MIN, |_| ControlFlow::Continue(()));
    Some(written.unwrap())
}

/// Checks the mix if there is a quantizer for it, and llama.cpp's own file if it is there.
fn check_mix(row: &Row, source: &GgufSet<'_>, folder: &Path, base: &Base<'_>) -> bool {
    let Some(made) = quantized(source, &row.mix) else {
        eprintln!("{:>9}: not checked, there is no quantizer", row.mix);
        return false;
    };
    assert_eq!(made.len() as u64, row.bytes, "{}", row.mix);
    let made = ModelFile::from_bytes(&row.mix, made);
    let bound = match BETTER.contains(&row.mix.as_str()) {
        true => Bound::NotWorse,
        false => Bound::Near,
    };
    check(row, "ours", score_of(&made, base), bound);
    let path = folder.join(format!("bard-{}.gguf", row.mix));
    if path.is_file() {
        let file = ModelFile::open(&path).unwrap();
        check(row, "llama.cpp's", score_of(&file, base), Bound::Near);
    }
    true
}

/// Calls `test` with the list, the BF16 file, and the logits that it gives.
fn with_source(test: impl FnOnce(&Path, &[Row], &GgufSet<'_>, &Base<'_>)) {
    let Some(folder) = folder() else { return };
    let ids = heldout_ids();
    let source = ModelFile::open(&folder.join("bard-bf16.gguf")).unwrap();
    let gguf = source.gguf().unwrap();
    let logits = logits(&cpu(), &Model::from_gguf(&gguf).unwrap(), &ids);
    let base = Base {
        ids: &ids,
        logits: &logits,
    };
    let rows = rows(&folder.join("reference/quality.json"));
    test(&folder, &rows, &gguf, &base);
}

/// Files made by our quantizer have as many bytes as llama.cpp's, so the types are placed alike.
#[test]
fn perplexities_are_those_of_llama_cpp() {
    with_source(|folder, rows, source, base| {
        let waiting = Mutex::new(rows.iter());
        let next = || waiting.lock().unwrap().next();
        let n_checked = AtomicUsize::new(0);
        scope(|scope| {
            for _ in 0..available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    while let Some(row) = next() {
                        let checked = check_mix(row, source, folder, base);
                        n_checked.fetch_add(checked.into(), Relaxed);
                    }
                });
            }
        });
        let n_checked = n_checked.into_inner();
        eprintln!("{n_checked} of {} mixes checked", rows.len());
        assert_eq!(n_checked, 20, "all but iq3_s");
    });
}

/// Rounds a row to `Q4_1` by ggml's rule: the smallest weight is the offset, and fifteen steps
/// lead to the largest.
fn q4_1_as_ggml(row: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0; row.len() / 32 * 20];
    for (weights, block) in row.chunks(32).zip(blocks.chunks_mut(20)) {
        let min = weights.iter().copied().fold(f32::INFINITY, f32::min);
        let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = (max - min) / 15.0;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        let level = |weight: f32| (((weight - min) * inverse + 0.5) as u8).min(15);
        quantize_row(QuantType::F16, &[step, min], &mut block[..4]).unwrap();
        for (idx, byte) in block[4..].iter_mut().enumerate() {
            *byte = level(weights[idx]) | level(weights[idx + 16]) << 4;
        }
    }
    blocks
}

/// Returns the file of `q4_1` with all `Q4_1` blocks made by ggml's rule.
fn with_blocks_of_ggml(source: &GgufSet<'_>) -> Vec<u8> {
    let ours = quantized(source, "q4_1").unwrap();
    let ours = Gguf::parse(&ours).unwrap();
    let mut writer = GgufWriter::new();
    writer.set_all(ours.metadata()).unwrap();
    let mut data = Vec::new();
    for tensor in ours.tensors() {
        let (name, ty) = (tensor.info.name(), tensor.info.ty());
        writer.tensor(name, tensor.info.ne(), ty).unwrap();
        data.push(if ty == GgmlType::Q4_1 {
            let bf16 = source.tensor(name).unwrap().data;
            let mut row = vec![0.0; bf16.len() / 2];
            dequantize_row(QuantType::BF16, bf16, &mut row);
            q4_1_as_ggml(&row)
        } else {
            tensor.data.to_vec()
        });
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    writer.to_bytes(&data).unwrap()
}

#[test]
fn ggml_blocks_of_q4_1_give_the_figure_of_llama_cpp() {
    with_source(|_, rows, source, base| {
        let row = rows.iter().find(|row| row.mix == "q4_1").unwrap();
        let made = ModelFile::from_bytes("q4_1", with_blocks_of_ggml(source));
        check(row, "ggml's rule", score_of(&made, base), Bound::Near);
    });
}
