//! The same bits however the work is cut and divided.
//!
//! A sequence goes through the model once, whole. Then it goes again: with every instruction
//! set, on one thread, in batches of three, one token at a time, after part of it was taken
//! back, and in one pass with other sequences. Every logit must have the bits it had; the first
//! that has not is named, and so is what was done.

use std::num::NonZeroUsize;

use moe_model::{
    KvCache, Model, ModelError, Outputs, Span, State, StateOptions, Workspace, forward_batch,
    forward_with,
};
use quant_kernels::{Cpu, Isa};

use super::{Depth, Progress, Stage, StageReport, Subject, VerifyOptions, tokens::Tokens};
use crate::ToolError;

/// Tokens of a quick look, and of a full one: small and large batches differ in their kernels.
const N_TOKENS: (usize, usize) = (3, 9);

/// Tokens of a call, in turn, where the sequence is cut: short batches, and between them a
/// single token, which takes the path of decoding.
const CUTS: [usize; 2] = [5, 1];

/// Compares the bits of the logits.
pub(super) fn check(
    subject: &Subject<'_>,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<StageReport, ToolError> {
    let n_tokens = match options.depth {
        Depth::Quick => N_TOKENS.0,
        Depth::Full => N_TOKENS.1,
    };
    // No more than that: the scalar code is slow.
    let n_tokens = options
        .n_tokens
        .map_or(n_tokens, |n| n.get().clamp(2, n_tokens));
    let tokens = Tokens::of(subject, n_tokens);
    let mut report = StageReport::new(Stage::Invariance);
    report.figure("sequence", tokens.describe(), "");
    let ways = ways(options.n_threads, options.depth);
    report.figure("ways", ways.len(), "");
    for way in &ways {
        report.detail("way", way.name.as_str(), "");
    }
    let first = Way::whole(Isa::detect(), options.n_threads);
    let total = ways.len() as u64 + 1;
    progress.tell(0, total)?;
    let expected = match first.logits(&subject.model, &tokens.ids) {
        Ok(logits) => logits,
        Err(error) => {
            report.error(first.name, error.to_string());
            return Ok(report);
        }
    };
    report.figure("logits compared", expected.len() * ways.len(), "");
    let n_vocab = subject.model.config().n_vocab;
    for (way, done) in ways.into_iter().zip(1..) {
        progress.tell(done, total)?;
        match way.logits(&subject.model, &tokens.ids) {
            Err(error) => report.error(way.name, error.to_string()),
            Ok(found) => {
                if let Some(difference) = first_difference(&expected, &found, n_vocab) {
                    report.error(way.name, format!("{difference} ({})", first.name));
                }
            }
        }
    }
    progress.tell(total, total)?;
    Ok(report)
}

/// A way to bring a sequence through a model.
struct Way {
    name: String,
    isa: Isa,
    n_threads: NonZeroUsize,
    how: How,
}

/// How a sequence is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Whole,
    /// In calls of these many tokens.
    Cut(&'static [usize]),
    /// In one call whose batches have so many rows.
    Batches(usize),
    /// After its second half was something else and was taken back.
    TakenBack,
    /// In one pass with its own first half and with its reverse.
    WithOthers,
}

/// All ways but the first. A quick look leaves the other instruction sets to the stage of the
/// kernels, since the scalar code takes as long as all others together.
fn ways(n_threads: NonZeroUsize, depth: Depth) -> Vec<Way> {
    let detected = Isa::detect();
    let mut ways = Vec::new();
    if depth == Depth::Full {
        let others = Isa::available().filter(|isa| *isa != detected);
        ways.extend(others.map(|isa| Way::whole(isa, n_threads)));
    }
    if n_threads > NonZeroUsize::MIN {
        ways.push(Way::whole(detected, NonZeroUsize::MIN));
    }
    for (name, how) in [
        ("cut in calls of five and one", How::Cut(&CUTS)),
        ("token by token", How::Cut(&[1])),
        ("in batches of three", How::Batches(3)),
        ("after a part was taken back", How::TakenBack),
        ("with other sequences", How::WithOthers),
    ] {
        ways.push(Way {
            name: name.to_owned(),
            isa: detected,
            n_threads,
            how,
        });
    }
    ways
}

impl Way {
    fn whole(isa: Isa, n_threads: NonZeroUsize) -> Self {
        Self {
            name: format!("at once, {isa}, {n_threads} threads"),
            isa,
            n_threads,
            how: How::Whole,
        }
    }

    /// Returns the logits of all tokens `[T, V]`.
    fn logits(&self, model: &Model<'_>, tokens: &[u32]) -> Result<Vec<f32>, ToolError> {
        let cpu = Cpu::new(self.isa, self.n_threads)?;
        let all = match self.how {
            How::Whole => in_calls(&cpu, model, tokens, tokens.len(), &[tokens.len()]),
            How::Batches(n) => in_calls(&cpu, model, tokens, n, &[tokens.len()]),
            How::Cut(cuts) => in_calls(&cpu, model, tokens, tokens.len(), cuts),
            How::TakenBack => taken_back(&cpu, model, tokens),
            How::WithOthers => with_others(&cpu, model, tokens),
        };
        Ok(all?)
    }
}

