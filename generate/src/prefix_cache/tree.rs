//! The tree of token sequences, as numbered nodes.

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
    pub(super) place: Place,
    /// When it was last asked for.
    pub(super) used: u64,
    /// Whether it lies on disk, or will in a moment.
    pub(super) is_written: bool,
}

/// Nodes by number; freed numbers are used again.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    roots: Vec<NodeId>,
}

impl Tree {
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
            used,
            is_written: false,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let parent = node.parent;
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
