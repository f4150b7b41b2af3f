//! What the multipliers of this processor can do, if they do nothing else.

use std::time::Instant;

use quant_kernels::Cpu;

/// Steps that a thread multiplies at a time: some tens of microseconds.
const STEPS: usize = 20_000;
/// How many times each thread does so in a try.
const TIMES: usize = 128;
const TRIES: usize = 20;

/// Measures products of bytes that are multiplied and summed to 32 bits per second, of all
/// threads together, with the widest instructions of the kernels: the best of several tries.
/// `None` for portable code.
pub(crate) fn products_per_second(cpu: &Cpu) -> Option<f64> {
    let mut counts = vec![None; TIMES * cpu.n_threads().get()];
    let mut best = 0.0_f64;
    for _ in 0..TRIES {
        let start = Instant::now();
        cpu.enter(|team| {
            team.for_each_chunk(&mut counts, 1, |_, count| {
                count[0] = team.isa().multiply_flat_out(STEPS);
            });
        });
        let seconds = start.elapsed().as_secs_f64();
        let n_products = counts.iter().copied().sum::<Option<usize>>()?;
        best = best.max(n_products as f64 / seconds);
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::Isa;

    use super::*;

    #[test]
    fn the_peak_is_that_of_a_processor() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, NonZeroUsize::MIN).unwrap();
            let peak = products_per_second(&cpu);
            assert_eq!(peak.is_none(), isa == Isa::SCALAR);
            assert!(
                peak.is_none_or(|peak| (1e9..1e13).contains(&peak)),
                "{isa}: {peak:?}"
            );
        }
    }
}
