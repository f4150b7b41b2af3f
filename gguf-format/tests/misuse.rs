//! What the writer refuses: files that no reader would take, and data that does not fit.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{self, Write};

use gguf_format::{GgmlType, Gguf, GgufError, GgufWriter, TensorDataWriter};

/// A writer that waits for the data of `a` (8 bytes) and `b` (34 bytes).
fn started() -> TensorDataWriter<Vec<u8>> {
    let mut writer = GgufWriter::new();
    writer.tensor("a", &[2], GgmlType::F32).unwrap();
    writer.tensor("b", &[32], GgmlType::Q8_0).unwrap();
    writer.start(Vec::new()).unwrap()
}

#[test]
fn keys_no_reader_takes_are_refused() {
    let mut writer = GgufWriter::new();
    for key in ["", &"k".repeat(65_536)] {
        let refused = writer.set(key, 1_u8).map(|_| ());
        assert!(
            matches!(refused, Err(GgufError::UnwritableKey { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn tensors_no_reader_takes_are_refused() {
    let long = "x".repeat(64);
    let cases: &[(&str, &[u64], GgmlType, &str)] = &[
        (&long, &[1], GgmlType::F32, "64 bytes"),
        ("twice", &[1], GgmlType::F32, "announced before"),
        ("a", &[1; 5], GgmlType::F32, "5 dimensions"),
        ("a", &[2, 0], GgmlType::F32, "dimension 1"),
        ("a", &[u64::MAX, 2], GgmlType::F32, "64 bits"),
        ("a", &[100], GgmlType::Q4_K, "multiple of 256"),
    ];
    let mut writer = GgufWriter::new();
    writer.tensor("twice", &[1], GgmlType::F32).unwrap();
    for (name, ne, ty, reason) in cases {
        let refused = writer.tensor(name, ne, *ty).map(|_| ()).unwrap_err();
        assert!(
            matches!(refused, GgufError::UnwritableTensor { .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(reason), "{refused}");
    }
}

#[test]
fn tensors_that_together_exceed_64_bits_are_refused() {
    let mut writer = GgufWriter::new();
    for name in ["a", "b", "c"] {
        writer.tensor(name, &[1 << 61], GgmlType::F32).unwrap();
    }
    let refused = writer.start(io::sink()).map(|_| ());
    assert!(
        matches!(refused, Err(GgufError::UnwritableTensor { .. })),
        "{refused:?}"
    );
}

#[test]
fn alignments_that_are_no_power_of_two_are_refused() {
    let mut writer = GgufWriter::new();
    for refused in [
        writer.set("general.alignment", 24_u32).map(|_| ()),
        writer.set("general.alignment", 0_u32).map(|_| ()),
        writer.set("general.alignment", "32").map(|_| ()),
    ] {
        assert!(
            matches!(refused, Err(GgufError::InvalidAlignment { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(writer.alignment(), 32);
}

#[test]
fn arrays_nested_deeper_than_the_reader_takes_are_refused() {
    let mut writer = GgufWriter::new();
    writer.set("eight", [[[[[[[[1_u8]]]]]]]]).unwrap();
    let refused = writer.set("nine", [[[[[[[[[1_u8]]]]]]]]]).map(|_| ());
    assert!(
        matches!(refused, Err(GgufError::NestingTooDeep { limit: 8, .. })),
        "{refused:?}"
    );
    Gguf::parse(&writer.to_bytes(&[]).unwrap()).unwrap();
}

#[test]
fn a_key_set_twice_keeps_its_place_and_takes_the_new_value() {
    let mut writer = GgufWriter::new();
    writer
        .set("a", 1_u8)
        .unwrap()
        .set("b", 2_u8)
        .unwrap()
        .set("a", "new")
        .unwrap();
    writer.set("c", 3_u8).unwrap();
    assert!(writer.remove("b") && !writer.remove("b"));
    writer.set("c", 4_u8).unwrap();
    let file = writer.to_bytes(&[]).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(
        gguf.metadata()
            .iter()
            .map(|(key, _)| key)
            .collect::<String>(),
        "ac"
    );
    assert_eq!(gguf.metadata().require::<&str>("a").unwrap(), "new");
    assert_eq!(gguf.metadata().require::<u8>("c").unwrap(), 4);
}

#[test]
fn removing_the_alignment_restores_the_default() {
    let mut writer = GgufWriter::new();
    writer.set("general.alignment", 64_u32).unwrap();
    assert_eq!(writer.alignment(), 64);
    assert!(writer.remove("general.alignment"));
    assert_eq!(writer.alignment(), 32);
}

#[test]
fn data_in_pieces_moves_from_tensor_to_tensor() {
    let mut out = started();
    assert_eq!(out.current(), Some(("a", 8)));
    out.write(&[1; 3]).unwrap();
    assert_eq!(out.current(), Some(("a", 5)));
    out.write(&[]).unwrap();
    out.write(&[2; 5]).unwrap();
    assert_eq!(out.current(), Some(("b", 34)));
    out.write_tensor("b", &[3; 34]).unwrap();
    assert_eq!(out.current(), None);
    let file = out.finish().unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.tensor("a").unwrap().data, [1, 1, 1, 2, 2, 2, 2, 2]);
    assert_eq!(file.len() as u64, gguf.data_offset() + 32 + 64);
}

#[test]
fn too_much_data_is_refused() {
    let fault = started().write(&[0; 9]).unwrap_err();
    assert!(
        matches!(
            fault,
            GgufError::DataLength {
                expected: 8,
                found: 9,
                ..
            }
        ),
        "{fault:?}"
    );
    let mut out = started();
    out.write(&[0; 8]).unwrap();
    out.write(&[0; 34]).unwrap();
    let fault = out.write(&[0]).unwrap_err();
    assert!(matches!(fault, GgufError::DataOrder { .. }), "{fault:?}");
}

#[test]
fn too_little_data_is_refused() {
    let mut out = started();
    out.write(&[0; 7]).unwrap();
    let fault = out.finish().map(|_| ()).unwrap_err();
    assert!(
        matches!(
            fault,
            GgufError::DataLength {
                expected: 8,
                found: 7,
                ..
            }
        ),
        "{fault:?}"
    );
}

#[test]
fn a_tensor_out_of_turn_or_of_the_wrong_length_is_refused() {
    let mut out = started();
    let fault = out.write_tensor("b", &[0; 34]).unwrap_err();
    assert!(
        matches!(&fault, GgufError::DataOrder { found, .. } if found == "b"),
        "{fault:?}"
    );
    let fault = out.write_tensor("a", &[0; 7]).unwrap_err();
    assert!(
        matches!(
            fault,
            GgufError::DataLength {
                expected: 8,
                found: 7,
                ..
            }
        ),
        "{fault:?}"
    );
    out.write(&[0]).unwrap();
    let fault = out.write_tensor("a", &[0; 8]).unwrap_err();
    assert!(matches!(fault, GgufError::DataOrder { .. }), "{fault:?}");
}

#[test]
fn more_slices_than_tensors_are_refused() {
    let mut writer = GgufWriter::new();
    writer.tensor("a", &[1], GgmlType::I8).unwrap();
    let fault = writer.to_bytes(&[&[0], &[0]]).unwrap_err();
    assert!(matches!(fault, GgufError::DataOrder { .. }), "{fault:?}");
}

#[test]
fn a_failing_output_says_what_was_being_written() {
    /// Takes `left` bytes, then fails.
    struct Full {
        left: usize,
    }
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.left);
            if n == 0 {
                return Err(io::Error::other("disk full"));
            }
            self.left -= n;
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (left, expected) in [(10, "the header"), (120, "tensor `a`")] {
        let mut writer = GgufWriter::new();
        writer.tensor("a", &[1 << 10], GgmlType::I8).unwrap();
        let fault = writer
            .start(Full { left })
            .and_then(|mut out| out.write(&[0; 1 << 10]))
            .unwrap_err();
        assert!(
            matches!(&fault, GgufError::Io { what, .. } if what == expected),
            "{fault:?}"
        );
    }
}
