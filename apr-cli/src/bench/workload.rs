//! A test and its rounds.

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use generate::CancelFlag;
use moe_model::{
    KvCache, LayerView, ModelError, Outputs, Span, StateOptions, Workspace, forward_batch,
};

use crate::{
    args,
    engine::Engine,
    error::Error,
    reads::{Meter, Reads},
};

/// What is timed, of `n_seqs` sequences together: `n_prompt` tokens of each at once, then
/// `n_gen` of each one by one, after `depth` others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) n_seqs: usize,
    pub(super) depth: usize,
    pub(super) n_prompt: usize,
    pub(super) n_gen: usize,
}

impl Test {
    /// Tokens of one sequence.
    pub(super) const fn n_tokens(self) -> usize {
        self.depth
            .saturating_add(self.n_prompt)
            .saturating_add(self.n_gen)
    }

    /// Tokens of all sequences that are timed.
    pub(super) const fn n_timed(self) -> usize {
        self.n_seqs * (self.n_prompt + self.n_gen)
    }

    /// Returns its products with weights, if it is one prompt.
    pub(super) fn products(self, reads: &Reads) -> Option<u64> {
        let is_prompt = self.n_prompt > 0 && self.n_gen == 0;
        is_prompt.then(|| self.n_seqs as u64 * reads.products(self.n_prompt))
    }

    /// Returns what it reads in all, if it only decodes; a prompt reuses what it reads.
    /// `weight_bytes` are those of its passes.
    pub(super) fn bytes(self, weight_bytes: u64, kv_bytes_per_position: u64) -> Option<u64> {
        if self.n_prompt > 0 {
            return None;
        }
        let n_gen = self.n_gen as u64;
        // Token i sees depth + i + 1 positions.
        let n_positions = n_gen * self.depth as u64 + n_gen * (n_gen + 1) / 2;
        Some(weight_bytes + self.n_seqs as u64 * n_positions * kv_bytes_per_position)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n_seqs > 1 {
            write!(f, "{} × ", self.n_seqs)?;
        }
        match (self.n_prompt, self.n_gen) {
            (n_prompt, 0) => write!(f, "pp{n_prompt}")?,
            (0, n_gen) => write!(f, "tg{n_gen}")?,
            (n_prompt, n_gen) => write!(f, "pp{n_prompt}+tg{n_gen}")?,
        }
        match self.depth {
            0 => Ok(()),
            depth => write!(f, " @ d{depth}"),
        }
    }
}

/// A test with its sequences.
#[derive(Debug)]
pub(super) struct Workload<'m> {
    engine: &'m Engine<'m>,
    test: Test,
    workspace: Workspace,
    sequences: Vec<Sequence>,
    meter: Meter<'m>,
}

/// One sequence and its tokens, which no other one has.
#[derive(Debug)]
struct Sequence {
    cache: KvCache,
    ids: Vec<u32>,
}

/// A round of a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) time: Duration,
    /// Weights that its passes read.
    pub(super) weight_bytes: u64,
}

impl<'m> Workload<'m> {
    pub(super) fn new(
        engine: &'m Engine<'m>,
        reads: &'m Reads,
        options: StateOptions,
        test: Test,
    ) -> Result<Self, Error> {
        engine.check_memory(test.n_seqs, options, Outputs::Last)?;
        let n_vocab = engine.model.config().n_vocab;
        let mut ids = random_ids(n_vocab);
        let sequences = std::iter::repeat_with(|| {
            let StateOptions {
                n_ctx,
                keys,
                values,
                ..
            } = options;
            Ok(Sequence {
                cache: KvCache::new(&engine.model, n_ctx, keys, values)?,
                ids: ids.by_ref().take(test.n_tokens()).collect(),
            })
        });
        Ok(Self {
            engine,
            test,
            workspace: Workspace::new(&engine.model, options.batch_len)?,
            sequences: sequences.take(test.n_seqs).collect::<Result<_, Error>>()?,
            meter: Meter::new(reads),
        })
    }

