//! What a run took, as a line for people and as numbers for programs.

use std::time::{Duration, Instant};

use generate::Prefill;
use serde::Serialize;

use crate::units::{self, plural};

/// Times of one run. The first token is part of the prefill: it is drawn from its logits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) load: Duration,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
    pub(crate) n_cached: usize,
    pub(crate) n_prefill: usize,
    pub(crate) n_generated: usize,
}

/// [`Timing`] as it stands in a JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct TimingRecord {
    load_s: f64,
    prefill_s: f64,
    prefill_tok_s: f64,
    decode_s: f64,
    decode_tok_s: f64,
    n_prompt: usize,
    n_cached: usize,
    n_generated: usize,
}

/// Measures a run that begins now.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    begin: Instant,
    timing: Timing,
}

impl Stopwatch {
    pub(crate) fn start(load: Duration) -> Self {
        Self {
            begin: Instant::now(),
            timing: Timing {
                load,
                ..Timing::default()
            },
        }
    }

    /// The prompt is done.
    pub(crate) fn prefilled(&mut self, prefill: Prefill) {
        self.timing.prefill = self.begin.elapsed();
        self.timing.n_cached = prefill.n_cached;
        self.timing.n_prefill = prefill.n_computed;
        self.begin = Instant::now();
    }

    /// A token came.
    pub(crate) fn generated(&mut self) {
        self.timing.n_generated += 1;
        self.timing.decode = self.begin.elapsed();
    }

    pub(crate) const fn timing(&self) -> Timing {
        self.timing
    }
}

impl Timing {
    fn prefill_tok_s(&self) -> f64 {
        units::tok_s(self.n_prefill, self.prefill)
    }

    /// The first token needs no pass of its own.
    fn decode_tok_s(&self) -> f64 {
        units::tok_s(self.n_generated.saturating_sub(1), self.decode)
    }

    /// Returns the line for people.
    pub(crate) fn line(&self) -> String {
        let mut parts = Vec::new();
        if !self.load.is_zero() {
            parts.push(format!("load {}", units::seconds(self.load)));
        }
        let cached = match self.n_cached {
            0 => String::new(),
            n => format!(" (+{n} cached)"),
        };
        let n_prefill = plural(self.n_prefill, "token");
        parts.push(format!(
            "prefill {n_prefill}{cached}, {:.1} tok/s",
            self.prefill_tok_s()
        ));
        let n_generated = plural(self.n_generated, "token");
        match self.n_generated {
            0 | 1 => parts.push(format!("decode {n_generated}")),
            _ => parts.push(format!(
                "decode {n_generated}, {:.1} tok/s",
                self.decode_tok_s()
            )),
        }
        parts.join(" · ")
    }

    pub(crate) fn record(&self) -> TimingRecord {
        TimingRecord {
            load_s: self.load.as_secs_f64(),
            prefill_s: self.prefill.as_secs_f64(),
            prefill_tok_s: self.prefill_tok_s(),
            decode_s: self.decode.as_secs_f64(),
            decode_tok_s: self.decode_tok_s(),
            n_prompt: self.n_cached + self.n_prefill,
            n_cached: self.n_cached,
            n_generated: self.n_generated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_leaves_out_what_says_nothing() {
        let timing = Timing {
            load: Duration::from_millis(250),
            prefill: Duration::from_secs(2),
            decode: Duration::from_secs(2),
            n_cached: 0,
            n_prefill: 100,
            n_generated: 41,
        };
        let line = "load 250 ms · prefill 100 tokens, 50.0 tok/s · decode 41 tokens, 20.0 tok/s";
        assert_eq!(timing.line(), line);
        let later = Timing {
            load: Duration::ZERO,
            n_cached: 7,
            n_generated: 1,
            ..timing
        };
        assert_eq!(
            later.line(),
            "prefill 100 tokens (+7 cached), 50.0 tok/s · decode 1 token"
        );
    }
}
