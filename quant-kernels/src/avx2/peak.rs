//! The multiplier, flat out.

use std::{arch::x86_64::*, hint::black_box};

/// Chains that do not wait for each other: more than two instructions take cycles, on a
/// processor that begins two in each.
const CHAINS: usize = 12;

/// Multiplies and sums bytes in registers; returns how many products that were. Of 32
/// products, `vpmaddubsw` leaves sums of two and `vpmaddwd` sums of four: both multiply.
#[target_feature(enable = "avx2")]
pub(super) fn multiply(n_steps: usize) -> usize {
    let (x, ones) = (
        black_box(_mm256_set1_epi8(5)),
        black_box(_mm256_set1_epi16(1)),
    );
    let mut sums = [black_box(_mm256_set1_epi8(3)); CHAINS];
    for _ in 0..n_steps {
        for sum in &mut sums {
            // Each step multiplies what the one before has left, so that none can be
            // left out.
            *sum = _mm256_madd_epi16(_mm256_maddubs_epi16(*sum, x), ones);
        }
    }
    black_box(sums);
    32 * CHAINS * n_steps
}
