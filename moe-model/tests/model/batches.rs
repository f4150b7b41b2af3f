//! Sequences that share a pass get the bits they get alone.

use moe_model::{
    KvCache, Model, ModelError, Outputs, Place, Span, StateOptions, Workspace, forward_batch,
};
use proptest::prelude::*;
use quant_kernels::{Cpu, Isa, KvType};
use synth_model::TypeMix;

use crate::{
    edit::Parts,
    fixture::{all_types, cpu, options, prompt, smallest, tiny, with_model},
    invariance::{assert_same, at_once},
};

/// A sequence that takes part in passes, and what it has got from them.
struct Guest {
    cache: KvCache,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Guest {
    /// Guests differ in their tokens.
    fn new(model: &Model<'_>, kv: KvType, number: usize, n_tokens: usize) -> Self {
        let all = prompt(n_tokens + 5 * number, model.config().n_vocab);
        Self {
            cache: KvCache::new(model, n_tokens, kv, kv).unwrap(),
            tokens: all[5 * number..].to_vec(),
            logits: Vec::new(),
        }
    }

    fn n_left(&self) -> usize {
        self.tokens.len() - self.cache.len()
    }

    fn options(&self, kv: KvType) -> StateOptions {
        options(kv, self.tokens.len())
    }
}

/// One pass: guest `i` goes on by `pieces[i]` tokens, or by what is left; those with none are
/// not there.
fn step(
    cpu: &Cpu,
    model: &Model<'_>,
    workspace: &mut Workspace,
    guests: &mut [Guest],
    pieces: &[usize],
) {
    let (mut spans, mut outs) = (Vec::new(), Vec::new());
    for (guest, &piece) in guests.iter_mut().zip(pieces) {
        let n_tokens = piece.min(guest.n_left());
        let Guest {
            cache,
            tokens,
            logits,
        } = guest;
        if n_tokens > 0 {
            let tokens = &tokens[cache.len()..][..n_tokens];
            let outputs = Outputs::All;
            spans.push(Span {
                cache,
                tokens,
                outputs,
            });
            outs.push(logits);
        }
    }
    if spans.is_empty() {
        return;
    }
    let logits = forward_batch(cpu, model, workspace, &mut spans, &mut |_| ()).unwrap();
    for (idx, out) in outs.into_iter().enumerate() {
        out.extend_from_slice(logits.of(idx));
    }
}

#[test]
fn sequences_of_any_length_and_kind_of_cache_share_a_pass() {
    let kinds = [KvType::F16, KvType::F32, KvType::Q8_0, KvType::BF16];
    // The first takes in a long prompt, the second one bit by bit; the third decodes, the
    // fourth comes late and leaves early.
    let schedule = [
        [130, 20, 1, 0],
        [1, 33, 1, 0],
        [1, 1, 1, 66],
        [1, 64, 1, 1],
        [1, 1, 1, 0],
        [5, 1, 1, 0],
    ];
    with_model(all_types(), |model| {
        let n_vocab = model.config().n_vocab;
        let n_tokens: [usize; 4] = std::array::from_fn(|i| schedule.iter().map(|s| s[i]).sum());
        let guests = || -> Vec<Guest> {
            let numbered = kinds.iter().zip(n_tokens).enumerate();
            let guests = numbered.map(|(i, (&kind, n))| Guest::new(model, kind, i, n));
            guests.collect()
        };
        let alone: Vec<Vec<f32>> = guests()
            .iter()
            .zip(kinds)
            .map(|(guest, kind)| {
                let options = guest.options(kind);
                at_once(&cpu(Isa::detect(), 2), model, options, &guest.tokens)
            })
            .collect();
        for isa in Isa::available() {
            for (n_threads, batch_len) in [(1, 512), (2, 16), (3, 512), (4, 100)] {
                let cpu = cpu(isa, n_threads);
                let mut workspace = Workspace::new(model, batch_len).unwrap();
                let mut guests = guests();
                for pieces in schedule {
                    step(&cpu, model, &mut workspace, &mut guests, &pieces);
                }
                for (idx, (guest, alone)) in guests.iter().zip(&alone).enumerate() {
                    let case = format!("{isa}, {n_threads} threads, guest {idx}");
                    assert_same(&guest.logits, alone, n_vocab, &case);
                }
            }
        }
    });
}

#[test]
fn a_long_context_is_spread_over_the_team_whoever_else_is_there() {
    with_model(&tiny(TypeMix::Q4_K_M), |model| {
        let n_vocab = model.config().n_vocab;
        let new = || [1100, 40, 3].map(|n| Guest::new(model, KvType::F16, n % 7, n));
        let alone = new().map(|guest| {
            let options = guest.options(KvType::F16);
            at_once(&cpu(Isa::detect(), 2), model, options, &guest.tokens)
        });
        for n_threads in [1, 2, 4] {
            let cpu = cpu(Isa::detect(), n_threads);
            let mut workspace = Workspace::new(model, 512).unwrap();
            let mut guests = new();
            step(&cpu, model, &mut workspace, &mut guests, &[1090, 30, 0]);
            step(&cpu, model, &mut workspace, &mut guests, &[3, 1, 0]);
            for _ in 0..9 {
                step(&cpu, model, &mut workspace, &mut guests, &[1, 1, 1]);
            }
            for (idx, (guest, alone)) in guests.iter().zip(&alone).enumerate() {
                let case = format!("{n_threads} threads, guest {idx}");
                assert_same(&guest.logits, alone, n_vocab, &case);
            }
        }
    });
}

#[test]
fn each_sequence_gets_the_logits_it_asks_for() {
    with_model(smallest(), |model| {
        let (cpu, n_vocab) = (cpu(Isa::detect(), 2), model.config().n_vocab);
        let asked = [
            (Outputs::None, 7..7),
            (Outputs::All, 0..7),
            (Outputs::Last, 6..7),
            (Outputs::From(2), 2..7),
            (Outputs::None, 7..7),
        ];
        for batch_len in [1, 3, 9, 512] {
            let mut workspace = Workspace::new(model, batch_len).unwrap();
            let mut guests: Vec<Guest> = (0..asked.len())
                .map(|i| Guest::new(model, KvType::F32, i, 7))
                .collect();
            let alone: Vec<Vec<f32>> = guests
                .iter()
                .map(|guest| at_once(&cpu, model, guest.options(KvType::F32), &guest.tokens))
                .collect();
            let mut spans: Vec<Span<'_>> = guests
                .iter_mut()
                .zip(&asked)
                .map(|(guest, &(outputs, _))| Span {
                    cache: &mut guest.cache,
                    tokens: &guest.tokens,
                    outputs,
                })
                .collect();
            let found =
                forward_batch(&cpu, model, &mut workspace, &mut spans, &mut |_| ()).unwrap();
            for (idx, ((_, rows), alone)) in asked.iter().zip(&alone).enumerate() {
                let expected = &alone[rows.start * n_vocab..rows.end * n_vocab];
                let case = format!("batches of {batch_len}, sequence {idx}");
                assert_same(found.of(idx), expected, n_vocab, &case);
            }
        }
    });
}

#[test]
fn observers_see_whose_tokens_go_through_a_layer() {
    with_model(smallest(), |model| {
        let cpu = cpu(Isa::detect(), 1);
        let mut workspace = Workspace::new(model, 3).unwrap();
        let mut guests = [4, 5].map(|n| Guest::new(model, KvType::F32, n, n));
        step(&cpu, model, &mut workspace, &mut guests, &[2, 4]);
        let [a, b] = &mut guests;
        let mut spans = [a, b].map(|guest| Span {
            tokens: &guest.tokens[guest.cache.len()..],
            cache: &mut guest.cache,
            outputs: Outputs::None,
        });
        let mut seen = Vec::new();
        let mut observer = |view: moe_model::LayerView<'_>| {
            assert_eq!(view.hidden.len(), view.places.len() * 64);
            assert_eq!(view.routes.len(), view.places.len() * 2);
            if view.layer == 1 {
                seen.extend_from_slice(view.places);
            }
        };
        forward_batch(&cpu, model, &mut workspace, &mut spans, &mut observer).unwrap();
        let expected = [(0, 2), (0, 3), (1, 4)].map(|(span, position)| Place { span, position });
        assert_eq!(seen, expected);
    });
}

