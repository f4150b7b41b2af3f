//! Our quantizers are at least as good as ggml's, refuse what they cannot store, and write
//! zeros as zeros.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, ops::Range, path::Path};

use proptest::{collection::vec, prelude::*};
use quant_kernels::{
    Isa, KernelError, QuantType, dequantize_row, quantize_row, quantize_row_weighted,
};
use safetensors::SafeTensors;

/// The types that can be written besides F32, which has no error.
const WRITABLE: [QuantType; 15] = [
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q8_0,
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q2_K,
    QuantType::Q3_K,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
    QuantType::IQ4_NL,
    QuantType::IQ4_XS,
    QuantType::MXFP4,
];

/// [`hash`] of the blocks of all test rows.
const BLOCKS: [&str; 15] = [
    "F16 0db9dfe68523bf42",
    "BF16 925e63cf8883aa78",
    "Q8_0 8dd2a496584df2b7",
    "Q4_0 6199fc9b2208a864",
    "Q4_1 25b1be0307770d0c",
    "Q5_0 5d4c77be291c7459",
    "Q5_1 c8c4c5b56bafbc87",
    "Q2_K 20b7fc4ef8677524",
    "Q3_K bfa944cc3f15a258",
    "Q4_K b1c2b03340242c66",
    "Q5_K dfefdb0bd0eaacfc",
    "Q6_K 6afc9d2d8455c54f",
    "IQ4_NL 7421e705f908f635",
    "IQ4_XS 3b07328f13538d34",
    "MXFP4 8e0e1e340d77b468",
];

fn read(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name),
    )
    .unwrap()
}

fn read_ggml(ty: QuantType) -> Vec<u8> {
    read(&format!("{}__ggml.safetensors", ty.name().to_lowercase()))
}

/// The twelve rows of 1024 weights.
fn source() -> Vec<Vec<f32>> {
    let bytes = read("rows__source.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = file.tensor("source").unwrap().data().as_chunks().0;
    let values: Vec<f32> = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
    values.chunks(1024).map(<[f32]>::to_vec).collect()
}

fn quantize(ty: QuantType, row: &[f32]) -> Result<Vec<u8>, KernelError> {
    let mut blocks = vec![0xaa; ty.row_bytes(row.len()).unwrap()];
    quantize_row(ty, row, &mut blocks).map(|()| blocks)
}

fn there_and_back(ty: QuantType, row: &[f32]) -> Vec<f32> {
    let mut back = vec![0.0; row.len()];
    dequantize_row(ty, &quantize(ty, row).unwrap(), &mut back);
    back
}

/// Root of the mean squared difference.
fn rmse(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn the_error_of_every_row_is_at_most_ggmls() {
    for ty in WRITABLE {
        let bytes = read_ggml(ty);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let theirs = file.tensor("rmse").unwrap().data().as_chunks().0;
        assert_eq!(theirs.len(), 12);
        for (idx, (row, &theirs)) in source().iter().zip(theirs).enumerate() {
            let (ours, theirs) = (
                rmse(row, &there_and_back(ty, row)),
                f64::from_le_bytes(theirs),
            );
            assert!(
                ours <= 1.01 * theirs,
                "{ty}: row {idx}: {ours} against {theirs}"
            );
        }
    }
}

#[test]
fn half_floats_are_written_as_ggml_writes_them() {
    for ty in [QuantType::F16, QuantType::BF16] {
        let bytes = read_ggml(ty);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ours: Vec<u8> = source()
            .iter()
            .flat_map(|row| quantize(ty, &row[..256]).unwrap())
            .collect();
        assert_eq!(ours, file.tensor("blocks").unwrap().data(), "{ty}");
    }
}

#[test]
fn f32_rows_come_back_unchanged() {
    let row = [1.5, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX];
    let back = there_and_back(QuantType::F32, &row);
    assert!(
        back.iter()
            .zip(row)
            .all(|(back, w)| back.to_bits() == w.to_bits())
    );
}

#[test]
fn zeros_become_zero_bytes() {
    for ty in WRITABLE {
        let blocks = quantize(ty, &[0.0; 512]).unwrap();
        assert!(blocks.iter().all(|&byte| byte == 0), "{ty}");
    }
}

/// FNV-1a over some bytes.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A change here changes every file that is quantized: on purpose, or not at all.
#[test]
fn blocks_of_the_test_rows_are_these_bytes() {
    let rows = source();
    let of_type = |ty: QuantType| {
        let blocks = rows.iter().flat_map(|row| quantize(ty, row).unwrap());
        format!("{ty} {:016x}", hash(&blocks.collect::<Vec<u8>>()))
    };
    let found = WRITABLE.map(of_type);
    assert_eq!(found, BLOCKS);
}

/// Sixteen sub-blocks are searched together, and what is left over as if there were more.
#[test]
fn every_instruction_set_and_every_cut_gives_the_same_blocks() {
    let importance = uneven(1024);
    for ty in WRITABLE {
        for row in source() {
            for importance in [None, Some(importance.as_slice())] {
                let blocks = |isa: Isa, range: Range<usize>| {
                    let mut blocks = vec![0xaa; ty.row_bytes(range.len()).unwrap()];
                    let importance = importance.map(|all| &all[range.clone()]);
                    isa.quantize_row(ty, &row[range], importance, &mut blocks)
                        .unwrap();
                    blocks
                };
                let whole = blocks(Isa::SCALAR, 0..1024);
                for isa in Isa::available() {
                    assert!(blocks(isa, 0..1024) == whole, "{ty}, {isa}");
                    let parts = [blocks(isa, 0..256), blocks(isa, 256..1024)].concat();
                    assert!(parts == whole, "{ty}, {isa}, cut");
                }
            }
        }
    }
}

/// Types that have something to choose and so heed what matters.
const HEEDFUL: [QuantType; 11] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q2_K,
    QuantType::Q3_K,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
    QuantType::IQ4_NL,
    QuantType::IQ4_XS,
];

/// Σp(a − b)².
fn weighted_error(a: &[f32], b: &[f32], importance: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).zip(importance);
    pairs
        .map(|((a, b), p)| f64::from(*p) * (f64::from(*a) - f64::from(*b)).powi(2))
        .sum()
}

