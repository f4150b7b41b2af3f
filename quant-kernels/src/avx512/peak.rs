//! The multiplier, flat out.

use std::{arch::x86_64::*, hint::black_box};

/// Sums that do not wait for each other: more than an instruction takes cycles, on a
/// processor that begins two in each.
const CHAINS: usize = 16;

/// Multiplies and sums bytes in registers; returns how many products that were.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply(n_steps: usize) -> usize {
    let (w, x) = (
        black_box(_mm512_set1_epi8(3)),
        black_box(_mm512_set1_epi8(5)),
    );
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..n_steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, w, x);
        }
    }
    black_box(sums);
    64 * CHAINS * n_steps
}
