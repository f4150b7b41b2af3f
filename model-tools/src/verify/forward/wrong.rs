//! Wrong passes are caught at the step that is wrong, and by name.

use std::{num::NonZeroUsize, ops::ControlFlow, time::Duration};

use moe_model::{Departure, ModelFile, Route};
use quant_kernels::Team;
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

use super::{
    compare::{head_input, sum},
    trace::LayerTrace,
    *,
};
use crate::verify::{Caller, Event, Severity, Verdict};

struct Patient;

impl Caller for Patient {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

const TOKENS: [u32; 7] = [3, 77, 301, 12, 500, 77, 1];

fn with_model<R>(mix: &str, test: impl FnOnce(&Cpu, &Model<'_>) -> R) -> R {
    let bytes = SynthModel {
        geometry: Geometry {
            n_layer: 3,
            ..Geometry::TINY
        },
        mix: mix.parse::<TypeMix>().unwrap(),
        vocab: Vocab::ByteLevel,
        seed: 11,
    }
    .to_bytes()
    .unwrap();
    let file = ModelFile::from_bytes("synthetic", bytes);
    let gguf = file.gguf().unwrap();
    let cpu = Cpu::new(Isa::detect(), NonZeroUsize::new(2).unwrap()).unwrap();
    test(&cpu, &Model::from_gguf(&gguf).unwrap())
}

fn report(cpu: &Cpu, model: &Model<'_>, trace: &Trace) -> StageReport {
    let mut report = StageReport::new(Stage::Forward);
    let mut caller = Patient;
    let mut progress = Progress {
        caller: &mut caller,
    };
    compare(cpu, model, trace, &mut report, &mut progress).unwrap();
    report
}

/// The errors, each with its place.
fn errors(report: &StageReport) -> Vec<String> {
    let errors = report.listed(Severity::Error);
    errors
        .map(|error| format!("{}: {}", error.place, error.text))
        .collect()
}

/// What a fast path would show that makes a mistake.
fn departing_trace(cpu: &Cpu, model: &Model<'_>, departure: Option<Departure>) -> Trace {
    let steps = ReferenceSteps::new(model, ReferenceActivations::Quantized, departure);
    let mut x = steps.embedding(&TOKENS);
    let embedding = x.clone();
    cpu.enter(|team| {
        let mut layers = Vec::new();
        for idx in 0..model.config().n_layer {
            let layer = departing_layer(team, steps, idx, &x);
            x.clone_from(&layer.hidden);
            layers.push(layer);
        }
        let normed = head_input(team, steps, &x);
        let logits = Some(single(&steps.logits(team, &normed)));
        Trace {
            embedding,
            layers,
            logits,
        }
    })
}

fn departing_layer(
    team: &Team<'_>,
    steps: ReferenceSteps<'_, '_>,
    idx: usize,
    x: &ReferenceRows,
) -> LayerTrace {
    let weights = &steps.model().weights().layers[idx];
    let n_used = steps.model().config().n_expert_used;
    let attention_input = single(&steps.norm(x, &weights.attn_norm));
    let attended = single(&steps.attention(team, idx, &attention_input).rows);
    let mut hidden = sum(x, &steps.attention_output(team, idx, &attended));
    let router_input = single(&steps.norm(&hidden, &weights.ffn_norm));
    let scores = steps.scores(team, idx, &router_input);
    let (mut routes, mut gated) = (Vec::new(), Vec::new());
    for (t, scores) in scores.iter().enumerate() {
        let probabilities = steps.probabilities(scores);
        let mut chosen: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |id: u32| scores[id as usize];
        chosen.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        chosen.truncate(n_used);
        let shares = steps.shares(&probabilities, &chosen);
        let route = |(&expert, share): (&u32, f64)| Route {
            expert,
            weight: share as f32,
        };
        let of_token: Vec<Route> = chosen.iter().zip(shares).map(route).collect();
        let input = vec![router_input[t].clone()];
        let mut of_experts = Vec::new();
        for route in &of_token {
            let expert = route.expert as usize;
            let inner = single(&steps.gated(team, idx, expert, &input));
            let out = steps.expert_output(team, idx, expert, &inner);
            let terms = hidden[t].iter_mut().zip(&out[0]);
            terms.for_each(|(x, out)| *x += f64::from(route.weight) * out);
            of_experts.extend(inner);
        }
        routes.push(of_token);
        gated.push(of_experts);
    }
    LayerTrace {
        attention_input,
        attended,
        router_input,
        routes,
        gated,
        hidden: single(&hidden),
    }
}

/// Rounds to `f32`.
fn single(rows: &ReferenceRows) -> ReferenceRows {
    let row = |row: &Vec<f64>| row.iter().map(|&x| f64::from(x as f32)).collect();
    rows.iter().map(row).collect()
}

#[test]
fn sound_passes_stay_within_their_bounds() {
    for mix in ["f32", "bf16", "q8_0", "q4_k_m", "pure-iq2_xs", "pure-mxfp4"] {
        with_model(mix, |cpu, model| {
            let trace = Trace::of_fast_pass(cpu, model, &TOKENS, 3).unwrap();
            assert_eq!(
                errors(&report(cpu, model, &trace)),
                Vec::<String>::new(),
                "{mix}"
            );
            let trace = departing_trace(cpu, model, None);
            assert_eq!(
                errors(&report(cpu, model, &trace)),
                Vec::<String>::new(),
                "{mix}"
            );
        });
    }
}

#[test]
fn each_mistake_is_named_in_the_first_layer_that_makes_it() {
    struct Case {
        departure: Departure,
        step: &'static str,
        suspect: &'static str,
    }
    let attention = |departure, suspect| Case {
        departure,
        step: "attention",
        suspect,
    };
    let cases = [
        attention(Departure::NoQueryNorm, "(Q norm)"),
        attention(Departure::NoKeyNorm, "(K norm)"),
        attention(Departure::NoHeadNorms, "(Q/K norm)"),
        attention(Departure::NeighbourPairs, "(pairing)"),
        attention(Departure::FreqBase(1e4), "the RoPE base is 10000"),
        attention(Departure::NoRotation, "nothing is rotated"),
        attention(Departure::QueriesOneLater, "one position later"),
        attention(Departure::UnscaledScores, "(scale)"),
        attention(Departure::InterleavedHeads, "in turn instead of in groups"),
        attention(Departure::NotCausal, "(causal mask)"),
        Case {
            departure: Departure::NotRenormalised,
            step: "router shares",
            suspect: "(router normalisation)",
        },
        Case {
            departure: Departure::GateAndUpSwapped,
            step: "gate and up",
            suspect: "gate and up have changed places",
        },
    ];
    with_model("q4_k_m", |cpu, model| {
        for case in &cases {
            let trace = departing_trace(cpu, model, Some(case.departure));
            let found = errors(&report(cpu, model, &trace));
            let first = &found[0];
            let begin = format!("layer 0: {} of token", case.step);
            assert!(first.starts_with(&begin), "{:?}: {first}", case.departure);
            assert!(
                first.contains(case.suspect),
                "{:?}: {first}",
                case.departure
            );
            assert!(!first.contains("; or "), "{:?}: {first}", case.departure);
        }
    });
}

#[test]
fn an_error_of_a_thousandth_in_one_layer_is_found_there_and_nowhere_else() {
    with_model("q4_k_m", |cpu, model| {
        let sound = departing_trace(cpu, model, None);
        let mut trace = sound.clone();
        for row in &mut trace.layers[1].attended {
            row.iter_mut()
                .for_each(|x| *x = f64::from((*x * 1.001) as f32));
        }
        let found = errors(&report(cpu, model, &trace));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("layer 1: attention of token"),
            "{}",
            found[0]
        );

        let mut trace = sound;
        let scaled = &mut trace.layers[2].gated[4];
        scaled.iter_mut().flatten().for_each(|x| *x *= 1.5);
        let found = errors(&report(cpu, model, &trace));
        let expected = "layer 2: gate and up of token 4";
        assert!(found[0].starts_with(expected), "{}", found[0]);
        assert!(found[0].contains("1.5000 times"), "{}", found[0]);
    });
}

#[test]
fn an_expert_that_answers_for_another_is_named() {
    with_model("q8_0", |cpu, model| {
        let mut trace = departing_trace(cpu, model, None);
        let asked = trace.layers[1].routes[2][0].expert as usize;
        let other = (asked + 3) % model.config().n_expert;
        let steps = ReferenceSteps::new(model, ReferenceActivations::Quantized, None);
        let input = vec![trace.layers[1].router_input[2].clone()];
        let answer = cpu.enter(|team| single(&steps.gated(team, 1, other, &input)));
        trace.layers[1].gated[2][0] = answer[0].clone();
        let found = errors(&report(cpu, model, &trace));
        let expected = format!("expert {other} answers where {asked} was asked");
        assert!(
            found[0].starts_with("layer 1: gate and up of token 2"),
            "{}",
            found[0]
        );
        assert!(found[0].contains(&expected), "{}", found[0]);
    });
}

#[test]
fn experts_in_a_wrong_order_or_clearly_worse_ones_are_found() {
    with_model("f32", |cpu, model| {
        let sound = departing_trace(cpu, model, None);
        let mut trace = sound.clone();
        trace.layers[2].routes[5].reverse();
        let found = errors(&report(cpu, model, &trace));
        assert!(
            found[0].starts_with("layer 2: router choice of token 5"),
            "{}",
            found[0]
        );
        assert!(found[0].contains("(expert order)"), "{}", found[0]);
    });
}

#[test]
fn a_head_that_is_wrong_is_found() {
    with_model("f32", |cpu, model| {
        let mut trace = departing_trace(cpu, model, None);
        trace.logits.as_mut().unwrap()[3][9] += 1.0;
        let found = report(cpu, model, &trace);
        assert_eq!(found.verdict, Verdict::Failed);
        assert!(errors(&found)[0].starts_with("head: head of token 3"));
    });
}
