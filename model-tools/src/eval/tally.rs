//! What all outcomes say about a model: measures by task, with their standard errors.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;

/// What items of a kind have in common: the measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Which of some texts comes next?
    MultipleChoice,
    /// How likely is this text to come next?
    Continuation,
    /// How likely is this text?
    Text,
}

/// Sums by task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    tasks: BTreeMap<(Kind, String), Sums>,
    totals: BTreeMap<Kind, Sums>,
}

/// The measures of a task, or of all tasks of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `None` for all tasks of the kind, where there are several.
    pub task: Option<String>,
    /// What the items have in common.
    pub kind: Kind,
    /// Items.
    pub n_items: usize,
    /// Tokens that were scored.
    pub n_tokens: usize,
    /// The harness's names and figures.
    pub metrics: Vec<Metric>,
}

/// A measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// The harness's name.
    pub name: &'static str,
    /// The measure.
    pub value: f64,
    /// The standard error of the measure, as far as items are independent; `None` for one item
    /// and for measures that are no means of items.
    pub stderr: Option<f64>,
}

/// Sums of a task.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    n_items: usize,
    n_tokens: usize,
    acc: Mean,
    acc_norm: Mean,
    acc_bytes: Mean,
    logprob: Mean,
    n_words: usize,
    n_bytes: usize,
}

/// A mean on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    n: usize,
    sum: f64,
    /// The mean so far, and the sum of squared distances from it.
    mean: f64,
    squares: f64,
}

impl Tally {
    /// Begins with no items.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item of a task.
    pub fn add(&mut self, task: &str, outcome: &Outcome) {
        let kind = outcome.kind();
        let key = (kind, task.to_owned());
        self.tasks.entry(key).or_default().add(outcome);
        self.totals.entry(kind).or_default().add(outcome);
    }

    /// Returns the measures of each task, by kind and name, and after those of a kind, if they
    /// are several, the measures of all of them.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (&kind, total) in &self.totals {
            let of_kind = self.tasks.iter().filter(|((it, _), _)| *it == kind);
            let before = rows.len();
            rows.extend(of_kind.map(|((_, task), sums)| sums.row(kind, Some(task.clone()))));
            if rows.len() > before + 1 {
                rows.push(total.row(kind, None));
            }
        }
        rows
    }
}

impl Outcome {
    const fn kind(&self) -> Kind {
        match self {
            Self::MultipleChoice { .. } => Kind::MultipleChoice,
            Self::Continuation { .. } => Kind::Continuation,
            Self::Text { .. } => Kind::Text,
        }
    }
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.n_items += 1;
        self.n_tokens += outcome.n_tokens();
        let share = |is_right: bool| if is_right { 1.0 } else { 0.0 };
        match outcome {
            Outcome::MultipleChoice { gold, picked, .. } => {
                self.acc.push(share(gold.contains(&picked.acc)));
                self.acc_norm.push(share(gold.contains(&picked.acc_norm)));
                self.acc_bytes.push(share(gold.contains(&picked.acc_bytes)));
            }
            Outcome::Continuation {
                loglikelihood,
                is_greedy,
                ..
            } => {
                self.acc.push(share(*is_greedy));
                self.logprob.push(*loglikelihood);
            }
            Outcome::Text {
                loglikelihood,
                n_words,
                n_bytes,
                ..
            } => {
                self.logprob.push(*loglikelihood);
                self.n_words += n_words;
                self.n_bytes += n_bytes;
            }
        }
    }

    fn row(&self, kind: Kind, task: Option<String>) -> Row {
        let mean = |name, mean: &Mean| Metric {
            name,
            value: mean.value(),
            stderr: mean.standard_error(),
        };
        let of_all = |name, value| Metric {
            name,
            value,
            stderr: None,
        };
        let metrics = match kind {
            Kind::MultipleChoice => vec![
                mean("acc", &self.acc),
                mean("acc_norm", &self.acc_norm),
                mean("acc_bytes", &self.acc_bytes),
            ],
            Kind::Continuation => {
                let value = (-self.logprob.value()).exp();
                let perplexity = Metric {
                    name: "perplexity",
                    value,
                    // To first order, as an error of the exponent.
                    stderr: self.logprob.standard_error().map(|error| value * error),
                };
                vec![mean("acc", &self.acc), perplexity]
            }
            Kind::Text => {
                let nats = |n: usize| -self.logprob.sum / n as f64;
                vec![
                    of_all("word_perplexity", nats(self.n_words).exp()),
                    of_all("byte_perplexity", nats(self.n_bytes).exp()),
                    of_all("bits_per_byte", nats(self.n_bytes) / std::f64::consts::LN_2),
                ]
            }
        };
        Row {
            task,
            kind,
            n_items: self.n_items,
            n_tokens: self.n_tokens,
            metrics,
        }
    }
}

