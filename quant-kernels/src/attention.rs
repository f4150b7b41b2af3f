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
//! A chunk's partial result does not depend on who computes it. So the queries of several
//! sequences share a phase whose units are a key/value head and a few tokens, each walking
//! its chunks one after the other; and where one of them alone would keep the team waiting,
//! as a single query after a long context does, its chunks are units of a phase before.
//! Both give the same bits.

mod partial;
mod step;

use std::sync::Arc;

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
/// A unit of work is no more than this part of a thread's share, if it can be divided.
const UNITS_PER_THREAD: usize = 4;

/// Queries of one layer, of one sequence or several; see [`Team::attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// Query rows: row `r`, head `h` begins at `r · q_stride + h · head_dim`.
    pub q: &'a [f32],
    /// Floats from one row's queries to the next.
    pub q_stride: usize,
    /// Query heads, a multiple of the caches' key/value heads: head `h` reads key/value
    /// head `h / (n_head / n_head_kv)`.
    pub n_head: usize,
    /// Factor of the scores, `1 / √head_dim`.
    pub scale: f32,
    /// Layer of the caches to look into.
    pub layer: usize,
    /// Whose rows they are, ascending.
    pub spans: &'a [AttentionSpan<'a>],
}

/// Consecutive tokens of one sequence, and its cache.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    /// The cache; block `i` holds positions `64·i..64·i + 64`. There may be more blocks
    /// than positions.
    pub blocks: &'a [Arc<KvBlock>],
    /// Row of the first token, in the queries and in the output.
    pub first_row: usize,
    /// Positions before the first token; token `t` sees positions `0..=n_past + t`.
    pub n_past: usize,
    /// Tokens, at least one.
    pub n_tokens: usize,
}

/// Buffers of [`Team::attention`], reused from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    walks: Vec<Walk>,
    parts: Vec<Part>,
    partials: Vec<f32>,
}

/// A few tokens of a span that walk the chunks of a head together.
#[derive(Clone, Copy, Debug)]
struct Walk {
    span: usize,
    first: usize,
    n_tokens: usize,
    n_chunks: usize,
    /// First row of the partial results, if the chunks are spread: `[head, chunk, token]`.
    partials: Option<usize>,
}

/// One chunk of a walk that is spread.
#[derive(Clone, Copy, Debug)]
struct Part {
    walk: usize,
    head_kv: usize,
    chunk: usize,
}

/// What all spans have in common.
#[derive(Clone, Copy, Debug)]
struct Heads {
    n_head_kv: usize,
    /// Heads that share a key/value head.
    group: usize,
    dim: usize,
}

impl Heads {
    /// Floats of a group's outputs.
    fn width(self) -> usize {
        self.group * self.dim
    }

    /// Floats of a group's partial result.
    fn partial_len(self) -> usize {
        self.group * (self.dim + 2)
    }
}

/// The queries of one span, counted from its first.
#[derive(Clone, Copy, Debug)]
struct Queries<'a> {
    q: &'a [f32],
    q_stride: usize,
    n_head: usize,
    scale: f32,
    blocks: &'a [Arc<KvBlock>],
    layer: usize,
    n_past: usize,
}

impl Queries<'_> {
    fn head_dim(&self) -> usize {
        self.blocks[0].shape().head_dim()
    }

    fn group(&self) -> usize {
        self.n_head / self.blocks[0].shape().n_head_kv()
    }

    fn query(&self, token: usize, head: usize) -> &[f32] {
        &self.q[token * self.q_stride + head * self.head_dim()..][..self.head_dim()]
    }
}

impl AttentionSpan<'_> {
    /// Chunks that a token looks into.
    fn n_chunks(&self, token: usize) -> usize {
        (self.n_past + token + 1).div_ceil(CHUNK_BLOCKS * KV_BLOCK)
    }

    fn check(&self, layer: usize, heads: Heads) {
        assert!(self.n_tokens > 0, "a span without tokens");
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
            layer < shape.n_layer(),
            "layer {layer} of {}",
            shape.n_layer()
        );
        assert!(
            (shape.n_head_kv(), shape.head_dim()) == (heads.n_head_kv, heads.dim),
            "caches with different heads"
        );
    }
}

