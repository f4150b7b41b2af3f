//! Blocks mean what ggml says they mean, bit for bit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use quant_kernels::{QuantType, dequantize_row};
use safetensors::SafeTensors;

/// Every type with reference files: all but F32, which stores the values themselves.
fn stored_types() -> impl Iterator<Item = QuantType> {
    QuantType::ALL
        .into_iter()
        .filter(|&ty| ty != QuantType::F32)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data();
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect()
}

/// Asserts that `blocks` dequantize to the bits of `expected`.
fn assert_bits(ty: QuantType, blocks: &[u8], expected: &[f32]) {
    let mut found = vec![0.0; expected.len()];
    dequantize_row(ty, blocks, &mut found);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(
            found.to_bits(),
            expected.to_bits(),
            "{ty}: weight {i}: {found} != {expected}"
        );
    }
}

/// Checks `blocks` against `dequantized` in every file of a folder, named by `file_name`.
fn check_folder(folder: &Path, file_name: impl Fn(&str) -> String) {
    for ty in stored_types() {
        let bytes = fs::read(folder.join(file_name(&ty.name().to_lowercase()))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_bits(
            ty,
            file.tensor("blocks").unwrap().data(),
            &floats(&file, "dequantized"),
        );
    }
}

#[test]
fn ggml_blocks_read_back_as_ggml_reads_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    check_folder(&folder, |name| format!("{name}__ggml.safetensors"));
}

#[test]
fn the_full_reference_set_reads_back_where_it_is_present() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/ggml-quants");
    if !folder.exists() {
        println!("skipped: no {}", folder.display());
        return;
    }
    check_folder(&folder, |name| format!("{name}.safetensors"));
}

/// Blocks made by a quantizer leave many bit patterns out; random ones do not.
#[test]
fn random_blocks_have_the_values_of_the_python_reader() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks__random.safetensors");
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for ty in stored_types().filter(|ty| ty.block_len() > 1) {
        let blocks = file.tensor(&format!("{ty}.blocks")).unwrap();
        assert_bits(ty, blocks.data(), &floats(&file, &format!("{ty}.values")));
    }
}

#[test]
fn f32_rows_are_the_values_themselves() {
    let row = [1.5, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX];
    let bytes: Vec<u8> = row.iter().flat_map(|w: &f32| w.to_le_bytes()).collect();
    assert_bits(QuantType::F32, &bytes, &row);
}
