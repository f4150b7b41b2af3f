//! A text that is waited for, token by token.

use std::{collections::HashMap, sync::Arc};

use sampler::GrammarVocabulary;

/// Where a text counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// Wherever it stands.
    Anywhere,
    /// Where nothing but white space stands before it.
    First,
}

/// A text that is waited for, as Knuth, Morris and Pratt search it.
///
/// One that begins with a line break is also found at the beginning, without it.
#[derive(Debug)]
pub(crate) struct Awaited {
    text: Vec<u8>,
    place: Where,
    /// How much of the text is seen still after a byte that does not fit, by how much was.
    borders: Vec<usize>,
    /// How much of the text has been seen; `None` if it cannot come any more.
    n_seen: Option<usize>,
    vocabulary: Arc<GrammarVocabulary>,
    /// Tokens that reach beyond the end of the text, by how much of it has been seen.
    beyond: HashMap<usize, Vec<u32>>,
}

impl Awaited {
    /// # Panics
    /// If `text` is empty.
    pub(crate) fn new(text: &str, place: Where, vocabulary: Arc<GrammarVocabulary>) -> Self {
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
        let mut awaited = Self {
            text,
            place,
            borders,
            n_seen: None,
            vocabulary,
            beyond: HashMap::new(),
        };
        awaited.begin();
        awaited
    }

    /// Begins to wait.
    pub(crate) fn begin(&mut self) {
        self.n_seen = Some(usize::from(self.text.len() > 1 && self.text[0] == b'\n'));
    }

    /// Goes on by the bytes of a token. Returns how many of them there are up to the end of the
    /// text, if it is there.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let (n_seen, end) = self.search(self.n_seen?, bytes);
        self.n_seen = n_seen;
        end
    }

    fn search(&self, mut n_seen: usize, bytes: &[u8]) -> (Option<usize>, Option<usize>) {
        for (idx, &byte) in bytes.iter().enumerate() {
            if self.place == Where::First && self.text[n_seen] != byte {
                match n_seen == 0 && byte.is_ascii_whitespace() {
                    true => continue,
                    false => return (None, None),
                }
            }
            while n_seen > 0 && self.text[n_seen] != byte {
                n_seen = self.borders[n_seen];
            }
            n_seen += usize::from(self.text[n_seen] == byte);
            if n_seen == self.text.len() {
                return (Some(0), Some(idx + 1));
            }
        }
        (Some(n_seen), None)
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Forbids the tokens that would reach beyond the end of the text: what follows it is
    /// another's to say, and there is another way of writing the same bytes.
    pub(crate) fn forbid_beyond(&mut self, logits: &mut [f32]) {
        let Some(n_seen) = self.n_seen else {
            return;
        };
        if !self.beyond.contains_key(&n_seen) {
            let is_beyond = |id: &u32| {
                let bytes = self.vocabulary.bytes(*id);
                let (_, end) = self.search(n_seen, bytes);
                end.is_some_and(|end| end < bytes.len())
            };
            let last = self.text[self.text.len() - 1];
            let ids = self.vocabulary.going_on_behind(last).iter().copied();
            let ids = ids.filter(is_beyond).collect();
            self.beyond.insert(n_seen, ids);
        }
        forbid(&self.beyond[&n_seen], logits);
    }
}

/// Sets the logits of tokens to −∞.
pub(crate) fn forbid(ids: &[u32], logits: &mut [f32]) {
    for &id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}
