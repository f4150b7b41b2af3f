//! The tokens: text as the file spells it, raw bytes, kind.
//!
//! All texts lie in one string and all bytes in one buffer, with the ends beside them: three
//! allocations instead of one per token. Whether the tokens are sound is decided here, once;
//! afterwards every id below `len()` has a text and bytes.

use crate::{TokenizerError, byte_level, error::excerpt};

/// The most tokens a vocabulary may have; the largest real ones have 262,144.
const MAX_TOKENS: usize = 1 << 22;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
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
        };
        for (id, entry) in (0_u32..).zip(entries) {
            vocabulary.push(id, entry)?;
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
