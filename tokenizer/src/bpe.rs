//! Merges bytes to tokens, with the model of the Hugging Face `tokenizers` library.
//!
//! The library merges; this module decides what it may be given. It takes for granted that
//! every merge names tokens of the vocabulary and drops a character that has none without a
//! word, so both are checked first: afterwards every text can be encoded, and decoding gives
//! it back. Control tokens are kept out of the library's vocabulary: no merge can make one.

use tokenizers::{
    Model, NormalizedString, Normalizer,
    models::bpe::{BPE, Vocab},
    normalizers::NFC,
};

use crate::{
    TokenizerError, byte_level,
    error::excerpt,
    split,
    vocabulary::{TokenKind, Vocabulary},
};

/// Two texts that become one; the earlier in the list, the sooner.
pub(crate) type Merges = Vec<(String, String)>;

/// Below this character nothing composes, so the text is in normal form C already.
const FIRST_COMBINING: char = '\u{300}';

/// Byte-level BPE over one vocabulary.
#[derive(Debug)]
pub(crate) struct Bpe {
    model: BPE,
}

impl Bpe {
    pub(crate) fn new(vocabulary: &Vocabulary, merges: Merges) -> Result<Self, TokenizerError> {
        let ids = mergeable(vocabulary)?;
        check_bytes(vocabulary, &ids)?;
        check_merges(vocabulary, &ids, &merges)?;
        let model = BPE::builder()
            .vocab_and_merges(ids, merges)
            .build()
            .map_err(|error| TokenizerError::Bpe {
                message: error.to_string(),
            })?;
        Ok(Self { model })
    }

    /// Returns the token that merging may make of a spelling.
    pub(crate) fn id(&self, spelling: &str) -> Option<u32> {
        self.model.token_to_id(spelling)
    }

    /// Appends the ids of a text without added tokens.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut spelling = String::new();
        // A line end neither composes nor moves, so lines normalize one by one. The pieces
        // are cut from the whole, because white space reaches across line ends.
        let text = normalize(text);
        for piece in split::pieces(&text) {
            spelling.clear();
            byte_level::spell(piece.as_bytes(), &mut spelling);
            let tokens = self
                .model
                .tokenize(&spelling)
                .expect("merging fails only for models with an unknown token");
            ids.extend(tokens.iter().map(|token| token.id));
        }
    }
}

/// Brings a text to normal form C, as `tokenizer.json` of Qwen asks.
pub(crate) fn normalize(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().all(|c| c < FIRST_COMBINING) {
        return text.into();
    }
    let mut normal = String::with_capacity(text.len());
    // The library keeps an alignment of 16 bytes per byte: line by line it stays small.
    for line in text.split_inclusive('\n') {
        let mut line = NormalizedString::from(line);
        NFC.normalize(&mut line)
            .expect("normal form C exists for every text");
        normal.push_str(line.get());
    }
    normal.into()
}

/// The tokens that merging may make, by text.
fn mergeable(vocabulary: &Vocabulary) -> Result<Vocab, TokenizerError> {
    let mut all = Vocab::with_capacity(vocabulary.len());
    for (id, text, _) in vocabulary.iter() {
        if let Some(first) = all.insert(text.to_owned(), id) {
            return Err(TokenizerError::DuplicateToken {
                id,
                first,
                text: excerpt(text),
            });
        }
    }
    all.retain(|text, id| match vocabulary.kind(*id) {
        Some(TokenKind::Normal) => true,
        // Spelled the same literally and in the byte-level alphabet.
        Some(TokenKind::UserDefined) => text.bytes().all(|byte| byte.is_ascii_graphic()),
        _ => false,
    });
    Ok(all)
}

fn check_bytes(vocabulary: &Vocabulary, ids: &Vocab) -> Result<(), TokenizerError> {
    for byte in 0..=u8::MAX {
        let text = byte_level::char_of(byte);
        let id = ids.get(text.encode_utf8(&mut [0; 4]) as &str);
        if id.and_then(|&id| vocabulary.kind(id)) != Some(TokenKind::Normal) {
            return Err(TokenizerError::MissingByte { byte, text });
        }
    }
    Ok(())
}

fn check_merges(
    vocabulary: &Vocabulary,
    ids: &Vocab,
    merges: &Merges,
) -> Result<(), TokenizerError> {
    // Several pairs may make the same token, but more than the token has inner borders
    // cannot; 64 a token is beyond any trained vocabulary.
    if merges.len() / 64 > vocabulary.len() {
        return Err(TokenizerError::TooManyMerges {
            found: merges.len(),
            n_vocab: vocabulary.len(),
        });
    }
    let mut pairs = Vec::with_capacity(merges.len());
    let mut joined = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let known = |text: &str| {
            let id = ids.get(text).copied();
            id.ok_or_else(|| TokenizerError::MergeToken {
                rank,
                text: excerpt(text),
            })
        };
        known(&joined)?;
        pairs.push((known(left)?, known(right)?, rank));
    }
    pairs.sort_unstable();
    let twice = pairs
        .windows(2)
        .find(|two| (two[0].0, two[0].1) == (two[1].0, two[1].1));
    if let Some(&[_, (_, _, rank)]) = twice {
        let (left, right) = &merges[rank];
        return Err(TokenizerError::DuplicateMerge {
            rank,
            left: excerpt(left),
            right: excerpt(right),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_brought_to_normal_form_c() {
        assert_eq!(normalize("plain é"), "plain é");
        assert_eq!(normalize("e\u{301}\ne\u{301}"), "é\né");
        assert_eq!(normalize("\u{1112}\u{1161}\u{11ab}"), "한");
        assert_eq!(normalize("\u{212b}\n\n\u{2126}"), "\u{c5}\n\n\u{3a9}");
    }
}
