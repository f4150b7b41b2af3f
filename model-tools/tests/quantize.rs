//! What is true of every file that is written: types, sizes, bytes, metadata.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroUsize, ops::ControlFlow};

use gguf_format::{GgmlType, Gguf, GgufSet, GgufWriter};
use model_tools::{Plan, QuantizeOptions, Source, TensorData, ToolError};
use quant_kernels::{MatRef, QuantType, dequantize_row, quantize_row};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use type_mix::Mix;

fn model(mix: Mix, geometry: Geometry) -> Vec<u8> {
    let model = SynthModel {
        geometry,
        mix: TypeMix::Named(mix),
        vocab: Vocab::ByteLevel,
        seed: 3,
    };
    model.to_bytes().unwrap()
}

fn tiny() -> Vec<u8> {
    model(Mix::BF16, Geometry::TINY)
}

fn set(bytes: &[u8]) -> GgufSet<'_> {
    GgufSet::new(vec![Gguf::parse(bytes).unwrap()]).unwrap()
}

fn quantize(
    bytes: &[u8],
    options: &QuantizeOptions,
    n_threads: usize,
) -> Result<Vec<u8>, ToolError> {
    let plan = Plan::new(Source::from_gguf(&set(bytes))?, options, None)?;
    let n_threads = NonZeroUsize::new(n_threads).unwrap();
    let file = plan.write(Vec::new(), n_threads, |_| ControlFlow::Continue(()))?;
    let n_bytes: usize = set(&file).tensors().map(|tensor| tensor.data.len()).sum();
    assert_eq!(n_bytes as u64, plan.n_bytes(), "what the plan said");
    Ok(file)
}

fn type_of(file: &[u8], name: &str) -> GgmlType {
    set(file).tensor(name).unwrap().info.ty()
}

/// The same, one tensor after the other and one row after the other.
fn quantize_naively(source: &[u8], wanted: &[u8]) {
    let (source, wanted) = (set(source), set(wanted));
    for (from, to) in source.tensors().zip(wanted.tensors()) {
        assert_eq!(
            (from.info.name(), from.info.ne()),
            (to.info.name(), to.info.ne())
        );
        if from.info.ty() == to.info.ty() {
            assert!(from.data == to.data, "{}", to.info.name());
            continue;
        }
        let ty = moe_model::quant_type(to.info.ty()).unwrap();
        let n_cols = usize::try_from(from.info.ne()[0]).unwrap();
        let n_bytes = ty.row_bytes(n_cols).unwrap();
        for (row, blocks) in from.data.chunks(2 * n_cols).zip(to.data.chunks(n_bytes)) {
            let (mut weights, mut expected) = (vec![0.0; n_cols], vec![0; n_bytes]);
            dequantize_row(QuantType::BF16, row, &mut weights);
            quantize_row(ty, &weights, &mut expected).unwrap();
            assert!(blocks == expected, "{}", to.info.name());
        }
    }
}

#[test]
fn every_mix_has_the_blocks_of_the_quantizers_whatever_the_threads() {
    let source = tiny();
    for mix in Mix::ALL {
        let options = QuantizeOptions::new(mix);
        let file = quantize(&source, &options, 1).unwrap();
        quantize_naively(&source, &file);
        assert!(file == quantize(&source, &options, 3).unwrap(), "{mix}");
    }
}

