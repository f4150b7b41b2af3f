//! One product, run again and again.

use std::time::{Duration, Instant};

use quant_kernels::{
    Activations, Cpu, Forms, KernelError, MatMut, MatRef, Product, QuantType, quantize_row,
};

/// What is measured, apart from sizes.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) ty: QuantType,
    /// How long to go on.
    pub(super) duration: Duration,
}

impl Bench<'_> {
    /// Returns the seconds of the fastest of several products of `[n_rows, n_cols]` weights
    /// with `n_tokens` token rows. The activations are quantized before.
    pub(super) fn best(
        &self,
        n_rows: usize,
        n_cols: usize,
        n_tokens: usize,
    ) -> Result<f64, KernelError> {
        let bytes = self.weights(n_rows, n_cols)?;
        let w = MatRef::new(self.ty, n_rows, n_cols, &bytes)?;
        let x: Vec<f32> = (0..n_tokens * n_cols).map(number).collect();
        let x_rows: Vec<u32> = (0..n_tokens as u32).collect();
        let product = Product {
            w,
            up: None,
            x_rows: &x_rows,
            out_row: 0,
            out_col: 0,
        };
        let mut out = vec![0.0; n_tokens * n_rows];
        Ok(self.cpu.enter(|team| {
            let mut activations = Activations::new();
            let forms = Forms::default().with(self.ty.activation_form());
            team.activate(&x, n_cols, forms, &mut activations);
            let mut once = || {
                let start = Instant::now();
                let out = MatMut::new(&mut out, n_rows);
                team.products(std::slice::from_ref(&product), &activations, out);
                start.elapsed().as_secs_f64()
            };
            // The first run maps pages and wakes threads.
            once();
            let start = Instant::now();
            let mut best = once();
            while start.elapsed() < self.duration {
                best = best.min(once());
            }
            best
        }))
    }

    /// Rows of a few hundred different ones, which is all that speed depends on.
    fn weights(&self, n_rows: usize, n_cols: usize) -> Result<Vec<u8>, KernelError> {
        const DIFFERENT: usize = 256;
        let row_bytes = self.ty.row_bytes(n_cols).ok_or(KernelError::RowLength {
            ty: self.ty,
            block_len: self.ty.block_len(),
            n_cols,
        })?;
        let mut bytes = vec![0; n_rows * row_bytes];
        let n = n_rows.min(DIFFERENT);
        let (made, copies) = bytes.split_at_mut(n * row_bytes);
        for (idx, row) in made.chunks_exact_mut(row_bytes).enumerate() {
            let weights: Vec<f32> = (0..n_cols).map(|col| number(idx * n_cols + col)).collect();
            quantize_row(self.ty, &weights, row)?;
        }
        for copy in copies.chunks_mut(made.len()) {
            copy.copy_from_slice(&made[..copy.len()]);
        }
        Ok(bytes)
    }
}

/// Numbers between -1 and 1 without a pattern.
fn number(idx: usize) -> f32 {
    let bits = (idx as u32).wrapping_add(1).wrapping_mul(0x9e37_79b9);
    let bits = (bits ^ bits >> 15).wrapping_mul(0x85eb_ca6b);
    (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::Isa;

    use super::*;

    #[test]
    fn every_type_with_a_quantizer_can_be_measured_and_others_are_errors() {
        let cpu = Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap();
        let best = |ty| {
            let duration = Duration::ZERO;
            let cpu = &cpu;
            Bench { cpu, ty, duration }.best(300, 256, 3)
        };
        for ty in [
            QuantType::F32,
            QuantType::BF16,
            QuantType::Q6_K,
            QuantType::MXFP4,
        ] {
            assert!(best(ty).unwrap() > 0.0, "{ty}");
        }
        let error = best(QuantType::IQ1_S).unwrap_err();
        assert_eq!(
            error,
            KernelError::NoQuantizer {
                ty: QuantType::IQ1_S
            }
        );
    }

    #[test]
    fn numbers_have_mean_zero_and_differ() {
        let numbers: Vec<f32> = (0..10_000).map(number).collect();
        assert!(numbers.iter().all(|x| (-1.0..=1.0).contains(x)));
        assert!(numbers.iter().sum::<f32>().abs() / 10_000.0 < 0.02);
        assert_ne!(numbers[..256], numbers[256..512]);
    }
}