impl<'a> AttentionInput<'a> {
    fn queries(&self, span: usize) -> Queries<'a> {
        let span = &self.spans[span];
        Queries {
            q: &self.q[span.first_row * self.q_stride..],
            q_stride: self.q_stride,
            n_head: self.n_head,
            scale: self.scale,
            blocks: span.blocks,
            layer: self.layer,
            n_past: span.n_past,
        }
    }

    /// Asserts that shapes fit; returns them, or `None` if there are no spans.
    fn check(&self, out: &MatMut<'_>) -> Option<Heads> {
        let first = self.spans.first()?;
        assert!(!first.blocks.is_empty(), "a cache without blocks");
        let shape = first.blocks[0].shape();
        let (n_head, n_head_kv) = (self.n_head, shape.n_head_kv());
        assert!(
            n_head > 0 && n_head.is_multiple_of(n_head_kv),
            "{n_head} heads over {n_head_kv} key/value heads"
        );
        let heads = Heads {
            n_head_kv,
            group: n_head / n_head_kv,
            dim: shape.head_dim(),
        };
        let mut n_rows = 0;
        for span in self.spans {
            span.check(self.layer, heads);
            assert!(span.first_row >= n_rows, "spans overlap or descend");
            n_rows = span.first_row + span.n_tokens;
        }
        let width = n_head_kv * heads.width();
        let q_len = (n_rows - 1) * self.q_stride + width;
        assert!(
            self.q.len() >= q_len,
            "{} query floats, need {q_len}",
            self.q.len()
        );
        assert!(
            out.n_cols == width && out.n_rows() >= n_rows,
            "output is not [{n_rows}, {width}]"
        );
        Some(heads)
    }
}

impl AttentionScratch {
    /// Divides the work: a walk whose part of it is large is spread over the team.
    fn plan(&mut self, spans: &[AttentionSpan<'_>], heads: Heads, n_threads: usize) {
        self.walks.clear();
        for (span, of) in spans.iter().enumerate() {
            let firsts = (0..of.n_tokens).step_by(TOKENS);
            self.walks.extend(firsts.map(|first| {
                let n_tokens = TOKENS.min(of.n_tokens - first);
                Walk {
                    span,
                    first,
                    n_tokens,
                    n_chunks: of.n_chunks(first + n_tokens - 1),
                    partials: None,
                }
            }));
        }
        let cost = |walk: &Walk| walk.n_tokens * (spans[walk.span].n_past + walk.first + 1);
        let total = heads.n_head_kv * self.walks.iter().map(cost).sum::<usize>();
        self.parts.clear();
        let mut n_rows = 0;
        for (idx, walk) in self.walks.iter_mut().enumerate() {
            if walk.n_chunks == 1 || cost(walk) * UNITS_PER_THREAD * n_threads <= total {
                continue;
            }
            walk.partials = Some(n_rows);
            n_rows += heads.n_head_kv * walk.n_chunks * walk.n_tokens;
            for head_kv in 0..heads.n_head_kv {
                self.parts.extend((0..walk.n_chunks).map(|chunk| Part {
                    walk: idx,
                    head_kv,
                    chunk,
                }));
            }
        }
        self.partials.resize(n_rows * heads.partial_len(), 0.0);
    }
}

impl Walk {
    /// Rows of a chunk's partial results, if the chunks are spread.
    fn partial_rows(&self, head_kv: usize, chunk: usize) -> Option<std::ops::Range<usize>> {
        let first = self.partials? + (head_kv * self.n_chunks + chunk) * self.n_tokens;
        Some(first..first + self.n_tokens)
    }
}

impl Team<'_> {
    /// Computes causal attention of all spans and writes `out: [_, n_head · head_dim]`,
    /// head `h` of a row from column `h · head_dim` on. Rows of no span stay as they are.
    ///
    /// The keys and values of the tokens themselves must be in the caches already. A row
    /// of `out` does not depend on what other rows there are in the call.
    ///
    /// # Panics
    /// If shapes do not fit, the caches have different heads, spans have no tokens or
    /// share rows, or blocks hold fewer than `n_past + n_tokens` positions.
    pub fn attention(
        &self,
        input: AttentionInput<'_>,
        scratch: &mut AttentionScratch,
        out: MatMut<'_>,
    ) {
        let Some(heads) = input.check(&out) else {
            return;
        };
        scratch.plan(input.spans, heads, self.n_threads());
        if !scratch.parts.is_empty() {
            self.spread(input, heads, scratch);
        }
        self.walk(input, heads, scratch, out);
    }

    /// Units of a head and a chunk.
    fn spread(&self, input: AttentionInput<'_>, heads: Heads, scratch: &mut AttentionScratch) {
        let AttentionScratch {
            walks,
            parts,
            partials,
        } = scratch;
        let band = |idx: usize| {
            let part: Part = parts[idx];
            let rows = walks[part.walk].partial_rows(part.head_kv, part.chunk);
            Band {
                rows: rows.unwrap_or_default(),
                cols: 0..heads.partial_len(),
            }
        };
        self.crew.for_each_tile(
            MatMut::new(partials, heads.partial_len()),
            &band,
            parts.len(),
            heads.partial_len(),
            |_| (),
            |(), unit, _, tile| {
                let Part {
                    walk,
                    head_kv,
                    chunk,
                } = parts[unit.band];
                let walk = walks[walk];
                walk_chunk(
                    self.isa(),
                    input.queries(walk.span),
                    (head_kv, chunk),
                    walk.first,
                    tile,
                );
            },
        );
    }