#[test]
fn rows_longer_than_a_chunk_are_quantized_in_pieces() {
    let mut writer = header();
    writer
        .tensor("output.weight", &[40_960, 2], GgmlType::F32)
        .unwrap();
    let weights = (0..2 * 40_960_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 - 8e6);
    let data: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    let source = writer.to_bytes(&[&data]).unwrap();
    let file = quantize(&source, &QuantizeOptions::new(Mix::Q4_K_M), 2);
    assert!(
        matches!(
            file,
            Err(ToolError::Weight {
                row: 0,
                column: 0..,
                ..
            })
        ),
        "beyond F16"
    );

    let data: Vec<u8> = data
        .as_chunks()
        .0
        .iter()
        .flat_map(|&w| (f32::from_le_bytes(w) / 1e4).to_le_bytes())
        .collect();
    let source = writer.to_bytes(&[&data]).unwrap();
    let file = quantize(&source, &QuantizeOptions::new(Mix::Q4_K_M), 2).unwrap();
    let found = set(&file).tensor("output.weight").unwrap();
    let weights: Vec<f32> = data
        .as_chunks()
        .0
        .iter()
        .map(|&w| f32::from_le_bytes(w))
        .collect();
    let mut expected = vec![0; found.data.len()];
    quantize_row(QuantType::Q6_K, &weights, &mut expected).unwrap();
    assert!(found.data == expected);
}

/// The metadata that the placement of types asks for.
fn header() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "qwen3moe").unwrap();
    for key in [
        "block_count",
        "expert_count",
        "attention.head_count",
        "attention.head_count_kv",
    ] {
        writer.set(&format!("qwen3moe.{key}"), 1_u32).unwrap();
    }
    writer
}

#[test]
fn metadata_are_kept_and_say_the_new_type() {
    let source = tiny();
    let file = quantize(&source, &QuantizeOptions::new(Mix::Q4_K_M), 1).unwrap();
    let (source, file) = (set(&source), set(&file));
    assert_eq!(source.metadata().len(), file.metadata().len());
    for ((key, old), (new_key, new)) in source.metadata().iter().zip(file.metadata().iter()) {
        assert_eq!(key, new_key);
        if key != "general.file_type" {
            assert_eq!(format!("{old:?}"), format!("{new:?}"), "{key}");
        }
    }
    let number = |key| file.metadata().require::<u32>(key).unwrap();
    assert_eq!(number("general.file_type"), 15);
    assert_eq!(number("general.quantization_version"), 2);
}

#[test]
fn shards_become_one_file_that_is_no_shard() {
    let source = tiny();
    let whole = set(&source);
    let tensors: Vec<_> = whole.tensors().collect();
    let (head, tail) = tensors.split_at(10);
    let shard = |no: u16, tensors: &[gguf_format::Tensor<'_>]| {
        let mut writer = GgufWriter::new();
        if no == 0 {
            writer.set_all(whole.metadata()).unwrap();
        }
        writer.set("split.no", no).unwrap();
        writer.set("split.count", 2_u16).unwrap();
        writer.set("split.tensors.count", 27_i32).unwrap();
        let mut data = Vec::new();
        for tensor in tensors {
            writer
                .tensor(tensor.info.name(), tensor.info.ne(), tensor.info.ty())
                .unwrap();
            data.push(tensor.data);
        }
        writer.to_bytes(&data).unwrap()
    };
    let shards = [shard(0, head), shard(1, tail)];
    let parsed = shards.iter().map(|shard| Gguf::parse(shard).unwrap());
    let split = GgufSet::new(parsed.collect()).unwrap();
    let options = QuantizeOptions::new(Mix::Q8_0);
    let plan = Plan::new(Source::from_gguf(&split).unwrap(), &options, None).unwrap();
    let file = plan.write(Vec::new(), NonZeroUsize::MIN, |_| ControlFlow::Continue(()));
    assert!(file.unwrap() == quantize(&source, &options, 1).unwrap());
}

