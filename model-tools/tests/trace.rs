//! Routing over a text: the same whatever the batches and threads, and what the router said.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;

use model_tools::{HeatMap, RoutingSums, expert_bytes};
use moe_model::{Model, ModelFile, Outputs, Route, State, StateOptions, forward_observed};
use quant_kernels::{Cpu, Isa};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

const TEXT: [u32; 24] = [
    5, 9, 17, 300, 5, 5, 8, 211, 34, 99, 100, 7, 1, 2, 3, 4, 400, 401, 402, 403, 44, 45, 46, 47,
];

const GEOMETRY: Geometry = Geometry {
    n_layer: 3,
    ..Geometry::TINY
};

fn model() -> ModelFile {
    let model = SynthModel {
        geometry: GEOMETRY,
        mix: TypeMix::Q4_K_M,
        vocab: Vocab::ByteLevel,
        seed: 3,
    };
    ModelFile::from_bytes("tiny", model.to_bytes().unwrap())
}

/// Sums over some texts, and all choices `[L, T, U]` of the last one.
struct Read {
    sums: RoutingSums,
    routes: Vec<Vec<Route>>,
    expert_bytes: Vec<u64>,
}

fn read(texts: &[&[u32]], batch_len: usize, n_threads: usize) -> Read {
    let file = model();
    let model = Model::read(&file.contents().unwrap()).unwrap();
    let cpu = Cpu::new(Isa::detect(), NonZeroUsize::new(n_threads).unwrap()).unwrap();
    let options = StateOptions {
        batch_len,
        ..StateOptions::new(64)
    };
    let mut state = State::new(&model, options).unwrap();
    let mut sums = RoutingSums::new(model.config());
    let mut routes = vec![Vec::new(); model.config().n_layer];
    for text in texts {
        state.truncate(0);
        routes.iter_mut().for_each(Vec::clear);
        let mut observe = |view: moe_model::LayerView<'_>| {
            sums.add(&view);
            routes[view.layer].extend_from_slice(view.routes);
        };
        forward_observed(&cpu, &model, &mut state, text, Outputs::None, &mut observe).unwrap();
    }
    Read {
        sums,
        routes,
        expert_bytes: expert_bytes(&model),
    }
}

/// All that is known, down to the bit.
fn figures(sums: &RoutingSums) -> String {
    let layers = sums.layers().map(|layer| {
        let weights: Vec<_> = (0..sums.n_expert())
            .map(|expert| layer.mean_weight(expert).map(f64::to_bits))
            .collect();
        let between = (layer.next_layer_bits(), layer.next_layer_same());
        let (entropy, next) = (layer.entropy_bits(), layer.next_token());
        format!(
            "{:?} {weights:?} {entropy} {next:?} {between:?}",
            layer.counts()
        )
    });
    layers.collect::<Vec<_>>().join("\n")
}

#[test]
fn neither_batches_nor_threads_change_a_bit() {
    let whole = figures(&read(&[&TEXT], 24, 1).sums);
    for (batch_len, n_threads) in [(1, 1), (5, 2), (24, 3)] {
        let sums = read(&[&TEXT], batch_len, n_threads).sums;
        assert_eq!(figures(&sums), whole, "batches of {batch_len}");
    }
}

#[test]
fn counts_weights_and_overlaps_are_those_of_the_choices() {
    let Read { sums, routes, .. } = read(&[&TEXT], 7, 2);
    assert_eq!((sums.n_tokens(), sums.n_layer()), (24, 3));
    let n_used = sums.n_expert_used();
    for (layer, routes) in sums.layers().zip(&routes) {
        let experts = |token: usize| routes[token * n_used..][..n_used].iter().map(|r| r.expert);
        for expert in 0..sums.n_expert() {
            let of_expert = || routes.iter().filter(|route| route.expert == expert as u32);
            assert_eq!(layer.counts()[expert], of_expert().count() as u64);
            let weight: f64 = of_expert().map(|route| f64::from(route.weight)).sum();
            let mean = layer.mean_weight(expert).unwrap_or_default();
            assert!((mean * of_expert().count() as f64 - weight).abs() < 1e-12);
        }
        let repeated = (1..24).flat_map(|token| {
            experts(token).filter(move |&expert| experts(token - 1).any(|before| before == expert))
        });
        let found = layer.next_token().unwrap().found;
        assert!((found - repeated.count() as f64 / (23 * n_used) as f64).abs() < 1e-12);
    }
    let pairs = routes[0].chunks(n_used).zip(routes[1].chunks(n_used));
    let same = pairs.flat_map(|(here, next)| {
        let here = here.iter();
        here.filter(|route| next.iter().any(|other| other.expert == route.expert))
    });
    let found = sums.layer(0).next_layer_same().unwrap().found;
    assert!((found - same.count() as f64 / (24 * n_used) as f64).abs() < 1e-12);
}

#[test]
fn the_end_of_a_window_is_no_neighbour_of_the_next_ones_beginning() {
    let [first, second] = [&TEXT[..10], &TEXT[10..]];
    let both = read(&[first, second], 24, 1).sums;
    let [one, other] = [first, second].map(|text| read(&[text], 24, 1).sums);
    for layer in 0..both.n_layer() {
        let shared = |sums: &RoutingSums, n_pairs: f64| {
            sums.layer(layer).next_token().unwrap().found * n_pairs
        };
        let apart = shared(&one, 9.0) + shared(&other, 13.0);
        assert!((shared(&both, 22.0) - apart).abs() < 1e-9);
        let counts = one
            .layer(layer)
            .counts()
            .iter()
            .zip(other.layer(layer).counts());
        let counts: Vec<u64> = counts.map(|(a, b)| a + b).collect();
        assert_eq!(both.layer(layer).counts(), counts);
    }
}

#[test]
fn holding_all_experts_takes_the_bytes_of_their_tensors() {
    let Read {
        sums, expert_bytes, ..
    } = read(&[&TEXT], 24, 1);
    let file = model();
    let gguf = file.gguf().unwrap();
    let tensors = gguf.tensors().filter(|t| t.info.name().contains("_exps."));
    let all: u64 = tensors.map(|tensor| tensor.data.len() as u64).sum();
    assert_eq!(
        expert_bytes.iter().sum::<u64>() * sums.n_expert() as u64,
        all
    );
    let half = sums.coverage(&[50], &expert_bytes)[0];
    assert!(half.n_experts > 0 && 2 * half.n_bytes < all, "{half:?}");
}

#[test]
fn memory_depends_on_the_model_alone() {
    let file = model();
    let model = Model::read(&file.contents().unwrap()).unwrap();
    assert_eq!(RoutingSums::n_bytes(model.config()), 3 * 8 * (16 + 4 * 8));
}

#[test]
fn the_pictures_are_the_same_every_time() {
    let sums = read(&[&TEXT], 24, 1).sums;
    let map = HeatMap {
        sums: &sums,
        title: "tiny",
        subtitle: "24 tokens",
    };
    let png = map.png().unwrap();
    assert_eq!(png[1..4], *b"PNG");
    assert_eq!(map.png().unwrap(), png);
    assert_eq!(map.svg().matches("<title>layer ").count(), 3 * 8);
}