    /// Brings the context before the test into the caches, or back to what it was: the round
    /// before has left it there.
    pub(super) fn prepare(&mut self, cancel: &CancelFlag) -> Result<(), Error> {
        let depth = self.test.depth;
        for sequence in &mut self.sequences {
            sequence.cache.truncate(depth);
        }
        let n_cached = self.sequences[0].cache.len();
        if n_cached < depth {
            self.pass(n_cached..depth, Outputs::None, cancel)?;
        }
        Ok(())
    }

    /// Does the test once, [prepared](Self::prepare).
    pub(super) fn round(&mut self, cancel: &CancelFlag) -> Result<Round, Error> {
        let Test {
            depth, n_prompt, ..
        } = self.test;
        self.meter.take();
        let begin = Instant::now();
        if n_prompt > 0 {
            self.pass(depth..depth + n_prompt, Outputs::Last, cancel)?;
        }
        for position in depth + n_prompt..self.test.n_tokens() {
            self.pass(position..position + 1, Outputs::Last, cancel)?;
        }
        Ok(Round {
            time: begin.elapsed(),
            weight_bytes: self.meter.take(),
        })
    }

    /// Continues all sequences by their tokens at some positions.
    fn pass(
        &mut self,
        positions: Range<usize>,
        outputs: Outputs,
        cancel: &CancelFlag,
    ) -> Result<(), Error> {
        let Self {
            engine,
            workspace,
            sequences,
            meter,
            ..
        } = self;
        let spans = sequences.iter_mut().map(|Sequence { cache, ids }| Span {
            cache,
            tokens: &ids[positions.clone()],
            outputs,
        });
        let mut observer = |view: LayerView<'_>| {
            meter.add(&view);
            if cancel.is_cancelled() {
                view.stop();
            }
        };
        let mut spans: Vec<Span<'_>> = spans.collect();
        match forward_batch(
            &engine.cpu,
            &engine.model,
            workspace,
            &mut spans,
            &mut observer,
        ) {
            Ok(_) => Ok(()),
            Err(ModelError::Stopped { .. }) => Err(Error::Interrupted),
            Err(other) => Err(other.into()),
        }
    }
}

/// The same ids each time: a multiplicative congruential generator's upper bits.
pub(super) fn random_ids(n_vocab: usize) -> impl Iterator<Item = u32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (((state >> 32) * n_vocab as u64) >> 32) as u32
    })
}

/// Reads `P,N`.
pub(super) fn pair(text: &str) -> Result<(usize, usize), String> {
    let (n_prompt, n_gen) = text.split_once(',').ok_or("expected P,N")?;
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("`{text}` is no number"))
    };
    Ok((number(n_prompt)?, number(n_gen)?))
}

/// Reads how many sequences go on together.
pub(super) fn n_sequences(text: &str) -> Result<usize, String> {
    args::count(text, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_in_llama_bench() {
        let name = |n_seqs, depth, n_prompt, n_gen| {
            Test {
                n_seqs,
                depth,
                n_prompt,
                n_gen,
            }
            .to_string()
        };
        assert_eq!(name(1, 0, 512, 0), "pp512");
        assert_eq!(name(1, 4096, 0, 128), "tg128 @ d4096");
        assert_eq!(name(1, 0, 64, 16), "pp64+tg16");
        assert_eq!(name(4, 64, 0, 32), "4 × tg32 @ d64");
    }

    #[test]
    fn ids_are_in_the_vocabulary_and_vary() {
        let ids: Vec<u32> = random_ids(50).take(1000).collect();
        assert!(ids.iter().all(|&id| id < 50));
        assert!((0..50).all(|id| ids.contains(&id)));
    }

    #[test]
    fn pairs_are_two_numbers() {
        assert_eq!(pair("512, 128"), Ok((512, 128)));
        assert!(pair("512").is_err());
        assert!(pair("a,1").is_err());
    }
}
