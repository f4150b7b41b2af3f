//! The tokens: text as the file spells it, raw bytes, kind, and the way back from a text.
//!
//! All texts lie in one string and all bytes in one buffer, with the ends beside them, and the
//! way back is a hash table of ids alone: a few allocations instead of several per token.
//! Whether the tokens are sound is decided here, once; afterwards every id below `len()` has a
//! text and bytes, and no two have the same text.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use crate::{TokenizerError, byte_level, error::excerpt};

/// The most tokens a vocabulary may have; the largest real ones have 262,144.
const MAX_TOKENS: usize = 1 << 22;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Spelled in the byte-level alphabet, made by merges.
    Normal,
    /// Steers the model (`<|im_end|>`); only recognised when asked for.
    Control,
    /// Added by name (`<think>`); always recognised.
    UserDefined,
    /// A placeholder that the model never learned.
    Unused,
}

/// A token as a file lists it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: TokenKind,
}

/// All tokens, by id.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    texts: String,
    text_ends: Vec<u32>,
    bytes: Vec<u8>,
    byte_ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    /// All ids, by the hash of their texts. It is seeded anew for every vocabulary, so no file
    /// can be made whose texts all meet in one place.
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    /// Takes the tokens in the order of their ids.
    pub(crate) fn new<'a>(
        entries: impl ExactSizeIterator<Item = Entry<'a>>,
    ) -> Result<Self, TokenizerError> {
        let n_vocab = entries.len();
        if n_vocab == 0 {
            return Err(TokenizerError::EmptyVocabulary);
        }
        at_most(n_vocab, "tokens", MAX_TOKENS)?;
        let mut vocabulary = Self {
            texts: String::new(),
            text_ends: Vec::with_capacity(n_vocab),
            bytes: Vec::new(),
            byte_ends: Vec::with_capacity(n_vocab),
            kinds: Vec::with_capacity(n_vocab),
            ids: HashTable::with_capacity(n_vocab),
            hasher: DefaultHashBuilder::default(),
        };
        for (id, entry) in (0_u32..).zip(entries) {
            vocabulary.push(id, entry)?;
            vocabulary.index(id, entry.text)?;
        }
        Ok(vocabulary)
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        span(&self.text_ends, id).map(|span| &self.texts[span])
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        span(&self.byte_ends, id).map(|span| &self.bytes[span])
    }

    /// Returns the token with this text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        let is_it = |&id: &u32| self.text(id) == Some(text);
        self.ids.find(self.hasher.hash_one(text), is_it).copied()
    }

    /// Iterates over ids, texts and kinds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        (0..).map_while(|id| Some((id, self.text(id)?, self.kind(id)?)))
    }

    fn push(&mut self, id: u32, Entry { text, kind }: Entry<'_>) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Err(TokenizerError::EmptyToken { id });
        }
        self.texts.push_str(text);
        self.text_ends.push(end(self.texts.len())?);
        if kind == TokenKind::Normal {
            for c in text.chars() {
                let byte = byte_level::byte_of(c).ok_or_else(|| TokenizerError::NotByteLevel {
                    id,
                    text: excerpt(text),
                    found: c,
                })?;
                self.bytes.push(byte);
            }
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.byte_ends.push(end(self.bytes.len())?);
        self.kinds.push(kind);
        Ok(())
    }

    /// Remembers the text of a token that was pushed.
    fn index(&mut self, id: u32, text: &str) -> Result<(), TokenizerError> {
        let Self {
            texts,
            text_ends,
            ids,
            hasher,
            ..
        } = self;
        let text_of = |id: u32| span(text_ends, id).map_or("", |span| &texts[span]);
        let place = ids.entry(
            hasher.hash_one(text),
            |&other| text_of(other) == text,
            |&other| hasher.hash_one(text_of(other)),
        );
        match place {
            hash_table::Entry::Occupied(first) => Err(TokenizerError::DuplicateToken {
                id,
                first: *first.get(),
                text: excerpt(text),
            }),
            hash_table::Entry::Vacant(place) => {
                place.insert(id);
                Ok(())
            }
        }
    }
}

/// The range of bytes that belongs to `id`.
fn span(ends: &[u32], id: u32) -> Option<std::ops::Range<usize>> {
    let end = *ends.get(id as usize)? as usize;
    let start = id
        .checked_sub(1)
        .map_or(0, |before| ends[before as usize] as usize);
    Some(start..end)
}

fn end(len: usize) -> Result<u32, TokenizerError> {
    at_most(len, "bytes of text", u32::MAX as usize)?;
    Ok(u32::try_from(len).expect("the line above compares with u32::MAX"))
}

fn at_most(found: usize, unit: &'static str, limit: usize) -> Result<(), TokenizerError> {
    if found > limit {
        return Err(TokenizerError::VocabularyTooLarge { found, unit, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(entries: &[(&str, TokenKind)]) -> Result<Vocabulary, TokenizerError> {
        Vocabulary::new(entries.iter().map(|&(text, kind)| Entry { text, kind }))
    }

    #[test]
    fn normal_tokens_are_spelled_and_the_others_literal() {
        let vocabulary =
            vocabulary(&[("Ġa", TokenKind::Normal), ("<é>", TokenKind::Control)]).unwrap();
        assert_eq!(vocabulary.bytes(0), Some(&b" a"[..]));
        assert_eq!(vocabulary.bytes(1), Some("<é>".as_bytes()));
        assert_eq!(vocabulary.text(0), Some("Ġa"));
        assert_eq!(vocabulary.text(2), None);
        assert_eq!(vocabulary.kind(1), Some(TokenKind::Control));
        assert_eq!(vocabulary.iter().count(), vocabulary.len());
        assert_eq!((vocabulary.id("<é>"), vocabulary.id(" a")), (Some(1), None));
    }

    #[test]
    fn unsound_tokens_are_refused() {
        assert!(matches!(
            vocabulary(&[]),
            Err(TokenizerError::EmptyVocabulary)
        ));
        assert!(matches!(
            vocabulary(&[("a", TokenKind::Normal), ("", TokenKind::Control)]),
            Err(TokenizerError::EmptyToken { id: 1 })
        ));
        assert!(matches!(
            vocabulary(&[("a b", TokenKind::Normal)]),
            Err(TokenizerError::NotByteLevel {
                id: 0,
                found: ' ',
                ..
            })
        ));
        assert!(matches!(
            vocabulary(&[("a", TokenKind::Normal), ("a", TokenKind::Control)]),
            Err(TokenizerError::DuplicateToken {
                id: 1,
                first: 0,
                ..
            })
        ));
        let too_many = std::iter::repeat_n(
            Entry {
                text: "a",
                kind: TokenKind::Normal,
            },
            MAX_TOKENS + 1,
        );
        assert!(matches!(
            Vocabulary::new(too_many),
            Err(TokenizerError::VocabularyTooLarge {
                limit: MAX_TOKENS,
                ..
            })
        ));
    }
}
