//! Guides that begin later: after a text, or whenever a text appears.
//!
//! Before that the text is free. A token that would reach beyond the end of the awaited text may
//! not come: what follows it is the grammar's to say, and another way of writing the same bytes
//! always exists.

use std::{collections::HashMap, sync::Arc};

use sampler::{Grammar, GrammarVocabulary};

use crate::{GenerateError, GrammarGuide, Guide};

/// Holds a text to a grammar from a place on that the model comes to.
#[derive(Debug)]
pub struct LateGuide {
    grammar: Arc<Grammar>,
    awaited: Awaited,
    /// Whether the text is free again once the grammar is fulfilled.
    recurs: bool,
    /// The grammar at work; none while the text is free.
    at_work: Option<GrammarGuide>,
}

impl LateGuide {
    /// Makes a guide that leaves everything up to and with `text` free and holds the rest to a
    /// grammar: a free train of thought up to `</think>` and then an answer of a given form.
    /// The text cannot end before it.
    ///
    /// # Panics
    /// If `text` is empty.
    #[must_use]
    pub fn after(text: &str, grammar: Arc<Grammar>) -> Self {
        Self {
            awaited: Awaited::new(text, Arc::clone(grammar.vocabulary())),
            grammar,
            recurs: false,
            at_work: None,
        }
    }

    /// Makes a guide that holds to a grammar what follows `text`, each time that it appears, and
    /// leaves everything else free: the call of a tool after `<tool_call>`. The grammar lets go
    /// when it is complete and nothing else can follow, so it should describe the end too. The
    /// text can end anywhere outside of it.
    ///
    /// # Panics
    /// If `text` is empty.
    #[must_use]
    pub fn whenever(text: &str, grammar: Arc<Grammar>) -> Self {
        Self {
            recurs: true,
            ..Self::after(text, grammar)
        }
    }

    /// Returns whether the grammar holds just now.
    #[must_use]
    pub const fn is_at_work(&self) -> bool {
        self.at_work.is_some()
    }

    fn begin(&mut self, rest: &[u8]) -> Result<(), GenerateError> {
        let mut guide = GrammarGuide::new(&self.grammar);
        if !rest.is_empty() {
            guide.matcher().accept_bytes(rest)?;
        }
        self.at_work = Some(guide);
        self.let_go();
        Ok(())
    }

    /// Leaves the text free again if the grammar is fulfilled.
    fn let_go(&mut self) {
        let is_complete = |guide: &mut GrammarGuide| guide.matcher().is_complete();
        if self.recurs && self.at_work.as_mut().is_some_and(is_complete) {
            self.at_work = None;
            self.awaited.n_seen = 0;
        }
    }
}

impl Guide for LateGuide {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match &mut self.at_work {
            Some(guide) => guide.forced(),
            None => Ok(Vec::new()),
        }
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        if let Some(guide) = &mut self.at_work {
            return guide.mask(logits);
        }
        let ends = self.grammar.vocabulary().ends();
        let ends = ends.iter().filter(|_| !self.recurs);
        for &id in ends.chain(self.awaited.beyond()) {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32, bytes: &[u8]) -> Result<(), GenerateError> {
        match &mut self.at_work {
            Some(guide) => {
                guide.accept(token, bytes)?;
                self.let_go();
            }
            None => {
                if let Some(n_bytes) = self.awaited.advance(bytes) {
                    self.begin(&bytes[n_bytes..])?;
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self) {
        if let Some(guide) = &mut self.at_work {
            guide.prepare();
        }
    }
}

/// A text that is waited for, as Knuth, Morris and Pratt search it.
#[derive(Debug)]
struct Awaited {
    text: Vec<u8>,
    /// How much of the text is seen still after a byte that does not fit, by how much was.
    borders: Vec<usize>,
    /// How much of the text has been seen.
    n_seen: usize,
    vocabulary: Arc<GrammarVocabulary>,
    /// Tokens that reach beyond the end of the text, by how much of it has been seen.
    beyond: HashMap<usize, Vec<u32>>,
}

impl Awaited {
    fn new(text: &str, vocabulary: Arc<GrammarVocabulary>) -> Self {
        assert!(!text.is_empty(), "a text to wait for has bytes");
        let text = text.as_bytes().to_vec();
        let mut borders = vec![0; text.len() + 1];
        let mut n = 0;
        for (idx, &byte) in text.iter().enumerate().skip(1) {
            while n > 0 && text[n] != byte {
                n = borders[n];
            }
            n += usize::from(text[n] == byte);
            borders[idx + 1] = n;
        }
        Self {
            text,
            borders,
            n_seen: 0,
            vocabulary,
            beyond: HashMap::new(),
        }
    }

    /// Goes on by the bytes of a token. Returns how many of them there are up to the end of the
    /// text, if it is there.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let (n_seen, end) = self.search(self.n_seen, bytes);
        self.n_seen = n_seen;
        end
    }

    fn search(&self, mut n_seen: usize, bytes: &[u8]) -> (usize, Option<usize>) {
        for (idx, &byte) in bytes.iter().enumerate() {
            while n_seen > 0 && self.text[n_seen] != byte {
                n_seen = self.borders[n_seen];
            }
            n_seen += usize::from(self.text[n_seen] == byte);
            if n_seen == self.text.len() {
                return (0, Some(idx + 1));
            }
        }
        (n_seen, None)
    }

    /// Returns the tokens that would reach beyond the end of the text.
    fn beyond(&mut self) -> &[u32] {
        let n_seen = self.n_seen;
        if !self.beyond.contains_key(&n_seen) {
            let is_beyond = |&id: &u32| {
                let bytes = self.vocabulary.bytes(id);
                let (_, end) = self.search(n_seen, bytes);
                end.is_some_and(|end| end < bytes.len())
            };
            let ids = (0..self.vocabulary.n_vocab() as u32).filter(is_beyond);
            let ids = ids.collect();
            self.beyond.insert(n_seen, ids);
        }
        &self.beyond[&n_seen]
    }
}

/// Several guides at once: a token may come next if none of them forbids it, and must if one
/// says so.
#[derive(Debug, Default)]
pub struct AllGuides {
    guides: Vec<Box<dyn Guide>>,
}

impl AllGuides {
    /// Takes guides. Where several force tokens, the first one counts.
    #[must_use]
    pub fn new(guides: Vec<Box<dyn Guide>>) -> Self {
        Self { guides }
    }
}

impl Guide for AllGuides {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        for guide in &mut self.guides {
            let forced = guide.forced()?;
            if !forced.is_empty() {
                return Ok(forced);
            }
        }
        Ok(Vec::new())
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        self.guides
            .iter_mut()
            .try_for_each(|guide| guide.mask(logits))
    }

    fn accept(&mut self, token: u32, bytes: &[u8]) -> Result<(), GenerateError> {
        let mut guides = self.guides.iter_mut();
        guides.try_for_each(|guide| guide.accept(token, bytes))
    }

    fn prepare(&mut self) {
        self.guides.iter_mut().for_each(|guide| guide.prepare());
    }
}
