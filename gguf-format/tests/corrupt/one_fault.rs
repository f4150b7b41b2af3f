//! One broken field each, and the error that names it.

use gguf_format::{FileKind, Gguf, GgufError};

use crate::{raw_file::RawFile, read_all};

fn u32(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn u64(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

fn fault(bytes: &[u8]) -> GgufError {
    Gguf::parse(bytes).expect_err("the file is broken")
}

/// The error about a file with one field replaced, and where the field starts.
fn broken(label: &str, bytes: impl AsRef<[u8]>) -> (GgufError, u64) {
    let file = RawFile::sample().with(label, bytes);
    let at = file.offset(label);
    (fault(&file.bytes()), at)
}

/// Asserts that an error is the one expected, and shows it if it is not.
macro_rules! assert_fault {
    ($fault:expr, $pattern:pat $(if $guard:expr)?) => {
        let fault = $fault;
        assert!(matches!(&fault, $pattern $(if $guard)?), "{fault:?}");
    };
}

#[test]
fn the_unbroken_sample_is_accepted() {
    read_all(&RawFile::sample().bytes()).unwrap();
}

#[test]
fn version_2_is_the_same_layout() {
    let file = RawFile::sample().with("version", u32(2)).bytes();
    assert_eq!(Gguf::parse(&file).unwrap().version(), 2);
}

#[test]
fn other_files_are_called_by_their_name() {
    let cases: &[(&[u8], FileKind)] = &[
        (b"", FileKind::Empty),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
            FileKind::GitLfsPointer,
        ),
        (b"<!DOCTYPE html>\n<html>", FileKind::HtmlPage),
        (b"PK\x03\x04\x00\x00", FileKind::Zip),
        (b"\x10\x01\0\0\0\0\0\0{\"a\":{}}", FileKind::Safetensors),
        (b"\x80\x02}q\x00", FileKind::Pickle),
        (b"lmgg", FileKind::LegacyGgml),
        (b"garbage", FileKind::Unknown),
    ];
    for (bytes, expected) in cases {
        assert_fault!(fault(bytes), GgufError::NotGguf { kind, .. } if kind == expected);
    }
    let message = fault(cases[1].0).to_string();
    assert!(message.contains("git lfs pull"), "{message}");
}

#[test]
fn a_file_cut_inside_the_magic_is_truncated() {
    assert_fault!(
        fault(b"GG"),
        GgufError::Truncated {
            offset: 0,
            needed: 4,
            available: 2,
            ..
        }
    );
}

#[test]
fn a_big_endian_file_is_named() {
    for version in [2_u32, 3] {
        let (error, at) = broken("version", version.to_be_bytes());
        assert_fault!(error, GgufError::BigEndian { offset, version: found }
            if *offset == at && *found == version);
    }
}

#[test]
fn unknown_versions_are_refused() {
    for version in [0_u32, 1, 4, 65_536, u32::MAX] {
        let (error, at) = broken("version", u32(version));
        assert_fault!(error, GgufError::UnsupportedVersion { offset, found }
            if *offset == at && *found == version);
    }
}

#[test]
fn a_cut_in_any_field_names_field_and_lengths() {
    // The counts are lowered to what the cut file could hold, or they would be refused.
    let cases = [
        ("version", 8, 3, "version", 4),
        ("n_tensors", 8, 3, "number of tensors", 8),
        ("n_entries", 8, 3, "number of metadata entries", 8),
        ("a.wide type", 4, 0, "value type of `a.wide`", 4),
        ("a.wide value", 4, 0, "value of `a.wide`", 8),
        ("other ne1", 8, 2, "dimensions of `other`", 8),
        ("other type", 8, 2, "type of `other`", 4),
        ("third offset", 8, 3, "data offset of `third`", 8),
    ];
    for (label, n_entries, n_tensors, name, len) in cases {
        let file = RawFile::sample()
            .with("n_entries", u64(n_entries))
            .with("n_tensors", u64(n_tensors));
        let at = file.offset(label);
        assert_fault!(
            fault(&file.cut_inside(label)),
            GgufError::Truncated { field, offset, needed, available: 1 }
                if field == name && *offset == at && *needed == len
        );
    }
}

#[test]
fn a_count_beyond_the_file_is_refused_before_it_is_believed() {
    for count in [1000, u64::from(u32::MAX), u64::MAX] {
        for label in [
            "n_entries",
            "n_tensors",
            "a.ints length",
            "a.text length",
            "a.deep length",
        ] {
            let (error, at) = broken(label, u64(count));
            assert_fault!(error, GgufError::CountTooLarge { offset, count: found, .. }
                if *offset == at && *found == count);
        }
    }
}

#[test]
fn a_length_beyond_the_file_is_refused() {
    for len in [1 << 20, u64::MAX] {
        for label in [
            "a.name key length",
            "a.name value length",
            "first name length",
        ] {
            let (error, at) = broken(label, u64(len));
            assert_fault!(error, GgufError::Truncated { offset, needed, .. }
                if *offset == at + 8 && *needed == len);
        }
    }
}

#[test]
fn text_that_is_no_utf8_is_located() {
    for label in [
        "a.name key",
        "a.text element 1",
        "a.deep 1 element",
        "first name",
    ] {
        let len = if label == "first name" { 5 } else { 2 };
        let mut text = vec![b'a'; if label == "a.name key" { 6 } else { len }];
        text[1] = 0xff;
        let (error, at) = broken(label, &text);
        assert_fault!(error, GgufError::InvalidUtf8 { offset, .. } if *offset == at + 1);
    }
}

#[test]
fn an_empty_key_is_refused() {
    let file = RawFile::sample()
        .with("a.name key length", u64(0))
        .with("a.name key", "");
    let at = file.offset("a.name key length");
    assert_fault!(fault(&file.bytes()), GgufError::EmptyKey { offset } if *offset == at);
}

#[test]
fn a_key_that_occurs_twice_is_named_with_both_places() {
    let file = RawFile::sample().with("a.wide key", "a.bool");
    let places = (file.offset("a.bool type"), file.offset("a.wide type"));
    assert_fault!(fault(&file.bytes()), GgufError::DuplicateKey { key, first, offset }
        if key == "a.bool" && (*first, *offset) == places);
}

#[test]
fn an_unknown_value_type_is_refused_at_every_depth() {
    let labels = [
        "a.wide type",
        "a.ints element type",
        "a.deep 0 element type",
    ];
    for label in labels {
        for tag in [13, u32::MAX] {
            let (error, at) = broken(label, u32(tag));
            assert_fault!(error, GgufError::UnknownValueType { offset, found, .. }
                if *offset == at && *found == tag);
        }
    }
}

#[test]
fn a_bool_of_two_is_refused() {
    for label in ["a.bool value", "a.flag element 1"] {
        let (error, at) = broken(label, [2]);
        assert_fault!(error, GgufError::InvalidBool { offset, found: 2, .. } if *offset == at);
    }
}

#[test]
fn arrays_nest_eight_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let mut file = RawFile::default();
        file.header(0, 1);
        file.entry("bomb", 9);
        (1..depth).for_each(|_| file.array("outer", 9, 1));
        file.array("inner", 4, 1);
        file.push("value", u32(7));
        file.bytes()
    };
    read_all(&nested(8)).unwrap();
    for depth in [9, 10, 100_000] {
        assert_fault!(fault(&nested(depth)), GgufError::NestingTooDeep { field, limit: 8, .. }
            if field == "value of `bomb`");
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 3, 24, u32::MAX] {
        let (error, at) = broken("alignment", u32(alignment));
        assert_fault!(error, GgufError::InvalidAlignment { offset, found }
            if *offset == at - 4 && *found == format!("u32 {alignment}"));
    }
    let (error, _) = broken("general.alignment type", u32(6));
    assert_fault!(error, GgufError::InvalidAlignment { .. });
}