fn in_calls(
    cpu: &Cpu,
    model: &Model<'_>,
    tokens: &[u32],
    batch_len: usize,
    cuts: &[usize],
) -> Result<Vec<f32>, ModelError> {
    let mut options = StateOptions::new(tokens.len());
    options.batch_len = batch_len;
    let mut state = State::new(model, options)?;
    let mut all = Vec::new();
    let mut rest = tokens;
    for &n in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (call, after) = rest.split_at(n.min(rest.len()));
        all.extend_from_slice(forward_with(cpu, model, &mut state, call, Outputs::All)?);
        rest = after;
    }
    Ok(all)
}

/// The first half stays in the cache while the second is the reverse of the sequence, then
/// what it ought to be.
fn taken_back(cpu: &Cpu, model: &Model<'_>, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
    let (kept, rest) = tokens.split_at(tokens.len() / 2);
    let other: Vec<u32> = tokens.iter().rev().take(rest.len()).copied().collect();
    let mut state = State::new(model, StateOptions::new(tokens.len()))?;
    let mut all = forward_with(cpu, model, &mut state, kept, Outputs::All)?.to_vec();
    forward_with(cpu, model, &mut state, &other, Outputs::None)?;
    state.truncate(kept.len());
    all.extend_from_slice(forward_with(cpu, model, &mut state, rest, Outputs::All)?);
    Ok(all)
}

fn with_others(cpu: &Cpu, model: &Model<'_>, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
    let options = StateOptions::new(tokens.len());
    let reversed: Vec<u32> = tokens.iter().rev().copied().collect();
    let half = &tokens[..tokens.len().div_ceil(2)];
    let sequences = [&reversed[..], tokens, half];
    let mut caches = Vec::new();
    for _ in sequences {
        let (keys, values) = (options.keys, options.values);
        caches.push(KvCache::new(model, options.n_ctx, keys, values)?);
    }
    let mut workspace = Workspace::new(model, options.batch_len)?;
    let spans = caches.iter_mut().zip(sequences);
    let mut spans: Vec<Span<'_>> = spans
        .map(|(cache, tokens)| Span {
            cache,
            tokens,
            outputs: Outputs::All,
        })
        .collect();
    let logits = forward_batch(cpu, model, &mut workspace, &mut spans, &mut |_| ())?;
    Ok(logits.of(1).to_vec())
}

/// Says where two lists of logits first differ in a bit.
fn first_difference(expected: &[f32], found: &[f32], n_vocab: usize) -> Option<String> {
    if expected.len() != found.len() {
        let (found, expected) = (found.len(), expected.len());
        return Some(format!("{found} logits, expected {expected}"));
    }
    let mut pairs = expected.iter().zip(found).enumerate();
    let (idx, (expected, found)) = pairs.find(|(_, (a, b))| a.to_bits() != b.to_bits())?;
    let (token, id) = (idx / n_vocab, idx % n_vocab);
    Some(format!(
        "logit {id} of token {token} is {found:e}, expected {expected:e}"
    ))
}

#[cfg(test)]
mod tests {
    use moe_model::ModelFile;
    use synth_model::{Geometry, SynthModel, Vocab};

    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(first_difference(&[1.0, 2.0], &[1.0, 2.0], 2), None);
        assert_eq!(
            first_difference(&[1.0, 2.0, 0.0, 3.0], &[1.0, 2.0, -0.0, 4.0], 2).unwrap(),
            "logit 0 of token 1 is -0e0, expected 0e0"
        );
        assert_eq!(
            first_difference(&[1.0], &[], 2).unwrap(),
            "0 logits, expected 1"
        );
    }

    /// Each way must bring the whole sequence through, or it would compare nothing; and other
    /// tokens must give other logits, or the comparison could not fail.
    #[test]
    fn every_way_gives_the_logits_of_all_tokens_and_they_depend_on_the_tokens() {
        let bytes = SynthModel {
            geometry: Geometry::TINY,
            mix: "q4_k_m".parse().unwrap(),
            vocab: Vocab::ByteLevel,
            seed: 5,
        };
        let file = ModelFile::from_bytes("synthetic", bytes.to_bytes().unwrap());
        let gguf = file.gguf().unwrap();
        let model = Model::from_gguf(&gguf).unwrap();
        let (tokens, n_vocab) = ([5, 9, 300, 17, 2, 44, 8, 8, 100], 512);
        let two = NonZeroUsize::new(2).unwrap();
        let expected = Way::whole(Isa::detect(), two)
            .logits(&model, &tokens)
            .unwrap();
        for way in ways(two, Depth::Full) {
            let found = way.logits(&model, &tokens).unwrap();
            assert_eq!(
                first_difference(&expected, &found, n_vocab),
                None,
                "{}",
                way.name
            );
            let mut other = tokens;
            other[7] += 1;
            let found = way.logits(&model, &other).unwrap();
            let difference = first_difference(&expected, &found, n_vocab).unwrap();
            assert!(
                difference.contains("of token 7"),
                "{}: {difference}",
                way.name
            );
        }
    }
}