impl Mean {
    fn push(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        let distance = value - self.mean;
        self.mean += distance / self.n as f64;
        self.squares += distance * (value - self.mean);
    }

    fn value(&self) -> f64 {
        self.sum / self.n as f64
    }

    /// Returns the standard deviation of a sample by the square root of its size.
    fn standard_error(&self) -> Option<f64> {
        let n = self.n as f64;
        (self.n > 1).then(|| (self.squares / (n - 1.0) / n).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Picked;

    fn choice(gold: usize) -> Outcome {
        Outcome::MultipleChoice {
            loglikelihoods: vec![-1.0, -2.0],
            is_greedy: vec![false; 2],
            n_tokens: vec![1, 2],
            gold: vec![gold],
            picked: Picked {
                acc: 0,
                acc_norm: 1,
                acc_bytes: 1,
            },
        }
    }

    fn values(row: &Row) -> Vec<(&'static str, f64, Option<f64>)> {
        let metrics = row.metrics.iter();
        metrics.map(|it| (it.name, it.value, it.stderr)).collect()
    }

    #[test]
    fn accuracy_is_a_mean_with_the_error_of_a_sample() {
        let mut tally = Tally::new();
        for gold in [0, 0, 0, 1] {
            tally.add("a", &choice(gold));
        }
        let rows = tally.rows();
        assert_eq!((rows.len(), rows[0].n_items, rows[0].n_tokens), (1, 4, 12));
        let found = values(&rows[0]);
        assert_eq!(found[0], ("acc", 0.75, Some(0.25)));
        assert_eq!(found[1], ("acc_norm", 0.25, Some(0.25)));

        tally.add("b", &choice(1));
        let rows = tally.rows();
        let tasks: Vec<_> = rows.iter().map(|row| row.task.as_deref()).collect();
        assert_eq!(tasks, [Some("a"), Some("b"), None]);
        assert_eq!(values(&rows[1])[0], ("acc", 0.0, None));
        assert_eq!((rows[2].n_items, values(&rows[2])[0].1), (5, 0.6));
    }

    #[test]
    fn perplexities_are_those_of_items_words_and_bytes() {
        let mut tally = Tally::new();
        for loglikelihood in [-1.0, -3.0] {
            let is_greedy = loglikelihood > -2.0;
            tally.add(
                "a",
                &Outcome::Continuation {
                    loglikelihood,
                    is_greedy,
                    n_tokens: 2,
                },
            );
            tally.add(
                "a",
                &Outcome::Text {
                    loglikelihood,
                    n_tokens: 3,
                    n_words: 1,
                    n_bytes: 4,
                },
            );
        }
        let rows = tally.rows();
        let (continuations, texts) = (values(&rows[0]), values(&rows[1]));
        let e2 = 2f64.exp();
        assert_eq!(continuations[0], ("acc", 0.5, Some(0.5)));
        assert_eq!(continuations[1], ("perplexity", e2, Some(e2)));
        assert_eq!(texts[0], ("word_perplexity", e2, None));
        assert_eq!(texts[1], ("byte_perplexity", 0.5f64.exp(), None));
        assert_eq!(
            texts[2],
            ("bits_per_byte", 0.5 / std::f64::consts::LN_2, None)
        );
    }
}
