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
//! there and is [brought](PrefixCache::bring) back while a prompt that needs it waits.

mod disk;
mod tree;

use std::{sync::Arc, time::Duration};

use moe_model::KvCache;
use quant_kernels::{KV_BLOCK, KvBlock};

use self::{
    disk::{Disk, Found as FoundOnDisk},
    tree::{NodeId, Place, Tree},
};
use crate::{CacheMiss, DiskCacheOptions, GenerateError};

/// Blocks beyond the limit that may stay until they are written: those of a step or two, so
/// that a small memory does not keep everything from the disk.
const N_LATE: u64 = 8;

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
    /// Dropped before the tree, whose blocks it writes until the last.
    disk: Option<Disk>,
    tree: Tree,
    max_bytes: u64,
    block_bytes: u64,
    /// Counts lookups and insertions; the time of the least recently used.
    now: u64,
}

impl PrefixCache {
    /// Makes an empty cache for blocks shaped as those of `like`, or one with what an earlier
    /// one has left on disk. If another one has the disk just now, it is as if there were none.
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
        let disk = disk.transpose()?.flatten();
        // What was written by others was used before anything here is.
        let now = tree
            .iter()
            .map(|(_, node)| node.used())
            .max()
            .unwrap_or_default();
        Ok(Self {
            disk,
            tree,
            max_bytes,
            block_bytes: like.shape().block_bytes() as u64,
            now,
        })
    }

    /// Returns the blocks that a prompt shares its beginning with, and how many tokens of each;
    /// of the last perhaps none.
    fn path(&self, tokens: &[u32]) -> Vec<(NodeId, usize)> {
        let (mut path, mut rest, mut at) = (Vec::new(), tokens, None);
        while let Some((node, n_common)) = self.tree.nearest_child(at, rest) {
            path.push((node, n_common));
            if n_common < KV_BLOCK {
                break;
            }
            (at, rest) = (Some(node), &rest[n_common..]);
        }
        path
    }

    /// Returns how many of the first tokens of a prompt are remembered, wherever they lie.
    pub(crate) fn n_known(&self, tokens: &[u32]) -> usize {
        self.path(tokens).iter().map(|(_, n_common)| n_common).sum()
    }

    /// Has what is remembered of `tokens` brought into memory, and returns whether all of it is
    /// there. What is there is put into `held`, so that it stays.
    pub(crate) fn bring(&mut self, tokens: &[u32], held: &mut Vec<Arc<KvBlock>>) -> bool {
        held.clear();
        let mut is_there = true;
        for (id, n_common) in self.path(tokens) {
            let node = self.tree.get(id);
            match (node.place(), &mut self.disk) {
                (Place::Memory(block), _) => held.push(Arc::clone(block)),
                (Place::Disk, Some(disk)) if n_common > 0 => {
                    disk.read(id, node);
                    is_there = false;
                }
                (Place::Disk, _) => {}
            }
        }
        is_there
    }

    /// Takes in what was read from disk meanwhile.
    pub(crate) fn take_in(&mut self) {
        while self.take_in_next(Duration::ZERO) {}
    }

    /// Takes in the next block that is read from disk, if it comes within so long. Returns
    /// whether it did.
    pub(crate) fn take_in_next(&mut self, at_most: Duration) -> bool {
        let Some(found) = (self.disk.as_mut()).and_then(|disk| disk.found(at_most)) else {
            return false;
        };
        let FoundOnDisk { node, hash, block } = found;
        let asked = self.tree.find(node);
        if asked.is_none_or(|node| node.hash != hash || node.is_held()) {
            return true;
        }
        match block {
            Some(block) => self.tree.put(node, Place::Memory(Arc::new(block))),
            // It is not what it should be, so it and what hangs on it are gone.
            None => self.forget(node),
        }
        true
    }

    /// Finds the blocks of the longest beginning of `tokens` that is in memory.
    pub(crate) fn find(&mut self, tokens: &[u32]) -> Found {
        self.now += 1;
        let mut found = Found::default();
        for (node, n_common) in self.path(tokens) {
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
                // It lies on disk, and its beginning is of use all the same.
                found.miss = None;
                break;
            };
            found.blocks.push(block);
            found.len = position;
            if n_common == KV_BLOCK {
                self.step(&mut found.cursor, node);
            }
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
    pub(crate) fn leave(&mut self, Cursor { node, .. }: Cursor) {
        self.tree.leave(node);
    }

    /// Returns the block of a node, if it lies in memory.
    fn take(&mut self, id: NodeId) -> Option<Arc<KvBlock>> {
        let Place::Memory(block) = self.tree.get(id).place() else {
            return None;
        };
        let block = Arc::clone(block);
        self.tree.touch(id, self.now);
        self.write(id);
        Some(block)
    }

    /// Has a node written to disk, unless it lies there or will in a moment.
    fn write(&mut self, id: NodeId) {
        let (Some(disk), node) = (&mut self.disk, self.tree.get(id)) else {
            return;
        };
        match node.file() {
            Some(file) if file.is_there() || file.is_waiting() => return,
            // It failed the last time.
            Some(_) => disk.remove(node),
            None => {}
        }
        let file = disk.write(node);
        self.tree.set_file(id, file);
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
        if let Some(node) = self.tree.child(parent, tokens) {
            if !self.tree.get(node).is_held() {
                self.tree.put(node, Place::Memory(Arc::clone(block)));
            }
            let known = self.take(node).unwrap_or_else(|| Arc::clone(block));
            return (node, known);
        }
        let shorter = self.tree.shorter_children(parent, tokens);
        let node = self
            .tree
            .insert(parent, tokens, Arc::clone(block), self.now);
        self.write(node);
        shorter.into_iter().for_each(|shorter| self.forget(shorter));
        (node, Arc::clone(block))
    }

    /// Lets go of what is beyond the limits.
    pub(crate) fn shrink(&mut self) {
        debug_assert_eq!(self.tree.counts(), self.tree.recount());
        let n_most = self.max_bytes / self.block_bytes.max(1);
        while self.tree.counts().n_idle > n_most {
            let Some(oldest) = self.tree.oldest_in_memory() else {
                break;
            };
            match self.tree.get(oldest).file() {
                Some(file) if file.is_there() => self.tree.put(oldest, Place::Disk),
                Some(file) if file.is_waiting() && self.tree.counts().n_idle <= n_most + N_LATE => {
                    break;
                }
                _ => self.forget(oldest),
            }
        }
        while self.disk.as_ref().is_some_and(Disk::is_over) {
            let Some(oldest) = self.tree.oldest_on_disk() else {
                break;
            };
            self.forget(oldest);
        }
    }

    /// Forgets a node and what hangs on it, on disk too.
    fn forget(&mut self, node: NodeId) {
        for node in self.tree.remove(node) {
            if let Some(disk) = self.disk.as_mut().filter(|_| node.file().is_some()) {
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

    /// Returns the disk below, if there is one and it is ours.
    pub(crate) const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }
}
