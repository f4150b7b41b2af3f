//! Attention over the blocks of a cache, with the softmax taken on the way.
//!
//! The heads that share a key/value head walk its positions together, so keys and values
//! are read once for all of them. For one query the specification is, with `q` a row of
//! `head_dim` floats:
//!
//! ```text
//! for each chunk of 8 blocks, ascending:          (m, l, o) = (−∞, 0, 0)
//!   for each block of 64 positions, ascending:
//!     s[p]  = (((q[0]·k[p][0]) + q[1]·k[p][1]) + …) · scale      one fused step per dim
//!     m'    = max(m, max s);  c = exp(m − m');  e[p] = exp(s[p] − m')
//!     l     = l·c + Σ e[p]                       lanes by p mod 16, folded
//!     o[d]  = ((o[d]·c + e[0]·v[0][d]) + e[1]·v[1][d]) + …
//!   M' = max(M, m);  a = exp(M − M');  b = exp(m − M')
//!   L  = L·a + (l·b);  O[d] = O[d]·a + (o[d]·b)  fused; the first chunk is taken as it is
//! out[d] = O[d] · (1 / L)
//! ```
//!
//! A chunk's partial result does not depend on who computes it. So a single query may
//! spread its chunks over the team, while many queries walk theirs one after the other,
//! and both give the same bits.

mod partial;
mod step;

use self::{
    partial::{Finish, Merge, States},
    step::Step,
};
use crate::{
    Isa, Team,
    kv::{KV_BLOCK, KvBlock},
    matrix::MatMut,
    pool::{Band, TileMut},
};

/// Blocks of a chunk: 512 positions.
const CHUNK_BLOCKS: usize = 8;
/// Tokens that walk a head's blocks together, so that a block is read from the first
/// cache.
const TOKENS: usize = 4;

/// Queries of one layer and the cache they look into; see [`Team::attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// Query rows: token `t`, head `h` begins at `t · q_stride + h · head_dim`.
    pub q: &'a [f32],
    /// Floats from one token's queries to the next.
    pub q_stride: usize,
    /// Query heads, a multiple of the cache's key/value heads: head `h` reads key/value
    /// head `h / (n_head / n_head_kv)`.
    pub n_head: usize,
    /// Factor of the scores, `1 / √head_dim`.
    pub scale: f32,
    /// The cache; block `i` holds positions `64·i..64·i + 64`. There may be more blocks
    /// than positions.
    pub blocks: &'a [KvBlock],
    /// Layer of the cache to look into.
    pub layer: usize,
    /// Positions before the first token; token `t` sees positions `0..=n_past + t`.
    pub n_past: usize,
    /// Tokens in this call.
    pub n_tokens: usize,
}

/// Buffers of [`Team::attention`], reused from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    partials: Vec<f32>,
}

impl AttentionInput<'_> {
    fn head_dim(&self) -> usize {
        self.blocks[0].shape().head_dim()
    }

    /// Heads that share a key/value head.
    fn group(&self) -> usize {
        self.n_head / self.blocks[0].shape().n_head_kv()
    }

    fn query(&self, token: usize, head: usize) -> &[f32] {
        &self.q[token * self.q_stride + head * self.head_dim()..][..self.head_dim()]
    }

    fn n_chunks(&self, token: usize) -> usize {
        (self.n_past + token + 1).div_ceil(CHUNK_BLOCKS * KV_BLOCK)
    }

    fn check(&self, out: &MatMut<'_>) {
        let n_positions = self.n_past + self.n_tokens;
        assert!(
            n_positions <= self.blocks.len() * KV_BLOCK,
            "{n_positions} positions in {} blocks",
            self.blocks.len()
        );
        let shape = self.blocks[0].shape();
        assert!(
            self.blocks.iter().all(|block| block.shape() == shape),
            "blocks of different shapes"
        );
        assert!(
            self.layer < shape.n_layer(),
            "layer {} of {}",
            self.layer,
            shape.n_layer()
        );
        assert!(
            self.n_head > 0 && self.n_head.is_multiple_of(shape.n_head_kv()),
            "{} heads over {} key/value heads",
            self.n_head,
            shape.n_head_kv()
        );
        let width = self.n_head * shape.head_dim();
        let q_len = (self.n_tokens - 1) * self.q_stride + width;
        assert!(
            self.q.len() >= q_len,
            "{} query floats, need {q_len}",
            self.q.len()
        );
        assert!(
            out.n_cols == width && out.n_rows() == self.n_tokens,
            "output is not [{}, {width}]",
            self.n_tokens
        );
    }
}

