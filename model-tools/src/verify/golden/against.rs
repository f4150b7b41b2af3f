//! Holds a model to what was recorded, and says in what it differs.
//!
//! The model is led along the recorded tokens, whatever it would have chosen, so that one
//! other token does not make all that follow another story.

use std::collections::HashMap;

use quant_kernels::{Cpu, Isa};

use super::{Golden, GoldenStep, Tolerance, answers, facts, tensors};
use crate::{
    ToolError,
    error::quote,
    verify::{
        Depth, Progress, Stage, StageReport, Subject, VerifyOptions, tensors::tensors as tensors_of,
    },
};

/// How far a perplexity of the same logits may be, as a share: the system's `exp` and `log`
/// are not the same everywhere.
const SAME_PERPLEXITY: f64 = 1e-9;

/// Compares a model with a record.
pub(in crate::verify) fn check(
    subject: &Subject<'_>,
    golden: &Golden,
    tolerance: Tolerance,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<StageReport, ToolError> {
    let mut report = StageReport::new(Stage::Golden);
    let how = match tolerance {
        Tolerance::Exact => "to the bit".to_owned(),
        Tolerance::Within { logits, perplexity } => {
            format!("logits within {logits}, perplexity within {perplexity} of itself")
        }
    };
    report.figure("compared", how, "");
    compare_facts(subject, golden, &mut report);
    if options.depth == Depth::Quick {
        report.note("", "a quick look does not read the tensors");
    } else if tolerance == Tolerance::Exact {
        compare_tensors(subject, golden, options, progress, &mut report)?;
    }
    let cpu = Cpu::new(Isa::detect(), options.n_threads)?;
    compare_greedy(subject, &cpu, golden, tolerance, &mut report);
    compare_perplexity(subject, &cpu, golden, tolerance, &mut report);
    Ok(report)
}

fn compare_facts(subject: &Subject<'_>, golden: &Golden, report: &mut StageReport) {
    let found = facts::facts(subject.model.config());
    for (name, found) in &found {
        match golden.model.get(name) {
            Some(recorded) if recorded == found => {}
            Some(recorded) => {
                report.error(name, format!("is {found}, recorded as {}", quote(recorded)));
            }
            None => report.error(name, format!("is {found}, and not recorded")),
        }
    }
    for name in golden
        .model
        .keys()
        .filter(|name| !found.contains_key(*name))
    {
        report.error(quote(name), "is recorded, but unknown to this program");
    }
    let parts = [
        ("tokenizer", facts::tokenizer(subject), &golden.tokenizer),
        (
            "chat template",
            facts::chat_template(subject),
            &golden.chat_template,
        ),
    ];
    for (part, found, recorded) in parts {
        let text = match (&found, recorded) {
            (None, Some(_)) => "is missing or not sound",
            (Some(_), None) => "is there, where none was recorded",
            (Some(found), Some(recorded)) if found != recorded => "is not the recorded one",
            _ => continue,
        };
        report.error(part, text);
    }
}

fn compare_tensors(
    subject: &Subject<'_>,
    golden: &Golden,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
    report: &mut StageReport,
) -> Result<(), ToolError> {
    let of_file = tensors_of(&subject.contents);
    let found = tensors::hash_all(&of_file, options, progress)?;
    let recorded = golden.tensors.iter();
    let mut recorded: HashMap<&str, _> = recorded
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut n_same = 0_usize;
    for (tensor, of_file) in found.iter().zip(&of_file) {
        let difference = match recorded.remove(tensor.name.as_str()) {
            Some(recorded) => tensors::difference(tensor, recorded, of_file.data),
            None => Some("is not recorded".to_owned()),
        };
        match difference {
            Some(text) => report.error(quote(&tensor.name), text),
            None => n_same += 1,
        }
    }
    for tensor in &golden.tensors {
        if recorded.contains_key(tensor.name.as_str()) {
            report.error(quote(&tensor.name), "is recorded, but missing");
        }
    }
    report.figure("tensors", golden.tensors.len(), "");
    report.figure("tensors as recorded", n_same, "");
    Ok(())
}

fn compare_greedy(
    subject: &Subject<'_>,
    cpu: &Cpu,
    golden: &Golden,
    tolerance: Tolerance,
    report: &mut StageReport,
) {
    let greedy = &golden.greedy;
    if let (Some(prompt), Ok(tokenizer)) = (&greedy.prompt, &subject.tokenizer) {
        let found = answers::encode(tokenizer, prompt);
        let pairs = found.iter().zip(&greedy.prompt_ids);
        let n_same = pairs.take_while(|(a, b)| a == b).count();
        if found != greedy.prompt_ids {
            let token = |ids: &[u32]| ids.get(n_same).map_or("none".to_owned(), u32::to_string);
            let (found, recorded) = (token(&found), token(&greedy.prompt_ids));
            let text = format!("token {n_same} is {found}, recorded as {recorded}");
            report.error("prompt", text);
        }
    }
    let mut steps = Steps {
        tolerance,
        report,
        n_same: 0,
        n_wrong: 0,
        largest: 0.0,
    };
    let n_steps = greedy.steps.len();
    let walked = answers::walk(
        cpu,
        &subject.model,
        &greedy.prompt_ids,
        n_steps,
        |idx, row| {
            let recorded = &greedy.steps[idx];
            steps.compare(idx, row, recorded);
            Ok(recorded.token)
        },
    );
    let (n_same, largest) = (steps.n_same, steps.largest);
    if let Err(error) = walked {
        report.error("greedy", error.to_string());
    }
    report.figure("greedy steps", n_steps, "");
    report.figure("tokens as recorded", n_same, "");
    report.figure("largest difference of a logit", largest, "");
}

/// The steps so far.
struct Steps<'r> {
    tolerance: Tolerance,
    report: &'r mut StageReport,
    n_same: usize,
    /// Steps that are wrong; the first is described, the others counted.
    n_wrong: u64,
    largest: f64,
}

