//! What the chain promises as a whole: order of the stages, seeds, ties, errors.

use proptest::prelude::*;
use sampler::{Mirostat2, SamplerChain, SamplerConfig, SamplerError, argmax};

fn chain(config: SamplerConfig, n_vocab: usize) -> SamplerChain {
    SamplerChain::new(config, n_vocab).expect("the configuration is valid")
}

/// Draws `n` tokens from the same logits, each accepted into the history.
fn draw(chain: &mut SamplerChain, logits: &[f32], n: usize) -> Vec<u32> {
    let one = |_| {
        let token = chain
            .sample(&mut logits.to_vec())
            .expect("the logits are valid");
        chain.accept(token);
        token
    };
    (0..n).map(one).collect()
}

/// Every stage switched on, each mild enough to leave work for the next.
fn everything(seed: u64) -> SamplerConfig {
    SamplerConfig {
        seed,
        logit_bias: vec![(0, -0.5)],
        repeat_penalty: 1.05,
        frequency_penalty: 0.1,
        presence_penalty: 0.1,
        repeat_last_n: 8,
        dry_multiplier: 0.5,
        dry_sequence_breakers: vec![vec![1]],
        top_n_sigma: 2.3,
        top_k: 12,
        typical_p: 0.95,
        top_p: 0.95,
        min_p: 0.02,
        xtc_probability: 0.3,
        xtc_threshold: 0.2,
        temp: 0.9,
        dynatemp_range: 0.3,
        min_keep: 1,
        ..SamplerConfig::neutral()
    }
}

fn steered(seed: u64) -> SamplerConfig {
    SamplerConfig {
        seed,
        mirostat2: Some(Mirostat2 { tau: 2.0, eta: 0.2 }),
        ..SamplerConfig::neutral()
    }
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-8.0f32..8.0, 2..80)
}

#[test]
fn frozen_text_of_a_seed() {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 37) % 50) as f32 * 0.15).collect();
    let default = SamplerConfig {
        seed: 42,
        ..SamplerConfig::default()
    };
    assert_eq!(
        draw(&mut chain(default, 50), &logits, 12),
        [12, 4, 20, 35, 12, 8, 27, 8, 27, 43, 8, 39]
    );
    assert_eq!(
        draw(&mut chain(everything(42), 50), &logits, 12),
        [31, 31, 12, 39, 20, 12, 27, 35, 4, 31, 12, 31]
    );
    assert_eq!(
        draw(&mut chain(steered(42), 50), &logits, 12),
        [35, 4, 35, 31, 31, 31, 27, 31, 27, 8, 4, 8]
    );
}

#[test]
fn temperature_zero_is_argmax_after_bias_and_penalties() {
    let config = SamplerConfig {
        logit_bias: vec![(0, -2.0)],
        presence_penalty: 1.0,
        xtc_probability: 1.0,
        ..SamplerConfig::greedy()
    };
    let mut c = chain(config, 4);
    assert_eq!(draw(&mut c, &[5.0, 4.5, 4.4, 0.0], 4), [1, 2, 1, 1]);
    let certain: Vec<_> = c.candidates().map(|t| (t.id, t.logprob)).collect();
    assert_eq!(certain, [(1, 0.0)]);
}

#[test]
fn prompt_tokens_count_for_penalties() {
    let config = SamplerConfig {
        presence_penalty: 1.0,
        repeat_last_n: 2,
        ..SamplerConfig::greedy()
    };
    let mut c = chain(config, 2);
    c.accept(0);
    assert_eq!(c.sample(&mut [1.0, 0.5]), Ok(1));
    c.accept(1);
    c.accept(1);
    assert_eq!(
        c.sample(&mut [1.0, 0.5]),
        Ok(0),
        "token 0 has left the window"
    );
}

#[test]
fn penalties_work_with_mirostat_too() {
    let config = SamplerConfig {
        presence_penalty: 100.0,
        repeat_last_n: 1,
        ..steered(1)
    };
    assert_eq!(draw(&mut chain(config, 2), &[40.0, 0.0], 4), [0, 1, 0, 1]);
}

