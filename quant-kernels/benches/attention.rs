//! Attention alone, per type of cache and instruction set, in the geometry of
//! Qwen3-30B-A3B: 32 query heads over 4 key/value heads of 128 dimensions.
//!
//! ```text
//! cargo bench -p quant-kernels --bench attention -- f16
//! ```
//!
//! Bytes are those of the keys and values of the whole context, read once; items the
//! multiplications and additions of scores and values. `decode` walks through the layers, so
//! that no cache holds what it reads; `prefill` stays in one.

use std::{cell::Cell, fmt, num::NonZeroUsize, sync::Arc, thread};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use quant_kernels::{
    AttentionInput, AttentionScratch, AttentionSpan, Cpu, Isa, KV_BLOCK, KvBlock, KvShape, KvType,
    MatMut,
};

const N_HEAD: usize = 32;
const N_HEAD_KV: usize = 4;
const HEAD_DIM: usize = 128;

fn main() {
    divan::main();
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Case {
    ty: KvType,
    isa: Isa,
    n_past: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} after {}", self.ty, self.isa, self.n_past)
    }
}

/// All types of cache on all instruction sets of this processor that are made for speed.
fn cases(depths: &[usize]) -> Vec<Case> {
    let isas: Vec<Isa> = Isa::available().filter(|&isa| isa != Isa::SCALAR).collect();
    let mut cases = Vec::new();
    for ty in [KvType::F16, KvType::BF16, KvType::Q8_0, KvType::F32] {
        for &isa in &isas {
            cases.extend(depths.iter().map(|&n_past| Case { ty, isa, n_past }));
        }
    }
    cases
}

#[divan::bench(args = cases(&[512, 4096]), max_time = 0.5)]
fn decode(bencher: Bencher<'_, '_>, case: Case) {
    measure(bencher, case, 16, 1);
}

#[divan::bench(args = cases(&[0, 1920]), max_time = 0.5)]
fn prefill(bencher: Bencher<'_, '_>, case: Case) {
    measure(bencher, case, 1, 128);
}

/// Attends to `n_tokens` in one layer after another, on all threads.
fn measure(bencher: Bencher<'_, '_>, case: Case, n_layer: usize, n_tokens: usize) {
    const WIDTH: usize = N_HEAD * HEAD_DIM;
    let Case { ty, isa, n_past } = case;
    let n_threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let cpu = Cpu::new(isa, n_threads).expect("threads");
    let shape = KvShape::new(ty, ty, n_layer, N_HEAD_KV, HEAD_DIM).expect("a shape");
    let blocks = cache(shape, n_past + n_tokens);
    let q = numbers(1, n_tokens * WIDTH);
    let mut out = vec![0.0; q.len()];
    let mut scratch = AttentionScratch::default();
    let next_layer = Cell::new(0);
    // Token t sees n_past + t + 1 positions.
    let n_seen = n_tokens * n_past + n_tokens * (n_tokens + 1) / 2;
    let block_bytes = shape.block_bytes() / n_layer;
    cpu.enter(|team| {
        bencher
            .counter(BytesCount::new(
                block_bytes * (n_past + n_tokens) / KV_BLOCK,
            ))
            .counter(ItemsCount::new(2 * 2 * n_seen * WIDTH))
            .bench_local(|| {
                let layer = next_layer.replace((next_layer.get() + 1) % n_layer);
                let input = AttentionInput {
                    q: &q,
                    q_stride: WIDTH,
                    n_head: N_HEAD,
                    scale: 0.088_388_35,
                    layer,
                    spans: &[AttentionSpan {
                        blocks: &blocks,
                        first_row: 0,
                        n_past,
                        n_tokens,
                    }],
                };
                team.attention(input, &mut scratch, MatMut::new(&mut out, WIDTH));
            });
    });
}

/// A full cache; its layers hold the same numbers, which speed does not depend on.
fn cache(shape: KvShape, n_positions: usize) -> Vec<Arc<KvBlock>> {
    let n_blocks = n_positions.div_ceil(KV_BLOCK);
    let mut blocks: Vec<KvBlock> = (0..n_blocks).map(|_| KvBlock::new(shape)).collect();
    for position in 0..n_positions {
        let (key, value) = (numbers(position, HEAD_DIM), numbers(!position, HEAD_DIM));
        let block = &mut blocks[position / KV_BLOCK];
        for layer in 0..shape.n_layer() {
            for head in 0..N_HEAD_KV {
                block.write(layer, head, position % KV_BLOCK, &key, &value);
            }
        }
    }
    blocks.into_iter().map(Arc::new).collect()
}

/// Numbers between -1 and 1 without a pattern.
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let number = |idx| {
        let bits = (seed as u32)
            .wrapping_mul(0xc2b2_ae35)
            .wrapping_add(idx)
            .wrapping_mul(0x9e37_79b9);
        let bits = (bits ^ bits >> 15).wrapping_mul(0x85eb_ca6b);
        (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len as u32).map(number).collect()
}