impl Team<'_> {
    /// Computes causal attention for `n_tokens` queries per head, and writes
    /// `out: [n_tokens, n_head · head_dim]`, head `h` of a token from column
    /// `h · head_dim` on.
    ///
    /// The keys and values of the tokens themselves must be in the cache already. A row
    /// of `out` does not depend on how many tokens there are in the call.
    ///
    /// # Panics
    /// If shapes do not fit, the blocks have different shapes or hold fewer than
    /// `n_past + n_tokens` positions.
    pub fn attention(
        &self,
        input: AttentionInput<'_>,
        scratch: &mut AttentionScratch,
        out: MatMut<'_>,
    ) {
        if input.n_tokens == 0 {
            return;
        }
        input.check(&out);
        let n_head_kv = input.n_head / input.group();
        if input.n_tokens == 1 && n_head_kv < 4 * self.n_threads() && input.n_chunks(0) > 1 {
            self.spread(input, scratch, out.data);
        } else {
            self.walk(input, out);
        }
    }

    /// Units of a head and a few tokens, each walking all its chunks.
    fn walk(&self, input: AttentionInput<'_>, out: MatMut<'_>) {
        let width = input.group() * input.head_dim();
        let band = |idx: usize| Band {
            rows: idx * TOKENS..((idx + 1) * TOKENS).min(input.n_tokens),
            cols: 0..input.n_head * input.head_dim(),
        };
        self.crew.for_each_tile(
            out,
            &band,
            input.n_tokens.div_ceil(TOKENS),
            width,
            |member| self.scratch(member),
            |scratch, idx, cols, tile| {
                let head_kv = cols.start / width;
                walk_unit(
                    self.isa(),
                    input,
                    head_kv,
                    idx * TOKENS,
                    tile,
                    &mut scratch.attention,
                );
            },
        );
    }

    /// One token: units of a head and a chunk, then a merge per head.
    fn spread(&self, input: AttentionInput<'_>, scratch: &mut AttentionScratch, out: &mut [f32]) {
        let (group, dim, n_chunks) = (input.group(), input.head_dim(), input.n_chunks(0));
        let unit = group * (dim + 2);
        scratch
            .partials
            .resize(input.n_head / group * n_chunks * unit, 0.0);
        self.for_each_chunk(&mut scratch.partials, unit, |idx, partial| {
            States::over(partial, group).reset();
            for block in blocks_of(idx % n_chunks) {
                let (head_kv, partial) = (idx / n_chunks, &mut *partial);
                self.isa().run(Step {
                    input,
                    head_kv,
                    token: 0,
                    block,
                    partial,
                });
            }
        });
        self.for_each_chunk(&mut scratch.partials, n_chunks * unit, |_, units| {
            let (running, later) = units.split_at_mut(unit);
            for later in later.chunks_mut(unit) {
                self.isa().run(Merge {
                    group,
                    dim,
                    running,
                    later,
                });
            }
        });
        let heads = scratch.partials.chunks_mut(n_chunks * unit);
        for (units, out) in heads.zip(out.chunks_mut(group * dim)) {
            self.isa().run(Finish {
                group,
                dim,
                running: &mut units[..unit],
                out,
            });
        }
    }
}

fn blocks_of(chunk: usize) -> std::ops::Range<usize> {
    chunk * CHUNK_BLOCKS..(chunk + 1) * CHUNK_BLOCKS
}

/// Buffers of one thread: running and partial results of [`TOKENS`] tokens.
#[derive(Debug, Default)]
pub(crate) struct WalkScratch {
    running: Vec<f32>,
    partial: Vec<f32>,
}

/// The heads of one key/value head, for a few tokens from `first` on, over all chunks.
fn walk_unit(
    isa: Isa,
    input: AttentionInput<'_>,
    head_kv: usize,
    first: usize,
    mut tile: TileMut<'_>,
    scratch: &mut WalkScratch,
) {
    let (group, dim, n_tokens) = (input.group(), input.head_dim(), tile.n_rows());
    let unit = group * (dim + 2);
    scratch.running.resize(n_tokens * unit, 0.0);
    scratch.partial.resize(n_tokens * unit, 0.0);
    for chunk in 0..input.n_chunks(first + n_tokens - 1) {
        for partial in scratch.partial.chunks_mut(unit) {
            States::over(partial, group).reset();
        }
        for block in blocks_of(chunk) {
            for (i, partial) in scratch.partial.chunks_mut(unit).enumerate() {
                isa.run(Step {
                    input,
                    head_kv,
                    token: first + i,
                    block,
                    partial,
                });
            }
        }
        let running = scratch.running.chunks_mut(unit);
        for (i, (running, later)) in running.zip(scratch.partial.chunks_mut(unit)).enumerate() {
            if chunk == 0 {
                running.copy_from_slice(later);
            } else if chunk < input.n_chunks(first + i) {
                isa.run(Merge {
                    group,
                    dim,
                    running,
                    later,
                });
            }
        }
    }
    for (i, running) in scratch.running.chunks_mut(unit).enumerate() {
        isa.run(Finish {
            group,
            dim,
            running,
            out: tile.row(i),
        });
    }
}
