//! What memory is asked for while panels are multiplied.
//!
//! Packing touches sixteen rows at once, which are more streams than the hardware follows by
//! itself. So while a panel is multiplied, a part of the sixteen rows that come next is asked
//! for: in the order of memory, which lets the hardware help, and a few lines at each step,
//! since many at once would take the buffers that loads of activations need. After the last
//! rows of a strip come the first ones of the strip that the same thread computes next
//! ([`Strip::next`]).

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use crate::{panel::ROWS, product::Strip};

/// Bytes that come into the cache together.
const LINE: usize = 64;

/// A part of the next sixteen rows, asked for step by step.
#[derive(Debug)]
pub(crate) struct Ahead<'a> {
    bytes: &'a [u8],
    bytes_per_step: usize,
}

impl<'a> Ahead<'a> {
    /// Looks ahead while part `part` of `n_parts` of the sixteen rows from `row` on is
    /// multiplied, in `n_steps` steps.
    pub(crate) fn new(
        strip: Strip<'a>,
        row: usize,
        (part, n_parts): (usize, usize),
        n_steps: usize,
    ) -> Self {
        let (w, first) = match strip.next {
            Some(next) if row + ROWS >= strip.w.n_rows() => (next, 0),
            _ => (strip.w, (row + ROWS).min(strip.w.n_rows())),
        };
        let bytes = w.rows(first..w.n_rows().min(first + ROWS)).bytes();
        let bytes = &bytes[bytes.len() * part / n_parts..bytes.len() * (part + 1) / n_parts];
        Self {
            bytes,
            bytes_per_step: bytes.len().div_ceil(n_steps).next_multiple_of(LINE),
        }
    }

    /// Asks for the next lines.
    #[target_feature(enable = "sse")]
    #[inline]
    pub(crate) fn step(&mut self) {
        let (now, later) = self
            .bytes
            .split_at(self.bytes_per_step.min(self.bytes.len()));
        for line in now.chunks(LINE) {
            ask_for(&line[0]);
        }
        self.bytes = later;
    }
}

/// Asks for the line of a byte, into the second cache.
#[target_feature(enable = "sse")]
#[inline]
fn ask_for(byte: &u8) {
    _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(byte).cast());
}
