//! One answer: the logits at a position are the same bits, however they are come by.

use moe_model::{Model, Outputs, State, StateOptions, forward_qwen3_moe, forward_with};
use proptest::prelude::*;
use quant_kernels::{Cpu, Isa, KvType};

use crate::fixture::{all_types, cpu, options, prompt, tiny, with_model};

const N_TOKENS: usize = 300;

/// Feeds `tokens` in pieces of the lengths that `pieces` gives and returns all logits.
fn in_pieces(
    cpu: &Cpu,
    model: &Model<'_>,
    state: &mut State,
    tokens: &[u32],
    pieces: impl IntoIterator<Item = usize>,
) -> Vec<f32> {
    let (mut logits, mut rest) = (Vec::new(), tokens);
    for len in pieces {
        let (piece, later) = rest.split_at(len.min(rest.len()));
        logits.extend_from_slice(forward_with(cpu, model, state, piece, Outputs::All).unwrap());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    assert!(rest.is_empty(), "the pieces are too short");
    logits
}

pub(crate) fn at_once(
    cpu: &Cpu,
    model: &Model<'_>,
    options: StateOptions,
    tokens: &[u32],
) -> Vec<f32> {
    let mut state = State::new(model, options).unwrap();
    in_pieces(cpu, model, &mut state, tokens, [tokens.len()])
}

/// Names the first position whose logits differ.
pub(crate) fn assert_same(found: &[f32], expected: &[f32], n_vocab: usize, case: &str) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    if let Some(idx) = found.iter().zip(expected).position(differs) {
        panic!(
            "{case}: position {}, token {}",
            idx / n_vocab,
            idx % n_vocab
        );
    }
}

#[test]
fn instruction_sets_threads_and_cuts_give_the_same_bits() {
    struct Case {
        n_threads: usize,
        piece: usize,
        batch_len: usize,
    }
    let cases = [
        Case {
            n_threads: 1,
            piece: N_TOKENS,
            batch_len: 512,
        },
        Case {
            n_threads: 2,
            piece: 64,
            batch_len: 512,
        },
        Case {
            n_threads: 3,
            piece: 7,
            batch_len: 5,
        },
        Case {
            n_threads: 4,
            piece: 1,
            batch_len: 512,
        },
        Case {
            n_threads: 4,
            piece: N_TOKENS,
            batch_len: 100,
        },
    ];
    with_model(all_types(), |model| {
        let n_vocab = model.config().n_vocab;
        let tokens = prompt(N_TOKENS, n_vocab);
        let options = options(KvType::F16, N_TOKENS);
        let expected = at_once(&cpu(Isa::detect(), 2), model, options, &tokens);
        for isa in Isa::available() {
            for Case {
                n_threads,
                piece,
                batch_len,
            } in &cases
            {
                let cpu = cpu(isa, *n_threads);
                let options = StateOptions {
                    batch_len: *batch_len,
                    ..options
                };
                let mut state = State::new(model, options).unwrap();
                let pieces = std::iter::repeat(*piece);
                let found = in_pieces(&cpu, model, &mut state, &tokens, pieces);
                let case = format!("{isa}, {n_threads} threads, pieces of {piece}");
                assert_same(&found, &expected, n_vocab, &case);
            }
        }
    });
}

#[test]
fn every_cache_type_gives_the_same_bits_however_it_is_filled() {
    with_model(&tiny(synth_model::TypeMix::Q4_K_M), |model| {
        let n_vocab = model.config().n_vocab;
        let tokens = prompt(150, n_vocab);
        for keys in [KvType::F32, KvType::F16, KvType::BF16, KvType::Q8_0] {
            for values in [KvType::F16, KvType::Q8_0] {
                let options = StateOptions {
                    values,
                    ..options(keys, 150)
                };
                let expected = at_once(&cpu(Isa::detect(), 1), model, options, &tokens);
                for isa in Isa::available() {
                    let mut state = State::new(model, options).unwrap();
                    let pieces = [1, 62, 1, 1, 63, 22];
                    let found = in_pieces(&cpu(isa, 2), model, &mut state, &tokens, pieces);
                    let case = format!("{isa}, {keys} keys, {values} values");
                    assert_same(&found, &expected, n_vocab, &case);
                }
            }
        }
    });
}

