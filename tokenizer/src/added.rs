//! Finds control and other added tokens in a text before it is cut and merged.
//!
//! All texts are alternatives of one regular expression, longest first, so the leftmost and
//! then longest one wins, as in the Hugging Face library. Two are kept: one with control
//! tokens and one without.

use regex::{Regex, RegexBuilder};

use crate::{
    TokenizerError,
    vocabulary::{TokenKind, Vocabulary},
};

/// The most bytes that all added tokens may have together.
const MAX_BYTES: usize = 1 << 20;

/// The most memory that a compiled expression may take.
const MAX_COMPILED_BYTES: usize = 64 << 20;

/// Whether control tokens are found in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialTokens {
    /// The text `<|im_end|>` is ten characters, as text from a user must be.
    #[default]
    AsText,
    /// The text `<|im_end|>` is the control token, as a rendered template means it.
    Recognise,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    Added(&'t str),
}

/// The added tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    all: Option<Regex>,
    user_defined: Option<Regex>,
    control: Option<Regex>,
}

impl AddedTokens {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let of = |kinds: &[TokenKind]| {
            let texts = vocabulary.iter().filter(|(.., kind)| kinds.contains(kind));
            any_of(texts.map(|(_, text, _)| text).collect())
        };
        Ok(Self {
            all: of(&[TokenKind::Control, TokenKind::UserDefined])?,
            user_defined: of(&[TokenKind::UserDefined])?,
            control: of(&[TokenKind::Control])?,
        })
    }

    /// Cuts a text at its added tokens.
    pub(crate) fn parts<'t>(
        &self,
        text: &'t str,
        special: SpecialTokens,
    ) -> impl Iterator<Item = Part<'t>> {
        let tokens = match special {
            SpecialTokens::Recognise => &self.all,
            SpecialTokens::AsText => &self.user_defined,
        };
        cut(tokens.as_ref(), text)
    }

    /// Cuts a text at its control tokens.
    pub(crate) fn control_parts<'t>(&self, text: &'t str) -> impl Iterator<Item = Part<'t>> {
        cut(self.control.as_ref(), text)
    }
}

fn cut<'t>(tokens: Option<&Regex>, text: &'t str) -> impl Iterator<Item = Part<'t>> {
    let mut start = 0;
    let mut found = None;
    std::iter::from_fn(move || {
        if let Some(added) = found.take() {
            return Some(added);
        }
        if start == text.len() {
            return None;
        }
        let before = match tokens.and_then(|tokens| tokens.find_at(text, start)) {
            Some(token) => {
                let before = &text[start..token.start()];
                start = token.end();
                found = Some(Part::Added(token.as_str()));
                before
            }
            None => &text[std::mem::replace(&mut start, text.len())..],
        };
        if before.is_empty() {
            found.take()
        } else {
            Some(Part::Text(before))
        }
    })
}

/// One expression that matches the longest of some texts.
fn any_of(mut texts: Vec<&str>) -> Result<Option<Regex>, TokenizerError> {
    if texts.is_empty() {
        return Ok(None);
    }
    let n_bytes = texts.iter().map(|text| text.len()).sum();
    let too_large = |limit| TokenizerError::AddedTokens {
        n_tokens: texts.len(),
        n_bytes,
        limit,
    };
    if n_bytes > MAX_BYTES {
        return Err(too_large(MAX_BYTES));
    }
    let refused = too_large(MAX_BYTES);
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let alternatives: Vec<String> = texts.into_iter().map(regex::escape).collect();
    RegexBuilder::new(&alternatives.join("|"))
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map(Some)
        .map_err(|_| refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Entry;

    fn added() -> AddedTokens {
        let entry = |text, kind| Entry { text, kind };
        let entries = [
            entry("<a>", TokenKind::Control),
            entry("<a><b>", TokenKind::Control),
            entry("<t>", TokenKind::UserDefined),
            entry("x", TokenKind::Normal),
            entry("[PAD]", TokenKind::Unused),
        ];
        AddedTokens::new(&Vocabulary::new(entries.into_iter()).unwrap()).unwrap()
    }

    #[test]
    fn the_longest_token_wins() {
        let added = added();
        let parts: Vec<_> = added
            .parts("x<a><b><a><t>[PAD]", SpecialTokens::Recognise)
            .collect();
        let expected = [
            Part::Text("x"),
            Part::Added("<a><b>"),
            Part::Added("<a>"),
            Part::Added("<t>"),
            Part::Text("[PAD]"),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn control_tokens_in_plain_text_are_text() {
        let added = added();
        let parts: Vec<_> = added.parts("<a><t><a>", SpecialTokens::AsText).collect();
        assert_eq!(
            parts,
            [Part::Text("<a>"), Part::Added("<t>"), Part::Text("<a>")]
        );
        let parts: Vec<_> = added.control_parts("<a><t>").collect();
        assert_eq!(parts, [Part::Added("<a>"), Part::Text("<t>")]);
    }

    #[test]
    fn without_added_tokens_a_text_is_one_part() {
        assert_eq!(cut(None, "abc").collect::<Vec<_>>(), [Part::Text("abc")]);
        assert_eq!(cut(None, "").count(), 0);
    }

    #[test]
    fn a_flood_of_added_tokens_is_refused() {
        let long = "y".repeat(MAX_BYTES + 1);
        assert!(matches!(
            any_of(vec![&long]),
            Err(TokenizerError::AddedTokens { n_tokens: 1, .. })
        ));
    }
}
