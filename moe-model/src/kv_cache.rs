//! The keys and values of the positions seen so far.
//!
//! The cache grows in blocks of 64 positions as tokens come, up to a limit that the caller
//! sets; what the file claims about its context plays no part. Truncating only moves the end:
//! positions after it are overwritten by what comes next, and nothing else reads them.

use quant_kernels::{KV_BLOCK, KvBlock, KvShape, Team};

/// Keys and values of every layer, by position.
#[derive(Debug)]
pub struct KvCache {
    shape: KvShape,
    blocks: Vec<KvBlock>,
    len: usize,
    n_ctx: usize,
}

/// The keys and values of new tokens, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvRows<'a> {
    /// Key rows: token `t`, head `h` begins at `t · keys_stride + h · head_dim`.
    pub(crate) keys: &'a [f32],
    /// Floats from one token's keys to the next.
    pub(crate) keys_stride: usize,
    /// Value rows, like the keys.
    pub(crate) values: &'a [f32],
    /// Floats from one token's values to the next.
    pub(crate) values_stride: usize,
}

impl KvCache {
    /// Makes an empty cache for at most `n_ctx` positions.
    #[must_use]
    pub const fn new(shape: KvShape, n_ctx: usize) -> Self {
        Self {
            shape,
            blocks: Vec::new(),
            len: 0,
            n_ctx,
        }
    }

    /// Returns the number of positions in the cache.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no positions.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many positions there may be.
    #[must_use]
    pub const fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Returns the bytes that are allocated.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.blocks.len() * self.shape.block_bytes()
    }

    /// Keeps the first `len` positions; does nothing if there are no more. Memory is kept.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Allocates blocks for `n` positions in all, at most `n_ctx`.
    pub fn reserve(&mut self, n: usize) {
        let n_blocks = n.min(self.n_ctx).div_ceil(KV_BLOCK);
        while self.blocks.len() < n_blocks {
            self.blocks.push(KvBlock::new(self.shape));
        }
    }

    /// Returns the blocks, in the order of their positions.
    pub(crate) fn blocks(&self) -> &[KvBlock] {
        &self.blocks
    }

    /// Takes the next `n` positions into the cache, after all layers have been written.
    pub(crate) fn grow(&mut self, n: usize) {
        self.len += n;
    }

    /// Writes one layer of `n_tokens` positions from `first` on, for which blocks have been
    /// reserved.
    pub(crate) fn write(
        &mut self,
        team: &Team<'_>,
        layer: usize,
        first: usize,
        n_tokens: usize,
        rows: KvRows<'_>,
    ) {
        let (n_head_kv, head_dim) = (self.shape.n_head_kv(), self.shape.head_dim());
        let first_block = first / KV_BLOCK;
        let blocks = &mut self.blocks[first_block..(first + n_tokens).div_ceil(KV_BLOCK)];
        team.for_each_chunk(blocks, 1, |idx, block| {
            let start = (first_block + idx) * KV_BLOCK;
            for position in start.max(first)..(start + KV_BLOCK).min(first + n_tokens) {
                let token = position - first;
                for head in 0..n_head_kv {
                    let key = token * rows.keys_stride + head * head_dim;
                    let value = token * rows.values_stride + head * head_dim;
                    block[0].write(
                        layer,
                        head,
                        position - start,
                        &rows.keys[key..key + head_dim],
                        &rows.values[value..value + head_dim],
                    );
                }
            }
        });
    }
}
