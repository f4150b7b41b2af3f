//! Merges bytes to tokens: byte-level BPE.
//!
//! ```text
//! every byte of a piece is a token
//! while neighbours have a merge: the one of lowest rank, the leftmost first, becomes a token
//! ```
//!
//! The neighbours that have a merge wait in a queue. Whoever is merged is no longer what the
//! queue remembers, and is passed over when its turn comes; so the time is that of a sort,
//! whatever the text is.
//!
//! The Hugging Face library does the same, and tests hold this module against it. It is not
//! used here because of the start: it copies every token and every merge into maps of its
//! own, which takes longer than a model that is in memory needs for its first token.
//!
//! The vocabulary is checked first: every byte has a token, and every merge names tokens, of
//! which none is a control token. So every text can be encoded, decoding gives it back, and no
//! text makes a control token.

use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap};

use unicode_normalization_alignments::UnicodeNormalization;

use crate::{
    TokenizerError, byte_level,
    merges::{Merge, Merges},
    split,
    vocabulary::{TokenKind, Vocabulary},
};

/// Below this character nothing composes, so the text is in normal form C already.
const FIRST_COMBINING: char = '\u{300}';

/// Byte-level BPE over one vocabulary.
#[derive(Debug)]
pub(crate) struct Bpe {
    byte_ids: [u32; 256],
    merges: Merges,
}

impl Bpe {
    /// Takes the merges as pairs of texts, the soonest first.
    pub(crate) fn new<'m>(
        vocabulary: &Vocabulary,
        merges: impl ExactSizeIterator<Item = Result<(&'m str, &'m str), TokenizerError>>,
    ) -> Result<Self, TokenizerError> {
        Ok(Self {
            byte_ids: byte_ids(vocabulary)?,
            merges: Merges::new(vocabulary, merges)?,
        })
    }

    pub(crate) const fn merges(&self) -> &Merges {
        &self.merges
    }

    /// Appends the ids of a text without added tokens.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = normalize(text);
        let mut word = Word::default();
        for piece in split::pieces(&text) {
            word.fill(piece.bytes().map(|byte| self.byte_ids[usize::from(byte)]));
            word.merge(&self.merges);
            ids.extend(word.ids());
        }
    }

    /// Returns the ids of some bytes, taken for one piece.
    pub(crate) fn merge(&self, bytes: &[u8]) -> Vec<u32> {
        let mut word = Word::default();
        word.fill(bytes.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        word.merge(&self.merges);
        word.ids().collect()
    }

    /// Returns what the merges make, in their order.
    pub(crate) fn made(&self) -> Vec<u32> {
        self.merges.made()
    }
}

/// Brings a text to normal form C, as `tokenizer.json` of Qwen asks, with the tables of the
/// Hugging Face library: characters that later versions of Unicode added stay as they are.
pub(crate) fn normalize(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c < FIRST_COMBINING) {
        return text.into();
    }
    text.nfc().map(|(c, _)| c).collect::<String>().into()
}

/// The token of every byte.
fn byte_ids(vocabulary: &Vocabulary) -> Result<[u32; 256], TokenizerError> {
    let mut ids = [0; 256];
    for (byte, id) in (0..=u8::MAX).zip(&mut ids) {
        let text = byte_level::char_of(byte);
        *id = vocabulary
            .id(text.encode_utf8(&mut [0; 4]))
            .filter(|&id| vocabulary.kind(id) == Some(TokenKind::Normal))
            .ok_or(TokenizerError::MissingByte { byte, text })?;
    }
    Ok(ids)
}

/// A piece on its way from bytes to tokens; the buffers serve piece after piece.
#[derive(Default)]
struct Word {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

/// A token of the word, or what is left of one that its left neighbour took in.
#[derive(Clone, Copy)]
struct Symbol {
    /// `None` once it was taken in.
    id: Option<u32>,
    /// The neighbours' places; the left one of the first and the right one of the last lie
    /// outside the word.
    left: usize,
    right: usize,
}

/// Two neighbours that may become one, as they were when they were queued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    /// The place of the left one.
    at: usize,
    ids: (u32, u32),
    made: u32,
}

