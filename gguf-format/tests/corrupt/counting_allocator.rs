//! An allocator that knows how much the current thread holds, and its peak.

#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grow(n_bytes: usize) {
    let held = HELD.get().wrapping_add(n_bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

fn shrink(n_bytes: usize) {
    // What another thread allocated may be freed here; `peak_of` measures differences.
    HELD.set(HELD.get().saturating_sub(n_bytes));
}

// SAFETY: every call is passed on to `System` unchanged; the counters are plain cells
// without destructors, so counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises about `layout` are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: `at` came from `System.alloc` above with this `layout`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `work` and returns its result and by how many bytes it raised what is held.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}
