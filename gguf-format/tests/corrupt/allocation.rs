//! Memory: at most twice the file plus one MiB, whatever the file says.

use gguf_format::{Gguf, GgufError};

use crate::{
    counting_allocator::peak_of,
    mutator::{Rng, mutated},
    raw_file::RawFile,
};

const MIB: usize = 1 << 20;

/// Parses under the counter and asserts the bound; returns what was found.
fn parse_within_bound(name: &str, bytes: &[u8]) -> Result<(), GgufError> {
    let (result, peak) = peak_of(|| Gguf::parse(bytes).map(drop));
    assert!(
        peak <= 2 * bytes.len() + MIB,
        "{name}: {peak} bytes for a file of {}",
        bytes.len()
    );
    result
}

fn repeated(n_tensors: u64, n_entries: u64, piece: &[u8], n_pieces: usize) -> Vec<u8> {
    let mut file = RawFile::default();
    file.header(n_tensors, n_entries);
    file.push("pieces", piece.repeat(n_pieces));
    file.bytes()
}

fn piece(build: impl FnOnce(&mut RawFile)) -> Vec<u8> {
    let mut file = RawFile::default();
    build(&mut file);
    file.bytes()
}

#[test]
fn the_counter_counts() {
    let (kept, peak) = peak_of(|| vec![0_u8; 3 * MIB]);
    assert_eq!((kept.len(), peak), (3 * MIB, 3 * MIB));
}

#[test]
fn many_tiny_entries_stay_within_the_bound() {
    let entry = piece(|file| {
        file.entry("k", 0);
        file.push("value", [0]);
    });
    let n = 200_000;
    let result = parse_within_bound("equal keys", &repeated(0, n, &entry, n as usize));
    assert!(
        matches!(result, Err(GgufError::DuplicateKey { .. })),
        "{result:?}"
    );

    let mut file = RawFile::default();
    file.header(0, n);
    for i in 0..n {
        file.entry(&format!("{i:x}"), 7);
        file.push("value", [1]);
    }
    parse_within_bound("unique keys", &file.bytes()).unwrap();
}

#[test]
fn many_tiny_tensors_stay_within_the_bound() {
    let tensor = piece(|file| file.tensor("", &[], 24, 0));
    let n = 150_000;
    let result = parse_within_bound("equal tensors", &repeated(n, 0, &tensor, n as usize));
    assert!(
        matches!(result, Err(GgufError::DuplicateTensor { .. })),
        "{result:?}"
    );

    let mut file = RawFile::default();
    file.header(n, 1);
    file.entry("general.alignment", 4);
    file.push("alignment", 1_u32.to_le_bytes());
    (0..n).for_each(|i| file.tensor(&format!("{i:x}"), &[], 24, i));
    file.push("data", vec![0; n as usize]);
    parse_within_bound("unique tensors", &file.bytes()).unwrap();
    let last = file.fields.len() - 1;
    file.fields[last].bytes.pop();
    let result = parse_within_bound("one byte short", &file.bytes());
    assert!(
        matches!(result, Err(GgufError::TensorOutOfFile { .. })),
        "{result:?}"
    );
}

#[test]
fn large_counts_reserve_no_more_than_the_file_could_hold() {
    let zeros = vec![0; 8 * MIB];
    for n in [1 << 10, 1 << 19, 599_186, 1 << 32, 1 << 60, u64::MAX] {
        for (n_tensors, n_entries) in [(n, 0), (0, n), (n, n)] {
            let result = parse_within_bound("counts", &repeated(n_tensors, n_entries, &zeros, 1));
            assert!(result.is_err(), "{n}");
        }
    }
}

#[test]
fn large_arrays_cost_nothing() {
    let nested = piece(|file| file.array("inner", 9, 0));
    let mut file = RawFile::default();
    file.header(0, 1);
    file.entry("a", 9);
    file.array("outer", 9, 500_000);
    file.push("elements", nested.repeat(500_000));
    let bytes = file.bytes();
    let (parsed, peak) = peak_of(|| Gguf::parse(&bytes));
    assert!(parsed.is_ok() && peak < 1024, "{peak}");
}

#[test]
fn mutated_files_stay_within_the_bound() {
    let mut rng = Rng::new(7);
    for case in 0..20_000 {
        let bytes = mutated(&mut rng);
        let (_, peak) = peak_of(|| Gguf::parse(&bytes).map(drop));
        // Far below one MiB: messages are short, and small files have small tables.
        assert!(
            peak <= 2 * bytes.len() + 4096,
            "case {case}: {peak} for {}",
            bytes.len()
        );
    }
}
