//! The tokenizer itself: text to ids, ids to bytes.

use gguf_format::Metadata;

use crate::{
    SpecialTokens, TokenizerError,
    added::{AddedTokens, Part},
    bpe::Bpe,
    checkpoint, gguf, json,
    special_ids::SpecialIds,
    vocabulary::{TokenKind, Vocabulary},
};

/// A byte-level BPE tokenizer of the Qwen2 and Qwen3 family.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    added: AddedTokens,
    bpe: Bpe,
    special_ids: SpecialIds,
    adds_bos: bool,
    chat_templates: Vec<(String, String)>,
}

/// What a file says, checked.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) bpe: Bpe,
    pub(crate) special_ids: SpecialIds,
    pub(crate) adds_bos: bool,
    pub(crate) chat_templates: Vec<(String, String)>,
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata of a GGUF file describes.
    ///
    /// # Errors
    /// [`TokenizerError`] names the key, the token or the merge that is missing or wrong.
    pub fn from_gguf(metadata: &Metadata<'_>) -> Result<Self, TokenizerError> {
        Self::build(gguf::read(metadata)?)
    }

    /// Builds the tokenizer that a `tokenizer.json` describes.
    ///
    /// Such a file names no beginning, end or padding token and no chat template; ends are
    /// found by name.
    ///
    /// # Errors
    /// [`TokenizerError`] names the field, the token or the merge that is missing or wrong,
    /// and every setting that would give other ids than Qwen's.
    pub fn from_json(tokenizer_json: &[u8]) -> Result<Self, TokenizerError> {
        Self::build(json::read(tokenizer_json)?)
    }

    /// Builds the tokenizer of a checkpoint as Hugging Face lays it out. `document` is asked for
    /// its documents by name: `tokenizer.json`, or `vocab.json` and `merges.txt`, and
    /// `tokenizer_config.json`, `config.json`, `generation_config.json`, `added_tokens.json` and
    /// `chat_template.jinja`, which may be absent.
    ///
    /// # Errors
    /// [`TokenizerError`] names the document and the field, the token or the merge that is
    /// missing or wrong, and every setting that would give other ids than Qwen's.
    pub fn from_checkpoint<'a>(
        document: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, TokenizerError> {
        Self::build(checkpoint::read(document)?)
    }

    fn build(parts: Parts) -> Result<Self, TokenizerError> {
        Ok(Self {
            added: AddedTokens::new(&parts.vocabulary)?,
            bpe: parts.bpe,
            vocabulary: parts.vocabulary,
            special_ids: parts.special_ids,
            adds_bos: parts.adds_bos,
            chat_templates: parts.chat_templates,
        })
    }

    /// Returns the ids of a text.
    ///
    /// The text is brought to Unicode normal form C, as Qwen's own tokenizer does. Added
    /// tokens that are not control tokens (`<think>`, `<tool_call>`) are always recognised;
    /// `special` decides about control tokens. No beginning token is added.
    #[must_use]
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        let mut ids = Vec::new();
        for part in self.added.parts(text, special) {
            match part {
                Part::Text(text) => self.bpe.encode(text, &mut ids),
                Part::Added(token) => ids.extend(self.id(token)),
            }
        }
        ids
    }

    /// Returns the bytes of some ids; control tokens give their names.
    ///
    /// The bytes need not be UTF-8: a character may lie in several tokens.
    ///
    /// # Errors
    /// [`TokenizerError::IdOutOfRange`] for the first id that is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::new();
        for (position, &id) in ids.iter().enumerate() {
            let token = self.token_bytes(id).ok_or(TokenizerError::IdOutOfRange {
                id,
                position,
                n_vocab: self.n_vocab(),
            })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    /// Returns the text of some ids, with U+FFFD for bytes that are not UTF-8.
    ///
    /// # Errors
    /// [`TokenizerError::IdOutOfRange`] for the first id that is not in the vocabulary.
    pub fn decode_lossy(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let bytes = self.decode(ids)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Returns the bytes that one token stands for.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary.bytes(id)
    }

    /// Returns one token as the vocabulary spells it (`Ġthe`, `<|im_end|>`).
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// Returns whether a token steers the model and is no text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == Some(TokenKind::Control)
    }

    /// Returns what a token is for.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.vocabulary.kind(id)
    }

    /// Returns what merging makes of the bytes of an ordinary token: the token itself, if the
    /// vocabulary is sound. `None` for tokens that merging does not make.
    #[must_use]
    pub fn merged(&self, id: u32) -> Option<Vec<u32>> {
        let is_normal = self.vocabulary.kind(id)? == TokenKind::Normal;
        let bytes = self.vocabulary.bytes(id)?;
        is_normal.then(|| self.bpe.merge(bytes))
    }

    /// Returns the tokens that the merges make, in the order of the merges. A trained
    /// vocabulary numbers its tokens in this order.
    #[must_use]
    pub fn made_by_merges(&self) -> Vec<u32> {
        self.bpe.made()
    }

    /// Returns the token that the vocabulary spells this way.
    #[must_use]
    pub fn id(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Returns the number of tokens; ids are smaller.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// Returns the token that begins a text, where the file names one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special_ids.bos
    }

    /// Returns whether the model expects [`bos`](Self::bos) before every text.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Returns the token that ends a text, where the file names one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special_ids.eos
    }

    /// Returns the token that ends a turn, by key or by name.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.special_ids.eot
    }

    /// Returns the token that fills up a batch, where the file names one.
    #[must_use]
    pub fn padding(&self) -> Option<u32> {
        self.special_ids.padding
    }

    /// Returns all tokens after which a reply is complete, ascending.
    #[must_use]
    pub fn end_of_generation(&self) -> &[u32] {
        &self.special_ids.end_of_generation
    }

    /// Returns the source of the file's chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.named_chat_template("")
    }

    /// Returns the source of another chat template, such as `tool_use`.
    #[must_use]
    pub fn named_chat_template(&self, name: &str) -> Option<&str> {
        let mut templates = self.chat_templates.iter();
        templates
            .find(|(key, _)| key == name)
            .map(|(_, source)| source.as_str())
    }

    pub(crate) const fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Returns the texts of all merges, the soonest first.
    pub(crate) fn merges(&self) -> Vec<(&str, &str)> {
        let text = |id| self.vocabulary.text(id).unwrap_or_default();
        let pairs = self.bpe.merges().in_order().into_iter();
        pairs
            .map(|(left, right)| (text(left), text(right)))
            .collect()
    }

    /// Iterates over names and sources of all chat templates; the default one has no name.
    pub(crate) fn chat_templates(&self) -> impl Iterator<Item = (&str, &str)> {
        let templates = self.chat_templates.iter();
        templates.map(|(name, source)| (name.as_str(), source.as_str()))
    }

    pub(crate) fn added(&self) -> &AddedTokens {
        &self.added
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bpe::normalize;

    fn bard() -> Tokenizer {
        Tokenizer::from_json(include_bytes!("../tests/data/bard__tokenizer.json")).unwrap()
    }

    #[test]
    fn decoding_gives_the_text_in_normal_form_c() {
        let bard = bard();
        let mut runner = proptest::test_runner::TestRunner::default();
        let texts = r"([a-z ]{1,4}|[\u{300}-\u{345}]|[\u{1100}-\u{11ff}]|[^<>]){0,24}";
        runner
            .run(&texts, |text| {
                let ids = bard.encode(&text, SpecialTokens::AsText);
                prop_assert_eq!(bard.decode_lossy(&ids).unwrap(), normalize(&text));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn merging_the_bytes_of_a_trained_token_makes_the_token() {
        let bard = bard();
        let mut n_normal = 0;
        for id in 0..bard.n_vocab() as u32 {
            match bard.merged(id) {
                Some(ids) => {
                    assert_eq!(ids, [id], "{:?}", bard.token_text(id));
                    n_normal += 1;
                }
                None => assert_ne!(bard.kind(id), Some(TokenKind::Normal)),
            }
        }
        let made = bard.made_by_merges();
        assert_eq!(made.len() + 256, n_normal);
        assert!(made.is_sorted());
    }
}
