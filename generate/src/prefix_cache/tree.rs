//! The tree of token sequences, as numbered nodes.
//!
//! What is asked at every step, how much there is and how much of it nobody uses, is counted
//! as nodes come, go and change, so that a step costs the same however large the tree is.

use std::sync::Arc;

use quant_kernels::KvBlock;

/// A node that is in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(usize);

/// What the keys and values of a node lie in.
#[derive(Debug)]
pub(super) enum Place {
    Memory(Arc<KvBlock>),
    Disk,
}

/// A block of keys and values and the tokens that it belongs to.
#[derive(Debug)]
pub(super) struct Node {
    parent: Option<NodeId>,
    pub(super) children: Vec<NodeId>,
    /// The tokens of the block, 64 unless it is a leaf.
    pub(super) tokens: Vec<u32>,
    /// Hash of all tokens before, 0 if there are none.
    pub(super) beginning: u128,
    /// Hash of all tokens from the root to the end of these.
    pub(super) hash: u128,
    place: Place,
    /// Sequences that stand here or further down.
    n_users: usize,
    /// When it was last asked for.
    pub(super) used: u64,
    /// Whether it lies on disk, or will in a moment.
    pub(super) is_written: bool,
}

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) n_tokens: u64,
    /// Blocks in memory that no sequence stands on.
    pub(super) n_idle: u64,
}

/// Nodes by number; freed numbers are used again.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    roots: Vec<NodeId>,
    counts: Counts,
}

impl Node {
    /// Returns what the keys and values lie in.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the block lies in memory.
    pub(super) const fn is_held(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// Whether the block lies in memory and no sequence stands on it.
    const fn is_idle(&self) -> bool {
        self.is_held() && self.n_users == 0
    }

    /// Whether nobody would miss the block: no sequence, and not the thread that writes files.
    pub(super) fn is_free(&self) -> bool {
        let is_shared = matches!(&self.place, Place::Memory(block) if Arc::strong_count(block) > 1);
        self.n_users == 0 && !is_shared
    }
}

impl Tree {
    /// Returns the sums over all nodes.
    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the same by looking at every node.
    pub(super) fn recount(&self) -> Counts {
        self.iter()
            .fold(Counts::default(), |counts, (_, node)| Counts {
                n_tokens: counts.n_tokens + node.tokens.len() as u64,
                n_idle: counts.n_idle + u64::from(node.is_idle()),
            })
    }

    /// Moves the block of a node.
    pub(super) fn put(&mut self, id: NodeId, place: Place) {
        self.change(id, |node| node.place = place);
    }

    /// Has one more sequence stand on a node, which stood on its parent.
    pub(super) fn enter(&mut self, id: NodeId) {
        self.change(id, |node| node.n_users += 1);
    }

    /// Takes a sequence away that stood on a node, and so on all nodes above it.
    pub(super) fn leave(&mut self, mut at: Option<NodeId>) {
        while let Some(id) = at {
            self.change(id, |node| node.n_users -= 1);
            at = self.get(id).parent;
        }
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = self.get_mut(id);
        let was_idle = node.is_idle();
        change(node);
        let is_idle = node.is_idle();
        self.counts.n_idle += u64::from(is_idle);
        self.counts.n_idle -= u64::from(was_idle);
    }

    pub(super) fn get(&self, NodeId(idx): NodeId) -> &Node {
        self.nodes[idx]
            .as_ref()
            .expect("ids of nodes that are gone are not kept")
    }

    pub(super) fn get_mut(&mut self, NodeId(idx): NodeId) -> &mut Node {
        self.nodes[idx]
            .as_mut()
            .expect("ids of nodes that are gone are not kept")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(idx, node)| Some((NodeId(idx), node.as_ref()?)))
    }

    fn children(&self, parent: Option<NodeId>) -> &[NodeId] {
        parent.map_or(&self.roots, |parent| &self.get(parent).children)
    }

