//! Importance files: what is read, what is refused, and what it changes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroUsize, ops::ControlFlow};

use gguf_format::{GgmlType, Gguf, GgufSet, GgufWriter};
use model_tools::{Importance, Plan, QuantizeOptions, Source, ToolError};
use quant_kernels::{QuantType, dequantize_row, quantize_row_weighted};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use type_mix::Mix;

const N_EXPERT: usize = Geometry::TINY.n_expert as usize;

/// Rows of 256 everywhere, two layers of eight experts.
fn model() -> Vec<u8> {
    let model = SynthModel {
        geometry: Geometry::TINY,
        mix: TypeMix::Named(Mix::BF16),
        vocab: Vocab::ByteLevel,
        seed: 3,
    };
    model.to_bytes().unwrap()
}

fn set(bytes: &[u8]) -> GgufSet<'_> {
    GgufSet::new(vec![Gguf::parse(bytes).unwrap()]).unwrap()
}

/// The squares that column `column` of expert `expert` has met.
fn value(expert: usize, column: usize) -> f32 {
    ((expert + 1) * (column % 17)) as f32 * 0.25
}

fn values(n_experts: usize) -> Vec<f32> {
    let of_expert = |expert| (0..256).map(move |column| value(expert, column));
    (0..n_experts).flat_map(of_expert).collect()
}

