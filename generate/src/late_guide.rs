//! A guide that begins whenever a text appears, and several guides at once.
//!
//! Before that the text is free, but for tokens that would reach beyond the end of the awaited
//! text.

use std::sync::Arc;

use sampler::Grammar;

use crate::{
    GenerateError, GrammarGuide, Guide,
    awaited::{Awaited, Where},
};

/// Holds to a grammar what follows a text, each time that it appears, and leaves everything else
/// free: the call of a tool after `<tool_call>`.
///
/// The grammar lets go when it is complete and nothing else can follow, so it should describe the
/// end too. The text can end anywhere outside of it.
#[derive(Debug)]
pub struct LateGuide {
    awaited: Vec<Late>,
    /// The grammar at work; none while the text is free.
    at_work: Option<GrammarGuide>,
}

/// A text and the grammar that it begins.
#[derive(Debug)]
struct Late {
    text: Awaited,
    grammar: Arc<Grammar>,
    /// The text is the beginning of what the grammar describes, and not what stands before it.
    is_part: bool,
}

impl LateGuide {
    /// Makes a guide of texts and what has to follow each. A text that begins with a line break
    /// also counts at the beginning and after an end of a grammar, without it.
    ///
    /// # Panics
    /// If a text is empty.
    #[must_use]
    pub fn whenever(texts: Vec<(&str, Arc<Grammar>)>) -> Self {
        let texts = texts.into_iter();
        let awaited = texts.map(|(text, grammar)| Late::new(text, grammar, false));
        Self {
            awaited: awaited.collect(),
            at_work: None,
        }
    }

    /// Also begins a grammar where a text appears that is the beginning of what it describes, if
    /// nothing but white space stands before it since the beginning or the end of a grammar: a
    /// call without its tag.
    ///
    /// # Panics
    /// If the text is empty.
    #[must_use]
    pub fn or_first(mut self, text: &str, grammar: Arc<Grammar>) -> Self {
        self.awaited.push(Late::new(text, grammar, true));
        self
    }

    /// Returns whether a grammar holds just now.
    #[must_use]
    pub const fn is_at_work(&self) -> bool {
        self.at_work.is_some()
    }

    /// Waits through the bytes of a token.
    fn wait(&mut self, bytes: &[u8]) -> Result<(), GenerateError> {
        let ends = self
            .awaited
            .iter_mut()
            .filter_map(|late| Some((late.text.advance(bytes)?, late)));
        let Some((n_bytes, late)) = ends.min_by_key(|(n_bytes, _)| *n_bytes) else {
            return Ok(());
        };
        let mut guide = GrammarGuide::new(&late.grammar);
        if late.is_part {
            guide.matcher().accept_bytes(late.text.text())?;
        }
        if n_bytes < bytes.len() {
            guide.matcher().accept_bytes(&bytes[n_bytes..])?;
        }
        self.at_work = Some(guide);
        self.let_go();
        Ok(())
    }

    /// Leaves the text free again if the grammar is fulfilled.
    fn let_go(&mut self) {
        let is_complete = |guide: &mut GrammarGuide| guide.matcher().is_complete();
        if self.at_work.as_mut().is_some_and(is_complete) {
            self.at_work = None;
            self.awaited.iter_mut().for_each(|late| late.text.begin());
        }
    }
}

impl Late {
    fn new(text: &str, grammar: Arc<Grammar>, is_part: bool) -> Self {
        let place = match is_part {
            true => Where::First,
            false => Where::Anywhere,
        };
        let vocabulary = Arc::clone(grammar.vocabulary());
        Self {
            text: Awaited::new(text, place, vocabulary),
            grammar,
            is_part,
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
        match &mut self.at_work {
            Some(guide) => guide.mask(logits)?,
            None => {
                for late in &mut self.awaited {
                    late.text.forbid_beyond(logits);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32, bytes: &[u8]) -> Result<(), GenerateError> {
        match &mut self.at_work {
            Some(guide) => {
                guide.accept(token, bytes)?;
                self.let_go();
                Ok(())
            }
            None => self.wait(bytes),
        }
    }

    fn prepare(&mut self) {
        if let Some(guide) = &mut self.at_work {
            guide.prepare();
        }
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
