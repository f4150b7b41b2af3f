//! Where a set of characters can be taken in runs.
//!
//! Two places of a grammar meet if some text leads to both of them: those with which a text can
//! begin do, and those that follow two places that meet and share a character. (Which rule
//! called which is forgotten, so more places seem to meet than do.) A set that may be repeated
//! without end is taken in runs if it shares no character with another that it meets.

use super::{
    parse::{Gbnf, Node},
    set::CharSet,
};

/// The most places of which all pairs are looked at; a larger grammar has no runs.
const MAX_PLACES: usize = 1500;

/// How often what follows is gone through, and how many pairs are met with, before it is given
/// up: a grammar made for it has more than there is time for.
const MAX_ROUNDS: usize = 64;
const MAX_MEETINGS: usize = 20_000_000;

/// What is known of the places where a character is described.
pub(super) struct Positions {
    is_run: Vec<bool>,
}

impl Positions {
    pub(super) fn of(grammar: &Gbnf) -> Self {
        let n_places = grammar.sets.len();
        let meets = match n_places <= MAX_PLACES {
            true => Follow::of(grammar).and_then(|follow| follow.meeting(grammar)),
            false => None,
        };
        let Some(meets) = meets else {
            return Self {
                is_run: vec![false; n_places],
            };
        };
        let repeated = repeated(grammar);
        let is_run = (0..n_places).map(|place| {
            let set = &grammar.sets[place];
            let is_alone = |other: usize| other == place || !set.overlaps(&grammar.sets[other]);
            repeated[place] && meets[place].iter().all(is_alone)
        });
        Self {
            is_run: is_run.collect(),
        }
    }

    /// Returns whether the character at a place stands for as many as there are.
    pub(super) fn is_run(&self, place: usize) -> bool {
        self.is_run[place]
    }
}

/// Finds the places that are repeated without end with nothing between.
fn repeated(grammar: &Gbnf) -> Vec<bool> {
    let mut found = Repeated {
        sets: vec![false; grammar.sets.len()],
        rules: vec![0; grammar.rules.len()],
        uses: vec![0; grammar.rules.len()],
    };
    grammar.rules.iter().for_each(|rule| found.visit(rule));
    // A rule that stands only for what is repeated is as what is repeated, and so on.
    let mut is_done = vec![false; grammar.rules.len()];
    while let Some(rule) = (0..is_done.len()).find(|&rule| {
        !is_done[rule] && found.uses[rule] > 0 && found.rules[rule] == found.uses[rule]
    }) {
        is_done[rule] = true;
        if rule != grammar.root {
            found.mark(&grammar.rules[rule]);
        }
    }
    found.sets
}

struct Repeated {
    sets: Vec<bool>,
    /// How often each rule stands where something is repeated, and how often in all.
    rules: Vec<usize>,
    uses: Vec<usize>,
}

impl Repeated {
    fn visit(&mut self, node: &Node) {
        match node {
            Node::Set(_) => (),
            Node::Rule(rule) => self.uses[*rule] += 1,
            Node::Sequence(nodes) | Node::OneOf(nodes) => nodes.iter().for_each(|n| self.visit(n)),
            Node::Repeat { node, least, most } => {
                self.visit(node);
                if *least <= 1 && most.is_none() {
                    self.mark(node);
                }
            }
        }
    }

    fn mark(&mut self, node: &Node) {
        match node {
            Node::Set(place) => self.sets[*place] = true,
            Node::Rule(rule) => self.rules[*rule] += 1,
            Node::OneOf(nodes) => nodes.iter().for_each(|node| self.mark(node)),
            Node::Sequence(_) | Node::Repeat { .. } => (),
        }
    }
}

/// A set of places.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places(Vec<u64>);

impl Places {
    fn none(n: usize) -> Self {
        Self(vec![0; n.div_ceil(64)])
    }

    fn insert(&mut self, place: usize) -> bool {
        let (word, bit) = (&mut self.0[place / 64], 1 << (place % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn add(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
        *self != before
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(idx, &word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| idx * 64 + bit)
        })
    }
}

/// What can begin a node, and whether it can be nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct First {
    places: Places,
    is_nullable: bool,
}

