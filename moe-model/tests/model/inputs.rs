//! What is shown as the inputs of the matrices is what the layers are made of: together with
//! the matrices, computed naively, it gives the residual stream.

use std::collections::HashMap;

use moe_model::{ExpertRow, Model, Outputs, Route, State, forward_inputs, forward_with};
use quant_kernels::{Isa, KvType, MatRef};

use crate::fixture::{cpu, options, smallest, with_model};

const TOKENS: [u32; 6] = [1, 300, 7, 7, 19, 200];

/// What a matrix was shown to be multiplied with.
#[derive(Default)]
struct Shown {
    rows: Vec<f32>,
    met: Vec<ExpertRow>,
}

/// A pass as it was seen.
#[derive(Default)]
struct Seen {
    inputs: HashMap<(usize, &'static str), Shown>,
    hidden: Vec<Vec<f32>>,
    routes: Vec<Vec<Route>>,
    logits: Vec<f32>,
}

fn pass(model: &Model<'_>) -> Seen {
    let mut state = State::new(model, options(KvType::F32, 32)).unwrap();
    let (mut seen, mut inputs) = (Seen::default(), HashMap::new());
    let cpu = cpu(Isa::detect(), 2);
    let logits = forward_inputs(
        &cpu,
        model,
        &mut state,
        &TOKENS,
        Outputs::All,
        &mut |layer| {
            seen.hidden.push(layer.hidden.to_vec());
            seen.routes.push(layer.routes.to_vec());
        },
        &mut |shown| {
            for matrix in shown.matrices {
                let met = shown.experts.unwrap_or_default().to_vec();
                let rows = shown.rows.to_vec();
                assert_eq!(rows.len() % shown.n_cols, 0);
                inputs.insert((shown.layer, *matrix), Shown { rows, met });
            }
        },
    );
    let logits = logits.unwrap().to_vec();
    seen.inputs = inputs;
    seen.logits = logits;
    seen
}

fn product(w: MatRef<'_>, x: &[f32]) -> Vec<f32> {
    let mut row = vec![0.0; w.n_cols()];
    let dot = |idx| {
        w.dequantize_row(idx, &mut row);
        let products = row
            .iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x));
        products.sum::<f64>() as f32
    };
    (0..w.n_rows()).map(dot).collect()
}

fn normed(rows: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let norm = |row: &[f32]| {
        let squares: f32 = row.iter().map(|x| x * x).sum();
        let scale = (squares / row.len() as f32 + eps).sqrt().recip();
        let scaled = row.iter().zip(weight).map(|(x, w)| x * scale * w);
        scaled.collect::<Vec<f32>>()
    };
    rows.chunks(weight.len()).flat_map(norm).collect()
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (idx, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() < 1e-3 * (1.0 + b.abs()),
            "{what} {idx}: {a}, {b}"
        );
    }
}

fn add(sum: &mut [f32], factor: f32, x: &[f32]) {
    sum.iter_mut()
        .zip(x)
        .for_each(|(sum, x)| *sum += factor * x);
}

#[test]
fn inputs_and_matrices_make_the_residual_stream() {
    with_model(smallest(), |model| {
        let (config, weights) = (model.config(), model.weights());
        let (eps, n_embd, n_ff) = (config.rms_eps, config.n_embd, config.n_ff_exp);
        let seen = pass(model);
        let mut x = vec![0.0; TOKENS.len() * n_embd];
        for (row, &token) in x.chunks_mut(n_embd).zip(&TOKENS) {
            weights.token_embd.dequantize_row(token as usize, row);
        }
        for (idx, layer) in weights.layers.iter().enumerate() {
            let shown = |matrix| &seen.inputs[&(idx, matrix)];
            for matrix in ["attn_q", "attn_k", "attn_v"] {
                assert_near(
                    &shown(matrix).rows,
                    &normed(&x, &layer.attn_norm, eps),
                    matrix,
                );
            }
            let attended = shown("attn_output")
                .rows
                .chunks(config.n_head * config.head_dim);
            for (x, attended) in x.chunks_mut(n_embd).zip(attended) {
                add(x, 1.0, &product(layer.attn_output, attended));
            }
            let router = &shown("ffn_gate_inp").rows;
            assert_near(router, &normed(&x, &layer.ffn_norm, eps), "router");

            let (up, down) = (shown("ffn_up_exps"), shown("ffn_down_exps"));
            assert_eq!(shown("ffn_gate_exps").met, up.met);
            assert_eq!(
                (&up.rows, up.met.len()),
                (router, TOKENS.len() * config.n_expert_used)
            );
            for (up, down_met) in up.met.iter().zip(&down.met) {
                assert_eq!(up.expert, down_met.expert);
                let routes = seen.routes[idx].chunks(config.n_expert_used);
                let mut routes = routes.enumerate().nth(up.row as usize).unwrap().1.iter();
                let route = routes.find(|route| route.expert == up.expert).unwrap();
                let gated = &down.rows[down_met.row as usize * n_ff..][..n_ff];
                let said = product(layer.down_exps.of(up.expert as usize), gated);
                let x = &mut x[up.row as usize * n_embd..][..n_embd];
                add(x, route.weight, &said);
            }
            assert_near(&x, &seen.hidden[idx], "residual stream");
        }
    });
}

#[test]
fn watching_changes_no_logit() {
    with_model(smallest(), |model| {
        let mut state = State::new(model, options(KvType::F32, 32)).unwrap();
        let cpu = cpu(Isa::detect(), 1);
        let plain = forward_with(&cpu, model, &mut state, &TOKENS, Outputs::All).unwrap();
        let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&pass(model).logits), bits(plain));
    });
}