#[test]
fn five_dimensions_are_refused() {
    for n_dims in [5, u32::MAX] {
        let (error, at) = broken("first n_dims", u32(n_dims));
        assert_fault!(error, GgufError::TooManyDimensions { name, offset, found }
            if name == "first" && *offset == at && *found == n_dims);
    }
}

#[test]
fn a_dimension_of_zero_is_refused() {
    let (error, _) = broken("other ne1", u64(0));
    assert_fault!(error, GgufError::ZeroDimension { name, dimension: 1, .. } if name == "other");
}

#[test]
fn dimensions_whose_product_wraps_are_refused() {
    // The last one has fewer than 2^64 weights, but more bytes.
    for rows in [u64::MAX, 1 << 59, 550_000_000_000_000_000] {
        let (error, _) = broken("other ne1", u64(rows));
        assert_fault!(error, GgufError::DimensionsOverflow { name, ne, .. }
            if name == "other" && *ne == [32, rows]);
    }
}

#[test]
fn unknown_and_removed_types_are_told_apart() {
    let (error, at) = broken("first type", u32(9999));
    assert_fault!(error, GgufError::UnknownType { offset, found: 9999, .. } if *offset == at);
    let removed = [
        (4, "Q4_2"),
        (5, "Q4_3"),
        (31, "Q4_0_4_4"),
        (32, "Q4_0_4_8"),
        (33, "Q4_0_8_8"),
        (36, "IQ4_NL_4_4"),
        (37, "IQ4_NL_4_8"),
        (38, "IQ4_NL_8_8"),
    ];
    for (tag, called) in removed {
        let (error, at) = broken("first type", u32(tag));
        assert_fault!(error, GgufError::RemovedType { offset, found, type_name, .. }
            if *offset == at && *found == tag && *type_name == called);
    }
}

