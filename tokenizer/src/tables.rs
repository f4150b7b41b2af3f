//! Tokens as JSON files list them, in the order of their ids.
//!
//! A vocabulary is a map from text to id and a list of added tokens, in one document or in
//! several. Here they become one list without gaps.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{
    TokenizerError,
    error::excerpt,
    vocabulary::{Entry, TokenKind, Vocabulary},
};

/// How many tokens a model may have beyond twice those that are listed.
const PADDING: usize = 1024;

/// A token that is found in a text before it is cut.
#[derive(Clone, Deserialize)]
pub(crate) struct AddedToken<'a> {
    pub(crate) id: u64,
    #[serde(borrow)]
    pub(crate) content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

/// An added token where its id is said elsewhere.
#[derive(Deserialize)]
pub(crate) struct AddedSettings<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl<'a> AddedSettings<'a> {
    /// A token of which nothing is said.
    pub(crate) const fn of(content: Cow<'a, str>) -> Self {
        Self {
            content,
            special: false,
            single_word: false,
            lstrip: false,
            rstrip: false,
        }
    }

    pub(crate) fn with_id(self, id: u64) -> AddedToken<'a> {
        AddedToken {
            id,
            content: self.content,
            special: self.special,
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
        }
    }
}

/// Makes a vocabulary of a model's tokens and the added ones, whose ids must be 0, 1, 2 and so
/// on. If there are fewer than `n_vocab`, unused ones follow, named as llama.cpp's conversion
/// names them: the rows of an embedding are often padded.
pub(crate) fn vocabulary(
    model: &Pairs<'_>,
    added: &[AddedToken<'_>],
    n_vocab: usize,
) -> Result<Vocabulary, TokenizerError> {
    let mut entries = by_id(&model.0, added)?;
    let n_tokens = entries.len();
    let most = 2 * n_tokens + PADDING;
    if n_vocab > most || (n_vocab > 0 && n_vocab < n_tokens) {
        return Err(TokenizerError::VocabularySize {
            expected: n_vocab,
            found: n_tokens,
            most,
        });
    }
    let padding: Vec<String> = (n_tokens..n_vocab).map(padding_text).collect();
    entries.extend(padding.iter().map(|text| Entry {
        text,
        kind: TokenKind::Unused,
    }));
    Vocabulary::new(entries.into_iter())
}

/// Returns how many of `n_vocab` tokens must be listed for [`vocabulary`] to pad the rest.
pub(crate) const fn fewest_listed(n_vocab: usize) -> usize {
    n_vocab.saturating_sub(PADDING).div_ceil(2)
}

/// Returns the text of the unused token of an id.
pub(crate) fn padding_text(id: usize) -> String {
    format!("[PAD{id}]")
}

/// All tokens in the order of their ids.
fn by_id<'f>(
    model: &'f [(Cow<'_, str>, u64)],
    added: &'f [AddedToken<'_>],
) -> Result<Vec<Entry<'f>>, TokenizerError> {
    // A token of the model that is also listed as added is one token, of the added kind.
    let n_vocab = model.len() + added_beyond(model, added);
    let mut entries: Vec<Option<Entry<'f>>> = vec![None; n_vocab];
    for (text, id) in model {
        place(&mut entries, *id, text, TokenKind::Normal)?;
    }
    for token in added {
        if token.single_word || token.lstrip || token.rstrip {
            return Err(TokenizerError::Setting {
                document: crate::json::NAME,
                field: "added_tokens",
                expected: "no single_word, lstrip or rstrip",
                found: excerpt(&token.content),
            });
        }
        place(&mut entries, token.id, &token.content, added_kind(token))?;
    }
    // As many places as tokens, and none taken twice: none is empty.
    Ok(entries.into_iter().flatten().collect())
}

/// The kind that a conversion to GGUF gives an added token.
fn added_kind(token: &AddedToken<'_>) -> TokenKind {
    let looks_special = token.content.starts_with("<|") && token.content.ends_with("|>");
    if token.special || looks_special {
        TokenKind::Control
    } else {
        TokenKind::UserDefined
    }
}

/// How many added tokens have an id that the model's vocabulary does not use.
fn added_beyond(model: &[(Cow<'_, str>, u64)], added: &[AddedToken<'_>]) -> usize {
    let used: std::collections::HashSet<u64> = model.iter().map(|(_, id)| *id).collect();
    added
        .iter()
        .filter(|token| !used.contains(&token.id))
        .count()
}

fn place<'f>(
    entries: &mut [Option<Entry<'f>>],
    id: u64,
    text: &'f str,
    kind: TokenKind,
) -> Result<(), TokenizerError> {
    let n_vocab = entries.len();
    let fault = |fault| TokenizerError::TokenId {
        text: excerpt(text),
        id,
        fault,
        n_vocab,
    };
    let place = usize::try_from(id).ok().and_then(|id| entries.get_mut(id));
    let place = place.ok_or_else(|| fault("out of range"))?;
    let repeats = kind != TokenKind::Normal
        && place.is_some_and(|before| before.kind == TokenKind::Normal && before.text == text);
    if place.is_some() && !repeats {
        return Err(fault("taken already"));
    }
    *place = Some(Entry { text, kind });
    Ok(())
}

/// Texts and ids as a file lists them; a map would hide a text that comes twice.
pub(crate) struct Pairs<'a>(pub(crate) Vec<(Cow<'a, str>, u64)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from token to id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(text), id)) = map.next_entry()? {
                    entries.push((text, id));
                }
                Ok(Pairs(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A string borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
