//! Holds the fast pass against the reference in `f64`, step by step and as a whole.
//!
//! **Step by step.** Every step of every layer is made again by the reference from the very
//! numbers that the fast pass put into it, with the same rounding of activations to `i8`. So no
//! error is carried from step to step or layer to layer: the first wrong step is named exactly,
//! and the bound is that of `f32` arithmetic whatever the types of the weights
//! ([`distance`]). A wrong step is then made again with the usual mistakes, and the one that
//! matches is named ([`suspects`]). A router's choice may differ between scores that rounding
//! cannot tell apart ([`choice`]).
//!
//! **As a whole.** A second reference rounds nothing and follows the experts that the fast pass
//! chose. Its distance is what rounding costs, and grows with the layers; the bound is that of
//! [`moe_model::Reference`].
//!
//! Both read the same file. A file that says something wrong, say a RoPE base or experts in
//! another order, is wrong in both in the same way and is not seen here: that is what
//! [`golden`](super::golden) records are for. What is seen here is a wrong kernel.

mod choice;
mod compare;
mod distance;
mod suspects;
mod trace;
#[cfg(test)]
mod wrong;

use moe_model::{
    Model, Reference, ReferenceActivations, ReferencePass, ReferenceRows, ReferenceSteps, Weights,
};
use quant_kernels::{ActivationForm, Cpu, Isa, QuantType};

use self::{
    choice::Choice,
    compare::{Layer, LayerCheck, Step, check_head},
    distance::Distance,
    trace::Trace,
};
use super::{Depth, Progress, Stage, StageReport, Subject, VerifyOptions, tokens::Tokens};
use crate::ToolError;

/// Layers and tokens of a quick look.
const QUICK: (usize, usize) = (2, 4);

/// Tokens of a full look: enough for several distances in attention, and for experts with
/// several tokens beside experts with one.
const N_TOKENS: usize = 16;

/// The reference that rounds nothing, if all layers are compared.
type Whole<'w> = Option<&'w ReferencePass>;

/// Compares the fast pass with the reference.
pub(super) fn check(
    subject: &Subject<'_>,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<StageReport, ToolError> {
    let model = &subject.model;
    let all = model.config().n_layer;
    let (layers, tokens) = match options.depth {
        Depth::Quick => QUICK,
        Depth::Full => (all, N_TOKENS),
    };
    let n_layers = options.n_layers.map_or(layers, |n| n.get()).min(all);
    let n_tokens = options.n_tokens.map_or(tokens, |n| n.get());
    let tokens = Tokens::of(subject, n_tokens);
    let cpu = Cpu::new(Isa::detect(), options.n_threads)?;
    let mut report = StageReport::new(Stage::Forward);
    report.figure("sequence", tokens.describe(), "");
    report.figure("layers", n_layers, "");
    let trace = match Trace::of_fast_pass(&cpu, model, &tokens.ids, n_layers) {
        Ok(trace) => trace,
        Err(error) => {
            report.error("fast pass", error.to_string());
            return Ok(report);
        }
    };
    let whole = if n_layers == all {
        let mut reference = Reference::new(model, ReferenceActivations::Exact);
        Some(reference.forward_along(&cpu, &tokens.ids, &trace.experts())?)
    } else {
        report.note("", "logits are compared if all layers are");
        None
    };
    compare(&cpu, model, &trace, whole.as_ref(), &mut report, progress)?;
    Ok(report)
}

/// Compares a trace with the reference.
fn compare(
    cpu: &Cpu,
    model: &Model<'_>,
    trace: &Trace,
    whole: Whole<'_>,
    report: &mut StageReport,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let steps = ReferenceSteps::new(model, ReferenceActivations::Quantized, None);
    let n_layers = trace.layers.len();
    let mut checks: Vec<LayerCheck> = Vec::new();
    let mut n_wrong = 0;
    for idx in 0..n_layers {
        progress.tell(idx as u64, n_layers as u64)?;
        let layer = Layer::of(trace, idx, steps);
        let check = cpu.enter(|team| layer.check(team));
        if let Some((step, token)) = check.first_wrong() {
            n_wrong += 1;
            // The first wrong layer is explained; others mostly have the same mistake.
            let suspects = if n_wrong == 1 {
                cpu.enter(|team| suspects::explain(team, layer, step, token))
            } else {
                Vec::new()
            };
            let text = describe_wrong(&check, step, token, &suspects, n_wrong == 1);
            report.error(format!("layer {idx}"), text);
        }
        checks.push(check);
    }
    progress.tell(n_layers as u64, n_layers as u64)?;
    summarise(report, trace, &checks, whole);
    if let (Some(logits), Some(last)) = (&trace.logits, trace.layers.last()) {
        let [norm, head] = cpu.enter(|team| check_head(team, steps, &last.hidden, logits));
        for (place, distance) in [("norm before the head", norm), ("head", head)] {
            add_details(report, place, &distance);
            if !distance.is_good() {
                report.error(place, describe_distance(place, &distance));
            }
        }
        if let Some(whole) = whole {
            judge_whole(model, logits, whole, report);
        }
    }
    Ok(())
}

