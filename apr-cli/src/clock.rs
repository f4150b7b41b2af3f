//! The clock of the core that this runs on, from what it can do in a second.

use std::{hint::black_box, time::Instant};

/// Cycles of a 64-bit multiplication and an exclusive or that wait for each other: three and
/// one on every x86-64 processor since 2008, and on the larger Arm cores.
const CYCLES_PER_STEP: f64 = 4.0;

/// Returns cycles per second, the best of several tries.
pub(crate) fn measure() -> f64 {
    const STEPS: u64 = 2_000_000;
    const TRIES: u32 = 20;
    let one_try = |_| {
        let factor = black_box(0x9e37_79b9_7f4a_7c15_u64);
        let mut x = black_box(3_u64);
        let start = Instant::now();
        for step in 0..STEPS {
            // With another number in each step, compilers cannot merge two multiplications.
            x = x.wrapping_mul(factor) ^ step;
        }
        let elapsed = start.elapsed().as_secs_f64();
        black_box(x);
        STEPS as f64 * CYCLES_PER_STEP / elapsed
    };
    (0..TRIES).map(one_try).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_a_processor() {
        let hertz = measure();
        assert!((2e8..2e10).contains(&hertz), "{hertz}");
    }
}