#[test]
fn choices_come_before_the_mix_and_the_first_of_them_counts() {
    let source = tiny();
    let options = QuantizeOptions {
        output_tensor: Some(QuantType::Q8_0),
        token_embedding: Some(QuantType::Q5_0),
        tensor_types: [
            "attn_q=q4_0",
            r"blk\.1\.attn_.\.weight=q5_1",
            "token_embd=q8_0",
        ]
        .map(|text| text.parse().unwrap())
        .into(),
        ..QuantizeOptions::new(Mix::Q4_K_M)
    };
    let file = quantize(&source, &options, 2).unwrap();
    let cases = [
        ("output.weight", GgmlType::Q8_0),
        ("token_embd.weight", GgmlType::Q5_0),
        ("blk.0.attn_q.weight", GgmlType::Q4_0),
        ("blk.1.attn_q.weight", GgmlType::Q4_0),
        ("blk.1.attn_k.weight", GgmlType::Q5_1),
        ("blk.0.attn_k.weight", GgmlType::Q8_0),
        ("blk.0.ffn_up_exps.weight", GgmlType::Q4_K),
        ("blk.0.ffn_gate_inp.weight", GgmlType::F32),
        ("blk.0.attn_q_norm.weight", GgmlType::F32),
    ];
    for (name, expected) in cases {
        assert_eq!(type_of(&file, name), expected, "{name}");
    }
    let pure = QuantizeOptions {
        pure: true,
        ..QuantizeOptions::new(Mix::Q4_K_M)
    };
    let file = quantize(&source, &pure, 2).unwrap();
    for tensor in set(&file).tensors() {
        let ty = tensor.info.ty();
        assert!(matches!(ty, GgmlType::F32 | GgmlType::Q4_K), "{ty}");
    }
}

#[test]
fn an_output_type_holds_for_an_embedding_that_is_the_output() {
    let tied = Geometry {
        tied: true,
        ..Geometry::TINY
    };
    let options = QuantizeOptions {
        output_tensor: Some(QuantType::Q5_K),
        ..QuantizeOptions::new(Mix::Q4_K_M)
    };
    let source = model(Mix::BF16, tied);
    let file = quantize(&source, &options, 1).unwrap();
    assert_eq!(type_of(&file, "token_embd.weight"), GgmlType::Q5_K);
    let file = quantize(&source, &QuantizeOptions::new(Mix::Q4_K_M), 1).unwrap();
    assert_eq!(type_of(&file, "token_embd.weight"), GgmlType::Q6_K);
}

#[test]
fn rows_that_do_not_fit_are_said_and_get_another_type() {
    let narrow = Geometry {
        n_ff_exp: 96,
        ..Geometry::TINY
    };
    let source = model(Mix::BF16, narrow);
    let gguf = set(&source);
    let options = QuantizeOptions::new(Mix::Q4_K_S);
    let plan = Plan::new(Source::from_gguf(&gguf).unwrap(), &options, None).unwrap();
    for tensor in plan.tensors() {
        let is_narrow = tensor.source.name.contains("ffn_down_exps");
        assert_eq!(
            tensor.unfit,
            is_narrow.then_some(QuantType::Q4_K),
            "{}",
            tensor.source.name
        );
        assert!(!is_narrow || tensor.ty == GgmlType::Q5_0);
    }
    quantize_naively(&source, &quantize(&source, &options, 1).unwrap());
}

#[test]
fn requests_that_make_no_sense_name_what_is_wrong() {
    let quantized = model(Mix::Q8_0, Geometry::TINY);
    let error = quantize(&quantized, &QuantizeOptions::new(Mix::Q4_0), 1).unwrap_err();
    assert!(matches!(&error, ToolError::Requantize { .. }), "{error}");
    assert!(
        error.to_string().contains("`token_embd.weight` is Q8_0"),
        "{error}"
    );
    let copied = quantize(&quantized, &QuantizeOptions::new(Mix::Q8_0), 1).unwrap();
    assert!(copied == quantized, "the same type is a copy");
    let allowed = QuantizeOptions {
        allow_requantize: true,
        ..QuantizeOptions::new(Mix::Q4_0)
    };
    assert!(quantize(&quantized, &allowed, 1).unwrap().len() < quantized.len());

    let with = |choice: &str| QuantizeOptions {
        tensor_types: vec![choice.parse().unwrap()],
        ..QuantizeOptions::new(Mix::Q8_0)
    };
    let error = quantize(&quantized, &with("attn_norm=q8_0"), 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`attn_norm` matches none of the 16"),
        "{error}"
    );
    let error = quantize(&tiny(), &with("attn_q=iq2_xs"), 1).unwrap_err();
    assert!(error.to_string().contains("IQ2_XS"), "{error}");

    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "mamba").unwrap();
    let mamba = writer.to_bytes(&[]).unwrap();
    let error = quantize(&mamba, &QuantizeOptions::new(Mix::Q8_0), 1).unwrap_err();
    assert!(
        error.to_string().contains("`mamba`, expected `qwen3moe`"),
        "{error}"
    );
}