impl Word {
    fn fill(&mut self, ids: impl Iterator<Item = u32>) {
        self.symbols.clear();
        self.symbols
            .extend(ids.enumerate().map(|(place, id)| Symbol {
                id: Some(id),
                left: place.wrapping_sub(1),
                right: place + 1,
            }));
    }

    fn merge(&mut self, merges: &Merges) {
        for place in 1..self.symbols.len() {
            self.queue(merges, place - 1, place);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            let Candidate { at, ids, made, .. } = candidate;
            let Symbol { id, left, right } = self.symbols[at];
            let Some(&taken) = self.symbols.get(right) else {
                continue;
            };
            if (id, taken.id) != (Some(ids.0), Some(ids.1)) {
                continue;
            }
            self.symbols[right].id = None;
            self.symbols[at].id = Some(made);
            self.symbols[at].right = taken.right;
            if let Some(next) = self.symbols.get_mut(taken.right) {
                next.left = at;
            }
            self.queue(merges, left, at);
            self.queue(merges, at, taken.right);
        }
    }

    /// Queues two neighbours, if both exist and have a merge.
    fn queue(&mut self, merges: &Merges, at: usize, right: usize) {
        let id = |place: usize| self.symbols.get(place).and_then(|symbol| symbol.id);
        let Some(ids) = id(at).zip(id(right)) else {
            return;
        };
        if let Some(Merge { rank, made }) = merges.find(ids.0, ids.1) {
            self.queue.push(Reverse(Candidate {
                rank,
                at,
                ids,
                made,
            }));
        }
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.symbols.iter().filter_map(|symbol| symbol.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{prelude::*, sample::Index};
    use tokenizers::{Model, models::bpe::BPE};

    use super::*;
    use crate::vocabulary::Entry;

    #[test]
    fn texts_are_brought_to_normal_form_c() {
        assert_eq!(normalize("plain é"), "plain é");
        assert_eq!(normalize("e\u{301}\ne\u{301}"), "é\né");
        assert_eq!(normalize("\u{1112}\u{1161}\u{11ab}"), "한");
        assert_eq!(normalize("\u{212b}\n\n\u{2126}"), "\u{c5}\n\n\u{3a9}");
    }

    /// Tokens and merges that contradict each other as those of no training do: each merge
    /// joins any two tokens that are there, and a text may be made in several ways.
    fn merged(picks: &[(Index, Index)]) -> (Vec<String>, Vec<(String, String)>) {
        let mut tokens: Vec<String> = (0..=u8::MAX)
            .map(|byte| byte_level::char_of(byte).into())
            .collect();
        let mut letters: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let (mut merges, mut seen) = (Vec::new(), BTreeSet::new());
        for (left, right) in picks {
            let pair = (left.get(&letters).clone(), right.get(&letters).clone());
            let made = format!("{}{}", pair.0, pair.1);
            if made.len() > 8 || !seen.insert(pair.clone()) {
                continue;
            }
            merges.push(pair);
            if !letters.contains(&made) {
                letters.push(made.clone());
                tokens.push(made);
            }
        }
        (tokens, merges)
    }

    proptest! {
        #[test]
        fn any_merges_give_the_ids_of_the_hugging_face_library(
            picks in proptest::collection::vec(any::<(Index, Index)>(), 0..40),
            order in any::<Index>(),
            words in proptest::collection::vec("[abc]{0,40}", 1..8),
        ) {
            let (tokens, mut merges) = merged(&picks);
            let first = order.index(merges.len() + 1);
            merges.rotate_left(first);
            let entries = tokens.iter().map(|text| Entry { text, kind: TokenKind::Normal });
            let vocabulary = Vocabulary::new(entries).unwrap();
            let pairs = merges.iter().map(|(left, right)| Ok((left.as_str(), right.as_str())));
            let bpe = Bpe::new(&vocabulary, pairs).unwrap();
            let ids = (0..).zip(&tokens).map(|(id, text)| (text.clone(), id));
            let library = BPE::builder()
                .vocab_and_merges(ids.collect::<tokenizers::models::bpe::Vocab>(), merges)
                .build()
                .unwrap();
            for word in words {
                let mut found = Vec::new();
                bpe.encode(&word, &mut found);
                let expected = library.tokenize(&word).unwrap();
                let expected: Vec<u32> = expected.iter().map(|token| token.id).collect();
                prop_assert_eq!(found, expected, "{}", word);
            }
        }
    }
}
