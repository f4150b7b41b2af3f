//! The keys and values of the positions that one sequence has seen so far.
//!
//! The cache grows in blocks of 64 positions as tokens come, up to a limit that the caller
//! sets; what the file claims about its context plays no part. Truncating only moves the end:
//! positions after it are overwritten by what comes next, and nothing else reads them.
//!
//! Sequences that begin alike may share blocks: [`KvCache::block`] lends one to whoever
//! remembers it, [`KvCache::restore`] takes them in. A block that somebody else holds too is
//! copied before anything is written into it.

use std::sync::Arc;

use quant_kernels::{KV_BLOCK, KvBlock, KvShape, KvType, Team};

use crate::{Config, Model, ModelError, error::in_range};

/// Keys and values of every layer, by position: what is remembered of a sequence.
#[derive(Debug)]
pub struct KvCache {
    /// Of the model it was made for.
    config: Config,
    shape: KvShape,
    blocks: Vec<Arc<KvBlock>>,
    len: usize,
    n_ctx: usize,
}

/// The keys and values of a batch, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvRows<'a> {
    /// Key rows: token `t`, head `h` begins at `t · stride + h · head_dim`.
    pub(crate) keys: &'a [f32],
    /// Value rows, like the keys.
    pub(crate) values: &'a [f32],
    /// Floats from one token's rows to the next.
    pub(crate) stride: usize,
}

/// What a batch writes into one block.
#[derive(Debug)]
pub(crate) struct KvWrite<'a> {
    block: &'a mut KvBlock,
    /// Positions within the block.
    positions: std::ops::Range<usize>,
    /// Row of the first of them.
    first_row: usize,
}

impl KvCache {
    /// Makes an empty cache for a sequence of at most `n_ctx` positions.
    ///
    /// # Errors
    /// `n_ctx` is zero or too large, or the cache cannot have the model's shape.
    pub fn new(
        model: &Model<'_>,
        n_ctx: usize,
        keys: KvType,
        values: KvType,
    ) -> Result<Self, ModelError> {
        in_range("n_ctx", n_ctx, u32::MAX as usize)?;
        Ok(Self {
            config: model.config().clone(),
            shape: kv_shape(model.config(), keys, values)?,
            blocks: Vec::new(),
            len: 0,
            n_ctx,
        })
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

    /// Allocates blocks for `n` positions in all, at most `n_ctx`, so that none is allocated
    /// on the way.
    pub fn reserve(&mut self, n: usize) {
        let n_blocks = n.min(self.n_ctx).div_ceil(KV_BLOCK);
        while self.blocks.len() < n_blocks {
            self.blocks.push(Arc::new(KvBlock::new(self.shape)));
        }
    }

    /// Returns the block that begins at position `64 · idx`, `None` where there is no position
    /// yet.
    #[must_use]
    pub fn block(&self, idx: usize) -> Option<&Arc<KvBlock>> {
        self.blocks[..self.len.div_ceil(KV_BLOCK)].get(idx)
    }

    /// Makes blocks of other sequences the content of the cache: `len` positions, whose tokens
    /// are those of the sequence.
    ///
    /// # Errors
    /// A block has another shape, there are not as many as `len` positions take, or the cache
    /// has no room for them. The cache is then as it was before.
    pub fn restore(&mut self, blocks: Vec<Arc<KvBlock>>, len: usize) -> Result<(), ModelError> {
        if blocks.iter().any(|block| block.shape() != self.shape) {
            return Err(ModelError::ForeignState { what: "block" });
        }
        let largest = self.n_ctx.min(blocks.len() * KV_BLOCK);
        in_range("len", len, largest)?;
        in_range("n_blocks", blocks.len(), len.div_ceil(KV_BLOCK))?;
        (self.blocks, self.len) = (blocks, len);
        Ok(())
    }

    /// Puts a block in the place of one with the same content, so that both sequences hold
    /// the same memory.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn share(&mut self, idx: usize, block: &Arc<KvBlock>) {
        debug_assert_eq!(block.shape(), self.shape);
        self.blocks[idx] = Arc::clone(block);
    }

    /// Returns how all blocks are shaped.
    #[must_use]
    pub const fn shape(&self) -> KvShape {
        self.shape
    }

    /// Allocates blocks for the next `n` positions and makes those that will be written its
    /// own.
    pub(crate) fn prepare(&mut self, n: usize) {
        let first_block = self.len / KV_BLOCK;
        let n_kept = self.len.div_ceil(KV_BLOCK);
        for idx in first_block..self.blocks.len() {
            let block = &mut self.blocks[idx];
            if idx < n_kept {
                Arc::make_mut(block);
            } else if Arc::get_mut(block).is_none() {
                *block = Arc::new(KvBlock::new(self.shape));
            }
        }
        self.reserve(self.len + n);
    }

    /// Returns the configuration of the model that the cache was made for.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the blocks, in the order of their positions.
    pub(crate) fn blocks(&self) -> &[Arc<KvBlock>] {
        &self.blocks
    }

    /// Takes the next `n` positions into the cache, after all layers have been written.
    pub(crate) fn grow(&mut self, n: usize) {
        self.len += n;
    }

    /// Divides the positions from `first` on, whose rows of the batch begin at `first_row`,
    /// into what each block gets. The blocks must have been [prepared](Self::prepare).
    pub(crate) fn writes(
        &mut self,
        first: usize,
        n_tokens: usize,
        first_row: usize,
    ) -> impl Iterator<Item = KvWrite<'_>> {
        let (end, first_block) = (first + n_tokens, first / KV_BLOCK);
        let starts = (first_block * KV_BLOCK..).step_by(KV_BLOCK);
        let blocks = self.blocks[first_block..end.div_ceil(KV_BLOCK)].iter_mut();
        blocks.zip(starts).map(move |(block, start)| {
            let from = start.max(first);
            KvWrite {
                block: Arc::get_mut(block).expect("blocks to be written were prepared"),
                positions: from - start..(end - start).min(KV_BLOCK),
                first_row: first_row + from - first,
            }
        })
    }
}

/// Writes one layer of everything that a batch writes, in one phase.
pub(crate) fn write(team: &Team<'_>, layer: usize, writes: &mut [KvWrite<'_>], rows: KvRows<'_>) {
    team.for_each_chunk(writes, 1, |_, write| {
        let KvWrite {
            block,
            positions,
            first_row,
        } = &mut write[0];
        let (shape, dim) = (block.shape(), block.shape().head_dim());
        for (position, row) in positions.clone().zip(*first_row..) {
            for head in 0..shape.n_head_kv() {
                let start = row * rows.stride + head * dim;
                let [key, value] = [rows.keys, rows.values].map(|x| &x[start..start + dim]);
                block.write(layer, head, position, key, value);
            }
        }
    });
}

/// Returns the bytes that a cache of `n` positions takes.
///
/// # Errors
/// If the cache cannot have the model's shape.
pub fn kv_bytes(
    config: &Config,
    keys: KvType,
    values: KvType,
    n: usize,
) -> Result<u128, ModelError> {
    let shape = kv_shape(config, keys, values)?;
    Ok(n.div_ceil(KV_BLOCK) as u128 * shape.block_bytes() as u128)
}

fn kv_shape(config: &Config, keys: KvType, values: KvType) -> Result<KvShape, ModelError> {
    KvShape::new(
        keys,
        values,
        config.n_layer,
        config.n_head_kv,
        config.head_dim,
    )
    .map_err(|source| ModelError::Kernel {
        what: "the key/value cache".to_owned(),
        source,
    })
}
