//! A small vocabulary, and whether a text is of a grammar.

use std::sync::{Arc, LazyLock};

use super::{Grammar, GrammarMatcher, GrammarSource, GrammarTokens, GrammarVocabulary, Next};
use crate::SamplerError;

/// The 256 bytes, some longer tokens, and the end of a text.
struct Tokens;

const LONGER: [&str; 12] = [
    "ab", "abc", " \"", "\": ", "\", \"", "{\"", "true", "name", "é", "<call>", "e\":", "12",
];

/// The token that ends a text.
pub(super) const END: u32 = 256 + LONGER.len() as u32;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=255).collect());

impl GrammarTokens for Tokens {
    fn n_vocab(&self) -> usize {
        END as usize + 3
    }

    fn bytes(&self, id: u32) -> &[u8] {
        match id as usize {
            id @ 0..256 => &BYTES[id..=id],
            id if id < END as usize => LONGER[id - 256].as_bytes(),
            id if id == END as usize => b"<|end|>",
            _ => &[],
        }
    }

    fn is_control(&self, id: u32) -> bool {
        id == END
    }

    fn ends(&self) -> Vec<u32> {
        vec![END]
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text.as_bytes());
        while let Some(&byte) = rest.first() {
            let longer = (256..END).filter(|&id| rest.starts_with(self.bytes(id)));
            let id = longer.max_by_key(|&id| self.bytes(id).len());
            let id = id.unwrap_or(u32::from(byte));
            rest = &rest[self.bytes(id).len()..];
            ids.push(id);
        }
        ids
    }
}

/// Returns the vocabulary that tests share.
pub(super) fn vocabulary() -> &'static Arc<GrammarVocabulary> {
    static VOCABULARY: LazyLock<Arc<GrammarVocabulary>> =
        LazyLock::new(|| Arc::new(GrammarVocabulary::new(Arc::new(Tokens))));
    &VOCABULARY
}

/// Compiles a grammar.
pub(super) fn compile(source: &GrammarSource) -> Result<Arc<Grammar>, SamplerError> {
    Grammar::compile(source, vocabulary())
}

/// Returns a matcher after `text`, byte by byte, if the grammar lets it begin so.
pub(super) fn after(grammar: &Grammar, text: &str) -> Option<GrammarMatcher> {
    let mut matcher = grammar.matcher();
    let mut bytes = text.bytes();
    let is_begin = bytes.all(|byte| matcher.accept(u32::from(byte)).is_ok());
    is_begin.then_some(matcher)
}

/// Returns whether `text` is all of a text of the grammar.
pub(super) fn accepts(grammar: &Grammar, text: &str) -> bool {
    let Some(mut matcher) = after(grammar, text) else {
        return false;
    };
    match matcher.upcoming() {
        Ok(Next::End) => true,
        Ok(Next::OneOf(mask)) => mask.contains(END),
        _ => false,
    }
}