    /// Units of a head and a few tokens.
    fn walk(
        &self,
        input: AttentionInput<'_>,
        heads: Heads,
        scratch: &AttentionScratch,
        out: MatMut<'_>,
    ) {
        let AttentionScratch {
            walks, partials, ..
        } = scratch;
        let band = |idx: usize| {
            let walk = &walks[idx];
            let first = input.spans[walk.span].first_row + walk.first;
            Band {
                rows: first..first + walk.n_tokens,
                cols: 0..heads.n_head_kv * heads.width(),
            }
        };
        self.crew.for_each_tile(
            out,
            &band,
            walks.len(),
            heads.width(),
            |member| self.scratch(member),
            |scratch, unit, _, tile| {
                let unit = Unit {
                    isa: self.isa(),
                    input,
                    heads,
                    walk: walks[unit.band],
                    head_kv: unit.cols.start / heads.width(),
                    partials,
                };
                unit.run(tile, &mut scratch.attention);
            },
        );
    }
}

/// Buffers of one thread: running and partial results of [`TOKENS`] tokens.
#[derive(Debug, Default)]
pub(crate) struct WalkScratch {
    running: Vec<f32>,
    partial: Vec<f32>,
}

impl WalkScratch {
    /// Returns rows for running and for partial results. There are always as many as the
    /// largest unit needs: which thread gets it first is chance.
    fn rows(&mut self, n: usize, len: usize) -> [&mut [f32]; 2] {
        [&mut self.running, &mut self.partial].map(|rows| {
            rows.resize(TOKENS * len, 0.0);
            &mut rows[..n * len]
        })
    }
}

/// Walks one chunk of a key/value head with the tokens from `first` on, one per row of
/// `partials`.
fn walk_chunk(
    isa: Isa,
    input: Queries<'_>,
    (head_kv, chunk): (usize, usize),
    first: usize,
    mut partials: TileMut<'_>,
) {
    for i in 0..partials.n_rows() {
        States::over(partials.row(i), input.group()).reset();
    }
    for block in chunk * CHUNK_BLOCKS..(chunk + 1) * CHUNK_BLOCKS {
        for i in 0..partials.n_rows() {
            isa.run(Step {
                input,
                head_kv,
                token: first + i,
                block,
                partial: partials.row(i),
            });
        }
    }
}

/// The heads of one key/value head, for the tokens of a walk, over all chunks.
#[derive(Clone, Copy)]
struct Unit<'a> {
    isa: Isa,
    input: AttentionInput<'a>,
    heads: Heads,
    walk: Walk,
    head_kv: usize,
    /// The results of all chunks that were spread.
    partials: &'a [f32],
}

impl Unit<'_> {
    fn run(&self, mut out: TileMut<'_>, scratch: &mut WalkScratch) {
        let Heads { group, dim, .. } = self.heads;
        let (span, len) = (self.walk.span, self.heads.partial_len());
        let [running, partial] = scratch.rows(self.walk.n_tokens, len);
        for chunk in 0..self.walk.n_chunks {
            self.chunk(chunk, partial);
            let pairs = running.chunks_mut(len).zip(partial.chunks_mut(len));
            for (i, (running, later)) in pairs.enumerate() {
                if chunk == 0 {
                    running.copy_from_slice(later);
                } else if chunk < self.input.spans[span].n_chunks(self.walk.first + i) {
                    self.isa.run(Merge {
                        group,
                        dim,
                        running,
                        later,
                    });
                }
            }
        }
        for (i, running) in running.chunks_mut(len).enumerate() {
            self.isa.run(Finish {
                group,
                dim,
                running,
                out: out.row(i),
            });
        }
    }

    /// Brings the partial results of a chunk, which may have been computed before.
    fn chunk(&self, chunk: usize, partial: &mut [f32]) {
        let len = self.heads.partial_len();
        match self.walk.partial_rows(self.head_kv, chunk) {
            Some(rows) => partial.copy_from_slice(&self.partials[rows.start * len..rows.end * len]),
            None => MatMut::new(partial, len).whole(|tile| {
                walk_chunk(
                    self.isa,
                    self.input.queries(self.walk.span),
                    (self.head_kv, chunk),
                    self.walk.first,
                    tile,
                );
            }),
        }
    }
}
