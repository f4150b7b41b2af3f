//! Reads a tokenizer from the metadata of a GGUF file, keys `tokenizer.*`.

use gguf_format::{Elements, Metadata};

use crate::{
    TokenizerError,
    bpe::Bpe,
    error::excerpt,
    special_ids::SpecialIds,
    tokenizer::Parts,
    vocabulary::{Entry, TokenKind, Vocabulary},
};

pub(crate) const MODEL_KEY: &str = "tokenizer.ggml.model";
pub(crate) const MODEL: &str = "gpt2";
pub(crate) const PRE_KEY: &str = "tokenizer.ggml.pre";
pub(crate) const PRE: &str = "qwen2";
pub(crate) const CHAT_TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Reads and checks everything.
pub(crate) fn read(metadata: &Metadata<'_>) -> Result<Parts, TokenizerError> {
    check_kind(metadata)?;
    let tokens: Elements<'_, &str> = metadata.require("tokenizer.ggml.tokens")?;
    let types: Elements<'_, i32> = metadata.require("tokenizer.ggml.token_type")?;
    let vocabulary = vocabulary(tokens, types)?;
    let merges: Elements<'_, &str> = metadata.require("tokenizer.ggml.merges")?;
    let merges = merges.enumerate();
    let bpe = Bpe::new(
        &vocabulary,
        merges.map(|(rank, line)| split_merge(rank, line)),
    )?;
    Ok(Parts {
        special_ids: SpecialIds::from_metadata(metadata, &vocabulary)?,
        adds_bos: metadata
            .optional("tokenizer.ggml.add_bos_token")?
            .unwrap_or(false),
        chat_templates: chat_templates(metadata)?,
        vocabulary,
        bpe,
    })
}

fn check_kind(metadata: &Metadata<'_>) -> Result<(), TokenizerError> {
    let model: &str = metadata.require(MODEL_KEY)?;
    if model != MODEL {
        return Err(TokenizerError::Model {
            field: MODEL_KEY,
            expected: MODEL,
            found: excerpt(model),
        });
    }
    let pre: &str = metadata.require(PRE_KEY)?;
    if pre != PRE {
        return Err(TokenizerError::PreTokenizer {
            field: PRE_KEY,
            supported: PRE,
            found: excerpt(pre),
        });
    }
    Ok(())
}

fn vocabulary(
    tokens: Elements<'_, &str>,
    types: Elements<'_, i32>,
) -> Result<Vocabulary, TokenizerError> {
    if types.len() != tokens.len() {
        return Err(TokenizerError::TokenTypeCount {
            expected: tokens.len(),
            found: types.len(),
        });
    }
    let kinds = (0..)
        .zip(types)
        .map(|(id, ty)| kind(id, ty))
        .collect::<Result<Vec<_>, _>>()?;
    Vocabulary::new(tokens.zip(kinds).map(|(text, kind)| Entry { text, kind }))
}

/// The kind behind a number of llama.cpp's `llama_token_type`.
fn kind(id: u32, ty: i32) -> Result<TokenKind, TokenizerError> {
    match ty {
        1 => Ok(TokenKind::Normal),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        // 2 is the unknown token, which byte-level BPE never makes.
        2 | 5 => Ok(TokenKind::Unused),
        found => Err(TokenizerError::TokenType { id, found }),
    }
}

/// The number of llama.cpp's `llama_token_type` for a kind.
pub(crate) const fn number(kind: TokenKind) -> i32 {
    match kind {
        TokenKind::Normal => 1,
        TokenKind::Control => 3,
        TokenKind::UserDefined => 4,
        TokenKind::Unused => 5,
    }
}

/// Cuts `left right` at its space.
pub(crate) fn split_merge(rank: usize, line: &str) -> Result<(&str, &str), TokenizerError> {
    match line.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left, right))
        }
        _ => Err(TokenizerError::MergeSyntax {
            rank,
            text: excerpt(line),
        }),
    }
}

/// The default template under the empty name, and the named ones.
fn chat_templates(metadata: &Metadata<'_>) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut templates = Vec::new();
    for (key, _) in metadata.iter() {
        let Some(name) = key.strip_prefix(CHAT_TEMPLATE_KEY) else {
            continue;
        };
        let name = match name.strip_prefix('.') {
            Some(name) => name,
            None if name.is_empty() => name,
            None => continue,
        };
        templates.push((name.to_owned(), metadata.require(key)?));
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_two_texts_and_one_space() {
        assert_eq!(split_merge(0, "Ġ t").unwrap(), ("Ġ", "t"));
        for line in ["", " ", "a", "a ", " b", "a b c", "a  b"] {
            assert!(
                matches!(
                    split_merge(3, line),
                    Err(TokenizerError::MergeSyntax { rank: 3, .. })
                ),
                "{line:?}"
            );
        }
    }
}
