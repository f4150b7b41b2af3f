//! What the likelihoods of an item say about it.

use generate::Likelihood;
use serde::Serialize;

use super::{Question, is_space};

/// What an item has come to, with the names that a program reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Of choices.
    MultipleChoice {
        /// Of each choice.
        loglikelihoods: Vec<f64>,
        /// Whether each choice is what the model would have said itself.
        is_greedy: Vec<bool>,
        /// Tokens of each choice.
        n_tokens: Vec<usize>,
        /// Indices of the right ones.
        gold: Vec<usize>,
        /// Indices of the likeliest ones.
        picked: Picked,
    },
    /// Of a continuation.
    Continuation {
        /// Its likelihood.
        loglikelihood: f64,
        /// Whether it is what the model would have said itself.
        is_greedy: bool,
        /// Its tokens.
        n_tokens: usize,
    },
    /// Of a text.
    Text {
        /// Its likelihood.
        loglikelihood: f64,
        /// Its tokens.
        n_tokens: usize,
        /// Its words: pieces between white space.
        n_words: usize,
        /// Its bytes.
        n_bytes: usize,
    },
}

/// Which choice a model takes, by three measures: the first one that is likeliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Picked {
    /// By likelihood.
    pub acc: usize,
    /// By likelihood for each character.
    pub acc_norm: usize,
    /// By likelihood for each byte.
    pub acc_bytes: usize,
}

impl Outcome {
    /// Judges a question by the likelihoods of its request.
    ///
    /// # Panics
    /// There is not one likelihood for each choice, or for what else is asked.
    #[must_use]
    pub fn new(question: &Question, likelihoods: &[Likelihood]) -> Self {
        match question {
            Question::Choices { choices, gold, .. } => {
                assert_eq!(choices.len(), likelihoods.len(), "one for each choice");
                let all = || likelihoods.iter();
                let loglikelihoods: Vec<f64> = all().map(|it| it.logprob).collect();
                let by = |length: fn(&str) -> usize| {
                    let pairs = loglikelihoods.iter().zip(choices);
                    first_best(pairs.map(|(logprob, choice)| logprob / length(choice) as f64))
                };
                let picked = Picked {
                    acc: by(|_| 1),
                    acc_norm: by(|choice| choice.chars().count()),
                    acc_bytes: by(str::len),
                };
                Self::MultipleChoice {
                    is_greedy: all().map(|it| it.is_greedy).collect(),
                    n_tokens: all().map(|it| it.n_tokens).collect(),
                    gold: gold.clone(),
                    picked,
                    loglikelihoods,
                }
            }
            Question::Continuation { .. } => Self::Continuation {
                loglikelihood: likelihoods[0].logprob,
                is_greedy: likelihoods[0].is_greedy,
                n_tokens: likelihoods[0].n_tokens,
            },
            Question::Text(text) => Self::Text {
                loglikelihood: likelihoods[0].logprob,
                n_tokens: likelihoods[0].n_tokens,
                n_words: n_words(text),
                n_bytes: text.len(),
            },
        }
    }

    /// Returns the number of tokens that were scored.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        match self {
            Self::MultipleChoice { n_tokens, .. } => n_tokens.iter().sum(),
            Self::Continuation { n_tokens, .. } | Self::Text { n_tokens, .. } => *n_tokens,
        }
    }
}

/// Returns the index of the first of the greatest values.
fn first_best(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (idx, value) in values.enumerate() {
        if value > best.1 {
            best = (idx, value);
        }
    }
    best.0
}

/// Counts as `re.split(r"\s+", text)` does: white space at an end has an empty word beyond it.
fn n_words(text: &str) -> usize {
    let mut was_space = false;
    let begins = text.chars().filter(|&c| {
        let begins = is_space(c) && !was_space;
        was_space = is_space(c);
        begins
    });
    1 + begins.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likelihood(logprob: f64) -> Likelihood {
        Likelihood {
            logprob,
            is_greedy: false,
            n_tokens: 1,
        }
    }

    #[test]
    fn the_measures_may_take_different_choices() {
        let question = Question::Choices {
            context: String::new(),
            choices: ["a", "éé", "abc"].map(str::to_owned).to_vec(),
            gold: vec![2],
        };
        // For each character: -1, -0.75, -0.8; for each byte: -1, -0.375, -0.8.
        let outcome = Outcome::new(&question, &[-1.0, -1.5, -2.4].map(likelihood));
        let Outcome::MultipleChoice { picked, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            picked,
            Picked {
                acc: 0,
                acc_norm: 1,
                acc_bytes: 1
            }
        );
        assert_eq!(first_best([-2.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(first_best([f64::NEG_INFINITY; 2].into_iter()), 0);
    }

    #[test]
    fn words_are_counted_as_python_splits() {
        let cases = [
            ("", 1),
            ("one", 1),
            ("one two", 2),
            ("one \t\n two", 2),
            (" one two\n", 4),
            ("one\u{1c}two\u{a0}three", 3),
            ("\n", 2),
        ];
        for (text, expected) in cases {
            assert_eq!(n_words(text), expected, "{text:?}");
        }
    }
}
