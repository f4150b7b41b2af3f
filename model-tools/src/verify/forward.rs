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

use moe_model::{Model, Reference, ReferenceActivations, ReferenceRows, ReferenceSteps, Weights};
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
    let n_tokens = n_tokens.min(model.config().n_ctx);
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
    if n_layers < all {
        report.note("", "logits are compared if all layers are");
    }
    compare(&cpu, model, &trace, &mut report, progress)?;
    Ok(report)
}

/// Compares a trace with the references, layer by layer.
fn compare(
    cpu: &Cpu,
    model: &Model<'_>,
    trace: &Trace,
    report: &mut StageReport,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let steps = ReferenceSteps::new(model, ReferenceActivations::Quantized, None);
    let mut exact = Reference::new(model, ReferenceActivations::Exact);
    let mut exact_hidden = trace.embedding.clone();
    let n_layers = trace.layers.len();
    let mut worst = Worst::NONE;
    for idx in 0..n_layers {
        progress.tell(idx as u64, n_layers as u64 + 1)?;
        let layer = Layer::of(trace, idx, steps);
        let check = cpu.enter(|team| layer.check(team));
        if let Some((step, token)) = check.first_wrong() {
            // The first wrong layer is explained; others mostly have the same mistake.
            let suspects = (!worst.is_wrong)
                .then(|| cpu.enter(|team| suspects::explain(team, layer, step, token)));
            let text = describe_wrong(&check, step, token, suspects.as_deref());
            report.error(format!("layer {idx}"), text);
        }
        worst.add(&check);
        let experts = trace.layers[idx].experts();
        cpu.enter(|team| exact.forward_layer(team, idx, Some(&experts), &mut exact_hidden));
        let hidden = &trace.layers[idx].hidden;
        let from_exact = Distance::of(hidden, &exact_hidden, |_| f64::INFINITY);
        add_layer(report, idx, &check, &from_exact);
    }
    progress.tell(n_layers as u64, n_layers as u64 + 1)?;
    report.figure("worst step", worst.share, "of its bound");
    report.figure(
        "hidden state",
        worst.hidden.relative,
        "relative L2 per layer",
    );
    report.figure("router choices", worst.n_choices, "");
    report.figure("near-ties", worst.n_near_ties, "");
    if let (Some(logits), Some(last)) = (&trace.logits, trace.layers.last()) {
        let [norm, head] = cpu.enter(|team| check_head(team, steps, &last.hidden, logits));
        for (place, distance) in [("norm before the head", norm), ("head", head)] {
            add_details(report, place, &distance);
            if !distance.is_good() {
                report.error(place, describe_distance(place, &distance));
            }
        }
        let normed = exact
            .steps()
            .norm(&exact_hidden, &model.weights().output_norm);
        let exact_logits = cpu.enter(|team| exact.steps().logits(team, &normed));
        judge_whole(&exact, logits, &exact_logits, report);
    }
    Ok(())
}

/// The worst of the layers so far.
struct Worst {
    share: f64,
    hidden: Distance,
    n_choices: usize,
    n_near_ties: usize,
    is_wrong: bool,
}

impl Worst {
    const NONE: Self = Self {
        share: 0.0,
        hidden: Distance::NONE,
        n_choices: 0,
        n_near_ties: 0,
        is_wrong: false,
    };

    fn add(&mut self, check: &LayerCheck) {
        for (_, distance) in &check.steps {
            self.share = distance::larger(self.share, distance.share);
        }
        self.hidden.join(&check.hidden);
        self.n_choices += check.choices.len();
        let near_ties = check.choices.iter().filter(|&&c| c == Choice::NearTie);
        self.n_near_ties += near_ties.count();
        self.is_wrong |= check.first_wrong().is_some();
    }
}

/// Adds what was measured of a layer.
fn add_layer(report: &mut StageReport, idx: usize, check: &LayerCheck, from_exact: &Distance) {
    for (step, distance) in &check.steps {
        add_details(report, &format!("layer {idx} {}", step.name()), distance);
    }
    add_details(report, &format!("layer {idx} hidden state"), &check.hidden);
    let same = check.choices.iter().filter(|&&c| c == Choice::Same);
    let name = format!("layer {idx} {}", Step::Choice.name());
    report.detail(name, same.count(), "tokens as in f64");
    let name = format!("layer {idx} hidden state, from exact f64");
    report.detail(name, from_exact.relative, "relative L2");
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
    suspects: Option<&[String]>,
) -> String {
    let mut text = match check.of(step) {
        Some(distance) => describe_distance(step.name(), distance),
        None => format!("{} of token {token}", step.name()),
    };
    match suspects {
        None => {}
        Some([]) => text.push_str(": none of the known mistakes"),
        Some(suspects) => {
            text.push_str(": ");
            text.push_str(&suspects.join("; or "));
        }
    }
    text
}

fn describe_distance(what: &str, distance: &Distance) -> String {
    let (found, bound) = distance.worst;
    let token = distance.row;
    format!(
        "{what} of token {token} is {found:.1e} from the reference, at most {bound:.1e} expected"
    )
}

/// Judges the logits by the reference that rounds nothing.
fn judge_whole(
    reference: &Reference<'_, '_>,
    logits: &ReferenceRows,
    exact: &ReferenceRows,
    report: &mut StageReport,
) {
    let of_rounding = if is_float(reference.steps().model().weights()) {
        0.0
    } else {
        reference.quantized_bound()
    };
    let bound = reference.float_bound() + of_rounding;
    let size = |t: usize| distance::norm(&exact[t]);
    let distance = Distance::of(logits, exact, |t| bound * size(t));
    let pairs = logits.iter().zip(exact);
    let n_same = pairs.filter(|(a, b)| argmax(a) == argmax(b)).count();
    report.figure("logits", distance.relative, "relative L2 from exact f64");
    report.figure("bound", bound, "");
    report.figure("cosine", distance.cosine, "");
    report.figure("largest difference", distance.largest, "");
    report.figure("same most probable token", n_same, "times");
    if !distance.is_good() {
        report.error(
            "logits",
            describe_distance("all layers together", &distance),
        );
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
