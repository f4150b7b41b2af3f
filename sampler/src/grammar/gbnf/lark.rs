//! A GBNF grammar, written in Lark: each node a rule, each set of characters a terminal.

use std::{collections::HashMap, fmt::Write};

use super::{
    parse::{Gbnf, Node},
    runs::Positions,
};

/// Writes a grammar.
pub(super) fn write(grammar: &Gbnf, positions: &Positions) -> String {
    let mut writer = Writer {
        grammar,
        positions,
        terminals: HashMap::new(),
        lark: format!("start: r{}\n", grammar.root),
        n_groups: 0,
    };
    for (idx, rule) in grammar.rules.iter().enumerate() {
        let body = writer.body(rule);
        let _ = writeln!(writer.lark, "r{idx}: {body}");
    }
    writer.lark
}

struct Writer<'a> {
    grammar: &'a Gbnf,
    positions: &'a Positions,
    /// Names by what they stand for.
    terminals: HashMap<String, String>,
    lark: String,
    n_groups: usize,
}

impl Writer<'_> {
    /// Returns what stands to the right of a rule.
    fn body(&mut self, node: &Node) -> String {
        match node {
            Node::OneOf(nodes) => {
                let options: Vec<_> = nodes.iter().map(|node| self.sequence(node)).collect();
                options.join(" | ")
            }
            _ => self.sequence(node),
        }
    }

    fn sequence(&mut self, node: &Node) -> String {
        match node {
            Node::Sequence(nodes) if nodes.is_empty() => "\"\"".to_owned(),
            Node::Sequence(nodes) => {
                let atoms: Vec<_> = nodes.iter().map(|node| self.atom(node)).collect();
                atoms.join(" ")
            }
            _ => self.atom(node),
        }
    }

    /// Returns a name, perhaps with how often it is repeated.
    fn atom(&mut self, node: &Node) -> String {
        match node {
            Node::Set(place) => self.terminal(*place),
            Node::Rule(rule) => format!("r{rule}"),
            Node::Sequence(_) | Node::OneOf(_) => self.group(node),
            Node::Repeat { node, least, most } => {
                let name = match **node {
                    Node::Set(_) | Node::Rule(_) => self.atom(node),
                    _ => self.group(node),
                };
                match (least, most) {
                    (0, None) => format!("{name}*"),
                    (1, None) => format!("{name}+"),
                    (0, Some(1)) => format!("{name}?"),
                    (_, Some(0)) => "\"\"".to_owned(),
                    (least, None) => format!("{name}{{{least},}}"),
                    (least, Some(most)) => format!("{name}{{{least},{most}}}"),
                }
            }
        }
    }

    fn group(&mut self, node: &Node) -> String {
        let body = self.body(node);
        let name = format!("g{}", self.n_groups);
        self.n_groups += 1;
        let _ = writeln!(self.lark, "{name}: {body}");
        name
    }

    fn terminal(&mut self, place: usize) -> String {
        let class = self.grammar.sets[place].class();
        let plus = if self.positions.is_run(place) {
            "+"
        } else {
            ""
        };
        let text = format!("/{class}{plus}/");
        if let Some(name) = self.terminals.get(&text) {
            return name.clone();
        }
        let name = format!("T{}", self.terminals.len());
        let _ = writeln!(self.lark, "{name}: {text}");
        self.terminals.insert(text, name.clone());
        name
    }
}