fn quantize_weighted(ty: QuantType, row: &[f32], importance: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xaa; ty.row_bytes(row.len()).unwrap()];
    quantize_row_weighted(ty, row, importance, &mut blocks).unwrap();
    blocks
}

/// Importance as activations have it: most columns alike, few of a hundred times the square.
fn uneven(len: usize) -> Vec<f32> {
    let of = |i: usize| {
        if i.is_multiple_of(29) {
            100.0
        } else {
            1.0 + (i % 5) as f32
        }
    };
    (0..len).map(of).collect()
}

#[test]
fn importance_lowers_the_error_where_it_counts() {
    let rows = source();
    let importance = uneven(1024);
    for ty in HEEDFUL {
        let (mut plain, mut weighted) = (0.0, 0.0);
        // Normal and heavy-tailed rows; in the others there is little to choose.
        for row in &rows[..2] {
            let mut back = vec![0.0; row.len()];
            dequantize_row(ty, &quantize_weighted(ty, row, &importance), &mut back);
            weighted += weighted_error(row, &back, &importance);
            plain += weighted_error(row, &there_and_back(ty, row), &importance);
        }
        assert!(weighted < 0.95 * plain, "{ty}: {weighted} against {plain}");
    }
}

/// `Q4_1` alone is searched longer with importance than without.
#[test]
fn importance_without_differences_changes_nothing() {
    for ty in WRITABLE {
        for row in source() {
            let plain = match ty {
                QuantType::Q4_1 => quantize_weighted(ty, &row, &[1.0; 1024]),
                _ => quantize(ty, &row).unwrap(),
            };
            for same in [0.0, 1e-30, 1.0, 1e30, f32::MAX] {
                let blocks = quantize_weighted(ty, &row, &[same; 1024]);
                assert!(blocks == plain, "{ty}, {same}");
            }
        }
    }
}