/// Two guests after a first pass, of 3 and 2 tokens, with room for two more each.
fn two_guests(cpu: &Cpu, model: &Model<'_>, workspace: &mut Workspace) -> [Guest; 2] {
    let mut guests = [5, 4].map(|n| Guest::new(model, KvType::F16, n, n));
    step(cpu, model, workspace, &mut guests, &[3, 2]);
    guests
}

/// Continues both guests by other tokens than their own and returns the error; nothing may
/// have changed.
fn refused(
    cpu: &Cpu,
    model: &Model<'_>,
    workspace: &mut Workspace,
    guests: &mut [Guest; 2],
    tokens: [&[u32]; 2],
) -> ModelError {
    let lens = guests.each_ref().map(|guest| guest.cache.len());
    let [a, b] = guests.each_mut();
    let mut spans = [(a, tokens[0]), (b, tokens[1])].map(|(guest, tokens)| Span {
        cache: &mut guest.cache,
        tokens,
        outputs: Outputs::Last,
    });
    let error = forward_batch(cpu, model, workspace, &mut spans, &mut |_| ()).unwrap_err();
    assert_eq!(guests.each_ref().map(|guest| guest.cache.len()), lens);
    error
}

#[test]
fn an_error_names_its_sequence_and_leaves_all_as_they_were() {
    with_model(smallest(), |model| {
        let cpu = cpu(Isa::detect(), 2);
        let mut workspace = Workspace::new(model, 512).unwrap();
        let mut guests = two_guests(&cpu, model, &mut workspace);
        let cases: [([&[u32]; 2], usize, &str); 4] = [
            (
                [&[1], &[2, 3, 4]],
                1,
                "the context holds 4 tokens: 2 are in it and 3 more do not fit",
            ),
            (
                [&[1, 2, 3], &[2, 3, 4]],
                0,
                "the context holds 5 tokens: 3 are in it and 3 more do not fit",
            ),
            (
                [&[1], &[2, 320]],
                1,
                "token 320 at position 3: expected an id below 320",
            ),
            (
                [&[], &[2]],
                0,
                "no tokens: a forward pass needs at least one",
            ),
        ];
        for (tokens, expected, message) in cases {
            match refused(&cpu, model, &mut workspace, &mut guests, tokens) {
                ModelError::Sequence { idx, source } => {
                    assert_eq!((idx, source.to_string().as_str()), (expected, message));
                }
                other => panic!("{other}"),
            }
        }
        let none = forward_batch(&cpu, model, &mut workspace, &mut [], &mut |_| ());
        assert!(matches!(none, Err(ModelError::NoSequences)));
        step(&cpu, model, &mut workspace, &mut guests, &[2, 2]);
        for guest in &guests {
            let alone = at_once(&cpu, model, guest.options(KvType::F16), &guest.tokens);
            assert_same(&guest.logits, &alone, 320, "after errors");
        }
    });
}