fn le(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A GGUF file with sums and counts of some matrices.
fn gguf_file(entries: &[(&str, &[f32], &[f32])]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set("general.type", "imatrix").unwrap();
    writer.set("imatrix.datasets", ["wiki.txt"]).unwrap();
    writer.set("imatrix.chunk_count", 7_u32).unwrap();
    writer.set("imatrix.chunk_size", 512_u32).unwrap();
    let mut data = Vec::new();
    for (name, sums, counts) in entries {
        let n = counts.len() as u64;
        let ne = [sums.len() as u64 / n, n];
        writer
            .tensor(&format!("{name}.in_sum2"), &ne, GgmlType::F32)
            .unwrap();
        writer
            .tensor(&format!("{name}.counts"), &[1, n], GgmlType::F32)
            .unwrap();
        data.extend([le(sums), le(counts)]);
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    writer.to_bytes(&data).unwrap()
}

/// A file of the older form.
fn legacy_file(entries: &[Numbers<'_>]) -> Vec<u8> {
    let count = |n: usize| i32::try_from(n).unwrap().to_le_bytes();
    let mut file = count(entries.len()).to_vec();
    for (name, values) in entries {
        file.extend(count(name.len()));
        file.extend(name.as_bytes());
        file.extend(count(7));
        file.extend(count(values.len()));
        file.extend(le(values));
    }
    file.extend(count(7));
    file.extend(count(8));
    file.extend(b"wiki.txt");
    file
}

fn quantize(importance: Option<&Importance<'_>>, mix: Mix) -> Result<Vec<u8>, ToolError> {
    let bytes = model();
    let source = Source::from_gguf(&set(&bytes))?;
    let plan = Plan::new(source, &QuantizeOptions::new(mix), importance)?;
    plan.write(Vec::new(), NonZeroUsize::MIN, |_| ControlFlow::Continue(()))
}

const DOWN: &str = "blk.1.ffn_down_exps.weight";
const QUERY: &str = "blk.0.attn_q.weight";

#[test]
fn each_expert_is_quantized_by_its_own_importance() {
    let (experts, one) = (values(N_EXPERT), values(1));
    let counts = [3.0; N_EXPERT];
    let file = gguf_file(&[(DOWN, &experts, &counts), (QUERY, &one, &[5.0])]);
    let gguf = set(&file);
    let importance = Importance::from_gguf(&gguf).unwrap();
    assert_eq!((importance.n_entries(), importance.n_chunks()), (2, 7));
    assert_eq!(importance.dataset(), Some("wiki.txt"));
    let (plain, weighted) = (
        quantize(None, Mix::Q4_K_S).unwrap(),
        quantize(Some(&importance), Mix::Q4_K_S).unwrap(),
    );
    let source = model();
    let (source, plain, weighted) = (set(&source), set(&plain), set(&weighted));
    for tensor in weighted.tensors() {
        let name = tensor.info.name();
        let unweighted = plain.tensor(name).unwrap();
        assert_eq!(
            tensor.data != unweighted.data,
            [DOWN, QUERY].contains(&name),
            "{name}"
        );
    }
    let (from, to) = (source.tensor(DOWN).unwrap(), weighted.tensor(DOWN).unwrap());
    for (row, (weights, blocks)) in from.data.chunks(512).zip(to.data.chunks(144)).enumerate() {
        let (mut x, mut expected) = ([0.0; 256], [0; 144]);
        dequantize_row(QuantType::BF16, weights, &mut x);
        let importance = &experts[row / 256 * 256..][..256];
        quantize_row_weighted(QuantType::Q4_K, &x, importance, &mut expected).unwrap();
        assert!(blocks == expected, "row {row}");
    }
    let text = |key| weighted.metadata().require::<&str>(key).unwrap();
    assert_eq!(text("quantize.imatrix.dataset"), "wiki.txt");
    let number = |key| weighted.metadata().require::<u32>(key).unwrap();
    assert_eq!(number("quantize.imatrix.entries_count"), 2);
    assert_eq!(number("quantize.imatrix.chunks_count"), 7);
}

#[test]
fn both_forms_of_a_file_say_the_same() {
    let (experts, one) = (values(N_EXPERT), values(1));
    let new = gguf_file(&[(DOWN, &experts, &[1.0; N_EXPERT]), (QUERY, &one, &[1.0])]);
    let old = legacy_file(&[(DOWN, &experts), (QUERY, &one)]);
    let new = set(&new);
    let new = Importance::from_gguf(&new).unwrap();
    let old = Importance::from_legacy(&old).unwrap();
    assert_eq!(
        (new.n_chunks(), new.dataset()),
        (old.n_chunks(), old.dataset())
    );
    let [new, old] = [new, old].map(|file| quantize(Some(&file), Mix::Q3_K_M).unwrap());
    assert!(new == old);
}

#[test]
fn experts_that_met_nothing_are_known_and_quantized_as_without() {
    let mut experts = values(N_EXPERT);
    experts[256..512].fill(0.0);
    let mut counts = [3.0; N_EXPERT];
    counts[1] = 0.0;
    let file = gguf_file(&[(DOWN, &experts, &counts)]);
    let gguf = set(&file);
    let importance = Importance::from_gguf(&gguf).unwrap();
    assert_eq!(importance.unseen_experts(DOWN), [1]);
    let [plain, weighted] =
        [None, Some(&importance)].map(|importance| quantize(importance, Mix::Q4_K_S).unwrap());
    let matrix = |file: &[u8], expert: usize| {
        set(file).tensor(DOWN).unwrap().data[expert * 256 * 144..][..256 * 144].to_vec()
    };
    assert!(matrix(&plain, 1) == matrix(&weighted, 1));
    assert!(matrix(&plain, 2) != matrix(&weighted, 2));
}

fn refused(importance: Result<Importance<'_>, ToolError>) -> String {
    let error = importance.and_then(|importance| quantize(Some(&importance), Mix::Q4_0));
    error.unwrap_err().to_string()
}

/// A matrix's name and its numbers.
type Numbers<'a> = (&'a str, &'a [f32]);

/// Name, dimensions and type of a tensor.
type Shape<'a> = (&'a str, &'a [u64], GgmlType);

#[test]
fn a_file_of_another_model_is_refused_by_name() {
    let one = values(1);
    let cases: [(&[Numbers<'_>], &[&str]); 4] = [
        (
            &[("blk.9.attn_q.weight", &one)],
            &["blk.9.attn_q.weight", "no such tensor"],
        ),
        (&[(QUERY, &one[1..])], &[QUERY, "255 numbers", "256"]),
        (
            &[(DOWN, &one)],
            &[DOWN, "256 numbers", "8 experts are 2048"],
        ),
        (&[], &["no importance matrix"]),
    ];
    for (entries, says) in cases {
        let error = refused(Importance::from_legacy(&legacy_file(entries)));
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn numbers_that_measure_nothing_are_refused() {
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let mut one = values(1);
        one[9] = bad;
        let file = gguf_file(&[(QUERY, &one, &[1.0])]);
        let error = refused(Importance::from_gguf(&set(&file)));
        assert!(
            error.contains(QUERY) && error.contains("number 9"),
            "{error}"
        );
        let error = refused(Importance::from_legacy(&legacy_file(&[(QUERY, &one)])));
        assert!(
            error.contains(QUERY) && error.contains("number 9"),
            "{error}"
        );
    }
}

#[test]
fn sums_and_counts_belong_together() {
    let write = |tensors: &[Shape<'_>]| {
        let mut writer = GgufWriter::new();
        for (name, ne, ty) in tensors {
            writer.tensor(name, ne, *ty).unwrap();
        }
        let sizes = tensors
            .iter()
            .map(|(_, ne, ty)| ne.iter().product::<u64>() * ty.block_bytes());
        let data: Vec<Vec<u8>> = sizes
            .map(|n| vec![0; usize::try_from(n).unwrap()])
            .collect();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        writer.to_bytes(&data).unwrap()
    };
    use GgmlType::{F16, F32};
    let cases: [(&[Shape<'_>], &str); 4] = [
        (&[("a.in_sum2", &[8], F32)], "no counts"),
        (&[("a.counts", &[8], F32)], "no sums"),
        (&[("a.in_sum2", &[8], F16), ("a.counts", &[1], F32)], "F32"),
        (
            &[("a.in_sum2", &[8], F32), ("a.counts", &[3], F32)],
            "3 counts",
        ),
    ];
    for (tensors, says) in cases {
        let file = write(tensors);
        let error = refused(Importance::from_gguf(&set(&file)));
        assert!(error.contains("`a`") && error.contains(says), "{error}");
    }
}

#[test]
fn counts_are_numbers_and_one_for_each_expert() {
    let experts: Vec<f32> = vec![1.0; N_EXPERT * 256];
    for wrong in [-1.0, f32::NAN, f32::INFINITY] {
        let mut counts = [3.0; N_EXPERT];
        counts[2] = wrong;
        let file = gguf_file(&[(DOWN, &experts, &counts)]);
        let error = refused(Importance::from_gguf(&set(&file)));
        assert!(error.contains("count 2 is negative"), "{error}");
    }
    let bytes = model();
    let gguf = set(&bytes);
    let file = gguf_file(&[(DOWN, &experts, &[3.0; 2])]);
    let file = set(&file);
    let importance = Importance::from_gguf(&file).unwrap();
    let source = Source::from_gguf(&gguf).unwrap();
    let plan = Plan::new(
        source,
        &QuantizeOptions::new(Mix::Q4_K_M),
        Some(&importance),
    );
    let error = plan.unwrap_err().to_string();
    assert!(
        error.contains("it has 2 counts, but there are 8 experts"),
        "{error}"
    );
}

#[test]
fn any_prefix_and_any_changed_byte_of_the_older_form_is_read_or_refused() {
    let file = legacy_file(&[("blk.0.attn_k.weight", &[1.0, 2.0]), (QUERY, &[3.0])]);
    let names = [0, file.len() - 16];
    assert!(Importance::from_legacy(&file).is_ok());
    for end in 0..file.len() {
        let whole = end == names[1];
        assert_eq!(
            Importance::from_legacy(&file[..end]).is_ok(),
            whole,
            "{end} bytes"
        );
    }
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            if let Err(error) = Importance::from_legacy(&changed) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let twice = legacy_file(&[(QUERY, &[1.0]), (QUERY, &[1.0])]);
    assert!(Importance::from_legacy(&twice).is_err());
    let more = [&file[..], b"x"].concat();
    assert!(Importance::from_legacy(&more).is_err());
}