#[test]
fn weights_that_do_not_matter_are_kept_all_the_same() {
    let row: Vec<f32> = (0..256).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let importance: Vec<f32> = (0..256).map(|i| f32::from(u8::from(i < 100))).collect();
    for ty in HEEDFUL {
        let mut back = vec![0.0; 256];
        dequantize_row(ty, &quantize_weighted(ty, &row, &importance), &mut back);
        let error = rmse(&row[128..], &back[128..]);
        assert!(
            error < 0.3 * rmse(&row[128..], &[0.0; 128]),
            "{ty}: {error}"
        );
    }
}

#[test]
fn importance_that_measures_nothing_is_refused() {
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let mut importance = [1.0; 256];
        importance[13] = bad;
        let found = quantize_row_weighted(QuantType::Q4_0, &[1.0; 256], &importance, &mut [0; 144]);
        assert_eq!(found, Err(KernelError::Importance { idx: 13 }));
    }
}

#[test]
fn other_types_have_no_quantizer() {
    for ty in QuantType::ALL {
        if ty != QuantType::F32 && !WRITABLE.contains(&ty) {
            assert_eq!(
                quantize(ty, &[0.0; 256]),
                Err(KernelError::NoQuantizer { ty })
            );
        }
    }
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    for ty in WRITABLE {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = [1.0; 256];
            row[77] = value;
            row[200] = f32::NAN;
            assert_eq!(
                quantize(ty, &row),
                Err(KernelError::NotFinite { idx: 77 }),
                "{ty}"
            );
        }
    }
}

#[test]
fn values_that_would_become_infinite_are_refused() {
    for ty in WRITABLE {
        let mut row = [1.0; 256];
        row[9] = f32::MAX;
        let found = quantize(ty, &row);
        if ty == QuantType::MXFP4 {
            assert!(there_and_back(ty, &row)[9].is_finite());
        } else {
            assert_eq!(found, Err(KernelError::NotFinite { idx: 9 }), "{ty}");
        }
    }
}

#[test]
fn a_row_of_part_blocks_is_an_error() {
    let (ty, block_len, n_cols) = (QuantType::Q4_K, 256, 100);
    let found = quantize_row(ty, &[0.0; 100], &mut []);
    assert_eq!(
        found,
        Err(KernelError::RowLength {
            ty,
            block_len,
            n_cols
        })
    );
}

proptest! {
    /// Over the whole range of magnitudes, also where half-precision factors are subnormal or
    /// vanish, quantizing is never worse than writing zeros.
    #[test]
    fn any_row_comes_back_nearer_than_zero(
        mantissas in vec(-1.0f32..1.0, 256),
        spread in 0..40,
        exponent in -60..16,
    ) {
        let row: Vec<f32> = mantissas
            .iter()
            .enumerate()
            .map(|(i, m)| m * 2f32.powi(exponent - spread * (i as i32 / 16) / 16))
            .collect();
        for ty in WRITABLE {
            let back = there_and_back(ty, &row);
            prop_assert!(back.iter().all(|w| w.is_finite()), "{}", ty);
            let (ours, zeros) = (rmse(&row, &back), rmse(&row, &[0.0; 256]));
            prop_assert!(ours <= zeros * 1.000_001, "{}: {} against {}", ty, ours, zeros);
        }
    }
}

/// Least squares may ask for an offset that half precision does not have.
#[test]
fn the_largest_weights_are_kept() {
    let row: Vec<f32> = (0..256)
        .map(|i| 65504.0 * ((i * 37 % 64) as f32 / 31.5 - 1.0))
        .collect();
    for ty in WRITABLE {
        let error = rmse(&row, &there_and_back(ty, &row));
        assert!(error < 0.4 * rmse(&row, &[0.0; 256]), "{ty}: {error}");
    }
}

#[test]
fn mxfp4_keeps_the_size_of_huge_weights() {
    for size in [1e10f32, 1e20, 1e30, 1e38] {
        let row = [size; 32];
        let mut bytes = [0; 17];
        quantize_row(QuantType::MXFP4, &row, &mut bytes).expect("finite weights");
        let mut back = [0.0; 32];
        dequantize_row(QuantType::MXFP4, &bytes, &mut back);
        assert!(
            back.iter().all(|w| (w / size - 1.0).abs() < 0.35),
            "{size}: {}",
            back[0]
        );
    }
}