/// The worst of all layers, step by step, and each layer as a detail.
fn summarise(report: &mut StageReport, trace: &Trace, checks: &[LayerCheck], whole: Whole<'_>) {
    let mut share: f64 = 0.0;
    let steps = checks.iter().flat_map(|check| &check.steps);
    steps.for_each(|(_, distance)| share = distance::larger(share, distance.share));
    report.figure("worst step", share, "of its bound");
    let mut hidden = Distance::NONE;
    checks.iter().for_each(|check| hidden.join(&check.hidden));
    report.figure("hidden state", hidden.relative, "relative L2 per layer");
    let choices = || checks.iter().flat_map(|check| &check.choices);
    let count = |wanted: Choice| choices().filter(|&&choice| choice == wanted).count();
    report.figure("router choices", choices().count(), "");
    report.figure("near-ties", count(Choice::NearTie), "");
    for (idx, check) in checks.iter().enumerate() {
        for (step, distance) in &check.steps {
            add_details(report, &format!("layer {idx} {}", step.name()), distance);
        }
        add_details(report, &format!("layer {idx} hidden state"), &check.hidden);
        let same = check.choices.iter().filter(|&&c| c == Choice::Same);
        let name = format!("layer {idx} {}", Step::Choice.name());
        report.detail(name, same.count(), "tokens as in f64");
        if let Some(whole) = whole {
            let hidden = &trace.layers[idx].hidden;
            let exact = Distance::of(hidden, &whole.layers[idx].hidden, |_| f64::INFINITY);
            let name = format!("layer {idx} hidden state, from exact f64");
            report.detail(name, exact.relative, "relative L2");
        }
    }
}

fn add_details(report: &mut StageReport, name: &str, distance: &Distance) {
    report.detail(name, distance.relative, "relative L2");
    report.detail(name, distance.cosine, "cosine");
    report.detail(name, distance.largest, "largest difference");
    report.detail(name, distance.share, "of its bound");
}

fn describe_wrong(
    check: &LayerCheck,
    step: Step,
    token: usize,
    suspects: &[String],
    is_explained: bool,
) -> String {
    let mut text = match check.of(step) {
        Some(distance) => describe_distance(step.name(), distance),
        None => format!("{} of token {token}", step.name()),
    };
    if !suspects.is_empty() {
        text.push_str(": ");
        text.push_str(&suspects.join("; or "));
    } else if is_explained {
        text.push_str(": none of the known mistakes");
    }
    text
}

fn describe_distance(what: &str, distance: &Distance) -> String {
    let (found, bound) = distance.worst;
    let token = distance.row;
    format!("{what} of token {token} is {found:.1e} from the reference, at most {bound:.1e} expected")
}

/// Judges the logits by the reference that rounds nothing.
fn judge_whole(
    model: &Model<'_>,
    logits: &ReferenceRows,
    whole: &ReferencePass,
    report: &mut StageReport,
) {
    let reference = Reference::new(model, ReferenceActivations::Exact);
    let of_rounding = if is_float(model.weights()) {
        0.0
    } else {
        reference.quantized_bound()
    };
    let bound = reference.float_bound() + of_rounding;
    let size = |t: usize| distance::norm(&whole.logits[t]);
    let distance = Distance::of(logits, &whole.logits, |t| bound * size(t));
    let pairs = logits.iter().zip(&whole.logits);
    let n_same = pairs.filter(|(a, b)| argmax(a) == argmax(b)).count();
    report.figure("logits", distance.relative, "relative L2 from exact f64");
    report.figure("of at most", bound, "");
    report.figure("cosine", distance.cosine, "");
    report.figure("largest difference", distance.largest, "");
    report.figure("same most probable token", n_same, "times");
    if !distance.is_good() {
        report.error("logits", describe_distance("all layers together", &distance));
    }
}

fn argmax(row: &[f64]) -> usize {
    let mut best = 0;
    for (idx, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = idx;
        }
    }
    best
}

/// Whether no matrix is quantized.
fn is_float(weights: &Weights<'_>) -> bool {
    let is_float = |ty: QuantType| ty.activation_form() == ActivationForm::Float;
    let ends = [weights.token_embd.ty(), weights.output.ty()];
    let mut layers = weights.layers.iter();
    ends.into_iter().all(is_float)
        && layers.all(|layer| {
            let dense = layer.dense().map(|matrix| matrix.ty());
            let experts = layer.experts().map(|experts| experts.ty());
            dense.into_iter().chain(experts).all(is_float)
        })
}
