//! The fast path stays within its bound of the `f64` reference.

use std::sync::Mutex;

use moe_model::{
    Departure, Model, Outputs, Reference, ReferenceActivations, ReferencePass, ReferenceSteps,
    forward_observed, forward_qwen3_moe,
};
use quant_kernels::{Isa, QuantType};
use synth_model::TypeMix;

use crate::fixture::{all_types, cpu, prompt, state, tiny, with_model};

/// Logits of the fast path and, per layer, the experts it chose.
fn fast(model: &Model<'_>, tokens: &[u32]) -> (Vec<f32>, Vec<Vec<u32>>) {
    let mut state = state(model, tokens.len());
    let layers = Mutex::new(vec![Vec::new(); model.config().n_layer]);
    let mut observer = |view: moe_model::LayerView<'_>| {
        let experts = view.routes.iter().map(|route| route.expert);
        layers.lock().unwrap()[view.layer].extend(experts);
    };
    let (cpu, all) = (cpu(Isa::detect(), 2), Outputs::All);
    let logits = forward_observed(&cpu, model, &mut state, tokens, all, &mut observer);
    let logits = logits.unwrap().to_vec();
    (logits, layers.into_inner().unwrap())
}

/// The largest relative L2 distance of a row of logits.
fn distance(fast: &[f32], exact: &ReferencePass) -> f64 {
    let n_vocab = exact.logits[0].len();
    let of_row = |(fast, exact): (&[f32], &Vec<f64>)| {
        let difference = fast
            .iter()
            .zip(exact)
            .map(|(&a, b)| (f64::from(a) - b).powi(2));
        (difference.sum::<f64>() / exact.iter().map(|b| b * b).sum::<f64>()).sqrt()
    };
    fast.chunks(n_vocab)
        .zip(&exact.logits)
        .map(of_row)
        .fold(0.0, f64::max)
}

fn along(
    model: &Model<'_>,
    activations: ReferenceActivations,
    tokens: &[u32],
    experts: &[Vec<u32>],
) -> ReferencePass {
    let mut reference = Reference::new(model, activations);
    reference
        .forward_along(&cpu(Isa::detect(), 2), tokens, experts)
        .unwrap()
}

#[test]
fn float_weights_stay_within_the_float_bound() {
    for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
        with_model(&tiny(TypeMix::Pure(ty)), |model| {
            let tokens = prompt(24, model.config().n_vocab);
            let (logits, experts) = fast(model, &tokens);
            let exact = along(model, ReferenceActivations::Exact, &tokens, &experts);
            let (found, bound) = (distance(&logits, &exact), exact_bound(model));
            println!("{ty}: {found:.2e} of {bound:.2e}");
            assert!(found <= bound, "{ty}: {found:e} > {bound:e}");
        });
    }
}

fn exact_bound(model: &Model<'_>) -> f64 {
    Reference::new(model, ReferenceActivations::Exact).float_bound()
}

#[test]
fn quantized_weights_stay_within_the_quantized_bound() {
    let models = [
        ("Q8_0", tiny(TypeMix::Pure(QuantType::Q8_0))),
        ("Q4_K_M", tiny(TypeMix::Q4_K_M)),
        ("IQ4_XS", tiny(TypeMix::IQ4_XS)),
        ("all types", all_types().to_vec()),
    ];
    for (name, bytes) in models {
        with_model(&bytes, |model| {
            let tokens = prompt(24, model.config().n_vocab);
            let (logits, experts) = fast(model, &tokens);
            let exact = along(model, ReferenceActivations::Exact, &tokens, &experts);
            let rounded = along(model, ReferenceActivations::Quantized, &tokens, &experts);
            let reference = Reference::new(model, ReferenceActivations::Exact);
            let (found, bound) = (distance(&logits, &exact), reference.quantized_bound());
            let tight = distance(&logits, &rounded);
            println!("{name}: {found:.2e} of {bound:.2e}, with the same rounding {tight:.2e}");
            assert!(found <= bound, "{name}: {found:e} > {bound:e}");
            let float_bound = reference.float_bound();
            assert!(tight <= float_bound, "{name}: {tight:e} > {float_bound:e}");
        });
    }
}