    fn children_mut(&mut self, parent: Option<NodeId>) -> &mut Vec<NodeId> {
        match parent {
            Some(parent) => &mut self.get_mut(parent).children,
            None => &mut self.roots,
        }
    }

    /// Returns the child of `parent` that shares the most of the next tokens, the one asked for
    /// last among equals, and how many they are.
    pub(super) fn nearest_child(
        &self,
        parent: Option<NodeId>,
        tokens: &[u32],
    ) -> Option<(NodeId, usize)> {
        let n_common = |child: NodeId| {
            let pairs = self.get(child).tokens.iter().zip(tokens);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let children = self.children(parent).iter().copied();
        children
            .map(|child| (child, n_common(child)))
            .max_by_key(|&(child, n_common)| (n_common, self.get(child).used))
    }

    /// Returns the children of `parent` whose tokens `tokens` begins with, and that have fewer.
    pub(super) fn shorter_children(&self, parent: Option<NodeId>, tokens: &[u32]) -> Vec<NodeId> {
        let is_shorter = |&child: &NodeId| {
            let known = &self.get(child).tokens;
            known.len() < tokens.len() && tokens.starts_with(known)
        };
        self.children(parent)
            .iter()
            .copied()
            .filter(is_shorter)
            .collect()
    }

    /// Adds a block below `parent`.
    pub(super) fn insert(
        &mut self,
        parent: Option<NodeId>,
        tokens: &[u32],
        block: Arc<KvBlock>,
        now: u64,
    ) -> NodeId {
        let place = Place::Memory(block);
        let node = self.node(parent, tokens, place, now);
        self.add(node)
    }

    /// Adds a block that lies on disk below `parent`.
    pub(super) fn insert_on_disk(
        &mut self,
        parent: Option<NodeId>,
        tokens: &[u32],
        used: u64,
    ) -> NodeId {
        let mut node = self.node(parent, tokens, Place::Disk, used);
        node.is_written = true;
        self.add(node)
    }

    fn node(&self, parent: Option<NodeId>, tokens: &[u32], place: Place, used: u64) -> Node {
        let beginning = parent.map_or(0, |parent| self.get(parent).hash);
        Node {
            parent,
            children: Vec::new(),
            tokens: tokens.to_vec(),
            beginning,
            hash: hash(beginning, tokens),
            place,
            n_users: 0,
            used,
            is_written: false,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let parent = node.parent;
        self.counts.n_tokens += node.tokens.len() as u64;
        self.counts.n_idle += u64::from(node.is_idle());
        let id = match self.free.pop() {
            Some(idx) => {
                self.nodes[idx] = Some(node);
                NodeId(idx)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() - 1)
            }
        };
        self.children_mut(parent).push(id);
        id
    }

    /// Takes a node and what hangs on it out of the tree.
    pub(super) fn remove(&mut self, id: NodeId) -> Vec<Node> {
        let parent = self.get(id).parent;
        self.children_mut(parent).retain(|&child| child != id);
        let (mut removed, mut open) = (Vec::new(), vec![id]);
        while let Some(NodeId(idx)) = open.pop() {
            if let Some(node) = self.nodes[idx].take() {
                debug_assert_eq!(node.n_users, 0, "nobody stands on what goes");
                self.counts.n_tokens -= node.tokens.len() as u64;
                self.counts.n_idle -= u64::from(node.is_idle());
                self.free.push(idx);
                open.extend(&node.children);
                removed.push(node);
            }
        }
        removed
    }

    /// Returns the node that was not asked for the longest, among those that `may` go.
    pub(super) fn oldest(&self, may: impl Fn(&Self, &Node) -> bool) -> Option<NodeId> {
        let nodes = self.iter().filter(|(_, node)| may(self, node));
        nodes.min_by_key(|(_, node)| node.used).map(|(id, _)| id)
    }
}

/// Returns the hash of a sequence: of its beginning, of which the hash is given, and its end.
pub(super) fn hash(beginning: u128, tokens: &[u32]) -> u128 {
    let mut bytes = beginning.to_le_bytes().to_vec();
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quant_kernels::{KvShape, KvType};

    use super::*;

    /// Something that happens to a tree; numbers choose among the nodes there are.
    #[derive(Clone, Debug)]
    enum Deed {
        Insert {
            parent: usize,
            len: usize,
            is_on_disk: bool,
        },
        Put {
            node: usize,
            is_on_disk: bool,
        },
        Enter(usize),
        Leave(usize),
        Remove(usize),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let one = 0..100usize;
        prop_oneof![
            4 => (one.clone(), 1..=64usize, any::<bool>())
                .prop_map(|(parent, len, is_on_disk)| Deed::Insert { parent, len, is_on_disk }),
            2 => (one.clone(), any::<bool>())
                .prop_map(|(node, is_on_disk)| Deed::Put { node, is_on_disk }),
            2 => one.clone().prop_map(Deed::Enter),
            2 => one.clone().prop_map(Deed::Leave),
            1 => one.prop_map(Deed::Remove),
        ]
    }

    fn block() -> Arc<KvBlock> {
        let shape = KvShape::new(KvType::F16, KvType::F16, 1, 1, 32).unwrap();
        Arc::new(KvBlock::new(shape))
    }

    /// Walks to a node as a sequence does, from the root.
    fn walk(tree: &mut Tree, node: NodeId) {
        let (mut path, mut at) = (Vec::new(), Some(node));
        while let Some(id) = at {
            path.push(id);
            at = tree.get(id).parent;
        }
        path.into_iter().rev().for_each(|id| tree.enter(id));
    }

    /// Does a deed, if the nodes there are allow it. `places` is where sequences stand.
    fn perform(tree: &mut Tree, deed: &Deed, places: &mut Vec<NodeId>) {
        let ids: Vec<_> = tree.iter().map(|(id, _)| id).collect();
        let choose = |idx: usize| ids.get(idx % (ids.len() + 1)).copied();
        let place = |is_on_disk: bool| match is_on_disk {
            true => Place::Disk,
            false => Place::Memory(block()),
        };
        match *deed {
            Deed::Insert {
                parent,
                len,
                is_on_disk: true,
            } => {
                tree.insert_on_disk(choose(parent), &vec![7; len], 1);
            }
            Deed::Insert { parent, len, .. } => {
                tree.insert(choose(parent), &vec![7; len], block(), 1);
            }
            Deed::Put { node, is_on_disk } => {
                let node = choose(node);
                let node = node.filter(|&id| tree.get(id).n_users == 0);
                node.into_iter()
                    .for_each(|id| tree.put(id, place(is_on_disk)));
            }
            Deed::Enter(node) => {
                if let Some(node) = choose(node) {
                    walk(tree, node);
                    places.push(node);
                }
            }
            Deed::Leave(_) if places.is_empty() => {}
            Deed::Leave(idx) => {
                let node = places.swap_remove(idx % places.len());
                tree.leave(Some(node));
            }
            Deed::Remove(node) => {
                let node = choose(node).filter(|&id| tree.get(id).n_users == 0);
                node.into_iter().for_each(|id| drop(tree.remove(id)));
            }
        }
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_recount(deeds in prop::collection::vec(deed(), 1..60)) {
            let (mut tree, mut places) = (Tree::default(), Vec::new());
            for deed in &deeds {
                perform(&mut tree, deed, &mut places);
                prop_assert_eq!(tree.counts(), tree.recount(), "after {:?}", deed);
            }
            places.drain(..).for_each(|node| tree.leave(Some(node)));
            prop_assert!(tree.iter().all(|(_, node)| node.n_users == 0));
            prop_assert_eq!(tree.counts(), tree.recount());
        }
    }
}