impl Steps<'_> {
    fn compare(&mut self, idx: usize, logits: &[f32], recorded: &GoldenStep) {
        let token = sampler::argmax(logits).ok();
        self.n_same += usize::from(token == Some(recorded.token));
        let logit = |id: u32| logits.get(id as usize).copied().map(f64::from);
        let pairs = recorded
            .top
            .iter()
            .map(|&(id, value)| (id, value, logit(id)));
        let distance = |value: f64, found: Option<f64>| {
            found.map_or(f64::INFINITY, |found| (found - value).abs())
        };
        let largest = pairs
            .clone()
            .map(|(_, value, found)| distance(value, found));
        self.largest = largest.fold(self.largest, f64::max);
        let (mut wrong, allowed) = match self.tolerance {
            Tolerance::Exact => (answers::hash(logits) != recorded.logits_xxh3, 0.0),
            Tolerance::Within { logits, .. } => (false, logits),
        };
        let mut texts = Vec::new();
        if token != Some(recorded.token) && !is_near_tie(recorded, token, 2.0 * allowed) {
            let token = token.map_or("none".to_owned(), |token| token.to_string());
            texts.push(format!("chooses {token}, recorded {}", recorded.token));
            wrong = true;
        }
        let mut off = pairs.filter(|&(_, value, found)| {
            let bits = found.map(|found| (found as f32).to_bits());
            match self.tolerance {
                Tolerance::Exact => bits != Some((value as f32).to_bits()),
                Tolerance::Within { .. } => distance(value, found) > allowed,
            }
        });
        if let Some((id, value, found)) = off.next() {
            let found = found.map_or("none".to_owned(), |found| (found as f32).to_string());
            let value = value as f32;
            texts.push(format!("logit of token {id} is {found}, recorded {value}"));
            wrong = true;
        }
        if wrong && texts.is_empty() {
            texts.push("a logit that is not among the recorded ones is another".to_owned());
        }
        if wrong {
            self.n_wrong += 1;
            if self.n_wrong == 1 {
                self.report
                    .error(format!("greedy step {idx}"), texts.join("; "));
            } else {
                self.report
                    .count_unlisted(crate::verify::Severity::Error, 1);
            }
        }
    }
}

/// Whether a token was so near to the best one when it was recorded.
fn is_near_tie(recorded: &GoldenStep, token: Option<u32>, margin: f64) -> bool {
    let best = recorded.top.first().map_or(f64::NAN, |&(_, logit)| logit);
    let mut top = recorded.top.iter();
    top.any(|&(id, logit)| Some(id) == token && best - logit <= margin)
}

fn compare_perplexity(
    subject: &Subject<'_>,
    cpu: &Cpu,
    golden: &Golden,
    tolerance: Tolerance,
    report: &mut StageReport,
) {
    let (Some(recorded), Ok(tokenizer)) = (&golden.perplexity, &subject.tokenizer) else {
        return;
    };
    let ids = answers::encode(tokenizer, &recorded.text);
    let found = answers::perplexity(cpu, &subject.model, tokenizer, &ids, recorded.n_ctx);
    let (value, n_tokens) = match found {
        Ok(found) => found,
        Err(error) => {
            report.error("perplexity", error.to_string());
            return;
        }
    };
    report.figure("perplexity", value, "");
    report.figure("perplexity recorded", recorded.value, "");
    let allowed = match tolerance {
        Tolerance::Exact => SAME_PERPLEXITY,
        Tolerance::Within { perplexity, .. } => perplexity,
    };
    let is_near = (value - recorded.value).abs() <= allowed * recorded.value;
    if !is_near || n_tokens != recorded.n_tokens {
        let text = format!(
            "is {value} over {n_tokens} tokens, recorded {} over {}",
            recorded.value, recorded.n_tokens
        );
        report.error("perplexity", text);
    }
}
