//! What memory is asked for while panels are multiplied.
//!
//! Packing touches sixteen rows at once, which are more streams than the hardware follows by
//! itself. So while a panel is multiplied, the same part of the sixteen rows that come next
//! is asked for, a few lines at each step: many at once would take the buffers that loads of
//! activations need. After the last rows of a strip come the first ones of the strip that the
//! same thread computes next ([`Strip::next`]).

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use crate::{panel::ROWS, product::Strip};

/// Bytes that come into the cache together.
const LINE: usize = 64;

/// A part of the next sixteen rows, asked for step by step.
#[derive(Debug)]
pub(crate) struct Ahead<'a> {
    rows: &'a [u8],
    row_bytes: usize,
    /// Where the next line begins, and where the part of that row ends.
    line: usize,
    end: usize,
    part_bytes: usize,
    lines_per_step: usize,
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
        let row_bytes = w.row_stride();
        let last = (first + ROWS).min(w.n_rows());
        let (start, end) = (row_bytes * part / n_parts, row_bytes * (part + 1) / n_parts);
        let part_bytes = end - start;
        Self {
            rows: w.rows(first..last).bytes(),
            row_bytes,
            line: start,
            end,
            part_bytes,
            lines_per_step: (ROWS * part_bytes.div_ceil(LINE)).div_ceil(n_steps),
        }
    }

    /// Asks for the next lines.
    #[inline]
    pub(crate) fn step(&mut self) {
        for _ in 0..self.lines_per_step {
            let Some(byte) = self.rows.get(self.line) else {
                return;
            };
            ask_for(byte);
            self.line += LINE;
            if self.line >= self.end {
                self.end += self.row_bytes;
                self.line = self.end - self.part_bytes;
            }
        }
    }
}

/// Asks for the line of a byte, into the second cache.
#[inline]
#[expect(unsafe_code, reason = "an instruction that takes a pointer")]
fn ask_for(byte: &u8) {
    // SAFETY: a prefetch reads nothing, and all processors of this architecture have it.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(byte).cast()) }
}