#[test]
fn caches_and_workspaces_of_another_model_are_refused() {
    with_model(smallest(), |model| {
        with_model(&tiny(TypeMix::Q4_0), |other| {
            let cpu = cpu(Isa::detect(), 1);
            let mut workspace = Workspace::new(model, 512).unwrap();
            let mut guests = two_guests(&cpu, model, &mut workspace);
            let mut foreign = Workspace::new(other, 512).unwrap();
            let tokens = [&[1][..], &[2]];
            let error = refused(&cpu, model, &mut foreign, &mut guests, tokens);
            assert_eq!(
                error.to_string(),
                "the workspace was made for another model"
            );
            guests[1].cache = KvCache::new(other, 4, KvType::F16, KvType::F16).unwrap();
            let error = refused(&cpu, model, &mut workspace, &mut guests, tokens);
            match error {
                ModelError::Sequence { idx: 1, source } => {
                    assert_eq!(source.to_string(), "the cache was made for another model");
                }
                other => panic!("{other}"),
            }
        });
    });
}

#[test]
fn what_is_not_finite_names_its_sequence() {
    let mut parts = Parts::of(smallest());
    parts.tensor("token_embd.weight").set_f32(9 * 64, f32::NAN);
    with_model(&parts.to_bytes(), |model| {
        let cpu = cpu(Isa::detect(), 2);
        for batch_len in [1, 2, 512] {
            let mut workspace = Workspace::new(model, batch_len).unwrap();
            let mut guests = [5, 4]
                .map(|n| KvCache::new(model, n, KvType::F16, KvType::F16).unwrap())
                .map(|cache| Guest {
                    cache,
                    tokens: vec![1, 2, 3, 4],
                    logits: Vec::new(),
                });
            step(&cpu, model, &mut workspace, &mut guests, &[3, 2]);
            let tokens = [&[1, 2][..], &[2, 9]];
            match refused(&cpu, model, &mut workspace, &mut guests, tokens) {
                ModelError::Sequence { idx: 1, source } => {
                    let message = "the embedding at position 3 is not finite: outside the layers";
                    assert_eq!(source.to_string(), message);
                }
                other => panic!("{other}"),
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Requests come and go as they like: a schedule says who goes on by how much, in passes
    /// of one to five sequences.
    #[test]
    fn any_schedule_gives_the_same_bits(
        lens in prop::collection::vec(1usize..110, 1..=5),
        schedule in prop::collection::vec(
            prop::collection::vec(prop_oneof![1 => Just(0usize), 3 => Just(1), 1 => 1usize..=70], 5),
            60,
        ),
        batch_len in 1usize..80,
        n_threads in 1usize..=4,
        isa_idx in 0usize..3,
        kv_idx in 0usize..4,
    ) {
        let kv = [KvType::F16, KvType::BF16, KvType::Q8_0, KvType::F32][kv_idx];
        let isas: Vec<Isa> = Isa::available().collect();
        with_model(all_types(), |model| {
            let cpu = cpu(isas[isa_idx % isas.len()], n_threads);
            let mut workspace = Workspace::new(model, batch_len).unwrap();
            let numbered = lens.iter().enumerate();
            let mut guests: Vec<Guest> =
                numbered.map(|(i, &n)| Guest::new(model, kv, i, n)).collect();
            // Whatever the schedule leaves is done in the end.
            for pieces in schedule.iter().chain([&vec![usize::MAX; 5]]) {
                step(&cpu, model, &mut workspace, &mut guests, pieces);
            }
            let reference = crate::fixture::cpu(Isa::detect(), 2);
            for guest in &guests {
                let alone = at_once(&reference, model, guest.options(kv), &guest.tokens);
                assert_same(&guest.logits, &alone, model.config().n_vocab, "a schedule");
            }
        });
    }
}
