//! Names what is wrong with a step that left its bound.
//!
//! The step is made again with one known mistake at a time. A mistake that brings the fast
//! pass back within the bound is the one it makes, for two different mistakes do not agree to
//! five digits by chance.

use moe_model::{Departure, ReferenceRows, ReferenceSteps};
use quant_kernels::Team;

use super::{
    compare::{Layer, Step},
    distance::{Distance, norm, sum_error},
};

/// Returns the known mistakes that explain a wrong step at a token; none if it is another one.
pub(super) fn explain(
    team: &Team<'_>,
    layer: Layer<'_, '_, '_>,
    step: Step,
    token: usize,
) -> Vec<String> {
    match step {
        Step::AttentionInput => norm_mistakes(
            &layer.trace.attention_input,
            layer.input,
            layer.steps,
            &layer.weights().attn_norm,
        ),
        Step::Attention => attention_mistakes(team, layer),
        Step::RouterInput => router_input_mistakes(team, layer),
        Step::Choice => choice_mistakes(team, layer, token),
        Step::Shares => share_mistakes(team, layer),
        Step::Gated => gated_mistakes(team, layer, token),
        Step::Output => output_mistakes(team, layer),
    }
}

fn norm_mistakes(
    found: &ReferenceRows,
    input: &ReferenceRows,
    steps: ReferenceSteps<'_, '_>,
    weight: &[f32],
) -> Vec<String> {
    let mut names = Vec::new();
    let ones = vec![1.0; weight.len()];
    if is_near(found, &steps.norm(input, &ones), weight.len()) {
        names.push("the norm's weights are left out".to_owned());
    }
    names.extend(scaled(found, &steps.norm(input, weight), weight.len()));
    names
}

fn attention_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>) -> Vec<String> {
    let base = layer.config().rope.freq_base;
    let candidates = Departure::OF_ATTENTION.into_iter();
    let candidates = candidates.filter(|departure| *departure != Departure::FreqBase(base));
    let explains = |departure: &Departure| {
        let steps = layer.departing(*departure);
        layer.attention(team, steps).is_good()
    };
    let explained = candidates.filter(explains);
    let mut names: Vec<String> = explained.map(|departure| departure.to_string()).collect();
    let input = &layer.trace.attention_input;
    let expected = layer.steps.attention(team, layer.idx, input).rows;
    names.extend(scaled(
        &layer.trace.attended,
        &expected,
        layer.config().n_embd,
    ));
    names
}

fn router_input_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>) -> Vec<String> {
    let (middle, found) = (layer.middle(team), &layer.trace.router_input);
    let (weight, n) = (&layer.weights().ffn_norm, layer.config().n_embd);
    let mut names = norm_mistakes(found, &middle.stream, layer.steps, weight);
    for (name, stream) in [
        ("attention is not added to the residual stream", layer.input),
        (
            "the residual stream is not added to attention",
            &middle.added,
        ),
    ] {
        if is_near(found, &layer.steps.norm(stream, weight), n) {
            names.push(name.to_owned());
        }
    }
    names
}

fn choice_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>, token: usize) -> Vec<String> {
    let input = &layer.trace.router_input;
    let scores = &layer.steps.scores(team, layer.idx, input)[token];
    let routes = &layer.trace.routes[token];
    let mut best: Vec<usize> = (0..scores.len()).collect();
    best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    best.truncate(routes.len());
    let chosen: Vec<usize> = routes.iter().map(|route| route.expert as usize).collect();
    let mut sorted = (best.clone(), chosen.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    let mut text = format!("experts {chosen:?} where the reference chooses {best:?}");
    if sorted.0 == sorted.1 {
        text.push_str(": the right ones in another order (expert order)");
    }
    vec![text]
}

fn share_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>) -> Vec<String> {
    let input = &layer.trace.router_input;
    let scores = layer.steps.scores(team, layer.idx, input);
    let departure = Departure::NotRenormalised;
    let departing = layer.router_shares(layer.departing(departure), &scores);
    let explained = departing.is_good().then(|| departure.to_string());
    explained.into_iter().collect()
}

fn gated_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>, token: usize) -> Vec<String> {
    let departure = Departure::GateAndUpSwapped;
    if layer.gated(team, layer.departing(departure)).is_good() {
        return vec![departure.to_string()];
    }
    let (config, x) = (layer.config(), &layer.trace.router_input[token]);
    let x = vec![x.clone()];
    let mut names = Vec::new();
    for (route, found) in layer.trace.routes[token]
        .iter()
        .zip(&layer.trace.gated[token])
    {
        let found = vec![found.clone()];
        let is_of = |expert: &usize| {
            let gated = layer.steps.gated(team, layer.idx, *expert, &x);
            is_near(&found, &gated, config.n_embd)
        };
        let asked = route.expert as usize;
        if is_of(&asked) {
            continue;
        }
        if let Some(other) = (0..config.n_expert).find(is_of) {
            names.push(format!(
                "expert {other} answers where {asked} was asked (expert order)"
            ));
        } else {
            let expected = layer.steps.gated(team, layer.idx, asked, &x);
            names.extend(scaled(&found, &expected, config.n_embd));
        }
    }
    names
}

fn output_mistakes(team: &Team<'_>, layer: Layer<'_, '_, '_>) -> Vec<String> {
    let (middle, outputs) = (layer.middle(team), layer.expert_outputs(team));
    let ones = |routes: &[moe_model::Route]| vec![1.0; routes.len()];
    // Outputs in the order of the experts' ids meet shares in the order of the router.
    let by_id = |routes: &[moe_model::Route]| {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_key(|&idx| routes[idx].expert);
        let mut shares = vec![0.0; routes.len()];
        for (route, idx) in routes.iter().zip(order) {
            shares[idx] = f64::from(route.weight);
        }
        shares
    };
    let mut names = Vec::new();
    for (name, sums) in [
        (
            "experts are added up without their shares (scale)",
            layer.sums(&outputs, ones),
        ),
        (
            "shares go to the experts in the order of their ids (expert order)",
            layer.sums(&outputs, by_id),
        ),
    ] {
        if layer.output(&middle, &sums, &outputs).1.is_good() {
            names.push(name.to_owned());
        }
    }
    let sums = layer.sums(&outputs, Layer::shares);
    if is_near(&layer.trace.hidden, &sums, layer.config().n_ff_exp) {
        names.push("the residual stream is not added".to_owned());
    }
    let said: ReferenceRows = layer
        .trace
        .hidden
        .iter()
        .zip(&middle.stream)
        .map(|(hidden, middle)| hidden.iter().zip(middle).map(|(a, b)| a - b).collect())
        .collect();
    names.extend(scaled(&said, &sums, layer.config().n_embd));
    names
}

/// Whether rows agree but for rounding.
fn is_near(found: &ReferenceRows, expected: &ReferenceRows, n: usize) -> bool {
    let error = 16.0 * sum_error(n);
    Distance::of(found, expected, |t| error * norm(&expected[t])).is_good()
}

/// Names the factor by which all rows are too large, if there is one.
fn scaled(found: &ReferenceRows, expected: &ReferenceRows, n: usize) -> Option<String> {
    let pairs = || found.iter().flatten().zip(expected.iter().flatten());
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let factor = dot / pairs().map(|(_, b)| b * b).sum::<f64>();
    let scaled: ReferenceRows = expected
        .iter()
        .map(|row| row.iter().map(|x| x * factor).collect())
        .collect();
    let is_other = (factor - 1.0).abs() > 1e-3;
    (is_other && is_near(found, &scaled, n))
        .then(|| format!("everything is {factor:.4} times what it should be (scale)"))
}