/// Where the reference would have chosen another expert, its own probabilities of the two
/// are nearly equal.
#[test]
fn the_router_differs_only_where_it_is_undecided() {
    with_model(&tiny(TypeMix::Pure(QuantType::F32)), |model| {
        let n_used = model.config().n_expert_used;
        let tokens = prompt(64, model.config().n_vocab);
        let (_, experts) = fast(model, &tokens);
        let exact = along(model, ReferenceActivations::Exact, &tokens, &experts);
        for (layer, chosen) in exact.layers.iter().zip(&experts) {
            for (p, chosen) in layer.probabilities.iter().zip(chosen.chunks(n_used)) {
                let least = chosen.iter().map(|&e| p[e as usize]).fold(1.0, f64::min);
                let left_out = (0..).zip(p).filter(|(e, _)| !chosen.contains(e));
                let best = left_out.map(|(_, &p)| p).fold(0.0, f64::max);
                assert!(
                    least >= best * (1.0 - 1e-5),
                    "{least} was taken before {best}"
                );
            }
        }
    });
}

#[test]
fn the_cached_reference_is_the_plain_one() {
    with_model(&tiny(TypeMix::Q4_K_M), |model| {
        let (cpu, tokens) = (cpu(Isa::detect(), 2), prompt(12, model.config().n_vocab));
        let exact = ReferenceActivations::Exact;
        let plain = Reference::new(model, exact)
            .forward(&cpu, &tokens)
            .unwrap()
            .logits;
        let mut cached = Reference::new(model, exact);
        let mut pieces = Vec::new();
        for piece in [&tokens[..5], &tokens[5..6], &tokens[6..]] {
            pieces.extend(cached.forward(&cpu, piece).unwrap().logits);
        }
        assert_eq!(pieces, plain);
    });
}

#[test]
fn greedy_decoding_is_that_of_the_plain_loop() {
    with_model(&tiny(TypeMix::Pure(QuantType::F32)), |model| {
        let (cpu, n_vocab) = (cpu(Isa::detect(), 2), model.config().n_vocab);
        let prompt = prompt(6, n_vocab);
        let expected = Reference::generate_plainly(&cpu, model, &prompt, 8).unwrap();
        let (mut ids, mut state) = (prompt.clone(), state(model, 32));
        let mut logits = forward_qwen3_moe(&cpu, model, &mut state, &prompt).unwrap();
        for _ in 0..8 {
            let best = (0..n_vocab)
                .rev()
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let best = u32::try_from(best.unwrap()).unwrap();
            ids.push(best);
            logits = forward_qwen3_moe(&cpu, model, &mut state, &[best]).unwrap();
        }
        assert_eq!(ids, expected);
    });
}

/// A mistake that changed nothing could not be told from none.
#[test]
fn every_departure_of_attention_changes_it() {
    with_model(&tiny(TypeMix::Pure(QuantType::F32)), |model| {
        let base = model.config().rope.freq_base;
        let others = Departure::OF_ATTENTION.into_iter();
        let others = others.filter(|departure| *departure != Departure::FreqBase(base));
        let attention = |departure| {
            let steps = ReferenceSteps::new(model, ReferenceActivations::Exact, departure);
            let rows = steps.embedding(&prompt(8, model.config().n_vocab));
            let normed = steps.norm(&rows, &model.weights().layers[0].attn_norm);
            let cpu = cpu(Isa::detect(), 2);
            let attention = cpu.enter(|team| steps.attention(team, 0, &normed));
            attention.rows.concat()
        };
        let right = attention(None);
        let size = right.iter().map(|x| x * x).sum::<f64>().sqrt();
        for departure in others {
            let wrong = attention(Some(departure));
            let pairs = wrong.iter().zip(&right);
            let distance = pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            assert!(
                distance > 1e-3 * size,
                "{departure}: {distance:e} of {size:e}"
            );
        }
    });
}
