//! Seeded random changes of structure: numbers to their extremes, fields removed, doubled
//! and exchanged. Random bytes rarely get past the first count; these do.

use std::{collections::HashSet, mem};

use gguf_format::GgufError;

use crate::{raw_file::RawFile, read_all};

/// A small generator (xorshift64*), so that every run sees the same files.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }
}

/// The sample file after one to four changes.
pub(crate) fn mutated(rng: &mut Rng) -> Vec<u8> {
    let mut file = RawFile::sample();
    for _ in 0..1 + rng.below(4) {
        mutate(&mut file, rng);
    }
    file.bytes()
}

fn mutate(file: &mut RawFile, rng: &mut Rng) {
    let n_fields = file.fields.len();
    if n_fields == 0 {
        return;
    }
    let (a, b) = (rng.below(n_fields), rng.below(n_fields));
    match rng.below(8) {
        0 => drop(file.fields.remove(a)),
        1 => file.fields.insert(b, file.fields[a].clone()),
        2 => file.fields.swap(a, b),
        3 => file.fields.truncate(a),
        4 => file.fields[a].bytes = file.fields[b].bytes.clone(),
        _ => change_number(&mut file.fields[a].bytes, rng),
    }
}

/// Replaces a field by a number at which something might break.
fn change_number(bytes: &mut [u8], rng: &mut Rng) {
    let mut wide = [0; 8];
    let len = bytes.len().min(8);
    wide[..len].copy_from_slice(&bytes[..len]);
    let old = u64::from_le_bytes(wide);
    let new = match rng.below(8) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 => 1_u64 << rng.below(64),
        4 => u64::MAX - rng.below(64) as u64,
        5 => u64::MAX / (1 + rng.below(64) as u64),
        6 => 0,
        _ => rng.below(48) as u64,
    };
    bytes[..len].copy_from_slice(&new.to_le_bytes()[..len]);
}

#[test]
fn structural_mutations_give_a_view_or_an_error() {
    let mut rng = Rng::new(2024);
    let mut n_accepted = 0_u32;
    let mut faults = HashSet::new();
    for _ in 0..50_000 {
        match read_all(&mutated(&mut rng)) {
            Ok(()) => n_accepted += 1,
            Err(fault) => drop(faults.insert(mem::discriminant::<GgufError>(&fault))),
        }
    }
    // The mutations reach deep: most kinds of error occur, and some files stay valid.
    assert!(n_accepted > 1000, "{n_accepted} accepted");
    assert!(faults.len() >= 20, "{} kinds of error", faults.len());
}
