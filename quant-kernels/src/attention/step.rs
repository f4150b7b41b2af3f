//! The heads of one query over one block: scores, weights, weighted values.
//!
//! A block's keys and values are some pages somewhere in memory, too short for the processor
//! to see a stream. So the scores ask for the values that will be weighted, and the weighted
//! values for the keys of the next block.

use super::{Queries, partial::States};
use crate::{
    kv::{
        Bf16Codec, Codec, F16Codec, F32Codec, HeadView, KEY_TILE, KV_BLOCK, KvType, Q8Codec,
        QUANT_DIMS,
    },
    lanes::{F32x16, LaneOp},
    math::exp,
};

/// One token's heads of one key/value head over one block.
pub(super) struct Step<'a> {
    pub(super) input: Queries<'a>,
    pub(super) head_kv: usize,
    pub(super) token: usize,
    pub(super) block: usize,
    pub(super) partial: &'a mut [f32],
}

impl LaneOp for Step<'_> {
    type Output = ();
    /// Heads go in rounds of as many as registers hold the sums of; which heads share a
    /// round cannot be seen in the result.
    #[inline(always)]
    fn run<L: F32x16>(mut self) {
        let end = self.input.n_past + self.token + 1;
        let n = end.saturating_sub(self.block * KV_BLOCK).min(KV_BLOCK);
        let group = self.input.group();
        let mut head = 0;
        while n > 0 && head < group {
            head += match (L::SUMS, group - head) {
                (16.., 8..) => self.heads::<L, 8, 2>(head, n),
                (16.., 4..) => self.heads::<L, 4, 2>(head, n),
                (_, 4..) => self.heads::<L, 4, 1>(head, n),
                _ => self.heads::<L, 1, 2>(head, n),
            };
        }
    }
}

/// Dimensions whose keys are read in one go; every head is a multiple of them.
const DIMS: usize = QUANT_DIMS;

/// Scores, then weights, of `N` heads over the positions of a block.
type Scores<const N: usize> = [[f32; KV_BLOCK]; N];

impl Step<'_> {
    /// Takes `N` heads of the group, from `head` on, over the first `n` positions, and of
    /// their values `CHUNKS` times sixteen dimensions at once.
    #[inline(always)]
    fn heads<L: F32x16, const N: usize, const CHUNKS: usize>(
        &mut self,
        head: usize,
        n: usize,
    ) -> usize {
        let (input, dim) = (self.input, self.input.head_dim());
        let first = self.head_kv * input.group() + head;
        let q = std::array::from_fn(|i| input.query(self.token, first + i));
        let block = &input.blocks[self.block];
        let view = block.head(input.layer, self.head_kv);
        let next = input.blocks.get(self.block + 1).unwrap_or(block);
        let next = next.head(input.layer, self.head_kv).key_bytes();
        let mut scores = [[f32::NEG_INFINITY; KV_BLOCK]; N];
        match block.shape().keys() {
            KvType::F32 => score::<L, F32Codec, N>(view, q, n, input.scale, &mut scores),
            KvType::F16 => score::<L, F16Codec, N>(view, q, n, input.scale, &mut scores),
            KvType::BF16 => score::<L, Bf16Codec, N>(view, q, n, input.scale, &mut scores),
            KvType::Q8_0 => score::<L, Q8Codec, N>(view, q, n, input.scale, &mut scores),
        }
        let states = States::over(self.partial, input.group());
        let range = head..head + N;
        let o = &mut states.o[head * dim..(head + N) * dim];
        let c = weigh::<L, N>(
            &mut scores,
            n,
            &mut states.m[range.clone()],
            &mut states.l[range],
        );
        match block.shape().values() {
            KvType::F32 => gather::<L, F32Codec, N, CHUNKS>(view, next, &scores, n, c, o),
            KvType::F16 => gather::<L, F16Codec, N, CHUNKS>(view, next, &scores, n, c, o),
            KvType::BF16 => gather::<L, Bf16Codec, N, CHUNKS>(view, next, &scores, n, c, o),
            KvType::Q8_0 => gather::<L, Q8Codec, N, CHUNKS>(view, next, &scores, n, c, o),
        }
        N
    }
}

