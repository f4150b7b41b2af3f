//! What a load has shown.

use std::time::Duration;

use super::client::Answer;
use crate::server::Footprint;

/// Messages of failures that are kept.
const N_KEPT: usize = 5;
/// How much more memory at the end than at the beginning is too much, in percent.
const MOST_DRIFT: f64 = 5.0;

/// Everything that the clients have seen.
#[derive(Debug, Default)]
pub(super) struct Report {
    n_answers: u64,
    n_tokens: u64,
    n_hung_up: u64,
    /// Answers that were not what the same request was answered before.
    n_other: u64,
    n_failed: u64,
    failures: Vec<String>,
    first: Vec<Duration>,
    gaps: Vec<Duration>,
    pub(super) seconds: f64,
    pub(super) footprints: Vec<Footprint>,
    pub(super) is_at_rest: bool,
    /// Within which 99 of 100 slots were free after their client had gone.
    pub(super) cancel_seconds: Option<f64>,
}

impl Report {
    pub(super) fn take(&mut self, answer: Answer, is_other: bool) {
        self.n_other += u64::from(is_other);
        match answer {
            Answer::Whole {
                n_tokens,
                first,
                gaps,
                ..
            } => {
                self.n_answers += 1;
                self.n_tokens += n_tokens;
                self.first.extend(first);
                self.gaps.extend(gaps);
            }
            Answer::HungUp => self.n_hung_up += 1,
            Answer::Failed(message) => {
                self.n_failed += 1;
                if self.failures.len() < N_KEPT {
                    self.failures.push(message);
                }
            }
        }
    }

    pub(super) fn print(&mut self) {
        let seconds = self.seconds;
        println!(
            "{} answers, {} hung up on, {} failed, {} not as before",
            self.n_answers, self.n_hung_up, self.n_failed, self.n_other
        );
        for failure in &self.failures {
            println!("  {failure}");
        }
        let per_second = |n: u64| n as f64 / seconds;
        println!(
            "{:.1} requests and {:.0} tokens a second",
            per_second(self.n_answers),
            per_second(self.n_tokens)
        );
        for (what, times) in [
            ("first token", &mut self.first),
            ("next token", &mut self.gaps),
        ] {
            times.sort_unstable();
            if let (Some(p50), Some(p99), Some(most)) =
                (quantile(times, 50), quantile(times, 99), times.last())
            {
                println!("{what}: median {p50:.0?}, p99 {p99:.0?}, most {most:.0?}");
            }
        }
        if let Some(seconds) = self.cancel_seconds {
            println!(
                "slot free after a hang-up: p99 at most {:.0} ms",
                seconds * 1e3
            );
        }
        if let Some((begin, end)) = self.memory() {
            let drift = (end / begin - 1.0) * 100.0;
            println!(
                "memory: {:.1} MB, then {:.1} MB ({drift:+.1} %)",
                begin / 1e6,
                end / 1e6
            );
        }
        if let Some(most) = self.footprints.iter().map(|f| f.n_files).max() {
            println!("open files: at most {most}");
        }
        println!("slots free at the end: {}", self.is_at_rest);
    }

    /// Returns the median of the memory in the second fifth of the time, when all caches are
    /// warm, and in the last.
    fn memory(&self) -> Option<(f64, f64)> {
        let n = self.footprints.len() / 5;
        let median = |part: &[Footprint]| {
            let mut bytes: Vec<_> = part.iter().map(|f| f.anonymous_bytes).collect();
            bytes.sort_unstable();
            bytes.get(bytes.len() / 2).map(|&bytes| bytes as f64)
        };
        let begin = median(self.footprints.get(n..2 * n)?)?;
        let end = median(self.footprints.get(4 * n..)?)?;
        Some((begin, end))
    }

    /// Returns how many things are not as they should be.
    pub(super) fn complaints(&self) -> usize {
        let is_growing = self
            .memory()
            .is_some_and(|(begin, end)| end > begin * (1.0 + MOST_DRIFT / 100.0));
        [
            self.n_failed > 0,
            self.n_other > 0,
            self.n_answers == 0,
            !self.is_at_rest,
            is_growing,
            self.cancel_seconds.is_some_and(|seconds| seconds > 0.25),
        ]
        .into_iter()
        .filter(|&is_wrong| is_wrong)
        .count()
    }
}

/// Returns the value under which `percent` of the sorted values lie.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted
        .get(sorted.len().saturating_sub(1) * percent / 100)
        .copied()
}
