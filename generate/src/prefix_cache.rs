//! Keys and values of what was computed before, found by the tokens they belong to.
//!
//! The blocks of 64 positions form a tree: a node is a block and the tokens in it, and its
//! path from the root is all that the keys and values in it depend on. A prompt walks down as
//! far as its tokens agree, and may leave in the middle of a block: the positions before count,
//! and the sequence that takes the block copies it before it writes its own.
//!
//! Blocks are shared by counting: the tree and any number of sequences hold the same memory.
//! What no sequence stands on is bounded; beyond the limit the block goes that was not asked
//! for the longest, children before parents. With a [disk](disk) below, a block that goes stays
//! there and is read again when a prompt comes by.

mod disk;
mod tree;

use std::sync::Arc;

use moe_model::KvCache;
use quant_kernels::{KV_BLOCK, KvBlock};

use self::{
    disk::Disk,
    tree::{NodeId, Place, Tree},
};
use crate::{CacheMiss, DiskCacheOptions, GenerateError};

/// Where a sequence stands in the tree: at the last of its blocks that the tree holds. As
/// long as it stands there, nothing of its path goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    node: Option<NodeId>,
    /// Full blocks up to there.
    n_blocks: usize,
}

/// What is remembered of a prompt.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) blocks: Vec<Arc<KvBlock>>,
    /// Tokens that agree. The last block may have more.
    pub(crate) len: usize,
    pub(crate) miss: Option<CacheMiss>,
    pub(crate) cursor: Cursor,
}

/// The tree, its limits, and what lies on disk.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    tree: Tree,
    disk: Option<Disk>,
    max_bytes: u64,
    block_bytes: u64,
    /// Counts lookups and insertions; the time of the least recently used.
    now: u64,
}

impl PrefixCache {
    /// Makes an empty cache for blocks shaped as those of `like`, or one with what an earlier
    /// one has left on disk.
    ///
    /// # Errors
    /// [`GenerateError::CacheFolder`] if the folder cannot be made or read.
    pub(crate) fn new(
        like: &KvCache,
        max_bytes: u64,
        disk: Option<&DiskCacheOptions>,
    ) -> Result<Self, GenerateError> {
        let mut tree = Tree::default();
        let disk = disk.map(|options| Disk::open(options, like.shape(), &mut tree));
        let disk = disk.transpose()?;
        // What was written by others was used before anything here is.
        let now = tree
            .iter()
            .map(|(_, node)| node.used)
            .max()
            .unwrap_or_default();
        Ok(Self {
            tree,
            disk,
            max_bytes,
            block_bytes: like.shape().block_bytes() as u64,
            now,
        })
    }

    /// Returns how many of the first tokens of a prompt are remembered, wherever they lie.
    pub(crate) fn n_known(&self, tokens: &[u32]) -> usize {
        let (mut at, mut len) = (None, 0);
        while let Some((node, n_common)) = self.tree.nearest_child(at, &tokens[len..]) {
            len += n_common;
            if n_common < KV_BLOCK {
                break;
            }
            at = Some(node);
        }
        len
    }

    /// Finds the blocks of the longest beginning of `tokens` that is remembered.
    pub(crate) fn find(&mut self, tokens: &[u32]) -> Found {
        self.now += 1;
        let mut found = Found::default();
        while let Some((node, n_common)) =
            (self.tree).nearest_child(found.cursor.node, &tokens[found.len..])
        {
            let position = found.len + n_common;
            let ahead = self.tree.get(node).tokens.get(n_common);
            if let (Some(&cached), Some(&token)) = (ahead, tokens.get(position)) {
                found.miss = Some(CacheMiss {
                    position,
                    cached,
                    found: token,
                });
            }
            if n_common == 0 {
                break;
            }
            let Some(block) = self.take(node) else {
                // Its file could not be read, so it and what hangs on it are gone.
                found.miss = None;
                continue;
            };
            found.blocks.push(block);
            found.len = position;
            if n_common < KV_BLOCK {
                break;
            }
            self.step(&mut found.cursor, node);
        }
        found
    }

    /// Moves a sequence on to a child of the node that it stands on.
    fn step(&mut self, cursor: &mut Cursor, node: NodeId) {
        self.tree.enter(node);
        *cursor = Cursor {
            node: Some(node),
            n_blocks: cursor.n_blocks + 1,
        };
    }

    /// Takes a sequence that has ended off the tree.
    pub(crate) fn leave(&mut self, cursor: Cursor) {
        self.tree.leave(cursor.node);
    }

