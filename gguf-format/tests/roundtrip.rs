//! What the writer writes, the reader reads back: parse(write(x)) = x.

use gguf_format::{GgmlType, Gguf, GgufError, GgufWriter, Value};
use proptest::prelude::*;

/// A metadata value that owns its parts, to generate and to compare with.
#[derive(Clone, Debug)]
enum Owned {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    U64(u64),
    I64(i64),
    F64(f64),
    Bytes(Vec<u8>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Strings(Vec<String>),
    Nested(Vec<Vec<Vec<u16>>>),
}

impl Owned {
    fn set(&self, writer: &mut GgufWriter, key: &str) -> Result<(), GgufError> {
        match self {
            Self::U8(v) => writer.set(key, *v),
            Self::I8(v) => writer.set(key, *v),
            Self::U16(v) => writer.set(key, *v),
            Self::I16(v) => writer.set(key, *v),
            Self::U32(v) => writer.set(key, *v),
            Self::I32(v) => writer.set(key, *v),
            Self::F32(v) => writer.set(key, *v),
            Self::Bool(v) => writer.set(key, *v),
            Self::String(v) => writer.set(key, v),
            Self::U64(v) => writer.set(key, *v),
            Self::I64(v) => writer.set(key, *v),
            Self::F64(v) => writer.set(key, *v),
            Self::Bytes(v) => writer.set(key, v),
            Self::Ints(v) => writer.set(key, v),
            Self::Floats(v) => writer.set(key, v),
            Self::Bools(v) => writer.set(key, v),
            Self::Strings(v) => writer.set(key, v),
            Self::Nested(v) => writer.set(key, v),
        }
        .map(|_| ())
    }

    fn equals(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::U8(a), Value::U8(b)) => *a == b,
            (Self::I8(a), Value::I8(b)) => *a == b,
            (Self::U16(a), Value::U16(b)) => *a == b,
            (Self::I16(a), Value::I16(b)) => *a == b,
            (Self::U32(a), Value::U32(b)) => *a == b,
            (Self::I32(a), Value::I32(b)) => *a == b,
            (Self::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
            (Self::Bool(a), Value::Bool(b)) => *a == b,
            (Self::String(a), Value::String(b)) => a == b,
            (Self::U64(a), Value::U64(b)) => *a == b,
            (Self::I64(a), Value::I64(b)) => *a == b,
            (Self::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
            (Self::Bytes(a), Value::Array(b)) => b.raw() == Some(a),
            (Self::Ints(a), Value::Array(b)) => {
                b.elements::<i32>().is_some_and(|b| b.eq(a.iter().copied()))
            }
            (Self::Floats(a), Value::Array(b)) => b
                .elements::<f32>()
                .is_some_and(|b| b.map(f32::to_bits).eq(a.iter().map(|v| v.to_bits()))),
            (Self::Bools(a), Value::Array(b)) => b
                .elements::<bool>()
                .is_some_and(|b| b.eq(a.iter().copied())),
            (Self::Strings(a), Value::Array(b)) => b.strings().is_some_and(|b| b.eq(a)),
            (Self::Nested(a), Value::Array(b)) => nested(b) == Some(a.clone()),
            _ => false,
        }
    }
}

fn nested(array: gguf_format::Array<'_>) -> Option<Vec<Vec<Vec<u16>>>> {
    let inner = |array: gguf_format::Array<'_>| {
        let rows = array.elements::<gguf_format::Array<'_>>()?;
        rows.map(|row| Some(row.elements()?.collect())).collect()
    };
    array
        .elements::<gguf_format::Array<'_>>()?
        .map(inner)
        .collect()
}

