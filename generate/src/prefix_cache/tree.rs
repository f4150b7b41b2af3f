//! The tree of token sequences, as numbered nodes.
//!
//! What is asked at every step, how much there is, how much of it nobody uses and which of
//! that may go first, is kept as nodes come, go and change; and children are in the order of
//! their tokens. So a step costs the same however large the tree is.

use std::{collections::BTreeSet, sync::Arc};

use quant_kernels::KvBlock;

use super::disk::FileState;

/// A node that is in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// In the order of their tokens.
    children: Vec<NodeId>,
    /// Those of them that lie in memory.
    n_held_children: usize,
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
    used: u64,
    /// Its file, if it has one or is to have one.
    file: Option<FileState>,
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
    /// In the order of their tokens.
    roots: Vec<NodeId>,
    counts: Counts,
    /// What may leave memory, by when it was last asked for.
    in_memory: BTreeSet<(u64, NodeId)>,
    /// What may leave the disk, by when it was last asked for.
    on_disk: BTreeSet<(u64, NodeId)>,
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

    /// Whether a sequence holds the block without standing on it, or the thread that writes.
    fn is_shared(&self) -> bool {
        matches!(&self.place, Place::Memory(block) if Arc::strong_count(block) > 1)
    }

    /// Whether it may leave memory. A parent goes after its children: a prompt that misses it
    /// finds them no more.
    const fn may_leave_memory(&self) -> bool {
        self.is_idle() && self.n_held_children == 0
    }

    /// Whether its file may go.
    const fn may_leave_disk(&self) -> bool {
        self.file.is_some() && self.children.is_empty() && self.n_users == 0
    }

    /// Returns when it was last asked for.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Returns its file, if it has one or is to have one.
    pub(super) const fn file(&self) -> Option<&FileState> {
        self.file.as_ref()
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
        let was_held = self.get(id).is_held();
        self.change(id, |node| node.place = place);
        let node = self.get(id);
        let (is_held, parent) = (node.is_held(), node.parent);
        if let Some(parent) = parent {
            self.change(parent, |parent| {
                parent.n_held_children += usize::from(is_held);
                parent.n_held_children -= usize::from(was_held);
            });
        }
    }

    /// Notes that a node was asked for.
    pub(super) fn touch(&mut self, id: NodeId, now: u64) {
        self.change(id, |node| node.used = now);
    }

    /// Notes what the file of a node is.
    pub(super) fn set_file(&mut self, id: NodeId, file: Option<FileState>) {
        self.change(id, |node| node.file = file);
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

    /// Changes a node: it is taken out of the sums and sets, and comes back as it is then.
    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        self.unlist(id);
        change(self.get_mut(id));
        self.list(id);
    }

    fn list(&mut self, id: NodeId) {
        let node = self.get(id);
        let entry = (node.used, id);
        let (is_idle, n_tokens) = (node.is_idle(), node.tokens.len() as u64);
        let (in_memory, on_disk) = (node.may_leave_memory(), node.may_leave_disk());
        self.counts.n_tokens += n_tokens;
        self.counts.n_idle += u64::from(is_idle);
        if in_memory {
            self.in_memory.insert(entry);
        }
        if on_disk {
            self.on_disk.insert(entry);
        }
    }

    fn unlist(&mut self, id: NodeId) {
        let node = self.get(id);
        let entry = (node.used, id);
        let (is_idle, n_tokens) = (node.is_idle(), node.tokens.len() as u64);
        self.counts.n_tokens -= n_tokens;
        self.counts.n_idle -= u64::from(is_idle);
        self.in_memory.remove(&entry);
        self.on_disk.remove(&entry);
    }

    /// Returns a node, if it is there still.
    pub(super) fn find(&self, NodeId(idx): NodeId) -> Option<&Node> {
        self.nodes.get(idx)?.as_ref()
    }

    pub(super) fn get(&self, NodeId(idx): NodeId) -> &Node {
        self.nodes[idx]
            .as_ref()
            .expect("ids of nodes that are gone are not kept")
    }

    fn get_mut(&mut self, NodeId(idx): NodeId) -> &mut Node {
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

    /// Changes the list of children of `parent`.
    fn change_children(&mut self, parent: Option<NodeId>, change: impl FnOnce(&mut Vec<NodeId>)) {
        match parent {
            Some(parent) => self.change(parent, |parent| change(&mut parent.children)),
            None => change(&mut self.roots),
        }
    }

    /// Returns a child of `parent` that shares the most of the next tokens, and how many they
    /// are. It is one of the two that they would stand between; if both share as many, the one
    /// asked for last.
    pub(super) fn nearest_child(
        &self,
        parent: Option<NodeId>,
        tokens: &[u32],
    ) -> Option<(NodeId, usize)> {
        let n_common = |child: NodeId| {
            let pairs = self.get(child).tokens.iter().zip(tokens);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let children = self.children(parent);
        let at = self.place_of(children, tokens);
        children[at.saturating_sub(1)..children.len().min(at + 1)]
            .iter()
            .map(|&child| (child, n_common(child)))
            .max_by_key(|&(child, n_common)| (n_common, self.get(child).used))
    }

    /// Returns the child of `parent` with just these tokens.
    pub(super) fn child(&self, parent: Option<NodeId>, tokens: &[u32]) -> Option<NodeId> {
        let children = self.children(parent);
        let child = *children.get(self.place_of(children, tokens))?;
        (self.get(child).tokens == tokens).then_some(child)
    }

    /// Returns the children of `parent` whose tokens `tokens` begins with, and that have fewer.
    pub(super) fn shorter_children(&self, parent: Option<NodeId>, tokens: &[u32]) -> Vec<NodeId> {
        (1..tokens.len())
            .filter_map(|len| self.child(parent, &tokens[..len]))
            .collect()
    }

    /// Returns the index of the first of `children` that does not come before `tokens`.
    fn place_of(&self, children: &[NodeId], tokens: &[u32]) -> usize {
        children.partition_point(|&child| self.get(child).tokens.as_slice() < tokens)
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
        node.file = Some(FileState::there());
        self.add(node)
    }

    fn node(&self, parent: Option<NodeId>, tokens: &[u32], place: Place, used: u64) -> Node {
        let beginning = parent.map_or(0, |parent| self.get(parent).hash);
        Node {
            parent,
            children: Vec::new(),
            n_held_children: 0,
            tokens: tokens.to_vec(),
            beginning,
            hash: hash(beginning, tokens),
            place,
            n_users: 0,
            used,
            file: None,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let (parent, is_held) = (node.parent, node.is_held());
        let at = self.place_of(self.children(parent), &node.tokens);
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
        self.list(id);
        self.change_children(parent, |children| children.insert(at, id));
        if let Some(parent) = parent {
            self.change(parent, |parent| {
                parent.n_held_children += usize::from(is_held);
            });
        }
        id
    }

    /// Takes a node and what hangs on it out of the tree.
    pub(super) fn remove(&mut self, id: NodeId) -> Vec<Node> {
        let node = self.get(id);
        let (parent, is_held) = (node.parent, node.is_held());
        self.change_children(parent, |children| children.retain(|&child| child != id));
        if let Some(parent) = parent {
            self.change(parent, |parent| {
                parent.n_held_children -= usize::from(is_held);
            });
        }
        let (mut removed, mut open) = (Vec::new(), vec![id]);
        while let Some(id) = open.pop() {
            self.unlist(id);
            if let Some(node) = self.nodes[id.0].take() {
                debug_assert_eq!(node.n_users, 0, "nobody stands on what goes");
                self.free.push(id.0);
                open.extend(&node.children);
                removed.push(node);
            }
        }
        removed
    }

    /// Returns the node that was not asked for the longest, among those that may leave memory.
    pub(super) fn oldest_in_memory(&self) -> Option<NodeId> {
        self.oldest(&self.in_memory)
    }

    /// Returns the node that was not asked for the longest, among those whose file may go.
    pub(super) fn oldest_on_disk(&self) -> Option<NodeId> {
        self.oldest(&self.on_disk)
    }

    fn oldest(&self, among: &BTreeSet<(u64, NodeId)>) -> Option<NodeId> {
        let mut ids = among.iter().map(|&(_, id)| id);
        ids.find(|&id| !self.get(id).is_shared())
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
        Touch(usize),
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
            2 => one.clone().prop_map(Deed::Touch),
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
                tree.insert_on_disk(choose(parent), &vec![7; len], ids.len() as u64);
            }
            Deed::Insert { parent, len, .. } => {
                tree.insert(choose(parent), &vec![7; len], block(), ids.len() as u64);
            }
            Deed::Put { node, is_on_disk } => {
                let node = choose(node);
                let node = node.filter(|&id| tree.get(id).n_users == 0);
                node.into_iter()
                    .for_each(|id| tree.put(id, place(is_on_disk)));
            }
            Deed::Touch(node) => {
                let node = choose(node);
                node.into_iter()
                    .for_each(|id| tree.touch(id, places.len() as u64));
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

    /// What may go first from memory and from disk, found by looking at every node.
    fn oldest(tree: &Tree) -> [Option<NodeId>; 2] {
        let oldest = |may: &dyn Fn(&Node) -> bool| {
            let nodes = tree.iter().filter(|(_, node)| may(node));
            nodes
                .min_by_key(|(id, node)| (node.used, *id))
                .map(|(id, _)| id)
        };
        let is_leaf_of_memory = |node: &Node| {
            node.is_idle() && !node.children.iter().any(|&child| tree.get(child).is_held())
        };
        let is_leaf_of_disk =
            |node: &Node| node.file.is_some() && node.children.is_empty() && node.n_users == 0;
        [oldest(&is_leaf_of_memory), oldest(&is_leaf_of_disk)]
    }

    proptest! {
        #[test]
        fn sums_and_sets_are_those_of_a_look_at_every_node(
            deeds in prop::collection::vec(deed(), 1..60),
        ) {
            let (mut tree, mut places) = (Tree::default(), Vec::new());
            for deed in &deeds {
                perform(&mut tree, deed, &mut places);
                prop_assert_eq!(tree.counts(), tree.recount(), "after {:?}", deed);
                let found = [tree.oldest_in_memory(), tree.oldest_on_disk()];
                prop_assert_eq!(found, oldest(&tree), "after {:?}", deed);
            }
            places.drain(..).for_each(|node| tree.leave(Some(node)));
            prop_assert!(tree.iter().all(|(_, node)| node.n_users == 0));
            prop_assert_eq!(tree.counts(), tree.recount());
        }

        #[test]
        fn the_nearest_child_is_found_among_all(
            children in prop::collection::vec(prop::collection::vec(0..3u32, 1..6), 0..20),
            tokens in prop::collection::vec(0..3u32, 0..9),
        ) {
            let mut tree = Tree::default();
            for child in &children {
                if tree.child(None, child).is_none() {
                    tree.insert(None, child, block(), 1);
                }
            }
            let n_common = |child: &Vec<u32>| {
                child.iter().zip(&tokens).take_while(|(a, b)| a == b).count()
            };
            let nearest = tree.nearest_child(None, &tokens);
            prop_assert_eq!(
                nearest.map(|(_, n)| n),
                children.iter().map(n_common).max()
            );
            prop_assert!(nearest.is_none_or(|(id, n)| n_common(&tree.get(id).tokens) == n));
            let mut shorter: Vec<_> = tree.shorter_children(None, &tokens);
            shorter.sort();
            let is_shorter = |child: &Vec<u32>| {
                child.len() < tokens.len() && tokens.starts_with(child)
            };
            let nodes = tree.iter().filter(|(_, node)| is_shorter(&node.tokens));
            let mut expected: Vec<_> = nodes.map(|(id, _)| id).collect();
            expected.sort();
            prop_assert_eq!(shorter, expected);
        }
    }
}