#[test]
fn truncating_and_resuming_leaves_no_trace() {
    with_model(all_types(), |model| {
        let n_vocab = model.config().n_vocab;
        let tokens = prompt(N_TOKENS, n_vocab);
        let options = options(KvType::F16, N_TOKENS);
        let expected = at_once(&cpu(Isa::detect(), 2), model, options, &tokens);
        let threads = [1, 2, 3, 4].into_iter().cycle();
        for isa in Isa::available() {
            for (kept, n_threads) in [0, 1, 63, 64, 65, 130, 299]
                .into_iter()
                .zip(threads.clone())
            {
                let cpu = cpu(isa, n_threads);
                let mut state = State::new(model, options).unwrap();
                forward_qwen3_moe(&cpu, model, &mut state, &tokens[..kept.max(1)]).unwrap();
                let detour = tokens.iter().rev().take(N_TOKENS - kept.max(1)).take(70);
                let detour: Vec<u32> = detour.copied().collect();
                forward_qwen3_moe(&cpu, model, &mut state, &detour).unwrap();
                state.truncate(kept);
                assert_eq!(state.len(), kept);
                let rest = &tokens[kept..N_TOKENS.min(kept + 100)];
                let found = in_pieces(&cpu, model, &mut state, rest, [rest.len()]);
                let case = format!("{isa}, {n_threads} threads, resumed at {kept}");
                let expected = &expected[kept * n_vocab..][..found.len()];
                assert_same(&found, expected, n_vocab, &case);
            }
        }
    });
}

#[test]
fn outputs_select_rows_and_change_none() {
    with_model(&tiny(synth_model::TypeMix::Q4_K_M), |model| {
        let n_vocab = model.config().n_vocab;
        let (cpu, tokens) = (cpu(Isa::detect(), 2), prompt(40, n_vocab));
        let options = StateOptions {
            batch_len: 16,
            ..options(KvType::F16, 40)
        };
        let all = at_once(&cpu, model, options, &tokens);
        let cases = [
            (Outputs::None, 40),
            (Outputs::Last, 39),
            (Outputs::From(10), 10),
            (Outputs::From(16), 16),
            (Outputs::From(99), 40),
        ];
        for (outputs, first) in cases {
            let mut state = State::new(model, options).unwrap();
            let found = forward_with(&cpu, model, &mut state, &tokens, outputs).unwrap();
            assert_same(
                found,
                &all[first * n_vocab..],
                n_vocab,
                &format!("{outputs:?}"),
            );
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn any_cuts_give_the_same_bits(
        pieces in prop::collection::vec(1usize..=65, 100),
        batch_len in 1usize..80,
        n_threads in 1usize..=4,
        isa_idx in 0usize..3,
        n_tokens in 1usize..140,
    ) {
        with_model(all_types(), |model| {
            let tokens = prompt(n_tokens, model.config().n_vocab);
            let options = options(KvType::F16, n_tokens);
            let expected = at_once(&cpu(Isa::detect(), 2), model, options, &tokens);
            let isa = Isa::available().cycle_to(isa_idx);
            let mut state = State::new(model, StateOptions { batch_len, ..options }).unwrap();
            let found = in_pieces(&cpu(isa, n_threads), model, &mut state, &tokens, pieces);
            assert_same(&found, &expected, model.config().n_vocab, "random cuts");
        });
    }
}

trait CycleTo: Iterator {
    /// Returns the item at `idx` modulo the number of items.
    fn cycle_to(self, idx: usize) -> Self::Item;
}

impl<T: Copy, I: Iterator<Item = T>> CycleTo for I {
    fn cycle_to(self, idx: usize) -> T {
        let items: Vec<T> = self.collect();
        items[idx % items.len()]
    }
}
