//! Decoding allocates nothing once buffers have grown to their size.
//!
//! The counter counts every thread: with two of them half of the work is done elsewhere.
#![expect(
    unsafe_code,
    reason = "a counting allocator has to implement an unsafe trait"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    error::Error,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use moe_model::{Model, ModelFile, State, StateOptions, forward_qwen3_moe};
use quant_kernels::{Cpu, Isa};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

static N_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: both methods hand their arguments to `System` unchanged; the counter is a static
// atomic, so touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System.alloc` above with this `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes with caches that are long enough for attention to be spread over the threads.
#[test]
fn decoding_allocates_nothing_after_warm_up() -> Result<(), Box<dyn Error>> {
    const N_CTX: usize = 700;
    let mix = TypeMix::Q4_K_M;
    let synth = SynthModel {
        geometry: Geometry::TINY,
        mix,
        vocab: Vocab::ByteLevel,
        seed: 5,
    };
    let file = ModelFile::from_bytes("synthetic", synth.to_bytes()?);
    let gguf = file.gguf()?;
    let model = Model::from_gguf(&gguf)?;
    for n_threads in [1, 2] {
        let n_threads = NonZeroUsize::new(n_threads).ok_or("no threads")?;
        let cpu = Cpu::new(Isa::detect(), n_threads)?;
        let mut state = State::new(&model, StateOptions::new(N_CTX))?;
        state.reserve(N_CTX);
        let prompt: Vec<u32> = (0..600).map(|i| i * 7 % 512).collect();
        forward_qwen3_moe(&cpu, &model, &mut state, &prompt)?;
        let mut decode = |n_tokens: u32| -> Result<usize, Box<dyn Error>> {
            let before = N_ALLOCATIONS.load(Ordering::Relaxed);
            for step in 0..n_tokens {
                forward_qwen3_moe(&cpu, &model, &mut state, &[step * 5 % 512])?;
            }
            Ok(N_ALLOCATIONS.load(Ordering::Relaxed) - before)
        };
        decode(30)?;
        assert_eq!(decode(60)?, 0, "60 tokens on {n_threads} threads");
    }
    Ok(())
}
