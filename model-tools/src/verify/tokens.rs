//! The tokens that a model is asked with.

use super::Subject;

/// Prose, another script, numbers and code: what models read.
pub(super) const TEXT: &str = "\
The engine reads its weights where they lie, one layer after the other. 春眠不觉晓，处处闻啼鸟。\n\
fn main() {\n    let total: u64 = (1..=10).map(|n| n * n).sum();\n    println!(\"{total}\");\n}\n\
What is the square root of 1,764? It is 42, since 42 × 42 = 1,764. Shall I compare thee to a \
summer's day? Thou art more lovely and more temperate.\n";

/// Tokens and where they come from.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    /// Whether they are those of [`TEXT`], by the model's own tokenizer.
    pub(super) are_text: bool,
}

impl Tokens {
    /// Takes the first `n` tokens of a text, which is repeated if it is too short. Without a
    /// tokenizer, and where it does not fit the model, ids are spread over the vocabulary.
    pub(super) fn of(subject: &Subject<'_>, n: usize) -> Self {
        let n_vocab = subject.model.config().n_vocab;
        let text = match &subject.tokenizer {
            Ok(tokenizer) => tokenizer.encode(TEXT, tokenizer::SpecialTokens::AsText),
            Err(_) => Vec::new(),
        };
        let fits = !text.is_empty() && text.iter().all(|&id| (id as usize) < n_vocab);
        let ids = if fits {
            text.into_iter().cycle().take(n).collect()
        } else {
            spread(n, n_vocab)
        };
        Self {
            ids,
            are_text: fits,
        }
    }

    /// Says what they are.
    pub(super) fn describe(&self) -> String {
        let what = if self.are_text {
            "tokens of a text"
        } else {
            "ids spread over the vocabulary, for want of a tokenizer"
        };
        format!("{} {what}", self.ids.len())
    }
}

/// Ids spread over the vocabulary.
pub(super) fn spread(n: usize, n_vocab: usize) -> Vec<u32> {
    let id = |idx: u64| (idx.wrapping_mul(2_654_435_761) + 12_345) % n_vocab as u64;
    (0..n as u64).map(|idx| id(idx) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_ids_are_in_the_vocabulary_and_repeat_little() {
        let mut ids = spread(100, 4096);
        assert!(ids.iter().all(|&id| id < 4096));
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() > 90);
    }
}