#[test]
fn a_row_that_is_no_multiple_of_the_block_is_refused() {
    let (error, _) = broken("other ne0", u64(33));
    assert_fault!(error, GgufError::PartialBlock { name, ne0: 33, .. } if name == "other");
}

#[test]
fn a_misaligned_offset_is_refused() {
    let (error, at) = broken("other offset", u64(33));
    assert_fault!(error, GgufError::MisalignedTensor { offset, found: 33, alignment: 32, .. }
        if *offset == at);
}

#[test]
fn data_beyond_the_file_is_refused_also_when_its_end_wraps() {
    for data_offset in [160, 1 << 40, u64::MAX - 31] {
        let (error, at) = broken("third offset", u64(data_offset));
        assert_fault!(error, GgufError::TensorOutOfFile { name, offset, data_offset: found, .. }
            if name == "third" && *offset == at && *found == data_offset);
    }
    let mut bytes = RawFile::sample().bytes();
    bytes.pop();
    assert_fault!(
        fault(&bytes),
        GgufError::TensorOutOfFile {
            n_bytes: 8,
            available: 135,
            ..
        }
    );
}

#[test]
fn tensors_that_share_bytes_are_both_named() {
    let (error, at) = broken("third offset", u64(64));
    assert_fault!(error, GgufError::OverlappingTensors { first, second, offset, overlap: 36 }
        if first == "other" && second == "third" && *offset == at);
}

#[test]
fn a_tensor_name_that_occurs_twice_is_named_with_both_places() {
    let file = RawFile::sample().with("third name", "first");
    let places = (file.offset("first n_dims"), file.offset("third n_dims"));
    assert_fault!(fault(&file.bytes()), GgufError::DuplicateTensor { name, first, offset }
        if name == "first" && (*first, *offset) == places);
}

#[test]
fn names_from_the_file_are_escaped_and_shortened() {
    let name = format!("\u{1b}[31m\n{}", "x".repeat(10_000));
    let mut file = RawFile::default();
    file.header(1, 0);
    file.tensor(&name, &[0], 0, 0);
    let message = fault(&file.bytes()).to_string();
    assert!(
        message.starts_with("tensor `\\u{1b}[31m\\nxxx"),
        "{message}"
    );
    assert!(message.len() < 200 && !message.contains('\n'), "{message}");
}

#[test]
fn missing_and_mistyped_values_name_key_expected_and_found() {
    let bytes = RawFile::sample().bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let metadata = gguf.metadata();
    assert_fault!(metadata.require::<u32>("a.none").unwrap_err(),
        GgufError::MissingKey { key, expected } if key == "a.none" && expected == "u32");
    assert_fault!(metadata.require::<u32>("a.name").unwrap_err(),
        GgufError::WrongType { key, expected, found, .. }
        if key == "a.name" && expected == "u32" && found == "string");
    assert_fault!(metadata.require::<Vec<&str>>("a.ints").unwrap_err(),
        GgufError::WrongType { expected, found, .. }
        if expected == "array of string" && found == "array of 3 × i32");
    assert_fault!(
        metadata.require::<u8>("general.alignment.x").unwrap_err(),
        GgufError::MissingKey { .. }
    );
    assert_fault!(
        metadata.require::<f32>("a.bool").unwrap_err(),
        GgufError::WrongType { .. }
    );
    assert_eq!(metadata.optional::<u32>("a.none").unwrap(), None);
    assert_eq!(metadata.require::<u8>("general.alignment").unwrap(), 32);
    assert_eq!(metadata.require::<Vec<u64>>("a.ints").unwrap(), [1, 2, 3]);
    assert_fault!(gguf.tensor("none").unwrap_err(),
        GgufError::MissingTensor { name, n_tensors: 3 } if name == "none");
}

#[test]
fn a_number_out_of_range_is_not_a_wrong_type() {
    let mut file = RawFile::default();
    file.header(0, 1);
    file.entry("n", 5);
    file.push("value", (-1_i32).to_le_bytes());
    let bytes = file.bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_fault!(gguf.metadata().require::<u32>("n").unwrap_err(),
        GgufError::OutOfRange { key, expected, found, .. }
        if key == "n" && expected == "u32" && found == "i32 -1");
}