    /// Returns the block of a node, from disk if it lies there.
    fn take(&mut self, node: NodeId) -> Option<Arc<KvBlock>> {
        if let Place::Disk = self.tree.get(node).place() {
            let read = (self.disk.as_mut()).and_then(|disk| disk.read(self.tree.get(node)));
            let Some(block) = read else {
                self.forget(node);
                return None;
            };
            self.tree.put(node, Place::Memory(block));
        }
        let node = self.tree.get_mut(node);
        node.used = self.now;
        match node.place() {
            Place::Memory(block) => Some(Arc::clone(block)),
            Place::Disk => None,
        }
    }

    /// Remembers the blocks of a sequence that are complete and not yet in the tree, of which
    /// `tokens` are in `cache`. With `tail`, the last block too, even if it is not full.
    /// Blocks that another sequence has computed meanwhile take the place of its own.
    pub(crate) fn remember(
        &mut self,
        cursor: &mut Cursor,
        tokens: &[u32],
        cache: &mut KvCache,
        tail: bool,
    ) {
        let (blocks, rest) = tokens.as_chunks::<KV_BLOCK>();
        self.now += 1;
        for block_tokens in &blocks[cursor.n_blocks..] {
            let Some(block) = cache.block(cursor.n_blocks) else {
                return;
            };
            let (node, block) = self.insert(cursor.node, block_tokens, block);
            cache.share(cursor.n_blocks, &block);
            self.step(cursor, node);
        }
        if let Some(block) = cache.block(blocks.len()).filter(|_| tail)
            && !rest.is_empty()
        {
            let known = self.tree.nearest_child(cursor.node, rest);
            if known.is_none_or(|(_, n_common)| n_common < rest.len()) {
                self.insert(cursor.node, rest, block);
            }
        }
    }

    /// Puts a block below `parent`, unless it is there, and returns the one that is.
    fn insert(
        &mut self,
        parent: Option<NodeId>,
        tokens: &[u32],
        block: &Arc<KvBlock>,
    ) -> (NodeId, Arc<KvBlock>) {
        if let Some((node, n_common)) = self.tree.nearest_child(parent, tokens)
            && n_common == tokens.len()
            && self.tree.get(node).tokens.len() == n_common
        {
            if let Place::Disk = self.tree.get(node).place() {
                self.tree.put(node, Place::Memory(Arc::clone(block)));
            }
            let known = self.take(node).unwrap_or_else(|| Arc::clone(block));
            return (node, known);
        }
        for shorter in self.tree.shorter_children(parent, tokens) {
            self.forget(shorter);
        }
        let node = self
            .tree
            .insert(parent, tokens, Arc::clone(block), self.now);
        if let Some(disk) = &mut self.disk {
            let is_written = disk.write(self.tree.get(node), block);
            self.tree.get_mut(node).is_written = is_written;
        }
        (node, Arc::clone(block))
    }

    /// Lets go of what is beyond the limits.
    pub(crate) fn shrink(&mut self) {
        debug_assert_eq!(self.tree.counts(), self.tree.recount());
        let n_most = self.max_bytes / self.block_bytes.max(1);
        while self.tree.counts().n_idle > n_most {
            // A parent in memory goes after its children: a prompt that misses it finds them
            // no more.
            let Some(oldest) = self.tree.oldest(|tree, node| {
                node.is_held()
                    && node.is_free()
                    && !node.children.iter().any(|&child| tree.get(child).is_held())
            }) else {
                break;
            };
            if self.tree.get(oldest).is_written {
                self.tree.put(oldest, Place::Disk);
            } else {
                self.forget(oldest);
            }
        }
        while self.disk.as_ref().is_some_and(Disk::is_over) {
            let Some(oldest) = self
                .tree
                .oldest(|_, node| node.is_written && node.children.is_empty() && node.is_free())
            else {
                break;
            };
            self.forget(oldest);
        }
    }

    /// Forgets a node and what hangs on it, on disk too.
    fn forget(&mut self, node: NodeId) {
        for node in self.tree.remove(node) {
            if let Some(disk) = self.disk.as_mut().filter(|_| node.is_written) {
                disk.remove(&node);
            }
        }
    }

    /// Returns the bytes in memory that no sequence stands on.
    pub(crate) const fn n_bytes(&self) -> u64 {
        self.tree.counts().n_idle * self.block_bytes
    }

    /// Returns the tokens that are remembered.
    pub(crate) const fn n_tokens(&self) -> u64 {
        self.tree.counts().n_tokens
    }

    /// Returns the disk below.
    pub(crate) const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }
}
