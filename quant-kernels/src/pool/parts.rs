//! Parts of buffers that the units of a phase write at the same time.
//!
//! A unit gets rows of one buffer, or the same rows of several; or a rectangle of a matrix.
//! Parts of different units are disjoint, so nobody waits for anybody.
#![expect(unsafe_code, reason = "threads write disjoint parts of a buffer")]

use std::{marker::PhantomData, ops::Range};

use crate::matrix::MatMut;

/// A slice whose disjoint parts are written by several threads.
pub(super) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `slice`, whose callers hand each element to one thread.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self {
            start: data.as_mut_ptr(),
            len: data.len(),
            borrow: PhantomData,
        }
    }

    /// Returns a part.
    ///
    /// # Safety
    /// No two parts in use at the same time may overlap.
    unsafe fn slice(&self, offset: usize, len: usize) -> &'a mut [T] {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "part outside of the slice"
        );
        // SAFETY: the offset is inside the borrowed slice (asserted).
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the part is inside the borrowed slice (asserted), and nobody else has
        // it (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

/// Rows of a buffer; the last may be shorter.
pub(crate) struct Rows<'a, T> {
    data: SharedMut<'a, T>,
    row_len: usize,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(data: &'a mut [T], row_len: usize) -> Self {
        Self {
            data: SharedMut::new(data),
            row_len,
        }
    }
}

/// What is divided by rows: one buffer, or several with as many rows.
pub(crate) trait Table: Sync {
    /// Some rows, of every buffer.
    type Part;

    /// Returns some rows; those that a buffer does not have are left out.
    ///
    /// # Safety
    /// No two parts in use at the same time may have a row in common.
    unsafe fn part(&self, rows: Range<usize>) -> Self::Part;
}

impl<'a, T: Send> Table for Rows<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, rows: Range<usize>) -> &'a mut [T] {
        let [start, end] =
            [rows.start, rows.end].map(|row| (row * self.row_len).min(self.data.len));
        // SAFETY: disjoint rows are disjoint parts.
        unsafe { self.data.slice(start, end - start) }
    }
}

impl<A: Table, B: Table> Table for (A, B) {
    type Part = (A::Part, B::Part);

    unsafe fn part(&self, rows: Range<usize>) -> Self::Part {
        // SAFETY: the caller's promise holds for the first buffer.
        let first = unsafe { self.0.part(rows.clone()) };
        // SAFETY: the caller's promise holds for the second buffer.
        (first, unsafe { self.1.part(rows) })
    }
}

/// A rectangle of an output matrix that one unit may write.
pub(crate) struct TileMut<'a> {
    start: &'a SharedMut<'a, f32>,
    first: usize,
    stride: usize,
    n_rows: usize,
    n_cols: usize,
    exclusive: PhantomData<&'a mut [f32]>,
}

impl MatMut<'_> {
    /// Lends the whole matrix as one tile.
    pub(crate) fn whole<R>(self, work: impl FnOnce(TileMut<'_>) -> R) -> R {
        let (n_rows, n_cols) = (self.n_rows(), self.n_cols);
        let start = SharedMut::new(self.data);
        work(TileMut {
            start: &start,
            first: 0,
            stride: n_cols,
            n_rows,
            n_cols,
            exclusive: PhantomData,
        })
    }
}

impl<'a> TileMut<'a> {
    /// Makes a tile of a matrix whose rows are `stride` long.
    ///
    /// # Safety
    /// No two tiles in use at the same time may overlap.
    pub(super) unsafe fn new(
        start: &'a SharedMut<'a, f32>,
        stride: usize,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Self {
        Self {
            start,
            first: rows.start * stride + cols.start,
            stride,
            n_rows: rows.len(),
            n_cols: cols.len(),
            exclusive: PhantomData,
        }
    }
}

impl TileMut<'_> {
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Returns the tile's columns of its `row`.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.n_rows, "row {row} of {}", self.n_rows);
        // SAFETY: tiles in use are disjoint (the promise of `new`, or the only one), and
        // this unit borrows its tile exclusively.
        unsafe {
            self.start
                .slice(self.first + row * self.stride, self.n_cols)
        }
    }
}
