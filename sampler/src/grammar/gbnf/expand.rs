//! Places made out of others, so that each is told from its neighbours.
//!
//! `hex{4}` is one place that is followed by itself and by whatever follows the four; written as
//! four places only the last is followed by that. So short counts of a set are written out, and
//! a rule that is nothing but a set is put where it stands.

use super::parse::{Gbnf, Node};

/// The longest count that is written out.
const MAX_COUNT: u32 = 8;

/// Writes out what is short.
pub(super) fn expand(grammar: &mut Gbnf) {
    let rules = grammar.rules.clone();
    let mut grown = Vec::with_capacity(rules.len());
    for rule in &rules {
        grown.push(grammar.expanded(&rules, rule));
    }
    grammar.rules = grown;
}

impl Gbnf {
    fn expanded(&mut self, rules: &[Node], node: &Node) -> Node {
        match node {
            Node::Set(_) => node.clone(),
            Node::Rule(rule) => match &rules[*rule] {
                Node::Set(place) => self.copy(*place),
                _ => node.clone(),
            },
            Node::Sequence(nodes) => {
                Node::Sequence(nodes.iter().map(|n| self.expanded(rules, n)).collect())
            }
            Node::OneOf(nodes) => {
                Node::OneOf(nodes.iter().map(|n| self.expanded(rules, n)).collect())
            }
            Node::Repeat { node, least, most } => {
                let node = self.expanded(rules, node);
                match (&node, *most) {
                    (Node::Set(place), Some(most)) if (2..=MAX_COUNT).contains(&most) => {
                        self.counted(*place, *least, most)
                    }
                    _ => Node::Repeat {
                        node: Box::new(node),
                        least: *least,
                        most: *most,
                    },
                }
            }
        }
    }

    /// Writes a set as often as it must come, and again as often as it may.
    fn counted(&mut self, place: usize, least: u32, most: u32) -> Node {
        let mut rest = Node::Sequence(Vec::new());
        for _ in least..most {
            rest = Node::Repeat {
                node: Box::new(Node::Sequence(vec![self.copy(place), rest])),
                least: 0,
                most: Some(1),
            };
        }
        let mut nodes: Vec<_> = (0..least).map(|_| self.copy(place)).collect();
        nodes.push(rest);
        Node::Sequence(nodes)
    }

    fn copy(&mut self, place: usize) -> Node {
        self.sets.push(self.sets[place].clone());
        Node::Set(self.sets.len() - 1)
    }
}
