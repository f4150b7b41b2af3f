//! How fast this machine reads memory: the bound of decoding.
//!
//! Each thread sums its own stretch of a buffer that no cache can hold, several times; the
//! best pass counts. Eight sums side by side leave nothing to wait for but memory. Pages of a
//! mapped file are smaller than those of our own memory may be, so a model is measured on its
//! own pages.

use std::{hint::black_box, num::NonZeroUsize, sync::Barrier, thread, time::Instant};

use moe_model::ModelFile;

use crate::machine;

/// What a pass reads of our own memory, and the least it is worth to read of a file.
const BUFFER_BYTES: usize = 512 << 20;

/// What a pass reads of a file: far more than caches hold, in a fraction of a second.
const FILE_BYTES: usize = 4 << 30;

const N_PASSES: usize = 4;

/// Returns bytes per second, read from a model's own pages; from memory of our own if the
/// model is too small, or does not fit.
pub(crate) fn of_model(file: &ModelFile, n_threads: NonZeroUsize) -> f64 {
    let n_bytes: usize = file.bytes().map(<[u8]>::len).sum();
    let fits = machine::memory().is_none_or(|m| (n_bytes as u64) < m.available);
    if n_bytes < BUFFER_BYTES || !fits {
        return of_memory(n_threads);
    }
    let mut n_left = FILE_BYTES;
    let slices = file.bytes().map(|bytes| {
        let n_read = bytes.len().min(n_left);
        n_left -= n_read;
        &bytes[..n_read]
    });
    of_slices(&slices.collect::<Vec<_>>(), n_threads)
}

/// Returns bytes per second, read from memory of our own.
pub(crate) fn of_memory(n_threads: NonZeroUsize) -> f64 {
    let most = machine::memory().map_or(usize::MAX, |m| {
        usize::try_from(m.available / 4).unwrap_or(usize::MAX)
    });
    of_slices(&[&largest_buffer(BUFFER_BYTES.min(most))], n_threads)
}

/// Returns a buffer of `n_bytes`, or of the next half that can be had.
fn largest_buffer(mut n_bytes: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    while buffer.try_reserve_exact(n_bytes).is_err() {
        n_bytes /= 2;
    }
    buffer.resize(n_bytes, 1);
    buffer
}

/// Returns bytes per second, read from given memory; the first pass only warms up.
fn of_slices(slices: &[&[u8]], n_threads: NonZeroUsize) -> f64 {
    let n_bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    let passes = (0..=N_PASSES).map(|_| {
        let begin = Instant::now();
        read(slices, n_threads);
        n_bytes as f64 / begin.elapsed().as_secs_f64()
    });
    passes.skip(1).fold(0.0, f64::max)
}

/// Reads all slices once, an equal part of each on every thread.
fn read(slices: &[&[u8]], n_threads: NonZeroUsize) {
    let n_threads = n_threads.get();
    let start = Barrier::new(n_threads);
    thread::scope(|scope| {
        for member in 0..n_threads {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for slice in slices {
                    let part = |member| slice.len() * member / n_threads;
                    black_box(sum(&slice[part(member)..part(member + 1)]));
                }
            });
        }
    });
}

fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 8];
    for line in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_line_is_summed() {
        let bytes: Vec<u8> = [1_u8, 0, 0, 0, 0, 0, 0, 0].repeat(16);
        assert_eq!(sum(&bytes), 16);
    }

    #[test]
    fn a_rate_is_positive_however_bytes_are_divided() {
        let bytes = vec![3_u8; 100_000];
        for n_threads in 1..4 {
            let n_threads = NonZeroUsize::new(n_threads).unwrap();
            assert!(of_slices(&[&bytes, &bytes[..77]], n_threads) > 0.0);
        }
    }
}