#[test]
fn dry_breaks_a_loop() {
    let config = SamplerConfig {
        dry_multiplier: 1.0,
        ..SamplerConfig::greedy()
    };
    let mut c = chain(config, 4);
    for token in [0, 1, 2, 0, 1] {
        c.accept(token);
    }
    let mut logits = [0.0, 0.0, 1.5, 1.0];
    assert_eq!(c.sample(&mut logits), Ok(3));
    assert_eq!(logits, [0.0, 0.0, 0.5, 1.0]);
}

#[test]
fn candidates_are_the_final_distribution() {
    let config = SamplerConfig {
        top_k: 3,
        temp: 0.5,
        ..SamplerConfig::neutral()
    };
    let mut c = chain(config, 5);
    assert_eq!(c.candidates().len(), 0);
    c.sample(&mut [0.0, 3.0, 1.0, 2.0, -1.0]).unwrap();
    let weights = [1.0, (-2.0f64).exp(), (-4.0f64).exp()];
    let total: f64 = weights.iter().sum();
    let found: Vec<_> = c.candidates().collect();
    assert_eq!(found.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 3, 2]);
    for (token, weight) in found.iter().zip(weights) {
        assert!((token.logprob - (weight / total).ln()).abs() < 1e-12);
    }
}

#[test]
fn forbidden_tokens_never_come() {
    let config = SamplerConfig {
        logit_bias: vec![(1, f32::NEG_INFINITY)],
        ..SamplerConfig::neutral()
    };
    let mut c = chain(config, 3);
    let masked = f32::NEG_INFINITY;
    assert_eq!(draw(&mut c, &[0.0, 90.0, masked], 50), [0; 50]);
    assert_eq!(
        c.sample(&mut [masked, 90.0, masked]),
        Err(SamplerError::AllMasked { n_vocab: 3 })
    );
    assert_eq!(c.candidates().len(), 0);
}

#[test]
fn invalid_logits_are_errors_in_every_mode() {
    for config in [SamplerConfig::greedy(), everything(0), steered(0)] {
        let mut c = chain(config, 3);
        c.accept(1);
        assert_eq!(
            c.sample(&mut [1.0, f32::NAN, 0.0]),
            Err(SamplerError::NanLogit { token: 1 })
        );
        assert_eq!(
            c.sample(&mut [f32::INFINITY, 1.0, 0.0]),
            Err(SamplerError::InfiniteLogit { token: 0 })
        );
        let expected = SamplerError::LogitsLen {
            expected: 3,
            found: 2,
        };
        assert_eq!(c.sample(&mut [1.0, 2.0]), Err(expected));
    }
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let bias = SamplerConfig {
        logit_bias: vec![(5, 1.0)],
        ..SamplerConfig::neutral()
    };
    let breaker = SamplerConfig {
        dry_sequence_breakers: vec![vec![0, 9]],
        ..SamplerConfig::neutral()
    };
    for (config, field, token) in [
        (bias, "logit_bias", 5),
        (breaker, "dry_sequence_breakers", 9),
    ] {
        let expected = SamplerError::TokenOutOfVocab {
            field,
            token,
            n_vocab: 5,
        };
        assert_eq!(SamplerChain::new(config, 5).unwrap_err(), expected);
    }
    let error = SamplerChain::new(SamplerConfig::default(), 0).unwrap_err();
    assert_eq!(error, SamplerError::VocabLen { found: 0 });
    let config = SamplerConfig {
        top_p: 2.0,
        ..SamplerConfig::neutral()
    };
    let error = SamplerChain::new(config, 5).unwrap_err();
    assert_eq!(error, SamplerError::TopP { found: 2.0 });
}

