//! Which tokens begin, end and pad a text.
//!
//! Ids come from metadata keys. Files do not name every token that ends a reply (Qwen's
//! name `<|im_end|>` and leave out `<|endoftext|>`), so control tokens with well-known names
//! count too, as in llama.cpp's `llama_vocab`.

use gguf_format::Metadata;

use crate::{
    TokenizerError,
    vocabulary::{TokenKind, Vocabulary},
};

/// Control tokens that end a turn, in order of preference.
const END_OF_TURN: [&str; 6] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<EOT>",
];

/// Control tokens after which nothing follows, besides [`END_OF_TURN`].
const END_OF_GENERATION: [&str; 10] = [
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|return|>",
    "<|call|>",
    "<eos>",
    "</s>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<end_of_utterance>",
];

/// Metadata keys of tokens that end a text, besides those of end of sequence and turn.
const END_KEYS: [&str; 4] = [
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// The tokens with a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) padding: Option<u32>,
    /// Ascending.
    pub(crate) end_of_generation: Vec<u32>,
}

impl SpecialIds {
    /// Finds them by key, and by name what has no key.
    pub(crate) fn from_metadata(
        metadata: &Metadata<'_>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
        let id = |key: &str| token_id(metadata, vocabulary, key);
        let mut ids = Self {
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
            eot: id("tokenizer.ggml.eot_token_id")?,
            padding: id("tokenizer.ggml.padding_token_id")?,
            end_of_generation: Vec::new(),
        };
        for key in END_KEYS {
            ids.end_of_generation.extend(id(key)?);
        }
        Ok(ids.complete(vocabulary))
    }

    /// Adds those that are found by name.
    pub(crate) fn complete(mut self, vocabulary: &Vocabulary) -> Self {
        let named: Vec<(&str, u32)> = vocabulary
            .iter()
            .filter(|&(_, _, kind)| kind == TokenKind::Control)
            .map(|(id, text, _)| (text, id))
            .collect();
        let find = |name: &str| {
            named
                .iter()
                .find(|(text, _)| *text == name)
                .map(|&(_, id)| id)
        };
        self.eot = self.eot.or_else(|| END_OF_TURN.into_iter().find_map(find));
        let names = END_OF_TURN.into_iter().chain(END_OF_GENERATION);
        self.end_of_generation.extend(names.filter_map(find));
        self.end_of_generation.extend(self.eos);
        self.end_of_generation.extend(self.eot);
        self.end_of_generation.sort_unstable();
        self.end_of_generation.dedup();
        self
    }
}

fn token_id(
    metadata: &Metadata<'_>,
    vocabulary: &Vocabulary,
    key: &str,
) -> Result<Option<u32>, TokenizerError> {
    let id = metadata.optional::<u32>(key)?;
    id.map(|id| known(id, key, vocabulary)).transpose()
}

/// Checks that a key names a token.
pub(crate) fn known(id: u32, key: &str, vocabulary: &Vocabulary) -> Result<u32, TokenizerError> {
    match vocabulary.kind(id) {
        Some(_) => Ok(id),
        None => Err(TokenizerError::SpecialId {
            key: key.to_owned(),
            id,
            n_vocab: vocabulary.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Entry;

    fn vocabulary(entries: &[(&str, TokenKind)]) -> Vocabulary {
        let entries = entries.iter().map(|&(text, kind)| Entry { text, kind });
        Vocabulary::new(entries).unwrap()
    }

    #[test]
    fn ends_are_found_among_control_tokens_only() {
        let vocabulary = vocabulary(&[
            ("</s>", TokenKind::Normal),
            ("<|endoftext|>", TokenKind::Control),
            ("<|im_end|>", TokenKind::Control),
            ("<|im_start|>", TokenKind::Control),
        ]);
        let ids = SpecialIds::default().complete(&vocabulary);
        assert_eq!(ids.eot, Some(2));
        assert_eq!(ids.end_of_generation, [1, 2]);
        assert_eq!((ids.bos, ids.eos, ids.padding), (None, None, None));
    }
}
