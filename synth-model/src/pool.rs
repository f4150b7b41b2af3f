//! Stretches of quantized weights, made once and used many times.
//!
//! A [`Pool`] holds up to 4,096 stretches of 256 weights in blocks of one type. The stretches
//! of a tensor are numbered along its rows; each run of as many numbers as the pool has
//! stretches takes all of them once, in an order of its own:
//!
//! ```text
//! stretch s of tensor t = pool[shuffle(key(t, s / n), s mod n)]        n = stretches in pool
//! ```
//!
//! So every weight can be computed without its neighbours, no stretch is preferred, tensors
//! that are smaller than the pool hold no stretch twice, and two rows of `k` stretches are
//! equal with a chance of one in `4096^k`.

use quant_kernels::{QuantType, dequantize_row, quantize_row};
use rayon::prelude::*;

use crate::{SynthError, random::Stream};

/// Weights in a stretch: a whole number of blocks of every type.
pub(crate) const STRETCH_LEN: usize = 256;

/// The most stretches in a pool, a power of two.
const MAX_STRETCHES: u64 = 4096;

/// Stretches of weights of one type and deviation.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Bytes of a stretch.
    stretch_bytes: usize,
    /// A power of two.
    n_stretches: u64,
    bytes: Vec<u8>,
}

impl Pool {
    /// Makes the stretches for tensors of up to `n_needed` stretches.
    pub(crate) fn new(
        ty: QuantType,
        deviation: f32,
        n_needed: u64,
        seed: u64,
    ) -> Result<Self, SynthError> {
        let n_stretches = n_needed.min(MAX_STRETCHES).next_power_of_two();
        let stretch_bytes = STRETCH_LEN / ty.block_len() * ty.block_bytes();
        let stream = Stream::new(seed, &format!("{ty} {deviation}"));
        let mut bytes = vec![0; stretch_bytes * n_stretches as usize];
        let stretches = bytes.par_chunks_exact_mut(stretch_bytes).enumerate();
        if has_quantizer(ty) {
            stretches.try_for_each(|(idx, out)| {
                let normal = |i: usize| stream.normal((idx * STRETCH_LEN + i) as u64);
                let weights: [f32; STRETCH_LEN] = std::array::from_fn(|i| deviation * normal(i));
                quantize_row(ty, &weights, out)
            })?;
        } else {
            stretches.for_each(|(idx, out)| random_bytes(stream.fork(idx as u64), out));
            set_scale(ty, 1.0, &mut bytes)?;
            let scale = f64::from(deviation) / root_mean_square(ty, &bytes);
            set_scale(ty, scale as f32, &mut bytes)?;
        }
        Ok(Self {
            stretch_bytes,
            n_stretches,
            bytes,
        })
    }

    /// Writes a row of a tensor; its last stretch may be cut. `first` is the number of the
    /// row's first stretch.
    pub(crate) fn fill_row(&self, tensor: Stream, first: u64, row: &mut [u8]) {
        for (stretch, out) in (first..).zip(row.chunks_mut(self.stretch_bytes)) {
            let key = tensor.word(stretch / self.n_stretches);
            let source = shuffle(key, stretch % self.n_stretches, self.n_stretches);
            let start = source as usize * self.stretch_bytes;
            out.copy_from_slice(&self.bytes[start..start + out.len()]);
        }
    }
}

/// Returns where a permutation of `0..n` sends `idx`; `n` is a power of two.
///
/// Each step is a bijection: adding, multiplying by an odd number, and folding the upper half
/// of the bits into the lower one.
#[inline]
fn shuffle(key: u64, idx: u64, n: u64) -> u64 {
    let mask = n - 1;
    let half_bits = n.ilog2().div_ceil(2);
    let mut x = idx;
    for round in 0..3 {
        let key = key.rotate_right(21 * round);
        x = x.wrapping_add(key) & mask;
        x = x.wrapping_mul(key >> 12 | 1) & mask;
        x ^= x >> half_bits;
    }
    x
}