/// Writes the scores of the first `n` positions; the rest stays as it is.
#[inline(always)]
fn score<L: F32x16, K: Codec, const N: usize>(
    view: HeadView<'_>,
    q: [&[f32]; N],
    n: usize,
    scale: f32,
    scores: &mut Scores<N>,
) {
    let dim = q[0].len();
    let q = q.map(|q| q.as_chunks::<DIMS>().0);
    for tile in 0..n.div_ceil(KEY_TILE) {
        let keys = view.key_tile::<K>(tile, dim);
        let mut sums = [L::splat(0.0); N];
        for part in 0..dim / DIMS {
            let start = (tile * dim + part * DIMS) * KEY_TILE * K::ELEMENT_BYTES;
            for line in 0..DIMS * KEY_TILE * K::ELEMENT_BYTES / 64 {
                L::prefetch(view.value_bytes(), start + 64 * line);
            }
            let q = q.map(|q| &q[part]);
            for d in 0..DIMS {
                let key: L = K::key(keys, part * DIMS + d);
                for h in 0..N {
                    sums[h] = L::splat(q[h][d]).mul_add(key, sums[h]);
                }
            }
        }
        for h in 0..N {
            let live = n - tile * KEY_TILE;
            let masked = sums[h]
                .mul(L::splat(scale))
                .first(live, L::splat(f32::NEG_INFINITY));
            masked.store(&mut scores[h].as_chunks_mut::<KEY_TILE>().0[tile]);
        }
    }
}

/// Turns scores into weights against the new maximum, adds them to the sums and returns
/// the factors for what was summed before.
#[inline(always)]
fn weigh<L: F32x16, const N: usize>(
    scores: &mut Scores<N>,
    n: usize,
    m: &mut [f32],
    l: &mut [f32],
) -> [f32; N] {
    let n_tiles = n.div_ceil(KEY_TILE);
    let mut c = [0.0; 16];
    for h in 0..N {
        let tiles = &scores[h].as_chunks::<KEY_TILE>().0[..n_tiles];
        let mut largest = L::splat(m[h]);
        for tile in tiles {
            largest = largest.max(L::load(tile));
        }
        let largest = largest.largest();
        c[h] = m[h] - largest;
        m[h] = largest;
    }
    exp(L::load(&c)).store(&mut c);
    for h in 0..N {
        let mut sum = L::splat(0.0);
        for tile in &mut scores[h].as_chunks_mut::<KEY_TILE>().0[..n_tiles] {
            let weights = exp(L::load(tile).sub(L::splat(m[h])));
            sum = sum.add(weights);
            weights.store(tile);
        }
        l[h] = l[h].mul_add(c[h], sum.sum());
    }
    std::array::from_fn(|h| c[h])
}

/// Adds the weighted values of the first `n` positions to `o`, whose old content counts
/// by `c`, and asks for the bytes at `next`.
#[inline(always)]
fn gather<L: F32x16, V: Codec, const N: usize, const CHUNKS: usize>(
    view: HeadView<'_>,
    next: &[u8],
    weights: &Scores<N>,
    n: usize,
    c: [f32; N],
    o: &mut [f32],
) {
    let (dim, n) = (o.len() / N, n.min(KV_BLOCK));
    let (chunks, values) = (dim / 16, view.values::<V>(dim));
    let o = o.as_chunks_mut::<16>().0;
    // `head_dim` is a multiple of 32: two chunks never end beyond it.
    for (pass, first) in (0..chunks).step_by(CHUNKS).enumerate() {
        // Plain loops: a closure would not take on the instruction set of this function.
        let mut sums = [[L::splat(0.0); CHUNKS]; N];
        for h in 0..N {
            for i in 0..CHUNKS {
                sums[h][i] = L::load(&o[h * chunks + first + i]).mul(L::splat(c[h]));
            }
        }
        for position in 0..n {
            if 64 * KV_BLOCK * pass < next.len() {
                L::prefetch(next, 64 * (KV_BLOCK * pass + position));
            }
            let mut value = [L::splat(0.0); CHUNKS];
            for i in 0..CHUNKS {
                value[i] = V::value(values, position, first + i, chunks);
            }
            for h in 0..N {
                let weight = L::splat(weights[h][position]);
                for i in 0..CHUNKS {
                    sums[h][i] = weight.mul_add(value[i], sums[h][i]);
                }
            }
        }
        for h in 0..N {
            for i in 0..CHUNKS {
                sums[h][i].store(&mut o[h * chunks + first + i]);
            }
        }
    }
}
