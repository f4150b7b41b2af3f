//! Files that other programs wrote.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{fs, path::Path};

use gguf_format::{Array, GgmlType, Gguf, GgufWriter, Value};

const GGUF_PY: &[u8] = include_bytes!("data/writer__gguf_py.gguf");

/// Writes what was read again, through the writer.
fn rewritten(gguf: &Gguf<'_>) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set_all(gguf.metadata()).unwrap();
    for tensor in gguf.tensors() {
        let info = tensor.info;
        writer.tensor(info.name(), info.ne(), info.ty()).unwrap();
    }
    let data: Vec<&[u8]> = gguf.tensors().map(|tensor| tensor.data).collect();
    writer.to_bytes(&data).unwrap()
}

#[test]
fn values_written_by_gguf_py_are_read() {
    let gguf = Gguf::parse(GGUF_PY).unwrap();
    assert_eq!(
        (gguf.version(), gguf.alignment(), gguf.data_offset()),
        (3, 64, 832)
    );
    let scalars = [
        ("general.architecture", Value::String("qwen3moe")),
        ("t.u8", Value::U8(255)),
        ("t.i8", Value::I8(-128)),
        ("t.u16", Value::U16(65_535)),
        ("t.i16", Value::I16(-32_768)),
        ("t.u32", Value::U32(u32::MAX)),
        ("t.i32", Value::I32(i32::MIN)),
        ("t.f32", Value::F32(0.1)),
        ("t.u64", Value::U64(u64::MAX)),
        ("t.i64", Value::I64(i64::MIN)),
        ("t.f64", Value::F64(0.1)),
        ("t.bool", Value::Bool(true)),
        ("t.string", Value::String("ROMÉO 🎭")),
        ("general.alignment", Value::U32(64)),
    ];
    let read: Vec<_> = gguf
        .metadata()
        .iter()
        .filter(|(_, value)| !matches!(value, Value::Array(_)))
        .collect();
    assert_eq!(read, scalars);
}

#[test]
fn arrays_written_by_gguf_py_are_read() {
    let gguf = Gguf::parse(GGUF_PY).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(
        metadata.require::<Vec<&str>>("t.strings").unwrap(),
        ["<s>", "Ġthe", ""]
    );
    assert_eq!(metadata.require::<Vec<i32>>("t.ints").unwrap(), [1, -2, 3]);
    assert_eq!(
        metadata.require::<Vec<f32>>("t.floats").unwrap(),
        [0.5, -1.5]
    );
    let nested = metadata.require::<Vec<Vec<i32>>>("t.nested").unwrap();
    assert_eq!(nested, [vec![1, 2], vec![3]]);
    let bytes: Array<'_> = metadata.require("t.bytes").unwrap();
    assert_eq!(bytes.raw(), Some(&[0, 1, 254, 255][..]));
}

#[test]
fn tensors_written_by_gguf_py_are_read() {
    let gguf = Gguf::parse(GGUF_PY).unwrap();
    let found: Vec<_> = gguf
        .tensors()
        .map(|tensor| {
            (
                tensor.info.name(),
                tensor.info.ty(),
                tensor.info.ne().to_vec(),
            )
        })
        .collect();
    let expected = [
        ("f32.weight", GgmlType::F32, vec![64, 2]),
        ("f16.weight", GgmlType::F16, vec![32, 2, 2]),
        ("q8_0.weight", GgmlType::Q8_0, vec![64, 2]),
        ("ids", GgmlType::I32, vec![3]),
    ];
    assert_eq!(found, expected);
    let ramp: Vec<u8> = (0..128_u8)
        .flat_map(|i| (f32::from(i) / 16.0 - 4.0).to_le_bytes())
        .collect();
    assert_eq!(gguf.tensor("f32.weight").unwrap().data, ramp);
    assert_eq!(gguf.tensor("q8_0.weight").unwrap().data.len(), 4 * 34);
    let ids: Vec<u8> = [7_i32, -8, 9]
        .into_iter()
        .flat_map(i32::to_le_bytes)
        .collect();
    assert_eq!(gguf.tensor("ids").unwrap().data, ids);
}

#[test]
fn our_writer_writes_the_same_bytes_as_gguf_py() {
    let gguf = Gguf::parse(GGUF_PY).unwrap();
    assert!(rewritten(&gguf) == GGUF_PY);
}

#[test]
fn models_written_by_llama_cpp_are_read_where_they_are_at_hand() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let files = [
        ("models/bard/bard-q4_k_m.gguf", 51),
        ("models/bard/bard-q8_0.gguf", 51),
        ("reference/tokenizer/ggml-vocab-qwen2.gguf", 0),
    ];
    for (name, n_tensors) in files {
        let Ok(bytes) = fs::read(shared.join(name)) else {
            eprintln!("skipped: {name} is not at hand");
            continue;
        };
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.tensors().len(), n_tensors, "{name}");
        let tokens: Array<'_> = gguf.metadata().require("tokenizer.ggml.tokens").unwrap();
        assert_eq!(tokens.strings().unwrap().next(), Some("!"), "{name}");
        let again = rewritten(&gguf);
        let same = again == bytes || again.strip_prefix(bytes.as_slice()).is_some();
        assert!(same, "{name}: the file written again differs");
    }
}