fn value() -> impl Strategy<Value = Owned> {
    let number = prop_oneof![
        any::<u8>().prop_map(Owned::U8),
        any::<i8>().prop_map(Owned::I8),
        any::<u16>().prop_map(Owned::U16),
        any::<i16>().prop_map(Owned::I16),
        any::<u32>().prop_map(Owned::U32),
        any::<i32>().prop_map(Owned::I32),
        any::<f32>().prop_map(Owned::F32),
        any::<u64>().prop_map(Owned::U64),
        any::<i64>().prop_map(Owned::I64),
        any::<f64>().prop_map(Owned::F64),
        any::<bool>().prop_map(Owned::Bool),
    ];
    let nested = prop::collection::vec(
        prop::collection::vec(prop::collection::vec(any::<u16>(), 0..3), 0..3),
        0..3,
    );
    prop_oneof![
        number,
        any::<String>().prop_map(Owned::String),
        any::<Vec<u8>>().prop_map(Owned::Bytes),
        any::<Vec<i32>>().prop_map(Owned::Ints),
        any::<Vec<f32>>().prop_map(Owned::Floats),
        any::<Vec<bool>>().prop_map(Owned::Bools),
        prop::collection::vec(any::<String>(), 0..8).prop_map(Owned::Strings),
        nested.prop_map(Owned::Nested),
    ]
}

/// A tensor: type, dimensions in blocks and weights, and what its bytes are made from.
fn tensor() -> impl Strategy<Value = (GgmlType, Vec<u64>, u8)> {
    let dims = prop::collection::vec(1_u64..4, 0..=4);
    (
        prop::sample::select(GgmlType::ALL.to_vec()),
        dims,
        any::<u8>(),
    )
        .prop_map(|(ty, mut ne, seed)| {
            match ne.first_mut() {
                Some(row) => *row *= ty.block_len(),
                None if ty.block_len() > 1 => ne.push(ty.block_len()),
                None => {}
            }
            (ty, ne, seed)
        })
}

fn data(seed: u8, n_bytes: u64) -> Vec<u8> {
    (0..n_bytes)
        .map(|i| seed.wrapping_add((i * 7 % 251) as u8))
        .collect()
}

proptest! {
    #[test]
    fn a_written_file_reads_back(
        entries in prop::collection::btree_map("[a-zü.]{1,12}", value(), 0..8),
        tensors in prop::collection::btree_map("[a-z0-9.]{0,20}", tensor(), 0..6),
        alignment in prop::sample::select(vec![None, Some(1_u32), Some(8), Some(32), Some(4096)]),
        piece_len in 1_usize..100,
    ) {
        let mut writer = GgufWriter::new();
        if let Some(alignment) = alignment {
            writer.set("general.alignment", alignment).unwrap();
        }
        for (key, value) in &entries {
            value.set(&mut writer, key).unwrap();
        }
        for (name, (ty, ne, _)) in &tensors {
            writer.tensor(name, ne, *ty).unwrap();
        }
        let mut out = writer.start(Vec::new()).unwrap();
        for (name, (_, _, seed)) in &tensors {
            let (current, n_bytes) = out.current().unwrap();
            prop_assert_eq!(current, name);
            for piece in data(*seed, n_bytes).chunks(piece_len) {
                out.write(piece).unwrap();
            }
        }
        let file = out.finish().unwrap();

        let gguf = Gguf::parse(&file).unwrap();
        prop_assert_eq!(gguf.alignment(), alignment.map_or(32, u64::from));
        let n_entries = entries.len() + usize::from(alignment.is_some());
        prop_assert_eq!(gguf.metadata().len(), n_entries);
        for (key, value) in &entries {
            let read = gguf.metadata().get(key).unwrap();
            prop_assert!(value.equals(read), "{}: {:?} became {:?}", key, value, read);
        }
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for ((name, (ty, ne, seed)), in_order) in tensors.iter().zip(gguf.tensors()) {
            let read = gguf.tensor(name).unwrap();
            prop_assert_eq!(read.info, in_order.info);
            prop_assert_eq!((read.info.ty(), read.info.ne()), (*ty, &ne[..]));
            prop_assert_eq!(read.data, data(*seed, read.info.n_bytes()));
        }

        // A copy made through the reader is the same file.
        let mut copy = GgufWriter::new();
        copy.set_all(gguf.metadata()).unwrap();
        for tensor in gguf.tensors() {
            copy.tensor(tensor.info.name(), tensor.info.ne(), tensor.info.ty()).unwrap();
        }
        let slices: Vec<&[u8]> = gguf.tensors().map(|tensor| tensor.data).collect();
        prop_assert_eq!(copy.to_bytes(&slices).unwrap(), file);
    }
}