#[test]
fn a_weight_that_is_not_finite_is_named_by_tensor_row_and_column() {
    let mut source = tiny();
    let place = {
        let gguf = Gguf::parse(&source).unwrap();
        let tensor = gguf.tensor("blk.1.ffn_up_exps.weight").unwrap().info;
        // Row 5 of expert 3, column 7.
        gguf.data_offset() + tensor.offset() + 2 * (256 * (3 * 256 + 5) + 7)
    };
    let place = usize::try_from(place).unwrap();
    source[place..place + 2].copy_from_slice(&[0xc0, 0x7f]);
    for n_threads in [1, 4] {
        let error = quantize(&source, &QuantizeOptions::new(Mix::Q5_K_M), n_threads).unwrap_err();
        let ToolError::Weight {
            name, row, column, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (name.as_str(), row, column),
            ("blk.1.ffn_up_exps.weight", 773, 7)
        );
    }
}

#[test]
fn experts_in_pieces_are_the_same_as_in_one() {
    let bytes = tiny();
    let gguf = set(&bytes);
    let whole = Source::from_gguf(&gguf).unwrap();
    let mut pieces = whole.clone();
    for (tensor, given) in pieces.tensors.iter_mut().zip(gguf.tensors()) {
        let ty = tensor.quant_type().unwrap();
        let ne = [0, 1, 2].map(|i| given.info.ne().get(i).copied().unwrap_or(1));
        let [n_cols, n_rows, n_parts] = ne.map(|n| usize::try_from(n).unwrap());
        let parts = given.data.chunks(given.data.len() / n_parts);
        let parts = parts.map(|bytes| MatRef::new(ty, n_rows, n_cols, bytes).unwrap());
        tensor.data = TensorData::Matrices(parts.collect());
    }
    let write = |source| {
        let plan = Plan::new(source, &QuantizeOptions::new(Mix::Q4_K_M), None).unwrap();
        plan.write(Vec::new(), NonZeroUsize::MIN, |_| ControlFlow::Continue(()))
            .unwrap()
    };
    assert!(write(pieces.clone()) == write(whole));
    let refused = |data: TensorData<'static>| {
        let mut wrong = Source::from_gguf(&gguf).unwrap();
        wrong.tensors[3].data = data;
        let refused = Plan::new(wrong, &QuantizeOptions::new(Mix::Q4_K_M), None);
        assert!(
            matches!(refused, Err(ToolError::Data { .. })),
            "{refused:?}"
        );
    };
    refused(TensorData::Matrices(Vec::new()));
    let one = MatRef::new(QuantType::F32, 1, 1, &[0; 4]).unwrap();
    refused(TensorData::Matrices(vec![one]));
    refused(TensorData::Bytes {
        ty: GgmlType::BF16,
        bytes: vec![0; 100].into(),
    });
}

#[test]
fn the_observer_sees_all_bytes_and_can_end_the_work() {
    let bytes = tiny();
    let gguf = set(&bytes);
    let options = QuantizeOptions::new(Mix::Q8_0);
    let plan = Plan::new(Source::from_gguf(&gguf).unwrap(), &options, None).unwrap();
    let mut last = None;
    plan.write(Vec::new(), NonZeroUsize::MIN, |progress| {
        last = Some(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    let last = last.unwrap();
    assert_eq!((last.written, last.total), (plan.n_bytes(), plan.n_bytes()));
    let ended = plan.write(Vec::new(), NonZeroUsize::MIN, |_| ControlFlow::Break(()));
    assert!(matches!(ended, Err(ToolError::Interrupted)));
}
