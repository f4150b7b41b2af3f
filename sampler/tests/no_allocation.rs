//! After warm-up neither the chain nor the stop logic allocates.

#![expect(
    unsafe_code,
    reason = "a counting allocator has to implement an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sampler::{Mirostat2, Rng, SamplerChain, SamplerConfig, SamplerError, StopRules, StopState};

thread_local! {
    static N_ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: both methods hand their arguments to `System` unchanged; the counter is a
// thread-local without destructor, so touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.set(N_ALLOCATIONS.get() + 1);
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

const N_VOCAB: usize = 5000;

fn n_allocations_after_warm_up(config: SamplerConfig) -> Result<usize, SamplerError> {
    let mut chain = SamplerChain::new(config, N_VOCAB)?;
    let mut stop = StopState::new(StopRules::new(&[u32::MAX], &["\nUser:", "###"])?);
    let mut rng = Rng::new(1);
    let mut logits = vec![0.0; N_VOCAB];
    let mut before = 0;
    for step in 0..600 {
        if step == 300 {
            before = N_ALLOCATIONS.get();
        }
        logits.fill_with(|| (rng.uniform() * 20.0) as f32);
        let token = chain.sample(&mut logits)?;
        chain.accept(token % 8); // few words, so that DRY has work
        stop.push(token, b"wo\nrd#");
    }
    Ok(N_ALLOCATIONS.get() - before)
}

#[test]
fn no_allocation_per_token() {
    let neutral = SamplerConfig::neutral();
    let penalised = SamplerConfig {
        repeat_penalty: 1.1,
        dry_multiplier: 0.8,
        dry_penalty_last_n: 100,
        dry_sequence_breakers: vec![vec![3], vec![5, 6]],
        typical_p: 0.9,
        min_p: 0.05,
        xtc_probability: 0.5,
        dynatemp_range: 0.2,
        ..SamplerConfig::default()
    };
    let steered = SamplerConfig {
        mirostat2: Some(Mirostat2 { tau: 5.0, eta: 0.1 }),
        ..neutral.clone()
    };
    for config in [
        SamplerConfig::greedy(),
        SamplerConfig::default(),
        neutral,
        penalised,
        steered,
    ] {
        let counted = n_allocations_after_warm_up(config.clone());
        assert_eq!(counted, Ok(0), "{config:?}");
    }
}