proptest! {
    #[test]
    fn reset_and_a_fresh_chain_give_the_same_text(logits in any_logits(), seed: u64) {
        for config in [SamplerConfig { seed, ..Default::default() }, everything(seed), steered(seed)] {
            let mut first = chain(config.clone(), logits.len());
            let text = draw(&mut first, &logits, 20);
            first.reset();
            prop_assert_eq!(&draw(&mut first, &logits, 20), &text);
            prop_assert_eq!(&draw(&mut chain(config, logits.len()), &logits, 20), &text);
        }
    }

    /// Renaming the tokens renames the text; only ties look at an id.
    #[test]
    fn position_in_the_vocabulary_does_not_matter(
        logits in any_logits(), shuffled in any_logits(), seed: u64,
    ) {
        let n = logits.len().min(shuffled.len());
        let mut distinct = logits[..n].to_vec();
        distinct.sort_by(f32::total_cmp);
        distinct.dedup();
        prop_assume!(distinct.len() == n);
        let mut new_id: Vec<u32> = (0..n as u32).collect();
        new_id.sort_by(|&a, &b| shuffled[a as usize].total_cmp(&shuffled[b as usize]));
        let mut moved = vec![0.0; n];
        for (old, &new) in new_id.iter().enumerate() {
            moved[new as usize] = logits[old];
        }
        for base in [everything(seed), steered(seed)] {
            let mut renamed = base.clone();
            renamed.logit_bias.iter_mut().for_each(|(id, _)| *id = new_id[*id as usize]);
            for id in renamed.dry_sequence_breakers.iter_mut().flatten() {
                *id = new_id[*id as usize];
            }
            let text = draw(&mut chain(base, n), &logits[..n], 20);
            let expected: Vec<u32> = text.iter().map(|&id| new_id[id as usize]).collect();
            prop_assert_eq!(draw(&mut chain(renamed, n), &moved, 20), expected);
        }
    }

    /// With k = 1, p = 0 or min-p = 1 only the best token is left, whatever the seed.
    #[test]
    fn hardest_truncation_is_argmax(logits in any_logits(), seed: u64) {
        let neutral = SamplerConfig { seed, temp: 2.0, ..SamplerConfig::neutral() };
        let best = argmax(&logits).unwrap();
        for config in [
            SamplerConfig { top_k: 1, ..neutral.clone() },
            SamplerConfig { top_p: 0.0, ..neutral },
        ] {
            prop_assert_eq!(chain(config, logits.len()).sample(&mut logits.clone()), Ok(best));
        }
    }

    /// Whatever the valid settings, a token comes out, and it is one of the candidates.
    #[test]
    fn every_valid_configuration_yields_a_token(
        logits in prop::collection::vec(prop_oneof![-1e38f32..1e38, -3.0f32..3.0], 1..40),
        shares in prop::collection::vec(0.0f32..=1.0, 5),
        sizes in prop::collection::vec(0.0f32..1e30, 6),
        counts in prop::collection::vec(-1i32..50, 3),
        seed: u64, min_keep in 0usize..60, mirostat: bool,
    ) {
        let config = SamplerConfig {
            seed, min_keep,
            top_p: shares[0], min_p: shares[1], typical_p: shares[2],
            xtc_probability: shares[3], xtc_threshold: shares[4],
            temp: sizes[0], dynatemp_range: sizes[1], repeat_penalty: sizes[2] + 0.001,
            frequency_penalty: sizes[3] - 1e29, dry_multiplier: sizes[4],
            dry_base: sizes[5] + 1.0, dry_allowed_length: 1,
            top_k: counts[0], repeat_last_n: counts[1], dry_penalty_last_n: counts[2],
            mirostat2: mirostat.then_some(Mirostat2 { tau: shares[0] * 9.0, eta: 0.1 }),
            ..SamplerConfig::neutral()
        };
        let mut c = chain(config, logits.len());
        for _ in 0..10 {
            let token = c.sample(&mut logits.clone()).unwrap();
            prop_assert!(c.candidates().any(|t| t.id == token));
            prop_assert!(c.candidates().all(|t| t.logprob <= 0.0 && !t.logprob.is_nan()));
            c.accept(token);
        }
    }
}
