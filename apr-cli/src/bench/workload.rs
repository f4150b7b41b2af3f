//! A test and its rounds.

use std::{
    fmt,
    time::{Duration, Instant},
};

use generate::{CancelFlag, Sequence};
use moe_model::{Outputs, StateOptions};

use crate::{engine::Engine, error::Error};

/// What is timed: `n_prompt` tokens at once, then `n_gen` one by one, after `depth` others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) depth: usize,
    pub(super) n_prompt: usize,
    pub(super) n_gen: usize,
}

impl Test {
    pub(super) const fn n_tokens(self) -> usize {
        self.depth
            .saturating_add(self.n_prompt)
            .saturating_add(self.n_gen)
    }

    pub(super) const fn n_timed(self) -> usize {
        self.n_prompt + self.n_gen
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// A test with its sequence and its tokens.
#[derive(Debug)]
pub(super) struct Workload<'m> {
    sequence: Sequence<'m>,
    test: Test,
    ids: Vec<u32>,
}

impl<'m> Workload<'m> {
    pub(super) fn new(
        engine: &'m Engine<'m>,
        options: StateOptions,
        test: Test,
    ) -> Result<Self, Error> {
        let sequence = engine.sequence(options, Outputs::Last)?;
        let ids = random_ids(test.n_tokens(), sequence.n_vocab());
        Ok(Self {
            sequence,
            test,
            ids,
        })
    }

    /// Brings the context before the test into the cache, or back to what it was: the round
    /// before has left it there.
    pub(super) fn prepare(&mut self, cancel: &CancelFlag) -> Result<(), Error> {
        match self.test.depth {
            0 => self.sequence.clear(),
            depth => {
                self.sequence
                    .prefill(&self.ids[..depth], cancel, &mut |_| ())?;
            }
        }
        Ok(())
    }

    /// Does the test once, [prepared](Self::prepare), and returns the time.
    pub(super) fn round(&mut self, cancel: &CancelFlag) -> Result<Duration, Error> {
        let Test {
            depth, n_prompt, ..
        } = self.test;
        let begin = Instant::now();
        if n_prompt > 0 {
            // What is in the cache is kept, so only the tokens of the test are computed.
            self.sequence
                .prefill(&self.ids[..depth + n_prompt], cancel, &mut |_| ())?;
        }
        for &id in &self.ids[depth + n_prompt..] {
            self.sequence.push(id, cancel)?;
        }
        Ok(begin.elapsed())
    }
}

/// The same ids each time: a multiplicative congruential generator's upper bits.
fn random_ids(n: usize, n_vocab: usize) -> Vec<u32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let ids = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (((state >> 32) * n_vocab as u64) >> 32) as u32
    });
    ids.take(n).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_in_llama_bench() {
        let name = |depth, n_prompt, n_gen| {
            Test {
                depth,
                n_prompt,
                n_gen,
            }
            .to_string()
        };
        assert_eq!(name(0, 512, 0), "pp512");
        assert_eq!(name(4096, 0, 128), "tg128 @ d4096");
        assert_eq!(name(0, 64, 16), "pp64+tg16");
    }

    #[test]
    fn ids_are_in_the_vocabulary_and_vary() {
        let ids = random_ids(1000, 50);
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