/// Whether [`quantize_row`] writes the type. The others look weights up in tables in which
/// every index is valid, so random bytes are as good.
fn has_quantizer(ty: QuantType) -> bool {
    !matches!(
        ty,
        QuantType::IQ1_S
            | QuantType::IQ1_M
            | QuantType::IQ2_XXS
            | QuantType::IQ2_XS
            | QuantType::IQ2_S
            | QuantType::IQ3_XXS
            | QuantType::IQ3_S
    )
}

fn random_bytes(stream: Stream, out: &mut [u8]) {
    for (idx, bytes) in (0..).zip(out.chunks_mut(8)) {
        let word = stream.word(idx).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// Sets the half-precision factor of every block: the first two bytes or, in `IQ1_M`, the
/// upper four bits of the last four 16-bit words.
fn set_scale(ty: QuantType, scale: f32, blocks: &mut [u8]) -> Result<(), SynthError> {
    let mut half = [0; 2];
    quantize_row(QuantType::F16, &[scale], &mut half)?;
    let nibbles = [half[0] & 15, half[0] >> 4, half[1] & 15, half[1] >> 4];
    for block in blocks.chunks_exact_mut(ty.block_bytes()) {
        if ty != QuantType::IQ1_M {
            block[..2].copy_from_slice(&half);
            continue;
        }
        let scales = block.len() - 8;
        for (word, nibble) in block[scales..].chunks_exact_mut(2).zip(nibbles) {
            word[1] = word[1] & 15 | nibble << 4;
        }
    }
    Ok(())
}

fn root_mean_square(ty: QuantType, blocks: &[u8]) -> f64 {
    let mut weights = vec![0.0; blocks.len() / ty.block_bytes() * ty.block_len()];
    dequantize_row(ty, blocks, &mut weights);
    let squares: f64 = weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
    (squares / weights.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_gets_the_deviation_asked_for() {
        for ty in QuantType::ALL {
            let deviation = 0.03;
            let pool = Pool::new(ty, deviation, 256, 1).unwrap();
            let found = root_mean_square(ty, &pool.bytes) / f64::from(deviation);
            assert!(
                (found - 1.0).abs() < 0.05,
                "{ty}: {found} times the deviation"
            );
        }
    }

    #[test]
    fn shuffles_are_permutations_that_differ_by_key() {
        for n in [1, 2, 8, 256, 4096] {
            let order = |key| (0..n).map(|idx| shuffle(key, idx, n)).collect::<Vec<_>>();
            let mut sorted = order(0x1234_5678_9abc_def0);
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n), "{n}");
        }
        let moved = (0..4096).filter(|&idx| shuffle(1, idx, 4096) != shuffle(2, idx, 4096));
        assert!(moved.count() > 4000);
    }

    #[test]
    fn rows_of_a_tensor_are_all_different() {
        let pool = Pool::new(QuantType::Q8_0, 1.0, 4096, 1).unwrap();
        let tensor = Stream::new(1, "blk.0.attn_q.weight");
        let n_cols = 768;
        let mut rows = vec![0; 4096 * QuantType::Q8_0.row_bytes(n_cols).unwrap()];
        let row_bytes = rows.len() / 4096;
        for (idx, row) in (0..).zip(rows.chunks_exact_mut(row_bytes)) {
            pool.fill_row(tensor, idx * 3, row);
        }
        let mut rows: Vec<&[u8]> = rows.chunks_exact(row_bytes).collect();
        rows.sort_unstable();
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_row_that_is_no_whole_number_of_stretches_is_cut() {
        let pool = Pool::new(QuantType::Q4_0, 1.0, 16, 1).unwrap();
        let tensor = Stream::new(1, "t");
        let mut long = vec![0; QuantType::Q4_0.row_bytes(512).unwrap()];
        let mut short = vec![0; QuantType::Q4_0.row_bytes(288).unwrap()];
        pool.fill_row(tensor, 0, &mut long);
        pool.fill_row(tensor, 0, &mut short);
        assert_eq!(short, long[..short.len()]);
    }
}
