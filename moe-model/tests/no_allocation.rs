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

use moe_model::{
    KvCache, Model, ModelFile, Outputs, Span, State, StateOptions, Workspace, forward_batch,
    forward_qwen3_moe,
};
use quant_kernels::{Cpu, Isa, KvType};
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

const N_CTX: usize = 700;

fn with_model(
    test: impl FnOnce(&Model<'_>) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let synth = SynthModel {
        geometry: Geometry::TINY,
        mix: TypeMix::Q4_K_M,
        vocab: Vocab::ByteLevel,
        seed: 5,
    };
    let file = ModelFile::from_bytes("synthetic", synth.to_bytes()?);
    test(&Model::from_gguf(&file.gguf()?)?)
}

fn cpu(n_threads: usize) -> Result<Cpu, Box<dyn Error>> {
    let n_threads = NonZeroUsize::new(n_threads).ok_or("no threads")?;
    Ok(Cpu::new(Isa::detect(), n_threads)?)
}

/// The counter is shared, so this is one test: one sequence, then several. The caches are
/// long enough for attention to be spread over the threads.
#[test]
fn decoding_allocates_nothing_after_warm_up() -> Result<(), Box<dyn Error>> {
    with_model(|model| {
        for n_threads in [1, 2] {
            let cpu = cpu(n_threads)?;
            one_sequence(&cpu, model)?;
            several_sequences(&cpu, model)?;
        }
        Ok(())
    })
}

fn one_sequence(cpu: &Cpu, model: &Model<'_>) -> Result<(), Box<dyn Error>> {
    let mut state = State::new(model, StateOptions::new(N_CTX))?;
    state.reserve(N_CTX);
    let prompt: Vec<u32> = (0..600).map(|i| i * 7 % 512).collect();
    forward_qwen3_moe(cpu, model, &mut state, &prompt)?;
    let mut decode = |n_tokens: u32| -> Result<usize, Box<dyn Error>> {
        state.truncate(600);
        let before = N_ALLOCATIONS.load(Ordering::Relaxed);
        for step in 0..n_tokens {
            forward_qwen3_moe(cpu, model, &mut state, &[step * 5 % 512])?;
        }
        Ok(N_ALLOCATIONS.load(Ordering::Relaxed) - before)
    };
    assert!(settles(|| decode(60))?, "on {} threads", cpu.n_threads());
    Ok(())
}

/// Decodes, as `decode` does, until no allocation is counted, at most ten times. A thread
/// makes its buffers when it first gets work, and may be late where the machine is busy.
fn settles(
    mut decode: impl FnMut() -> Result<usize, Box<dyn Error>>,
) -> Result<bool, Box<dyn Error>> {
    for _ in 0..10 {
        if decode()? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Three decode, one of them after a long context, and a fourth takes in pieces of a prompt.
fn several_sequences(cpu: &Cpu, model: &Model<'_>) -> Result<(), Box<dyn Error>> {
    let mut workspace = Workspace::new(model, 512)?;
    let mut caches = Vec::new();
    for n_prompt in [600, 40, 3, 1] {
        let mut cache = KvCache::new(model, N_CTX, KvType::F16, KvType::F16)?;
        cache.reserve(N_CTX);
        let prompt: Vec<u32> = (0..n_prompt).map(|i| (i * 7 + n_prompt) % 512).collect();
        let span = Span {
            cache: &mut cache,
            tokens: &prompt,
            outputs: Outputs::None,
        };
        forward_batch(cpu, model, &mut workspace, &mut [span], &mut |_| ())?;
        caches.push(cache);
    }
    let [a, b, c, d] = caches.as_mut_slice() else {
        return Err("four caches".into());
    };
    let mut decode = |n_steps: u32| -> Result<usize, Box<dyn Error>> {
        for (cache, len) in [(&mut *a, 600), (&mut *b, 40), (&mut *c, 3), (&mut *d, 1)] {
            cache.truncate(len);
        }
        let before = N_ALLOCATIONS.load(Ordering::Relaxed);
        for step in 0..n_steps {
            let ids: [u32; 5] = std::array::from_fn(|i| (step * 5 + 37 * i as u32) % 512);
            let tokens = [&ids[..1], &ids[1..2], &ids[2..3], &ids[3..]];
            let mut rest = tokens.into_iter();
            let mut spans = [&mut *a, &mut *b, &mut *c, &mut *d].map(|cache| Span {
                cache,
                tokens: rest.next().unwrap_or_default(),
                outputs: Outputs::Last,
            });
            forward_batch(cpu, model, &mut workspace, &mut spans, &mut |_| ())?;
        }
        Ok(N_ALLOCATIONS.load(Ordering::Relaxed) - before)
    };
    assert!(settles(|| decode(60))?, "on {} threads", cpu.n_threads());
    Ok(())
}
