//! What the multipliers of this processor could do, if they did nothing else.

use quant_kernels::Cpu;

use crate::clock;

/// Returns products of bytes per second, of all threads together, at the clock measured now.
pub(super) fn products_per_second(cpu: &Cpu) -> f64 {
    per_cycle(cpu.isa().name()) * clock::measure() * cpu.n_threads().get() as f64
}

/// Products of bytes that are multiplied and summed to 32 bits per cycle and core.
///
/// AVX-512: one 512-bit `vpdpbusd` per cycle, on all processors that have it at least.
/// AVX2: two multiplying instructions of 256 bits per cycle, and a dot product takes two,
/// `vpmaddubsw` of 32 products and `vpmaddwd` to sum them in 32 bits. Portable code is held
/// to the same, since it runs on the same multipliers.
fn per_cycle(isa: &str) -> f64 {
    match isa {
        "avx512" => 64.0,
        _ => 32.0,
    }
}