/// Which places can follow each.
struct Follow {
    n_places: usize,
    firsts: Vec<First>,
    of_rules: Vec<Places>,
    of_places: Vec<Places>,
    is_changed: bool,
}

impl Follow {
    /// Finds them out, if that takes no longer than it may.
    fn of(grammar: &Gbnf) -> Option<Self> {
        let n_places = grammar.sets.len();
        let nothing = First {
            places: Places::none(n_places),
            is_nullable: false,
        };
        let mut follow = Self {
            n_places,
            firsts: vec![nothing; grammar.rules.len()],
            of_rules: vec![Places::none(n_places); grammar.rules.len()],
            of_places: vec![Places::none(n_places); n_places],
            is_changed: true,
        };
        let mut n_rounds = 0;
        while follow.is_changed && n_rounds < MAX_ROUNDS {
            follow.is_changed = false;
            n_rounds += 1;
            for (idx, rule) in grammar.rules.iter().enumerate() {
                let first = follow.first(rule);
                if first != follow.firsts[idx] {
                    follow.firsts[idx] = first;
                    follow.is_changed = true;
                }
            }
        }
        let is_known = !follow.is_changed;
        follow.is_changed = true;
        while follow.is_changed && n_rounds < MAX_ROUNDS {
            follow.is_changed = false;
            n_rounds += 1;
            for (idx, rule) in grammar.rules.iter().enumerate() {
                let after = follow.of_rules[idx].clone();
                follow.visit(rule, &after);
            }
        }
        (is_known && !follow.is_changed).then_some(follow)
    }

    fn first(&self, node: &Node) -> First {
        let mut first = First {
            places: Places::none(self.n_places),
            is_nullable: false,
        };
        match node {
            Node::Set(place) => {
                first.places.insert(*place);
            }
            Node::Rule(rule) => first = self.firsts[*rule].clone(),
            Node::Sequence(nodes) => {
                first.is_nullable = true;
                for node in nodes {
                    let next = self.first(node);
                    first.places.add(&next.places);
                    if !next.is_nullable {
                        first.is_nullable = false;
                        break;
                    }
                }
            }
            Node::OneOf(nodes) => {
                for node in nodes {
                    let option = self.first(node);
                    first.places.add(&option.places);
                    first.is_nullable |= option.is_nullable;
                }
            }
            Node::Repeat { node, least, .. } => {
                first = self.first(node);
                first.is_nullable |= *least == 0;
            }
        }
        first
    }

    /// Takes in that `after` can follow `node`.
    fn visit(&mut self, node: &Node, after: &Places) {
        match node {
            Node::Set(place) => self.is_changed |= self.of_places[*place].add(after),
            Node::Rule(rule) => self.is_changed |= self.of_rules[*rule].add(after),
            Node::OneOf(nodes) => nodes.iter().for_each(|node| self.visit(node, after)),
            Node::Sequence(nodes) => {
                let mut after = after.clone();
                for node in nodes.iter().rev() {
                    self.visit(node, &after);
                    let first = self.first(node);
                    match first.is_nullable {
                        true => drop(after.add(&first.places)),
                        false => after = first.places,
                    }
                }
            }
            Node::Repeat { node, most, .. } => {
                let mut after = after.clone();
                if *most != Some(1) {
                    after.add(&self.first(node).places);
                }
                self.visit(node, &after);
            }
        }
    }

    /// Returns with which places each meets, if that takes no longer than it may.
    fn meeting(&self, grammar: &Gbnf) -> Option<Vec<Places>> {
        let sets: &[CharSet] = &grammar.sets;
        let mut meets = vec![Places::none(self.n_places); self.n_places];
        let mut n_left = MAX_MEETINGS;
        let start = &self.firsts[grammar.root].places;
        let mut follow = vec![(start, start)];
        while let Some((these, those)) = follow.pop() {
            let those: Vec<_> = those.iter().collect();
            for a in these.iter() {
                n_left = n_left.checked_sub(those.len())?;
                for &b in &those {
                    if meets[a].insert(b) {
                        meets[b].insert(a);
                        if sets[a].overlaps(&sets[b]) {
                            follow.push((&self.of_places[a], &self.of_places[b]));
                        }
                    }
                }
            }
        }
        Some(meets)
    }
}
