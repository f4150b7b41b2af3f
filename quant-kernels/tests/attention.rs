//! Attention gives the same bits whoever computes it, and the right numbers.

use std::{num::NonZeroUsize, sync::Arc};

use quant_kernels::{
    AttentionInput, AttentionScratch, AttentionSpan, Cpu, Isa, KV_BLOCK, KvBlock, KvShape, KvType,
    MatMut,
};

const HEAD_DIM: usize = 64;

fn value(seed: usize) -> f32 {
    let mixed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
    ((mixed ^ (mixed >> 13)) % 2003) as f32 / 1001.0 - 1.0
}

fn row(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(seed * 10_007 + i)).collect()
}

fn cpu(isa: Isa, n_threads: usize) -> Cpu {
    Cpu::new(isa, NonZeroUsize::new(n_threads).expect("threads")).expect("a team")
}

struct Case {
    n_head: usize,
    n_head_kv: usize,
    n_positions: usize,
    blocks: Vec<Arc<KvBlock>>,
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
            blocks: blocks.into_iter().map(Arc::new).collect(),
            q,
        }
    }

    /// Queries for the positions from `first` on, `batch` at a time.
    fn run(&self, isa: Isa, n_threads: usize, first: usize, batch: usize) -> Vec<u32> {
        let cpu = cpu(isa, n_threads);
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
                layer: 1,
                spans: &[AttentionSpan {
                    blocks: &self.blocks,
                    first_row: 0,
                    n_past,
                    n_tokens,
                }],
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

/// The last tokens of one sequence among the rows of a call.
struct Place {
    first_row: usize,
    n_tokens: usize,
}

/// Continues all sequences in one call, whose other rows must stay as they are.
fn together(cpu: &Cpu, cases: &[Case], places: &[Place]) -> Vec<Vec<u32>> {
    let (n_head, width) = (cases[0].n_head, cases[0].n_head * HEAD_DIM);
    let last = places.last().expect("a place");
    let n_rows = last.first_row + last.n_tokens + 1;
    let (mut q, mut out) = (vec![f32::NAN; n_rows * width], vec![7.0; n_rows * width]);
    let mut spans = Vec::new();
    for (case, place) in cases.iter().zip(places) {
        let (n_past, len) = (case.n_positions - place.n_tokens, place.n_tokens * width);
        q[place.first_row * width..][..len].copy_from_slice(&case.q[n_past * width..]);
        spans.push(AttentionSpan {
            blocks: &case.blocks,
            first_row: place.first_row,
            n_past,
            n_tokens: place.n_tokens,
        });
    }
    let input = AttentionInput {
        q: &q,
        q_stride: width,
        n_head,
        scale: 0.125,
        layer: 1,
        spans: &spans,
    };
    let mut scratch = AttentionScratch::default();
    cpu.enter(|team| team.attention(input, &mut scratch, MatMut::new(&mut out, width)));
    let of = |place: &Place| {
        let row = place.first_row * width;
        let bits = out[row..row + place.n_tokens * width]
            .iter()
            .map(|x| x.to_bits());
        bits.collect()
    };
    let found: Vec<Vec<u32>> = places.iter().map(of).collect();
    let n_written: usize = found.iter().map(Vec::len).sum();
    let n_kept = out.iter().filter(|&&x| x == 7.0).count();
    assert_eq!(n_kept, out.len() - n_written, "rows of nobody");
    found
}

#[test]
fn sequences_that_share_a_call_get_the_bits_they_get_alone() {
    struct Sequence {
        ty: KvType,
        n_positions: usize,
        n_tokens: usize,
        /// Rows of nobody before it.
        gap: usize,
    }
    let sequence = |ty, n_positions, n_tokens, gap| Sequence {
        ty,
        n_positions,
        n_tokens,
        gap,
    };
    // Decoding and prefill; one so long that it is spread, whoever else is there.
    let sequences = [
        sequence(KvType::F16, 70, 1, 0),
        sequence(KvType::Q8_0, 1700, 3, 2),
        sequence(KvType::BF16, 90, 37, 0),
        sequence(KvType::F32, 1, 1, 0),
        sequence(KvType::F16, 1025, 1, 1),
        sequence(KvType::F16, 64, 64, 0),
    ];
    let (mut cases, mut places, mut n_rows) = (Vec::new(), Vec::new(), 0);
    for s in &sequences {
        cases.push(Case::new(s.ty, 6, 2, s.n_positions));
        let (first_row, n_tokens) = (n_rows + s.gap, s.n_tokens);
        places.push(Place {
            first_row,
            n_tokens,
        });
        n_rows = first_row + n_tokens;
    }
    let alone: Vec<Vec<u32>> = cases
        .iter()
        .zip(&sequences)
        .map(|(case, s)| case.run(Isa::SCALAR, 1, s.n_positions - s.n_tokens, s.n_tokens))
        .collect();
    for isa in Isa::available() {
        for n_threads in 1..=4 {
            let cpu = cpu(isa, n_threads);
            for n_sequences in 1..=cases.len() {
                let found = together(&cpu, &cases[..n_sequences], &places[..n_sequences]);
                assert!(
                    found == alone[..n_sequences],
                    "{isa} ×{n_threads}, {n_sequences} sequences"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "spans overlap")]
fn spans_that_share_rows_are_refused() {
    let cases = [(); 2].map(|()| Case::new(KvType::F16, 2, 1, 3));
    let places = [0, 1].map(|first_row| Place {
        first_row,
        n_tokens: 2,
    });
    together(&cpu(Isa::SCALAR, 1), &cases, &places);
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
