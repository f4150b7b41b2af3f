//! Attention gives the same bits whoever computes it, and the right numbers.

use std::num::NonZeroUsize;

use quant_kernels::{
    AttentionInput, AttentionScratch, Cpu, Isa, KV_BLOCK, KvBlock, KvShape, KvType, MatMut,
};

const HEAD_DIM: usize = 64;

fn value(seed: usize) -> f32 {
    let mixed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
    ((mixed ^ (mixed >> 13)) % 2003) as f32 / 1001.0 - 1.0
}

fn row(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(seed * 10_007 + i)).collect()
}

struct Case {
    n_head: usize,
    n_head_kv: usize,
    n_positions: usize,
    blocks: Vec<KvBlock>,
    q: Vec<f32>,
}

impl Case {
    fn new(ty: KvType, n_head: usize, n_head_kv: usize, n_positions: usize) -> Self {
        let shape = KvShape::new(ty, ty, 2, n_head_kv, HEAD_DIM).expect("a shape");
        let mut blocks = vec![KvBlock::new(shape); n_positions.div_ceil(KV_BLOCK)];
        for position in 0..n_positions {
            for head in 0..n_head_kv {
                let seed = position * n_head_kv + head;
                let (key, value) = (row(seed, HEAD_DIM), row(seed + 50_000, HEAD_DIM));
                blocks[position / KV_BLOCK].write(1, head, position % KV_BLOCK, &key, &value);
            }
        }
        let q = row(777, n_positions * n_head * HEAD_DIM);
        Self {
            n_head,
            n_head_kv,
            n_positions,
            blocks,
            q,
        }
    }

    /// Queries for the positions from `first` on, `batch` at a time.
    fn run(&self, isa: Isa, n_threads: usize, first: usize, batch: usize) -> Vec<u32> {
        let cpu = Cpu::new(isa, NonZeroUsize::new(n_threads).expect("threads")).expect("a team");
        let width = self.n_head * HEAD_DIM;
        let mut scratch = AttentionScratch::default();
        let mut all = Vec::new();
        for n_past in (first..self.n_positions).step_by(batch) {
            let n_tokens = batch.min(self.n_positions - n_past);
            let mut out = vec![0.0; n_tokens * width];
            let input = AttentionInput {
                q: &self.q[n_past * width..],
                q_stride: width,
                n_head: self.n_head,
                scale: 0.125,
                blocks: &self.blocks,
                layer: 1,
                n_past,
                n_tokens,
            };
            cpu.enter(|team| team.attention(input, &mut scratch, MatMut::new(&mut out, width)));
            all.extend(out.iter().map(|x| x.to_bits()));
        }
        all
    }

    /// Softmax attention in `f64` for one position and head.
    fn naive(&self, position: usize, head: usize) -> Vec<f64> {
        let head_kv = head / (self.n_head / self.n_head_kv);
        let start = (position * self.n_head + head) * HEAD_DIM;
        let q = &self.q[start..start + HEAD_DIM];
        let scores: Vec<f64> = (0..=position)
            .map(|p| {
                let key = row(p * self.n_head_kv + head_kv, HEAD_DIM);
                let dot: f64 = q
                    .iter()
                    .zip(key)
                    .map(|(&q, k)| f64::from(q) * f64::from(k))
                    .sum();
                (dot * 0.125).exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        let mut out = vec![0.0; HEAD_DIM];
        for (p, score) in scores.iter().enumerate() {
            let value = row(p * self.n_head_kv + head_kv + 50_000, HEAD_DIM);
            for (out, value) in out.iter_mut().zip(value) {
                *out += score / total * f64::from(value);
            }
        }
        out
    }
}

#[test]
fn batch_threads_and_instruction_set_do_not_change_a_bit() {
    for ty in [KvType::F32, KvType::F16, KvType::BF16, KvType::Q8_0] {
        for (n_head, n_head_kv) in [(4, 2), (8, 1), (13, 1), (3, 3)] {
            let case = Case::new(ty, n_head, n_head_kv, 90);
            let expected = case.run(Isa::SCALAR, 1, 0, 90);
            for isa in Isa::available() {
                for (n_threads, batch) in [(1, 1), (2, 7), (4, 90)] {
                    let got = case.run(isa, n_threads, 0, batch);
                    assert!(
                        got == expected,
                        "{ty} {n_head}/{n_head_kv} {isa} ×{n_threads} b{batch}"
                    );
                }
            }
        }
    }
}

#[test]
fn spreading_chunks_over_the_team_does_not_change_a_bit() {
    let case = Case::new(KvType::F16, 4, 2, 1200);
    let expected = case.run(Isa::SCALAR, 1, 1100, 100);
    for isa in Isa::available() {
        for n_threads in [1, 2, 4] {
            assert!(
                case.run(isa, n_threads, 1100, 1) == expected,
                "{isa} ×{n_threads}"
            );
        }
    }
}

#[test]
fn results_are_softmax_attention() {
    for (ty, bound) in [
        (KvType::F32, 2e-6),
        (KvType::F16, 1e-3),
        (KvType::Q8_0, 2e-2),
    ] {
        let case = Case::new(ty, 4, 2, 600);
        let got = case.run(Isa::detect(), 2, 0, 600);
        for position in [0, 1, 63, 64, 511, 512, 599] {
            for head in 0..4 {
                let start = (position * 4 + head) * HEAD_DIM;
                for (got, want) in got[start..].iter().zip(case.naive(position, head)) {
                    let got = f64::from(f32::from_bits(*got));
                    assert!(
                        (got - want).abs() < bound,
                        "{ty} at {position}/{head}: {got} {want}"
                    );
                }
            }
        }
    }
}
